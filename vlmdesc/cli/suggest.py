"""vlmdesc suggest"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import vlmdesc as vd
from vlmdesc.cli import options
from vlmdesc.cli.border import say, say_failed, say_notes
from vlmdesc.cli.describe import BaseUrl, KeyVariable
from vlmdesc.cli.results import with_interval
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, p_value, shown

OnlyClass = Annotated[str, typer.Option("--class", help="Aim at the images of this class.", metavar="CLASS")]
OnlyGroup = Annotated[str, typer.Option("--group", help="Aim at the images of this group.", metavar="GROUP")]
Borrow = Annotated[
    list[str],
    typer.Option(
        help="Another descriptor set to borrow from, beside the other classes' own; may be given again.",
        metavar="FILE|SET",
    ),
]
Ask = Annotated[
    str,
    typer.Option(
        help="Also ask this language model what sets a class apart from those it is taken for: a name, local, or "
        "local:FILE, as for vlmdesc describe.",
        metavar="LLM",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Patch with the edits that help.", metavar="FILE.jsonl", show_default="edits.jsonl, if new"),
]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the halves.")]


def suggest(
    dataset: options.DataSource,
    descriptors: options.DescriptorFile,
    class_: OnlyClass = "",
    group: OnlyGroup = "",
    group_column: options.GroupColumn = "",
    borrow: Borrow = [],  # noqa: B006 - typer reads it
    ask: Ask = "",
    base_url: BaseUrl = "",
    api_key_env: KeyVariable = "OPENAI_API_KEY",
    out: Out = None,
    model: options.Model = "",
    phrase: options.Worded = "plain",
    pool: options.Pool = "mean",
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    image_column: options.ImageColumn = "",
    label_column: options.LabelColumn = "",
    split: options.Split = "",
    loose_labels: options.Loose = False,
    allow_absent: options.AllowAbsent = False,
    ignore_unknown: options.IgnoreUnknown = False,
    seed: Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Suggest edits of descriptors that help, or say that none does.

    Edits are chosen on one half of the images and measured on the other: dropping a descriptor, weighing a class's
    anew, borrowing one that sets a class apart from those it is taken for, or asking a language model for such. What
    helps by more than chance becomes a patch: look at it, then vlmdesc edit FILE apply PATCH.

    Example: vlmdesc suggest photos.csv --descriptors zoo.json --group-column place --class hen --group indoors
    """
    from vlmdesc.cli.progress import bars

    target, given = _target(out), vd.Descriptors.load(descriptors)
    endpoint = vd.Endpoint(key_variable=api_key_env, concurrency=1)
    asker = vd.Asker(given, ask, endpoint, base_url) if ask else None
    columns = {"image_column": image_column, "label_column": label_column, "group_column": group_column}
    joining = vd.Joining(loose=loose_labels, allow_absent=allow_absent, ignore_unknown=ignore_unknown)
    with bars() as progress:
        found = vd.suggest(
            options.open_data(dataset, split=split, **columns),
            given,
            lambda: options.open_encoder(model, device, precision),
            class_=class_,
            group=group,
            borrow=borrow,
            ask=asker,
            phrase=phrase,
            pool=pool,
            joining=joining,
            seed=seed,
            progress=progress,
        )
    say_failed(found.failed)
    say_notes(found.notes)
    if found.edits:
        found.save(target)
    record = found.to_dict() | {"written": str(target) if found.edits else None}
    if as_json:
        print(json.dumps(record))
    else:
        _print(record, aimed=bool(class_ or group))
    if found.edits:
        what = f"{counted(len(found.edits), 'edit')} in {shown(target)}"
        say(f"{what}; next: vlmdesc edit FILE apply {shown(target)} --on OTHER-PICTURES")
    if found.failed or (asker and asker.failed):
        raise typer.Exit(ImageError.exit_code)


def _target(out: Path | None) -> Path:
    """Where the patch goes. Raises: InputError where it cannot, or would replace what is there unasked."""
    target = out or Path("edits.jsonl")
    if not out and os.path.lexists(target):
        raise InputError("there is such a file already", where=target, fix="name this or another one with --out")
    if target.is_dir() or not target.parent.is_dir():
        raise InputError("cannot be written", where=target, fix="choose another with --out, in a folder that exists")
    if target.suffix != ".jsonl":  # whatever else it is, it is no patch that may be replaced
        raise InputError("a patch needs a name ending in .jsonl", where=target, fix="choose another with --out")
    return target


def _print(record: Mapping[str, Any], aimed: bool) -> None:
    """What was measured on held-out images, best first, and the verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vlmdesc.records.forms import edit_of

    console, table = Console(), Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    sides = {"target": "aimed at", "overall": "all"} if aimed else {"overall": "all"}
    table.add_column("edit", overflow="fold")
    n = [f"{title} (n={tried[side]['n']:,})" for tried in record["tried"][:1] for side, title in sides.items()]
    for column in [*n, "p"]:
        table.add_column(column, justify="right", no_wrap=True)
    for tried in [*record["tried"], *filter(None, [record["together"]])]:
        lines = [str(edit_of(edit, "edits")) for edit in tried["edits"]]
        joined = tried["kind"] == "together"
        title = f"these {len(lines)} together, picked by this half too" if joined else "\n".join(map(shown, lines))
        cells = [with_interval(tried[side]["delta"], tried[side]["ci95"], sign="+") for side in sides]
        p = "" if joined else p_value(tried["target"]["p_holm"])  # no test of what passed the tests on the same images
        table.add_row(*map(Text, (title, *cells, p)), style="" if tried["helps"] else "dim")
    if record["tried"]:
        console.print(table)
    console.print(Text(shown(record["verdict"]), style="bold"))
