"""Images that are the same, or nearly: resaved, shrunk, cropped a little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vlmdesc.concepts.arrays import BLOCK
from vlmdesc.concepts.index import Index
from vlmdesc.concepts.nearest import Nearest

NEAR = 0.95  # cosine
NEIGHBOURS = 32  # looked at for each image


@dataclass(frozen=True)
class Copies:
    """Rows of images that are linked, each to one of the others at least.

    `similarity` is the least cosine of one of their contents to the nearest other one; 1 where they are all equal.
    """

    rows: tuple[int, ...]
    similarity: float


def copies(
    index: Index, threshold: float = NEAR, tick: Callable[[int], object] = lambda done: None
) -> tuple[Copies, ...]:
    """Groups of images whose embeddings have a cosine of `threshold` or more, largest groups first.

    A group is what such links connect. Equal contents are found by their keys; of others the 32 nearest are looked at.
    """
    _, first, content = np.unique(index.rows.contents(), return_index=True, return_inverse=True)
    links, n = _links(index.nearest, first, threshold, tick), len(first)
    a, b = content[links.a], content[links.b]
    _, group = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)
    best = np.full(n, -1, np.float32)
    np.maximum.at(best, a, links.similarity)
    least = np.ones(n, np.float32)
    np.minimum.at(least, group[a], best[a])
    rows = np.argsort(group[content], kind="stable")
    groups = np.split(rows, np.flatnonzero(np.diff(group[content][rows])) + 1)
    found = [Copies(tuple(rows.tolist()), float(least[group[content[rows[0]]]])) for rows in groups if len(rows) > 1]
    return tuple(sorted(found, key=lambda copies: (-len(copies.rows), copies.rows)))


@dataclass(frozen=True)
class _Links:
    a: Int[np.ndarray, " e"]
    b: Int[np.ndarray, " e"]
    similarity: Float32[np.ndarray, " e"]


def _links(vectors: Nearest, rows: Int[np.ndarray, " u"], threshold: float, tick: Callable[[int], object]) -> _Links:
    """Pairs of these rows that are near each other."""
    allowed = None
    if len(rows) < len(vectors):
        allowed = np.zeros(len(vectors), bool)
        allowed[rows] = True
    links = []
    for start in range(0, len(rows), BLOCK // 8):
        block = rows[start : start + BLOCK // 8]
        scores, found = vectors.search(vectors.vectors(block), min(NEIGHBOURS, len(rows)), allowed)
        near = (scores >= threshold) & (found >= 0) & (found != block[:, None])
        links.append((np.broadcast_to(block[:, None], near.shape)[near], found[near], scores[near]))
        tick(len(block))
    return _Links(*(np.concatenate(column) for column in zip(*links, strict=True)))
