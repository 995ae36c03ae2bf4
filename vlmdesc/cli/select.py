"""vlmdesc select"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say, say_failed, say_notes
from vlmdesc.cli.options import (
    DataSource,
    DescriptorFile,
    Device,
    Json,
    Model,
    NoStore,
    Precision,
    ReferenceLabel,
    ReferenceSplit,
    Split,
    open_data,
    open_encoder,
)
from vlmdesc.cli.progress import bars
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from rich.text import Text

    from vlmdesc.records import Hits

SHOWN, EACH = 10, 3  # pairs, and descriptors of each side, that are printed
Reference = Annotated[
    str,
    typer.Option(
        help="Labelled images that say which descriptors tell which classes apart. Without it the data set's own "
        "images do, under pseudo-labels.",
        metavar="DATASET",
    ),
]
Phrase = Annotated[str, typer.Option(help="How the captions that find an image's candidates are worded.")]
OnlyPresent = Annotated[bool, typer.Option("--only-present", help="Only classes that the reference has an image of.")]
Out = Annotated[
    Path,
    typer.Option(
        help="The descriptors that tell classes apart; which pairs they do goes beside it, into NAME.pairs.json."
    ),
]


def select(
    dataset: DataSource,
    descriptors: DescriptorFile,
    reference: Reference = "",
    phrase: Phrase = "name:a photo of a {c}.",
    out: Out = Path("selected.json"),
    model: Model = "",
    split: Split = "",
    reference_split: ReferenceSplit = "",
    label_column: ReferenceLabel = "",
    only_present: OnlyPresent = False,
    device: Device = "auto",
    precision: Precision = "fp32",
    no_store: NoStore = False,
    as_json: Json = False,
) -> None:
    """Find the descriptors that tell apart the classes that images are confused between.

    For each image of DATASET, which needs no labels, the descriptors are picked that tell its few candidate classes
    apart (Ma et al. 2025). Those of a class's own that are never picked for it are left out of the new descriptor file,
    which can be used anywhere.

    Example: vlmdesc select photos/ --reference labelled/ --descriptors everyday --out selected.json
    """
    of_reference = {"--label-column": label_column, "--reference-split": reference_split}
    of_reference |= {"--only-present": "yes" if only_present else ""}
    if not reference and (option := next((name for name, value in of_reference.items() if value), "")):
        raise InputError(f"{option} without --reference", fix="leave it out: the data set needs no labels")
    given, made_from = vd.Descriptors.load(descriptors), (descriptors, reference, *dataset)
    check_out(out, made_from)
    check_out(beside := out.with_suffix(".pairs.json"), made_from)
    data = open_data(dataset, split=split)
    known = open_data([reference], label_column=label_column, split=reference_split) if reference else None
    encoder, options = partial(open_encoder, model, device, precision), {"phrase": phrase, "store": not no_store}
    with bars() as progress:
        found = vd.select(data, given, encoder, known, only_present=only_present, **options, progress=progress)  # type: ignore[arg-type]
    found.save(out)
    say_failed(found.failed)
    say_notes(found.notes)
    print(json.dumps(found.to_dict() | {"out": str(out)})) if as_json else _print(found, given)
    say(f"descriptors in {shown(out)}, pairs in {shown(beside)}")
    if found.failed:
        raise typer.Exit(ImageError.exit_code)


def check_out(out: Path, made_from: Sequence[str]) -> None:
    """Raises: InputError where the result could not be written, or would replace what it is made from, or an image."""
    if out.suffix != ".json":
        raise InputError("a descriptor file ends in .json", where=out, fix="choose another with --out")
    if out.is_dir() or not out.parent.is_dir():
        what = "a folder" if out.is_dir() else "no such folder"
        raise InputError(what, where=out if out.is_dir() else out.parent, fix="choose another file with --out")
    if any(os.path.exists(source) and out.exists() and out.samefile(source) for source in made_from):
        raise InputError("it would replace what it is made from", where=out, fix="choose another file with --out")


def _print(found: vd.Selected, given: vd.Descriptors) -> None:
    """What was learned, and the pairs that are confused most with what tells them apart, side by side."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(shown(found.sentence)))
    console.print(Text(f"fallback on the images {100 * found.fallback:.1f} %"))
    console.print(Text(f"{len(found.descriptors.rows):,} of {counted(len(given.rows), 'descriptor')} kept"))
    if not found.pairs:
        return
    names = {class_.id: class_.name for class_ in given.classes}
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("images", justify="right")
    table.add_column("class, by what it shows", ratio=1)
    table.add_column("and the one it is confused with", ratio=1)
    for pair in found.pairs[:SHOWN]:
        sides = (_side(names[id_], hits) for id_, hits in ((pair.a, pair.of_a), (pair.b, pair.of_b)))
        table.add_row(f"{pair.images:,}", *sides)
    console.print()
    console.print(table)
    if len(found.pairs) > SHOWN:
        console.print(Text(f"and {len(found.pairs) - SHOWN:,} more pairs", style="dim"))


def _side(name: str, hits: Hits) -> Text:
    from rich.text import Text

    side = Text(shown(name))
    for hit in hits[:EACH]:
        side.append(f"\n{hit.score:+.3f} {shown(hit.text)}", style="dim")
    return side
