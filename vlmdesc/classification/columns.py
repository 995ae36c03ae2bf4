"""The columns of the one matrix: what is said of each class, worded, encoded and weighed.

Every head, method, control and effect gets its columns here: a descriptor set under a phrase is `Prompts`, and these
through an encoder are `Columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float32, Int

from vlmdesc.descriptors.phrase import fill_in, get_phrase, name_phrase, texts
from vlmdesc.errors import InputError, ShapeError
from vlmdesc.records import Descriptors

TINY = 1e-12
Encode = Callable[[Sequence[str]], Float32[np.ndarray, "m d"]]


@dataclass(frozen=True)
class Prompts:
    """Columns before they are encoded: the text of each (M,), the descriptor in it, its class and its weight.

    `descriptors[m]` is what a person reads for column m: the descriptor, or for a bare name the whole text.
    """

    texts: tuple[str, ...]
    descriptors: tuple[str, ...]
    owner: Int[np.ndarray, " m"]
    weights: Float32[np.ndarray, " m"]
    n_classes: int

    @property
    def form(self) -> str:
        """The first text that counts: an example of how all are worded."""
        return self.texts[int(np.argmax(self.weights > 0))]


def prompts_of(descriptors: Descriptors, phrase: str) -> Prompts:
    """A descriptor set in a phrase; a class without descriptors has its name. Rows keep their numbers.

    Raises: InputError for an unknown phrase, or one that leaves out the name of a class that has nothing else.
    """
    form = get_phrase(phrase)
    whole, _ = fill_in(descriptors, form)
    rows = tuple(texts(whole, form))
    readable = tuple(row.text or text for row, text in zip(whole.rows, rows, strict=True))
    return Prompts(rows, readable, whole.owner, whole.weights, len(whole.classes))


def in_templates(descriptors: Descriptors, templates: Sequence[str]) -> Prompts:
    """Every class name in every template: a prompt ensemble."""
    makers = [name_phrase(template) for template in templates]
    rows = tuple(make(class_.name, "") for class_ in descriptors.classes for make in makers)
    owner = np.repeat(np.arange(len(descriptors.classes)), len(templates))
    return Prompts(rows, rows, owner, np.ones(len(rows), np.float32), len(descriptors.classes))


def columns_of(descriptors: Descriptors, encode: Encode, phrase: str) -> Columns:
    """The columns of a descriptor set in a phrase, through an encoder or from the store. Raises: as `prompts_of`."""
    return encode_prompts(prompts_of(descriptors, phrase), encode)


def encode_prompts(prompts: Prompts, encode: Encode) -> Columns:
    """Prompts as columns."""
    return Columns(encode(prompts.texts), prompts.owner, prompts.weights, prompts.n_classes, prompts.descriptors)


@dataclass(frozen=True)
class Columns:
    """The columns of the similarity matrix: text vectors (M, D), the class each belongs to, and its weight (M,).

    `descriptors[m]` is what a person reads for column m, where it is known.
    Raises: ShapeError when they do not fit together; InputError when a class has no column of positive weight.
    """

    texts: Float32[np.ndarray, "m d"]
    owner: Int[np.ndarray, " _m"]  # "_": compared below, so that a misfit is our error in every run
    weights: Float32[np.ndarray, " _m"]
    n_classes: int
    descriptors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        m = len(self.texts)
        if len(self.owner) != m or len(self.weights) != m:
            raise ShapeError(
                f"{m} text vectors but {len(self.owner)} owners and {len(self.weights)} weights",
                fix="pass owner and weights of the same Descriptors",
            )
        if m and not (self.owner.min() >= 0 and self.owner.max() < self.n_classes):
            raise ShapeError(
                f"owners run from {self.owner.min()} to {self.owner.max()} but there are {self.n_classes} classes",
                fix="number classes from 0",
            )
        empty = np.flatnonzero(self.totals <= 0)
        if len(empty):
            raise InputError(
                f"{len(empty)} classes have no descriptor to score by",
                where=f"class number {empty[0]}",
                fix="give each class one",
            )

    @cached_property
    def totals(self) -> Float[np.ndarray, " c"]:
        """Sum of weights of each class: (C,)."""
        return np.bincount(self.owner, self.weights, self.n_classes)

    @cached_property
    def shares(self) -> Float32[np.ndarray, " m"]:
        """Each column's share of its class: weight / sum of the class's weights; they add up to 1 in each class."""
        return (self.weights / self.totals[self.owner]).astype(np.float32)

    @cached_property
    def kept(self) -> Int[np.ndarray, " k"]:
        """Numbers of the columns of positive weight, class after class, in row order within each."""
        kept = np.flatnonzero(self.weights > 0)
        return kept[np.argsort(self.owner[kept], kind="stable")]

    @cached_property
    def bounds(self) -> Int[np.ndarray, " edges"]:
        """Class c's kept columns are those from bounds[c] to bounds[c + 1]: (C + 1,)."""
        return np.searchsorted(self.owner[self.kept], np.arange(self.n_classes + 1))

    @cached_property
    def kept_texts(self) -> Float32[np.ndarray, "k d"]:
        """Text vectors of the kept columns, so that classes are slices."""
        return self.texts[self.kept]

    def rows_of(self, class_: int) -> Int[np.ndarray, " r"]:
        """Numbers of one class's columns that count, in row order."""
        return self.kept[self.bounds[class_] : self.bounds[class_ + 1]]

    def select(self, classes: Int[np.ndarray, " k"]) -> Columns:
        """The columns of some classes, numbered anew in that order."""
        rows = [self.rows_of(c) for c in classes.tolist()]
        at = np.concatenate(rows)
        owner = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
        texts = tuple(self.descriptors[m] for m in at.tolist()) if self.descriptors else ()
        return Columns(self.texts[at], owner, self.weights[at], len(rows), texts)

    def changes(self, other: Columns) -> Int[np.ndarray, " k"]:
        """Numbers of the classes whose columns that count are not the same in both, in order."""
        return np.array(
            [
                c
                for c in range(self.n_classes)
                if not (
                    np.array_equal(self.weights[(a := self.rows_of(c))], other.weights[(b := other.rows_of(c))])
                    and np.array_equal(self.texts[a], other.texts[b])
                )
            ],
            np.intp,
        )

    @cached_property
    def means(self) -> Float32[np.ndarray, "c d"]:
        """Weighted mean text vector of each class: (C, D). Not unit-norm: diverse descriptors give a shorter one."""
        texts, shares = self.kept_texts, self.shares[self.kept]
        # A small product per class: seven times as fast as np.add.reduceat over rows.
        return np.stack([shares[a:b] @ texts[a:b] for a, b in pairwise(self.bounds)])

    @cached_property
    def directions(self) -> Float32[np.ndarray, "c d"]:
        """The class means at unit norm: (C, D); texts that cancel out have none, and score 0."""
        return self.means / np.maximum(np.linalg.norm(self.means, axis=1, keepdims=True), TINY)
