"""Progress on stderr, only where a person watches it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
    from vlmdesc.records.progress import Progress as Callback


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
