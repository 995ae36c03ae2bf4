"""vlmdesc edit"""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.assets import shipped_sets
from vlmdesc.cli.border import say
from vlmdesc.cli.effect import Look, check_look, effect_of, print_effect
from vlmdesc.cli.options import (
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
    open_encoder,
)
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, did_you_mean, shown

if TYPE_CHECKING:
    from vlmdesc.descriptors.revision import Revision
    from vlmdesc.records import Descriptors, Edit

# What stands behind each operation on the command line, as `Edit` has it.
TAKES: dict[str, tuple[str, ...]] = {
    "add": ("CLASS", "TEXT"),
    "drop": ("CLASS", "TEXT"),
    "reword": ("CLASS", "TEXT", "NEW"),
    "weigh": ("CLASS", "TEXT", "WEIGHT"),
    "disable": ("CLASS", "TEXT"),
    "enable": ("CLASS", "TEXT"),
    "move": ("CLASS", "TEXT", "TO"),
    "replace": ("WORDS", "NEW"),
    "add-class": ("ID", "NAME"),
    "merge": ("OTHER",),
    "apply": ("PATCH",),
    "undo": ("[NUMBER]",),
    "log": (),
    "diff": ("OTHER",),
}
SHOWN = 8  # edits of many that are printed
EFFECT = "With --on"
File = Annotated[
    str,
    typer.Argument(
        help=f"Descriptor file (JSON); or, with --out, a set that ships: {', '.join(shipped_sets())}.",
        metavar="FILE|SET",
        autocompletion=lambda: list(shipped_sets()),
    ),
]
Operation = Annotated[
    str, typer.Argument(help="One of those above.", metavar="OPERATION", autocompletion=lambda: list(TAKES))
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
    seen = _opened(file, out)
    edits = _edits(seen.descriptors, operation, rest, _signed(who, why))
    after = _after(seen, edits, out)
    record: dict[str, Any] = {"file": str(seen.path), "edits": [one.record() for one in edits]}
    saved, failed = yes or not on, 0
    if on:
        columns = {"image": image_column, "label": label_column, "group": group_column}
        options = {"split": split, **{f"{role}_column": column for role, column in columns.items()}}
        look = Look(on, options, loose_labels, phrase, pool, page)
        check_look(look, seen.descriptors, after)
        effect = effect_of(look, seen.descriptors, after, edits, lambda: open_encoder(model, device, precision))
        record, failed = record | effect, effect["failed"]
        say(f"with images: {shown(page)}")
    if saved:  # before anything is printed: whoever reads that may have seen enough
        _save(seen, edits, out, merge=not on)
    if on and not as_json:
        print_effect(record)
    if not saved and _confirmed():
        _save(seen, edits, out, merge=False)
        saved = True
    if as_json:
        print(json.dumps(record | {"saved": saved}))
    elif saved:
        _say_saved(edits, seen, out)
    else:
        say("not saved; --yes saves")
    if failed:
        raise typer.Exit(ImageError.exit_code)


def _check(operation: str, rest: Sequence[str], on: bool, yes: bool) -> None:
    """Raises: InputError for an unknown operation, one that takes something else, or an option it has no use for."""
    if operation not in TAKES:
        fix = f"{did_you_mean(operation, TAKES)}known: {', '.join(TAKES)}"
        raise InputError(f"unknown operation '{operation}'", fix=fix)
    takes = TAKES[operation]
    least = sum(not name.startswith("[") for name in takes)
    if not least <= len(rest) <= len(takes):
        wanted = " ".join(takes) or "nothing"
        fix = f"vlmdesc edit FILE {' '.join((operation, *takes))}"
        raise InputError(f"{operation} takes {wanted}, and {counted(len(rest), 'argument')} came", fix=fix)
    if on and operation in ("log", "diff"):
        raise InputError(f"--on with {operation}", fix="leave it out: nothing is changed")
    if yes and not on:
        raise InputError("--yes without --on", fix="leave it out: without --on nothing is asked")


def _opened(file: str, out: Path | None) -> Revision:
    """The file as it is. Raises: InputError for a set that ships where no --out says where to."""
    from vlmdesc.assets import shipped
    from vlmdesc.descriptors.revision import read_revision
    from vlmdesc.records.descriptors import open_set

    if file in shipped_sets() and not Path(file).is_file():
        if out is None:
            raise InputError("a set that ships is not edited in place", where=file, fix="say with --out where to")
        return read_revision(shipped(f"descriptors/{file}.json"))
    if not os.path.lexists(file):
        open_set(file)  # its error knows the names that are close
    return read_revision(file)


def _signed(who: str, why: str) -> dict[str, str]:
    if not who:
        try:
            who = getpass.getuser()
        except (OSError, KeyError):  # a user without a name
            who = ""
    return {"who": who, "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "why": why}


def _edits(descriptors: Descriptors, operation: str, rest: Sequence[str], signed: dict[str, str]) -> list[Edit]:
    """What the command line asks for. A patch's edits keep who, when and why as far as they say so."""
    from vlmdesc.descriptors.edit import last
    from vlmdesc.descriptors.patch import merging, read_patch
    from vlmdesc.records import Edit
    from vlmdesc.records.descriptors import open_set

    fields: dict[str, Any] = {**signed}
    if operation == "merge":
        found = [replace(one, **fields) for one in merging(descriptors, open_set(rest[0]))]
        if not found:
            raise InputError("nothing to merge", where=rest[0], fix="all its descriptors are there already")
        return found
    if operation == "apply":
        return [
            replace(one, who=one.who or signed["who"], when=one.when or signed["when"], why=one.why or signed["why"])
            for one in read_patch(rest[0])
        ]
    if operation == "undo":
        number = _number(rest[0], "NUMBER", int) if rest else last(descriptors.history)
        return [Edit("undo", number=int(number), **fields)]
    if operation == "replace":
        return [Edit("replace", text=rest[0], to=rest[1], **fields)]
    class_, text, *more = rest
    if operation == "add-class":
        _refuse_twin(descriptors, text)
    if more:
        fields |= {"weight": _number(more[0], "WEIGHT", float)} if operation == "weigh" else {"to": more[0]}
    return [Edit(operation, class_, text, **fields)]


def _refuse_twin(descriptors: Descriptors, name: str) -> None:
    """Two classes of one name are for files that have them; by hand it is a slip. Raises: InputError."""
    from vlmdesc.records.names import reads_as

    twin = next((class_ for class_ in descriptors.classes if reads_as(class_.name) == reads_as(name)), None)
    if twin:
        raise InputError(f"there is a class '{twin.name}' ({twin.id})", fix="add to that one, or choose another name")


def _number(text: str, what: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{what} is '{text}'", fix="give a number") from error


def _after(seen: Revision, edits: Sequence[Edit], out: Path | None) -> Descriptors:
    """The set with the edits. Raises: InputError for one that does not fit, and for an --out that cannot be new."""
    from vlmdesc.descriptors.edit import edit as apply

    if out is not None:
        if out.suffix != ".json" or not out.parent.is_dir():
            what = "--out needs a name ending in .json, in a folder that exists"
            raise InputError(what, where=out, fix="choose another")
        if os.path.lexists(out):
            raise InputError("there is such a file already", where=out, fix="name a new one, or edit that one itself")
    return apply(seen.descriptors, edits)


def _save(seen: Revision, edits: Sequence[Edit], out: Path | None, merge: bool) -> None:
    from vlmdesc.descriptors.revision import commit

    if out is None:
        commit(seen, edits, merge=merge)
    else:
        _after(seen, edits, out).save(out)


def _confirmed() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm("save?", err=True)


def _say_saved(edits: Sequence[Edit], seen: Revision, out: Path | None) -> None:
    from vlmdesc.descriptors.patch import told
    from vlmdesc.records import Done

    for one in edits[:SHOWN]:
        print(shown(told(Done(replace(one, who="", when="", why=""), ()), seen.descriptors.history)))
    if len(edits) > SHOWN:
        print(f"and {len(edits) - SHOWN:,} more")
    say(f"{counted(len(edits), 'edit')} saved to {shown(out or seen.path)}")


def _show(file: str, operation: str, rest: Sequence[str], out: Path | None, as_json: bool) -> None:
    """The log of a file, or what sets it apart from another, for people or as a patch."""
    from vlmdesc.descriptors.edit import standing
    from vlmdesc.descriptors.patch import difference, patch, told
    from vlmdesc.files import write_atomic
    from vlmdesc.records import Done
    from vlmdesc.records.descriptors import open_set

    if out and (out.suffix != ".jsonl" or not out.parent.is_dir()):
        what = "a patch needs a name ending in .jsonl, in a folder that exists"
        raise InputError(what, where=out, fix="choose another with --out")
    descriptors = open_set(file)
    if operation == "log":
        done, stand = descriptors.history, {*standing(descriptors.history)}
        marks = ("" if n in stand else "  [undone]" for n in range(1, len(done) + 1))
        lines = [f"{n}  {told(one, done)}{mark}" for n, (one, mark) in enumerate(zip(done, marks, strict=True), 1)]
        edits = [one.edit for n, one in enumerate(done, 1) if n in stand and one.edit.op != "undo"]
    else:
        edits = [*difference(descriptors, open_set(rest[0]))]
        lines = [told(Done(one, ())) for one in edits]
    if out:
        write_atomic(out, patch(edits).encode())
        say(f"{counted(len(edits), 'edit')} in {shown(out)}")
    elif as_json:
        print(json.dumps({"file": file, "edits": [one.record() for one in edits]}))
    else:
        print("\n".join(map(shown, lines)) or ("no edits" if operation == "log" else "no difference"))
