"""What an index shows: its images in clusters, and a name for each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.concepts import naming
from vlmdesc.concepts.index import Index
from vlmdesc.concepts.query import hits
from vlmdesc.errors import InputError
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

    def order(self) -> list[int]:
        """The numbers of the clusters, largest first, without empty ones."""
        sizes = np.bincount(self.number)
        return [c for c in np.argsort(-sizes, kind="stable").tolist() if sizes[c]]

    def middle(self, number: int) -> Int[np.ndarray, " e"]:
        """The places in `rows` of the five images nearest to a cluster's centre."""
        members = np.flatnonzero(self.number == number)
        return members[np.argsort(-self.closeness[members], kind="stable")[:EXAMPLES]]


def cluster(
    vectors: Float32[np.ndarray, "n d"], k: int, seed: int = 0
) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, "k d"]]:
    """k-means: for each unit vector the number of its cluster (N,), and the clusters' unit centres (K, D).

    The best of three greedy k-means++ starts. Raises: InputError for more clusters than vectors.
    """
    if not 1 <= k <= len(vectors):
        raise InputError(f"{k} clusters of {len(vectors)} vectors", fix="ask for fewer, and for one at least")
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of equal vectors there are fewer clusters
        found = KMeans(k, n_init=3, random_state=seed).fit(vectors)
    centres = found.cluster_centers_.astype(np.float32)
    return found.labels_, naming.unit(centres)


def background(index: Index, seed: int = 0) -> Float32[np.ndarray, "n d"]:
    """The vectors of an index, or of 20,000 drawn from it: what directions are held against."""
    return index.nearest.vectors(_drawn(len(index), BACKGROUND, seed))


def clusters(index: Index, k: int, seed: int = 0) -> Clusters:
    """An index's images (100,000 of them at most) in k clusters, by k-means about their mean.

    Raises: InputError for more clusters than images.
    """
    rows = _drawn(len(index), SAMPLE, seed)
    vectors = index.nearest.vectors(rows)
    centred = naming.unit(vectors - vectors.mean(axis=0))
    number, centres = cluster(centred, k, seed)
    return Clusters(rows, number, np.einsum("nd,nd->n", centred, centres[number]))


def concepts(
    index: Index,
    found: Clusters,
    words: Sequence[str],
    frame: naming.Frame,
    *,
    unique: bool = False,
    top: int = WORDS,
    seed: int = 0,
) -> tuple[Concept, ...]:
    """Each cluster as a concept, largest first, with its best words and the images in its middle."""
    order = found.order()
    members = [found.rows[found.number == number] for number in order]
    means = np.stack([index.nearest.vectors(rows).mean(axis=0) for rows in members])
    names = naming.name(means, frame, unique=unique, seed=seed)
    middles = [found.middle(number) for number in order]
    return tuple(
        Concept(
            index=at,
            direction=means[at],
            density=len(members[at]) / len(found.rows),
            names=names.hits(at, words, top),
            examples=hits(index, found.rows[middle], found.closeness[middle]),
            named=bool(names.chosen[at] >= 0),
            chance=float(names.chance[at]),
            margin=float(names.margin[at]),
            stability=float(names.stability[at]),
        )
        for at, middle in enumerate(middles)
    )


def _drawn(n: int, most: int, seed: int) -> Int[np.ndarray, " r"]:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
