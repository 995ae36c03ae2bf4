"""What an index shows: its pictures in clusters, and a name for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.concepts import naming
from vlmdesc.concepts.index import Index
from vlmdesc.concepts.nearest import cluster
from vlmdesc.concepts.query import hits
from vlmdesc.records import Concept

SAMPLE = 100_000  # images that clusters are looked for in
BACKGROUND = 20_000  # images that say what is common to all
EXAMPLES, WORDS = 5, 5


@dataclass(frozen=True)
class Clusters:
    """Rows (N,) of an index, the number of each one's cluster (N,), and its cosine to that one's centre (N,)."""

    rows: Int[np.ndarray, " n"]
    number: Int[np.ndarray, " n"]
    closeness: Float32[np.ndarray, " n"]


def background(index: Index, seed: int = 0) -> Float32[np.ndarray, "n d"]:
    """The vectors of an index, or of 20,000 drawn from it: what directions are held against."""
    return index.nearest.vectors(_drawn(len(index), BACKGROUND, seed))


def clusters(index: Index, k: int, seed: int = 0) -> Clusters:
    """An index's pictures (100,000 of them at most) in k clusters, by spherical k-means about their mean.

    Raises: InputError for more clusters than pictures.
    """
    rows = _drawn(len(index), SAMPLE, seed)
    vectors = index.nearest.vectors(rows)
    centred = vectors - vectors.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    number, centres = cluster(centred, k, seed)
    return Clusters(rows, number, np.einsum("nd,nd->n", centred, centres[number]))


def concepts(
    index: Index,
    found: Clusters,
    words: Sequence[str],
    frame: naming.Frame,
    *,
    unique: bool = True,
    top: int = WORDS,
    seed: int = 0,
) -> tuple[Concept, ...]:
    """Each cluster as a concept, largest first, with its best words and the pictures in its middle."""
    sizes = np.bincount(found.number)
    order = [c for c in np.argsort(-sizes, kind="stable").tolist() if sizes[c]]
    members = {c: np.flatnonzero(found.number == c) for c in order}
    means = np.stack([index.nearest.vectors(found.rows[members[c]]).mean(axis=0) for c in order])
    names = naming.name(means, frame, unique=unique, seed=seed)
    return tuple(_concept(index, found, members[c], means[at], names, at, words, top) for at, c in enumerate(order))


def _concept(
    index: Index,
    found: Clusters,
    members: Int[np.ndarray, " m"],
    mean: Float32[np.ndarray, " d"],
    names: naming.Names,
    at: int,
    words: Sequence[str],
    top: int,
) -> Concept:
    closest = members[np.argsort(-found.closeness[members], kind="stable")[:EXAMPLES]]
    return Concept(
        index=at,
        direction=mean,
        density=len(members) / len(found.rows),
        names=names.hits(at, words, top),
        examples=hits(index, found.rows[closest], found.closeness[closest]),
        named=bool(names.chosen[at] >= 0),
        chance=float(names.chance[at]),
        margin=float(names.margin[at]),
        stability=float(names.stability[at]),
    )


def _drawn(n: int, most: int, seed: int) -> Int[np.ndarray, " r"]:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
