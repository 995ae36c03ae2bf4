"""Where stored embeddings are, and vectors that stay there until they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from vlmdesc.embeddings.part import Part
from vlmdesc.errors import StoreError


@dataclass(frozen=True)
class Found:
    """What a shelf has of some keys. Only rows that are `good` mean anything."""

    vectors: Float32[np.ndarray, "n d"]
    notes: UInt8[np.ndarray, " n"]
    good: Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Places:
    """Where some keys are: in which of these parts, and in which row of it; -1 where they are not."""

    parts: tuple[Part, ...]
    part: Int[np.ndarray, " n"]
    row: Int[np.ndarray, " n"]

    @property
    def dim(self) -> int:
        return self.parts[0].dim if self.parts else 0

    def read(self, wanted: Int[np.ndarray, " k"]) -> Found:
        """The embeddings of these of the keys, each checked."""
        part, row = self.part[wanted], self.row[wanted]
        vectors = np.empty((len(wanted), self.dim), np.float32)
        notes, good = np.zeros(len(wanted), np.uint8), np.zeros(len(wanted), bool)
        for number in np.unique(part[part >= 0]):
            at = np.flatnonzero(part == number)
            at = at[np.argsort(row[at], kind="stable")]  # in the order of the file
            notes[at] = self.parts[number].records.notes[row[at]]
            good[at] = self.parts[number].read_into(row[at], vectors, at)
        return Found(vectors, notes, good)


class StoredVectors:
    """Vectors (N, D) that stay in the store until they are indexed; each is checked as it is read.

    Slices and index arrays give numpy arrays, `np.asarray` all of it. Raises: StoreError where one is damaged.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, places: Places) -> None:
        self._places = places
        self.shape = (len(places.part), places.dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: Any) -> np.ndarray:
        rows = np.arange(len(self))[wanted]
        found = self._places.read(np.atleast_1d(rows))
        if not found.good.all():
            where = self._places.parts[0].path.parent if self._places.parts else ""
            what = f"{int((~found.good).sum())} of {found.good.size} embeddings are damaged"
            raise StoreError(what, where=where, fix="embed the data set again: the damaged ones are made anew")
        return found.vectors.reshape(*np.shape(rows), self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)
