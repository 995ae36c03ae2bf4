"""vlmdesc eval"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.assets import shipped_sets
from vlmdesc.cli.border import say
from vlmdesc.cli.options import (
    COLUMNS,
    LABELS,
    AllowAbsent,
    Device,
    GroupColumn,
    IdColumn,
    IgnoreUnknown,
    ImageColumn,
    Json,
    LabelColumn,
    Model,
    Phrase,
    Pool,
    Precision,
    Split,
    open_encoder,
)
from vlmdesc.errors import ImageError, InputError, counted, shown
from vlmdesc.files import write_atomic

if TYPE_CHECKING:
    from vlmdesc.encode.protocol import Encoder
    from vlmdesc.evaluate.run import Evaluation
    from vlmdesc.evaluate.task import Task
    from vlmdesc.records import Report

STATISTICS = "Statistics"
MIN_ROOM = 22  # characters for the names of methods
NAMED = 10  # broken pictures named on stderr; all are in errors.jsonl


DataOrTask = Annotated[
    list[str],
    typer.Argument(
        help="A labelled data set: a folder with a folder of pictures for each class, a table, shards, or ORG/NAME on "
        "the Hugging Face hub, as vlmdesc embed takes them; or a task file (.toml).",
        metavar="DATASET|TASK.toml",
    ),
]


def _methods() -> list[str]:
    from vlmdesc.evaluate.methods import ABOUT

    return [*ABOUT, "all"]


Sets = Annotated[
    list[str],
    typer.Option(
        "--descriptors",
        help=f"Descriptor file (JSON), or a set that ships: {', '.join(shipped_sets())}. Give it again for a second "
        "set over the same classes.",
        metavar="FILE|SET",
        autocompletion=lambda: list(shipped_sets()),
    ),
]
Methods = Annotated[
    str,
    typer.Option(
        help="With commas between: name, photo, templates, templates-7, describe, free, name+describe, and the "
        "controls waffle, random, shared, swapped, scrambled; or all. A method may say its wording and pooling: "
        "describe:dclip/max.",
        metavar="A,B,...|all",
        show_default="name,photo,templates,describe,waffle",
        autocompletion=_methods,
    ),
]
Reference = Annotated[
    str,
    typer.Option(help="Another labelled data set, to choose weights and temperatures on.", metavar="DATASET"),
]
ReferenceSplit = Annotated[str, typer.Option(help="Which split of the reference.", rich_help_panel=COLUMNS)]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for results.json, predictions.parquet and report.html.", show_default="vlmdesc-eval"),
]
Loose = Annotated[
    bool,
    typer.Option(
        "--loose-labels",
        help='Labels may differ from class names in case, blanks, hyphens and underscores: "apple_pie" is "Apple pie".',
        rich_help_panel=LABELS,
    ),
]
OnlyPresent = Annotated[
    bool, typer.Option("--only-present", help="Score among the classes that have a picture.", rich_help_panel=LABELS)
]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds of each control: 0, 1, ...", rich_help_panel=STATISTICS)]
Resamples = Annotated[int, typer.Option(min=100, help="Bootstrap resamples.", rich_help_panel=STATISTICS)]
Seed = Annotated[int, typer.Option(min=0, help="Seed of folds and resamples.", rich_help_panel=STATISTICS)]


def evaluate(
    dataset: DataOrTask,
    descriptors: Sets = [],  # noqa: B006 - typer's way to say that none need be given
    methods: Methods = "",
    model: Model = "",
    phrase: Phrase = "",
    pool: Pool = "mean",
    reference: Reference = "",
    out: Out = None,
    device: Device = "auto",
    precision: Precision = "auto",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    group_column: GroupColumn = "",
    id_column: IdColumn = "",
    split: Split = "",
    reference_split: ReferenceSplit = "",
    loose_labels: Loose = False,
    only_present: OnlyPresent = False,
    allow_absent: AllowAbsent = False,
    ignore_unknown: IgnoreUnknown = False,
    seeds: Seeds = 7,
    resamples: Resamples = 2_000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Tell whether descriptors help, because of what they say, and for whom they fail.

    Every method is run on the same pictures, which are encoded once and kept; differences come with intervals and
    paired tests, and random words are the control to beat. DATASET may be a task file (.toml), which says all the rest;
    of the options only --model, --methods, --out, --device and --precision then count.

    Example: vlmdesc eval photos/ --descriptors everyday --methods all
    """
    from vlmdesc.evaluate.methods import DEFAULT
    from vlmdesc.evaluate.task import Task, read_task

    chosen = tuple(name.strip() for name in methods.split(",")) if methods else ()
    if len(dataset) == 1 and dataset[0].endswith(".toml"):
        task = read_task(Path(dataset[0]))
        task = replace(task, methods=chosen or task.methods, model=model or task.model)
    else:
        if not descriptors:
            sets = ", ".join(shipped_sets())
            raise InputError("no --descriptors", fix=f"give a descriptor file, or a set that ships: {sets}")
        task = Task(
            dataset[0] if len(dataset) == 1 else tuple(dataset),
            tuple(descriptors),
            split=split,
            image_column=image_column,
            label_column=label_column,
            group_column=group_column,
            id_column=id_column,
            reference=reference,
            reference_split=reference_split,
            model=model,
            methods=chosen or DEFAULT,
            phrase=phrase or "plain",
            pool=pool,
            seeds=seeds,
            resamples=resamples,
            seed=seed,
            loose_labels=loose_labels,
            only_present=only_present,
            allow_absent=allow_absent,
            ignore_unknown=ignore_unknown,
        )
    folder = out or Path("vlmdesc-eval")
    found = measured(task, folder, lambda: open_encoder(task.model, device, precision))
    report = found.report
    print(report.to_json(), end="") if as_json else print_report(report)
    say(f"results, predictions and report in {shown(folder)}")
    if found.photos.failed:
        listed = shown(folder / "errors.jsonl")
        say(f"{counted(len(found.photos.failed), 'picture')} could not be used, listed in {listed}")
        raise typer.Exit(ImageError.exit_code)


