"""Edits of one class that might help, and what each does to the answers, all at once.

Under mean pooling an edit of a class's descriptors moves one class vector. So the answers under K edits of a class are
one (N, D) x (D, K) product held against each image's best other class: exact, and thousands of edits take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vlmdesc.classification.columns import TINY, Encode
from vlmdesc.classification.heads.pooled import Pooled
from vlmdesc.classification.score import get_fold
from vlmdesc.descriptors.edit import edit
from vlmdesc.descriptors.phrase import get_phrase, texts
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.scored import Scored
from vlmdesc.records import Descriptor, Descriptors, Edit
from vlmdesc.records.names import WEIGHTS

SHRINK = (0.25, 0.5, 1.0, 2.0)  # how strongly weights follow what they are worth
LEAST, MOST = 0.25, 4.0  # times its weight now, that a reweighing gives a descriptor
SLIGHT = 0.1  # changes of a weight's logarithm that are not worth an edit
SHOWN = 24  # descriptors of the pool that are tried on a class


@dataclass(frozen=True)
class Candidate:
    """Edits of one class, and the class's vector (D,) with them. `kind` says where they come from."""

    kind: str
    class_: int
    edits: tuple[Edit, ...]
    vector: Float32[np.ndarray, " d"]


@dataclass(frozen=True)
class Aim:
    """Scored images that edits are chosen or measured on, and which of them are aimed at (N,)."""

    seen: Scored
    target: Bool[np.ndarray, " n"]

    @cached_property
    def lost(self) -> Bool[np.ndarray, " n"]:
        """Those aimed at that go wrong: (N,)."""
        return self.target & self.seen.wrong


@dataclass(frozen=True)
class Draft:
    """A set to be edited: its head, and what encodes more texts.

    Raises: InputError for a pooling under which a class does not come down to one vector.
    """

    descriptors: Descriptors
    head: Pooled
    encode: Encode

    def __post_init__(self) -> None:
        get_fold(self.head.card.kind, "suggestions")

    def edit(self, edits: Sequence[Edit]) -> Pooled:
        """The head with some edits. Raises: InputError for one that does not fit."""
        return self.head.revise(edit(self.descriptors, edits), self.encode)

    def rows_of(self, class_: int) -> list[int]:
        """Rows of a class that count; none where it is scored by its bare name."""
        return [m for m in self.head.rows_of(class_) if m < len(self.descriptors.rows)]

    def is_first(self, row: int) -> bool:
        """Whether class and text name this row and no other: an edit finds the first."""
        row_ = self.descriptors.rows[row]
        return sum((other.class_id, other.text) == (row_.class_id, row_.text) for other in self.descriptors.rows) == 1

    def candidate(
        self,
        kind: str,
        class_: int,
        edits: tuple[Edit, ...],
        weights: Float[np.ndarray, " r"],
        vectors: Float[np.ndarray, "r d"],
    ) -> Candidate:
        """Edits after which a class has descriptors of these weights and vectors."""
        return Candidate(kind, class_, edits, self.head.fold((weights @ vectors)[None], weights.sum(keepdims=True))[0])


def halves(
    labels: Int[np.ndarray, " n"], contents: Sequence[str], strata: Sequence[str | None], seed: int
) -> Int[np.ndarray, " n"]:
    """0 or 1 for each image: each class, and each group in it, evenly divided; equal contents in one half: (N,)."""
    names = {name: i for i, name in enumerate(dict.fromkeys(strata))}
    group = np.array([names[name] for name in strata], np.intp) if strata else np.zeros(len(labels), np.intp)
    _, stratum = np.unique(labels * (len(names) + 1) + group, return_inverse=True)
    return calibrate.folds(stratum, contents, seed, 2)


def drop(draft: Draft, class_: int) -> Iterator[Candidate]:
    """Each descriptor of a class left out, where it has another."""
    rows = draft.rows_of(class_)
    weights, vectors = draft.head.columns_at(rows)
    for i, row in enumerate(rows):
        if len(rows) > 1 and draft.is_first(row):
            kept = np.where(np.arange(len(rows)) == i, 0, weights)
            yield draft.candidate("drop", class_, (_edit(draft, "drop", row),), kept, vectors)


