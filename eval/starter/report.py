"""Every figure of the starter model's card, with n and 95 % intervals. About fifteen minutes on two cores.

    python -m eval.starter.report                       prints the table, writes eval/results/starter.json
    python -m eval.starter.report --without tiny        the 1000-photo sample only, about four minutes

Photographs and the published descriptor set are read from ../shared/data. The image backbone was trained on ImageNet-1k
and has seen all 1000 classes, and many of these very photographs: no figure here is zero-shot in the strict sense.
What is held out is the words: a head that never met a text about 200 of the classes.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.stats import binomtest

from eval.starter.corpus import imagenet
from eval.starter.train import HELD_OUT_HEAD, split
from vlmdesc.classification.classifier import Classifier
from vlmdesc.descriptors.phrase import get_phrase
from vlmdesc.embeddings import starter
from vlmdesc.embeddings.encoder import OpenClipEncoder
from vlmdesc.embeddings.labelled import only
from vlmdesc.embeddings.pipeline import Encoded, encode_images
from vlmdesc.files import write_atomic
from vlmdesc.records import Descriptor, Descriptors

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "eval" / "results" / "starter.json"
FORMS = ("name", "name:a photo of a {c}.", "plain", "dclip", "free")


@dataclass(frozen=True)
class Labelled:
    """Embeddings (N, D) and the id of each photo's class."""

    vectors: np.ndarray
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A top-1 accuracy, its Wilson 95 % interval, and the exact texts behind it."""

    photos: str
    head: str
    classes: int
    descriptors: str
    phrase: str
    example: str
    n: int
    top1: float
    low: float
    high: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", choices=["tiny"], help="leave out the 202-way Tiny ImageNet task")
    without = parser.parse_args().without
    if not DATA.is_dir():
        raise SystemExit(f"error: no photographs ({DATA}); fix: put the shared data folder beside the checkout")
    figures = []
    for figure in measure(with_tiny=without != "tiny"):
        figures.append(figure)
        print(line(figure), flush=True)
    if not without:
        about = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "command": "python -m eval.starter.report",
        }
        RESULTS.parent.mkdir(exist_ok=True)
        write_atomic(
            RESULTS, (json.dumps({"about": about, "figures": [asdict(f) for f in figures]}, indent=1) + "\n").encode()
        )


def measure(with_tiny: bool) -> Iterator[Figure]:
    """The three tasks of the card, figure by figure."""
    held_out = {imagenet().classes[c].id for c in split("held_out")}
    words_unseen = encoder("starter, 800 classes", HELD_OUT_HEAD)
    photos = embed(words_unseen, DATA / "imagenet-sample.parquet")
    yield from accuracies(words_unseen, photos, held_out, "200 held-out classes, one photo each")
    shipped = encoder("starter", starter.HEAD)
    photos = embed(shipped, DATA / "imagenet-sample.parquet")
    yield from accuracies(shipped, photos, set(photos.ids), "all 1000 classes, one photo each")
    if with_tiny:
        photos = embed(shipped, DATA / "tiny-imagenet-val.parquet")
        yield from accuracies(shipped, photos, set(photos.ids), "Tiny ImageNet val, 64 x 64 pixels, 25 photos a class")


def encoder(name: str, head: Path) -> OpenClipEncoder:
    return OpenClipEncoder(name, starter.build(head), "cpu", "fp32")


def embed(model: OpenClipEncoder, table: Path) -> Labelled:
    """The photographs of a table, through the way every image takes."""
    rows = pq.read_table(table, columns=["image", "wnid"])
    encoded = encode_images(model, (image["bytes"] for image in rows["image"].to_pylist()))
    vectors = [item.vector for item in encoded if isinstance(item, Encoded)]
    if len(vectors) != len(rows):
        raise SystemExit(f"error: {len(rows) - len(vectors)} photos could not be read ({table})")
    return Labelled(np.stack(vectors), tuple(rows["wnid"].to_pylist()))


def accuracies(model: OpenClipEncoder, photos: Labelled, ids: set[str], task: str) -> Iterator[Figure]:
    """Top-1 among the classes `ids`, by name and by both descriptor sets in each phrase."""
    for source, descriptors in (("ours", imagenet()), ("published", published())):
        subset = only(descriptors, [class_.id for class_ in descriptors.classes if class_.id in ids])
        for phrase in FORMS:
            if source == "published" and phrase.startswith("name"):
                continue
            found = predicted(model, subset, phrase, photos, ids)
            right = sum(found)
            interval = binomtest(right, len(found)).proportion_ci(method="wilson")
            example = get_phrase(phrase).say(subset.classes[0].name, subset.rows[1].text)
            of = "-" if phrase.startswith("name") else source
            yield Figure(
                task,
                model.name,
                len(ids),
                of,
                phrase,
                example,
                len(found),
                right / len(found),
                interval.low,
                interval.high,
            )


def predicted(
    model: OpenClipEncoder, subset: Descriptors, phrase: str, photos: Labelled, ids: set[str]
) -> Sequence[bool]:
    """Whether each photo of the classes `ids` is put into its own class."""
    rows = [i for i, id_ in enumerate(photos.ids) if id_ in ids]
    best = Classifier(model, subset, phrase=phrase, store=False).scores(photos.vectors[rows]).argmax(axis=1)
    return [subset.classes[c].id == photos.ids[i] for c, i in zip(best, rows, strict=True)]


def published() -> Descriptors:
    """The GPT-3 descriptors of Menon & Vondrick; their file is keyed by class name, which we join to ids."""
    found = Descriptors.load(DATA / "published-descriptors" / "descriptors_imagenet.json")
    ids = {class_.name: class_.id for class_ in imagenet().classes}
    return Descriptors(imagenet().classes, tuple(Descriptor(ids[r.class_id], r.text) for r in found.rows))


def line(figure: Figure) -> str:
    """One figure as a line of the table."""
    value = f"{figure.top1:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
    words = f"{figure.descriptors:9s} {figure.phrase:23s}"
    return f"{figure.photos} | {figure.classes}-way n={figure.n} | {words} | {value} | {figure.example!r}"


if __name__ == "__main__":
    main()
