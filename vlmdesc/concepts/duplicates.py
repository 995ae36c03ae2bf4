"""Images that are the same, or nearly: resaved, shrunk, cropped a little."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vlmdesc.concepts.arrays import BLOCK
from vlmdesc.concepts.nearest import Nearest, Tick, no_tick
from vlmdesc.concepts.rows import Rows
from vlmdesc.concepts.sheet import draw

NEAR = 0.95  # cosine
NEIGHBOURS = 32  # looked at for each image


@dataclass(frozen=True)
class Copies:
    """Rows of images that are linked, each to one of the others at least, and their ids.

    `similarity` is the least cosine of one of their contents to the nearest other one; 1 where they are all equal.
    """

    rows: tuple[int, ...]
    ids: tuple[str, ...]
    similarity: float


@dataclass(frozen=True)
class Duplicates:
    """Groups of images that are the same or nearly, largest first."""

    groups: tuple[Copies, ...]
    rows: Rows = field(repr=False)

    def __len__(self) -> int:
        return len(self.groups)

    def to_dict(self) -> list[dict[str, Any]]:
        """A list of the groups."""
        return [{"similarity": round(group.similarity, 6), "ids": [*group.ids]} for group in self.groups]

    def montage(self, path: str | Path) -> int:
        """Draw a contact sheet (PNG); how many images are on it. Raises: StoreError."""
        captions = {row: f"group {n}" for n, group in enumerate(self.groups, 1) for row in group.rows}
        return draw(Path(path), self.rows, [*captions], [*captions.values()])


def duplicates(vectors: Nearest, rows: Rows, threshold: float = NEAR, tick: Tick = no_tick) -> Duplicates:
    """Groups of images whose embeddings have a cosine of `threshold` or more.

    A group is what such links connect. Equal contents are found by their keys; of others the 32 nearest are looked at.
    """
    _, first, content = np.unique(rows.contents(), return_index=True, return_inverse=True)
    one, other, similarity = _links(vectors, first, threshold, tick)
    a, b, n = content[one], content[other], len(first)
    _, group = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)
    best = np.full(n, -1, np.float32)
    np.maximum.at(best, a, similarity)
    least = np.ones(n, np.float32)
    np.minimum.at(least, group[a], best[a])
    order = np.argsort(group[content], kind="stable")
    together = np.split(order, np.flatnonzero(np.diff(group[content][order])) + 1)
    found = [
        Copies(tuple(members.tolist()), tuple(rows.column("id", members)), float(least[group[content[members[0]]]]))
        for members in together
        if len(members) > 1
    ]
    return Duplicates(tuple(sorted(found, key=lambda copies: (-len(copies.rows), copies.rows))), rows)


def _links(
    vectors: Nearest, rows: Int[np.ndarray, " u"], threshold: float, tick: Tick
) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"], Float32[np.ndarray, " e"]]:
    """Pairs of these rows that are near each other, and their cosines."""
    allowed = np.isin(np.arange(len(vectors)), rows) if len(rows) < len(vectors) else None
    links = []
    for start in range(0, len(rows), BLOCK // 8):
        block = rows[start : start + BLOCK // 8]
        scores, found = vectors.search(vectors.vectors(block), min(NEIGHBOURS, len(rows)), allowed)
        near = (scores >= threshold) & (found >= 0) & (found != block[:, None])
        links.append((np.broadcast_to(block[:, None], near.shape)[near], found[near], scores[near]))
        tick(len(block))
    one, other, similarity = (np.concatenate(column) for column in zip(*links, strict=True))
    return one, other, similarity
