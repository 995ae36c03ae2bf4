"""vlmdesc compare"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmdesc.cli.options import Json
from vlmdesc.errors import counted, shown

Results = Annotated[
    Path, typer.Argument(help="A folder that vlmdesc eval wrote, or the results.json in it.", metavar="RESULTS")
]
Only = Annotated[str, typer.Option("--methods", help="With commas between: only these methods.", metavar="A,B,...")]


def compare(first: Results, second: Results, methods: Only = "", as_json: Json = False) -> None:
    """Compare two evaluations on the pictures they share: two models, two descriptor sets, before and after an edit.

    Differences are the second less the first, paired by picture, with exact McNemar tests corrected by Holm.

    Example: vlmdesc compare vlmdesc-eval edited-eval
    """
    from vlmdesc.evaluate.compare import compare as paired

    found = paired(first, second, [name.strip() for name in methods.split(",")] if methods else ())
    print(json.dumps(found)) if as_json else _print(found)


def _print(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for side in ("a", "b"):
        about = found[side]
        rest = f", {about['unpaired']:,} pictures of its own" if about["unpaired"] else ""
        line = f"{side}: {about['results']}: {about['data']}, {about['encoder']}{rest}"
        console.print(Text(shown(line)), soft_wrap=True)
    console.print(Text(f"{counted(found['n'], 'picture')} in both"))
    table = Table(box=None, header_style="bold")
    table.add_column("method, and its first text", overflow="fold")
    for column in ("a %", "b %", "b - a", "95 % CI", "fixed", "broken", "p (Holm)"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in found["methods"]:
        low, high = (100 * end for end in row["ci95"])
        shares = (f"{100 * row['a']:.1f}", f"{100 * row['b']:.1f}", f"{100 * row['delta']:+.1f}")
        counts = (f"{row['fixed']:,}", f"{row['broken']:,}", f"{row['p_holm']:.2g}")
        forms = "".join(f"\n  {shown(form)}" for form in dict.fromkeys(row["forms"]))
        table.add_row(
            Text(shown(row["method"])).append(forms, style="dim"), *shares, f"{low:+.1f} to {high:+.1f}", *counts
        )
    console.print(table)
