"""Data sets into an index: each image through the encoder once in its life, and each row once in the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from vlmdesc.concepts.index import Index, Plan, change
from vlmdesc.concepts.rows import Origin, Rows, rows_of
from vlmdesc.embeddings.data import Item
from vlmdesc.embeddings.embed import embedding
from vlmdesc.embeddings.pipeline import BATCH_SIZE, Encoded
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.embeddings.vectors import StoredVectors
from vlmdesc.errors import ImageError, InputError


@dataclass(frozen=True)
class Collected:
    """The rows of a data set, and the store that has their embeddings."""

    rows: Rows
    store: Store
    encoder: Encoder

    def vectors(self, rows: Rows | None = None) -> StoredVectors:
        """The vectors of these rows, or of some of them, as they are kept."""
        collection = self.store.images(self.encoder)
        return StoredVectors(collection, (self.rows if rows is None else rows).column("content"))


def collect(
    origin: Origin,
    encoder: Encoder,
    store: Store | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    seen: Callable[[Item, Encoded | ImageError], object] = lambda item, found: None,
) -> Collected:
    """Embed what the store does not have of a data set's images. `seen` hears of each, and of those that failed.

    Raises: InputError when not one can be used; StoreError.
    """
    store = store or Store()
    collection = store.images(encoder)
    items = embedding(origin.open(), encoder, collection, batch_size=batch_size, workers=workers)

    def usable() -> Iterator[tuple[int, Item, bytes]]:
        for number, (item, found) in enumerate(items):
            seen(item, found)
            if isinstance(found, Encoded):
                yield number, item, found.content

    rows = rows_of(usable(), origin)
    if not len(rows):
        raise InputError("no image that can be used", where=", ".join(origin.data), fix="see the errors above")
    return Collected(rows, store, encoder)


@dataclass(frozen=True)
class Added:
    """How many rows came, how many took the place of an older state of the same image, how many were there."""

    new: int
    changed: int
    same: int


def add(folder: Path, collected: Collected, tick: Callable[[int], object] = lambda done: None) -> tuple[Index, Added]:
    """Put images into an index; one that is there already stays, and one that has changed is replaced.

    Raises: ModelError when they were embedded by another model; InputError and StoreError as `open_index` does.
    """
    came = gone = 0

    def plan(old: Index) -> Plan:
        nonlocal came, gone
        old.check(collected.encoder.fingerprint)
        keep, fresh = merged(old.rows, collected.rows)
        came, gone = int(fresh.sum()), int((~keep).sum())
        more = collected.rows.keep(fresh)
        return keep, collected.vectors(more), more

    _, after = change(folder, plan, tick)
    return after, Added(came - gone, gone, len(collected.rows) - came)


def merged(old: Rows, new: Rows) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " m"]]:
    """Which old rows stay, and which new ones are to be put beside them: not those that say the same, or less."""
    old_keys, new_keys = old.keys(), new.keys()
    incoming = dict(zip(new_keys, zip(new.column("content"), new.column("label"), strict=True), strict=True))
    states = zip(old.column("content"), old.column("label"), strict=True)
    same = {
        key
        for key, (content, label) in zip(old_keys, states, strict=True)
        if incoming.get(key) in ((content, label), (content, None))  # a folder of one class does not say which it is
    }
    keep = np.array([key in same or key not in incoming for key in old_keys], bool)
    return keep, np.array([key not in same for key in new_keys], bool)
