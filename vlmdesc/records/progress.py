"""What a call tells its caller: how far it is, while it works, and what a person should know, on its result."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vlmdesc.errors import VlmdescWarning

Progress = Callable[[str, int, int | None], object]
"""Called with a stage ("images"), how many of it are done, and how many there are, None where that is not known."""
_NOTES: ContextVar[list[str] | None] = ContextVar("_NOTES", default=None)


def silent(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


def counter(progress: Progress, stage: str, total: int | None) -> Callable[[int], None]:
    """Begin a stage; what is returned is called with how many more are done.

    >>> images = counter(print, "images", 3)
    images 0 3
    >>> images(2)
    images 2 3
    """
    done = 0

    def more(n: int) -> None:
        nonlocal done
        done += n
        progress(stage, done, total)

    more(0)
    return more


def note(sentence: str) -> None:
    """Something that a person should know, though the work goes on: a note on the result of the call, else a warning.

    In threads that the call started it is a warning.
    """
    notes = _NOTES.get()
    if notes is None:
        warnings.warn(sentence, VlmdescWarning, stacklevel=3)
    elif sentence not in notes:
        notes.append(sentence)


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """Collect what is noted inside. Where a call with notes makes another, the outer one has those of both; where it
    ends in an error, that has them as its notes.

    >>> with collect_notes() as notes:
    ...     note("one class only")
    >>> notes
    ['one class only']
    """
    outer, notes = _NOTES.get(), list[str]()
    before = _NOTES.set(notes)
    try:
        yield notes
    except BaseException as error:
        for sentence in notes:
            if sentence not in getattr(error, "__notes__", ()):
                error.add_note(sentence)
        raise
    finally:
        _NOTES.reset(before)
        if outer is not None:
            outer.extend(sentence for sentence in notes if sentence not in outer)
