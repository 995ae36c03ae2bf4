"""Many images through an encoder: threads read and decode while the model works on the batch before.

With a collection of the store, what an encoder has seen once comes from there, and each batch is kept as soon as it is
encoded.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from vlmdesc.embeddings.collection import Collection
from vlmdesc.embeddings.image import NOTES, DecodedImage, content_key, contents, open_image
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.sources import sources_of
from vlmdesc.errors import ImageError, InputError, ModelError, StoreError
from vlmdesc.records.progress import note

T = TypeVar("T")
BATCH_SIZE = 32
TASK = 4  # images a thread takes at a time: the store is asked for all of them at once
WAITING = 8  # batches of images held back, to give them out in order, before one goes to the model not quite full


@dataclass(frozen=True)
class Encoded:
    """One image's key, unit-norm vector (D,), notes for its owner, content key, and whether it needed no encoding."""

    key: str
    vector: Float32[np.ndarray, " d"]
    notes: tuple[str, ...]
    content: bytes
    stored: bool = False


@dataclass(frozen=True)
class _Read:
    key: str
    content: bytes
    raw: bytes | DecodedImage


@dataclass(frozen=True)
class _Ready:
    key: str
    content: bytes
    pixels: UInt8[np.ndarray, "h w 3"]
    notes: tuple[str, ...]


def encode_images(
    encoder: Encoder,
    images: object,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    collection: Collection | None = None,
    must_keep: bool = False,
) -> Iterator[Encoded | ImageError]:
    """The embedding of each image that `images` stands for, or the ImageError that says why there is none, in order.

    `images` is whatever `sources_of` takes: paths, bytes, PIL images, arrays, a list of these, a DataLoader, a folder.
    They are read as they are needed: memory holds a few batches of prepared pixels, however many there are. An
    ImageError among them comes out in its place. With `must_keep` a store that cannot be written is an error; without,
    it is noted and the work goes on.
    Raises: InputError for what stands for no images, or a batch size or workers below 1; StoreError.
    """
    sources = sources_of(images)
    workers = default_workers() if workers is None else workers
    for what, number in (("batch size", batch_size), ("workers", workers)):
        if number < 1:
            raise InputError(f"{what} {number}", fix="use 1 or more")
    keep = Keeper(collection, must_keep)
    queue: list[Encoded | _Ready | ImageError] = []  # seen but not given out yet
    batch: dict[bytes, _Ready] = {}  # of these, what the model has to see: each content once
    for item in read_ahead(_Look(encoder, collection), sources, ahead=2 * batch_size, workers=workers):
        if isinstance(item, _Ready) and item.content not in batch:
            # Another process, or an earlier batch, may have been faster than our look.
            known = _look_up(collection, [_Read(item.key, item.content, b"")])[0]
            if isinstance(known, Encoded):
                item = known
            else:
                batch[item.content] = item
        queue.append(item)
        if not batch or len(batch) == batch_size or len(queue) >= WAITING * batch_size:
            yield from _given_out(encoder, queue, batch, keep)
            queue, batch = [], {}
    yield from _given_out(encoder, queue, batch, keep)


def default_workers() -> int:
    """Threads that read and decode: one a core, eight at most."""
    return min(8, os.cpu_count() or 1)


def _given_out(
    encoder: Encoder, queue: Sequence[Encoded | _Ready | ImageError], batch: dict[bytes, _Ready], keep: Keeper
) -> Iterator[Encoded | ImageError]:
    """The queue with everything encoded that was not yet; kept before it is given out."""
    found = dict(zip(batch, _forward(encoder, [*batch.values()]), strict=True))
    new = [item for item in found.values() if isinstance(item, Encoded)]
    if new:
        notes = [sum(1 << NOTES.index(note) for note in item.notes) for item in new]
        keep([item.content for item in new], np.stack([item.vector for item in new]), notes)
    for item in queue:
        if not isinstance(item, _Ready):
            yield item
        elif isinstance(result := found[item.content], Encoded):
            copy = item is not batch[item.content]
            yield replace(result, key=item.key, stored=copy)
        else:
            yield ImageError(result.code, result.what, where=item.key, fix=result.fix)


