"""vlmdesc edit"""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say
from vlmdesc.cli.effect import print_effect, say_effect
from vlmdesc.cli.options import (
    SETS,
    Device,
    GroupColumn,
    ImageColumn,
    Json,
    LabelColumn,
    Loose,
    Model,
    Pool,
    Precision,
    Split,
    Worded,
    complete,
    open_data,
    open_encoder,
)
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, did_you_mean, shown

SHOWN = 8  # edits of many that are printed
EFFECT = "With --on"
File = Annotated[
    str,
    typer.Argument(
        help=f"Descriptor file (JSON); or, with --out, a set that ships: {SETS}.",
        metavar="FILE|SET",
        autocompletion=complete("sets"),
    ),
]
Operation = Annotated[
    str, typer.Argument(help="One of those above.", metavar="OPERATION", autocompletion=lambda: list(_takes()))
]
Rest = Annotated[
    list[str],
    typer.Argument(
        help="What the operation takes. CLASS is an id, a name or an alias. Where a text begins with a dash, put -- "
        "before it, and options before that.",
        metavar="...",
    ),
]
Who = Annotated[str, typer.Option(help="Who edits.", envvar="VLMDESC_USER", show_default="your login name")]
Why = Annotated[str, typer.Option(help="Why, for the log.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Write the edited set there, to a new file, and leave FILE as it is; for log and diff, write a patch.",
        metavar="NEW.json|PATCH.jsonl",
    ),
]
On = Annotated[
    list[str],
    typer.Option(
        "--on",
        help="Show first what the edit does to the answers on labelled images; then ask, or with --yes save.",
        metavar="DATASET",
        rich_help_panel=EFFECT,
    ),
]
Page = Annotated[
    Path, typer.Option(help="Where the effect is written, with images.", metavar="FILE.html", rich_help_panel=EFFECT)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Save without asking.", rich_help_panel=EFFECT)]


def edit(
    file: File,
    operation: Operation,
    rest: Rest = [],  # noqa: B006 - typer reads it
    who: Who = "",
    why: Why = "",
    out: Out = None,
    on: On = [],  # noqa: B006
    yes: Yes = False,
    page: Page = Path("vlmdesc-edit.html"),
    model: Model = "",
    phrase: Worded = "plain",
    pool: Pool = "mean",
    device: Device = "auto",
    precision: Precision = "fp32",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    group_column: GroupColumn = "",
    split: Split = "",
    loose_labels: Loose = False,
    as_json: Json = False,
) -> None:
    """Edit the descriptors of a file, with a log that tells who, when and why, and that undoes.

    add CLASS TEXT, drop CLASS TEXT, reword CLASS TEXT NEW
    move CLASS TEXT TO: to another class
    disable CLASS TEXT, enable CLASS TEXT: kept, but not counted
    weigh CLASS TEXT WEIGHT: counted more than others, or less (they have 1)
    replace WORDS NEW: whole words, in the descriptors of every class
    add-class ID NAME
    merge OTHER: add what only another set has
    apply PATCH: the edits of a file
    undo [NUMBER]: the last edit, or that one of the log
    log: who, when and why
    diff OTHER: the edits that would make this set the other

    A save is whole or not at all, and never over what someone else saved
    meanwhile. With --on, see first which images an edit fixes and breaks.

    vlmdesc edit birds.json add hen "a red comb"
    vlmdesc edit birds.json drop hen "a farm animal" --on photos/
    """
    _check(operation, rest, bool(on), yes)
    if operation in ("log", "diff"):
        return _show(file, operation, rest, out, as_json)
    seen = None if out else vd.DescriptorFile.open(file)
    before = seen.descriptors if seen else vd.Descriptors.load(file)
    edits = _edits(before, operation, rest, _signature(who, why))
    after, saved = vd.edit(before, edits), yes or not on
    if out:
        _check_place(out, ".json", "--out")
        if os.path.lexists(out):
            raise InputError("there is such a file already", where=out, fix="name a new one, or edit that one itself")
    save = partial(seen.commit, edits, merge=not on) if seen else partial(after.save, out or file)
    record: dict[str, Any] = {"file": file, "edits": [one.to_dict() for one in edits]}
    if on:
        from vlmdesc.cli.progress import bars

        _check_place(page, ".html", "--page")
        columns = {"image_column": image_column, "label_column": label_column, "group_column": group_column}
        joining = vd.Joining(loose=loose_labels, allow_absent=True, ignore_unknown=True)
        data, encoder = open_data(on, **columns, split=split), partial(open_encoder, model, device, precision)
        with bars() as bar:
            found = vd.effect(before, after, data, encoder, phrase=phrase, pool=pool, joining=joining, progress=bar)
        found.save(page)
        say_effect(found.images.failed, found.notes, page)
        record |= found.to_dict()
    if saved:  # before anything is printed: whoever reads that may have seen enough
        save()
    if on and not as_json:
        print_effect(record)
    if not saved and sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm("save?", err=True):
        save()
        saved = True
    if as_json:
        print(json.dumps(record | {"saved": saved}))
    elif saved:
        _say_saved(edits, before, out or file)
    else:
        say("not saved; --yes saves")
    if record.get("failed"):
        raise typer.Exit(ImageError.exit_code)


def _takes() -> dict[str, tuple[str, ...]]:
    """What stands behind each operation on the command line."""
    from vlmdesc.records.edits import OPERATIONS

    fields = {operation: tuple(map(str.upper, fields)) for operation, fields in OPERATIONS.items()}
    named = {"reword": ("CLASS", "TEXT", "NEW"), "replace": ("WORDS", "NEW"), "add-class": ("ID", "NAME")}
    others = {"merge": ("OTHER",), "apply": ("PATCH",), "undo": ("[NUMBER]",), "log": (), "diff": ("OTHER",)}
    return fields | named | others


def _check(operation: str, rest: Sequence[str], on: bool, yes: bool) -> None:
    """Raises: InputError for an unknown operation, one that takes something else, or an option it has no use for."""
    known = _takes()
    if operation not in known:
        fix = f"{did_you_mean(operation, known)}known: {', '.join(known)}"
        raise InputError(f"unknown operation '{operation}'", fix=fix)
    takes = known[operation]
    if not len(takes) - (operation == "undo") <= len(rest) <= len(takes):
        what = f"{operation} takes {' '.join(takes) or 'nothing'}, and {counted(len(rest), 'argument')} came"
        raise InputError(what, fix=f"vlmdesc edit FILE {' '.join((operation, *takes))}")
    if on and operation in ("log", "diff"):
        raise InputError(f"--on with {operation}", fix="leave it out: nothing is changed")
    if yes and not on:
        raise InputError("--yes without --on", fix="leave it out: without --on nothing is asked")


def _check_place(path: Path, ending: str, option: str) -> None:
    if path.suffix.lower() != ending or not path.parent.is_dir():
        what = f"{option} needs a name ending in {ending}, in a folder that exists"
        raise InputError(what, where=path, fix="choose another")


def _signature(who: str, why: str) -> dict[str, Any]:
    with suppress(OSError, KeyError):  # a user without a name
        who = who or getpass.getuser()
    return {"who": who, "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "why": why}


def _edits(before: vd.Descriptors, operation: str, rest: Sequence[str], signed: dict[str, Any]) -> list[vd.Edit]:
    """What the command line asks for. A patch's edits keep who, when and why as far as they say so."""
    from vlmdesc.records.edits import OPERATIONS, last_edit
    from vlmdesc.records.names import reads_as

    if operation == "apply":
        patch = vd.read_patch(rest[0])
        return [replace(one, **{name: getattr(one, name) or said for name, said in signed.items()}) for one in patch]
    if operation == "merge":
        if not (found := vd.merge(before, rest[0])):
            raise InputError("nothing to merge", where=rest[0], fix="all its descriptors are there already")
        return [replace(one, **signed) for one in found]
    fields: dict[str, Any] = dict(zip(OPERATIONS[operation], rest, strict=False)) | signed
    try:
        if operation == "undo":
            fields["number"] = int(rest[0]) if rest else last_edit(before.history)
        if operation == "weigh":
            fields["weight"] = float(rest[2])
    except ValueError as error:
        raise InputError(f"'{rest[-1]}' is not a number", fix="give a number") from error
    if operation == "add-class":  # two classes of one name are for files that have them; by hand it is a slip
        twins = [class_ for class_ in before.classes if reads_as(class_.name) == reads_as(rest[1])]
        if twins:
            what = f"there is a class '{twins[0].name}' ({twins[0].id})"
            raise InputError(what, fix="add to that one, or choose another name")
    return [vd.Edit(operation, fields.pop("class", ""), **fields)]


def _say_saved(edits: Sequence[vd.Edit], before: vd.Descriptors, target: str | Path) -> None:
    from vlmdesc.records.edits import log_line

    for one in edits[:SHOWN]:
        print(shown(log_line(replace(one, who="", when="", why=""), before.history)))
    if len(edits) > SHOWN:
        print(f"and {len(edits) - SHOWN:,} more")
    say(f"{counted(len(edits), 'edit')} saved to {shown(target)}")


def _show(file: str, operation: str, rest: Sequence[str], out: Path | None, as_json: bool) -> None:
    """The log of a file, or what sets it apart from another, for people or as a patch."""
    from vlmdesc.records.edits import log_line, standing

    if out:
        _check_place(out, ".jsonl", "--out")
    descriptors = vd.Descriptors.load(file)
    if operation == "log":
        history = descriptors.history
        stand = standing(history)
        edits = [history[n - 1].edit for n in stand if history[n - 1].edit.op != "undo"]
        marks = {n: "" if n in stand else "  [undone]" for n in range(1, len(history) + 1)}
        lines = [f"{n}  {log_line(history[n - 1].edit, history)}{mark}" for n, mark in marks.items()]
    else:
        edits = vd.diff(descriptors, rest[0])
        lines = [log_line(one) for one in edits]
    if out:
        vd.write_patch(out, edits)
        say(f"{counted(len(edits), 'edit')} in {shown(out)}")
    elif as_json:
        print(json.dumps({"file": file, "edits": [one.to_dict() for one in edits]}))
    else:
        print("\n".join(map(shown, lines)) or ("no edits" if operation == "log" else "no difference"))
