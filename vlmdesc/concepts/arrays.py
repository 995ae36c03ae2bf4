"""Arrays in one safetensors file, of which is known beforehand what they are: any other file is refused unread."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

TYPES: dict[str, np.dtype[Any]] = {  # as safetensors names them
    "F32": np.dtype(np.float32),
    "I64": np.dtype(np.int64),
    "U8": np.dtype(np.uint8),
}
LARGEST = 1e4  # number in a file: products stay finite, and float16 has it
BLOCK = 16_384  # vectors read at a time

Layout = dict[str, tuple[str, tuple[int, ...]]]  # each array's type and shape, in the order of the file


def header(layout: Layout) -> bytes:
    """What a file of these arrays begins with."""
    about, end = {}, 0
    for name, (kind, shape) in layout.items():
        start, end = end, end + _bytes(kind, shape)
        about[name] = {"dtype": kind, "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(kind: str, shape: tuple[int, ...]) -> int:
    return TYPES[kind].itemsize * math.prod(shape)


def map_arrays(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The arrays in a file, not read yet. Raises: ValueError when it is no file of just these; FileNotFoundError."""
    first, arrays = header(layout), {}
    end, data = len(first), np.memmap(path, np.uint8, "r")
    if len(data) != end + sum(_bytes(*entry) for entry in layout.values()) or data[:end].tobytes() != first:
        raise ValueError("not the arrays that the card says")
    for name, (kind, shape) in layout.items():
        start, end = end, end + _bytes(kind, shape)
        arrays[name] = np.asarray(data[start:end]).view(TYPES[kind]).reshape(shape)
    return arrays


def check_numbers(floats: Shaped[np.ndarray, "n d"]) -> None:
    """Raises: ValueError for a number that is not finite, or far beyond what vectors have."""
    for start in range(0, len(floats), BLOCK):
        block = floats[start : start + BLOCK]
        if block.size and not (block.min() > -LARGEST and block.max() < LARGEST):  # NaN is neither
            raise ValueError("numbers that no vector has")
