"""Methods that pictures teach: selection in the label neighbourhood, its controls, and prototypes of few pictures.

They learn from the labelled reference, or, without labels, from the pictures that are classified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification import fewshot
from vlmdesc.classification.reference import Neighborhood, fit, unselected
from vlmdesc.classification.score import Scorer
from vlmdesc.classification.texts import Texts, pool_of
from vlmdesc.classification.unlabelled import fit_unlabelled
from vlmdesc.descriptors.controls import random, waffle_texts
from vlmdesc.errors import counted, few
from vlmdesc.records import ClassName, Descriptors

Record = dict[str, Any]
Encode = Callable[[Sequence[str]], Float32[np.ndarray, "m d"]]
Reasons = Callable[..., tuple[Int[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]]  # of images, classes, k=
DRAWN = ("neighborhood-waffle", "neighborhood-random")  # of which every seed gives another


@dataclass(frozen=True)
class Lesson:
    """What may teach: labelled reference embeddings (R, D) and class numbers (R,), and the pictures (N, D) themselves.

    `truth` (N,) is for figures about what was learned, and teaches nothing.
    """

    reference: Float32[np.ndarray, "r d"] | None
    labels: Int[np.ndarray, " r"] | None
    images: Float32[np.ndarray, "n d"]
    truth: Int[np.ndarray, " n"]

    def drawn(self, per_class: int | None, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Reference pictures and labels, of each class at most so many, drawn at random."""
        assert self.reference is not None and self.labels is not None  # noqa: S101 - such methods are left out
        if per_class is None:
            return self.reference, self.labels
        order = np.random.default_rng(seed).permutation(len(self.labels))
        order = order[np.argsort(self.labels[order], kind="stable")]
        ordered = self.labels[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        kept = np.sort(order[rank < per_class])
        return self.reference[kept], self.labels[kept]


@dataclass(frozen=True)
class Pupil:
    """A method before it is taught: its base, reference pictures a class (None: all), captions and descriptors.

    `captions` (C, D) stand for `names`, one text a class.
    """

    base: str
    per_class: int | None
    captions: Float32[np.ndarray, "c d"]
    names: Sequence[str]
    descriptors: Descriptors


@dataclass(frozen=True)
class Taught:
    """Images to class scores, a record of what was learned from how many pictures, and reasons in numbers of `said`."""

    score: Scorer
    record: Record
    reasons: Reasons | None = None
    said: Sequence[str] = ()


def teach(pupil: Pupil, seed: int | None, lesson: Lesson, encode: Encode) -> Taught:
    """A method that has learned what the lesson teaches."""
    if pupil.base == "few-shot":
        return _few_shot(pupil, seed, lesson)
    texts = _texts(pupil, seed, encode)
    if pupil.base == "neighborhood-free":
        found = fit_unlabelled(texts, lesson.images)
    else:
        learner = fit if pupil.base in ("neighborhood", "neighborhood-waffle") else unselected
        found = learner(texts, *lesson.drawn(pupil.per_class, seed))
    selection = found.select(lesson.images)
    record = about(found, pupil.descriptors.classes)
    record["ceiling"] = round(float((selection.candidates == lesson.truth[:, None]).any(axis=1).mean()), 6)
    if found.profile is not None:
        record["fallback"] = round(float(selection.fallback.mean()), 6)
    return Taught(found.scores, record, found.reasons, texts.said)


def _few_shot(pupil: Pupil, seed: int | None, lesson: Lesson) -> Taught:
    photos, labels = lesson.drawn(pupil.per_class, seed)
    captions = pupil.captions
    shots = fewshot.fit(photos, labels, photos @ captions.T)
    bare = np.flatnonzero(np.isnan(shots.prototypes[:, 0]))
    record = {
        "weight": round(shots.weight, 6),
        "texts": 0,
        "pictures": len(labels),
        "labels": "reference",
        "classes_without": [pupil.descriptors.classes[c].name for c in bare],
    }
    return Taught(lambda images: images @ captions.T + shots.bonus(images), record)


def _texts(pupil: Pupil, seed: int | None, encode: Encode) -> Texts:
    """Captions, and the texts that may be picked."""
    descriptors = pupil.descriptors
    if pupil.base == "neighborhood-random":
        descriptors = random(descriptors, seed or 0)
    said, own = pool_of(descriptors)
    if pupil.base == "neighborhood-waffle":
        said = [*dict.fromkeys(waffle_texts(descriptors, 2 * len(said), seed or 0))][: len(said)]
        own = np.full_like(own, -1)  # random words are no class's own
    return Texts(pupil.captions, encode(said), own, pupil.names, said)


def about(found: Neighborhood, classes: Sequence[ClassName]) -> Record:
    """What a neighbourhood chose, on what, and how far it could go there; the ceiling of all that it can get right."""
    choice = found.choice
    record: Record = {
        "k": choice.k,
        "m": choice.m,
        "name_weight": round(choice.name_weight, 6),
        "texts": len(found.texts.said),
        "pictures": found.taught_by,
        "labels": "reference" if found.labelled else "none",
        "ceiling": _rounded(choice.ceiling),
        "fallback": _rounded(choice.fallback) if found.profile is not None else None,
    }
    if not found.labelled:
        return record | {"rounds": found.rounds, "settled": found.settled}
    without = [classes[c].name for c in found.bare] if found.profile is not None else []
    return record | {
        "left_out": _rounded(choice.accuracy),
        "left_out_by_name": _rounded(choice.by_name),
        "classes_without": without,
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def sentence(record: Mapping[str, Any]) -> str:
    """What a method learned, from its record in results.json."""
    pictures = counted(record["pictures"], "picture")
    without = record.get("classes_without") or []
    bare = f"; {counted(len(without), 'class')} without any: {few(without)}" if without else ""
    if "k" not in record:
        return f"prototypes of {pictures} of the reference, weight {record['weight']:.2g}{bare}"
    size = f"{counted(record['k'], 'candidate')}, {counted(record['m'], 'descriptor')} each at most"
    size += f", name weight {round(record['name_weight'], 2):g}"
    if record["labels"] == "none":
        rest = "settled" if record["settled"] else "not settled"
        how = f"no labels: {pictures} under pseudo-labels, {rest} after {counted(record['rounds'], 'round')}"
    elif record["left_out"] is None:
        how = f"{pictures} of the reference, too few to choose by: k and m as published"
    else:
        right = f"{_percent(record['left_out'])} right when left out, {_percent(record['left_out_by_name'])} by name"
        how = f"the best of many choices on {pictures} of the reference ({right})"
    limits = {"ceiling": record["ceiling"], "fallback": record["fallback"]}
    told = ", ".join(f"{name} {_percent(share)}" for name, share in limits.items() if share is not None)
    return f"{size}; {how}{'; ' + told if told else ''}{bare}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
