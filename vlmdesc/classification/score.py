"""Class scores from descriptor similarities. All of it is numpy on (N, D), (M, D) and owner (M,).

With "mean" and "renormalized" pooling the descriptors of a class fold into one vector first, so that scoring N images
is one (N, D) x (D, C) product and no (N, M) matrix ever exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float32, Int

from vlmdesc.errors import InputError, ShapeError, did_you_mean

TINY = 1e-12
BLOCK_BYTES = 64 * 2**20  # of similarities held at once by "maximum"
FEW = 16  # best classes that are found one after the other, faster than by sorting all


@dataclass(frozen=True)
class Columns:
    """The columns of the similarity matrix: text vectors (M, D), the class each belongs to, and its weight (M,).

    Raises: ShapeError when they do not fit together; InputError when a class has no column of positive weight.
    """

    texts: Float32[np.ndarray, "m d"]
    owner: Int[np.ndarray, " _m"]  # "_": compared below, so that a misfit is our error in every run
    weights: Float32[np.ndarray, " _m"]
    n_classes: int

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


def mean(images: Float32[np.ndarray, "n d"], columns: Columns) -> Float32[np.ndarray, "n c"]:
    """Weighted mean similarity of each class's descriptors: (N, C). Menon & Vondrick 2023, eq. 1."""
    return images @ columns.means.T


def renormalized(images: Float32[np.ndarray, "n d"], columns: Columns) -> Float32[np.ndarray, "n c"]:
    """Cosine to the unit-norm mean text vector of each class: (N, C). Prompt ensembling of CLIP and CuPL."""
    return images @ columns.directions.T


def maximum(images: Float32[np.ndarray, "n d"], columns: Columns) -> Float32[np.ndarray, "n c"]:
    """Similarity of each class's best descriptor: (N, C). Weights only switch descriptors off, at 0."""
    texts = columns.kept_texts.T
    block = max(1, BLOCK_BYTES // (4 * texts.shape[1]))
    blocks = (images[i : i + block] @ texts for i in range(0, len(images), block))
    parts = [np.maximum.reduceat(similarity, columns.bounds[:-1], axis=1) for similarity in blocks]
    return np.concatenate(parts) if parts else np.empty((0, columns.n_classes), np.float32)


Pool = Callable[[Float32[np.ndarray, "n d"], Columns], Float32[np.ndarray, "n c"]]
POOLS: dict[str, Pool] = {"mean": mean, "max": maximum, "renormalized": renormalized}
# The poolings under which the descriptors of a class come down to one vector.
FOLDS: dict[str, Callable[[Columns], Float32[np.ndarray, "c d"]]] = {
    "mean": lambda columns: columns.means,
    "renormalized": lambda columns: columns.directions,
}


def get_pool(name: str) -> Pool:
    """The pooling of that name. Raises: InputError with the closest known one."""
    if name not in POOLS:
        raise InputError(f"unknown pooling '{name}'", fix=f"{did_you_mean(name, POOLS)}known: {', '.join(POOLS)}")
    return POOLS[name]


Scorer = Callable[[Float32[np.ndarray, "n d"]], Float32[np.ndarray, "n c"]]


def scorer(pool: str, columns: Columns) -> Scorer:
    """Images to class scores, keeping no more of the columns than that takes: a vector a class where they fold.

    Raises: InputError for an unknown pooling.
    """
    whole = get_pool(pool)
    if pool not in FOLDS:
        return lambda images: whole(images, columns)
    folded = FOLDS[pool](columns)
    return lambda images: images @ folded.T


def ranking(scores: Float[np.ndarray, "n c"], k: int) -> Int[np.ndarray, "n k"]:
    """The k best classes of each image, best first; of equal scores the lower class number comes first: (N, k)."""
    k = min(k, scores.shape[1])
    if k > FEW:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return largest(scores.copy(), k)[0].T


def largest(values: Float[np.ndarray, "n c"], k: int) -> tuple[Int[np.ndarray, "k n"], Float[np.ndarray, "k n"]]:
    """Places and values of the k largest of each row, the first of equals first. They are -inf in `values` afterwards.

    `values` are contiguous. NaN comes first; the place of a value of -inf means nothing.
    """
    flat, starts = values.reshape(-1), np.arange(len(values)) * values.shape[1]
    places, found = np.empty((k, len(values)), np.intp), np.empty((k, len(values)), values.dtype)
    for best, value in zip(places, found, strict=True):
        values.argmax(axis=1, out=best)
        at = starts + best
        value[:] = flat[at]
        flat[at] = -np.inf
    return places, found
