"""vlmdesc embed"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say, say_first, say_notes
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
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc.embeddings.embed import EmbedRun

Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")]
Errors = Annotated[Path, typer.Option(help="Where images that cannot be used are listed, if there are any.")]
StoreAs = Annotated[str, typer.Option(help="float32, or float16 for half the disk.", metavar="DTYPE")]


def embed(
    dataset: DataSource,
    model: Model = "",
    precision: Precision = "fp32",
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    device: Device = "auto",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    id_column: IdColumn = "",
    split: Split = "",
    store_as: StoreAs = "float32",
    errors: Errors = Path("errors.jsonl"),
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Encode a data set's images once and keep the embeddings; what is kept already is not encoded again.

    Every other command reads them from there. Images are known by their content, so moved or renamed ones are found
    again; an interrupted run goes on where it was. One that cannot be used is named and listed in errors.jsonl, and
    the exit status is then 1.

    Example: vlmdesc embed photos/ --model ViT-B-32/laion2b_s34b_b79k
    """
    from vlmdesc.cli.progress import bars

    check_errors(errors)
    store = vd.Store(dtype=store_as)
    data = open_data(dataset, image_column=image_column, label_column=label_column, id_column=id_column, split=split)
    encoder = open_encoder(model, device, precision)
    try:
        with bars() as progress:
            run = vd.embed(
                data, encoder, store, batch_size=batch_size, workers=workers or None, strict=strict, progress=progress
            )
    except KeyboardInterrupt:
        say("new embeddings are kept; the same command again goes on from there")
        raise
    say_notes(run.notes)
    print(json.dumps(run.to_dict()) if as_json else _sentences(run))
    list_failed(run.failed, run.save_errors, errors)


def check_errors(errors: Path) -> None:
    """Told before hours of work. Raises: InputError where the file of --errors has no folder."""
    if not errors.parent.is_dir():
        raise InputError("no such folder", where=errors.parent, fix="choose another place with --errors")


def list_failed(failed: Sequence[ImageError], save: Callable[[Path], None], errors: Path) -> None:
    """Name images that could not be used, list them in a file, and end with their exit code. Raises: StoreError."""
    say_first(failed)
    if failed:
        save(errors)
        say(f"{counted(len(failed), 'image')} could not be used, listed in {shown(errors)}")
        raise typer.Exit(ImageError.exit_code)


def _sentences(run: EmbedRun) -> str:
    about = run.to_dict()
    split = f", split {about['split']}" if about["split"] else ""
    lines = (
        f"{about['data']} ({about['form']}{split}): {counted(about['pictures'], 'image')}",
        f"{run.new:,} new, {run.stored:,} stored before, {len(run.failed):,} failed",
        f"by {about['encoder']} in {about['precision']}: {about['seconds']:,} s, {about['per_second']:,} a second",
        f"kept in {about['store']}",
    )
    return "\n".join(map(shown, lines))
