"""vlmdesc select"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.cli.border import say
from vlmdesc.cli.fitting import embedded, labelled, open_reference
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
from vlmdesc.errors import ImageError, InputError
from vlmdesc.files import json_lines, write_atomic
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    import numpy as np
    from rich.text import Text

    from vlmdesc.classification.heads.neighborhood import Neighborhood
    from vlmdesc.classification.separate import Apart
    from vlmdesc.embeddings.data import DataSet
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.records import Descriptors, Hits

SHOWN, EACH = 10, 3  # pairs, and descriptors of each side, that are printed
Reference = Annotated[
    str,
    typer.Option(
        help="Labelled images that say which descriptors tell which classes apart. Without it the data set's own "
        "images do, under pseudo-labels.",
        metavar="DATASET",
    ),
]
Phrase = Annotated[
    str,
    typer.Option(
        help="How the captions that find an image's candidates are worded.", show_default="name:a photo of a {c}."
    ),
]
OnlyPresent = Annotated[bool, typer.Option("--only-present", help="Only classes that the reference has an image of.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The descriptors that tell classes apart; which pairs they do goes beside it, into NAME.pairs.json.",
        show_default="selected.json",
    ),
]


def select(
    dataset: DataSource,
    descriptors: DescriptorFile,
    reference: Reference = "",
    phrase: Phrase = "",
    out: Out = None,
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
    from vlmdesc.classification.heads.learned import summarize
    from vlmdesc.classification.heads.neighborhood import pool_of
    from vlmdesc.classification.separate import apart, prune
    from vlmdesc.descriptors.phrase import PHOTO, get_phrase
    from vlmdesc.records.descriptors import open_set

    given, phrase, out = open_set(descriptors), phrase or PHOTO, out or Path("selected.json")
    get_phrase(phrase)  # what is wrong is told before the model is loaded
    made_from = (descriptors, reference, *dataset)
    check_out(out, made_from)
    beside = out.with_suffix(".pairs.json")
    check_out(beside, made_from)
    data = open_data(dataset, split=split)
    known, given = _labelled(given, reference, label_column, reference_split, only_present)
    pool_of(given)
    encoder = open_encoder(model, device, precision)
    found, vectors, failed = _fitted(data, known, given, encoder, phrase, stored=not no_store)
    selection = found.select(vectors)
    record, fallback = summarize(found) or {}, float(selection.fallback.mean())
    meta = dict(given.meta) | {"selection": record | {"model": encoder.name, "phrase": phrase}}
    kept = replace(prune(given, found.texts, selection), meta=meta)
    pairs = apart(found, selection, [class_.id for class_ in given.classes])
    lines = [_pair(pair) for pair in pairs]
    kept.save(out)
    write_atomic(beside, json_lines({"schema": 1, "pairs": lines}).encode())
    told = sum(pair.images for pair in pairs)
    if told < len(vectors) and selection.candidates.shape[1] > 1:
        n = counted(len(vectors) - told, "image")
        say(f"in no pair: {n}, for want of reference images of one of its first two classes")
    if known and not only_present and len(found.bare) > len(given.classes) / 2:
        say("most classes have no reference images; --only-present leaves these out")
    if as_json:
        figures = {"pictures": len(vectors), "fallback": round(fallback, 6)}
        print(json.dumps({"schema": 1, "selection": record, **figures, "out": str(out), "pairs": lines}))
    else:
        _print(record, given, kept, pairs, fallback)
    say(f"descriptors in {shown(out)}, pairs in {shown(beside)}")
    if failed:
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


def _labelled(
    given: Descriptors, reference: str, label_column: str, reference_split: str, only_present: bool
) -> tuple[DataSet | None, Descriptors]:
    """The reference, if there is one, and the descriptors of the classes that are looked at."""
    from vlmdesc.embeddings.labelled import Joining, class_numbers

    if not reference:
        given_too = {
            "--label-column": label_column,
            "--reference-split": reference_split,
            "--only-present": only_present,
        }
        if option := next((name for name, value in given_too.items() if value), ""):
            raise InputError(f"{option} without --reference", fix="leave it out: the data set needs no labels")
        return None, given
    known = open_reference(reference, given, label_column, reference_split)
    if only_present:
        given = class_numbers(known, given, Joining(only_present=True, ignore_unknown=True))[0]
    return known, given


def _fitted(
    data: DataSet, known: DataSet | None, given: Descriptors, encoder: Encoder, phrase: str, stored: bool
) -> tuple[Neighborhood, np.ndarray, int]:
    """The neighbourhood, the data set's embeddings (N, D), and how many images could not be used."""
    from vlmdesc.classification.heads import HeadCard
    from vlmdesc.classification.heads.neighborhood import fit_neighborhood, fit_unlabelled, texts_of
    from vlmdesc.cli.progress import encoding_texts
    from vlmdesc.embeddings.embed import text_vectors
    from vlmdesc.embeddings.store import Store

    with tempfile.TemporaryDirectory() as away:
        store = Store() if stored else Store(Path(away))
        vectors, failed = embedded(data, encoder, store)
        reference = labelled(known, given, encoder, store, "reference") if known else None
        with encoding_texts(encoder, len(given.rows) + len(given.classes)) as watched:
            texts = texts_of(given, lambda wanted: text_vectors(wanted, watched, store), phrase)
        card = HeadCard.of("neighborhood", encoder, given, phrase=phrase)
        if reference:
            head = fit_neighborhood(card, texts, reference.vectors, reference.labels)
            return head, vectors, failed + len(reference.failed)
        return fit_unlabelled(card, texts, vectors), vectors, failed


def _pair(pair: Apart) -> dict[str, Any]:
    return {
        "a": pair.a,
        "b": pair.b,
        "pictures": pair.images,
        "of_a": [{"descriptor": hit.text, "lead": round(hit.score, 6)} for hit in pair.of_a],
        "of_b": [{"descriptor": hit.text, "lead": round(hit.score, 6)} for hit in pair.of_b],
    }


def _print(
    record: Mapping[str, Any], given: Descriptors, kept: Descriptors, pairs: Sequence[Apart], fallback: float
) -> None:
    """What was learned, and the pairs that are confused most with what tells them apart, side by side."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vlmdesc.classification.heads.learned import sentence

    console = Console()
    console.print(Text(shown(sentence(record))))
    console.print(Text(f"fallback on the images {100 * fallback:.1f} %"))
    console.print(Text(f"{len(kept.rows):,} of {counted(len(given.rows), 'descriptor')} kept"))
    if not pairs:
        return
    names = {class_.id: class_.name for class_ in given.classes}
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("images", justify="right")
    table.add_column("class, by what it shows", ratio=1)
    table.add_column("and the one it is confused with", ratio=1)
    for pair in pairs[:SHOWN]:
        sides = (_side(names[id_], hits) for id_, hits in ((pair.a, pair.of_a), (pair.b, pair.of_b)))
        table.add_row(f"{pair.images:,}", *sides)
    console.print()
    console.print(table)
    if len(pairs) > SHOWN:
        console.print(Text(f"and {len(pairs) - SHOWN:,} more pairs", style="dim"))


def _side(name: str, hits: Hits) -> Text:
    from rich.text import Text

    side = Text(shown(name))
    for hit in hits[:EACH]:
        side.append(f"\n{hit.score:+.3f} {shown(hit.text)}", style="dim")
    return side