def reweigh(draft: Draft, class_: int, aim: Aim, fold: Int[np.ndarray, " n"]) -> Iterator[Candidate]:
    """Weights of a class by what its descriptors are worth, shrunk towards what they are now.

    A descriptor is worth how much nearer it is to the class's images that are aimed at than to others' images that
    have the class among their best two. How strongly weights follow that is chosen by cross-validation; nothing where
    following it not at all is best.
    """
    rows = draft.rows_of(class_)
    if len(rows) < 2:
        return
    weights, vectors = draft.head.columns_at(rows)
    images, seen = aim.seen.images, aim.seen
    similarity = images.vectors @ vectors.T.astype(np.float32)
    own = aim.target & (images.labels == class_)
    near = (seen.two[0] == class_).any(axis=1) & (images.labels != class_)
    gains = np.zeros(len(SHRINK))
    for f in range(calibrate.N_FOLDS):
        others, held = fold != f, aim.target & (fold == f)
        new = _weights(weights, _worth(similarity, own & others, near & others))
        right = seen.right_with(class_, images.vectors @ draft.head.fold(new @ vectors, new.sum(axis=1)).T)
        gains += right[held].sum(axis=0) - (~seen.wrong[held]).sum()
    if gains.max() <= 0:
        return
    followed = _weights(weights, _worth(similarity, own, near))[gains.argmax()].clip(*WEIGHTS)
    wanted = [float(f"{weight:.3g}") for weight in followed]  # as a person reads it
    moved = np.array([draft.is_first(row) for row in rows]) & (abs(np.log(np.array(wanted) / weights)) > SLIGHT)
    edits = tuple(_edit(draft, "weigh", rows[i], weight=wanted[i]) for i in np.flatnonzero(moved).tolist())
    if edits:
        yield draft.candidate("reweigh", class_, edits, np.where(moved, wanted, weights), vectors)


def add(draft: Draft, class_: int, found: Sequence[str], kind: str) -> Iterator[Candidate]:
    """Each of some new descriptors added to a class."""
    id_ = draft.descriptors.classes[class_].id
    has = {row.text for row in draft.descriptors.rows if row.class_id == id_}
    new = [text for text in dict.fromkeys(found) if text and text not in has]
    if not new:
        return
    rows = tuple(Descriptor(id_, text) for text in new)
    worded = draft.encode(texts(Descriptors(draft.descriptors.classes, rows), get_phrase(draft.head.phrase)))
    weights, vectors = draft.head.columns_at(draft.rows_of(class_))
    for text, vector in zip(new, worded, strict=True):
        edits, with_it = (Edit("add", id_, text),), np.vstack([vectors, vector])
        yield draft.candidate(kind, class_, edits, np.append(weights, 1), with_it)


def separate(aim: Aim, class_: int, pool: Sequence[str], vectors: Float32[np.ndarray, "m d"]) -> list[str]:
    """The 24 texts of a pool, (M, D), that are nearest to a class's images that go wrong, as against their rivals'.

    Ma et al. 2025, 3.2, with the images that are taken for another class, and those of that class, as the two sides.
    """
    images = aim.seen.images
    lost = aim.lost & (images.labels == class_)
    other = np.isin(images.labels, np.unique(aim.seen.answers[lost]))
    if not lost.any() or not other.any():
        return []
    apart = vectors @ (images.vectors[lost].mean(axis=0) - images.vectors[other].mean(axis=0))
    return [pool[m] for m in np.argsort(-apart, kind="stable")[:SHOWN]]


def _edit(draft: Draft, op: str, row: int, weight: float | None = None) -> Edit:
    row_ = draft.descriptors.rows[row]
    return Edit(op, row_.class_id, row_.text, weight=weight)


def _worth(
    similarity: Float[np.ndarray, "n r"], own: Bool[np.ndarray, " n"], near: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " r"]:
    """How much nearer each descriptor is to the one than to the others, in standard deviations of the descriptors."""
    if not own.any() or not near.any():
        return np.zeros(similarity.shape[1])
    apart = similarity[own].mean(axis=0) - similarity[near].mean(axis=0)
    return (apart - apart.mean()) / max(float(apart.std()), TINY)


def _weights(now: Float[np.ndarray, " r"], worth: Float[np.ndarray, " r"]) -> Float[np.ndarray, "s r"]:
    return now * np.clip(np.exp(np.outer(SHRINK, worth)), LEAST, MOST)
