"""vlmdesc classify"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say, say_failed, say_notes
from vlmdesc.cli.options import (
    BatchSize,
    Classes,
    DescriptorFile,
    Device,
    Json,
    Model,
    NoStore,
    Phrase,
    Pool,
    Precision,
    ReferenceLabel,
    ReferenceSplit,
    open_data,
    open_descriptors,
    open_encoder,
)
from vlmdesc.cli.progress import bars
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc.records import Prediction

PHOTO = "name:a photo of a {c}."  # how names alone are worded
Images = Annotated[list[str], typer.Argument(help="Image files, folders or glob patterns.", metavar="IMAGE...")]
TopK = Annotated[int, typer.Option(min=1, help="Classes shown for each image.")]
Reasons = Annotated[int, typer.Option(min=0, help="Descriptors shown as reasons.")]
Against = Annotated[
    str,
    typer.Option(
        help="Also show what put the winner ahead of this class (of the runner-up, where it wins).", metavar="CLASS"
    ),
]
Reference = Annotated[
    str,
    typer.Option(
        help="A labelled data set that says which descriptors tell an image's few candidate classes apart.",
        metavar="DATASET",
    ),
]
Shots = Annotated[
    str,
    typer.Option(
        help="A folder with a folder of 1 to 16 photographs for each class to learn, new ones too; with --reference "
        "the other classes learn from that, and no descriptors are selected.",
        metavar="DIR",
    ),
]
HeadFolder = Annotated[
    str,
    typer.Option("--head", help="A head that vlmdesc fit made, with its classes and model.", metavar="FOLDER"),
]


def classify(
    images: Images,
    classes: Classes = "",
    descriptors: DescriptorFile = "",
    model: Model = "",
    phrase: Phrase = "",
    pool: Pool = "mean",
    top_k: TopK = 5,
    reasons: Reasons = 3,
    against: Against = "",
    head: HeadFolder = "",
    reference: Reference = "",
    shots: Shots = "",
    label_column: ReferenceLabel = "",
    reference_split: ReferenceSplit = "",
    device: Device = "auto",
    precision: Precision = "fp32",
    no_store: NoStore = False,
    batch_size: BatchSize = 32,
    as_json: Json = False,
) -> None:
    """Classify images by description, with the reasons.

    An image that cannot be used is named on stderr and the rest go on; the exit status is then 1.

    Example: vlmdesc classify photos/ --descriptors everyday --against dog
    """
    columns = {"--label-column": label_column, "--reference-split": reference_split}
    others = {"--classes": classes, "--descriptors": descriptors, "--phrase": phrase, "--reference": reference}
    others |= {"--shots": shots, "--pool": pool if pool != "mean" else ""} | columns
    if head and (other := _first(others)):
        raise InputError(f"--head and {other}", fix="leave one out: a head has its classes, wording and pooling")
    if not reference and (other := _first(columns)):
        raise InputError(f"{other} without --reference", fix="leave it out")
    if head:
        paths, classifier = find(images), _load(head, model, device, precision, against, not no_store)
    else:
        given, selects = open_descriptors(classes, descriptors), bool(reference and not shots)
        if selects and pool != "mean":
            raise InputError(f"--pool {pool} with a selection, which has its own pooling", fix="leave --pool out")
        known = open_data([reference], label_column=label_column, split=reference_split) if reference else None
        taught = open_data([shots]) if shots else None
        if against and not (taught is not None and against in taught.labels()):
            given.find(against)
        paths, encoder = find(images), partial(open_encoder, model, device, precision)
        phrase = phrase or (PHOTO if classes or selects else "plain")
        options = {"phrase": phrase, "store": not no_store}
        classifier = _make(encoder, given, pool, known, taught, options)
    say_failed(classifier.failed)
    say_notes(classifier.notes)
    pair = against or classifier.head.card.kind == "neighborhood"
    results = classifier.stream(paths, top_k=top_k, reasons=reasons, against=pair, batch_size=batch_size)
    failed = _print(results, len(paths), as_json)
    if failed:
        say(f"{failed} of {len(paths)} images could not be used")
    if failed or classifier.failed:
        raise typer.Exit(ImageError.exit_code)


def _first(options: Mapping[str, str]) -> str:
    """The first option that is given."""
    return next((option for option, value in options.items() if value), "")


def _make(encoder: Any, given: vd.Descriptors, pool: str, known: Any, shots: Any, options: Any) -> vd.Classifier:
    """The classifier of a descriptor set, which learns from what images there are."""
    with bars() as progress:
        if known is None and shots is None:
            return vd.Classifier(encoder, given, pool, **options, progress=progress)
        kind = "neighborhood" if shots is None else "prototypes"
        return vd.fit(known, given, encoder, kind, shots=shots, pool=pool, **options, progress=progress)


def _load(folder: str, model: str, device: str, precision: str, against: str, stored: bool) -> vd.Classifier:
    """The classifier of a head's folder, with its own model where none is given on the command line."""
    card, named = vd.load_head(folder).card, "" if model == os.environ.get("VLMDESC_MODEL") else model
    if against:
        vd.Descriptors(card.classes, ()).find(against)
    if not named:
        say(f"model: {shown(card.model)}, as the head says")
    allowed = named or (model if model == card.model else "")
    precision = precision if precision != "fp32" else card.precision
    encoder = partial(open_encoder, allowed, device, precision) if allowed else None
    return vd.Classifier.load(folder, encoder, device=device, precision=precision, store=stored)


def find(images: list[str]) -> tuple[Path, ...]:
    """The images that files, folders and patterns stand for. Raises: InputError when there are none."""
    found = vd.find_images(images)
    for path in found.passed_over:
        say(f"passed over: {shown(path)} is no image")
    if not any(os.path.lexists(path) for path in found.paths):  # told before the model is loaded
        where = shown(", ".join(images))
        raise InputError("no images found", where=where, fix="give image files, or a folder or pattern that has some")
    return found.paths


def _print(results: Iterator[Prediction | ImageError], total: int, as_json: bool) -> int:
    """Print each result as it comes; how many images failed."""
    from vlmdesc.cli.output import Output

    failed = 0
    # JSON lines on a terminal are progress enough, and a bar would wrap them.
    with Output(total, bar=not (as_json and sys.stdout.isatty())) as output:
        for result in results:
            if isinstance(result, ImageError):
                failed += 1
                output.error(f"error: {result}")
            elif as_json:
                output.line(json.dumps(result.to_dict()))
            else:
                output.show(result)
    return failed
