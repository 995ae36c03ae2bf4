"""Class scores from descriptor similarities. All of it is numpy on (N, D), (M, D) and owner (M,).

With "mean" and "renormalized" pooling the descriptors of a class fold into one vector first, so that scoring N images
is one (N, D) x (D, C) product and no (N, M) matrix ever exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from vlmdesc.classification.columns import TINY, Columns
from vlmdesc.errors import InputError
from vlmdesc.text import did_you_mean

BLOCK_BYTES = 64 * 2**20  # of similarities held at once by "maximum"
FEW = 16  # best classes that are found one after the other, faster than by sorting all


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


Given = tuple[Float[np.ndarray, "n r"], Float[np.ndarray, "n r"]]


def by_share(similarity: Float[np.ndarray, "n r"], columns: Columns, class_: int) -> Given:
    """What each descriptor of a class gives to its mean, and the share of the class it holds: (N, R) each."""
    shares = np.broadcast_to(columns.shares[columns.rows_of(class_)], similarity.shape)
    return shares * similarity, shares


def by_unit_share(similarity: Float[np.ndarray, "n r"], columns: Columns, class_: int) -> Given:
    """The same for the mean at unit norm."""
    given, shares = by_share(similarity, columns, class_)
    return given / max(TINY, float(np.linalg.norm(columns.means[class_]))), shares


def to_the_best(similarity: Float[np.ndarray, "n r"], columns: Columns, class_: int) -> Given:
    """The same where the best descriptor, of equal ones the first, gives all."""
    best = np.zeros_like(similarity)
    best[np.arange(len(similarity)), similarity.argmax(axis=1)] = 1
    return best * similarity, best


def unit(means: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k d"]:
    """Vectors at unit norm; texts that cancel out have none, and score 0."""
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), TINY)


Fold = Callable[[Float[np.ndarray, "k d"]], Float[np.ndarray, "k d"]]


@dataclass(frozen=True)
class Pool:
    """A way to pool the similarities of a class's descriptors into its score.

    `score` makes class scores (N, C) of images (N, D) and columns. `give` takes similarities (N, R) to one class's
    descriptors, the columns and the class's number: what each gives, which adds up to the score, and the share of the
    class it holds. Where descriptors come down to one vector a class, `fold` makes it of their weighted mean: (K, D).
    """

    score: Callable[[Float32[np.ndarray, "n d"], Columns], Float32[np.ndarray, "n c"]]
    give: Callable[[Float[np.ndarray, "n r"], Columns, int], Given]
    fold: Fold | None = None


POOLS: dict[str, Pool] = {
    "mean": Pool(mean, by_share, lambda means: means),
    "max": Pool(maximum, to_the_best),
    "renormalized": Pool(renormalized, by_unit_share, unit),
}


def get_pool(name: str) -> Pool:
    """The pooling of that name. Raises: InputError with the closest known one."""
    if name not in POOLS:
        raise InputError(f"unknown pooling '{name}'", fix=f"{did_you_mean(name, POOLS)}known: {', '.join(POOLS)}")
    return POOLS[name]


def get_fold(name: str, what: str) -> Fold:
    """How a class comes down to one vector under a pooling. Raises: InputError, for which it needs that, where not."""
    if (fold := get_pool(name).fold) is None:
        known = " or ".join(other for other, pool in POOLS.items() if pool.fold)
        raise InputError(f"no {what} under pooling '{name}'", fix=f"use {known}")
    return fold


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
