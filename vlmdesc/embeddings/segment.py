"""One immutable file of embeddings: safetensors, rows in the order they came, a checksum for each row.

tensors    vectors (N, D) or of more axes, float32 or float16; keys (N, 32), notes (N,), checks (N, 16),
           sums (N / 256, 16) uint8
metadata   format, space (what encoder and what kind), engine (what computed them), replaces (files whose rows are all
           here); where no engine is named it was torch

A row's checksum covers the space, dtype and shape as well as its key, notes and vector: a row cannot be taken for
that of another model. The sum of every 256 rows spares whole blocks the check of each row. The file is named by its
rows, so that writing the same rows twice gives one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import xxhash
from jaxtyping import Bool, Float32, Int, Shaped, UInt8, UInt64
from safetensors.numpy import save

from vlmdesc.embeddings.kind import Kind, sides
from vlmdesc.files import write_atomic

FORMAT = 1
SUFFIX = ".safetensors"
ENGINE = "torch"
KEY_BYTES, CHECK_BYTES = 32, 16
BLOCK = 256  # rows that share a sum, and are checked and copied while they are in the processor's cache
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}


class Damaged(Exception):  # noqa: N818 - a finding, not a failure
    """A file is not the segment its name says; the message tells why."""


@dataclass(frozen=True)
class Records:
    """Embeddings with their content keys and notes, in memory or mapped from a file."""

    keys: UInt8[np.ndarray, "n 32"]
    notes: UInt8[np.ndarray, " n"]
    vectors: Shaped[np.ndarray, "n ..."]

    def take(self, rows: Shaped[np.ndarray, " k"] | slice) -> Records:
        """These rows."""
        return Records(self.keys[rows], self.notes[rows], self.vectors[rows])


@dataclass(frozen=True)
class Segment:
    """An opened file. Its arrays are mapped: what is not used is not read."""

    path: Path
    space: str
    kind: Kind
    engine: str
    replaces: frozenset[str]
    records: Records
    checks: UInt8[np.ndarray, "n 16"]
    sums: UInt8[np.ndarray, "b 16"]

    def __len__(self) -> int:
        return len(self.checks)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return self.records.vectors.shape[1:]

    @cached_property
    def _sorted(self) -> tuple[UInt64[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """The prefixes of all keys in ascending order, and the row of each."""
        found = prefixes(self.records.keys)
        order = np.argsort(found)
        return found[order], order

    def find(self, keys: UInt8[np.ndarray, "k 32"], prefix: UInt64[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """The row of each key, -1 where there is none; `prefix` is `prefixes(keys)`."""
        known, rows = self._sorted
        at = np.searchsorted(known, prefix)
        found = np.full(len(keys), -1)
        live = np.flatnonzero(known[np.minimum(at, len(self) - 1)] == prefix)
        while live.size:  # once, but for keys that differ after their first eight bytes only
            same = (self.records.keys[rows[at[live]]] == keys[live]).all(axis=1)
            found[live[same]] = rows[at[live[same]]]
            live = live[~same]
            at[live] += 1
            live = live[at[live] < len(self)]
            live = live[known[at[live]] == prefix[live]]
        return found

    def read_into(
        self, rows: Int[np.ndarray, " k"], vectors: Float32[np.ndarray, "n ..."], at: Int[np.ndarray, " k"]
    ) -> Bool[np.ndarray, " k"]:
        """Write the vectors of rows to `vectors[at]`; which are good, for what is not must not be used.

        Rows in ascending order are read in one sweep over the file.
        """
        good = np.empty(len(rows), bool)
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            wanted = _as_slice(rows[block])
            records = self.records.take(wanted)
            good[block] = self._intact(records, wanted) & self.kind.sound(records.vectors)
            vectors[_as_slice(at[block])] = records.vectors
        if self.kind.unit and self.records.vectors.dtype != np.float32:
            with np.errstate(divide="ignore", invalid="ignore"):  # of what is not good
                vectors[at] /= np.linalg.norm(vectors[at], axis=-1, keepdims=True)
        return good

    def _intact(self, records: Records, rows: Int[np.ndarray, " k"] | slice) -> Bool[np.ndarray, " k"] | np.bool_:
        kept = self._sum_of(rows)
        if kept and kept == block_sum(records, self.space):
            return np.True_
        return (checksums(records, self.space) == self.checks[rows]).all(axis=1)

    def _sum_of(self, rows: Int[np.ndarray, " k"] | slice) -> bytes:
        """The sum that was written for exactly these rows, empty where they are no whole block."""
        if isinstance(rows, slice) and not rows.start % BLOCK and rows.stop in (rows.start + BLOCK, len(self)):
            return self.sums[rows.start // BLOCK].tobytes()
        return b""

    def bad_rows(self) -> Int[np.ndarray, " k"]:
        """Numbers of the rows that fail their check."""
        scratch = np.empty((BLOCK, *self.shape), np.float32)
        starts = range(0, len(self), BLOCK)
        blocks = [np.arange(start, min(start + BLOCK, len(self))) for start in starts]
        return np.concatenate([rows[~self.read_into(rows, scratch, rows - rows[0])] for rows in blocks])


def _as_slice(rows: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"] | slice:
    """The same rows as a slice, if they follow one another: a view in place of a copy."""
    runs = bool((np.diff(rows) == 1).all())
    return slice(int(rows[0]), int(rows[-1]) + 1) if runs else rows


def prefixes(keys: UInt8[np.ndarray, "n 32"]) -> UInt64[np.ndarray, " n"]:
    """The first eight bytes of each key as a number, which orders as the keys do."""
    return np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def checksums(records: Records, space: str) -> UInt8[np.ndarray, "n 16"]:
    """XXH3-128 of each row's key, notes and vector, seeded by what all rows share."""
    vectors, seed = np.ascontiguousarray(records.vectors).reshape(len(records.keys), -1), _seed(records, space)
    n, width = len(vectors), KEY_BYTES + 1 + vectors.dtype.itemsize * vectors.shape[1]
    lines = np.empty((n, width), np.uint8)
    lines[:, :KEY_BYTES], lines[:, KEY_BYTES] = records.keys, records.notes
    lines[:, KEY_BYTES + 1 :] = vectors.view(np.uint8)
    flat = memoryview(lines.data).cast("B")
    digest = xxhash.xxh3_128_digest
    digests = b"".join([digest(flat[at : at + width], seed) for at in range(0, n * width, width)])
    return np.frombuffer(digests, np.uint8).reshape(n, CHECK_BYTES)


