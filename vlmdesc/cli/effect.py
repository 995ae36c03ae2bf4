"""What an edit does to the answers on labelled images, as vlmdesc edit --on shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmdesc.cli.border import say, say_notes
from vlmdesc.errors import ImageError
from vlmdesc.text import counted, few, shown

SHOWN, EACH = 8, 4  # classes whose change is printed, and errors; images that changed sides


def say_effect(failed: Sequence[ImageError], notes: Sequence[str], page: Path) -> None:
    """Images that could not be used, what else is to know, and where the page is, on stderr."""
    for error in failed[:SHOWN]:
        say(f"error: {error}")
    if len(failed) > SHOWN:
        say(f"{counted(len(failed), 'image')} could not be used")
    say_notes(notes)
    say(f"with images: {shown(page)}")


def print_effect(record: Mapping[str, Any]) -> None:
    """The groups and classes that moved, some images that changed sides, and the verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    moved = [row for row in record["groups"] if row["fixed"] + row["broken"]]
    rows = [("all images", record["overall"])] + [(f"in {row['group']}", row) for row in moved]
    rows += [(row["name"], row) for row in record["classes"][:SHOWN]]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for column in ("n", "right %", "points", "fixed", "broken", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for title, row in rows:
        table.add_row(*map(Text, (shown(title), *_cells(row))))
    console.print(table)
    still, more = len(record["groups"]) - len(moved), len(record["classes"]) - SHOWN
    rest = [f"{counted(still, 'group')} without a change"] if still else []
    rest += [f"{more:,} more classes"] if more > 0 else []
    if rest:
        console.print(Text(f"and {', '.join(rest)}", style="dim"))
    for kind, examples in record["examples"].items():
        if examples:
            console.print(Text(shown(f"{kind}: {few((e['image'] for e in examples), EACH)}"), style="dim"))
    console.print(Text(shown(record["verdict"]["text"]), style="bold"))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = row["ci95"]
    delta = f"{100 * row['delta']:+.1f} ({100 * low:.1f} to {100 * high:.1f})"
    p = "<0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}".replace("1.000", "1")
    right = f"{100 * row['before']:.1f} > {100 * row['after']:.1f}"
    return f"{row['n']:,}", right, delta, str(row["fixed"]), str(row["broken"]), p
