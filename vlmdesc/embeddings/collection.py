"""The embeddings of one encoder and one kind: immutable segments in a folder.

A segment is written whole and never changed, so readers need no lock, a crash leaves whole segments only, and
appending costs what is new. Sixteen segments of like size are merged into one, which names them: until they are deleted
they count as replaced.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from vlmdesc.cache import LOCK_WAIT_S, make_folder, set_aside, turn
from vlmdesc.embeddings.kind import Kind, sides
from vlmdesc.embeddings.segment import KEY_BYTES, SUFFIX, Damaged, Records, Segment, open_segment, write_segment
from vlmdesc.embeddings.vectors import Holdings, StoredVectors
from vlmdesc.errors import InputError, ShapeError, StoreError

FAN = 16  # segments of like size that become one
FULL_ROWS = 8192  # a segment with as many is left alone


class Collection:
    """The embeddings of one encoder and one kind. Made by `Store`; safe in threads, and beside other processes.

    Pickled, it is where it lies: it is opened anew.
    """

    def __init__(
        self, folder: Path, space: str, kind: Kind, engine: str, dtype: type, before_write: Callable[[], None]
    ) -> None:
        self.folder, self.kind = folder, kind
        self._space, self._engine, self._dtype, self._before_write = space, engine, dtype, before_write
        self._listed: frozenset[str] = frozenset()
        self._segments: tuple[Segment, ...] = ()
        self._suspects: set[str] = set()
        self._lost = 0  # rows of files that had to be set aside
        self._lock = threading.RLock()  # of threads; between processes see `turn`
        self._wait_s = LOCK_WAIT_S
        self.refresh()

    def __reduce__(self) -> tuple[Any, ...]:
        made_of = (self.folder, self._space, self.kind, self._engine, self._dtype, self._before_write)
        return Collection, made_of

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments as of the last look, largest first."""
        return self._segments

    def refresh(self) -> None:
        """See what other processes have written since. Raises: StoreError when the folder cannot be read."""
        with self._lock:
            listed = _listing(self.folder)
            if listed == self._listed:
                return
            known = {segment.path.name: segment for segment in self._segments}
            opened = [known.get(name) or self._open(name) for name in sorted(listed)]
            if _listing(self.folder) - listed:  # what was merged away meanwhile is in a segment that came meanwhile
                return self.refresh()
            segments = self._of_one_shape([segment for segment in opened if segment is not None])
            replaced = _replacements(segments)
            segments = [segment for segment in segments if segment.path.name not in replaced]
            self._segments = tuple(sorted(segments, key=len, reverse=True))
            self._listed = listed

    def _open(self, name: str) -> Segment | None:
        try:
            return open_segment(self.folder / name, self._space, self.kind)
        except FileNotFoundError:  # merged away since it was listed, or a link to nowhere
            return None
        except OSError as error:
            raise StoreError(
                f"cannot read: {error.strerror}", where=self.folder / name, fix="check its permissions"
            ) from error
        except Damaged as error:
            set_aside(self.folder / name, str(error))
            rows = name.partition("-")[0]
            self._lost += int(rows) if rows.isdecimal() else 0
            return None

    def _of_one_shape(self, segments: list[Segment]) -> list[Segment]:
        shape = max(segments, key=len).shape if segments else ()
        for segment in segments:
            if segment.shape != shape:
                set_aside(segment.path, f"rows of {sides(segment.shape)} numbers, others of {sides(shape)}")
        return [segment for segment in segments if segment.shape == shape]

    def get(self, keys: Sequence[bytes]) -> Holdings:
        """The embeddings of keys, each checked; a damaged one counts as missing, and the next `put` sets it aside."""
        vectors = StoredVectors(self, keys)
        found = vectors.read(np.arange(len(keys)))
        for number in np.unique(vectors.segment[(vectors.segment >= 0) & ~found.good]):
            self._suspects.add(vectors.segments[number].path.name)
        return found

    def put(self, keys: Sequence[bytes], vectors: Float32[np.ndarray, "n ..."], notes: Sequence[int] = ()) -> None:
        """Keep vectors, durable when this returns. What is here already is left as it is.

        Raises: ShapeError for vectors of another shape; InputError for one that is not finite or, of a unit kind, not
        of norm 1; StoreError when the disk is full or cannot be written.
        """
        with np.errstate(over="ignore"):  # it is infinite then, and refused
            stored: np.ndarray = vectors.astype(self._dtype, copy=False)
        self._check(len(keys), len(notes) or len(keys), stored)
        flat = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES)
        records = Records(flat, np.array([*notes] or [0] * len(keys), np.uint8), stored)
        make_folder(self.folder)
        with self._turn():
            self._before_write()
            self.refresh()
            self._mend()
            new = np.flatnonzero(StoredVectors(self, keys).segment < 0)
            if new.size:
                self._write(records.take(new), self._engine)
            self._merge()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """No other thread or process writes here meanwhile; who holds the lock for ever is waited for once."""
        with self._lock, turn(self.folder, self._wait_s) as got:
            self._wait_s = LOCK_WAIT_S if got else 0.0
            yield

    def _write(self, records: Records, engine: str, replaces: Sequence[str] = ()) -> None:
        path = write_segment(self.folder, records, self._space, engine, replaces)
        self._segments = tuple(known for known in self._segments if known.path != path)  # that file is another now
        self._listed = frozenset()
        self.refresh()

    def _check(self, n_keys: int, n_notes: int, vectors: Float[np.ndarray, "n ..."]) -> None:
        n, shape = len(vectors), vectors.shape[1:]
        if not n_keys == n_notes == n:
            raise ShapeError(f"{n} vectors, {n_keys} keys, {n_notes} notes", fix="pass one each")
        wanted = self._segments[0].shape if self._segments else self.kind.shape
        if (wanted and shape != wanted) or not self.kind.fits(shape):
            what = f"rows of {sides(shape)} numbers, those stored of {sides(wanted) or 'one axis'}"
            raise ShapeError(what, where=self.folder, fix="an encoder's fingerprint must tell its weights apart")
        bad = np.flatnonzero(~self.kind.sound(vectors))
        if bad.size:
            what = f"vector {bad[0]} is not finite{' or not of norm 1' if self.kind.unit else f' in {vectors.dtype}'}"
            fix = "give unit-norm vectors" if self.kind.unit else "give finite numbers, or store them as float32"
            raise InputError(what, where=self.folder, fix=fix)

    def _mend(self) -> None:
        """Rewrite segments that have damaged rows without them, and set the old files aside."""
        for segment in self._segments:
            if segment.path.name in self._suspects and len(bad := segment.bad_rows()):
                intact = np.setdiff1d(np.arange(len(segment)), bad)
                if intact.size:
                    write_segment(self.folder, segment.records.take(intact), self._space, segment.engine)
                set_aside(segment.path, f"{len(bad)} of {len(segment)} embeddings fail their check")
        self._suspects.clear()
        self.refresh()

    def _merge(self) -> None:
        """Make one segment of many small ones, and delete what is replaced."""
        for segments in self._small(by_size=True):
            if len(segments) >= FAN:
                self._join(segments)
        replaced = _replacements(self._segments)
        for name in self._listed & replaced:  # by now or before a crash
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)

    def _small(self, by_size: bool) -> list[list[Segment]]:
        """Segments that are not full, in groups that may be joined: of one dtype and engine, on demand of like size."""
        groups = defaultdict(list)
        for segment in self._segments:
            if len(segment) < FULL_ROWS:
                level = (
                    len(segment).bit_length() // 4 if by_size else 0
                )  # in one, sizes differ by a factor of 16 at most
                groups[segment.records.vectors.dtype, segment.engine, level].append(segment)
        return [*groups.values()]

    def _join(self, segments: Sequence[Segment]) -> None:
        self._suspects |= {segment.path.name for segment in segments if len(segment.bad_rows())}
        if self._suspects:
            self._mend()
            return
        arrays = [(segment.records.keys, segment.records.notes, segment.records.vectors) for segment in segments]
        records = Records(*(np.concatenate(column) for column in zip(*arrays, strict=True)))
        self._write(records, segments[0].engine, [segment.path.name for segment in segments])

    def verify(self) -> int:
        """Check every embedding; how many are damaged, by now and since opened. They are set aside.

        Raises: StoreError.
        """
        self.refresh()
        bad = {segment.path.name: len(segment.bad_rows()) for segment in self._segments}
        self._suspects |= {name for name, count in bad.items() if count}
        if self._suspects:
            with self._turn():
                self._mend()
        return sum(bad.values()) + self._lost

    def tidy(self) -> None:
        """Delete what was set aside or left half-written; merge all segments that are not full. Raises: StoreError."""
        with self._turn():
            for path in (
                *self.folder.glob("*.bad-*"),
                *self.folder.glob(".*.part"),
                *self.folder.parent.glob("*.bad-*"),
            ):
                path.unlink(missing_ok=True)
            self.refresh()
            for segments in self._small(by_size=False):
                for start in range(0, len(segments) - 1, FAN):
                    self._join(segments[start : start + FAN])
            self._merge()


def _replacements(segments: Sequence[Segment]) -> frozenset[str]:
    return frozenset[str]().union(*(segment.replaces for segment in segments))


def _listing(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.name.endswith(SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=folder, fix="check its permissions") from error
