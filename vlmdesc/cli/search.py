"""vlmdesc search"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmdesc.cli.index import Filters, Folder, ItsModel, Montage
from vlmdesc.cli.indexing import encoder_of, short
from vlmdesc.cli.options import Device, Json
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import did_you_mean, shown

if TYPE_CHECKING:
    import numpy as np

    from vlmdesc.concepts.index import Index
    from vlmdesc.embeddings.collection import Collection
    from vlmdesc.embeddings.protocol import Encoder

Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="Texts and image files to look for; several are looked for together.", metavar="[TEXT|IMAGE]..."
    ),
]
Not = Annotated[
    list[str],
    typer.Option("--not", help="A text or image that is not wanted; may be given again.", metavar="TEXT|IMAGE"),
]
Top = Annotated[int, typer.Option(min=1, help="Images shown.")]
Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Answer one query after another.")]


def search(
    folder: Folder,
    query: Words = None,
    unwanted: Not = [],  # noqa: B006 - typer copies it
    top: Top = 20,
    filters: Filters = [],  # noqa: B006
    montage: Montage = None,
    interactive: Interactive = False,
    model: ItsModel = "",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find images by words, by an image, or by both: the sum of what is wanted less what is not.

    Scores are cosines between an image and the query; they compare images, not queries or models. An image that is
    asked with is itself left out.

    Example: vlmdesc search photos.idx "a red car at night" --not people --montage found.png
    """
    from vlmdesc.cli.montage import check_montage
    from vlmdesc.concepts.index import open_index

    if interactive == bool(query):
        what = "a query and --interactive" if query else "nothing to look for"
        raise InputError(what, fix='say what, as in vlmdesc search IDX "a red car", or leave it out for --interactive')
    if montage:
        check_montage(montage)
    given = [(word, kind_of(word)) for word in (*(query or ()), *unwanted)]  # told before the model is loaded
    found = open_index(folder)
    if filters:
        found.rows.where(filters)
    asked = Asked(found, encoder_of(found, model, device), tuple(filters), top)
    if interactive:
        from vlmdesc.cli.interactive import converse

        converse(asked, as_json)
        return
    answer = asked.answer(given[: len(query or ())], given[len(query or ()) :])
    print(json.dumps(record(answer)) if as_json else "\n".join(lines(answer)))
    if montage:
        draw(answer, montage)


Word = tuple[str, str]  # what was written, and "text", "image" or "hit"


def kind_of(word: str) -> str:
    """Whether a word of a query is a "image" or a "text". Raises: InputError when it seems an image but is none."""
    from vlmdesc.embeddings.find import SUFFIXES

    path = Path(word)
    if not word.strip():
        raise InputError("an empty text", fix="say what to look for")
    if os.path.isdir(path) and os.sep in word:
        raise InputError("a folder", where=word, fix="give one image, or words")
    if os.path.lexists(path) and not os.path.isdir(path):  # a word may be a folder's name too
        return "image"
    if path.suffix.lower() in SUFFIXES:
        near = [other.name for other in path.parent.glob("*")]
        raise InputError("no such image", where=word, fix=f"{did_you_mean(path.name, near)}check the path")
    return "text"


@dataclass(frozen=True)
class Answer:
    """What was found: rows of the index, best first, and their scores."""

    index: Index
    wanted: Sequence[Word]
    unwanted: Sequence[Word]
    rows: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Asked:
    """An index and its model, kept warm for one question after another."""

    index: Index
    encoder: Encoder
    filters: tuple[str, ...]
    top: int

    @cached_property
    def _collection(self) -> Collection:
        from vlmdesc.embeddings.store import Store

        return Store().images(self.encoder)

    def answer(self, wanted: Sequence[Word], unwanted: Sequence[Word], last: Answer | None = None) -> Answer:
        """Raises: ImageError for an image that cannot be used; InputError for a query that says nothing."""
        import numpy as np

        from vlmdesc.concepts.query import composed, search

        own: list[bytes] = []
        directions = [
            np.stack([self._vector(word, own, last) for word in words]) if words else None
            for words in (wanted, unwanted)
        ]
        query = composed(*directions)
        rows, scores = search(self.index, query, self.top, filters=self.filters, leave_out=own)
        return Answer(self.index, wanted, unwanted, rows, scores)

    def _vector(self, word: Word, own: list[bytes], last: Answer | None) -> np.ndarray:
        from vlmdesc.embeddings.pipeline import encode_images

        text, kind = word
        if kind == "text":
            return self.encoder.texts([text])[0]
        if kind == "hit":
            if last is None or not 1 <= int(text) <= len(last.rows):
                raise InputError(f"no hit {text}", fix="ask first, then #1 is the first of what was found")
            row = last.rows[int(text) - 1 : int(text)]
            own.extend(self.index.rows.column("content", row))
            return self.index.nearest.vectors(row)[0]
        [found] = encode_images(self.encoder, [Path(text)], collection=self._collection)
        if isinstance(found, ImageError):
            raise found
        own.append(found.content)
        return found.vector


def record(answer: Answer) -> dict[str, object]:
    """An answer as the JSON that --json prints."""
    rows = answer.index.rows
    columns = (rows.column(name, answer.rows) for name in ("id", "label"))
    hits = [
        {"id": id_, "label": label, "score": round(score, 6)}
        for id_, label, score in zip(*columns, answer.scores.tolist(), strict=True)
    ]
    query = {"wanted": [word for word, _ in answer.wanted], "not": [word for word, _ in answer.unwanted]}
    return {"index": str(answer.index.folder), "model": answer.index.card.model.name, **query, "hits": hits}


def lines(answer: Answer) -> list[str]:
    """An answer for people: rank, score, label and id."""
    rows = answer.index.rows
    labels = [shown(label or "") for label in rows.column("label", answer.rows)]
    width = max(map(len, labels), default=0)
    found = zip(answer.scores.tolist(), labels, rows.column("id", answer.rows), strict=True)
    listed = [
        f"{rank:3d} {score:6.3f}  {label.ljust(width + 2) if width else ''}{shown(short(id_))}"
        for rank, (score, label, id_) in enumerate(found, 1)
    ]
    return listed or ["nothing found"]


def draw(answer: Answer, path: Path) -> None:
    """A contact sheet of an answer, each image with its rank, score, and label or name."""
    from vlmdesc.cli.montage import draw_rows

    rows = answer.index.rows
    names = zip(rows.column("label", answer.rows), rows.column("id", answer.rows), strict=True)
    captions = [
        f"{rank} ({score:.2f}) {label or Path(id_).name}"
        for rank, (score, (label, id_)) in enumerate(zip(answer.scores.tolist(), names, strict=True), 1)
    ]
    draw_rows(path, answer.index, answer.rows.tolist(), captions)
