"""Images found by text and by image, and names for images, classes and clusters: how often they are right.

    python -m eval.finding [--data PATH] [--out PATH]      prints the table, writes eval/results/finding.json

On 1,000 photographs, one a class, and on Tiny ImageNet's 202 classes of 25. Names are given by the published rule, by
ours, and by what lies between them. Half a minute on two cores once the embeddings are stored.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.starter.corpus import Synset, ancestors, imagenet, offset, wordnet
from eval.vocabulary import MORE, PEOPLE
from vlmdesc.concepts import naming
from vlmdesc.concepts.clusters import cluster
from vlmdesc.concepts.naming import unit
from vlmdesc.concepts.nearest import nearest, others
from vlmdesc.concepts.vocabulary import WORDS, shipped_words
from vlmdesc.descriptors.phrase import name_phrase
from vlmdesc.embeddings.data import load_data
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.labelled import Joining, Labelled, class_numbers, gather
from vlmdesc.embeddings.store import Store
from vlmdesc.evaluation.run import environment
from vlmdesc.evaluation.statistics import interval, resampled_means
from vlmdesc.files import json_lines, write_atomic

RESULTS = Path(__file__).parent / "results" / "finding.json"
SETS = {"sample": "imagenet-sample.parquet", "tiny": "tiny-imagenet-val.parquet"}
FORMS = ("a photo of a {c}.", "{c}")
SEED, RESAMPLES, AT, CLUSTERS = 0, 2_000, 10, (202, 50)
DRAWS, DRAWN = 1_000, (16, 64, 256)  # means of so many images drawn at random
STEPS = ("published", "centred", "deviations", "ours")
TOO_GENERAL = 0.1  # a hypernym of a larger share of the classes is no name
NOTE = (
    "The starter's image backbone was trained on ImageNet and its text head on names and hypernyms of its classes: not "
    "zero-shot, so figures compare rules, not models. The word list was made without the class list, but {n} class "
    "names stand in its hand lists. Our rule was chosen on classes whose wnid ends in an even digit; odd are held out."
)
ABOUT: dict[str, Any] = {
    "own": "right is a lemma of the class's WordNet synset, or the project's name of the class",
    "kind": f"right is also a lemma of a hypernym of at most {TOO_GENERAL:.0%} of the 1,000 classes",
    "published": "word of the highest cosine, nothing centred (naming.by_cosine); never abstains",
    "ours": "first word of naming.name, given or not: images and words 'centred', then in 'deviations', then whitened",
    "unique": "the word that naming.name gives with unique=True, where it gives one",
    "texts": {"queries": FORMS, "words": "{c}"},
    "random means": f"of images of Tiny ImageNet, of which nominally {naming.LEVEL:.0%} are given names",
    "intervals": "95 %, bootstrap over classes (clusters' commonest; random means: draws); no width if all rows agree",
    "seed": SEED,
    "resamples": RESAMPLES,
}
Names = list[frozenset[str]]  # by class
Columns = dict[str, np.ndarray]  # measure -> its value in each row, NaN in those that it is no mean of


class Data(NamedTuple):
    photos: dict[str, Labelled]  # labelled with class numbers
    captions: dict[str, np.ndarray]  # embedded class names, by text form
    words: np.ndarray  # embedded
    right: dict[str, np.ndarray]  # "own" and "kind": which words (V,) are right for each class: (C, V)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RESULTS.parents[3] / "shared/data", help="folder of photographs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the figures")
    options = parser.parse_args()
    for file in SETS.values():
        if not (options.data / file).is_file():
            raise SystemExit(f"error: no photographs ({options.data / file}); fix: --data with the folder of them")
    about, data = load(options.data)
    found = [*finding(data), *named(data), *calibration(data)]
    write_atomic(options.out, json_lines(about | {"figures": found, "environment": environment()}).encode())
    print(*(line for row in found for line in table(row)), "", about["note"], sep="\n")


def load(place: Path) -> tuple[dict[str, Any], Data]:
    """What the figures are of, to be written down, and the data."""
    from vlmdesc.embeddings.load import load_encoder  # torch

    classes, words, synsets, photos = imagenet().classes, shipped_words(), wordnet(), {}
    encoder, store = load_encoder("starter", device="cpu", precision="fp32"), Store()
    for name, file in SETS.items():
        set_ = load_data(place / file, label_column="wnid")
        photos[name] = gather(set_, class_numbers(set_, imagenet(), Joining(allow_absent=True))[1], encoder, store)
    own = [frozenset((class_.name, *synsets[offset(class_.id)].lemmas)) for class_ in classes]
    kinds = with_kinds(own, [ancestors(offset(class_.id)) for class_ in classes], synsets)
    right = {"own": right_words(own, words), "kind": right_words(kinds, words)}
    by_hand = {class_.name.casefold() for class_ in classes} & {word.casefold() for word in MORE | PEOPLE}
    about = {"note": NOTE.format(n=len(by_hand)), **ABOUT} | {
        "sets": {SETS[name]: {"n": len(p.labels), "data_hash": p.fingerprint(classes)} for name, p in photos.items()},
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint, "precision": encoder.precision},
        "vocabulary": {"words": len(words), "sha256": hashlib.sha256(WORDS.read_bytes()).hexdigest()},
    }
    captions = {f: text_vectors([name_phrase(f)(c.name, "") for c in classes], encoder, store) for f in FORMS}
    return about, Data(photos, captions, text_vectors(words, encoder, store), right)


def with_kinds(own: Names, above: Sequence[Sequence[int]], synsets: Mapping[int, Synset]) -> Names:
    """The names of each class and of what is above it, but for what is above too large a share of the classes."""
    times = Counter(synset for chain in above for synset in chain)
    telling = {synset for synset, n in times.items() if n <= TOO_GENERAL * len(own)}
    return [of.union(*(synsets[s].lemmas for s in chain if s in telling)) for of, chain in zip(own, above, strict=True)]


def right_words(names: Names, words: Sequence[str]) -> np.ndarray:
    """Which words (V,) are among the names of each class (C,), whatever their case: (C, V)."""
    at = {word.casefold(): v for v, word in enumerate(words)}
    right = np.zeros((len(names), len(words)), bool)
    for c, known in enumerate(names):
        right[c, [at[name.casefold()] for name in known if name.casefold() in at]] = True
    return right


def precision(found: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The share of the images found by each query (Q, K), rows of `labels`, that are of its class (Q,): (Q,)."""
    return (labels[found] == wanted[:, None]).mean(axis=1)