def measured(task: Task, folder: Path, open_model: Callable[[], Encoder]) -> Evaluation:
    """A task measured and written to a folder. What the call has wrong is told before the model is loaded."""
    from vlmdesc.classify.score import get_pool
    from vlmdesc.cli.progress import stages
    from vlmdesc.describe.phrase import get_phrase
    from vlmdesc.evaluate.task import run_task

    task.plan(), task.sets(), get_phrase(task.phrase), get_pool(task.pool)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError("not a folder", where=folder, fix="choose another with --out")
    with stages() as stage:
        try:
            found = run_task(task, open_model(), stage=stage)
        except KeyboardInterrupt:
            say("what was encoded is kept; the same command goes on from there")
            raise
    for name, reason in found.report.left_out.items():
        say(f"left out: {shown(name)}: {shown(reason)}")
    write(found, folder)
    return found


def write(found: Evaluation, folder: Path) -> None:
    """results.json, predictions.parquet, report.html, and errors.jsonl where pictures failed. Raises: StoreError."""
    from vlmdesc.cache import make_folder
    from vlmdesc.evaluate.compare import PREDICTIONS, RESULTS
    from vlmdesc.evaluate.predictions import write_predictions
    from vlmdesc.evaluate.report import page
    from vlmdesc.evaluate.thumbnails import shown_rows, thumbnails

    make_folder(folder)
    found.report.save(folder / RESULTS)
    primary = [outcomes[0] for outcomes in found.measured.outcomes.values()]
    write_predictions(folder / PREDICTIONS, found.photos, found.descriptors.classes, primary)
    pictures = thumbnails(found.data, shown_rows(found.report))
    write_atomic(folder / "report.html", page(found.report, pictures).encode())
    for error in found.photos.failed[:NAMED]:
        say(f"error: {error}")
    lines = [{"path": e.where, "stage": "read", "code": e.code, "message": e.what} for e in found.photos.failed]
    if lines:
        write_atomic(folder / "errors.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())


def print_report(report: Report) -> None:
    """The table of methods and the verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, task = Console(), report.task
    size = f"{counted(task['n'], 'picture')}, {counted(task['classes'], 'class')}"
    title = f"{task['name']}: {size}, {report.encoder['name']}"
    console.print(Text(shown(title), style="bold"), soft_wrap=True)
    table = Table(box=None, header_style="bold")
    ahead = {row["b"]: row for row in report.comparisons if row["a"] == report.main}
    columns = {"top-1 %": _top1, "top-5 %": _top5, f"{report.main} ahead by": lambda name, _: _ahead(ahead.get(name))}
    cells = {title: [cell(name, record) for name, record in report.methods.items()] for title, cell in columns.items()}
    widths = {title: max(map(len, (title, *column))) for title, column in cells.items()}
    room = max(MIN_ROOM, console.width - sum(widths.values()) - 2 * (len(widths) + 1))
    table.add_column("method, and its first text", overflow="ellipsis", no_wrap=True, max_width=room)
    for title, width in widths.items():
        table.add_column(title, no_wrap=True, min_width=width)
    for (name, record), *row in zip(report.methods.items(), *cells.values(), strict=True):
        control = " (control)" if record["kind"] == "control" else ""
        text = Text(shown(name) + control, style="bold" if name == report.main else "")
        table.add_row(text.append(f"\n  {shown(record['prompt_form'])}", style="dim not bold"), *row)
    console.print(table)
    console.print()
    console.print(Text(shown(f"verdict ({report.verdict['code']}): {report.verdict['text']}")))


def _top1(_: str, record: Mapping[str, Any]) -> str:
    return f"{100 * record['top1']:5.1f} ({_range(record['ci95'])})"


def _top5(_: str, record: Mapping[str, Any]) -> str:
    return f"{100 * record['top5']:5.1f}"


def _range(ends: list[float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _ahead(row: Any) -> str:
    if row is None:
        return ""
    star = "*" if row["p_holm"] < 0.05 else " "
    return f"{100 * row['delta']:+5.1f}{star} ({_range(row['ci95'])})"
