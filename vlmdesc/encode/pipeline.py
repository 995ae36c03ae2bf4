"""Many pictures through an encoder: threads decode while the model works on the batch before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from vlmdesc.encode.picture import Source, open_picture
from vlmdesc.encode.protocol import Encoder
from vlmdesc.errors import ImageError, InputError, ModelError

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

    Sources are read as they are needed: memory holds a few batches of prepared pixels, however many there are.
    Raises: InputError for a batch size below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch size {batch_size}", fix="use 1 or more")
    ready = _prepared(encoder, sources, ahead=2 * batch_size, workers=workers or min(8, os.cpu_count() or 1))
    for batch in _batches(ready, batch_size):
        found = iter(_forward(encoder, [item for item in batch if isinstance(item, _Ready)]))
        for item in batch:
            yield item if isinstance(item, ImageError) else next(found)


def _forward(encoder: Encoder, ready: Sequence[_Ready]) -> list[Encoded | ImageError]:
    """Embeddings of a batch; where the model fails on it, of each picture alone, so that only the culprit is lost."""
    if not ready:
        return []
    try:
        vectors = encoder.forward(np.stack([item.pixels for item in ready]))
    except ModelError as error:
        if len(ready) > 1:
            return [found for item in ready for found in _forward(encoder, [item])]
        return [ImageError("model", error.what, where=ready[0].key, fix=error.fix)]
    return [Encoded(item.key, vector, item.notes) for item, vector in zip(ready, vectors, strict=True)]


def _prepared(encoder: Encoder, sources: Iterable[Source], ahead: int, workers: int) -> Iterator[_Ready | ImageError]:
    turn = Lock()  # of big pictures: one at a time, from decoding until only the encoder's few pixels are left of it

    def prepare(number: int, source: Source) -> _Ready | ImageError:
        key = str(source) if isinstance(source, (str, Path)) else f"image {number}"
        try:
            with ExitStack() as held:
                picture = open_picture(source, fit_px=encoder.image_px, when_big=lambda: held.enter_context(turn))
                return _Ready(key, encoder.prepare(picture.image), picture.notes)
        except ImageError as error:
            return error
        except Exception as error:  # one picture that an encoder chokes on must not end a batch
            return ImageError("broken", f"cannot be prepared: {error}", where=key, fix="export it again")

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[_Ready | ImageError]] = deque()
        try:
            for number, source in enumerate(sources):
                if isinstance(source, Image.Image):  # its owner may move it on, as ImageSequence does: read it now
                    waiting.append(Future())
                    waiting[-1].set_result(prepare(number, source))
                else:
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
