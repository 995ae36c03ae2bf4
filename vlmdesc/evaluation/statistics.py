"""Intervals and tests for methods that were measured on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

LEVEL = 0.95
ENOUGH = 10  # images of a class, for resampling within it
BLOCK = 64  # resamples at a time


def resampled_means(values: Any, labels: Int[np.ndarray, " n"], resamples: int, seed: int) -> Float[np.ndarray, "r k"]:
    """Mean of each column over bootstrap resamples of the rows: (N, K), an array or sparse, -> (R, K).

    All columns see the same resamples, so that differences of columns are paired. Rows are resampled within their
    class, so that class sizes stay; classes of fewer than 10 images are taken together, since resampling one image
    out of one would show no spread at all.
    """
    sizes = np.bincount(labels)
    stratum = np.where(sizes[labels] >= ENOUGH, labels, -1)
    order = np.argsort(stratum, kind="stable")
    _, first, count = np.unique(stratum[order], return_index=True, return_counts=True)
    start, size = (np.repeat(of_stratum, count) for of_stratum in (first, count))
    rng, sorted_values, n = np.random.default_rng(seed), values[order], len(labels)
    means = np.empty((resamples, values.shape[1]))
    for at in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - at)
        drawn = start + (rng.random((rows, n)) * size).astype(np.intp) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)
        means[at : at + rows] = times @ sorted_values / n
    return means


def by_group(right: Bool[np.ndarray, "n s"], group: Int[np.ndarray, " n"], groups: int) -> Any:
    """Right answers as columns group after group, and in each seed after seed: sparse (N, groups * S).

    `group` is -1 for rows of no group.
    """
    from scipy.sparse import csr_matrix

    rows, seeds = np.nonzero(right & (group >= 0)[:, None])
    columns = group[rows] * right.shape[1] + seeds
    return csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(right), groups * right.shape[1]))


def interval(samples: Float[np.ndarray, " r"]) -> tuple[float, float]:
    """The middle 95 % of bootstrap samples (percentile interval); NaN where a group was not drawn is passed over."""
    low, high = np.nanquantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def over_seeds(means: Float[np.ndarray, "r s"], seed: int) -> Float[np.ndarray, " r"]:
    """Mean over seeds, the seeds resampled too: (R, S) -> (R,). For controls both images and draws are a sample."""
    resamples, seeds = means.shape
    drawn = np.random.default_rng(seed).integers(0, seeds, (resamples, seeds))
    return np.take_along_axis(means, drawn, axis=1).mean(axis=1)


def mcnemar(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " n"]) -> float:
    """Exact two-sided McNemar test that two methods are right equally often on the same images.

    >>> a, b = np.arange(20) < 9, np.arange(20) < 1  # nine right by a only but one: 8 against 0
    >>> round(mcnemar(a, b), 6)  # 2 / 2**8
    0.007812
    """
    return sign_test(int((a & ~b).sum()), int((b & ~a).sum()))


def sign_test(a: int, b: int) -> float:
    """Exact two-sided p that of a + b coins, a fell one way and b the other: McNemar's test of their counts."""
    from scipy.stats import binomtest

    return float(binomtest(a, a + b, 0.5).pvalue) if a + b else 1.0


@cache  # many cells of an audit have the same counts
def fisher(a: int, b: int, c: int, d: int) -> float:
    """P that hits and misses, a and b of some images, c and d of others, have one share: Fisher's exact test."""
    if a + c == 0 or b + d == 0:
        return 1.0  # none, or all: most of many thousand cells, and nothing to compute
    from scipy.stats import fisher_exact

    return float(fisher_exact([[a, b], [c, d]]).pvalue)


def mcnemar_over_seeds(a: Bool[np.ndarray, " n"], seeds: Bool[np.ndarray, "n s"]) -> float:
    """One p of a method against the runs of a control: twice the median of their McNemar p.

    Valid however the runs depend on each other (Rueschendorf 1982; Vovk & Wang 2020) for the claim that the method is
    right as often as every one of them; whether it is better or worse than their mean, the interval tells.
    """
    found = [mcnemar(a, seeds[:, s]) for s in range(seeds.shape[1])]
    return found[0] if len(found) == 1 else min(1.0, 2 * median(found))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that keep the chance of any false claim among them below what each says. Holm 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, low = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        low = max(low, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = low
    return adjusted
