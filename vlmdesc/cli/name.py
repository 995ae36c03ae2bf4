"""vlmdesc name"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say, say_notes
from vlmdesc.cli.index import Montage, draw
from vlmdesc.cli.montage import check_montage
from vlmdesc.cli.options import Device, Json, Model, Precision, open_encoder
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc import ClusterNames, ImageNames

Targets = Annotated[
    list[str], typer.Argument(help="An index; or image files, folders or patterns.", metavar="IDX|IMAGE...")
]
Count = Annotated[
    int | None,
    typer.Option(
        "--clusters", min=1, help="Clusters of an index that are named.", show_default="20, of few images fewer"
    ),
]
Vocabulary = Annotated[
    str,
    typer.Option(
        help="What names are made of: a text file with a word a line, or the classes and descriptors of a set or file.",
        metavar="FILE|SET",
        show_default="17,757 words of WordNet",
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--index",
        help="For images: an index that says what is common, so that names tell what is special here.",
        metavar="IDX",
    ),
]
Top = Annotated[int, typer.Option(min=1, max=32, help="Words shown for each.")]
Unique = Annotated[bool, typer.Option("--unique", help="No name twice among the clusters.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the clusters' starts and the random directions.")]


def name(
    targets: Targets,
    clusters: Count = None,
    vocabulary: Vocabulary = "",
    against: Against = None,
    unique: Unique = False,
    top: Top = 5,
    montage: Montage = None,
    seed: Seed = 0,
    model: Model = "",
    device: Device = "auto",
    precision: Precision = "fp32",
    as_json: Json = False,
) -> None:
    """Say what an index's images show, cluster by cluster; or what concepts an image shows.

    A word's score is how many standard deviations it lies above the mean of all images of the index (without one,
    of random directions). No name is given where a random direction has one as good in more than one case of twenty.

    Examples: vlmdesc name photos.idx --clusters 20; vlmdesc name cat.jpg --index photos.idx
    """
    from vlmdesc.cli.progress import bars

    whole = len(targets) == 1 and vd.Index.is_in(targets[0])
    if not whole and any(map(vd.Index.is_in, targets)):
        raise InputError("an index among images", fix="name one index, or images with --index IDX")
    if montage and not whole:
        raise InputError("--montage without clusters", fix="name an index")
    if montage:
        check_montage(montage)
    its = "" if model == os.environ.get("VLMDESC_MODEL") else model  # an index has a model of its own
    index = vd.Index.open(against, its, device=device) if against else None
    target = vd.Index.open(targets[0], its, device=device) if whole else targets
    encoder = partial(open_encoder, model, device, precision)
    with bars() as progress:
        found = vd.name(
            target,
            vocabulary,
            k=clusters,
            index=index,
            encoder=encoder,
            unique=unique,
            top=top,
            seed=seed,
            progress=progress,
        )
    say_notes(found.notes)
    if isinstance(found, vd.ClusterNames):
        _show_clusters(found, montage, as_json)
    else:
        _show_images(found, as_json)


def _show_clusters(found: ClusterNames, montage: Path | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        _table(found)
        n_named = sum(concept.named for concept in found.concepts)
        stability = sum(concept.stability for concept in found.concepts) / len(found.concepts)
        summary = f"{counted(n_named, 'cluster')} of {len(found.concepts)} named"
        say(f"{summary}; stability under halves of the vocabulary {stability:.2f}")
    if montage:
        draw(found, montage)


def _table(found: ClusterNames) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    table.add_column("images", justify="right")
    for column in ("name", "or else", "images in its middle show"):
        table.add_column(column, overflow="fold")
    for concept in found.concepts:
        texts = [f"{shown(hit.text)} {hit.score:.1f}" for hit in concept.names]
        first, others = (texts[0], texts[1:]) if concept.named else ("(no name fits)", texts)
        labels = dict.fromkeys(shown(hit.text or Path(hit.key).name) for hit in concept.examples)
        cells = (f"{round(concept.density * found.n):,}", first, ", ".join(others), ", ".join(labels))
        table.add_row(*map(Text, cells))  # not markup
    Console(file=sys.stdout).print(table)


def _show_images(found: ImageNames, as_json: bool) -> None:
    for record in found.to_dict()["images"]:
        if as_json:
            print(json.dumps(record))
            continue
        names = [f"  {hit['score']:5.1f} {shown(hit['name'])}" for hit in record["names"]]
        unnamed = [] if record["named"] else ["  no name fits; the nearest:"]
        print("\n".join((shown(record["image"]), *unnamed, *names)), end="\n\n")
    for error in found.failed:
        say(f"error: {error}")
    if found.failed:
        n = len(found.concepts) + len(found.failed)
        say(f"{len(found.failed)} of {counted(n, 'image')} could not be used")
        raise typer.Exit(ImageError.exit_code)
