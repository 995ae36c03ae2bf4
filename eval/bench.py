"""Speed, as ratios to a baseline run in the same process: `make bench`.

    python -m eval.bench [--quick]

Nothing here passes or fails: it prints what was measured beside what is aimed at.
"""

from __future__ import annotations

import argparse
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

from vlmdesc.classify.score import Columns, mean
from vlmdesc.cli.demo import PHOTOS, path_of


@dataclass(frozen=True)
class Row:
    what: str
    measured: str
    aim: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, about a minute")
    quick = parser.parse_args().quick
    for section in (start_up(), scoring(2_000 if quick else 10_000), folder(32 if quick else 128)):
        for row in section:
            print(f"{row.what:74s} {row.measured:>16s}   aim: {row.aim}", flush=True)


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
    classifier = Classifier(encoder, Descriptors.load(shipped("descriptors/everyday.json")))
    with tempfile.TemporaryDirectory() as place:
        paths = jpegs(Path(place), n)
        pixels = np.stack([encoder.prepare(Image.open(path).convert("RGB")) for path in paths[:32]])

        def forward() -> None:
            for _ in range(n // 32):
                encoder.forward(pixels)

        alone, whole = medians([forward, lambda: list(classifier.stream(paths))], 3)
    yield Row(f"classify {n} JPEGs: images/s", f"{n / whole:.1f}", "-")
    yield Row("classify: images/s / forward-only images/s", f"{alone / whole:.2f}", "at least 0.85")


def jpegs(place: Path, n: int) -> list[Path]:
    """Real photographs as 500-pixel JPEGs."""
    paths = []
    for i in range(n):
        image = Image.open(path_of(PHOTOS[i % len(PHOTOS)])).convert("RGB").resize((500, 375))
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
