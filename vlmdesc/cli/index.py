"""vlmdesc index"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say, say_notes, with_border
from vlmdesc.cli.embed import Errors, Strict, check_errors, list_failed
from vlmdesc.cli.montage import check_montage
from vlmdesc.cli.options import (
    BatchSize,
    DataSource,
    Device,
    IdColumn,
    ImageColumn,
    Json,
    LabelColumn,
    Model,
    Precision,
    Split,
    Workers,
    open_data,
    open_encoder,
)
from vlmdesc.errors import ImageError
from vlmdesc.text import counted, few, shown

if TYPE_CHECKING:
    from vlmdesc import Index

index = typer.Typer(help="Indexes of images, for vlmdesc search and vlmdesc name.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="An index: the folder that vlmdesc index build made.", metavar="IDX")]
Out = Annotated[Path, typer.Option("--out", help="The folder to make.", metavar="IDX")]
Recall = Annotated[
    float,
    typer.Option(
        min=0.01,
        max=1,
        help="Beyond 100,000 images: the share of the exact 10 nearest that a search must find. 1 is exact search.",
    ),
]
Replace = Annotated[bool, typer.Option("--replace", help="In place of the index that is there.")]
Filters = Annotated[
    list[str],
    typer.Option(
        "--filter",
        help="Only images with label=PATTERN or id=PATTERN, where * stands for anything; may be given again.",
        metavar="COLUMN=PATTERN",
    ),
]
ItsModel = Annotated[
    str,
    typer.Option("--model", help="Where the index's model is now, if no longer where it was.", show_default="its own"),
]
TakenOut = Annotated[
    list[str],
    typer.Option("--filter", help="Those with label=PATTERN, or id=PATTERN.", metavar="COLUMN=PATTERN"),
]
Patterns = Annotated[
    list[str] | None, typer.Argument(help="Ids (paths) of those to take out; * stands for anything.", metavar="[ID...]")
]
Missing = Annotated[bool, typer.Option("--missing", help="Those whose file is gone.")]
Threshold = Annotated[float, typer.Option(min=-1, max=1, help="How alike two images are, as a cosine.")]
Montage = Annotated[Path | None, typer.Option(help="Draw a contact sheet.", metavar="FILE.png")]
SHOWN = 20  # groups of copies that are listed


def build(
    dataset: DataSource,
    out: Out,
    model: Model = "",
    precision: Precision = "fp32",
    recall: Recall = 0.95,
    replace: Replace = False,
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    device: Device = "auto",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    id_column: IdColumn = "",
    split: Split = "",
    errors: Errors = Path("errors.jsonl"),
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Make an index of a data set's images. Embeddings that vlmdesc embed has kept are read, missing ones are made.

    Up to 100,000 images every search is exact. Beyond, images go into lists of which a search looks into a few; how
    many is chosen by the recall that is wanted, and the recall that was measured is said.

    Example: vlmdesc index build photos/ --out photos.idx
    """
    from vlmdesc.cli.progress import bars

    check_errors(errors)
    data = open_data(dataset, image_column=image_column, label_column=label_column, id_column=id_column, split=split)
    encoder = partial(open_encoder, model, device, precision)
    with bars() as progress:
        made = vd.Index.build(
            data,
            encoder,
            out,
            recall=recall,
            replace=replace,
            batch_size=batch_size,
            workers=workers or None,
            strict=strict,
            progress=progress,
        )
    _finish(made, errors, as_json, new=made.changes.encoded)


