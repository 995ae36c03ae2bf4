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
from vlmdesc.records import Contrast, Hit, Hits, Prediction

BAR, SHORT = 24, 8
PARTS = 8  # of a margin, shown on each side


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
            self._console.print(Text(shown(prediction.key), style="bold"), soft_wrap=True)
            self._console.print(render(prediction))
        self.line("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def line(self, text: str) -> None:
        """Text as it is, on stdout."""
        print(text, flush=True)
        self._progress.advance(self._task)

    def error(self, text: str) -> None:
        """One line on stderr."""
        say(text)
        self._progress.advance(self._task)


def render(prediction: Prediction) -> Group:
    """Ranked classes with bars, reasons, and the contrast if there is one."""
    parts: list[Text | Padding] = [Text(f"  note: {shown(note)}", style="dim") for note in prediction.notes]
    parts.append(_bars(prediction.ranked, _top(prediction.ranked)))
    if prediction.because:
        parts.append(Text("  because", style="dim"))
        parts.append(_bars(prediction.because, _top(prediction.because)))
    if prediction.contrast:
        parts.append(_contrast(prediction.contrast))
    return Group(*parts)


def _top(hits: Hits) -> float:
    return max((abs(hit.score) for hit in hits), default=0.0) or 1.0


def _bars(hits: Hits, top: float, sign: str = "", length: int = BAR) -> Padding:
    """Scores with bars, full at `top`. A score below 0 has no bar, or with `sign` a dashed one."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=length, no_wrap=True)
    table.add_column(overflow="fold")
    for i, hit in enumerate(hits):
        long = round(length * abs(hit.score) / top)
        full = Text("━" * long, style="green" if i == 0 and not sign else "cyan")
        below = Text("╌" * long, style="red") if sign else Text()
        table.add_row(f"{hit.score:{sign}.3f}", full if hit.score > 0 else below, Text(shown(hit.text)))
    return Padding(table, (0, 0, 0, 0 if sign else 2))


def _contrast(contrast: Contrast) -> Padding:
    """The parts of the margin side by side: what the picture shows of the class ahead, what it lacks of the other."""
    a, b = shown(contrast.a.text), shown(contrast.b.text)
    title = f"{a} {contrast.a.score:.3f}, {b} {contrast.b.score:.3f}: {a} is {contrast.margin:.3f} ahead"
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", expand=True)
    top = max(_top(contrast.of_a), _top(contrast.of_b))
    for words in (f"by what it shows of {a}", f"by what it lacks of {b}"):
        table.add_column(Text(words), ratio=1)
    table.add_row(*(_bars(_widest(hits), top, sign="+", length=SHORT) for hits in (contrast.of_a, contrast.of_b)))
    return Padding(Group(Text(title, style="dim"), table), (0, 0, 0, 2))


def _widest(hits: Hits) -> Hits:
    """The parts that matter most, with the rest of them in one."""
    if len(hits) <= PARTS:
        return hits
    order = sorted(hits, key=lambda hit: -abs(hit.score))
    kept, rest = [*order[: PARTS - 1]], order[PARTS - 1 :]
    summed = Hit("", sum(hit.score for hit in rest), f"({len(rest)} more)")
    return (*sorted(kept, key=lambda hit: -hit.score), summed)
