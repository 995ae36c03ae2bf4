"""An evaluation, and tables of methods, printed for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vlmdesc.cli.border import say
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc import Evaluation
    from vlmdesc.records.report import Difference

MIN_ROOM = 18  # characters for the names of methods


@contextmanager
def resumable() -> Iterator[None]:
    """Says, when it is interrupted, that nothing was lost."""
    try:
        yield
    except KeyboardInterrupt:
        say("what was encoded is kept; the same command goes on from there")
        raise


def print_evaluation(found: Evaluation) -> None:
    """The table of methods, what was learned, and the verdict."""
    from rich.console import Console
    from rich.text import Text

    console, report = Console(), found.report
    task, ahead = report.task, report.ahead
    title = f"{task.name}: {counted(task.n, 'image')}, {counted(task.classes, 'class')}, {report.encoder.name}"
    console.print(Text(shown(title), style="bold"), soft_wrap=True)
    columns = {
        "top-1 %": [with_interval(of.top1, of.ci95) for of in report.methods.values()],
        "top-5 %": [f"{100 * of.top5:.1f}" for of in report.methods.values()],
        "main ahead by": [_ahead(ahead.get(name)) for name in report.methods],
    }
    roles = {name: " (control)" for name, of in report.methods.items() if of.kind == "control"}
    roles[report.main] = " (main)"
    names = [(name + roles.get(name, ""), of.prompt_form) for name, of in report.methods.items()]
    print_methods(names, columns)
    if found.learned:
        console.print()
    for name, sentence in found.learned.items():
        console.print(Text(shown(f"{name}: {sentence}"), style="dim"))
    for verdict in report.verdict.all:
        console.print()
        console.print(Text(shown(f"verdict ({verdict.code}): {verdict.text}")))


def print_methods(methods: Sequence[Sequence[str]], columns: Mapping[str, Sequence[str]]) -> None:
    """A table of methods: name in the first line of each row and, cut where there is no room, what belongs to it below;
    the other columns are never cut. A name that says "(main)" is bold.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, table = Console(), Table(box=None, header_style="bold")
    widths = {title: max(map(len, (title, *cells))) for title, cells in columns.items()}
    room = max(MIN_ROOM, console.width - sum(widths.values()) - 2 * (len(widths) + 1))
    table.add_column("method, and its first text", overflow="ellipsis", no_wrap=True, max_width=room)
    for title, width in widths.items():
        table.add_column(title, justify="right", no_wrap=True, min_width=width)
    for (name, *below), *row in zip(methods, *columns.values(), strict=True):
        lead = Text(shown(name), style="bold" if name.endswith("(main)") else "")
        for line in below:
            lead.append(f"\n  {shown(line)}", style="dim not bold")
        table.add_row(lead, *row)
    console.print(table)


def _ahead(row: Difference | None) -> str:
    if row is None:
        return ""
    return with_interval(row.delta, row.ci95, sign="+", mark="*" if row.state in ("better", "worse") else "")


def with_interval(share: float, ends: Sequence[float], sign: str = "", mark: str = "") -> str:
    """A fraction and its interval, in points: "41.8 (40.6 to 43.0)"."""
    return f"{100 * share:{sign}.1f}{mark} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
