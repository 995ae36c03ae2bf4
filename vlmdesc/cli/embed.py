"""vlmdesc embed"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmdesc.cli.border import say
from vlmdesc.cli.failures import NAMED, Failure, failure, write_failures
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
    from vlmdesc.embeddings.collection import Collection
    from vlmdesc.embeddings.data import DataSet, Item
    from vlmdesc.embeddings.pipeline import Encoded
    from vlmdesc.embeddings.protocol import Encoder

Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")]
Errors = Annotated[Path, typer.Option(help="Where images that cannot be used are listed, if there are any.")]
StoreAs = Annotated[str, typer.Option(help="float32, or float16 for half the disk.", metavar="DTYPE")]


@dataclass
class Tally:
    """What became of the images so far."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def take(self, item: Item, found: Encoded | ImageError, strict: bool = False) -> None:
        """Count an image; one that failed is named, or with `strict` raised."""
        if not isinstance(found, ImageError):
            self.counts["stored" if found.stored else "new"] += 1
            return
        if strict:
            raise found
        self.failures.append(failure(found, item.label))
        if len(self.failures) <= NAMED:
            say(f"error: {found}")


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
    from vlmdesc.embeddings.store import Store

    if not errors.parent.is_dir():  # told before hours of work
        raise InputError("no such folder", where=errors.parent, fix="choose another place with --errors")
    store = Store(dtype=store_as)
    data = open_data(dataset, image_column=image_column, label_column=label_column, id_column=id_column, split=split)
    for note in data.table.notes:
        say(shown(note))
    encoder = open_encoder(model, device, precision)
    collection = store.images(encoder)
    began = time.perf_counter()
    tally = _run(data, encoder, collection, batch_size, workers or None, strict)
    if tally.failures:
        write_failures(errors, tally.failures)
    summary = _summary(data, encoder, collection, tally, time.perf_counter() - began)
    print(json.dumps(summary) if as_json else _sentences(summary))
    if tally.failures:
        say(f"{counted(len(tally.failures), 'image')} could not be used, listed in {shown(errors)}")
        raise typer.Exit(ImageError.exit_code)


def _run(
    data: DataSet, encoder: Encoder, collection: Collection, batch_size: int, workers: int | None, strict: bool
) -> Tally:
    from vlmdesc.cli.progress import progress_bar
    from vlmdesc.embeddings.embed import embedding

    tally = Tally()
    with progress_bar() as progress:
        task = progress.add_task("embedding", total=data.n)
        try:
            for item, found in embedding(data, encoder, collection, batch_size=batch_size, workers=workers):
                tally.take(item, found, strict)
                progress.advance(task)
        except KeyboardInterrupt:
            say(f"{tally.counts['new']:,} new embeddings are kept; the same command again goes on from there")
            raise
    return tally


def _summary(
    data: DataSet, encoder: Encoder, collection: Collection, tally: Tally, seconds: float
) -> dict[str, str | int | float]:
    new, stored, failed = tally.counts["new"], tally.counts["stored"], len(tally.failures)
    return {
        "data": data.name,
        "form": data.table.form,
        "split": data.table.split,
        "pictures": new + stored + failed,
        "new": new,
        "stored": stored,
        "failed": failed,
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "precision": encoder.precision,
        "seconds": round(seconds, 2),
        "per_second": round((new + stored + failed) / seconds, 1),
        "store": str(collection.folder),
    }


def _sentences(summary: dict[str, str | int | float]) -> str:
    split = f", split {summary['split']}" if summary["split"] else ""
    seconds, rate = summary["seconds"], summary["per_second"]
    lines = (
        f"{summary['data']} ({summary['form']}{split}): {counted(int(summary['pictures']), 'image')}",
        f"{summary['new']:,} new, {summary['stored']:,} stored before, {summary['failed']:,} failed",
        f"by {summary['encoder']} in {summary['precision']}: {seconds:,} s, {rate:,} a second",
        f"kept in {summary['store']}",
    )
    return "\n".join(map(shown, lines))
