"""What is looked for: images and texts, and texts whose images are not wanted, as one direction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.concepts.index import Index
from vlmdesc.errors import InputError
from vlmdesc.records import Hit, Hits

FAINT = 1e-3  # the length of a sum in which nothing is left


def composed(
    wanted: Float32[np.ndarray, "w d"] | None, unwanted: Float32[np.ndarray, "u d"] | None = None
) -> Float32[np.ndarray, " d"]:
    """The unit vector along the sum of unit vectors less the sum of others, None for none: (W, D), (U, D) -> (D,).

    Raises: InputError when nothing is wanted, or when it is taken away again.
    """
    if wanted is None:
        raise InputError("nothing to look for", fix="give a text or an image")
    total = wanted.sum(axis=0) - (0 if unwanted is None else unwanted.sum(axis=0))
    length = float(np.linalg.norm(total))
    if length < FAINT:
        raise InputError("what is not wanted takes all away that is", fix="change one of the two")
    return total / np.float32(length)


def search(
    index: Index,
    query: Float32[np.ndarray, " d"],
    k: int,
    *,
    filters: Iterable[str] = (),
    leave_out: Sequence[bytes] = (),
) -> tuple[Int[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """Rows of the k best images for a query, best first, and their inner products with it; fewer where there are.

    `filters` are as `Rows.where` takes them; `leave_out` are keys of contents that are not wanted, such as the query's
    own. Raises: InputError for a filter that no row fits; ShapeError for a query of another width.
    """
    filters = (*filters,)
    allowed = index.rows.where(filters) if filters else None
    own = index.rows.with_content(leave_out) if leave_out else np.empty(0, np.int64)
    scores, rows = index.nearest.search(query[None], min(k + len(own), len(index)), allowed)
    kept = (rows[0] >= 0) & ~np.isin(rows[0], own)
    return rows[0][kept][:k], scores[0][kept][:k]


def hits(index: Index, rows: Int[np.ndarray, " k"], scores: Float32[np.ndarray, " k"]) -> Hits:
    """Rows that were found, as hits: the image's id, its score, and its label or nothing."""
    found = zip(index.rows.column("id", rows), scores.tolist(), index.rows.column("label", rows), strict=True)
    return tuple(Hit(id_, score, label or "") for id_, score, label in found)
