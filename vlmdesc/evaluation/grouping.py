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
from vlmdesc.evaluation.candidates import halves
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

    @property
    def text(self) -> str:
        """How the groups came about, as a sentence."""
        found = "; ".join(f"{title}: {', '.join(of)} ({self.sizes[title]} errors)" for title, of in self.words.items())
        return (
            f"Groups were proposed from clusters of the errors among one half of the images, and these are the other "
            f"half. {found}." + (" A name with ? is no better than chance." if "?" in found else "")
        )


def group_by_concepts(
    images: Labelled,
    answers: Int[np.ndarray, " n"],
    words: Sequence[str],
    vectors: Float32[np.ndarray, "v d"],
    seed: int = 0,
) -> Grouping:
    """Cluster the errors of one half of the images by how they differ from their class, and sort the other half.

    Groups made of errors hold too many of them: rates are honest only on images that had no part in making them.
    Class means are taken off first, so that groups cut across classes. A title has a "?" where no name beats chance.
    Raises: InputError for too few errors.
    """
    half = halves(images.labels, images.contents, (), seed)
    sums = np.zeros((int(images.labels.max()) + 1, images.vectors.shape[1]))
    np.add.at(sums, images.labels, images.vectors)
    means = sums / np.maximum(np.bincount(images.labels), 1)[:, None]
    residual = unit(images.vectors - means[images.labels]).astype(np.float32)
    alone = np.linalg.norm(residual, axis=1) == 0  # a class's only image does not differ from it
    errors = (answers != images.labels) & (half == 0) & ~alone
    k = min(MOST, int(errors.sum()) // EACH)
    if k < 2:
        what = f"{counted(int(errors.sum()), 'error')} among the half of the images that groups are made of"
        raise InputError(what, fix=f"give more images, {2 * EACH} errors at least, or a --group-column")
    number, centres = cluster(residual[errors], k, seed)
    found = name(centres, frame(vectors, images.vectors), differences=True, unique=True, seed=seed)
    best, sizes, titles = dict[str, tuple[str, ...]](), dict[str, int](), list[str]()
    for c in range(k):
        hits = tuple(hit.text for hit in found.hits(c, words, WORDS))
        title = f"images like {hits[0]}" + ("" if found.chosen[c] >= 0 else "?")
        titles.append(title if title not in best else f"{title} ({c + 1})")
        best[titles[c]], sizes[titles[c]] = hits, int((number == c).sum())
    nearest = (residual @ centres.T).argmax(axis=1).tolist()
    groups = tuple(titles[c] if half[i] and not alone[i] else None for i, c in enumerate(nearest))
    return Grouping(groups, best, sizes)
