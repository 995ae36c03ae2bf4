"""vlmdesc suggest"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.cli.border import say
from vlmdesc.cli.contrast import Asker
from vlmdesc.cli.describe import BaseUrl, KeyVariable
from vlmdesc.cli.looking import Looked, look
from vlmdesc.cli.options import (
    AllowAbsent,
    DataSource,
    DescriptorFile,
    Device,
    GroupColumn,
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
from vlmdesc.cli.results import with_interval
from vlmdesc.errors import ImageError, InputError
from vlmdesc.files import write_atomic
from vlmdesc.text import counted, few, shown

if TYPE_CHECKING:
    import numpy as np

    from vlmdesc.evaluation.suggest import Ask as Asking
    from vlmdesc.evaluation.suggest import Suggestions
    from vlmdesc.records import Descriptors

BY_SUGGESTION = "vlmdesc suggest"
OnlyClass = Annotated[str, typer.Option("--class", help="Aim at the images of this class.", metavar="CLASS")]
OnlyGroup = Annotated[str, typer.Option("--group", help="Aim at the images of this group.", metavar="GROUP")]
Borrow = Annotated[
    list[str],
    typer.Option(
        help="Another descriptor set to borrow from, beside the other classes' own; may be given again.",
        metavar="FILE|SET",
    ),
]
Ask = Annotated[
    str,
    typer.Option(
        help="Also ask this language model what sets a class apart from those it is taken for: a name, local, or "
        "local:FILE, as for vlmdesc describe.",
        metavar="LLM",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Patch with the edits that help.", metavar="FILE.jsonl", show_default="edits.jsonl, if new"),
]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the halves.")]


def suggest(
    dataset: DataSource,
    descriptors: DescriptorFile,
    class_: OnlyClass = "",
    group: OnlyGroup = "",
    group_column: GroupColumn = "",
    borrow: Borrow = [],  # noqa: B006 - typer reads it
    ask: Ask = "",
    base_url: BaseUrl = "",
    api_key_env: KeyVariable = "OPENAI_API_KEY",
    out: Out = None,
    model: Model = "",
    phrase: Worded = "plain",
    pool: Pool = "mean",
    device: Device = "auto",
    precision: Precision = "fp32",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    split: Split = "",
    loose_labels: Loose = False,
    allow_absent: AllowAbsent = False,
    ignore_unknown: IgnoreUnknown = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Suggest edits of descriptors that help, or say that none does.

    Edits are chosen on one half of the images and measured on the other: dropping a descriptor, weighing a class's
    anew, borrowing one that sets a class apart from those it is taken for, or asking a language model for such. What
    helps by more than chance becomes a patch: look at it, then vlmdesc edit FILE apply PATCH.

    Example: vlmdesc suggest photos.csv --descriptors zoo.json --group-column place --class hen --group indoors
    """
    from vlmdesc.embeddings.labelled import Joining
    from vlmdesc.records.descriptors import open_set

    given = open_set(descriptors)
    _check(given, class_, group, group_column, phrase, pool)
    lent = [row.text for name in borrow for row in open_set(name).rows if row.text and row.enabled]
    target = _target(out)
    asking = Asker(given, ask, base_url, api_key_env) if ask else None
    columns = {"image": image_column, "label": label_column, "group": group_column}
    looked = look(
        dataset,
        {"split": split, **{f"{role}_column": column for role, column in columns.items()}},
        given,
        Joining(loose=loose_labels, allow_absent=allow_absent, ignore_unknown=ignore_unknown),
        lambda: open_encoder(model, device, precision),
    )
    found = _suggested(looked, class_, group, phrase, pool, lent, asking, seed)
    if found.edits:
        _write(found, target, class_, group)
    if as_json:
        print(json.dumps(_record(found, looked, str(target) if found.edits else None, seed)))
    else:
        _print(found, class_, group)
    if found.edits:
        what = f"{counted(len(found.edits), 'edit')} in {shown(target)}"
        say(f"{what}; next: vlmdesc edit FILE apply {shown(target)} --on OTHER-PICTURES")
    if looked.photos.failed or (asking and asking.failed):
        raise typer.Exit(ImageError.exit_code)


def _check(given: Descriptors, class_: str, group: str, group_column: str, phrase: str, pool: str) -> None:
    """What is wrong is told before the model is loaded. Raises: InputError."""
    from vlmdesc.classification.score import get_fold
    from vlmdesc.descriptors.phrase import get_phrase

    if class_:
        given.find(class_)
    if group and not group_column:
        raise InputError("--group without --group-column", fix="say which column of the data set has groups")
    if not get_phrase(phrase).reads_descriptor:
        raise InputError(f"phrase '{phrase}' reads no descriptors", fix="use another --phrase, such as plain")
    get_fold(pool, "suggestions")


