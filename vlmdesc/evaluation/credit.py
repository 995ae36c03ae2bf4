"""What each descriptor is worth: accuracy with it less accuracy without it, for all of them at once and exactly.

Exactly means as if each were dropped and everything scored anew, but for scores that differ by rounding only.

Without descriptor m, only the score of its own class c changes, and under mean pooling that score is again one product:
x . t'_m, with t'_m the mean text vector of the class's other descriptors. So all leave-one-out scores are one
(N, D) x (D, M) product, and an image's answer follows from it and the two best classes of the full set.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import get_fold


@dataclass(frozen=True)
class Credit:
    """For each descriptor the images that are right only with it, and those that are right only without it: (M,).

    Where `defined` is false the descriptor is the only one of its class, or does not count: then both are 0.
    """

    only_with: Int[np.ndarray, " m"]
    only_without: Int[np.ndarray, " m"]
    defined: Bool[np.ndarray, " m"]


@dataclass(frozen=True)
class Best:
    """The best classes of each image, two at least, and their scores, best first: (N, T) each."""

    classes: Int[np.ndarray, "n t"]
    scores: Float32[np.ndarray, "n t"]


def leave_one_out(
    images: Float32[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], best: Best, pool: str, columns: Columns
) -> Credit:
    """The credit of every descriptor under a pooling that folds, such as "mean".

    `best` are the answers with all descriptors. Raises: InputError for another pooling.
    """
    vectors = without_one(pool, columns)
    kept, bounds = columns.kept, columns.bounds
    owner = columns.owner[kept]
    only_with, only_without = np.zeros(len(kept), np.intp), np.zeros(len(kept), np.intp)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(columns.n_classes + 1))
    for y in range(columns.n_classes):
        of_class = order[edges[y] : edges[y + 1]]
        own = slice(bounds[y], bounds[y + 1])
        right = best.classes[of_class, 0] == y
        won, lost = of_class[right], of_class[~right]
        # Right now: lost where another class, without m, comes out ahead; of equals the lower class number is.
        ahead = images[won] @ vectors.T - best.scores[won, :1]
        near = np.flatnonzero(ahead.max(axis=0, initial=-np.inf) >= 0)  # few: counting in all would take longer
        before, after = near[near < own.start], near[near >= own.stop]
        only_with[before] += (ahead[:, before] >= 0).sum(axis=0)
        only_with[after] += (ahead[:, after] > 0).sum(axis=0)
        scores = images[won] @ vectors[own].T
        only_with[own] += (~_beats(scores, best.scores[won, 1], y, best.classes[won, 1])).sum(axis=0)
        # Wrong now: won where y itself, without m, comes out ahead of the best,
        scores = images[lost] @ vectors[own].T
        only_without[own] += _beats(scores, best.scores[lost, 0], y, best.classes[lost, 0]).sum(axis=0)
        # or where the best, without m, falls behind y that was second.
        for i in lost[best.classes[lost, 1] == y]:
            rival = slice(bounds[best.classes[i, 0]], bounds[best.classes[i, 0] + 1])
            scores = images[i : i + 1] @ vectors[rival].T
            only_without[rival] += ~_beats(scores, best.scores[i, 1:], int(owner[rival.start]), np.array([y]))[0]
    defined = _has_others(columns)
    return _spread(only_with * defined, only_without * defined, defined, columns)


def without_one(pool: str, columns: Columns) -> Float32[np.ndarray, "k d"]:
    """The vector of each kept column's class when that column is dropped; 0 for the only one of a class.

    Raises: InputError for a pooling under which classes do not come down to one vector.
    """
    fold = get_fold(pool, "credit of descriptors")
    texts, owner = columns.kept_texts.astype(np.float64), columns.owner[columns.kept]
    weights = columns.weights[columns.kept].astype(np.float64)[:, None]
    sums = np.stack([(weights[a:b] * texts[a:b]).sum(axis=0) for a, b in pairwise(columns.bounds)])
    rest = columns.totals[owner][:, None] - weights
    alone = ~_has_others(columns)
    vectors = fold((sums[owner] - weights * texts) / np.where(alone[:, None], 1, rest))
    vectors[alone] = 0
    return vectors.astype(np.float32)


def _has_others(columns: Columns) -> Bool[np.ndarray, " k"]:
    """Whether the class of each kept column has another one."""
    return (np.diff(columns.bounds) > 1)[columns.owner[columns.kept]]


def _beats(
    scores: Float32[np.ndarray, "n k"], other: Float32[np.ndarray, " n"], class_: int, others: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, "n k"]:
    """Whether a class with these scores comes before another class of each row; of equals the lower number does."""
    return (scores > other[:, None]) | ((scores == other[:, None]) & (class_ < others)[:, None])


def _spread(
    only_with: Int[np.ndarray, " k"],
    only_without: Int[np.ndarray, " k"],
    defined: Bool[np.ndarray, " k"],
    columns: Columns,
) -> Credit:
    """From kept columns to all of them."""
    full = [np.zeros(len(columns.owner), dtype) for dtype in (np.intp, np.intp, bool)]
    for whole, part in zip(full, (only_with, only_without, defined), strict=True):
        whole[columns.kept] = part
    return Credit(*full)