def add(
    folder: Folder,
    dataset: DataSource,
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    device: Device = "auto",
    model: ItsModel = "",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    id_column: IdColumn = "",
    split: Split = "",
    errors: Errors = Path("errors.jsonl"),
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Add a data set's images to an index. What is in it already stays, and what has changed is replaced.

    Example: vlmdesc index add photos.idx photos/
    """
    from vlmdesc.cli.progress import bars

    check_errors(errors)
    index = vd.Index.open(folder, model, device=device)
    data = open_data(dataset, image_column=image_column, label_column=label_column, id_column=id_column, split=split)
    with bars() as progress:
        index = index.add(data, batch_size=batch_size, workers=workers or None, strict=strict, progress=progress)
    new, changed, same = index.changes.new, index.changes.changed, index.changes.same
    if not as_json:
        print(f"{new:,} new, {changed:,} changed, {same:,} there already")
    _finish(index, errors, as_json, new=new, changed=changed, same=same)


def _finish(index: Index, errors: Path, as_json: bool, **counts: int) -> None:
    """Say what an index is now, and which images could not be used."""
    failed = index.changes.failed
    print(json.dumps(index.to_dict() | counts | {"failed": len(failed)}) if as_json else "\n".join(_lines(index)))
    say_notes(index.notes)
    list_failed(failed, index.changes.save_errors, errors)


def rm(
    folder: Folder,
    ids: Patterns = None,
    filters: TakenOut = [],  # noqa: B006 - typer copies it
    missing: Missing = False,
    as_json: Json = False,
) -> None:
    """Take images out of an index: by id, by label, or those whose file is gone. No image is deleted.

    Example: vlmdesc index rm photos.idx --missing
    """
    index = vd.Index.open(folder).remove(ids or (), filters=filters, missing=missing)
    taken = index.changes.removed
    print(json.dumps(index.to_dict() | {"removed": taken}) if as_json else f"{counted(taken, 'image')} taken out")


def info(folder: Folder, as_json: Json = False) -> None:
    """Say what an index holds: how many images, of which data sets, by which model, and how it is searched."""
    index = vd.Index.open(folder)
    print(json.dumps(index.to_dict()) if as_json else "\n".join(_lines(index)))


def verify(folder: Folder, as_json: Json = False) -> None:
    """Check an index: its files against their checksums, every vector, and whether the images are still there.

    The exit status is 1 when images are gone.
    """
    index = vd.Index.open(folder)
    gone = index.verify()
    state = f"{counted(len(gone), 'image')} gone" if gone else "all images there"
    text = f"{shown(folder)}: {len(index):,} vectors whole, {state}"
    print(json.dumps(index.to_dict() | {"gone": gone}) if as_json else text)
    if gone:
        say(f"{shown(few(gone))}; vlmdesc index rm {shown(folder)} --missing takes them out")
        raise typer.Exit(ImageError.exit_code)


def dups(folder: Folder, threshold: Threshold = 0.95, montage: Montage = None, as_json: Json = False) -> None:
    """List groups of images that are the same or nearly: copies, resaved, shrunk, cropped a little.

    How alike copies are, and how alike others can be, differs from model to model: look at the groups of the lowest
    similarity, and move --threshold.

    Example: vlmdesc index dups photos.idx --montage copies.png
    """
    from vlmdesc.cli.progress import bars

    if montage:
        check_montage(montage)
    index = vd.Index.open(folder)
    with bars() as progress:
        found = index.duplicates(threshold, progress)
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        for group in found.groups[:SHOWN]:
            print(f"{counted(len(group.ids), 'image')}, similarity {group.similarity:.3f}")
            print("\n".join(f"  {shown(short(id_))}" for id_ in group.ids))
        if len(found) > SHOWN:
            print(f"and {counted(len(found) - SHOWN, 'more group')}; --json lists all")
        extra = sum(len(group.ids) - 1 for group in found.groups)
        say(f"{counted(len(found), 'group')}, {counted(extra, 'image')} more than needed")
    if montage and len(found):
        draw(found, montage)


def draw(found: Any, path: Path) -> None:
    """Draw the contact sheet of a result, and say so. Raises: StoreError."""
    say(f"{counted(found.montage(path), 'image')}, drawn to {shown(path)}")


def short(id_: str) -> str:
    """A path as it is from here, if it lies below."""
    return id_.removeprefix(f"{Path.cwd()}{os.sep}")


def _lines(index: Index) -> list[str]:
    about = index.to_dict()
    labels = f", {counted(len(about['labels']), 'label')} ({few(about['labels'])})" if about["labels"] else ""
    how = f"{about['search']}, {counted(about['probes'], 'list')} a query" if about["probes"] else "exact"
    measured = ", ".join(f"{share:.3f} for {kind}" for kind, share in about["recall"].items())
    lines = [
        f"{about['index']}: {counted(len(index), 'image')}{labels}",
        f"of {few(map(short, about['data']))}",
        f"by {about['model']} in {about['precision']}, {about['dimensions']} dimensions",
        f"search: {how}" + (f"; recall@10 {measured}" if measured else ""),
    ]
    if index.outgrown:
        lines.append("it has outgrown its lists: vlmdesc index build --replace makes it faster")
    return [shown(line) for line in lines]


for _command in (build, add, rm, info, verify, dups):
    index.command()(with_border(_command))