def rates(columns: Columns, classes: np.ndarray) -> dict[str, Any]:
    """Mean, interval and n of each measure that has rows; all see the same resamples of classes, rows and all."""
    at, values = np.unique(classes, return_inverse=True)[1], np.stack([*columns.values()], axis=1).astype(float)
    both = np.zeros((at.max() + 1, 2 * len(columns)))  # by class: sums, and of how many
    np.add.at(both, at, np.hstack([np.nan_to_num(values), ~np.isnan(values)]))
    totals, counts = np.split(both.sum(axis=0), 2)
    sums, ns = np.split(resampled_means(both, np.zeros(len(both), np.intp), RESAMPLES, SEED), 2, axis=1)
    means = np.divide(sums, ns, out=np.full(sums.shape, np.nan), where=ns > 0)
    found = {}
    for name, total, n, drawn in zip(columns, totals, counts, means.T, strict=True):
        if n:
            mean, low, high = np.round([total / n, *interval(drawn)], 4).tolist()
            found[name] = {"mean": mean, "low": low, "high": high, "n": int(n)}
    return {"n": len(classes), "resampled": len(both), "measures": found}


def finding(data: Data) -> Iterator[dict[str, Any]]:
    """Of the 10 images nearest to each class name, and to each image, the share that shows the class."""
    for name, photos in data.photos.items():
        present = np.unique(photos.labels)
        for form, captions in data.captions.items():
            share = precision(nearest(captions[present], photos.vectors, AT)[1], photos.labels, present)
            columns = {f"precision@{AT}": share, f"one among {AT}": share > 0}
            yield {"task": "text to image", "of": f"{name}, '{form}'"} | rates(columns, present)
    sample, tiny = data.photos["sample"], data.photos["tiny"]
    shared = np.isin(sample.labels, tiny.labels)
    within = others(nearest(tiny.vectors, tiny.vectors, AT + 1)[1], np.arange(len(tiny.vectors)))
    across = nearest(sample.vectors[shared], tiny.vectors, AT)[1]
    for of, found, labels in (("tiny", within, tiny.labels), ("sample into tiny", across, sample.labels[shared])):
        share = precision(found, tiny.labels, labels)
        yield {"task": "image to image", "of": of} | rates({f"precision@{AT}": share}, labels)


def tasks(data: Data) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """What is named, the data set whose images make the frame, the directions as they are, and their classes."""
    for name, photos in data.photos.items():
        yield f"{name} images", name, photos.vectors, photos.labels
    tiny = data.photos["tiny"]
    yield "class means", "tiny", *means(tiny, tiny.labels)
    centred = unit(tiny.vectors - tiny.vectors.mean(axis=0))
    for k in CLUSTERS:  # as concepts.clusters makes them
        yield f"{k} clusters", "tiny", *means(tiny, cluster(centred, k, SEED)[0])


