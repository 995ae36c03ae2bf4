"""The app: every command, in the panel of the room of the house it belongs to."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

import vlmdesc
from vlmdesc.cli.audit import audit
from vlmdesc.cli.border import DEBUG, with_border
from vlmdesc.cli.cache import cache
from vlmdesc.cli.classify import classify
from vlmdesc.cli.compare import compare
from vlmdesc.cli.data import data
from vlmdesc.cli.demo import demo
from vlmdesc.cli.describe import describe
from vlmdesc.cli.edit import edit
from vlmdesc.cli.embed import embed
from vlmdesc.cli.eval import evaluate
from vlmdesc.cli.fit import fit, head
from vlmdesc.cli.index import index
from vlmdesc.cli.lint import lint
from vlmdesc.cli.models import models
from vlmdesc.cli.name import name
from vlmdesc.cli.options import Listed
from vlmdesc.cli.reproduce import reproduce
from vlmdesc.cli.search import search
from vlmdesc.cli.select import select
from vlmdesc.cli.suggest import suggest

DESCRIBE = "Describe: classes to descriptors"
ENCODE, CLASSIFY = "Encode: images and texts to embeddings", "Classify: decisions with reasons"
CONCEPTS = "Concepts: search images, name what they show"
EVALUATE = "Evaluate: do descriptors help, and whom do they fail?"

app = typer.Typer(
    name="vlmdesc",
    help="Image classification by description: what does a class look like, and does the image show it?",
    epilog="Start with: vlmdesc demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command = partial(app.command, cls=Listed)
command(rich_help_panel=DESCRIBE)(with_border(describe))
command(rich_help_panel=DESCRIBE)(with_border(lint))
command(rich_help_panel=DESCRIBE)(with_border(edit))
command(rich_help_panel=CLASSIFY)(with_border(classify))
command(rich_help_panel=CLASSIFY)(with_border(demo))
command(rich_help_panel=CLASSIFY)(with_border(select))
command(rich_help_panel=CLASSIFY)(with_border(fit))
app.add_typer(head, name="head", rich_help_panel=CLASSIFY)
command(rich_help_panel=CONCEPTS)(with_border(search))
command(rich_help_panel=CONCEPTS)(with_border(name))
app.add_typer(index, name="index", rich_help_panel=CONCEPTS)
command("eval", rich_help_panel=EVALUATE)(with_border(evaluate))
command(rich_help_panel=EVALUATE)(with_border(audit))
command(rich_help_panel=EVALUATE)(with_border(suggest))
command(rich_help_panel=EVALUATE)(with_border(compare))
command(rich_help_panel=EVALUATE)(with_border(reproduce))
command(rich_help_panel=ENCODE)(with_border(data))
command(rich_help_panel=ENCODE)(with_border(embed))
command(rich_help_panel=ENCODE)(with_border(models))
app.add_typer(cache, name="cache", rich_help_panel=ENCODE)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"vlmdesc {vlmdesc.__version__}")
        raise typer.Exit


def _debug(wanted: bool) -> None:
    if wanted:
        os.environ[DEBUG] = "1"


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", callback=_debug, help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `vlmdesc` command."""
    app()
