"""What is looked for: images and texts, and those that are not wanted, as one direction; and what is found."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int
from PIL import Image

from vlmdesc.concepts.nearest import Nearest
from vlmdesc.concepts.rows import Rows
from vlmdesc.concepts.sheet import draw
from vlmdesc.embeddings.find import SUFFIXES
from vlmdesc.embeddings.image import is_image
from vlmdesc.errors import InputError
from vlmdesc.text import counted, did_you_mean

FAINT = 1e-3  # the length of a sum in which nothing is left


@dataclass(frozen=True)
class Match:
    """An image that was found: its row in the index, its id (of a file the path), its label, and its score."""

    row: int
    id: str
    label: str | None
    score: float


Query = str | Path | bytes | Image.Image | Match


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The images that were found, best first, for what was wanted and what was not."""

    index: str
    model: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]
    hits: tuple[Match, ...]
    rows: Rows

    def __len__(self) -> int:
        return len(self.hits)

    def __repr__(self) -> str:
        hits = ", ".join(f"{Path(hit.id).name} {hit.score:.3f}" for hit in self.hits[:3])
        return f"<SearchResult {' + '.join(self.wanted)}: {counted(len(self), 'image')}; {hits}>"

    def __iter__(self) -> Iterator[Match]:
        return iter(self.hits)

    def __getitem__(self, number: int) -> Match:
        return self.hits[number]

    def to_dict(self) -> dict[str, Any]:
        query = {"wanted": [*self.wanted], "not": [*self.unwanted]}
        hits = [{"id": hit.id, "label": hit.label, "score": round(hit.score, 6)} for hit in self.hits]
        return {"index": self.index, "model": self.model, **query, "hits": hits}

    def montage(self, path: str | Path) -> int:
        """Draw a contact sheet (PNG), each image with rank, score, and label or name; how many are on it.

        Raises: StoreError.
        """
        captions = [
            f"{rank} ({hit.score:.2f}) {hit.label or Path(hit.id).name}" for rank, hit in enumerate(self.hits, 1)
        ]
        return draw(Path(path), self.rows, [hit.row for hit in self.hits], captions)


def as_list(given: Any) -> list[Any]:
    """One thing, or several."""
    return [*given] if isinstance(given, Iterable) and not is_image(given) else [given]


def parse(query: object) -> Query:
    """A part of a query as it is meant: a string that names a file is an image, any other a text.

    Raises: InputError for what is neither, or seems an image but is none.
    """
    if not isinstance(query, str):
        if isinstance(query, Match) or is_image(query):
            return query  # type: ignore[return-value]
        what = f"{type(query).__name__} where a text or an image is meant"
        raise InputError(what, fix="give a text, a path, bytes, a PIL image, or what was found before")
    path = Path(query)
    if not query.strip():
        raise InputError("an empty text", fix="say what to look for")
    if os.path.isdir(path) and os.sep in query:
        raise InputError("a folder", where=query, fix="give one image, or words")
    if os.path.lexists(path) and not os.path.isdir(path):  # a word may be a folder's name too
        return path
    if path.suffix.lower() in SUFFIXES:
        near = [other.name for other in path.parent.glob("*")]
        raise InputError("no such image", where=query, fix=f"{did_you_mean(path.name, near)}check the path")
    return query


def wording(query: Query) -> str:
    """A part of a query as a person reads it."""
    return query.id if isinstance(query, Match) else str(query) if isinstance(query, (str, Path)) else "an image"


def compose(
    wanted: Float32[np.ndarray, "w d"], unwanted: Float32[np.ndarray, "u d"] | None = None
) -> Float32[np.ndarray, " d"]:
    """The unit vector along the sum of unit vectors less the sum of others: (W, D), (U, D) -> (D,).

    Raises: InputError when what is wanted is taken away again.
    """
    total = wanted.sum(axis=0) - (0 if unwanted is None else unwanted.sum(axis=0))
    length = float(np.linalg.norm(total))
    if length < FAINT:
        raise InputError("what is not wanted takes all away that is", fix="change one of the two")
    return total / np.float32(length)


def find(
    vectors: Nearest,
    rows: Rows,
    query: Float32[np.ndarray, " d"],
    k: int,
    filters: Sequence[str] = (),
    leave_out: Sequence[bytes] = (),
) -> tuple[Int[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """Rows of the k best images for a query, best first, and their inner products with it; fewer where there are.

    `filters` are as `Rows.where` takes them; `leave_out` are keys of contents that are not wanted, such as the query's
    own. Raises: InputError for a filter that no row fits; ShapeError for a query of another width.
    """
    allowed = rows.where(filters) if filters else None
    own = rows.with_content(leave_out) if leave_out else np.empty(0, np.int64)
    scores, found = vectors.search(query[None], min(k + len(own), len(rows)), allowed)
    kept = (found[0] >= 0) & ~np.isin(found[0], own)
    return found[0][kept][:k], scores[0][kept][:k]


def matches(rows: Rows, found: Int[np.ndarray, " k"], scores: Float32[np.ndarray, " k"]) -> tuple[Match, ...]:
    """Rows that were found, as a person reads them."""
    columns = rows.column("id", found), rows.column("label", found)
    return tuple(map(Match, found.tolist(), *columns, scores.tolist()))
