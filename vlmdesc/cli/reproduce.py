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
from vlmdesc.cli.results import measured
from vlmdesc.errors import ImageError, InputError, shown

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
    from vlmdesc.evaluate.task import read_task

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
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for column in ("model", "method", "published %", "measured %", "95 % CI", "difference", "source"):
        table.add_column(column, justify="right" if column in ("published %", "measured %", "difference") else "left")
    for row in rows:
        table.add_row(*(Text("\n".join(map(shown, cell.split("\n")))) for cell in _cells(row)))
    Console().print(table)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    method = row["method"] + (f"\n  {row['prompt_form']}" if row["measured"] is not None else "")
    published = f"{100 * row['top1']:.2f}" + (f" ±{100 * row['std']:.2f}" if row["std"] else "")
    source = row["source"] + (f" ({row['note']})" if row["note"] else "")
    if row["measured"] is None:
        return row["model"], row["method"], published, "left out", row["left_out"], "", source
    low, high = row["ci95"]
    shares = (f"{100 * row['measured']:.2f}", f"{100 * low:.1f} to {100 * high:.1f}", f"{100 * row['difference']:+.2f}")
    return row["model"], method, published, *shares, source
