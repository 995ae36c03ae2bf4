"""A data set or texts through an encoder and into the store: each content once in its life."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vlmdesc.embeddings.collection import Collection
from vlmdesc.embeddings.data import DataSet, Item, load_data
from vlmdesc.embeddings.load import encoder_of
from vlmdesc.embeddings.pipeline import BATCH_SIZE, Encoded, Keeper, encode_images
from vlmdesc.embeddings.protocol import Encoder, check_texts
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.embeddings.vectors import StoredVectors
from vlmdesc.errors import ImageError
from vlmdesc.files import write_atomic
from vlmdesc.records import Embeddings
from vlmdesc.records.progress import Progress, collect_notes, counter, silent
from vlmdesc.records.results import Vectors

TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class EmbedRun:
    """The embeddings of a data set, and what became of its images: how many were `new`, `stored` before, or `failed`.

    `encoder` has the name, fingerprint and precision of what made them, `store` is the folder that keeps them.
    """

    embeddings: Embeddings
    data: DataSet
    encoder: dict[str, str]
    new: int
    stored: int
    failed: tuple[ImageError, ...]
    failed_labels: tuple[str | None, ...]
    seconds: float
    store: str
    notes: tuple[str, ...]

    @property
    def vectors(self) -> Float32[np.ndarray, "n d"] | Vectors:
        """The embeddings (N, D)."""
        return self.embeddings.vectors

    @property
    def keys(self) -> tuple[str, ...]:
        """The id of each."""
        return self.embeddings.keys

    def __repr__(self) -> str:
        return f"EmbedRun({self.data.name}: {self.new} new, {self.stored} stored, {len(self.failed)} failed)"

    def to_dict(self) -> dict[str, Any]:
        n = self.new + self.stored + len(self.failed)
        return {
            "data": self.data.name,
            "form": self.data.table.form,
            "split": self.data.table.split,
            "pictures": n,
            "new": self.new,
            "stored": self.stored,
            "failed": len(self.failed),
            **self.encoder,
            "seconds": round(self.seconds, 2),
            "per_second": round(n / self.seconds, 1),
            "store": self.store,
        }

    def save_errors(self, path: str | Path) -> None:
        """Write errors.jsonl, a line for each image that could not be used. Raises: StoreError."""
        save_failures(path, self.failed, self.failed_labels)


def embed(
    data: object,
    encoder: Encoder | str = "starter",
    store: Store | bool = True,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> EmbedRun:
    """Embeddings (N, D) of a data set's images, in its order, read from the store as they are indexed.

    `data` is what `load_data` takes. Only content the store does not have goes through the encoder; it is kept batch by
    batch, so that an interrupted run goes on where it was. Keys are the ids of the rows. Images that cannot be used are
    left out, and are among `failed`.
    Raises: InputError; ImageError for the first of these with `strict`; StoreError when the store cannot be written.
    """
    data, kept, began = load_data(data), store_of(store), time.perf_counter()
    keys, contents, vectors, stored = list[str](), list[bytes](), list[np.ndarray](), 0
    failed: list[tuple[ImageError, str | None]] = []
    with collect_notes() as notes:
        encoder = encoder_of(encoder)
        collection = kept.images(encoder) if kept else None
        more = counter(progress, "images", data.n)
        with closing(embedding(data, encoder, collection, batch_size=batch_size, workers=workers)) as results:
            for item, found in results:
                if isinstance(found, Encoded):
                    keys.append(item.id)
                    contents.append(found.content)
                    vectors += [] if collection else [found.vector]
                    stored += found.stored
                elif strict:
                    raise found
                else:
                    failed.append((found, item.label))
                more(1)
    whole = np.stack(vectors) if vectors else np.empty((0, encoder.dim), np.float32)
    found_there = StoredVectors(collection, contents) if collection else whole
    return EmbedRun(
        Embeddings(found_there, tuple(keys), encoder.fingerprint),
        data,
        {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "precision": encoder.precision},
        new=len(keys) - stored,
        stored=stored,
        failed=tuple(error for error, _ in failed),
        failed_labels=tuple(label for _, label in failed),
        seconds=time.perf_counter() - began,
        store=str(collection.folder) if collection else "",
        notes=(*data.table.notes, *notes),
    )


def save_failures(path: str | Path, failed: Sequence[ImageError], labels: Sequence[str | None]) -> None:
    """Write a JSON line for each image that could not be used; where all could, no file is left. Raises: StoreError."""
    if not failed:
        Path(path).unlink(missing_ok=True)  # of an earlier run
        return
    lines = [
        {
            "path": error.where,
            "class": label,
            "stage": "encode" if error.code == "model" else "read",
            "code": error.code,
            "message": error.what,
        }
        for error, label in zip(failed, labels, strict=True)
    ]
    write_atomic(Path(path), "".join(json.dumps(line) + "\n" for line in lines).encode())


def embedding(
    items: Iterable[Item],
    encoder: Encoder,
    collection: Collection | None,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
) -> Generator[tuple[Item, Encoded | ImageError], None, None]:
    """Each item with its embedding, kept where there is a collection, or the ImageError that names it; in order."""
    pending: deque[Item] = deque()

    def sources() -> Iterator[Any]:
        for item in items:
            pending.append(item)
            yield item.source

    results = encode_images(
        encoder, sources(), batch_size=batch_size, workers=workers, collection=collection, must_keep=True
    )
    for found in results:
        item = pending.popleft()
        if isinstance(found, ImageError):
            found = ImageError(found.code, found.what, where=_where(item), fix=found.fix)
        yield item, found


def text_vectors(
    texts: Sequence[str], encoder: Encoder, store: Store | None = None, progress: Progress = silent
) -> Float32[np.ndarray, "m d"]:
    """Embeddings (M, D) of texts; those that a store does not have are encoded, and kept where it can be written.

    Notes texts longer than the encoder reads.
    """
    unique = sorted(dict.fromkeys(texts), key=lambda text: (len(text), text))
    collection, vectors = store.texts(encoder) if store else None, dict[str, np.ndarray]()
    if collection:
        found = collection.get([text_key(text) for text in unique])
        vectors = {text: found.vectors[i] for i, text in enumerate(unique) if found.good[i]}
        check_texts(encoder, [*vectors])  # the others the encoder checks
    missing, keep = [text for text in unique if text not in vectors], Keeper(collection)
    more = counter(progress, "texts", len(missing))
    for start in range(0, len(missing), TEXTS_AT_ONCE):
        chunk = missing[start : start + TEXTS_AT_ONCE]
        new = encoder.texts(chunk)
        vectors.update(zip(chunk, new, strict=True))
        keep([text_key(text) for text in chunk], new)
        more(len(chunk))
    return np.stack([vectors[text] for text in texts]) if texts else encoder.texts([])


def text_key(text: str) -> bytes:
    """SHA-256 of a text, exactly as it is: 32 bytes."""
    return hashlib.sha256(b"text\0" + text.encode("utf-8", "surrogatepass")).digest()


def _where(item: Item) -> str:
    return os.fspath(item.source) if isinstance(item.source, (str, os.PathLike)) else item.id
