"""What each descriptor is worth: accuracy with it less accuracy without it, for all of them at once and exactly.

Exactly means as if each were dropped and everything scored anew, but for scores that differ by rounding only.

Without descriptor m, only the score of its own class c changes, and under mean pooling that score is again one product:
x . t'_m, with t'_m the mean text vector of the class's other descriptors. So all leave-one-out scores are one
(N, D) x (D, M) product, and an image's answer follows from it and the two best classes of the full set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.classification.heads.pooled import Pooled, leave_out_each
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation.scored import Best


@dataclass(frozen=True)
class Credit:
    """For each descriptor that counts the images that are right only with it, and those right only without it: (K,).

    `columns` are its number and `owner` its class. Where `defined` is false it is the only one of its class: then both
    are 0.
    """

    columns: Int[np.ndarray, " k"]
    owner: Int[np.ndarray, " k"]
    only_with: Int[np.ndarray, " k"]
    only_without: Int[np.ndarray, " k"]
    defined: Bool[np.ndarray, " k"]


def leave_one_out(head: Pooled, images: Labelled, best: Best) -> Credit:
    """The credit of every descriptor of a head under "mean" or "renormalized" pooling.

    `best` are the two best classes with all descriptors. Raises: InputError for another pooling.
    """
    left, vectors, labels = leave_out_each(head), images.vectors, images.labels
    classes, of_best = best
    only_with, only_without = np.zeros(len(left.owner), np.intp), np.zeros(len(left.owner), np.intp)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(len(left.bounds)))
    for y, own in enumerate(map(slice, left.bounds[:-1], left.bounds[1:])):
        of_class = order[edges[y] : edges[y + 1]]
        right = classes[of_class, 0] == y
        won, lost = of_class[right], of_class[~right]
        # Right now: lost where another class, without m, comes out ahead; of equals the lower class number is.
        ahead = vectors[won] @ left.vectors.T - of_best[won, :1]
        near = np.flatnonzero(ahead.max(axis=0, initial=-np.inf) >= 0)  # few: counting in all would take longer
        before, after = near[near < own.start], near[near >= own.stop]
        only_with[before] += (ahead[:, before] >= 0).sum(axis=0)
        only_with[after] += (ahead[:, after] > 0).sum(axis=0)
        scores = vectors[won] @ left.vectors[own].T
        only_with[own] += (~_beats(scores, of_best[won, 1], y, classes[won, 1])).sum(axis=0)
        # Wrong now: won where y itself, without m, comes out ahead of the best,
        scores = vectors[lost] @ left.vectors[own].T
        only_without[own] += _beats(scores, of_best[lost, 0], y, classes[lost, 0]).sum(axis=0)
        # or where the best, without m, falls behind y that was second.
        for i in lost[classes[lost, 1] == y]:
            rival = slice(*left.bounds[classes[i, 0] :][:2])
            scores = vectors[i : i + 1] @ left.vectors[rival].T
            only_without[rival] += ~_beats(scores, of_best[i, 1:2], int(classes[i, 0]), np.array([y]))[0]
    return Credit(left.columns, left.owner, only_with * left.defined, only_without * left.defined, left.defined)


def _beats(
    scores: Float32[np.ndarray, "n k"], other: Float32[np.ndarray, " n"], class_: int, others: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, "n k"]:
    """Whether a class with these scores comes before another class of each row; of equals the lower number does."""
    return (scores > other[:, None]) | ((scores == other[:, None]) & (class_ < others)[:, None])
