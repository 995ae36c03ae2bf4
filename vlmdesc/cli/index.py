"""vlmdesc index"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmdesc.cli.border import bordered, say
from vlmdesc.cli.embed import Errors, Strict
from vlmdesc.cli.indexing import about, collect, encoder_of, lasting, leave, lines, short, ticking, trial_texts
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
    open_encoder,
)
from vlmdesc.errors import ImageError, InputError, StoreError
from vlmdesc.text import counted, did_you_mean, few, shown

if TYPE_CHECKING:
    from vlmdesc.concepts.copies import Copies
    from vlmdesc.concepts.index import Index

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
    from vlmdesc.concepts import nearest
    from vlmdesc.concepts.card import Model as Card
    from vlmdesc.concepts.index import check_place, create
    from vlmdesc.concepts.rows import Origin

    check_place(out, replace)
    origin = Origin.of(dataset, split=split, image_column=image_column, label_column=label_column, id_column=id_column)
    encoder = open_encoder(model, device, precision)
    collected, tally = collect(origin, encoder, batch_size, workers, errors, strict)
    card = Card(lasting(model), encoder.precision, encoder.fingerprint)
    n = len(collected.rows)
    texts = trial_texts(encoder) if n > nearest.EXACT_ROWS and recall < 1 else encoder.texts([])
    with ticking("indexing", n) as tick:
        made = create(out, collected.vectors(), collected.rows, card, texts, recall=recall, replace=replace, tick=tick)
    summary = about(made) | {"new": tally.counts["new"], "failed": len(tally.failures)}
    print(json.dumps(summary) if as_json else "\n".join(lines(made)))
    leave(tally)


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
    from vlmdesc.concepts.collect import add as put
    from vlmdesc.concepts.index import open_index
    from vlmdesc.concepts.rows import Origin

    old = open_index(folder)
    origin = Origin.of(dataset, split=split, image_column=image_column, label_column=label_column, id_column=id_column)
    encoder = encoder_of(old, model, device)
    collected, tally = collect(origin, encoder, batch_size, workers, errors, strict)
    with ticking("indexing", len(collected.rows)) as tick:
        new, added = put(folder, collected, tick)
    if as_json:
        counts = {"new": added.new, "changed": added.changed, "same": added.same, "failed": len(tally.failures)}
        print(json.dumps(about(new) | counts))
    else:
        print(f"{added.new:,} new, {added.changed:,} changed, {added.same:,} there already")
        print("\n".join(lines(new)))
    leave(tally)


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
    import numpy as np

    from vlmdesc.concepts.fetch import gone
    from vlmdesc.concepts.index import Plan, change
    from vlmdesc.concepts.rows import Rows

    if not (ids or filters or missing):
        raise InputError("nothing to take out", fix="name ids, or use --filter or --missing")

    def plan(old: Index) -> Plan:
        rows = old.rows
        out = rows.where(filters) if filters else np.zeros(len(rows), bool)
        for id_ in ids or ():
            named = rows.fits("id", id_) | rows.fits("id", os.path.abspath(id_))  # files have their whole path
            if not named.any():
                hint = did_you_mean(id_, map(short, rows.column("id")))
                raise InputError(f"no image '{id_}'", where=folder, fix=f"{hint}* stands for anything")
            out |= named
        if missing:
            out[gone(rows)] = True
        return ~out, np.empty((0, 0), np.float32), Rows.none()

    before, after = change(folder, plan)
    taken = len(before) - len(after)
    print(json.dumps(about(after) | {"removed": taken}) if as_json else f"{counted(taken, 'image')} taken out")


def info(folder: Folder, as_json: Json = False) -> None:
    """Say what an index holds: how many images, of which data sets, by which model, and how it is searched."""
    from vlmdesc.concepts.index import open_index

    found = open_index(folder)
    print(json.dumps(about(found)) if as_json else "\n".join(lines(found)))


def verify(folder: Folder, as_json: Json = False) -> None:
    """Check an index: its files against their checksums, every vector, and whether the images are still there.

    The exit status is 1 when images are gone.
    """
    from vlmdesc.concepts.fetch import gone
    from vlmdesc.concepts.index import open_index

    found = open_index(folder)
    bad, lost = found.nearest.bad(), gone(found.rows)
    if bad:
        raise StoreError(f"{counted(bad, 'vector')} not of norm 1", where=folder, fix="build it again with --replace")
    state = f"{counted(len(lost), 'image')} gone" if lost else "all images there"
    if as_json:
        print(json.dumps(about(found) | {"gone": found.rows.column("id", lost)}))
    else:
        print(f"{shown(folder)}: {len(found):,} vectors whole, {state}")
    if lost:
        say(f"{shown(few(found.rows.column('id', lost)))}; vlmdesc index rm {shown(folder)} --missing takes them out")
        raise typer.Exit(ImageError.exit_code)


def dups(folder: Folder, threshold: Threshold = 0.95, montage: Montage = None, as_json: Json = False) -> None:
    """List groups of images that are the same or nearly: copies, resaved, shrunk, cropped a little.

    How alike copies are, and how alike others can be, differs from model to model: look at the groups of the lowest
    similarity, and move --threshold.

    Example: vlmdesc index dups photos.idx --montage copies.png
    """
    from vlmdesc.cli.montage import check_montage, draw_rows
    from vlmdesc.concepts.copies import copies
    from vlmdesc.concepts.index import open_index

    if montage:
        check_montage(montage)
    found = open_index(folder)
    with ticking("comparing", len(found)) as tick:
        groups = copies(found, threshold, tick)
    if as_json:
        print(
            json.dumps([{"similarity": round(g.similarity, 6), "ids": found.rows.column("id", g.rows)} for g in groups])
        )
    else:
        _list(found, groups)
    if montage and groups:
        rows = [row for group in groups for row in group.rows]
        captions = [f"group {n}" for n, group in enumerate(groups, 1) for _ in group.rows]
        draw_rows(montage, found, rows, captions)


def _list(found: Index, groups: tuple[Copies, ...]) -> None:
    for group in groups[:SHOWN]:
        print(f"{counted(len(group.rows), 'image')}, similarity {group.similarity:.3f}")
        for id_ in found.rows.column("id", group.rows):
            print(f"  {shown(short(id_))}")
    if len(groups) > SHOWN:
        print(f"and {counted(len(groups) - SHOWN, 'more group')}; --json lists all")
    extra = sum(len(group.rows) - 1 for group in groups)
    say(f"{counted(len(groups), 'group')}, {counted(extra, 'image')} more than needed")


for _command in (build, add, rm, info, verify, dups):
    index.command()(bordered(_command))
