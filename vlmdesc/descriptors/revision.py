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
from vlmdesc.descriptors.patch import told
from vlmdesc.errors import ConflictError, InputError, StoreError
from vlmdesc.files import cannot_write, read_text, write_atomic
from vlmdesc.records import Descriptors, Edit
from vlmdesc.text import counted

WAIT_S, STEP_S = 20.0, 0.02
THEIRS = 10  # edits of others told of


@dataclass(frozen=True)
class Revision:
    """A descriptor file as it was read; `version` is the SHA-256 of its bytes."""

    path: Path
    descriptors: Descriptors
    version: str


def read_revision(path: str | Path) -> Revision:
    """Raises: InputError naming the file, and what of it cannot be used."""
    path = Path(path)
    while True:  # read twice, since what is parsed must be what the version is of
        version = _version(path)
        descriptors = Descriptors.load(path)
        if version == _version(path):
            return Revision(path, descriptors, version)


def commit(seen: Revision, edits: Iterable[Edit], *, merge: bool = True) -> Revision:
    """Save a file with some edits on top of what is in it, durable when this returns.

    Where it has changed since it was read, the edits are made on what it is now; they are refused where they do not fit
    that, or without `merge`, for those whose effect was looked at. A file in another form than ours is kept beside it.
    Raises: ConflictError telling whose edits came between; InputError for an edit that does not fit; StoreError.
    """
    edits, path = [*edits], seen.path.resolve()  # a link stays one
    with _locked(path):
        now = read_revision(path)
        if now.version != seen.version and not merge:
            raise _conflict(seen, now, "its effect was shown on what it was before", "run this again")
        try:
            after = edit(now.descriptors, edits)
        except InputError as error:
            if now.version == seen.version:
                raise
            raise _conflict(seen, now, str(error), "look at the file, and edit it again") from error
        _keep_other_form(now)
        data = after.to_json().encode()
        write_atomic(path, data, mode=stat.S_IMODE(path.stat().st_mode))
    return Revision(seen.path, after, hashlib.sha256(data).hexdigest())


def _version(path: Path) -> str:
    read_text(path)  # for its errors
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _conflict(seen: Revision, now: Revision, why: str, fix: str) -> ConflictError:
    n = len(seen.descriptors.history)
    theirs = now.descriptors.history[n:] if now.descriptors.history[:n] == seen.descriptors.history else ()
    by = f"by {counted(len(theirs), 'edit')}" if theirs else "not by vlmdesc edit"
    what = f"changed meanwhile, {by}, and not saved: {why}"
    return ConflictError(what, where=seen.path, fix=fix, details=[*map(told, theirs[-THEIRS:])])


def _keep_other_form(now: Revision) -> None:
    """The first edit brings a file into our form: what it was is kept under a name that tells its content."""
    data = now.path.read_bytes()
    if isinstance(json.loads(data.decode("utf-8-sig")).get("schema"), int):
        return
    kept = now.path.with_name(f"{now.path.stem}.before-{now.version[:8]}.json")
    if not kept.exists():
        write_atomic(kept, data)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A file for this process alone. The lock is on the file itself, so that nothing is left beside it.

    Raises: StoreError when another process holds it for long, or the file may not be written.
    """
    until = time.monotonic() + WAIT_S
    while True:
        try:
            opened = os.open(path, os.O_RDWR)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            if _taken(opened) and _still(opened, path):
                yield
                return
        finally:
            os.close(opened)
        if time.monotonic() > until:
            raise StoreError("another process holds this file", where=path, fix="end it, or try again later")
        time.sleep(STEP_S)


def _still(opened: int, path: Path) -> bool:
    """Whether an open file is the one of that name: another process may have replaced it meanwhile."""
    try:
        return os.fstat(opened).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _taken(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return True  # a disk without locks: what is read right before saving is still compared
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True
