"""One question is asked by one process at a time, so that none is paid for twice."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

from vlmdesc.cache import make_folder
from vlmdesc.files import cannot_write

POLL_S = 0.1
Claim = Callable[[str], AbstractAsyncContextManager[None]]


@contextmanager
def claims(folder: Path) -> Iterator[Claim]:
    """`async with claim(key)` waits while another process, or another task of this one, holds the key (hex digits).

    A claim is a lock on one byte of one file, at the offset that the key tells: nothing is left behind, and a process
    that dies lets go. Where there are no such locks, nothing waits: a question asked twice costs a call and no more.
    Raises: StoreError when the folder cannot be written.
    """
    make_folder(folder)
    try:
        tempfile.TemporaryFile(dir=folder).close()  # .claims may be there already, in a folder that takes no new file
        file = os.open(folder / ".claims", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise cannot_write(folder, error) from error
    ours: set[int] = set()  # the system's locks are between processes only

    @asynccontextmanager
    async def claim(key: str) -> AsyncIterator[None]:
        at = int(key[:14], 16)
        while at in ours or not _lock(file, at):
            await asyncio.sleep(POLL_S)
        ours.add(at)
        try:
            yield
        finally:
            ours.remove(at)
            _lock(file, at, release=True)

    try:
        yield claim
    finally:
        os.close(file)


def _lock(file: int, at: int, release: bool = False) -> bool:
    """Lock a byte, or release it. False where another process holds it."""
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_UN if release else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
    except (BlockingIOError, PermissionError):
        return False
    except (ImportError, OSError):  # no such locks here
        pass
    return True
