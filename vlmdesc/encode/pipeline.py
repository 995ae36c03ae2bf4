"""Many pictures through an encoder: threads decode while the model works on the batch before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8

from vlmdesc.encode.picture import Source, open_picture
from vlmdesc.encode.protocol import Encoder
from vlmdesc.errors import ImageError

BATCH_SIZE = 32


@dataclass(frozen=True)
class Encoded:
    """One picture's key, unit-norm vector (D,) and notes for its owner."""

    key: str
    vector: Float32[np.ndarray, " d"]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Ready:
    key: str
    pixels: UInt8[np.ndarray, "h w 3"]
    notes: tuple[str, ...]


def encode_pictures(
    encoder: Encoder, sources: Iterable[Source], *, batch_size: int = BATCH_SIZE, workers: int | None = None
) -> Iterator[Encoded | ImageError]:
    """Each source's embedding, or the ImageError that says why there is none, in the order given.

    Sources are read as they are needed: memory holds two batches of prepared pixels, however many there are.
    """
    ready = _prepared(encoder, sources, ahead=2 * batch_size, workers=workers or min(8, os.cpu_count() or 1))
    for batch in _batches(ready, batch_size):
        good = [item for item in batch if isinstance(item, _Ready)]
        vectors = iter(encoder.forward(np.stack([item.pixels for item in good])) if good else ())
        for item in batch:
            yield item if isinstance(item, ImageError) else Encoded(item.key, next(vectors), item.notes)


def _prepared(encoder: Encoder, sources: Iterable[Source], ahead: int, workers: int) -> Iterator[_Ready | ImageError]:
    turn = Lock()

    def prepare(number: int, source: Source) -> _Ready | ImageError:
        key = str(source) if isinstance(source, (str, Path)) else f"image {number}"
        try:
            picture = open_picture(source, fit_px=encoder.image_px, turn=turn)
            return _Ready(key, encoder.prepare(picture.image), picture.notes)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[_Ready | ImageError]] = deque()
        try:
            for number, source in enumerate(sources):
                waiting.append(pool.submit(prepare, number, source))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # a consumer that stops early waits for the pictures in hand only
            for future in waiting:
                future.cancel()


def _batches(items: Iterator[_Ready | ImageError], size: int) -> Iterator[list[_Ready | ImageError]]:
    batch: list[_Ready | ImageError] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
