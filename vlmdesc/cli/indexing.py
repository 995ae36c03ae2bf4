"""What the commands on indexes share: images into them, their model, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vlmdesc.cli.border import say
from vlmdesc.cli.embed import Tally
from vlmdesc.cli.failures import write_failures
from vlmdesc.cli.options import open_encoder
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, few, shown

if TYPE_CHECKING:
    import numpy as np

    from vlmdesc.concepts.collect import Collected
    from vlmdesc.concepts.index import Index
    from vlmdesc.concepts.rows import Origin
    from vlmdesc.embeddings.data import Item
    from vlmdesc.embeddings.pipeline import Encoded
    from vlmdesc.embeddings.protocol import Encoder

TRIAL_TEXTS = 200  # that the lists of a large index are tuned with


def lasting(model: str) -> str:
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


def collect(
    origin: Origin, encoder: Encoder, batch_size: int, workers: int, errors: Path, strict: bool
) -> tuple[Collected, Tally]:
    """A data set's images, embedded; those that failed are named and listed."""
    from vlmdesc.concepts import collect as concepts

    if not errors.parent.is_dir():
        raise InputError("no such folder", where=errors.parent, fix="choose another place with --errors")
    tally = Tally()
    try:
        with ticking("embedding", None) as tick:

            def seen(item: Item, found: Encoded | ImageError) -> None:
                tally.take(item, found, strict)
                tick(1)

            found = concepts.collect(origin, encoder, batch_size=batch_size, workers=workers or None, seen=seen)
    finally:
        if tally.failures:
            write_failures(errors, tally.failures)
            say(f"{counted(len(tally.failures), 'image')} could not be used, listed in {shown(errors)}")
    return found, tally


def trial_texts(encoder: Encoder) -> np.ndarray:
    """Texts to tune the lists with: words from the vocabulary."""
    from vlmdesc.concepts.vocabulary import shipped_words

    return encoder.texts(shipped_words()[:: len(shipped_words()) // TRIAL_TEXTS])


@contextmanager
def ticking(what: str, total: int | None) -> Iterator[Callable[[int], object]]:
    from vlmdesc.cli.progress import stages

    with stages() as stage:
        yield stage(what, total)


def leave(tally: Tally) -> None:
    if tally.failures:
        raise typer.Exit(ImageError.exit_code)


def about(index: Index) -> dict[str, Any]:
    card = index.card
    return {
        "index": str(index.folder),
        "pictures": card.n,
        "labels": index.rows.labels(),
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


def lines(index: Index) -> list[str]:
    from vlmdesc.concepts.nearest import AT, EXACT_ROWS

    card, facts, names = index.card, about(index), index.rows.labels()
    labels = f", {counted(len(names), 'label')} ({few(names)})" if names else ""
    how = "exact" if not card.probes else f"{card.factory}, {counted(card.probes, 'list')} a query"
    measured = ", ".join(f"{share:.3f} for {kind}" for kind, share in card.recall.items())
    lines = [
        f"{index.folder}: {counted(card.n, 'image')}{labels}",
        f"of {few(map(short, facts['data']))}",
        f"by {card.model.name} in {card.model.precision}, {card.dim} dimensions",
        f"search: {how}" + (f"; recall@{AT} {measured}" if measured else ""),
    ]
    if card.n > 2 * max(card.built_for, EXACT_ROWS):
        lines.append("it has outgrown its lists: vlmdesc index build --replace makes it faster")
    return [shown(line) for line in lines]
