"""Speed, as ratios to a baseline run in the same process: `make bench`.

    python -m eval.bench [--quick]

Nothing here passes or fails: it prints what was measured beside what is aimed at.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import mean
from vlmdesc.cli.demo import PHOTOS, path_of
from vlmdesc.embeddings.collection import FULL_ROWS, Collection
from vlmdesc.embeddings.embed import embed
from vlmdesc.embeddings.store import Store
from vlmdesc.embeddings.vectors import StoredVectors
from vlmdesc.testing import FakeEncoder


@dataclass(frozen=True)
class Row:
    what: str
    measured: str
    aim: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, about a minute")
    quick = parser.parse_args().quick
    sections = (
        start_up(),
        scoring(2_000 if quick else 10_000),
        folder(32 if quick else 128),
        reading(50_000),
        opening(100_000 if quick else 1_000_000),
        embedding(64 if quick else 1_000),
        batch(200 if quick else 1_000),
        evaluating(10_000 if quick else 50_000),
        asking(200 if quick else 1_000),
        selecting(5_000 if quick else 50_000),
        searching(150_000 if quick else 1_000_000),
        editing(10_000 if quick else 50_000),
    )
    for section in sections:
        for row in section:
            print(f"{row.what:74s} {row.measured:>16s}   aim: {row.aim}", flush=True)


def asking(n: int) -> Iterator[Row]:
    """Asking about classes at an endpoint that answers in 50 ms, against the least that 32 questions at once take."""
    from eval.asking import ANSWER_S, measured

    runs = [measured(n, 32) for _ in range(3)]
    first, again = (statistics.median(times) for times in zip(*runs, strict=True))
    ideal = n * ANSWER_S / 32
    yield Row(
        f"describe {n:,} classes, 32 at once, answers in 50 ms: time / ideal", f"{first / ideal:.2f}", "at most 1.5"
    )
    yield Row(f"describe {n:,} classes again, all from the cache", f"{again:.2f} s", "under 1 s for 1,000")


def batch(n: int) -> Iterator[Row]:
    """Whole `vlmdesc classify` commands on stored images, with a selection and without, taking turns."""
    from eval.batch import measured

    ratio = measured(n, "fake")["ratio"]
    for way in ("head", "reference"):
        what = f"classify {n:,} stored images with a selection (--{way}) / without"
        yield Row(what, f"{ratio[way]:.2f}", "at most 1.3")


def start_up() -> Iterator[Row]:
    """CPU seconds of the two starts a person waits for, median of five."""
    for code, aim in (("import vlmdesc", 0.15), ("from vlmdesc.cli.app import app; app(['--help'])", 0.6)):
        seconds = statistics.median(
            child_cpu([sys.executable, "-c", code]) - child_cpu([sys.executable, "-c", ""]) for _ in range(5)
        )
        yield Row(f"CPU of: {code}", f"{seconds:.3f} s", f"under {aim} s")


def child_cpu(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def scoring(n: int) -> Iterator[Row]:
    """Mean pooling against the bare product, and against the loop over classes that published code runs."""
    classes, texts, dim = 1_000, 5_993, 512
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n, dim), dtype=np.float32)
    owner = np.sort(np.concatenate([np.arange(classes), rng.integers(0, classes, texts - classes)]))
    vectors_of_texts = rng.standard_normal((texts, dim), dtype=np.float32)
    vectors = rng.standard_normal((classes, dim), dtype=np.float32)
    parts = [vectors_of_texts[owner == c] for c in range(classes)]

    def loop() -> np.ndarray:
        return np.stack([(images @ part.T).mean(axis=1) for part in parts], axis=1)

    def pooled() -> np.ndarray:  # new columns each time, so that folding the texts into class vectors is counted
        return mean(images, Columns(vectors_of_texts, owner, np.ones(texts, np.float32), classes))

    ours, bare, by_class = medians([pooled, lambda: images @ vectors.T, loop], 7)
    size = f"{n:,} images x {classes:,} classes x {texts:,} descriptors x {dim}"
    yield Row(f"scoring {size}: time / bare product", f"{ours / bare:.2f}", "at most 1.3")
    yield Row(f"scoring {size}: loop over classes / time", f"{by_class / ours:.1f}", "at least 12")


def folder(n: int) -> Iterator[Row]:
    """Classifying a folder of JPEGs end to end against the model's forward pass alone."""
    from vlmdesc import Classifier, Descriptors, load_encoder, shipped

    encoder = load_encoder("starter", device="cpu", precision="fp32")
    classifier = Classifier(encoder, Descriptors.load(shipped("descriptors/everyday.json")), store=False)
    with tempfile.TemporaryDirectory() as place:
        paths = jpegs(Path(place), n)
        pixels = np.stack([encoder.prepare(Image.open(path).convert("RGB")).pixels for path in paths[:32]])

        def forward() -> None:
            for _ in range(n // 32):
                encoder.forward(pixels)

        alone, whole = medians([forward, lambda: list(classifier.stream(paths))], 3)
    yield Row(f"classify {n} JPEGs: images/s", f"{n / whole:.1f}", "-")
    yield Row("classify: images/s / forward-only images/s", f"{alone / whole:.2f}", "at least 0.85")


def reading(n: int) -> Iterator[Row]:
    """Stored vectors read with all checks, in the order of a data set, against a bare read of a mapped array."""
    with tempfile.TemporaryDirectory() as place:
        keys, vectors = stored(Path(place), n)
        np.save(Path(place) / "bare.npy", vectors)
        kept = StoredVectors(Store(Path(place)).images(FakeEncoder()), keys)

        def checked() -> np.ndarray:
            return np.asarray(kept)

        def bare() -> np.ndarray:
            return np.array(np.load(Path(place) / "bare.npy", mmap_mode="r"))

        assert np.array_equal(checked(), vectors)
        ours, mapped = medians([checked, bare], 7)
    yield Row(f"read {n:,} stored vectors x 512: time / bare mapped read", f"{ours / mapped:.2f}", "at most 3")


def opening(n: int) -> Iterator[Row]:
    """A large store: opening it, what that takes of memory, and appending a batch to it."""
    with tempfile.TemporaryDirectory() as place:
        keys, vectors = stored(Path(place), n)
        code = (
            "import sys, time, resource, pathlib\n"
            "from vlmdesc.embeddings.store import Store; from vlmdesc.testing import FakeEncoder\n"
            "before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()\n"
            "collection = Store(pathlib.Path(sys.argv[1])).images(FakeEncoder())\n"
            "assert collection.get([bytes.fromhex(sys.argv[2])]).good.all()\n"
            "print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
        )
        command = [sys.executable, "-c", code, place, keys[0].hex()]
        seconds, kib = map(float, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
        large, small = Store(Path(place)).images(FakeEncoder()), Store(Path(place) / "small").images(FakeEncoder())

        def append_to(collection: Collection) -> Callable[[], None]:
            fresh = (os.urandom(32) for _ in iter(int, 1))
            return lambda: collection.put([next(fresh) for _ in range(32)], vectors[:32])

        to_large, to_small = medians([append_to(large), append_to(small)], 30)
    yield Row(f"open a store of {n:,} x 512 and find one", f"{seconds:.2f} s", "under 2 s")
    yield Row("    memory for that", f"{kib / 1024:.0f} MiB", f"its keys are {n * 32 / 2**20:.0f} MiB")
    yield Row("    append 32: time / the same to an empty store", f"{to_large / to_small:.2f}", "near 1")


def stored(place: Path, n: int) -> tuple[list[bytes], np.ndarray]:
    """Keys and vectors put in a store, a full segment at a time."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, 512), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = [rng.bytes(32) for _ in range(n)]
    collection = Store(place).images(FakeEncoder())
    for start in range(0, n, FULL_ROWS):
        collection.put(keys[start : start + FULL_ROWS], vectors[start : start + FULL_ROWS])
    return keys, vectors


def embedding(n: int) -> Iterator[Row]:
    """Embedding JPEGs with a randomly initialised ViT-B-32, against the loop that published tools run."""
    from vlmdesc import load_encoder

    with tempfile.TemporaryDirectory() as place:
        model = f"local-dir:{untrained(Path(place) / 'model')}"
        plain, encoder = (load_encoder(model, device="cpu", precision=precision) for precision in ("fp32", "bf16"))
        paths, store = jpegs(Path(place), n), Store(Path(place) / "cache")
        pixels = np.stack([encoder.prepare(Image.open(path).convert("RGB")).pixels for path in paths[:32]])
        encoder.forward(pixels), plain.forward(pixels)
        began = time.perf_counter()
        embed(paths, encoder, store)
        first = time.perf_counter() - began
        [warm] = medians([lambda: embed(paths, encoder, store)], 3)
        some = paths[: min(n, 256)]

        def loop() -> None:
            for start in range(0, len(some), 64):
                images = [Image.open(path).convert("RGB") for path in some[start : start + 64]]
                plain.images(images)

        slow, alone = medians([loop, lambda: [encoder.forward(pixels) for _ in range(4)]], 3)
    rate, loop_rate, forward_rate = n / first, len(some) / slow, 128 / alone
    yield Row(f"embed {n:,} JPEGs, ViT-B-32 in {encoder.precision}: images/s", f"{rate:.1f}", "-")
    yield Row("embed: images/s / plain loop (eager fp32, batch 64, Pillow)", f"{rate / loop_rate:.2f}", "at least 3")
    yield Row("embed: images/s / forward-only images/s", f"{rate / forward_rate:.2f}", "at least 0.85")
    yield Row(f"embed the same {n:,} again: first / second", f"{first / warm:.0f}", "at least 50")


def evaluating(n: int) -> Iterator[Row]:
    """All methods, controls and intervals of `vlmdesc eval` on stored embeddings, against one product."""
    command = [sys.executable, "-m", "eval.evaluating", str(n)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    size = f"{n:,} images x 1,000 classes x 5,800 descriptors"
    yield Row(
        f"evaluate {size}: {found['runs']} runs, 2,000 resamples: time / product",
        f"{found['all'] / found['product']:.0f}",
        "at most 60",
    )
    yield Row(
        "    credit of every descriptor: time / product", f"{found['credit'] / found['product']:.1f}", "at most 5"
    )
    yield Row("    memory of the process at its peak", f"{found['peak_gib']:.1f} GiB", "under 3 GB")


def selecting(n: int) -> Iterator[Row]:
    """Selection in the label neighbourhood, against the published rule one image at a time."""
    half, found = (
        json.loads(
            subprocess.run([sys.executable, "-m", "eval.selecting", str(size)], capture_output=True, check=True).stdout
        )
        for size in (n // 2, n)
    )
    each = found["seconds_per_image"]
    ours = each["candidates"] + each["select"] + each["score"]
    size = f"{n:,} images x 1,000 classes x 4,229 descriptors"
    yield Row(f"select {size}: for 10,000", f"{10_000 * ours:.2f} s", "at most 1.5 s")
    parts = ", ".join(f"{10_000 * each[part]:.2f}" for part in ("candidates", "select", "score"))
    yield Row("    candidates, selection, scores", f"{parts} s", "-")
    yield Row("    different sets of candidates", f"{found['neighborhoods']:,}", "-")
    loops = {
        "published rule, image by image, in torch / time": ("torch", "at least 60"),
        "    in torch and half precision": ("torch_half", "-"),
        "    in numpy": ("numpy", "-"),
        "    in numpy, its products for all images at once": ("numpy_products_at_once", "-"),
    }
    for what, (loop, aim) in loops.items():
        yield Row(f"    {what}", f"{each[loop] / ours:.1f}", aim)
    yield Row("    profile of 20,000 reference images", f"{found['profile']:.2f} s", "-")
    peaks = " and ".join(f"{run['peak_mib']:.0f}" for run in (half, found))
    yield Row(f"    memory above the inputs at {n // 2:,} and {n:,}", f"{peaks} MiB", "under 500 MB")


def searching(n: int) -> Iterator[Row]:
    """An index of many images against exact search, and naming against one product."""
    command = [sys.executable, "-m", "eval.searching", str(n)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    seconds, recall = found["seconds"], min(found["recall"].values(), default=1.0)
    size = f"{n:,} x 512, {found['factory']}, recall@10 {recall:.3f}"
    for how, what in (("one", "one query at a time"), ("many", "256 at once")):
        ratio = seconds[how]["exact"] / seconds[how]["lists"]
        yield Row(f"search {size}: {what}: exact / time", f"{ratio:.0f}", "at least 20")
    yield Row(
        "    a query by lists, and exactly",
        f"{seconds['one']['lists'] * 1e3:.2f}, {seconds['one']['exact'] * 1e3:.0f} ms",
        "-",
    )
    yield Row("    build, with the tuning; open", f"{seconds['build']:.0f} s, {seconds['open']:.2f} s", "-")
    yield Row("    memory of the process while it is built", f"{found['peak_gib']:.1f} GiB", "under 4 GB")
    naming = seconds["naming"]
    yield Row(
        "name 8,192 directions by 20,000 words: time / product",
        f"{naming['names'] / naming['product']:.2f}",
        "at most 2",
    )


def editing(n: int) -> Iterator[Row]:
    """What an edit does to many images, against scoring them twice."""
    command = [sys.executable, "-m", "eval.editing", str(n)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    yield Row(f"an edit's effect on {n:,} x 512, 1,000 classes", f"{found['ours']:.2f} s", "under 1 s for 50,000")
    yield Row("    everything scored twice / time", f"{found['twice'] / found['ours']:.1f}", "-")
    yield Row("    the scores before, once for all edits", f"{found['first']:.2f} s", "-")
    yield Row("64 edits of one class: one by one / time", f"{found['one_by_one'] / found['at_once']:.1f}", "-")


def untrained(folder: Path) -> Path:
    """A folder with a randomly initialised ViT-B-32, as open_clip saves models."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir()
    model = open_clip.create_model("ViT-B-32")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": model.visual.preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def jpegs(place: Path, n: int) -> list[Path]:
    """Real photographs as 500-pixel JPEGs, each cropped in its own way: equal content would be encoded once."""
    paths = []
    for i in range(n):
        image = Image.open(path_of(PHOTOS[i % len(PHOTOS)])).convert("RGB")
        shift = i // len(PHOTOS)
        image = image.crop((shift % 16, shift // 16, image.width, image.height)).resize((500, 375))
        paths.append(place / f"{i}.jpg")
        image.save(paths[-1], quality=90)
    return paths


def medians(jobs: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each job; they take turns, so that a slow minute of the machine hits all of them."""
    seconds: list[list[float]] = [[] for _ in jobs]
    for job in jobs:
        job()
    for _ in range(rounds):
        for times, job in zip(seconds, jobs, strict=True):
            began = time.perf_counter()
            job()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in seconds]


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