def block_sum(records: Records, space: str) -> bytes:
    """XXH3-128 of the keys, notes and vectors of some rows, seeded as theirs are."""
    digest = xxhash.xxh3_128(seed=_seed(records, space))
    for array in (records.keys, records.notes, records.vectors):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _seed(records: Records, space: str) -> int:
    vectors = records.vectors
    return xxhash.xxh3_64_intdigest(f"{FORMAT} {space} {vectors.dtype.str} {sides(vectors.shape[1:])}".encode())


def write_segment(folder: Path, records: Records, space: str, engine: str, replaces: Iterable[str] = ()) -> Path:
    """Write records as a segment, durable when this returns; of equal keys the first is kept. Raises: StoreError."""
    records = _unique(records)
    n = len(records.keys)
    blocks = [records.take(slice(start, start + BLOCK)) for start in range(0, n, BLOCK)]
    checks = np.concatenate([checksums(block, space) for block in blocks])
    sums = np.frombuffer(b"".join(block_sum(block, space) for block in blocks), np.uint8).reshape(-1, CHECK_BYTES)
    path = folder / f"{n}-{hashlib.sha256(checks.tobytes()).hexdigest()[:32]}{SUFFIX}"
    older = " ".join(sorted({*replaces} - {path.name}))  # one of those merged may hold all the rows
    metadata = {"format": str(FORMAT), "space": space, "engine": engine, "replaces": older}
    arrays = {"vectors": records.vectors, "keys": records.keys, "notes": records.notes}
    tensors = arrays | {"checks": checks, "sums": sums}
    write_atomic(path, save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata))
    return path


def _unique(records: Records) -> Records:
    order = np.lexsort(np.ascontiguousarray(records.keys).view(">u8").T[::-1])
    keys = records.keys[order]
    fresh = np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])
    return records.take(np.sort(order[fresh]))


def open_segment(path: Path, space: str, kind: Kind) -> Segment:
    """Map a segment. Raises: Damaged; OSError when the file cannot be opened at all."""
    with open(path, "rb"):  # safetensors tells a missing file from a closed one by no means
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            order = file.offset_keys()
            shapes = {key: (file.get_slice(key).get_dtype(), file.get_slice(key).get_shape()) for key in order}
    except (safetensors.SafetensorError, ValueError) as error:
        raise Damaged(f"not a whole safetensors file: {error}") from error
    n = next(iter(shapes.get("notes", ("", []))[1]), 0)
    expected = {"keys": ("U8", [n, KEY_BYTES]), "notes": ("U8", [n]), "checks": ("U8", [n, CHECK_BYTES])}
    expected["sums"] = ("U8", [-(-n // BLOCK), CHECK_BYTES])
    dtype, shape = shapes.pop("vectors", ("", []))
    if shapes != expected or dtype not in _DTYPES or not n or shape[:1] != [n] or not kind.fits(tuple(shape[1:])):
        raise Damaged("not the tensors of a segment")
    if metadata.get("format") != str(FORMAT) or metadata.get("space") != space:
        raise Damaged("of another encoder, kind or format")
    arrays = _map(path, order, {**shapes, "vectors": (dtype, shape)})
    records = Records(arrays["keys"], arrays["notes"], arrays["vectors"])
    engine, replaces = metadata.get("engine", ENGINE), frozenset(metadata.get("replaces", "").split())
    return Segment(path, space, kind, engine, replaces, records, arrays["checks"], arrays["sums"])


def _map(path: Path, order: list[str], shapes: dict[str, tuple[str, list[int]]]) -> dict[str, np.ndarray]:
    """The tensors of a file that safetensors has found whole: they stand one after the other at its end."""
    data = np.memmap(path, np.uint8, "r")
    arrays, end = {}, len(data)
    for name in reversed(order):
        dtype, shape = shapes[name]
        kind: np.dtype[Any] = _DTYPES.get(dtype, np.dtype(np.uint8))
        start = end - kind.itemsize * int(np.prod(shape))
        arrays[name] = np.asarray(data[start:end]).view(kind).reshape(shape)
        end = start
    return arrays
