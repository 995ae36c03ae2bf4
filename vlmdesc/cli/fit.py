"""vlmdesc fit, and vlmdesc head"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.cli.border import bordered, say
from vlmdesc.cli.fitting import labelled, open_reference
from vlmdesc.cli.options import (
    KNOWN,
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
    open_encoder,
)
from vlmdesc.embeddings.load import lasting
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, few, shown

if TYPE_CHECKING:
    from vlmdesc.classification.heads import Head, HeadCard
    from vlmdesc.embeddings.labelled import Labelled

Kind = Annotated[str, typer.Option(help="What decides:", autocompletion=KNOWN["kind"])]
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
    from vlmdesc.classification.classifier import Classifier
    from vlmdesc.classification.heads.folder import HEADS, check_place, get_fit, save_head
    from vlmdesc.classification.score import get_pool
    from vlmdesc.cli.progress import encoding_texts
    from vlmdesc.descriptors.phrase import get_phrase
    from vlmdesc.embeddings.store import Store
    from vlmdesc.records.descriptors import open_set

    get_fit(kind)
    if len(dataset) > 1:
        raise InputError("several data sets", fix="give one, or a table of all")
    given, phrase = open_set(descriptors), phrase or HEADS[kind].phrase
    get_phrase(phrase), get_pool(pool)
    check_place(out, replace_)
    data = open_reference(dataset[0], given, label_column, split)
    encoder, store = open_encoder(model, device, precision), Store()
    images = labelled(data, given, encoder, store, "images")
    with encoding_texts(encoder, len(given.rows) + len(given.classes)) as watched:
        plain = Classifier(watched, given, pool, phrase=phrase, store=store)
        found = plain.fit(images.vectors, images.labels, kind, phrase=phrase).head
    card = _card(found.card, images, data.name, split, lasting(model))
    fitted = replace(found, card=card)  # type: ignore[type-var]
    save_head(fitted, out, replace=replace_)
    print(json.dumps(record(fitted))) if as_json else _print(record(fitted))
    say(f"head in {shown(out)}; next: vlmdesc classify PICTURES --head {shown(out)}")
    if images.failed:
        raise typer.Exit(ImageError.exit_code)


def _card(card: HeadCard, images: Labelled, data: str, split: str, model: str) -> HeadCard:
    about = {"data": data, "split": split, "data_hash": images.fingerprint(card.classes)}
    return replace(card, model=model, fitted_on=dict(card.fitted_on or {}) | about)


@head.command("show")
@bordered
def show(folder: HeadFolder, as_json: Json = False) -> None:
    """Show what a head is: its kind and classes, whose embeddings it reads, and what it was fitted on.

    Example: vlmdesc head show everyday.head
    """
    from vlmdesc.classification.heads import load_head

    found = record(load_head(folder))
    print(json.dumps(found)) if as_json else _print(found)


def record(head: Head) -> dict[str, Any]:
    """A head's card as JSON has it, with what it learned as a sentence."""
    from dataclasses import asdict

    from vlmdesc.classification.heads.folder import head_id
    from vlmdesc.classification.heads.learned import sentence, summarize

    about = summarize(head)
    more = {"learned": about, "text": sentence(about)} if about else {}
    return {"schema": 1, "id": head_id(head), **asdict(head.card), **more}


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
