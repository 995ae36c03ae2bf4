"""vlmdesc lint"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmdesc.assets import shipped_sets
from vlmdesc.cli.border import say
from vlmdesc.cli.options import Json, open_encoder
from vlmdesc.errors import InputError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from rich.console import Console

    from vlmdesc.descriptors.lint import Finding
    from vlmdesc.descriptors.mend import Repair
    from vlmdesc.records import Descriptors

SHOWN = 50  # findings printed; all are in --json
FOUND = 1  # exit code


def _codes() -> list[str]:
    from vlmdesc.descriptors.lint import CHECKS

    return [*CHECKS]


File = Annotated[
    str,
    typer.Argument(
        help=f"Descriptor file (JSON), or a set that ships: {', '.join(shipped_sets())}.",
        metavar="FILE|SET",
        autocompletion=lambda: list(shipped_sets()),
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
Ignore = Annotated[
    list[str], typer.Option(help="A code to leave out; may be given again.", metavar="CODE", autocompletion=_codes)
]


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
    from vlmdesc.descriptors.lint import known_codes
    from vlmdesc.descriptors.phrase import get_phrase
    from vlmdesc.records.descriptors import open_set

    descriptors = open_set(file)
    known_codes(ignore), get_phrase(phrase)  # what is wrong is told before a model is loaded
    target = _target(file, fix, out)
    changes: tuple[Repair, ...] = ()
    if target:
        descriptors, changes = _mended(descriptors, ignore)
        if changes or out:
            descriptors.save(target)
    written = str(target) if target and (changes or out) else None
    findings = _findings(descriptors, model, phrase, ignore)
    if as_json:
        fixed = {"changes": [asdict(c) for c in changes], "written": written} if fix else {}
        print(json.dumps(_record(file, descriptors, findings) | fixed))
    else:
        _print(descriptors, findings, changes)
        if fix:
            say(f"written: {shown(written)}" if written else "nothing to mend, so no file was written")
    if findings:
        raise typer.Exit(FOUND)


def _target(file: str, fix: bool, out: str) -> Path | None:
    """Where --fix writes; None without it. Raises: InputError for --out without --fix, and for a file that exists."""
    if not fix:
        if out:
            raise InputError("--out is for --fix", fix="add --fix")
        return None
    if out:
        return Path(out)
    given = Path(file)
    target = given.with_name(f"{given.stem}-fixed.json") if given.is_file() else Path(f"{file}-fixed.json")
    if os.path.lexists(target):
        raise InputError("there is such a file already", where=target, fix="name this or another one with --out")
    return target


def _mended(descriptors: Descriptors, ignore: Sequence[str]) -> tuple[Descriptors, tuple[Repair, ...]]:
    from vlmdesc.descriptors.lint import lint as check
    from vlmdesc.descriptors.mend import mend

    return mend(descriptors, check(descriptors, ignore=ignore), ignore)


def _findings(descriptors: Descriptors, model: str, phrase: str, ignore: Sequence[str]) -> tuple[Finding, ...]:
    from vlmdesc.cli.progress import encoding_texts
    from vlmdesc.descriptors.lint import lint as check

    if not model:
        return check(descriptors, phrase=phrase, ignore=ignore)
    with encoding_texts(open_encoder(model, "auto", "fp32"), len(descriptors.rows)) as encoder:
        return check(descriptors, encoder, phrase, ignore)


def _record(file: str, descriptors: Descriptors, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "file": file,
        "classes": len(descriptors.classes),
        "rows": len(descriptors.rows),
        "findings": [asdict(finding) for finding in findings],
        "counts": _counts(findings),
    }


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    """Findings by code, most first."""
    return dict(Counter(finding.code for finding in findings).most_common())


def _print(descriptors: Descriptors, findings: Sequence[Finding], changes: Sequence[Repair]) -> None:
    from rich.console import Console
    from rich.text import Text

    console, counts = Console(), _counts(findings)
    names = {c.id: c.name for c in descriptors.classes}
    for change in changes:
        after = "dropped" if change.after is None else change.after
        line = f"row {change.row} of {names[change.class_id]}, {change.code}: {change.before} -> {after}"
        console.print(Text(shown(line)), soft_wrap=True)
    console.print(Text(_total(descriptors, findings, changes), style="bold"))
    limit = len(findings)
    if limit > SHOWN:
        console.print(Text("\n".join(f"{n:7,}  {code}" for code, n in counts.items())))
        limit = SHOWN // len(counts)  # some of each code, rather than all of one
    for code in counts:
        _print_code(console, names, [f for f in findings if f.code == code][:limit])
    more = sum(max(n - limit, 0) for n in counts.values())
    if more:
        console.print(Text(f"\n... and {more:,} more; --json shows all"))


def _total(descriptors: Descriptors, findings: Sequence[Finding], changes: Sequence[Repair]) -> str:
    size = f"{counted(len(descriptors.classes), 'class')}, {counted(len(descriptors.rows), 'row')}"
    total = f"{counted(len(findings), 'finding') if findings else 'no findings'} in {size}"
    return f"{counted(len(changes), 'change')}; then {total}" if changes else total


def _print_code(console: Console, names: dict[str, str], findings: Sequence[Finding]) -> None:
    """The findings of one code, under what it is about and what to do."""
    from rich.table import Table
    from rich.text import Text

    from vlmdesc.descriptors.lint import CHECKS

    first = findings[0]
    about = Text(f": {CHECKS[first.code].about}; {first.remedy}")
    console.print(Text(f"\n{first.code}", style="bold").append_text(about))
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
