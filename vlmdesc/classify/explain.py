"""Reasons: the columns of the similarity matrix, shown to a person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classify.score import TINY, Columns, ranking
from vlmdesc.records import Contrast, Hit, Hits

Vector = Float32[np.ndarray, " d"]


def because(image: Vector, class_: int, columns: Columns, said: Sequence[str]) -> Hits:
    """The descriptors of one class and their similarity to the image, best first. `said[m]` is what row m says.

    What a class has in common with every other is in these figures too; `contrast` takes it out.
    """
    rows = columns.rows_of(class_)
    similarity = columns.texts[rows] @ image
    return _hits(rows, similarity, said)


def reasons(
    images: Float32[np.ndarray, "n d"], classes: Int[np.ndarray, " n"], columns: Columns, k: int
) -> tuple[Int[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """The k descriptors of each image's class that are most similar to it, best first, and how similar they are.

    (N, k) numbers of columns and (N, k) similarities; -1 and NaN where a class has fewer.
    """
    rows, values = np.full((len(images), k), -1, np.intp), np.full((len(images), k), np.nan, np.float32)
    for class_ in np.unique(classes):
        of_class, at = columns.rows_of(int(class_)), np.flatnonzero(classes == class_)
        similarity = images[at] @ columns.texts[of_class].T
        best = ranking(similarity, k)
        rows[at, : best.shape[1]] = of_class[best]
        values[at, : best.shape[1]] = np.take_along_axis(similarity, best, axis=1)
    return rows, values


def contrast(
    image: Vector, pair: tuple[Hit, Hit], numbers: tuple[int, int], pool: str, columns: Columns, said: Sequence[str]
) -> Contrast:
    """Which descriptors put the first class of `pair` ahead of the second on this image, and by how much.

    With s halfway between the two scores, a descriptor of the first adds (its part of the score) - (its share) * s,
    one of the second the opposite, so the contributions add up to the margin exactly, for every pooling.
    """
    parts = [_parts(image, number, pool, columns) for number in numbers]
    level = sum(float(part.sum()) for _, _, part in parts) / 2
    of = [
        _hits(rows, sign * (part - share * level), said)
        for (rows, share, part), sign in zip(parts, (1, -1), strict=True)
    ]
    return Contrast(*pair, pair[0].score - pair[1].score, *of)


def _parts(image: Vector, class_: int, pool: str, columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a class, the share each holds (they add up to 1), and the part of the score it gives (to the score)."""
    rows = columns.rows_of(class_)
    similarity = columns.texts[rows] @ image
    if pool == "max":
        best = rows[[similarity.argmax()]]
        return best, np.ones(1, np.float32), similarity[[similarity.argmax()]]
    share = columns.shares[rows]
    norm = max(TINY, float(np.linalg.norm(columns.means[class_]))) if pool == "renormalized" else 1.0
    return rows, share, share * similarity / norm


def _hits(rows: np.ndarray, values: np.ndarray, said: Sequence[str]) -> Hits:
    order = np.argsort(-values, kind="stable")
    return tuple(Hit(str(rows[i]), float(values[i]), said[rows[i]]) for i in order)
