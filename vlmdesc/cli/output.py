"""Predictions as a person reads them, with a progress bar beside them."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vlmdesc.cli.border import say
from vlmdesc.cli.progress import progress_bar
from vlmdesc.errors import shown
from vlmdesc.records import Contrast, Hits, Prediction

BAR = 24


class Output:
    """Prints results as they come, with a bar below them where a person watches."""

    def __init__(self, total: int, bar: bool = True) -> None:
        self._console = Console(file=sys.stdout)
        self._progress = progress_bar(bar)
        self._task = self._progress.add_task("pictures", total=total)

    def __enter__(self) -> Output:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, prediction: Prediction) -> None:
        """A prediction: classes with bars, then reasons."""
        with self._console.capture() as captured:
            self._console.print(render(prediction))
        self.line(captured.get().rstrip("\n") + "\n")

    def line(self, text: str) -> None:
        """Text as it is, on stdout."""
        print(text, flush=True)
        self._progress.advance(self._task)

    def error(self, text: str) -> None:
        """One line on stderr."""
        say(text)
        self._progress.advance(self._task)


def render(prediction: Prediction) -> Group:
    """Name of the picture, ranked classes with bars, reasons, and the contrast if there is one."""
    parts: list[Text | Table | Padding] = [Text(shown(prediction.key), style="bold")]
    parts += [Text(f"  note: {shown(note)}", style="dim") for note in prediction.notes]
    parts.append(_bars(prediction.ranked))
    if prediction.because:
        parts.append(Text("  because", style="dim"))
        parts.append(_bars(prediction.because))
    if prediction.contrast:
        parts.append(_contrast(prediction.contrast))
    return Group(*parts)


def _bars(hits: Hits, sign: bool = False) -> Padding:
    """Scores with bars from 0 to the largest of them: cosines, so 0 means unrelated."""
    top = max((abs(hit.score) for hit in hits), default=0.0) or 1.0
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=BAR, no_wrap=True)
    table.add_column(overflow="fold")
    for i, hit in enumerate(hits):
        colour = "red" if hit.score < 0 else "green" if i == 0 and not sign else "cyan"
        bar = Text("━" * max(1, round(BAR * abs(hit.score) / top)), style=colour)
        table.add_row(f"{hit.score:{'+' if sign else ''}.3f}", bar, Text(shown(hit.text)))
    return Padding(table, (0, 0, 0, 2))


def _contrast(contrast: Contrast) -> Padding:
    a, b = shown(contrast.a.text), shown(contrast.b.text)
    title = Text(f"{a} is {contrast.margin:.3f} ahead of {b}", style="dim")
    sides = [
        part
        for name, hits in ((a, contrast.of_a), (b, contrast.of_b))
        for part in (Text(f"{name}:"), _bars(hits, sign=True))
    ]
    return Padding(Group(title, *sides), (0, 0, 0, 2))
