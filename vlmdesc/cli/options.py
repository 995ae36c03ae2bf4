"""Options that several commands share, each written once, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

import vlmdesc as vd
from vlmdesc.cli.border import say
from vlmdesc.errors import InputError

if TYPE_CHECKING:
    from vlmdesc.embeddings.data import DataSet
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.records import Descriptors


# Options that name an entry of a registry -> the choices there are.
KNOWN = {"phrase": "phrases", "pool": "pools", "kind": "heads", "methods": "methods"}
SETS = ", ".join(vd.choices("sets"))


def complete(what: str) -> Callable[[], list[str]]:
    """For completion: the names there are, read when they are asked for."""
    return lambda: [*vd.choices(what)]


class Listed(TyperCommand):
    """A command whose help lists what registries hold. They are read when help is asked for: the start stays light."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.params:
            if parameter.name in KNOWN and isinstance(parameter, TyperOption):
                known = vd.choices(KNOWN[parameter.name])
                lines = "".join(f"\n\n{name}: {about}" for name, about in known.items() if about)
                parameter.help = f"{parameter.help}{lines or ' ' + ', '.join(known)}"
        TyperCommand.format_help(self, ctx, formatter)


Classes = Annotated[
    str, typer.Option(help='Class names with commas between: "cat,dog". They are scored by name.', metavar="A,B,...")
]
DescriptorFile = Annotated[
    str,
    typer.Option(
        "--descriptors",
        help=f"Descriptor file (JSON), or a set that ships: {SETS}.",
        metavar="FILE|SET",
        autocompletion=complete("sets"),
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="VLMDESC_MODEL",
        help=f"{', '.join(vd.choices('models'))}, ARCHITECTURE/TAG, ARCHITECTURE/@FILE, local-dir:FOLDER or "
        "hf-hub:ORG/REPO; see vlmdesc models.",
        show_default="starter",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16; embeddings of each are stored apart.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images that go through the model at once.")]
Phrase = Annotated[
    str,
    typer.Option(
        help="How name and descriptor are worded, name:TEMPLATE or one of",
        show_default="plain; for --classes name:a photo of a {c}.",
        autocompletion=complete("phrases"),
    ),
]
Worded = Annotated[  # where the wording has one default
    str,
    typer.Option(
        "--phrase",
        help="How name and descriptor are worded:",
        autocompletion=complete("phrases"),
    ),
]
Pool = Annotated[
    str,
    typer.Option(
        help="How a class's descriptors become its score:",
        autocompletion=complete("pools"),
    ),
]
NoStore = Annotated[bool, typer.Option("--no-store", help="Neither use nor keep embeddings on disk.")]
Workers = Annotated[int, typer.Option(min=0, help="Threads that read and decode; 0 is one a core.")]
DataSource = Annotated[
    list[str],
    typer.Argument(
        help="A folder of images, a table (CSV, TSV, JSON lines, Parquet), WebDataset shards (.tar), what `datasets` "
        "saved to disk, a text file of paths, images, or ORG/NAME on the Hugging Face hub.",
        metavar="DATASET",
    ),
]
COLUMNS, LABELS = "Columns of the data set", "Labels and classes"
ImageColumn = Annotated[str, typer.Option(help="Column of images: paths or bytes.", rich_help_panel=COLUMNS)]
LabelColumn = Annotated[
    str, typer.Option(help='Column of labels; a field in a column is "json.label".', rich_help_panel=COLUMNS)
]
GroupColumn = Annotated[str, typer.Option(help="Column of groups.", rich_help_panel=COLUMNS)]
IdColumn = Annotated[str, typer.Option(help="Column that names each row.", rich_help_panel=COLUMNS)]
Split = Annotated[str, typer.Option(help="Which split of the data set: train, test, ...", rich_help_panel=COLUMNS)]
ReferenceSplit = Annotated[str, typer.Option(help="Which split of the reference.", rich_help_panel=COLUMNS)]
ReferenceLabel = Annotated[
    str, typer.Option("--label-column", help="The reference's column of labels.", rich_help_panel=COLUMNS)
]
IgnoreUnknown = Annotated[
    bool, typer.Option("--ignore-unknown", help="Leave out images of no class.", rich_help_panel=LABELS)
]
AllowAbsent = Annotated[bool, typer.Option("--allow-absent", help="Classes may have no image.", rich_help_panel=LABELS)]
Loose = Annotated[
    bool,
    typer.Option(
        "--loose-labels",
        help='Labels may differ from class names in case, blanks, hyphens and underscores: "apple_pie" is "Apple pie".',
        rich_help_panel=LABELS,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]


def open_data(sources: list[str], **options: str) -> DataSet:
    """The data set of the DATASET argument and its options, as `load_data` takes them."""
    from rich.console import Console

    with Console(stderr=True).status("opening the data set"):
        return vd.load_data(sources[0] if len(sources) == 1 else sources, **options)


def open_encoder(model: str, device: str, precision: str) -> Encoder:
    """The encoder of --model, --device and --precision; without --model the starter, and a line that says so."""
    if not model:
        say("model: starter (small, offline, best at ImageNet's things); stronger: --model ViT-B-32/laion2b_s34b_b79k")
    from rich.console import Console

    with Console(stderr=True).status("loading the model"):
        return vd.load_encoder(model or "starter", device=device, precision=precision)


def open_descriptors(classes: str, file: str) -> Descriptors:
    """What --classes or --descriptors stands for. Raises: InputError when neither or both are given, or no good."""
    if bool(classes) == bool(file):
        fix = f'for example --classes "cat,dog", or --descriptors with a file or one of {SETS}'
        raise InputError("give either --classes or --descriptors", fix=fix)
    return vd.Descriptors.load(split_classes(classes) if classes else file)


def split_classes(listed: str) -> list[str]:
    """The names of "a,b,c". Raises: InputError for an empty name, or two that a model cannot tell apart."""
    names = [name.strip() for name in listed.split(",")]
    if not all(names):
        raise InputError(f"class {names.index('') + 1} is empty", where=f"--classes {listed}", fix="remove a comma")
    return [class_.name for class_ in vd.Descriptors.of(names).classes]
