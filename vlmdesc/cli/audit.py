"""vlmdesc audit"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.cli.audited import print_audit
from vlmdesc.cli.border import say
from vlmdesc.cli.looking import Looked, look
from vlmdesc.cli.options import (
    AllowAbsent,
    DataSource,
    DescriptorFile,
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
    Split,
    Worded,
    open_encoder,
)
from vlmdesc.cli.results import list_failed, make_writable
from vlmdesc.errors import ImageError, InputError
from vlmdesc.files import json_lines, write_atomic
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc.evaluation.findings import Audited

OnlyClass = Annotated[
    list[str], typer.Option("--class", help="Look at this class only; may be given again.", metavar="CLASS")
]
ByConcepts = Annotated[
    bool,
    typer.Option(
        "--group-by-concepts",
        help="Without a column: make groups of clusters of errors in one half of the images, named by concepts, and "
        "audit the other half.",
    ),
]
Vocabulary = Annotated[
    str,
    typer.Option(
        help="What names of --group-by-concepts are made of: a text file with a word a line, or a set.",
        metavar="FILE|SET",
        show_default="17,757 words of WordNet",
    ),
]
K = Annotated[
    int | None,
    typer.Option("--k", min=1, help="Best images of a class, for MaxSkew.", show_default="as many as it has"),
]
Out = Annotated[Path | None, typer.Option(help="Folder for audit.json and audit.html.", show_default="vlmdesc-audit")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the halves and clusters of --group-by-concepts.")]


def audit(
    dataset: DataSource,
    descriptors: DescriptorFile,
    group_column: GroupColumn = "",
    by_concepts: ByConcepts = False,
    only: OnlyClass = [],  # noqa: B006 - typer reads it
    model: Model = "",
    phrase: Worded = "plain",
    pool: Pool = "mean",
    k: K = None,
    vocabulary: Vocabulary = "",
    out: Out = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    id_column: IdColumn = "",
    split: Split = "",
    loose_labels: Loose = False,
    allow_absent: AllowAbsent = False,
    ignore_unknown: IgnoreUnknown = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find whom a descriptor set fails, and which descriptors do it.

    Classes are compared between groups of images: how often they are found, and how often others are taken for them,
    with intervals and corrected tests. For each class that fails a group, the descriptors that do worse there than
    elsewhere, and images that show it.

    Example: vlmdesc audit faces.csv --descriptors jobs.json --group-column skin_tone
    """
    from vlmdesc.classification.score import get_pool
    from vlmdesc.descriptors.phrase import get_phrase
    from vlmdesc.embeddings.labelled import Joining
    from vlmdesc.records.descriptors import open_set

    if bool(group_column) == by_concepts:
        what = "both --group-column and --group-by-concepts" if by_concepts else "no groups"
        raise InputError(what, fix="give --group-column with a column of the data set, or else --group-by-concepts")
    given, folder = open_set(descriptors), out or Path("vlmdesc-audit")
    for name in only:  # what is wrong is told before the model is loaded
        given.find(name)
    get_pool(pool), get_phrase(phrase)
    make_writable(folder)
    columns = {"image": image_column, "label": label_column, "group": group_column, "id": id_column}
    looked = look(
        dataset,
        {"split": split, **{f"{role}_column": column for role, column in columns.items()}},
        given,
        Joining(loose=loose_labels, allow_absent=allow_absent, ignore_unknown=ignore_unknown),
        lambda: open_encoder(model, device, precision),
    )
    found, grouping = _audited(looked, phrase, pool, only, k, vocabulary if by_concepts else None, seed)
    record = found.findings() | {"grouping": grouping, "task": _task(looked, descriptors, phrase, pool)}
    _write(record, looked, folder)
    if as_json:
        print(json.dumps(record))
    else:
        print_audit(record)
    say(f"audit in {shown(folder / 'audit.json')} and {shown(folder / 'audit.html')}")
    lost = next((failure for failure in record["failed"] if failure["how"] == "not found"), None)
    if lost and group_column:
        aim = f"--class {quote(lost['class'])} --group {quote(lost['group'])}"
        say(shown(f"next: vlmdesc suggest ... --group-column {quote(group_column)} {aim}"))
    if looked.photos.failed:
        raise typer.Exit(ImageError.exit_code)


def _audited(
    looked: Looked, phrase: str, pool: str, only: Sequence[str], k: int | None, vocabulary: str | None, seed: int
) -> tuple[Audited, str]:
    """The audit, and how its groups were made where no column says them. A `vocabulary` of None is a column's."""
    from dataclasses import replace

    from vlmdesc.evaluation.audit import audit as compare
    from vlmdesc.evaluation.findings import Audited
    from vlmdesc.evaluation.scored import Scored

    given, grouping = looked.given, ""
    seen = Scored.of(looked.fit(given, phrase, pool), looked.photos)
    if vocabulary is not None:
        groups, grouping = _concepts(looked, seen.answers, vocabulary, seed)
        seen = replace(seen, images=replace(looked.photos, groups=groups))
    classes = [*dict.fromkeys(given.find(name) for name in only)] or [*range(len(given.classes))]
    photos = seen.images
    found = compare(seen.answers, photos.labels, photos.groups, classes, seen.scores[:, classes], k)
    return Audited(seen, found), grouping


def _concepts(looked: Looked, answers: Any, vocabulary: str, seed: int) -> tuple[tuple[str | None, ...], str]:
    from vlmdesc.cli.progress import encoding_texts
    from vlmdesc.concepts.vocabulary import open_vocabulary
    from vlmdesc.embeddings.embed import text_vectors
    from vlmdesc.embeddings.store import Store
    from vlmdesc.evaluation.grouping import by_concepts

    words = open_vocabulary(vocabulary)
    with encoding_texts(looked.encoder, len(words)) as watched:
        vectors = text_vectors(words, watched, Store())
    made = by_concepts(looked.photos, answers, words, vectors, seed)
    found = "; ".join(f"{title}: {', '.join(best)} ({made.sizes[title]} errors)" for title, best in made.words.items())
    return made.groups, (
        f"Groups were proposed from clusters of the errors among one half of the images, and these are the other "
        f"half. {found}." + (" A name with ? is no better than chance." if "?" in found else "")
    )


def _task(looked: Looked, descriptors: str, phrase: str, pool: str) -> dict[str, Any]:
    return {
        "data": looked.data.name,
        "columns": vars(looked.data.roles),
        "data_hash": looked.photos.fingerprint(looked.given.classes),
        "descriptors": descriptors,
        "encoder": {"name": looked.encoder.name, "fingerprint": looked.encoder.fingerprint},
        "phrase": phrase,
        "pool": pool,
    }


def _write(record: Mapping[str, Any], looked: Looked, folder: Path) -> None:
    from vlmdesc.evaluation.pages import audit_page, audit_rows
    from vlmdesc.evaluation.report import data_name
    from vlmdesc.evaluation.thumbnails import thumbnails

    write_atomic(folder / "audit.json", json_lines(record).encode())
    list_failed(looked.photos, folder)
    pictures = thumbnails(looked.data, audit_rows(record))
    page = audit_page(record, data_name(record["task"]), looked.given.classes, pictures)
    write_atomic(folder / "audit.html", page.encode())
