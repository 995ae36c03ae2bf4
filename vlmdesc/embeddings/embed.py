"""A data set or texts through an encoder and into the store: each content once in its life."""

from __future__ import annotations

import hashlib
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from vlmdesc.embeddings.collection import Collection
from vlmdesc.embeddings.data import DataSet, Item, load_data
from vlmdesc.embeddings.image import Source
from vlmdesc.embeddings.pipeline import BATCH_SIZE, Encoded, Keeper, encode_images
from vlmdesc.embeddings.protocol import Encoder, warn_of_long
from vlmdesc.embeddings.store import Store
from vlmdesc.embeddings.vectors import StoredVectors
from vlmdesc.errors import ImageError, VlmdescWarning
from vlmdesc.records import Embeddings
from vlmdesc.records.progress import Progress, counter, silent

TEXTS_AT_ONCE = 256


def embed(
    data: DataSet | str | Path | Iterable[Source],
    encoder: Encoder,
    store: Store | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    strict: bool = False,
) -> Embeddings:
    """Embeddings (N, D) of a data set's images, in its order, read from the store as they are indexed.

    `data` is a data set, what `load_data` takes for one, or images.
    Only content the store does not have goes through the encoder; it is kept batch by batch, so that an interrupted
    run goes on where it was. `keys` are the ids of the rows. Images that cannot be used are left out and warned of.
    Raises: ImageError for the first of these with `strict`; StoreError when the store cannot be written or read.
    """
    if isinstance(data, (str, Path)):
        data = load_data(data)
    collection = (store or Store()).images(encoder)
    items = data if isinstance(data, DataSet) else (Item(_id(n, source), source) for n, source in enumerate(data))
    keys, contents, failed = [], [], []
    for item, found in embedding(items, encoder, collection, batch_size=batch_size, workers=workers):
        if isinstance(found, Encoded):
            keys.append(item.id)
            contents.append(found.content)
        elif strict:
            raise found
        else:
            failed.append(found)
    if failed:
        message = f"{len(failed)} of {len(failed) + len(keys)} images could not be used; the first: {failed[0]}"
        warnings.warn(message, VlmdescWarning, stacklevel=2)
    return Embeddings(StoredVectors(collection, contents), tuple(keys), encoder.fingerprint)


def embedding(
    items: Iterable[Item],
    encoder: Encoder,
    collection: Collection | None,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
) -> Iterator[tuple[Item, Encoded | ImageError]]:
    """Each item with its embedding, kept where there is a collection, or the ImageError that names it; in order."""
    pending: deque[Item] = deque()

    def sources() -> Iterator[Source | ImageError]:
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
        warn_of_long(encoder, [*vectors])  # of the others the encoder warns
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


def _id(number: int, source: Source) -> str:
    return f"image {number}" if isinstance(source, bytes) or hasattr(source, "getexif") else str(source)


def _where(item: Item) -> str:
    return item.id if isinstance(item.source, (bytes, ImageError)) else str(item.source)
