"""vlmdesc eval"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say, say_first, say_notes
from vlmdesc.cli.options import (
    LABELS,
    SETS,
    AllowAbsent,
    Device,
    GroupColumn,
    IdColumn,
    IgnoreUnknown,
    ImageColumn,
    Json,
    LabelColumn,
    Loose,
    Model,
    Pool,
    Precision,
    ReferenceSplit,
    Split,
    Worded,
    complete,
    open_encoder,
)
from vlmdesc.cli.results import print_evaluation, resumable
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, shown

STATISTICS = "Statistics"
BESIDE_A_TASK = ("dataset", "methods", "per_class", "heads", "model", "out", "device", "precision", "as_json")
DataOrTask = Annotated[
    list[str],
    typer.Argument(
        help="A labelled data set: a folder with a folder of images for each class, a table, shards, or ORG/NAME on "
        "the Hugging Face hub, as vlmdesc embed takes them; or a task file (.toml).",
        metavar="DATASET|TASK.toml",
    ),
]


Sets = Annotated[
    list[str],
    typer.Option(
        "--descriptors",
        help=f"Descriptor file (JSON), or a set that ships: {SETS}. Give it again for a second "
        "set over the same classes.",
        metavar="FILE|SET",
        autocompletion=complete("sets"),
    ),
]
Methods = Annotated[
    str,
    typer.Option(
        help="With commas between, or all. A method may say its wording and pooling: describe:dclip/max.",
        metavar="A,B,...|all",
        show_default="name,photo,templates,describe,waffle",
        autocompletion=complete("methods"),
    ),
]
Reference = Annotated[
    str,
    typer.Option(
        help="Another labelled data set, to choose weights and temperatures on, and for neighborhood and few-shot to "
        "learn from.",
        metavar="DATASET",
    ),
]
Heads = Annotated[
    list[str],
    typer.Option("--head", help="A folder that vlmdesc fit wrote: one method more. Again for more.", metavar="FOLDER"),
]
PerClass = Annotated[
    str,
    typer.Option(
        help="Learning curve: also run the methods that learn from the reference with so many of its images a class "
        '(drawn anew for each seed): "1,5,20".',
        metavar="N,N,...",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for results.json, predictions.parquet and report.html.", show_default="vlmdesc-eval"),
]
OnlyPresent = Annotated[
    bool, typer.Option("--only-present", help="Score among the classes that have an image.", rich_help_panel=LABELS)
]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds of each control: 0, 1, ...", rich_help_panel=STATISTICS)]
Resamples = Annotated[int, typer.Option(min=100, help="Bootstrap resamples.", rich_help_panel=STATISTICS)]
Seed = Annotated[int, typer.Option(min=0, help="Seed of folds and resamples.", rich_help_panel=STATISTICS)]


def evaluate(
    context: typer.Context,
    dataset: DataOrTask,
    descriptors: Sets = [],  # noqa: B006 - typer's way to say that none need be given
    methods: Methods = "",
    model: Model = "",
    phrase: Worded = "plain",
    pool: Pool = "mean",
    reference: Reference = "",
    per_class: PerClass = "",
    heads: Heads = [],  # noqa: B006
    out: Out = None,
    device: Device = "auto",
    precision: Precision = "fp32",
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

    Every method is run on the same images, which are encoded once and kept; differences come with intervals and
    paired tests, and random words are the control to beat. DATASET may be a task file (.toml), which says all the rest:
    beside it go --model, --methods, --per-class, --head, --out, --device, --precision and --json.

    Example: vlmdesc eval photos/ --descriptors everyday --methods all
    """
    from vlmdesc.cli.progress import bars

    chosen = tuple(name.strip() for name in methods.split(",")) if methods else ()
    if len(dataset) == 1 and dataset[0].endswith(".toml"):
        _refuse_others(context)
        task = vd.Task.load(dataset[0])
    else:
        options = {key: value for key, value in context.params.items() if key in vd.Task.__dataclass_fields__}
        data = dataset[0] if len(dataset) == 1 else tuple(dataset)
        task = vd.Task(data, **options | {"descriptors": tuple(descriptors), "methods": vd.Task.methods})
    task = replace(task, methods=chosen or task.methods, model=model or task.model)
    if per_class:
        task = task.with_curve(per_class)
    folder = out or Path("vlmdesc-eval")
    with bars() as progress, resumable():
        found = task.run(
            lambda: open_encoder(task.model, device, precision),
            heads=[vd.load_head(head) for head in heads],
            out=folder,
            progress=progress,
        )
    say_notes(found.notes)
    say_first(found.failed)
    say(f"results, predictions and report in {shown(folder)}")
    if found.failed:
        say(f"{counted(len(found.failed), 'image')} could not be used, listed in {shown(folder / 'errors.jsonl')}")
    print(found.report.to_json(), end="") if as_json else print_evaluation(found)
    if found.failed:
        raise typer.Exit(ImageError.exit_code)


def _refuse_others(context: typer.Context) -> None:
    """Raises: InputError for an option that a task file answers: it would be passed over."""
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "")
        if parameter.name not in BESIDE_A_TASK and given is not None and given.name == "COMMANDLINE":
            fix = f"change the task file, or leave {parameter.opts[0]} out"
            raise InputError(f"a task file and {parameter.opts[0]}", where=context.params["dataset"][0], fix=fix)
