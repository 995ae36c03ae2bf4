"""vlmdesc reproduce"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say_notes
from vlmdesc.cli.options import Device, Json, Precision, open_encoder
from vlmdesc.cli.results import print_methods, resumable, with_interval
from vlmdesc.errors import ImageError
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc.evaluation.task import Reproduced

TaskFile = Annotated[
    Path, typer.Argument(help="A task file with [[expected]] figures; see eval/.", metavar="TASK.toml")
]
Published = Annotated[
    Path | None,
    typer.Option(help="Folder of published descriptor files, where the task names files that do not ship."),
]
Models = Annotated[list[str], typer.Option("--model", help="Only this model; give it again for more.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder with a folder of results for each model.", show_default="vlmdesc-reproduce")
]


def reproduce(
    task: TaskFile,
    published: Published = None,
    models: Models = [],  # noqa: B006 - typer's way to say that none need be given
    out: Out = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    as_json: Json = False,
) -> None:
    """Measure what a task file expects, and show measured beside published figures.

    Example: vlmdesc reproduce eval/food101.toml --published classify_by_description_release/descriptors
    """
    from vlmdesc.cli.progress import bars

    with bars() as progress, resumable():
        found = vd.reproduce(
            task,
            models=models,
            out=out or "vlmdesc-reproduce",
            folders=[published] if published else [],
            open_encoder=lambda model: open_encoder(model, device, precision),
            progress=progress,
        )
    say_notes(found.notes)
    print(json.dumps(found.to_dict())) if as_json else _print(found.figures)
    if found.failed:
        raise typer.Exit(ImageError.exit_code)


def _print(figures: Sequence[Reproduced]) -> None:
    from rich.console import Console
    from rich.text import Text

    for model in dict.fromkeys(figure.expected.model for figure in figures):
        rows = [figure for figure in figures if figure.expected.model == model]
        ours = [row.found for row in rows]
        Console().print(Text(shown(model), style="bold"), soft_wrap=True)
        columns = {
            "published %": [_published_figure(row) for row in rows],
            "measured %": [with_interval(of.measured, of.ci95) if of else "left out" for of in ours],
            "difference": [f"{100 * of.difference:+.2f}" if of else "" for of in ours],
        }
        print_methods([_name_cells(row) for row in rows], columns)


def _published_figure(row: Reproduced) -> str:
    return f"{100 * row.expected.top1:.2f}" + (f" ±{100 * row.expected.std:.2f}" if row.expected.std else "")


def _name_cells(row: Reproduced) -> tuple[str, ...]:
    source = row.expected.source + (f" ({row.expected.note})" if row.expected.note else "")
    return row.expected.method, row.found.prompt_form if row.found else row.left_out, source
