"""vlmdesc search"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.index import Filters, Folder, ItsModel, Montage, draw, short
from vlmdesc.cli.montage import check_montage
from vlmdesc.cli.options import Device, Json
from vlmdesc.errors import InputError
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc import SearchResult

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
    if interactive == bool(query):
        what = "a query and --interactive" if query else "nothing to look for"
        raise InputError(what, fix='say what, as in vlmdesc search IDX "a red car", or leave it out for --interactive')
    if montage:
        check_montage(montage)
    index = vd.Index.open(folder, model, device=device)
    if interactive:
        from vlmdesc.cli.interactive import converse

        converse(index, top, filters, as_json)
        return
    found = index.search(query or (), minus=unwanted, top=top, filters=filters)
    print(json.dumps(found.to_dict()) if as_json else "\n".join(lines(found)))
    if montage:
        draw(found, montage)


def lines(found: SearchResult) -> list[str]:
    """What was found, for people: rank, score, label and id."""
    labels = [shown(hit.label or "") for hit in found]
    width = max(map(len, labels), default=0)
    listed = [
        f"{rank:3d} {hit.score:6.3f}  {label.ljust(width + 2) if width else ''}{shown(short(hit.id))}"
        for rank, (hit, label) in enumerate(zip(found, labels, strict=True), 1)
    ]
    return listed or ["nothing found"]
