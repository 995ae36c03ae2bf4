"""The images of a data set on their way into an index: each through the encoder once in its life."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from vlmdesc.concepts.nearest import Some
from vlmdesc.concepts.rows import Origin, Rows, rows_of
from vlmdesc.embeddings.data import DataSet, Item
from vlmdesc.embeddings.embed import embedding, save_failures
from vlmdesc.embeddings.pipeline import BATCH_SIZE, Encoded
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.embeddings.vectors import StoredVectors
from vlmdesc.errors import ImageError, InputError
from vlmdesc.records.progress import Progress, counter, silent
from vlmdesc.text import counted

Data = DataSet | str | Path | Iterable[str | Path]
EncoderSource = Encoder | str | Callable[[], Encoder]  # itself, its name, or what loads it


@dataclass(frozen=True)
class Changes:
    """What an index's last change did, in images: how many came, took the place of an older state, were there already,
    were taken out; how many were encoded; and those that could not be used, with their labels.
    """

    new: int = 0
    changed: int = 0
    same: int = 0
    removed: int = 0
    encoded: int = 0
    failed: tuple[ImageError, ...] = ()
    failed_labels: tuple[str | None, ...] = ()

    def save_errors(self, path: str | Path) -> None:
        """Write a JSON line for each image that could not be used. Raises: StoreError."""
        save_failures(path, self.failed, self.failed_labels)


@dataclass(frozen=True)
class Loading:
    """How images are read and encoded; with `strict` the first that cannot be used is raised."""

    store: Store | None
    batch_size: int = BATCH_SIZE
    workers: int | None = None
    strict: bool = False
    progress: Progress = silent


@dataclass(frozen=True)
class Collected:
    """The rows of a data set, what happened to its images, and what gives the vectors of some of the rows."""

    rows: Rows
    changes: Changes
    vectors: Callable[[Rows], Some]


def collect(data: DataSet, encoder: Encoder, loading: Loading) -> Collected:
    """Embed what the store does not have of a data set's images.

    Raises: InputError when not one can be used; StoreError; ImageError.
    """
    collection = loading.store.images(encoder) if loading.store else None
    tick, here = counter(loading.progress, "embedding", data.n), dict[bytes, np.ndarray]()
    failed, labels, encoded = list[ImageError](), list[str | None](), 0

    def usable() -> Iterator[tuple[int, Item, bytes]]:
        nonlocal encoded
        items = embedding(data, encoder, collection, batch_size=loading.batch_size, workers=loading.workers)
        for number, (item, found) in enumerate(items):
            tick(1)
            if isinstance(found, Encoded):
                encoded += not found.stored
                if not collection:
                    here[found.content] = found.vector
                yield number, item, found.content
            elif loading.strict:
                raise found
            else:
                failed.append(found)
                labels.append(item.label)

    rows = rows_of(usable(), Origin.of(data))
    if not len(rows):
        first = tuple(str(error) for error in failed[:10])
        what = f"no image that can be used of {counted(len(failed), 'image')}"
        raise InputError(what, where=data.name, fix="give others", details=first)
    if not data.opened:  # its images cannot be opened again, and are known by what they are
        digest = hashlib.sha256(b"".join(rows.column("content"))).hexdigest()
        rows = Rows(rows.table, (Origin((f"in memory {digest[:16]}",)),))
    changes = Changes(encoded=encoded, failed=tuple(failed), failed_labels=tuple(labels))

    def vectors(some: Rows) -> Some:
        keys = some.column("content")
        if collection:
            return StoredVectors(collection, keys)
        return np.array([here[key] for key in keys], np.float32).reshape(len(keys), encoder.dim)

    return Collected(rows, changes, vectors)


def merge_rows(old: Rows, new: Rows) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " m"]]:
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
