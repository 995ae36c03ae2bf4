"""The user's cache folder, and small answers kept in it: content-addressed, checked, atomic.

Everything under the folder can be made again, so what fails a check is set aside, said, and made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vlmdesc.errors import VlmdescWarning
from vlmdesc.files import cannot_write, json_lines, sync_folder, write_atomic

ENVIRONMENT = "VLMDESC_CACHE"
ANNOUNCE_AFTER_S, LOCK_WAIT_S = 2.0, 60.0


def cache_folder() -> Path:
    """$VLMDESC_CACHE, or the folder for caches on this system. It need not exist."""
    from platformdirs import user_cache_path

    named = os.environ.get(ENVIRONMENT)
    return Path(named).expanduser() if named else user_cache_path("vlmdesc")


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone; durable. Raises: StoreError."""
    if os.path.isdir(folder):
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise cannot_write(folder, error) from error


def set_aside(path: Path, why: str) -> None:
    """Rename a damaged file to `NAME.bad-TIME-RANDOM` and say so; where that is not possible, say only that."""
    from vlmdesc.records.progress import note  # records bring numpy, and the start is light

    bad = path.with_name(f"{path.name}.bad-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}")
    try:
        os.replace(path, bad)
        done = f"set aside as {bad.name}"
    except FileNotFoundError:  # another process was first
        return
    except OSError as error:
        done = f"left where it is ({error.strerror})"
    note(f"damaged: {why} ({path}); {done}, and made again when needed")


@contextmanager
def turn(folder: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[bool]:
    """Wait for other processes that write to `folder`, saying so after two seconds; whether it is this one's turn.

    Nothing depends on it but tidiness: files are written whole and under names that tell their content, so a process
    that gives up waiting, or a disk without locks, costs a double at worst.
    Raises: StoreError when the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock, needed = FileLock(folder / ".lock"), True
    try:
        try:
            lock.acquire(timeout=min(ANNOUNCE_AFTER_S, wait_s))
        except Timeout:
            if wait_s:
                message = f"waiting for another vlmdesc to finish writing to {folder}"
                warnings.warn(message, VlmdescWarning, stacklevel=6)
            with suppress(Timeout):
                lock.acquire(timeout=wait_s)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise cannot_write(folder, error) from error
        needed = False
    try:
        yield lock.is_locked or not needed
    finally:
        lock.release()


class Answers:
    """Question -> answer, one readable JSON file each, named by the SHA-256 of the whole question."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, question: Mapping[str, Any]) -> Any | None:
        """The answer kept for a question, or None. A damaged entry is set aside and said."""
        entry = self.read(self._path(question))
        return entry["answer"] if entry and entry["question"] == dict(question) else None

    def check(self, path: Path) -> bool:
        """Whether an entry's file is whole; one that is not is set aside and said."""
        return self.read(path) is not None

    def read(self, path: Path) -> dict[str, Any] | None:
        """The question, answer and check of an entry's file; None where it is gone, or damaged, which is said."""
        try:
            entry = json.loads(path.read_bytes())
            if entry["check"] != checksum(entry["question"], entry["answer"]):
                raise ValueError("its checksum is another")
        except OSError:  # not there, or not to be had: it is asked again
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            set_aside(path, f"an answer that cannot be used: {error}")
            return None
        return dict(entry)

    def put(self, question: Mapping[str, Any], answer: Any) -> None:
        """Keep an answer, durable when this returns. Raises: StoreError."""
        make_folder(self.folder)
        entry = {"question": dict(question), "answer": answer, "check": checksum(question, answer)}
        write_atomic(self._path(question), json_lines(entry).encode(), checked=True)

    def _path(self, question: Mapping[str, Any]) -> Path:
        return self.folder / f"{checksum(question)}.json"


_canonical = json.JSONEncoder(sort_keys=True).encode


def checksum(*values: Any) -> str:
    """SHA-256 of JSON values in one canonical form, 64 hex digits."""
    return hashlib.sha256("\n".join(map(_canonical, values)).encode()).hexdigest()
