"""vlmdesc name"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmdesc.cli.border import say
from vlmdesc.cli.classify import find
from vlmdesc.cli.index import Montage
from vlmdesc.cli.indexing import encoder_of
from vlmdesc.cli.options import Device, Json, Model, Precision, open_encoder
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    import numpy as np

    from vlmdesc.concepts.index import Index
    from vlmdesc.concepts.naming import Frame, Names
    from vlmdesc.embeddings.pipeline import Encoded
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.records import Concept, Hits

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
CLUSTERS = 20
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
    from vlmdesc.cli.montage import check_montage
    from vlmdesc.concepts.clusters import background
    from vlmdesc.concepts.index import is_index, open_index
    from vlmdesc.concepts.naming import frame
    from vlmdesc.concepts.vocabulary import open_vocabulary

    words = open_vocabulary(vocabulary)
    whole = len(targets) == 1 and is_index(Path(targets[0]))
    if not whole and any(is_index(Path(target)) for target in targets):
        raise InputError("an index among images", fix="name one index, or images with --index IDX")
    if whole and against:
        raise InputError("an index and --index", fix="leave --index out: the index is its own background")
    if montage and not whole:
        raise InputError("--montage without clusters", fix="name an index")
    if montage:
        check_montage(montage)
    index = open_index(Path(targets[0])) if whole else open_index(against) if against else None
    named = "" if model == os.environ.get("VLMDESC_MODEL") else model  # an index has a model of its own
    paths = () if whole else find(targets)
    encoder = encoder_of(index, named, device) if index else open_encoder(model, device, precision)
    frame_ = frame(_vectors(words, encoder), background(index, seed) if index else None)
    if whole and index:
        _clusters(index, clusters, words, frame_, unique, top, seed, montage, as_json)
    else:
        _pictures(paths, encoder, words, frame_, top, seed, as_json)


def _vectors(words: Sequence[str], encoder: Encoder) -> np.ndarray:
    from vlmdesc.cli.progress import encoding_texts
    from vlmdesc.embeddings.embed import text_vectors
    from vlmdesc.embeddings.store import Store

    with encoding_texts(encoder, len(words)) as watched:
        return text_vectors(words, watched, Store())


def _clusters(
    index: Index,
    k: int | None,
    words: Sequence[str],
    frame: Frame,
    unique: bool,
    top: int,
    seed: int,
    montage: Path | None,
    as_json: bool,
) -> None:
    from vlmdesc.concepts.clusters import clusters, concepts

    found = clusters(index, k or min(CLUSTERS, len(index)), seed)
    named = concepts(index, found, words, frame, unique=unique, top=top, seed=seed)
    if as_json:
        print(json.dumps({"index": str(index.folder), "seed": seed, "clusters": [_record(c) for c in named]}))
    else:
        _table(named, len(found.rows))
    if montage:
        from vlmdesc.cli.montage import draw_rows

        middles = [found.rows[found.middle(number)].tolist() for number in found.order()]
        captions = [
            c.names[0].text if c.named else "(no name)" for c, rows in zip(named, middles, strict=True) for _ in rows
        ]
        draw_rows(montage, index, [row for rows in middles for row in rows], captions)


def _table(named: Sequence[Concept], n: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    table.add_column("images", justify="right")
    for column in ("name", "or else", "images in its middle show"):
        table.add_column(column, overflow="fold")
    for concept in named:
        texts = [f"{shown(hit.text)} {hit.score:.1f}" for hit in concept.names]
        first, others = (texts[0], texts[1:]) if concept.named else ("(no name fits)", texts)
        labels = dict.fromkeys(shown(hit.text or Path(hit.key).name) for hit in concept.examples)
        cells = (f"{round(concept.density * n):,}", first, ", ".join(others), ", ".join(labels))
        table.add_row(*map(Text, cells))  # not markup
    Console(file=sys.stdout).print(table)
    n_named = sum(concept.named for concept in named)
    stability = sum(concept.stability for concept in named) / len(named)
    say(
        f"{counted(n_named, 'cluster')} of {len(named)} named; stability under halves of the vocabulary {stability:.2f}"
    )


def _record(concept: Concept) -> dict[str, object]:
    return {
        "density": round(concept.density, 6),
        "named": concept.named,
        "names": _hits(concept.names),
        "chance": round(concept.chance, 6),
        "margin": round(concept.margin, 6),
        "stability": round(concept.stability, 6),
        "examples": [{"id": hit.key, "label": hit.text or None} for hit in concept.examples],
    }


def _hits(hits: Hits) -> list[dict[str, object]]:
    return [{"name": hit.text, "score": round(hit.score, 6)} for hit in hits]


def _pictures(
    paths: Sequence[Path], encoder: Encoder, words: Sequence[str], frame: Frame, top: int, seed: int, as_json: bool
) -> None:
    import numpy as np

    from vlmdesc.concepts.naming import name as name_directions

    found = _encoded(paths, encoder)
    if found:
        names = name_directions(np.stack([picture.vector for picture in found]), frame, seed=seed)
        for at, picture in enumerate(found):
            if as_json:
                print(json.dumps(_picture(picture, encoder, names, at, words, top)))
            else:
                print("\n".join((shown(picture.key), *_names(names, at, words, top))), end="\n\n")
    if len(found) < len(paths):
        say(f"{len(paths) - len(found)} of {counted(len(paths), 'image')} could not be used")
        raise typer.Exit(ImageError.exit_code)


def _encoded(paths: Sequence[Path], encoder: Encoder) -> list[Encoded]:
    from vlmdesc.cli.progress import stages
    from vlmdesc.embeddings.pipeline import encode_images
    from vlmdesc.embeddings.store import Store

    good = []
    with stages() as stage:
        tick = stage("images", len(paths))
        for found in encode_images(encoder, paths, collection=Store().images(encoder)):
            tick(1)
            if isinstance(found, ImageError):
                say(f"error: {found}")
            else:
                good.append(found)
    return good


def _names(names: Names, at: int, words: Sequence[str], top: int) -> list[str]:
    listed = [f"  {hit.score:5.1f} {shown(hit.text)}" for hit in names.hits(at, words, top)]
    return listed if names.chosen[at] >= 0 else ["  no name fits; the nearest:", *listed]


def _picture(
    picture: Encoded, encoder: Encoder, names: Names, at: int, words: Sequence[str], top: int
) -> dict[str, object]:
    return {
        "image": picture.key,
        "model": encoder.name,
        "named": bool(names.chosen[at] >= 0),
        "names": _hits(names.hits(at, words, top)),
        "chance": round(float(names.chance[at]), 6),
        "margin": round(float(names.margin[at]), 6),
        "stability": round(float(names.stability[at]), 6),
    }
