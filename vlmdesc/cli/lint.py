"""vlmdesc lint"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say, say_notes
from vlmdesc.cli.options import SETS, Json, complete, open_encoder
from vlmdesc.cli.progress import bars
from vlmdesc.errors import InputError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from rich.console import Console

    from vlmdesc.descriptors.lint import Finding
    from vlmdesc.descriptors.mend import Repair
    from vlmdesc.evaluation.findings import Findings

SHOWN = 50  # findings printed; all are in --json
FOUND = 1  # exit code

File = Annotated[
    str,
    typer.Argument(
        help=f"Descriptor file (JSON), or a set that ships: {SETS}.",
        metavar="FILE|SET",
        autocompletion=complete("sets"),
    ),
]
Fix = Annotated[
    bool,
    typer.Option("--fix", help="Write a mended copy: duplicates and rows that show nothing go, texts are cleaned."),
]
Out = Annotated[
    str,
    typer.Option(
        help="Where --fix writes, over what is there.", metavar="FILE", show_default="FILE-fixed.json, if new"
    ),
]
Reader = Annotated[  # without VLMDESC_MODEL: a model is loaded only where it is asked for here
    str,
    typer.Option(
        "--model", help="Also find what this model cuts off and what it cannot tell apart.", show_default="none"
    ),
]
Worded = Annotated[str, typer.Option("--phrase", help="How name and descriptor are worded where --model measures.")]
Ignore = Annotated[list[str], typer.Option(help="A code to leave out; may be given again.", metavar="CODE")]


def lint(
    file: File,
    fix: Fix = False,
    out: Out = "",
    model: Reader = "",
    phrase: Worded = "plain",
    ignore: Ignore = [],  # noqa: B006 - typer reads it
    as_json: Json = False,
) -> None:
    """Find descriptors that keep a class from being told: copies, names, sounds, cut-off text, marks, and more.

    The exit status is 1 when something is found, or left by --fix. Rows count from 0.

    Example: vlmdesc lint my-birds.json --fix
    """
    target, descriptors = _target(file, fix, out), vd.Descriptors.load(file)
    found = vd.lint(descriptors, phrase=phrase, ignore=ignore)  # what is wrong is told before a model is loaded
    mended = vd.fix(descriptors, ignore=ignore) if target else None
    changes = mended.changes if mended else ()
    written = str(target) if target and (changes or out) else None
    if mended and written:
        descriptors = mended.descriptors
        descriptors.save(written)
    if model or changes:
        encoder = open_encoder(model, "auto", "fp32") if model else None
        with bars() as progress:
            found = vd.lint(descriptors, encoder, phrase=phrase, ignore=ignore, progress=progress)
    say_notes(found.notes)
    if as_json:
        fixed = mended.to_dict() | {"written": written} if mended else {}
        print(json.dumps({"file": file} | found.to_dict() | fixed))
    else:
        _print(found, changes)
        if fix:
            say(f"written: {shown(written)}" if written else "nothing to mend, so no file was written")
    if found.findings:
        raise typer.Exit(FOUND)


def _target(file: str, fix: bool, out: str) -> Path | None:
    """Where --fix writes; None without it. Raises: InputError for --out without --fix, and for a file that exists."""
    if not fix:
        if out:
            raise InputError("--out is for --fix", fix="add --fix")
        return None
    given = Path(file)
    target = given.with_name(f"{given.stem}-fixed.json") if given.is_file() else Path(f"{file}-fixed.json")
    if not out and os.path.lexists(target):
        raise InputError("there is such a file already", where=target, fix="name this or another one with --out")
    return Path(out) if out else target


def _print(found: Findings, changes: Sequence[Repair]) -> None:
    from rich.console import Console
    from rich.text import Text

    console, names = Console(), {c.id: c.name for c in found.descriptors.classes}
    for change in changes:
        after = "dropped" if change.after is None else change.after
        line = f"row {change.row} of {names[change.class_id]}, {change.code}: {change.before} -> {after}"
        console.print(Text(shown(line)), soft_wrap=True)
    limit = total = len(found.findings)
    size = f"{counted(len(found.descriptors.classes), 'class')}, {counted(len(found.descriptors.rows), 'row')}"
    made = f"{counted(len(changes), 'change')}; then " if changes else ""
    console.print(Text(f"{made}{counted(total, 'finding') if total else 'no findings'} in {size}", style="bold"))
    if total > SHOWN:
        console.print(Text("\n".join(f"{n:7,}  {code}" for code, n in found.counts.items())))
        limit = SHOWN // len(found.counts)  # some of each code, rather than all of one
    for code in found.counts:
        own = [finding for finding in found.findings if finding.code == code][:limit]
        total -= len(own)
        _print_code(console, names, own)
    if total:
        console.print(Text(f"\n... and {total:,} more; --json shows all"))


def _print_code(console: Console, names: dict[str, str], findings: Sequence[Finding]) -> None:
    """The findings of one code, under what it is about and what to do."""
    from rich.table import Table
    from rich.text import Text

    first = findings[0]
    console.print(Text(f"\n{first.code}", style="bold").append(f": {first.about}; {first.remedy}", style="not bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold", max_width=28)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    table.add_column(overflow="fold", ratio=1)
    for finding in findings:
        row = "" if finding.row is None else str(finding.row)
        cells = (names[finding.class_id], row, finding.text, finding.what)
        table.add_row(*(Text(shown(cell)) for cell in cells))
    console.print(table)
