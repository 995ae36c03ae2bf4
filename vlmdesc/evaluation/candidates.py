"""Edits of one class that might help, and what each does to the answers, all at once.

Under mean pooling an edit of a class's descriptors moves one class vector. So the answers under K edits of a class are
one (N, D) x (D, K) product held against each image's best other class: exact, and thousands of edits take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vlmdesc.classification.columns import TINY, Columns, Encode
from vlmdesc.classification.score import get_fold
from vlmdesc.descriptors.phrase import get_phrase, texts
from vlmdesc.evaluation.effect import ahead
from vlmdesc.records import Descriptor, Descriptors, Edit
from vlmdesc.records.names import WEIGHTS

SHRINK = (0.25, 0.5, 1.0, 2.0)  # how strongly weights follow what they are worth
LEAST, MOST = 0.25, 4.0  # times its weight now, that a reweighing gives a descriptor
SLIGHT = 0.1  # changes of a weight's logarithm that are not worth an edit
SHOWN = 24  # descriptors of the pool that are tried on a class
N_FOLDS = 5


@dataclass(frozen=True)
class Candidate:
    """Edits of one class, and the class's vector (D,) with them. `kind` says where they come from."""

    kind: str
    class_: int
    edits: tuple[Edit, ...]
    vector: Float32[np.ndarray, " d"]


