"""The embeddings of one encoder and one kind: immutable parts in a folder.

A part is written whole and never changed, so readers need no lock, a crash leaves whole parts only, and appending
costs what is new. Sixteen parts of like size are merged into one, which names them: until they are deleted they count
as replaced.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from vlmdesc.cache import LOCK_WAIT_S, make_folder, set_aside, turn
from vlmdesc.embeddings.part import KEY_BYTES, SUFFIX, Damaged, Part, Records, is_unit, open_part, prefixes, write_part
from vlmdesc.embeddings.places import Found, Places
from vlmdesc.errors import InputError, ShapeError, StoreError

FAN = 16  # parts of like size that become one
FULL_ROWS = 8192  # a part with as many is left alone


class Shelf:
    """The embeddings of one encoder and one kind. Made by `Store`; safe in threads, and beside other processes."""

    def __init__(self, folder: Path, space: str, dtype: type, before_write: Callable[[], None]) -> None:
        self.folder, self._space, self._dtype, self._before_write = folder, space, dtype, before_write
        self._listed: frozenset[str] = frozenset()
        self._parts: tuple[Part, ...] = ()
        self._suspects: set[str] = set()
        self._lost = 0  # rows of files that had to be set aside
        self._lock = threading.RLock()  # of threads; between processes see `turn`
        self._wait_s = LOCK_WAIT_S
        self.refresh()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts as of the last look, largest first."""
        return self._parts

    def refresh(self) -> None:
        """See what other processes have written since. Raises: StoreError when the folder cannot be read."""
        with self._lock:
            listed = _listing(self.folder)
            if listed == self._listed:
                return
            known = {part.path.name: part for part in self._parts}
            opened = [known.get(name) or self._open(name) for name in sorted(listed)]
            if _listing(self.folder) - listed:  # what was merged away meanwhile is in a part that came meanwhile
                return self.refresh()
            parts = self._of_one_width([part for part in opened if part is not None])
            replaced = _replaced(parts)
            parts = [part for part in parts if part.path.name not in replaced]
            self._parts = tuple(sorted(parts, key=len, reverse=True))
            self._listed = listed

    def _open(self, name: str) -> Part | None:
        try:
            return open_part(self.folder / name, self._space)
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

    def _of_one_width(self, parts: list[Part]) -> list[Part]:
        dim = max(parts, key=len).dim if parts else 0
        for part in parts:
            if part.dim != dim:
                set_aside(part.path, f"{part.dim} dimensions where others have {dim}")
        return [part for part in parts if part.dim == dim]

    def places(self, keys: Sequence[bytes]) -> Places:
        """Where keys are, as of the last look."""
        parts, wanted = self._parts, _array(keys)
        prefix = prefixes(wanted)
        place, row = np.full(len(keys), -1), np.full(len(keys), -1)
        for number, part in enumerate(parts):
            todo = np.flatnonzero(place < 0)
            if not todo.size:
                break
            found = part.find(wanted[todo], prefix[todo])
            place[todo[found >= 0]], row[todo] = number, found
        return Places(parts, place, row)

    def get(self, keys: Sequence[bytes]) -> Found:
        """The embeddings of keys, each checked; a damaged one counts as missing, and the next `put` sets it aside."""
        places = self.places(keys)
        found = places.read(np.arange(len(keys)))
        for number in np.unique(places.part[(places.part >= 0) & ~found.good]):
            self._suspects.add(places.parts[number].path.name)
        return found

    def put(self, keys: Sequence[bytes], vectors: Float32[np.ndarray, "n d"], notes: Sequence[int] = ()) -> None:
        """Keep unit-norm vectors, durable when this returns. What is here already is left as it is.

        Raises: ShapeError for vectors of another width; InputError for one that is not finite or not of norm 1;
        StoreError when the disk is full or cannot be written.
        """
        self._check(len(keys), len(notes) or len(keys), vectors)
        records = Records(_array(keys), np.array([*notes] or [0] * len(keys), np.uint8), vectors)
        make_folder(self.folder)
        with self._turn():
            self._before_write()
            self.refresh()
            self._mend()
            new = np.flatnonzero(self.places(keys).part < 0)
            if new.size:
                taken = records.take(new)
                stored = Records(taken.keys, taken.notes, taken.vectors.astype(self._dtype))
                self._write(stored)
            self._merge()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """No other thread or process writes here meanwhile; who holds the lock for ever is waited for once."""
        with self._lock, turn(self.folder, self._wait_s) as got:
            self._wait_s = LOCK_WAIT_S if got else 0.0
            yield

    def _write(self, records: Records, replaces: Sequence[str] = ()) -> None:
        path = write_part(self.folder, records, self._space, replaces)
        self._parts = tuple(part for part in self._parts if part.path != path)  # that file is another now
        self._listed = frozenset()
        self.refresh()

    def _check(self, n_keys: int, n_notes: int, vectors: Float32[np.ndarray, "n d"]) -> None:
        n, dim = vectors.shape
        if not n_keys == n_notes == n:
            raise ShapeError(f"{n} vectors, {n_keys} keys, {n_notes} notes", fix="pass one each")
        if self._parts and dim != self._parts[0].dim:
            what = f"vectors have {dim} dimensions, those stored {self._parts[0].dim}"
            raise ShapeError(what, where=self.folder, fix="an encoder's fingerprint must tell its weights apart")
        bad = np.flatnonzero(~is_unit(vectors))
        if bad.size:
            what = f"vector {bad[0]} is not finite or not of norm 1"
            raise InputError(what, where=self.folder, fix="give unit-norm vectors")

    def _mend(self) -> None:
        """Rewrite parts that have damaged rows without them, and set the old files aside."""
        for part in self._parts:
            if part.path.name in self._suspects and len(bad := part.bad_rows()):
                intact = np.setdiff1d(np.arange(len(part)), bad)
                if intact.size:
                    write_part(self.folder, part.records.take(intact), self._space)
                set_aside(part.path, f"{len(bad)} of {len(part)} embeddings fail their check")
        self._suspects.clear()
        self.refresh()

    def _merge(self) -> None:
        """Make one part of many small ones, and delete what is replaced."""
        for parts in self._small(by_size=True):
            if len(parts) >= FAN:
                self._join(parts)
        replaced = _replaced(self._parts)
        for name in self._listed & replaced:  # by now or before a crash
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)

    def _small(self, by_size: bool) -> list[list[Part]]:
        """The parts that are not full, in groups that may be joined: of one dtype, and on demand of like size."""
        groups = defaultdict(list)
        for part in self._parts:
            if len(part) < FULL_ROWS:
                level = len(part).bit_length() // 4 if by_size else 0  # in one, sizes differ by a factor of 16 at most
                groups[part.records.vectors.dtype, level].append(part)
        return [*groups.values()]

    def _join(self, parts: Sequence[Part]) -> None:
        self._suspects |= {part.path.name for part in parts if len(part.bad_rows())}
        if self._suspects:
            self._mend()
            return
        arrays = [(part.records.keys, part.records.notes, part.records.vectors) for part in parts]
        records = Records(*(np.concatenate(column) for column in zip(*arrays, strict=True)))
        self._write(records, replaces=[part.path.name for part in parts])

    def verify(self) -> int:
        """Check every embedding; how many are damaged, by now and since opened. They are set aside.

        Raises: StoreError.
        """
        self.refresh()
        bad = {part.path.name: len(part.bad_rows()) for part in self._parts}
        self._suspects |= {name for name, count in bad.items() if count}
        if self._suspects:
            with self._turn():
                self._mend()
        return sum(bad.values()) + self._lost

    def tidy(self) -> None:
        """Delete what was set aside or left half-written, and merge all parts that are not full. Raises: StoreError."""
        with self._turn():
            for path in (
                *self.folder.glob("*.bad-*"),
                *self.folder.glob(".*.part"),
                *self.folder.parent.glob("*.bad-*"),
            ):
                path.unlink(missing_ok=True)
            self.refresh()
            for parts in self._small(by_size=False):
                for start in range(0, len(parts) - 1, FAN):
                    self._join(parts[start : start + FAN])
            self._merge()


def _replaced(parts: Sequence[Part]) -> frozenset[str]:
    return frozenset[str]().union(*(part.replaces for part in parts))


def _listing(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.name.endswith(SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=folder, fix="check its permissions") from error


def _array(keys: Sequence[bytes]) -> UInt8[np.ndarray, "n 32"]:
    return np.frombuffer(bytearray().join(keys), np.uint8).reshape(len(keys), KEY_BYTES)
