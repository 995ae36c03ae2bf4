"""Options that several commands share, each written once, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from vlmdesc.assets import shipped_sets
from vlmdesc.cli.border import say
from vlmdesc.embeddings.load import ENCODERS
from vlmdesc.errors import InputError

if TYPE_CHECKING:
    from vlmdesc.embeddings.data import DataSet
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.records import Descriptors


def _phrases() -> list[tuple[str, str]]:
    from vlmdesc.descriptors.phrase import PHRASES

    return [(name, "") for name in PHRASES]


def _pools() -> list[tuple[str, str]]:
    from vlmdesc.classification.score import POOLS

    return [(name, "") for name in POOLS]


def _kinds() -> list[tuple[str, str]]:
    from vlmdesc.classification.heads import HEADS

    return [(name, kind.about) for name, kind in HEADS.items() if kind.fit]


def _methods() -> list[tuple[str, str]]:
    from vlmdesc.evaluation.methods import METHODS

    learning = {name: f"; learns from {entry.learns}" if entry.learns else "" for name, entry in METHODS.items()}
    return [(name, entry.about + learning[name]) for name, entry in METHODS.items()]


# Options that name an entry of a registry -> the names there are, each with a word about it.
KNOWN: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "phrase": _phrases,
    "pool": _pools,
    "kind": _kinds,
    "methods": _methods,
}


class Listed(TyperCommand):
    """A command whose help lists what registries hold. They are read when help is asked for: the start stays light."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.params:
            if parameter.name in KNOWN and isinstance(parameter, TyperOption):
                known = KNOWN[parameter.name]()
                lines = "".join(f"\n\n{name}: {about}" for name, about in known if about)
                parameter.help = f"{parameter.help}{lines or ' ' + ', '.join(name for name, _ in known)}"
        TyperCommand.format_help(self, ctx, formatter)


Classes = Annotated[
    str, typer.Option(help='Class names with commas between: "cat,dog". They are scored by name.', metavar="A,B,...")
]
DescriptorFile = Annotated[
    str,
    typer.Option(
        "--descriptors",
        help=f"Descriptor file (JSON), or a set that ships: {', '.join(shipped_sets())}.",
        metavar="FILE|SET",
        autocompletion=lambda: list(shipped_sets()),
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="VLMDESC_MODEL",
        help=f"{', '.join(ENCODERS)}, ARCHITECTURE/TAG, ARCHITECTURE/@FILE, local-dir:FOLDER or hf-hub:ORG/REPO; see "
        "vlmdesc models.",
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
        autocompletion=KNOWN["phrase"],
    ),
]
Worded = Annotated[  # where the wording has one default
    str,
    typer.Option(
        "--phrase",
        help="How name and descriptor are worded:",
        autocompletion=KNOWN["phrase"],
    ),
]
Pool = Annotated[
    str,
    typer.Option(
        help="How a class's descriptors become its score:",
        autocompletion=KNOWN["pool"],
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
        from vlmdesc.embeddings.data import load_data

        return load_data(sources[0] if len(sources) == 1 else sources, **options)


def open_encoder(model: str, device: str, precision: str) -> Encoder:
    """The encoder of --model, --device and --precision; without --model the starter, and a line that says so."""
    if not model:
        say("model: starter (small, offline, best at ImageNet's things); stronger: --model ViT-B-32/laion2b_s34b_b79k")
    from rich.console import Console

    with Console(stderr=True).status("loading the model"):
        from vlmdesc.embeddings.load import load_encoder

        return load_encoder(model or "starter", device=device, precision=precision)


def open_descriptors(classes: str, file: str) -> Descriptors:
    """What --classes or --descriptors stands for. Raises: InputError when neither or both are given, or no good."""
    from vlmdesc.records import Descriptors
    from vlmdesc.records.descriptors import open_set

    if bool(classes) == bool(file):
        sets = ", ".join(shipped_sets())
        raise InputError(
            "give either --classes or --descriptors",
            fix=f'for example --classes "cat,dog", or --descriptors with a file or one of {sets}',
        )
    if classes:
        return Descriptors.of({name: [] for name in split_classes(classes)})
    return open_set(file)


def split_classes(listed: str) -> list[str]:
    """The names of "a,b,c". Raises: InputError for an empty name, or two that a model cannot tell apart."""
    from vlmdesc.records.names import reads_as

    names = [name.strip() for name in listed.split(",")]
    if not all(names):
        raise InputError(f"class {names.index('') + 1} is empty", where=f"--classes {listed}", fix="remove a comma")
    seen: dict[str, str] = {}
    for name in names:
        if reads_as(name) in seen:
            both = f"'{seen[reads_as(name)]}' and '{name}'"
            raise InputError("two classes read the same", where=both, fix="keep one of them")
        seen[reads_as(name)] = name
    return names