@dataclass(frozen=True)
class Ground:
    """Pictures to choose on: vectors (N, D), labels (N,), those aimed at (N,), and the two best classes now.

    `best` and `scores` are (N, 2), best first.
    """

    images: Float32[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    target: Bool[np.ndarray, " n"]
    best: Int[np.ndarray, "n 2"]
    scores: Float32[np.ndarray, "n 2"]

    @property
    def wrong(self) -> Bool[np.ndarray, " n"]:
        return self.best[:, 0] != self.labels

    def right_with(self, class_: int, vectors: Float32[np.ndarray, "k d"]) -> Bool[np.ndarray, "n k"]:
        """Whether each picture is right when the class has each of these vectors: (N, K)."""
        first = self.best[:, 0] == class_
        rest = np.where(first, self.best[:, 1], self.best[:, 0])
        bar = np.where(first, self.scores[:, 1], self.scores[:, 0])[:, None]
        new = self.images @ vectors.T
        wins = ahead(new, bar, np.array(class_), rest[:, None])
        return np.where(wins, (self.labels == class_)[:, None], (self.labels == rest)[:, None])


@dataclass(frozen=True)
class Wording:
    """A set with its columns under a phrase and pooling, and what encodes more texts.

    Raises: InputError for a pooling under which a class does not come down to one vector.
    """

    descriptors: Descriptors
    columns: Columns
    phrase: str
    pool: str
    encode: Encode

    def __post_init__(self) -> None:
        get_fold(self.pool, "suggestions")

    def rows_of(self, class_: int) -> list[int]:
        """Rows of a class that count; none where it is scored by its bare name."""
        return [m for m in self.columns.rows_of(class_).tolist() if m < len(self.descriptors.rows)]

    def named(self, row: int) -> bool:
        """Whether class and text name this row and no other: an edit finds the first."""
        row_ = self.descriptors.rows[row]
        return sum((other.class_id, other.text) == (row_.class_id, row_.text) for other in self.descriptors.rows) == 1

    def folded(self, sums: Float[np.ndarray, "k d"], totals: Float[np.ndarray, " k"]) -> Float32[np.ndarray, "k d"]:
        """Class vectors of weighted sums of texts."""
        return get_fold(self.pool, "suggestions")(sums / totals[:, None]).astype(np.float32)

    def worded(self, class_: int, said: Sequence[str]) -> Float32[np.ndarray, "k d"]:
        """Vectors of descriptors as they would be worded for a class."""
        id_ = self.descriptors.classes[class_].id
        rows = tuple(Descriptor(id_, text) for text in said)
        return self.encode(texts(Descriptors(self.descriptors.classes, rows), get_phrase(self.phrase)))


def drops(wording: Wording, class_: int) -> Iterator[Candidate]:
    """Each descriptor of a class left out, where it has another."""
    rows = wording.rows_of(class_)
    if len(rows) < 2:
        return
    weights, vectors = _of(wording, rows)
    sums, total = weights @ vectors, weights.sum()
    found = wording.folded(sums - weights[:, None] * vectors, total - weights)
    for row, vector in zip(rows, found, strict=True):
        if wording.named(row):
            yield Candidate("drop", class_, (_edit(wording, "drop", row),), vector)


def reweighing(wording: Wording, class_: int, ground: Ground, fold: Int[np.ndarray, " n"]) -> Candidate | None:
    """Weights of a class by what its descriptors are worth, shrunk towards what they are now.

    A descriptor is worth how much nearer it is to the class's pictures that are aimed at than to others' pictures that
    have the class among their best two. How strongly weights follow that is chosen by cross-validation; None where
    following it not at all is best.
    """
    rows = wording.rows_of(class_)
    if len(rows) < 2:
        return None
    weights, vectors = _of(wording, rows)
    similarity = ground.images @ vectors.T.astype(np.float32)
    own = ground.target & (ground.labels == class_)
    near = (ground.best == class_).any(axis=1) & (ground.labels != class_)
    gains = np.zeros(len(SHRINK))
    for f in range(N_FOLDS):
        told, held = fold != f, fold == f
        new = _weights(weights, _worth(similarity, own & told, near & told))
        right = _part(ground, held).right_with(class_, wording.folded(new @ vectors, new.sum(axis=1)))
        now = ~ground.wrong[held]
        gains += ((right & ~now[:, None]).astype(int) - (~right & now[:, None]))[ground.target[held]].sum(axis=0)
    if gains.max() <= 0:
        return None
    wanted = [_readable(weight) for weight in _weights(weights, _worth(similarity, own, near))[gains.argmax()]]
    moved = np.array([wording.named(row) for row in rows]) & (abs(np.log(np.array(wanted) / weights)) > SLIGHT)
    settled = np.where(moved, wanted, weights)[None]
    vector = wording.folded(settled @ vectors, settled.sum(axis=1))[0]
    edits = tuple(_edit(wording, "weigh", rows[i], weight=wanted[i]) for i in np.flatnonzero(moved).tolist())
    return Candidate("reweigh", class_, edits, vector) if edits else None


def additions(wording: Wording, class_: int, said: Sequence[str], kind: str) -> Iterator[Candidate]:
    """Each of some new descriptors added to a class."""
    has = {row.text for row in wording.descriptors.rows if row.class_id == wording.descriptors.classes[class_].id}
    new = [text for text in dict.fromkeys(said) if text and text not in has]
    if not new:
        return
    weights, vectors = _of(wording, wording.rows_of(class_))
    sums = weights @ vectors + wording.worded(class_, new)
    found = wording.folded(sums, np.full(len(new), weights.sum() + 1))
    id_ = wording.descriptors.classes[class_].id
    for text, vector in zip(new, found, strict=True):
        yield Candidate(kind, class_, (Edit("add", id_, text),), vector)


def separating(ground: Ground, class_: int, pool: Sequence[str], vectors: Float32[np.ndarray, "m d"]) -> list[str]:
    """The 24 texts of a pool, (M, D), that are nearest to a class's pictures that go wrong, as against their rivals'.

    Ma et al. 2025, 3.2, with the pictures that are taken for another class, and those of that class, as the two sides.
    """
    lost = ground.target & (ground.labels == class_) & ground.wrong
    rivals = np.unique(ground.best[lost, 0])
    other = np.isin(ground.labels, rivals)
    if not lost.any() or not other.any():
        return []
    apart = vectors @ (ground.images[lost].mean(axis=0) - ground.images[other].mean(axis=0))
    return [pool[m] for m in np.argsort(-apart, kind="stable")[:SHOWN]]


def _of(wording: Wording, rows: Sequence[int]) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r d"]]:
    return wording.columns.weights[rows].astype(float), wording.columns.texts[rows].astype(float)


def _edit(wording: Wording, op: str, row: int, weight: float | None = None) -> Edit:
    row_ = wording.descriptors.rows[row]
    return Edit(op, row_.class_id, row_.text, weight=weight)


def _readable(weight: float) -> float:
    """Three digits of a weight, within what a descriptor may have."""
    return float(f"{min(max(weight, WEIGHTS[0]), WEIGHTS[1]):.3g}")


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


def _part(ground: Ground, rows: Bool[np.ndarray, " n"]) -> Ground:
    columns = (ground.images, ground.labels, ground.target, ground.best, ground.scores)
    return Ground(*(column[rows] for column in columns))
