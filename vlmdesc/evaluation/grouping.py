"""Groups for an audit where no column says any: clusters of what goes wrong, named through a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.concepts.clusters import cluster
from vlmdesc.concepts.naming import frame, name, unit
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.errors import InputError
from vlmdesc.evaluation.suggest import halves
from vlmdesc.text import counted

EACH = 20  # errors that a cluster has on average, at least
MOST = 6  # clusters
WORDS = 3


@dataclass(frozen=True)
class Grouping:
    """Groups of images (N,): None for the half that they were found on, the name of its concept for each other.

    `words` are each group's best words, `sizes` how many errors each was found from.
    """

    groups: tuple[str | None, ...]
    words: dict[str, tuple[str, ...]]
    sizes: dict[str, int]


def by_concepts(
    photos: Labelled,
    answers: Int[np.ndarray, " n"],
    words: Sequence[str],
    vectors: Float32[np.ndarray, "v d"],
    seed: int = 0,
) -> Grouping:
    """Cluster the errors of one half of the images by how they differ from their class, and sort the other half.

    Groups made of errors hold too many of them: rates are honest only on images that had no part in making them.
    Class means are taken off first, so that groups cut across classes. Raises: InputError for too few errors.
    """
    half = halves(photos.labels, photos.contents, (), seed)
    residual = unit(_without_class(photos.vectors, photos.labels)).astype(np.float32)
    alone = np.linalg.norm(residual, axis=1) == 0  # a class's only image does not differ from it
    errors = (answers != photos.labels) & (half == 0) & ~alone
    k = min(MOST, int(errors.sum()) // EACH)
    if k < 2:
        what = f"{counted(int(errors.sum()), 'error')} among the half of the images that groups are made of"
        raise InputError(what, fix=f"give more images, {2 * EACH} errors at least, or a --group-column")
    number, centres = cluster(residual[errors], k, seed)
    titles, best = _names(centres, words, vectors, photos.vectors, seed)
    nearest = (residual @ centres.T).argmax(axis=1)
    groups = tuple(titles[c] if half[i] and not alone[i] else None for i, c in enumerate(nearest.tolist()))
    sizes = np.bincount(number, minlength=k).tolist()
    return Grouping(groups, dict(zip(titles, best, strict=True)), dict(zip(titles, sizes, strict=True)))


def _without_class(vectors: Float32[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> np.ndarray:
    sums = np.zeros((int(labels.max()) + 1, vectors.shape[1]))
    np.add.at(sums, labels, vectors)
    return vectors - (sums / np.maximum(np.bincount(labels), 1)[:, None])[labels]


def _names(
    centres: Float32[np.ndarray, "k d"],
    words: Sequence[str],
    vectors: Float32[np.ndarray, "v d"],
    images: Float32[np.ndarray, "n d"],
    seed: int,
) -> tuple[list[str], list[tuple[str, ...]]]:
    """A title for each centre, no two alike, and its best words; a title with "?" where no name beats chance."""
    found = name(centres, frame(vectors, images), differences=True, unique=True, seed=seed)
    best = [tuple(hit.text for hit in found.hits(c, words, WORDS)) for c in range(len(centres))]
    titles = list[str]()
    for c, list_ in enumerate(best):
        title = f"images like {list_[0]}" + ("" if found.chosen[c] >= 0 else "?")
        titles.append(title if title not in titles else f"{title} ({c + 1})")
    return titles, best