def _target(out: Path | None) -> Path:
    """Where the patch goes. Raises: InputError where it cannot, or would replace what is there unasked."""
    target = out or Path("edits.jsonl")
    if not out and os.path.lexists(target):
        raise InputError("there is such a file already", where=target, fix="name this or another one with --out")
    if target.is_dir() or not target.parent.is_dir():
        raise InputError("cannot be written", where=target, fix="choose another with --out, in a folder that exists")
    if target.suffix != ".jsonl":  # whatever else it is, it is no patch that may be replaced
        raise InputError("a patch needs a name ending in .jsonl", where=target, fix="choose another with --out")
    return target


def _suggested(
    looked: Looked,
    class_: str,
    group: str,
    phrase: str,
    pool: str,
    lent: Sequence[str],
    asking: Asking | None,
    seed: int,
) -> Suggestions:
    from functools import partial

    from vlmdesc.cli.progress import stages
    from vlmdesc.embeddings.embed import text_vectors
    from vlmdesc.evaluation.candidates import Draft
    from vlmdesc.evaluation.suggest import suggest as suggested

    encode = partial(text_vectors, encoder=looked.encoder, store=looked.store)
    draft = Draft(looked.given, looked.fit(looked.given, phrase, pool), encode)
    with stages() as stage:
        tick = stage("classes", None)
        return suggested(
            draft,
            looked.photos,
            _aimed(looked, class_, group),
            borrowed=lent,
            ask=asking,
            seed=seed,
            tick=tick,
        )


def _aimed(looked: Looked, class_: str, group: str) -> np.ndarray:
    """Which images are aimed at: (N,). Raises: InputError where there is none."""
    import numpy as np

    photos = looked.photos
    aimed = np.ones(len(photos.labels), bool)
    if class_:
        aimed &= photos.labels == looked.given.find(class_)
    if group:
        aimed &= np.array([name == group for name in photos.groups])
    if not aimed.any():
        groups = few(dict.fromkeys(name for name in photos.groups if name is not None), 12)
        what = "no image" + (f" of class '{class_}'" if class_ else "") + (f" in group '{group}'" if group else "")
        raise InputError(what, where=looked.data.name, fix=f"groups: {groups}" if group else "give images of it")
    return aimed


def _write(found: Suggestions, target: Path, class_: str, group: str) -> None:
    import time
    from dataclasses import replace

    from vlmdesc.descriptors.patch import patch
    from vlmdesc.records.names import MAX_TEXT

    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    aim = " in ".join(filter(None, (class_, group))) or "all images"
    best = found.together or found.helping[0]
    gain = f"{100 * best.target.value:+.1f} points on {best.target.n} held-out images"
    why = shown(f"{aim}: {gain}" + (", with the others, picked by these too" if found.together else ""))[:MAX_TEXT]
    signed = [replace(edit, who=BY_SUGGESTION, when=when, why=why) for edit in found.edits]
    edits = [replace(edit, origin=BY_SUGGESTION) if edit.op == "add" else edit for edit in signed]
    write_atomic(target, patch(edits).encode())


def _record(found: Suggestions, looked: Looked, written: str | None, seed: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "data": looked.data.name,
        "encoder": looked.encoder.name,
        "seed": seed,
        "verdict": found.text,
        "candidates": found.candidates,
        "tried": [tried.record() for tried in found.tried],
        "together": found.together and found.together.record(),
        "edits": [edit.record() for edit in found.edits],
        "written": written,
    }


def _print(found: Suggestions, class_: str, group: str) -> None:
    """What was measured on held-out images, best first, and the verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vlmdesc.evaluation.statistics import p_value

    console, aimed = Console(), bool(class_ or group)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("edit", overflow="fold")
    n = [f"{side} (n={delta.n:,})" for tried in found.tried[:1] for side, delta in tried.sides().items()]
    for column in [*(n if aimed else n[1:]), "p"]:
        table.add_column(column, justify="right", no_wrap=True)
    for tried in [*found.tried, *filter(None, [found.together])]:
        lines = [str(edit) for edit in tried.edits]
        joined = tried.kind == "together"
        title = f"these {len(lines)} together, picked by this half too" if joined else "\n".join(map(shown, lines))
        cells = [with_interval(delta.value, delta.ci95, sign="+") for delta in tried.sides().values()][not aimed :]
        p = "" if joined else p_value(tried.target.p_holm)  # no test of what passed the tests on the same images
        table.add_row(*map(Text, (title, *cells, p)), style="" if tried.helps else "dim")
    if found.tried:
        console.print(table)
    console.print(Text(shown(found.text), style="bold"))
