"""A descriptor file that people edit: saved whole or not at all, and never over what someone else saved meanwhile."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlmdesc.descriptors.edit import edit
from vlmdesc.errors import ConflictError, InputError, StoreError
from vlmdesc.files import cannot_write, read_text, write_atomic
from vlmdesc.records import Descriptors, Edit
from vlmdesc.records.descriptors import find_set
from vlmdesc.records.edits import log_line
from vlmdesc.text import counted

WAIT_S, STEP_S = 20.0, 0.02
THEIRS = 10  # edits of others that an error names


@dataclass(frozen=True)
class DescriptorFile:
    """A descriptor file as it was read; `version` is the SHA-256 of its text."""

    path: Path
    descriptors: Descriptors
    version: str

    @classmethod
    def open(cls, path: str | Path) -> DescriptorFile:
        """Read a file. Raises: InputError as `Descriptors.load`, and for a set that ships."""
        path, found = Path(path), find_set(path)
        if found != path:
            raise InputError("a set that ships is not edited in place", where=path, fix="say with --out where to")
        text = read_text(path)
        return cls(path, Descriptors.parse(text, path), _hash(text))

    def commit(self, edits: Iterable[Edit], *, merge: bool = True) -> DescriptorFile:
        """Save the file with some edits on top of what is in it, durable when this returns.

        Where it has changed since it was read, the edits are made on what it is now; they are refused where they do not
        fit that, or without `merge`, for those whose effect was looked at. A file in another form than ours is kept
        beside it, under a name that tells its content.
        Raises: ConflictError telling whose edits came between; InputError for an edit that does not fit; StoreError.
        """
        edits, path = [*edits], self.path.resolve()  # a link stays one
        with _lock(path):
            now = DescriptorFile.open(path)
            if now.version != self.version and not merge:
                raise self._conflict(now, "its effect was shown on what it was before", "run this again")
            try:
                after = edit(now.descriptors, edits)
            except InputError as error:
                if now.version == self.version:
                    raise
                raise self._conflict(now, str(error), "look at the file, and edit it again") from error
            before, text = path.read_bytes(), after.to_json()
            kept = path.with_name(f"{path.stem}.before-{hashlib.sha256(before).hexdigest()[:8]}.json")
            if not isinstance(json.loads(before.decode("utf-8-sig")).get("schema"), int) and not kept.exists():
                write_atomic(kept, before)
            write_atomic(path, text.encode(), mode=stat.S_IMODE(path.stat().st_mode))
        return DescriptorFile(self.path, after, _hash(text))

    def _conflict(self, now: DescriptorFile, why: str, fix: str) -> ConflictError:
        ours, theirs = self.descriptors.history, now.descriptors.history
        new = theirs[len(ours) :] if theirs[: len(ours)] == ours else ()
        by = f"by {counted(len(new), 'edit')}" if new else "not by vlmdesc edit"
        what = f"changed meanwhile, {by}, and not saved: {why}"
        return ConflictError(what, where=self.path, fix=fix, details=[log_line(done.edit) for done in new[-THEIRS:]])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """A file for this process alone. The lock is on its folder, so that nothing is left beside it.

    On a disk without locks what is read right before saving is still compared.
    Raises: StoreError when another process holds it for long, or the file may not be written.
    """
    until = time.monotonic() + WAIT_S
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        while _is_held(folder):
            if time.monotonic() > until:
                raise StoreError("another process holds this folder", where=path, fix="end it, or try again later")
            time.sleep(STEP_S)
        if path.exists() and not os.access(path, os.W_OK):
            raise cannot_write(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        yield
    finally:
        os.close(folder)


def _is_held(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks
        return False
    return False
