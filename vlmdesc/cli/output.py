"""Predictions as a person reads them, with a progress bar beside them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from itertools import zip_longest
from types import TracebackType

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from vlmdesc.cli.border import say
from vlmdesc.cli.progress import progress_bar
from vlmdesc.records import Contrast, Hit, Hits, Prediction
from vlmdesc.text import shown

BAR, SHORT = 24, 8
PARTS = 8  # of a margin, shown on each side
NARROW = 8  # cells for a text at least
INDENT = "  "
Line = Sequence[tuple[str, str]]  # pieces of a line, each with its style


class Output:
    """Prints results as they come, with a bar below them where a person watches."""

    def __init__(self, total: int, bar: bool = True) -> None:
        self._console = Console(file=sys.stdout)
        self._progress = progress_bar(bar)
        self._task = self._progress.add_task("images", total=total)

    def __enter__(self) -> Output:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, prediction: Prediction) -> None:
        """A prediction: classes with bars, then reasons."""
        lines: list[Line] = [[(shown(prediction.key), "bold")], *render(prediction, self._console)]
        if self._console.is_terminal:
            with self._console.capture() as captured:
                for line in lines:
                    self._console.print(Text.assemble(*line), soft_wrap=True)
            self.line(captured.get())
        else:
            self.line("".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines))

    def line(self, text: str) -> None:
        """Text as it is, on stdout."""
        print(text, flush=True)
        self._progress.advance(self._task)

    def error(self, text: str) -> None:
        """One line on stderr."""
        say(text)
        self._progress.advance(self._task)


def render(prediction: Prediction, console: Console) -> list[Line]:
    """Ranked classes with bars, reasons, and the contrast if there is one: lines for a console of some width.

    By hand, since tables of rich would take three times as long as the decision itself.
    """
    width = console.width - len(INDENT)
    lines = [line for note in prediction.notes for line in _dim(console, f"note: {note}", width)]
    lines += _bars(console, prediction.ranked, _top(prediction.ranked), width)
    if prediction.because:
        lines.append([("because", "dim")])
        lines += _bars(console, prediction.because, _top(prediction.because), width)
    if prediction.contrast:
        lines += _contrast(console, prediction.contrast, width)
    return [[(INDENT, ""), *line] for line in lines]


def _top(hits: Hits) -> float:
    return max((abs(hit.score) for hit in hits), default=0.0) or 1.0


def _bars(console: Console, hits: Hits, top: float, width: int, sign: str = "", length: int = BAR) -> list[Line]:
    """Scores with bars, full at `top`. A score below 0 has no bar, or with `sign` a dashed one."""
    numbers = [f"{hit.score:{sign}.3f}" for hit in hits]
    digits = max(map(len, numbers), default=0)
    before = digits + length + 2
    lines: list[Line] = []
    for i, (hit, number) in enumerate(zip(hits, numbers, strict=True)):
        long = round(length * abs(hit.score) / top)
        full = ("━" * long, "green" if i == 0 and not sign else "cyan")
        bar, style = full if hit.score > 0 else ("╌" * long if sign else "", "red")
        first, *more = _fold(console, hit.text, max(width - before, NARROW))
        lines.append([(f"{number:>{digits}} ", ""), (f"{bar:{length}}", style), (f" {first}", "")])
        lines += [[(" " * before + line, "")] for line in more]
    return lines


@lru_cache(4096)
def _fold(console: Console, text: str, width: int) -> tuple[str, ...]:
    """A text in lines of at most so many cells. Cached: predictions share descriptors."""
    text = shown(text)
    if cell_len(text) <= width:
        return (text,)
    return tuple(line.plain for line in Text(text).wrap(console, width, overflow="fold"))


def _contrast(console: Console, contrast: Contrast, width: int) -> list[Line]:
    """The parts of the margin side by side: what the image shows of the class ahead, what it lacks of the other."""
    a, b = shown(contrast.a.text), shown(contrast.b.text)
    title = f"{a} {contrast.a.score:.3f}, {b} {contrast.b.score:.3f}: {a} is {contrast.margin:.3f} ahead"
    top = max(_top(contrast.of_a), _top(contrast.of_b))
    half = width - width // 2
    sides = (("shows", a, contrast.of_a, half - 1), ("lacks", b, contrast.of_b, width - half - 1))
    heads = [_dim(console, f"by what it {does} of {name}", room) for does, name, _, room in sides]
    bars = [_bars(console, _widest(hits), top, room, sign="+", length=SHORT) for *_, hits, room in sides]
    return [*_dim(console, title, width), *_beside(heads, half), *_beside(bars, half)]


def _dim(console: Console, text: str, width: int) -> list[Line]:
    return [[(line, "dim")] for line in _fold(console, text, width)]


def _beside(sides: Sequence[list[Line]], width: int) -> list[Line]:
    """Two columns as one: the second begins after so many cells."""
    pairs = zip_longest(*sides, fillvalue=())
    return [[*a, (" " * (width - sum(cell_len(text) for text, _ in a)), ""), *b] for a, b in pairs]


def _widest(hits: Hits) -> Hits:
    """The parts that matter most, with the rest of them in one."""
    if len(hits) <= PARTS:
        return hits
    order = sorted(hits, key=lambda hit: -abs(hit.score))
    kept, rest = [*order[: PARTS - 1]], order[PARTS - 1 :]
    summed = Hit("", sum(hit.score for hit in rest), f"({len(rest)} more)")
    return (*sorted(kept, key=lambda hit: -hit.score), summed)
