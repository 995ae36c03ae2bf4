"""vlmdesc reproduce"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.cli.options import Device, Json, Precision, open_encoder
from vlmdesc.cli.results import measured, print_methods, with_interval
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc.records import Report

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
    from vlmdesc.evaluation.task import read_task

    found = read_task(task, [published] if published else [])
    known = [*dict.fromkeys(row.model for row in found.expected)]
    if not known:
        raise InputError("no [[expected]] figures", where=task, fix="use vlmdesc eval")
    strange = [model for model in models if model not in known]
    if strange:
        raise InputError(f"nothing is expected of '{strange[0]}'", where=task, fix=f"models: {', '.join(known)}")
    rows: list[dict[str, Any]] = []
    failed = False
    for model in models or known:
        folder = (out or Path("vlmdesc-reproduce")) / f"{task.stem}-{known.index(model)}"
        wanted = tuple(dict.fromkeys((*found.methods, *(row.method for row in found.expected if row.model == model))))
        asked = replace(found, model=model, methods=wanted)
        evaluation = measured(asked, folder, partial(open_encoder, model, device, precision))
        rows += [held_against(vars(row), evaluation.report) for row in found.expected if row.model == model]
        failed = failed or bool(evaluation.photos.failed)
    if as_json:
        print(json.dumps({"schema": 1, "task": found.name or task.stem, "figures": rows}))
    else:
        _print(rows)
    if failed:
        raise typer.Exit(ImageError.exit_code)


def held_against(expected: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """An expected figure beside what was measured; nothing measured where the method was left out."""
    record = report.methods.get(expected["method"])
    if record is None:
        return dict(expected) | {"measured": None, "left_out": report.left_out.get(expected["method"], "")}
    return dict(expected) | {
        "measured": record["top1"],
        "ci95": record["ci95"],
        "difference": round(record["top1"] - expected["top1"], 6),
        "n": report.task["n"],
        "prompt_form": record["prompt_form"],
    }


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        Console().print(Text(shown(model), style="bold"), soft_wrap=True)
        columns = {
            "published %": [
                f"{100 * r['top1']:.2f}" + (f" ±{100 * r['std']:.2f}" if r["std"] else "") for r in of_model
            ],
            "measured %": [with_interval(r["measured"], r["ci95"]) if "ci95" in r else "left out" for r in of_model],
            "difference": [f"{100 * r['difference']:+.2f}" if "ci95" in r else "" for r in of_model],
        }
        print_methods([_named(row) for row in of_model], columns)


def _named(row: Mapping[str, Any]) -> tuple[str, ...]:
    source = row["source"] + (f" ({row['note']})" if row["note"] else "")
    return row["method"], row.get("prompt_form") or row["left_out"], source
