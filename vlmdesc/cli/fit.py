"""vlmdesc fit, and vlmdesc head"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say, say_failed, say_notes, with_border
from vlmdesc.cli.options import (
    DataSource,
    DescriptorFile,
    Device,
    Json,
    LabelColumn,
    Model,
    Phrase,
    Pool,
    Precision,
    Split,
    complete,
    open_data,
    open_encoder,
)
from vlmdesc.cli.progress import bars
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, few, shown

Kind = Annotated[str, typer.Option(help="What decides:", autocompletion=complete("heads"))]
Out = Annotated[Path, typer.Option(help="The folder to make.", metavar="HEAD")]
Replace = Annotated[bool, typer.Option("--replace", help="In place of the head that is there.")]
HeadFolder = Annotated[Path, typer.Argument(help="A head: the folder that vlmdesc fit made.", metavar="HEAD")]

head = typer.Typer(help="Heads: what decides, kept in a folder.", no_args_is_help=True)


def fit(
    dataset: DataSource,
    descriptors: DescriptorFile,
    out: Out,
    kind: Kind = "prototypes",
    model: Model = "",
    phrase: Phrase = "",
    pool: Pool = "mean",
    split: Split = "",
    label_column: LabelColumn = "",
    device: Device = "auto",
    precision: Precision = "fp32",
    replace_: Replace = False,
    as_json: Json = False,
) -> None:
    """Fit a head to labelled images and keep it: a folder that vlmdesc classify --head decides by, anywhere.

    Example: vlmdesc fit labelled/ --descriptors everyday --kind neighborhood --out everyday.head
    """
    if len(dataset) > 1:
        raise InputError("several data sets", fix="give one, or a table of all")
    data, encoder = open_data(dataset, label_column=label_column, split=split), partial(open_encoder, model, device)
    options: dict[str, Any] = {"phrase": phrase, "pool": pool, "split": split, "out": out, "replace": replace_}
    with bars() as progress:
        fitted = vd.fit(data, descriptors, partial(encoder, precision), kind, **options, progress=progress)
    say_failed(fitted.failed)
    say_notes(fitted.notes)
    found = vd.head_record(fitted.head)
    print(json.dumps(found)) if as_json else _print(found)
    say(f"head in {shown(out)}; next: vlmdesc classify PICTURES --head {shown(out)}")
    if fitted.failed:
        raise typer.Exit(ImageError.exit_code)


@head.command("show")
@with_border
def show(folder: HeadFolder, as_json: Json = False) -> None:
    """Show what a head is: its kind and classes, whose embeddings it reads, and what it was fitted on.

    Example: vlmdesc head show everyday.head
    """
    found = vd.head_record(vd.load_head(folder))
    print(json.dumps(found)) if as_json else _print(found)


def _print(found: Mapping[str, Any]) -> None:
    """The card, one thing a line."""
    names = few((class_["name"] for class_ in found["classes"]), 8)
    fitted = found["fitted_on"]
    about = {
        "kind": found["kind"],
        "id": found["id"],
        "classes": f"{counted(len(found['classes']), 'class')}: {names}",
        "model": f"{found['model']} in {found['precision']} ({found['encoder']})",
    }
    learned = {
        "fitted on": f"{counted(fitted['images'], 'image')} of {fitted.get('data', '?')}" if fitted else "nothing",
        "learned": found.get("text", ""),
        "temperature": found["temperature"] or "none",
        "made from": found["parent"],
    }
    settings = {shown(name): value for name, value in found["settings"].items()}
    lines = about | settings | about | learned  # a setting of such a name hides nothing
    width = max(map(len, lines)) + 2
    for name, value in lines.items():
        if value:
            print(f"{name:{width}}{shown(value)}")
