"""vlmdesc index"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.cli.border import bordered, say, size
from vlmdesc.cli.embed import Errors, Strict, Tally
from vlmdesc.cli.failures import write_failures
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
from vlmdesc.errors import ImageError, InputError, StoreError, counted, did_you_mean, few, shown

if TYPE_CHECKING:
    import numpy as np

    from vlmdesc.concepts.collect import Collected
    from vlmdesc.concepts.copies import Copies
    from vlmdesc.concepts.index import Index
    from vlmdesc.concepts.rows import Origin
    from vlmdesc.encode.data import Item
    from vlmdesc.encode.pipeline import Encoded
    from vlmdesc.encode.protocol import Encoder

index = typer.Typer(help="Indexes of pictures, for vlmdesc search and vlmdesc name.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="An index: the folder that vlmdesc index build made.", metavar="IDX")]
Out = Annotated[Path, typer.Option("--out", help="The folder to make.", metavar="IDX")]
Recall = Annotated[
    float,
    typer.Option(
        min=0.01,
        max=1,
        help="Beyond 100,000 pictures: the share of the exact 10 nearest that a search must find. 1 is exact search.",
    ),
]
Replace = Annotated[bool, typer.Option("--replace", help="In place of the index that is there.")]
Filters = Annotated[
    list[str],
    typer.Option(
        "--filter",
        help="Only pictures with label=PATTERN or id=PATTERN, where * stands for anything; may be given again.",
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
Trust = Annotated[
    bool, typer.Option("--trust-index", help="Use an index that was made elsewhere: only if you trust its maker.")
]
Threshold = Annotated[float, typer.Option(min=-1, max=1, help="How alike two pictures are, as a cosine.")]
Montage = Annotated[Path | None, typer.Option(help="Draw a contact sheet.", metavar="FILE.png")]
SHOWN = 20  # groups of copies that are listed
TRIAL_TEXTS = 200


def build(
    dataset: DataSource,
    out: Out,
    model: Model = "",
    precision: Precision = "auto",
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
    """Make an index of a data set's pictures. Embeddings that vlmdesc embed has kept are read, missing ones are made.

    Up to 100,000 pictures every search is exact. Beyond, pictures go into lists of which a search looks into a few; how
    many is chosen by the recall that is wanted, and the recall that was measured is said.

    Example: vlmdesc index build photos/ --out photos.idx
    """
    from vlmdesc.concepts import nearest
    from vlmdesc.concepts.card import Model as Card
    from vlmdesc.concepts.index import check_place, create
    from vlmdesc.concepts.rows import Origin

    check_place(out, replace)
    columns = {"image_column": image_column, "label_column": label_column, "id_column": id_column}
    origin = Origin.of(dataset, split=split, **columns)
    encoder = open_encoder(model, device, precision)
    collected, tally = _collect(origin, encoder, batch_size, workers, errors, strict)
    card = Card(_lasting(model), getattr(encoder, "precision", "fp32"), encoder.fingerprint)
    n = len(collected.rows)
    texts = _trial_texts(encoder) if n > nearest.EXACT_ROWS and recall < 1 else encoder.texts([])
    with _ticking("indexing", n) as tick:
        made = create(out, collected.vectors(), collected.rows, card, texts, recall=recall, replace=replace, tick=tick)
    summary = _about(made) | {"new": tally.counts["new"], "failed": len(tally.failures)}
    print(json.dumps(summary) if as_json else "\n".join(_lines(made)))
    _leave(tally)


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
    """Add a data set's pictures to an index. What is in it already stays, and what has changed is replaced.

    Example: vlmdesc index add photos.idx photos/
    """
    from vlmdesc.concepts.collect import add as put
    from vlmdesc.concepts.index import open_index
    from vlmdesc.concepts.rows import Origin

    old = open_index(folder)
    columns = {"image_column": image_column, "label_column": label_column, "id_column": id_column}
    origin = Origin.of(dataset, split=split, **columns)
    encoder = encoder_of(old, model, device)
    collected, tally = _collect(origin, encoder, batch_size, workers, errors, strict)
    with _ticking("indexing", len(collected.rows)) as tick:
        new, added = put(folder, collected, tick)
    if as_json:
        counts = {"new": added.new, "changed": added.changed, "same": added.same, "failed": len(tally.failures)}
        print(json.dumps(_about(new) | counts))
    else:
        print(f"{added.new:,} new, {added.changed:,} changed, {added.same:,} there already")
        print("\n".join(_lines(new)))
    _leave(tally)


def rm(
    folder: Folder,
    ids: Patterns = None,
    filters: TakenOut = [],  # noqa: B006 - typer copies it
    missing: Missing = False,
    as_json: Json = False,
) -> None:
    """Take pictures out of an index: by id, by label, or those whose file is gone. No picture is deleted.

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
                raise InputError(f"no picture '{id_}'", where=folder, fix=f"{hint}* stands for anything")
            out |= named
        if missing:
            out[gone(rows)] = True
        return ~out, np.empty((0, 0), np.float32), Rows.none()

    before, after = change(folder, plan)
    taken = len(before) - len(after)
    print(json.dumps(_about(after) | {"removed": taken}) if as_json else f"{counted(taken, 'picture')} taken out")


def info(folder: Folder, as_json: Json = False) -> None:
    """Say what an index holds: how many pictures, of which data sets, by which model, and how it is searched."""
    from vlmdesc.concepts.index import open_index

    found = open_index(folder)
    print(json.dumps(_about(found)) if as_json else "\n".join(_lines(found)))


