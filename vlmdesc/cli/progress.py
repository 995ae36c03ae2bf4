"""Progress on stderr, only where a person watches it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from vlmdesc.encode.protocol import Encoder

CHUNK = 256


def progress_bar(bar: bool = True) -> Progress:
    """A transient bar on stderr; nothing where stderr is no terminal. What is printed meanwhile appears above it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    watched = bar and sys.stderr.isatty()
    # Redirecting stdout sends it to the bar's terminal, so only what goes there anyway may be.
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not watched,
        redirect_stdout=sys.stdout.isatty(),
    )


class _Watched:
    """An encoder whose `texts` tells how far it is. Everything else is the encoder's own."""

    def __init__(self, encoder: Encoder, tick: Callable[[int, int], None]) -> None:
        self._encoder, self._tick = encoder, tick

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = []
        for start in range(0, len(order), CHUNK):
            parts.append(self._encoder.texts([texts[i] for i in order[start : start + CHUNK]]))
            self._tick(min(start + CHUNK, len(order)), len(order))
        return np.concatenate(parts)[np.argsort(order)]


@contextmanager
def encoding_texts(encoder: Encoder) -> Iterator[Encoder]:
    """`encoder` with a bar while it encodes texts."""
    with progress_bar() as progress:
        task = progress.add_task("descriptors", total=None)
        yield _Watched(encoder, lambda done, total: progress.update(task, completed=done, total=total))
