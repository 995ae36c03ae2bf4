"""vlmdesc classify"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmdesc.cli.border import say
from vlmdesc.cli.fitting import FitData, fitted, from_head, open_fit_data
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
    open_descriptors,
    open_encoder,
)
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc.records import Contrast, Hit, Prediction

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
    from vlmdesc.classification.classifier import RUNNER_UP

    with_head = {"--classes": classes, "--descriptors": descriptors, "--phrase": phrase, "--reference": reference}
    with_head |= {"--shots": shots, "--pool": pool if pool != "mean" else ""}
    with_head |= {"--label-column": label_column, "--reference-split": reference_split}
    if head and (other := next((option for option, value in with_head.items() if value), "")):
        raise InputError(f"--head and {other}", fix="leave one out: a head has its classes, wording and pooling")
    wanted = None
    if not head:
        wanted, phrase = _wanted(classes, descriptors, phrase, pool, reference, shots, label_column, reference_split)
        if against:
            wanted.descriptors.find(against)
    paths = find(images)
    if wanted is None:
        classifier, whole = from_head(head, model, device, precision, against, stored=not no_store), True
    else:
        encoder, select = open_encoder(model, device, precision), bool(reference and not shots)
        classifier, whole = fitted(wanted, encoder, phrase, pool, select, stored=not no_store)
    pair = against or (RUNNER_UP if classifier.head.card.kind == "neighborhood" else None)
    results = classifier.stream(paths, top_k=top_k, reasons=reasons, against=pair, batch_size=batch_size)
    failed = _print(results, len(paths), classifier.encoder.name if as_json else "")
    if failed:
        say(f"{failed} of {len(paths)} images could not be used")
    if failed or not whole:
        raise typer.Exit(ImageError.exit_code)


def _wanted(
    classes: str, descriptors: str, phrase: str, pool: str, reference: str, shots: str, label_column: str, split: str
) -> tuple[FitData, str]:
    """What to classify by, and the phrase; what is wrong with it is told before the model is loaded."""
    from vlmdesc.classification.score import get_pool
    from vlmdesc.descriptors.phrase import PHOTO, get_phrase

    given, select = open_descriptors(classes, descriptors), bool(reference and not shots)
    phrase = phrase or (PHOTO if classes or select else "plain")
    get_phrase(phrase), get_pool(pool)
    if select and pool != "mean":
        raise InputError(f"--pool {pool} with a selection, which has its own pooling", fix="leave --pool out")
    return open_fit_data(given, reference, shots, label_column, split), phrase


def find(images: list[str]) -> tuple[Path, ...]:
    """The images that files, folders and patterns stand for. Raises: InputError when there are none."""
    from vlmdesc.embeddings.find import find_images

    found = find_images(images)
    for path in found.passed_over:
        say(f"passed over: {shown(path)} is no image")
    if not any(os.path.lexists(path) for path in found.paths):  # told before the model is loaded
        where = shown(", ".join(images))
        raise InputError("no images found", where=where, fix="give image files, or a folder or pattern that has some")
    return found.paths


def _print(results: Iterator[Prediction | ImageError], total: int, json_model: str) -> int:
    """Print each result as it comes, as JSON where a model name for it is given; how many images failed."""
    from vlmdesc.cli.output import Output

    failed = 0
    # JSON lines on a terminal are progress enough, and a bar would wrap them.
    with Output(total, bar=not (json_model and sys.stdout.isatty())) as output:
        for result in results:
            if isinstance(result, ImageError):
                failed += 1
                output.error(f"error: {result}")
            elif json_model:
                output.line(json.dumps(record(result, json_model)))
            else:
                output.show(result)
    return failed


def record(prediction: Prediction, model: str) -> dict[str, object]:
    """A prediction as the JSON that --json prints. Optional keys: "id" where it is not the name, "against", "notes"."""
    out: dict[str, object] = {
        "image": prediction.key,
        "model": model,
        "ranked": [_class(hit) | {"score": round(hit.score, 6)} for hit in prediction.ranked],
        "because": [{"descriptor": hit.text, "similarity": round(hit.score, 6)} for hit in prediction.because],
        "margin": round(prediction.margin, 6),
    }
    if prediction.contrast:
        out["against"] = _contrast(prediction.contrast)
    if prediction.notes:
        out["notes"] = list(prediction.notes)
    return out


def _contrast(contrast: Contrast) -> dict[str, object]:
    sides = ((contrast.a, contrast.of_a), (contrast.b, contrast.of_b))
    return {
        **_class(contrast.b),
        "ahead": _class(contrast.a),
        "margin": round(contrast.margin, 6),
        "descriptors": [
            _class(side) | {"descriptor": hit.text, "contribution": round(hit.score, 6)}
            for side, hits in sides
            for hit in hits
        ],
    }


def _class(hit: Hit) -> dict[str, str]:
    return {"class": hit.text} | ({"id": hit.key} if hit.key != hit.text else {})