class Keeper:
    """Puts embeddings in the store, if there is one. What fails is an error, or noted once and not tried again."""

    def __init__(self, collection: Collection | None, must_keep: bool = False) -> None:
        self._collection, self._must_keep = collection, must_keep

    def __call__(self, keys: Sequence[bytes], vectors: Float32[np.ndarray, "n d"], notes: Sequence[int] = ()) -> None:
        if self._collection is None:
            return
        try:
            self._collection.put(keys, vectors, notes)
        except StoreError as error:
            if self._must_keep:
                raise
            note(f"embeddings are not kept: {error}")
            self._collection = None


def _forward(encoder: Encoder, ready: Sequence[_Ready]) -> list[Encoded | ImageError]:
    """Embeddings of a batch; where the model fails on it, of each image alone, so that only the culprit is lost."""
    if not ready:
        return []
    try:
        vectors = encoder.forward(np.stack([item.pixels for item in ready]))
    except ModelError as error:
        if len(ready) > 1:
            return [found for item in ready for found in _forward(encoder, [item])]
        return [ImageError("model", error.what, where=ready[0].key, fix=error.fix)]
    return [Encoded(item.key, vector, item.notes, item.content) for item, vector in zip(ready, vectors, strict=True)]


def _look_up(collection: Collection | None, read: Sequence[_Read]) -> Sequence[_Read | Encoded]:
    """What the collection has of these images, and the others as they are."""
    if collection is None:
        return read
    found = collection.get([item.content for item in read])
    return [
        Encoded(item.key, vector, tuple(n for i, n in enumerate(NOTES) if note >> i & 1), item.content, stored=True)
        if good
        else item
        for item, vector, note, good in zip(read, found.vectors, found.notes.tolist(), found.good, strict=True)
    ]


class _Look:
    """What a thread does with a few sources: read them, ask the store, decode what it has not."""

    def __init__(self, encoder: Encoder, collection: Collection | None) -> None:
        self._encoder, self._collection = encoder, collection
        self._turn = Lock()  # of big images: one at a time, from decoding until only the encoder's pixels are left

    def __call__(self, first: int, sources: list[Any]) -> list[Encoded | _Ready | ImageError]:
        items = [self._read(first + i, source) for i, source in enumerate(sources)]
        read = [item for item in items if isinstance(item, _Read)]
        known = iter(_look_up(self._collection, read))
        looked = (next(known) if isinstance(item, _Read) else item for item in items)
        return [self._prepare(item) if isinstance(item, _Read) else item for item in looked]

    def _read(self, number: int, source: Any) -> _Read | ImageError:
        key = str(source) if isinstance(source, (str, os.PathLike)) else f"image {number}"
        try:
            if isinstance(source, ImageError):
                return source
            raw = contents(source, key)
            return _Read(key, content_key(raw), raw)
        except ImageError as error:
            return error

    def _prepare(self, item: _Read) -> _Ready | ImageError:
        fit_px, decoded = self._encoder.image_px, item.raw
        try:
            with ExitStack() as held:
                if isinstance(decoded, bytes):
                    take_turn = partial(held.enter_context, self._turn)
                    decoded = open_image(decoded, where=item.key, fit_px=fit_px, when_big=take_turn)
                return _Ready(item.key, item.content, self._encoder.prepare(decoded.image).pixels, decoded.notes)
        except ImageError as error:
            return error
        except Exception as error:  # one image that an encoder chokes on must not end a batch
            return ImageError("broken", f"cannot be prepared: {error}", where=item.key, fix="export it again")


def read_ahead(
    look: Callable[[int, list[Any]], list[T]], sources: Iterable[Any], ahead: int, workers: int
) -> Iterator[T]:
    """What `look(number of the first, sources)` makes of a few sources at a time, in threads, in the order given.

    At most about `ahead` sources are read before they are wanted.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[list[T]]] = deque()
        try:
            for first, task in _tasks(sources):
                if _keeps(task[0]):
                    waiting.append(pool.submit(look, first, task))
                else:
                    waiting.append(Future())
                    waiting[-1].set_result(look(first, task))
                if len(waiting) * TASK > ahead:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:  # a consumer that stops early waits for the images in hand only
            for future in waiting:
                future.cancel()


def _keeps(source: object) -> bool:
    """Whether it stays as it is. The owner of others may move them on, as ImageSequence does: they are read at once."""
    return isinstance(getattr(source, "source", source), (str, os.PathLike, bytes, ImageError))


def _tasks(sources: Iterable[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Sources in lists of a few, each with the number of its first; one that may change is a list of its own."""
    number = 0
    for stays, run in groupby(sources, _keeps):
        while task := [*islice(run, TASK if stays else 1)]:
            yield number, task
            number += len(task)
