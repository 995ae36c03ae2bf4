"""Reasons: the columns of the similarity matrix, shown to a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.score import TINY, Columns, ranking
from vlmdesc.records import Contrast, Hit, Hits

Vector = Float32[np.ndarray, " d"]


def because(image: Vector, class_: int, columns: Columns, said: Sequence[str]) -> Hits:
    """The descriptors of one class and their similarity to the image, best first. `said[m]` is what row m says.

    What a class has in common with every other is in these figures too; `contrast` takes it out.
    """
    rows = columns.rows_of(class_)
    similarity = columns.texts[rows] @ image
    return _hits(similarity, [str(row) for row in rows], [said[row] for row in rows])


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


@dataclass(frozen=True)
class Side:
    """What one class's score is made of: key and text of each part, the share it holds, and what it gives.

    Shares add up to 1, or are 0 for what counts on top; what is given adds up to the score.
    """

    keys: Sequence[str]
    said: Sequence[str]
    share: Float32[np.ndarray, " r"]
    given: Float32[np.ndarray, " r"]


def set_against(pair: tuple[Hit, Hit], sides: tuple[Side, Side]) -> Contrast:
    """Which parts put the first class of `pair` ahead of the second, and by how much.

    With s halfway between the two scores, a part of the first adds (what it gives) - (its share) * s, one of the second
    the opposite, so the contributions add up to the margin exactly.
    """
    level = sum(float(side.given.sum()) for side in sides) / 2
    of = [
        _hits(sign * (side.given - side.share * level), side.keys, side.said)
        for side, sign in zip(sides, (1, -1), strict=True)
    ]
    return Contrast(*pair, pair[0].score - pair[1].score, *of)


def side(image: Vector, class_: int, pool: str, columns: Columns, said: Sequence[str]) -> Side:
    """The descriptors of a class: the share each holds, and the part of the score it gives."""
    rows = columns.rows_of(class_)
    similarity = columns.texts[rows] @ image
    if pool == "max":
        best = [int(similarity.argmax())]
        rows, share, given = rows[best], np.ones(1, np.float32), similarity[best]
    else:
        share = columns.shares[rows]
        norm = max(TINY, float(np.linalg.norm(columns.means[class_]))) if pool == "renormalized" else 1.0
        given = share * similarity / norm
    return Side([str(row) for row in rows], [said[row] for row in rows], share, given)


def _hits(values: np.ndarray, keys: Sequence[str], said: Sequence[str]) -> Hits:
    order = np.argsort(-values, kind="stable")
    return tuple(Hit(keys[i], float(values[i]), said[i]) for i in order)
