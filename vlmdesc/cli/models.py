"""vlmdesc models"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.options import Json

Search = Annotated[str, typer.Argument(help="Only models whose name holds this.", metavar="[TEXT]")]
All = Annotated[bool, typer.Option("--all", help="Also the models that would have to be downloaded.")]


def models(search: Search = "", all_: All = False, as_json: Json = False) -> None:
    """List the models that can be used: the starter, those in the hub's cache, and on request all others.

    Example: vlmdesc models ViT-B-32
    """
    from rich.console import Console
    from rich.table import Table

    with Console(stderr=True).status("looking for models"):
        found = vd.models(search)
    shown = [entry for entry in found if entry.here or all_ or search]
    if as_json:
        print(json.dumps([entry.to_dict() for entry in shown]))
        return
    table = Table(box=None, header_style="bold")
    table.add_column("model", no_wrap=True, min_width=max(len(entry.model) for entry in shown))  # names are copied
    table.add_column("here")
    table.add_column("about", overflow="fold")
    for entry in shown:
        table.add_row(entry.model, "yes" if entry.here else "-", entry.about)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table)
    if hidden := len(found) - len(shown):
        console.print(f"\n{hidden} more can be downloaded: vlmdesc models --all, or vlmdesc models TEXT.")
    console.print("Also: local-dir:FOLDER, ARCHITECTURE/@FILE (a local checkpoint) and hf-hub:ORG/REPO.")