def verify(folder: Folder, trust_index: Trust = False, as_json: Json = False) -> None:
    """Check an index: its files against their checksums, every vector, and whether the pictures are still there.

    The exit status is 1 when pictures are gone.
    """
    from vlmdesc.concepts.fetch import gone
    from vlmdesc.concepts.index import open_index, trust

    found = trust(folder) if trust_index else open_index(folder)
    bad, lost = found.nearest.bad(), gone(found.rows)
    if bad:
        raise StoreError(f"{counted(bad, 'vector')} not of norm 1", where=folder, fix="build it again with --replace")
    state = f"{counted(len(lost), 'picture')} gone" if lost else "all pictures there"
    if as_json:
        print(json.dumps(_about(found) | {"gone": found.rows.column("id", lost)}))
    else:
        print(f"{shown(folder)}: {len(found):,} vectors whole, {state}")
    if lost:
        say(f"{shown(few(found.rows.column('id', lost)))}; vlmdesc index rm {shown(folder)} --missing takes them out")
        raise typer.Exit(ImageError.exit_code)


def dups(folder: Folder, threshold: Threshold = 0.95, montage: Montage = None, as_json: Json = False) -> None:
    """List groups of pictures that are the same or nearly: copies, resaved, shrunk, cropped a little.

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
    with _ticking("comparing", len(found)) as tick:
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
        print(f"{counted(len(group.rows), 'picture')}, similarity {group.similarity:.3f}")
        for id_ in found.rows.column("id", group.rows):
            print(f"  {shown(short(id_))}")
    if len(groups) > SHOWN:
        print(f"and {counted(len(groups) - SHOWN, 'more group')}; --json lists all")
    extra = sum(len(group.rows) - 1 for group in groups)
    say(f"{counted(len(groups), 'group')}, {counted(extra, 'picture')} more than needed")


def _lasting(model: str) -> str:
    """--model as it will be understood from another folder too."""
    kind, mark, path = model.partition("/@" if "/@" in model else "local-dir:")
    return f"{kind}{mark}{os.path.abspath(path)}" if mark else model or "starter"


def encoder_of(index: Index, model: str, device: str) -> Encoder:
    """The encoder that an index's vectors are of. Raises: ModelError when it is another, or cannot be loaded."""
    card = index.card.model
    encoder = open_encoder(model or card.name, device, card.precision)
    index.check(encoder.fingerprint)
    return encoder


def short(id_: str) -> str:
    """A path as it is from here, if it lies below."""
    here = f"{Path.cwd()}{os.sep}"
    return id_.removeprefix(here)


def _collect(
    origin: Origin, encoder: Encoder, batch_size: int, workers: int, errors: Path, strict: bool
) -> tuple[Collected, Tally]:
    """A data set's pictures, embedded; those that failed are named and listed."""
    from vlmdesc.concepts.collect import collect

    if not errors.parent.is_dir():
        raise InputError("no such folder", where=errors.parent, fix="choose another place with --errors")
    tally = Tally()
    try:
        with _ticking("embedding", None) as tick:

            def seen(item: Item, found: Encoded | ImageError) -> None:
                tally.take(item, found, strict)
                tick(1)

            found = collect(origin, encoder, batch_size=batch_size, workers=workers or None, seen=seen)
    finally:
        if tally.failures:
            write_failures(errors, tally.failures)
            say(f"{counted(len(tally.failures), 'picture')} could not be used, listed in {shown(errors)}")
    return found, tally


def _trial_texts(encoder: Encoder) -> np.ndarray:
    """Texts to tune the lists with: words from the vocabulary."""
    from vlmdesc.concepts.vocabulary import shipped_words

    return encoder.texts(shipped_words()[:: len(shipped_words()) // TRIAL_TEXTS])


@contextmanager
def _ticking(what: str, total: int | None) -> Iterator[Callable[[int], object]]:
    from vlmdesc.cli.progress import stages

    with stages() as stage:
        yield stage(what, total)


def _leave(tally: Tally) -> None:
    if tally.failures:
        raise typer.Exit(ImageError.exit_code)


def _about(index: Index) -> dict[str, Any]:
    card = index.card
    return {
        "index": str(index.folder),
        "pictures": card.n,
        "labels": len(index.rows.labels()),
        "dimensions": card.dim,
        "model": card.model.name,
        "precision": card.model.precision,
        "fingerprint": card.model.fingerprint,
        "search": card.factory,
        "probes": card.probes,
        "recall": card.recall,
        "data": [" ".join(origin["data"]) for origin in card.origins],
        "bytes": sum(file.bytes for file in card.files.values()),
    }


def _lines(index: Index) -> list[str]:
    from vlmdesc.concepts.nearest import AT, EXACT_ROWS

    card, about = index.card, _about(index)
    labels = f", {counted(about['labels'], 'label')}" if about["labels"] else ""
    how = "exact" if not card.probes else f"{card.factory}, {counted(card.probes, 'list')} a query"
    measured = ", ".join(f"{share:.3f} for {kind}" for kind, share in card.recall.items())
    lines = [
        f"{index.folder}: {counted(card.n, 'picture')}{labels}, {size(about['bytes'])}",
        f"of {few(about['data'])}",
        f"by {card.model.name} in {card.model.precision}, {card.dim} dimensions",
        f"search: {how}" + (f"; recall@{AT} {measured}" if measured else ""),
    ]
    if card.n > 2 * max(card.built_for, EXACT_ROWS):
        lines.append("it has outgrown its lists: vlmdesc index build --replace makes it faster")
    return [shown(line) for line in lines]


for _command in (build, add, rm, info, verify, dups):
    index.command()(bordered(_command))
