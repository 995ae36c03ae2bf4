"""Progress on stderr, only where a person watches it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    import numpy as np

    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.records.progress import Progress as Callback

CHUNK = 256


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def progress_bar(bar: bool = True) -> Progress:
    """A transient bar on stderr; nothing where stderr is no terminal. What is printed meanwhile appears above it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
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

    def __init__(self, encoder: Encoder, tick: Callable[[int], None]) -> None:
        self._encoder, self._tick = encoder, tick

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = []
        for start in range(0, len(order), CHUNK):
            parts.append(self._encoder.texts([texts[i] for i in order[start : start + CHUNK]]))
            self._tick(len(parts[-1]))
        return np.concatenate(parts)[np.argsort(order)]


@contextmanager
def encoding_texts(encoder: Encoder, total: int) -> Iterator[Encoder]:
    """`encoder` with a bar while it encodes texts, `total` or, where some are stored, fewer."""
    with progress_bar() as progress:
        task = progress.add_task("descriptors", total=total)
        yield _Watched(encoder, lambda done: progress.advance(task, done))


@contextmanager
def bars() -> Iterator[Callback]:
    """Progress as bars on stderr, one a stage, for the `progress` of a public function."""
    with progress_bar() as shown:
        tasks = dict[str, TaskID]()

        def tell(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done, total=total)

        yield tell


@contextmanager
def stages() -> Iterator[Callable[[str, int | None], Callable[[int], object]]]:
    """Bars for work in stages: `stage(name, total)` begins one and gives what to call as it goes."""
    with progress_bar() as progress:

        def stage(name: str, total: int | None) -> Callable[[int], object]:
            task = progress.add_task(name, total=total)
            return lambda done: progress.advance(task, done)

        yield stage
