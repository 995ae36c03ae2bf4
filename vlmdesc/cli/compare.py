"""vlmdesc compare"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.options import Json
from vlmdesc.cli.results import print_methods, with_interval
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc.evaluation.compare import Comparison

Results = Annotated[
    Path, typer.Argument(help="A folder that vlmdesc eval wrote, or the results.json in it.", metavar="RESULTS")
]
Only = Annotated[str, typer.Option("--methods", help="With commas between: only these methods.", metavar="A,B,...")]


def compare(first: Results, second: Results, methods: Only = "", as_json: Json = False) -> None:
    """Compare two evaluations on the images they share: two models, two descriptor sets, before and after an edit.

    Differences are the second less the first, paired by image, with exact McNemar tests corrected by Holm.

    Example: vlmdesc compare vlmdesc-eval edited-eval
    """
    found = vd.compare(first, second, [name.strip() for name in methods.split(",")] if methods else ())
    print(json.dumps(found.to_dict())) if as_json else _print(found)


def _print(found: Comparison) -> None:
    from rich.console import Console
    from rich.text import Text

    console, rows = Console(), found.methods
    for name, side in (("a", found.a), ("b", found.b)):
        rest = f", {side.unpaired:,} images of its own" if side.unpaired else ""
        console.print(Text(shown(f"{name}: {side.results}: {side.data}, {side.encoder}{rest}")), soft_wrap=True)
    console.print(Text(f"{counted(found.n, 'image')} in both"))
    columns = {
        "a %": [f"{100 * row.a:.1f}" for row in rows],
        "b %": [f"{100 * row.b:.1f}" for row in rows],
        "b - a (95 % CI)": [with_interval(row.delta, row.ci95, sign="+") for row in rows],
        "fixed": [f"{row.fixed:,}" for row in rows],
        "broken": [f"{row.broken:,}" for row in rows],
        "p (Holm)": [f"{row.p_holm:.2g}" for row in rows],
    }
    print_methods([(row.method, *dict.fromkeys(row.forms)) for row in rows], columns)
