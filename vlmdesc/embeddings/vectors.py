"""Vectors that stay in the store until they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from vlmdesc.embeddings.segment import KEY_BYTES, prefixes
from vlmdesc.errors import StoreError

if TYPE_CHECKING:
    from vlmdesc.embeddings.collection import Collection


@dataclass(frozen=True)
class Holdings:
    """What a collection has of some keys. Only rows that are `good` mean anything."""

    vectors: Float32[np.ndarray, "n ..."]
    notes: UInt8[np.ndarray, " n"]
    good: Bool[np.ndarray, " n"]


class StoredVectors:
    """The vectors (N, D) of some keys, in the store until they are indexed; each is checked as it is read.

    Slices and index arrays give numpy arrays, `np.asarray` all of it. Pickled, it is its keys and where the store is.
    Raises: StoreError where one is damaged or missing.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, collection: Collection, keys: Sequence[bytes]) -> None:
        self._collection, self._keys = collection, b"".join(keys)
        self.segments = collection.segments  # as of now: what is merged away later stays mapped
        wanted = np.frombuffer(self._keys, np.uint8).reshape(len(keys), KEY_BYTES)
        prefix = prefixes(wanted)
        self.segment, self._row = np.full(len(keys), -1), np.full(len(keys), -1)
        for number, segment in enumerate(self.segments):
            todo = np.flatnonzero(self.segment < 0)
            if not todo.size:
                break
            found = segment.find(wanted[todo], prefix[todo])
            self.segment[todo[found >= 0]], self._row[todo] = number, found
        self.shape = (len(keys), *(self.segments[0].shape if self.segments else collection.kind.shape or (0,)))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        keys = [self._keys[i : i + KEY_BYTES] for i in range(0, len(self._keys), KEY_BYTES)]
        return StoredVectors, (self._collection, keys)

    def read(self, wanted: Int[np.ndarray, " k"]) -> Holdings:
        """The embeddings of these of the keys, each checked."""
        segment, row = self.segment[wanted], self._row[wanted]
        vectors = np.empty((len(wanted), *self.shape[1:]), np.float32)
        notes, good = np.zeros(len(wanted), np.uint8), np.zeros(len(wanted), bool)
        for number in np.unique(segment[segment >= 0]):
            at = np.flatnonzero(segment == number)
            at = at[np.argsort(row[at], kind="stable")]  # in the order of the file
            notes[at] = self.segments[number].records.notes[row[at]]
            good[at] = self.segments[number].read_into(row[at], vectors, at)
        return Holdings(vectors, notes, good)

    def __getitem__(self, wanted: Any) -> np.ndarray:
        rows = np.arange(len(self))[wanted]
        found = self.read(np.atleast_1d(rows))
        if not found.good.all():
            what = f"{int((~found.good).sum())} of {found.good.size} embeddings are damaged"
            fix = "embed the data set again: the damaged ones are made anew"
            raise StoreError(what, where=self._collection.folder, fix=fix)
        return found.vectors.reshape(*np.shape(rows), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)