def means(photos: Labelled, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each group's vectors (N,), as it is, and the group's commonest class."""
    members = [group == g for g in np.unique(group)]
    commonest = np.array([np.bincount(photos.labels[of]).argmax() for of in members])
    return np.stack([photos.vectors[of].mean(axis=0) for of in members]), commonest


def named(data: Data) -> Iterator[dict[str, Any]]:
    """The rules for names, on all classes and on those that ours was not chosen on."""
    frames = {name: steps(data.words, photos.vectors) for name, photos in data.photos.items()}
    held = np.array([int(class_.id[-2:]) % 2 == 1 for class_ in imagenet().classes])
    for task, images, directions, classes in tasks(data):
        words = {"published": naming.by_cosine(directions, data.words)}
        for step, frame in frames[images].items():
            words[step] = nearest(frame.place(directions), frame.words, 1)[1][:, 0]
        names = naming.name(directions, frame, seed=SEED)
        if not task.endswith("images"):
            words["unique"] = naming.name(directions, frame, unique=True, seed=SEED).chosen
        columns = compared({kind: right[classes] for kind, right in data.right.items()}, words, names)
        for of, rows in {"all": np.ones(len(classes), bool), "held-out": held[classes]}.items():
            distinct = {rule: len({*word[rows].tolist()} - {-1}) for rule, word in words.items()}
            found = rates({name: column[rows] for name, column in columns.items()}, classes[rows])
            yield {"task": f"names of {task}", "of": of, "distinct": distinct} | found


def steps(words: np.ndarray, images: np.ndarray) -> dict[str, naming.Frame]:
    """The frame as shipped, and with less done."""
    full, eye = naming.frame(words, images), np.eye(words.shape[1])
    root = np.linalg.inv(full.whiten.T)  # of the images' spread and as much again, even in all directions
    spread, centred = root @ root.T - eye / len(eye), unit(words - words.mean(axis=0))
    deviation = np.sqrt(np.einsum("vd,vd->v", centred @ spread, centred))[:, None].astype(np.float32)
    less = {"centred": centred, "deviations": centred / deviation}
    return {step: naming.Frame(full.mean, full.scale, eye, spread, placed) for step, placed in less.items()} | {
        "ours": full
    }


def compared(right: dict[str, np.ndarray], words: dict[str, np.ndarray], names: naming.Names) -> Columns:
    """What the words (P,) of each rule are right by (P, V), what each step gains, and our names, given and not."""
    cases = {"named": names.chosen >= 0, "not named": names.chosen < 0}
    columns: Columns = {"class has a word": right["own"].max(axis=1), "named": cases["named"]}
    columns |= {f"named, {rule}": np.greater_equal(word, 0) for rule, word in words.items() if rule not in STEPS}
    for kind, fits in right.items():
        of = {rule: np.where(word >= 0, fits[np.arange(len(word)), word], np.nan) for rule, word in words.items()}
        columns |= {f"{kind}, {rule}": value for rule, value in of.items()}
        for a, b in [("published", "ours"), *pairwise(STEPS)]:
            columns[f"{kind}, {b} - {a}"] = of[b] - of[a]
        columns |= {f"{kind}, ours, {case}": np.where(rows, of["ours"], np.nan) for case, rows in cases.items()}
        for case, value in {"right": 1, "wrong": 0}.items():
            columns[f"stability, {kind} {case}"] = np.where(of["ours"] == value, names.stability, np.nan)
    return columns


def calibration(data: Data) -> Iterator[dict[str, Any]]:
    """How often means of images of Tiny ImageNet drawn at random are given names; nominally `naming.LEVEL`."""
    vectors, rng = data.photos["tiny"].vectors, np.random.default_rng(SEED)
    for n in DRAWN:
        mixed = np.stack([vectors[rng.choice(len(vectors), n, replace=False)].mean(axis=0) for _ in range(DRAWS)])
        chosen = naming.name(mixed, naming.frame(data.words, vectors), seed=SEED).chosen
        yield {"task": "names of random means", "of": f"{n} images"} | rates({"named": chosen >= 0}, np.arange(DRAWS))


def table(row: dict[str, Any]) -> Iterator[str]:
    yield f"{row['task']}, {row['of']}: n {row['n']:,}, {row['resampled']} resampled {row.get('distinct', '')}"
    cells = [f"{name:26s}{v['mean']:7.3f} [{v['low']:6.3f}, {v['high']:6.3f}]" for name, v in row["measures"].items()]
    yield from ("    " + "     ".join(cells[at : at + 2]) for at in range(0, len(cells), 2))


if __name__ == "__main__":
    main()
