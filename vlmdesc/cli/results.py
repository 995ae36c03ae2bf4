"""An evaluation run, written to its folder, and printed for people."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmdesc.cache import make_folder
from vlmdesc.cli.border import say
from vlmdesc.cli.failures import NAMED, failure, write_failures
from vlmdesc.errors import InputError
from vlmdesc.files import cannot_write, write_atomic
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc.embeddings.labelled import Labelled
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.evaluation.run import Evaluation
    from vlmdesc.evaluation.task import Task
    from vlmdesc.records import Report

ERRORS = "errors.jsonl"
MIN_ROOM = 18  # characters for the names of methods


def measured(task: Task, folder: Path, open_model: Callable[[], Encoder]) -> Evaluation:
    """A task measured and written to a folder. What the call has wrong is told before the model is loaded."""
    from vlmdesc.cli.progress import stages
    from vlmdesc.evaluation.task import run_task

    make_writable(folder)
    with stages() as stage:
        try:
            found = run_task(task, open_model, stage=stage)
        except KeyboardInterrupt:
            say("what was encoded is kept; the same command goes on from there")
            raise
    for name, reason in found.report.left_out.items():
        say(f"left out: {shown(name)}: {shown(reason)}")
    write(found, folder)
    say(f"results, predictions and report in {shown(folder)}")
    if failed := found.photos.failed:
        say(f"{counted(len(failed), 'image')} could not be used, listed in {shown(folder / ERRORS)}")
    return found


def make_writable(folder: Path) -> None:
    """Raises: InputError or StoreError where results could not be kept; told before hours of work."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError("not a folder", where=folder, fix="choose another with --out")
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error


def write(found: Evaluation, folder: Path) -> None:
    """results.json, predictions.parquet, report.html, and errors.jsonl where images failed. Raises: StoreError."""
    from vlmdesc.evaluation.compare import PREDICTIONS, RESULTS
    from vlmdesc.evaluation.predictions import write_predictions
    from vlmdesc.evaluation.report import page
    from vlmdesc.evaluation.thumbnails import shown_rows, thumbnails

    primary = [outcomes[0] for outcomes in found.outcomes.values()]
    write_predictions(folder / PREDICTIONS, found.photos, found.descriptors.classes, primary)
    found.report.save(folder / RESULTS)
    pictures = thumbnails(found.data, shown_rows(found.report))
    write_atomic(folder / "report.html", page(found.report, pictures).encode())
    for error in found.photos.failed[:NAMED]:
        say(f"error: {error}")
    list_failed(found.photos, folder)


def list_failed(photos: Labelled, folder: Path) -> None:
    """errors.jsonl with the images that could not be used; none where all could. Raises: StoreError."""
    if photos.failed:
        failures = zip(photos.failed, photos.failed_labels, strict=True)
        write_failures(folder / ERRORS, [failure(error, label) for error, label in failures])
    else:
        (folder / ERRORS).unlink(missing_ok=True)  # of an earlier run


def print_report(report: Report) -> None:
    """The table of methods and the verdict."""
    from rich.console import Console
    from rich.text import Text

    from vlmdesc.classification.heads.learned import sentence

    console, task = Console(), report.task
    size = f"{counted(task['n'], 'image')}, {counted(task['classes'], 'class')}"
    title = f"{task['name']}: {size}, {report.encoder['name']}"
    console.print(Text(shown(title), style="bold"), soft_wrap=True)
    ahead = {row["b"]: row for row in report.comparisons if row["a"] == report.main}
    columns = {"top-1 %": _top1, "top-5 %": _top5, "main ahead by": lambda name, _: _ahead(ahead.get(name))}
    cells = {title: [cell(name, record) for name, record in report.methods.items()] for title, cell in columns.items()}
    print_methods([_named(name, record, report.main) for name, record in report.methods.items()], cells)
    learned = {name: record for name, record in report.methods.items() if "learned" in record}
    if learned:
        console.print()
    for name, record in learned.items():
        of = ", first draw" if "seeds" in record else ""
        console.print(Text(shown(f"{name}{of}: {sentence(record['learned'])}"), style="dim"))
    selected = report.verdict.get("selection", [])
    judged = [*report.verdict.get("sets", {"": report.verdict}).values()]
    for verdict in judged + [other for other in selected if other["text"] != report.verdict["text"]]:
        console.print()
        console.print(Text(shown(f"verdict ({verdict['code']}): {verdict['text']}")))


def print_methods(methods: Sequence[Sequence[str]], columns: Mapping[str, Sequence[str]]) -> None:
    """A table of methods: name in the first line of each row and, cut where there is no room, what belongs to it below;
    the other columns are never cut. A name that says "(main)" is bold.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, table = Console(), Table(box=None, header_style="bold")
    widths = {title: max(map(len, (title, *cells))) for title, cells in columns.items()}
    room = max(MIN_ROOM, console.width - sum(widths.values()) - 2 * (len(widths) + 1))
    table.add_column("method, and its first text", overflow="ellipsis", no_wrap=True, max_width=room)
    for title, width in widths.items():
        table.add_column(title, justify="right", no_wrap=True, min_width=width)
    for (name, *below), *row in zip(methods, *columns.values(), strict=True):
        lead = Text(shown(name), style="bold" if name.endswith("(main)") else "")
        for line in below:
            lead.append(f"\n  {shown(line)}", style="dim not bold")
        table.add_row(lead, *row)
    console.print(table)


def _named(name: str, record: Mapping[str, Any], main: str) -> tuple[str, str]:
    part = " (main)" if name == main else " (control)" if record["kind"] == "control" else ""
    return name + part, record["prompt_form"]


def _top1(_: str, record: Mapping[str, Any]) -> str:
    return with_interval(record["top1"], record["ci95"])


def _top5(_: str, record: Mapping[str, Any]) -> str:
    return f"{100 * record['top5']:.1f}"


def _ahead(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    star = "*" if row["state"] in ("better", "worse") else ""
    return with_interval(row["delta"], row["ci95"], sign="+", mark=star)


def with_interval(share: float, ends: Sequence[float], sign: str = "", mark: str = "") -> str:
    """A fraction and its interval, in points: "41.8 (40.6 to 43.0)"."""
    return f"{100 * share:{sign}.1f}{mark} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
