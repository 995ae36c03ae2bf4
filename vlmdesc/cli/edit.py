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
from vlmdesc.cli.options import (
    Device,
    GroupColumn,
    ImageColumn,
    Json,
    LabelColumn,
    Loose,
    Model,
    Phrase,
    Pool,
    Precision,
    Split,
    open_encoder,
)
from vlmdesc.errors import InputError, counted, did_you_mean, shown
from vlmdesc.records import Edit
from vlmdesc.records.descriptors import open_set

if TYPE_CHECKING:
    from vlmdesc.describe.revision import Revision
    from vlmdesc.records import Descriptors

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
SHOWN = 8  # classes whose change is printed
FILE, EFFECT = "What is edited", "With --on"
File = Annotated[
    str,
    typer.Argument(
        help=f"Descriptor file (JSON); or, with --out, a set that ships: {', '.join(shipped_sets())}.",
        metavar="FILE|SET",
        autocompletion=lambda: list(shipped_sets()),
    ),
]
Operation = Annotated[
    str,
    typer.Argument(
        help="; ".join(" ".join((op, *takes)) for op, takes in TAKES.items()) + ".",
        metavar="OPERATION",
        autocompletion=lambda: list(TAKES),
    ),
]
Rest = Annotated[list[str], typer.Argument(help="What the operation takes.", metavar="...")]
Who = Annotated[str, typer.Option(help="Who edits.", envvar="VLMDESC_USER", show_default="your login name")]
Why = Annotated[str, typer.Option(help="Why, for the log.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Write the edited set there and leave FILE as it is; for log and diff, write a patch.", metavar="FILE"
    ),
]
On = Annotated[
    list[str],
    typer.Option(
        "--on",
        help="Show first what the edit does to the answers on labelled pictures; then ask, or with --yes save.",
        metavar="DATASET",
        rich_help_panel=EFFECT,
    ),
]
Page = Annotated[
    Path,
    typer.Option(help="Where the effect is written, with pictures.", metavar="FILE.html", rich_help_panel=EFFECT),
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
    phrase: Phrase = "plain",
    pool: Pool = "mean",
    device: Device = "auto",
    precision: Precision = "auto",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    group_column: GroupColumn = "",
    split: Split = "",
    loose_labels: Loose = False,
    as_json: Json = False,
) -> None:
    """Edit the descriptors of a file, with a log that tells who, when and why, and that undoes.

    A save is whole or not at all, and never over what someone else has saved meanwhile. With --on, see before saving
    which pictures an edit fixes and which it breaks, for all, by class and by group.

    Examples: vlmdesc edit birds.json add hen "a red comb"; vlmdesc edit birds.json undo;
    vlmdesc edit birds.json drop hen "a farm animal" --on photos/
    """
    _check(operation, rest)
    if operation in ("log", "diff"):
        return _show(file, operation, rest, out, as_json)
    seen = _opened(file, out)
    edits = _edits(seen.descriptors, operation, rest, _signed(who, why))
    _try(seen, edits)
    record: dict[str, Any] = {"file": str(seen.path), "edits": [one.record() for one in edits]}
    save = True
    if on:
        columns = {"image": image_column, "label": label_column, "group": group_column}
        options = {"split": split, **{f"{role}_column": column for role, column in columns.items()}}
        record |= _effect(
            seen, edits, on, options, loose_labels, phrase, pool, page, lambda: open_encoder(model, device, precision)
        )
        if not as_json:
            _print_effect(record)
        say(f"with pictures: {shown(page)}")
        save = yes or _confirmed()
    if save:
        _save(seen, edits, out, merge=not on)
    if as_json:
        print(json.dumps(record | {"saved": save}))
    else:
        _say_saved(edits, seen, out) if save else say("not saved; --yes saves")


def _check(operation: str, rest: Sequence[str]) -> None:
    """Raises: InputError for an unknown operation, or one that takes something else."""
    if operation not in TAKES:
        fix = f"{did_you_mean(operation, TAKES)}known: {', '.join(TAKES)}"
        raise InputError(f"unknown operation '{operation}'", fix=fix)
    takes = TAKES[operation]
    least = sum(not name.startswith("[") for name in takes)
    if not least <= len(rest) <= len(takes):
        wanted = " ".join(takes) or "nothing"
        fix = f"vlmdesc edit FILE {' '.join((operation, *takes))}"
        raise InputError(f"{operation} takes {wanted}, and {counted(len(rest), 'argument')} came", fix=fix)


def _opened(file: str, out: Path | None) -> Revision:
    """The file as it is. Raises: InputError for a set that ships where no --out says where to."""
    from vlmdesc.assets import shipped
    from vlmdesc.describe.revision import read_revision

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
    """What the command line asks for. A patch's edits keep who made them, and get the rest."""
    from vlmdesc.describe.edit import last, merging
    from vlmdesc.describe.revision import read_patch

    fields: dict[str, Any] = {**signed}
    if operation == "merge":
        found = [replace(one, **fields) for one in merging(descriptors, open_set(rest[0]))]
        if not found:
            raise InputError("nothing to merge", where=rest[0], fix="all its descriptors are there already")
        return found
    if operation == "apply":
        return [
            replace(one, who=one.who or signed["who"], when=one.when or signed["when"]) for one in read_patch(rest[0])
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


def _try(seen: Revision, edits: Sequence[Edit]) -> Descriptors:
    """Raises: InputError for an edit that does not fit, before anything is loaded."""
    from vlmdesc.describe.edit import edited

    return edited(seen.descriptors, edits)


def _save(seen: Revision, edits: Sequence[Edit], out: Path | None, merge: bool) -> None:
    from vlmdesc.describe.revision import commit

    if out is None:
        commit(seen, edits, merge=merge)
    else:
        _try(seen, edits).save(out)


def _say_saved(edits: Sequence[Edit], seen: Revision, out: Path | None) -> None:
    for one in edits[:SHOWN]:
        print(shown(one))
    if len(edits) > SHOWN:
        print(f"and {len(edits) - SHOWN:,} more")
    say(f"{counted(len(edits), 'edit')} saved to {shown(out or seen.path)}")


def _show(file: str, operation: str, rest: Sequence[str], out: Path | None, as_json: bool) -> None:
    """The log of a file, or what sets it apart from another, for people or as a patch."""
    from vlmdesc.describe.edit import difference, standing
    from vlmdesc.describe.revision import patch, told
    from vlmdesc.files import write_atomic
    from vlmdesc.records import Done

    descriptors = open_set(file)
    if operation == "log":
        stand = {*standing(descriptors.history)}
        done = descriptors.history
        lines = [f"{n}  {told(one)}" + ("" if n in stand else "  [undone]") for n, one in enumerate(done, 1)]
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


def _effect(
    seen: Revision,
    edits: Sequence[Edit],
    on: list[str],
    columns: dict[str, str],
    loose: bool,
    phrase: str,
    pool: str,
    page: Path,
    open_model: Any,
) -> dict[str, Any]:
    """What the edits do to the answers, written to a page, ready for JSON."""
    from vlmdesc.cli.looking import look
    from vlmdesc.describe.edit import edited
    from vlmdesc.evaluate.effect import answers, columns_of, effect, leaders
    from vlmdesc.evaluate.pages import effect_page, effect_rows
    from vlmdesc.evaluate.photos import Joining
    from vlmdesc.evaluate.thumbnails import thumbnails
    from vlmdesc.files import write_atomic

    _refuse_page(page)
    joining = Joining(loose=loose, allow_absent=True, ignore_unknown=True)
    looked = look(on, columns, seen.descriptors, joining, open_model)
    after_set = edited(looked.given, edits)
    if len(after_set.classes) != len(looked.given.classes):
        raise InputError("the edit adds classes", fix="save it without --on, then use vlmdesc eval")
    before, after = (columns_of(set_, looked.encode, phrase) for set_ in (looked.given, after_set))
    photos = looked.photos
    best = leaders(photos.vectors, before, pool)
    then = answers(photos.vectors, best, before, after, pool)
    found = effect(best.classes[:, 0], then, photos.labels, photos.groups)
    record = found.record(photos, looked.given.classes)
    shown_ = record | {"edits": [str(one) for one in edits]}
    pictures = thumbnails(looked.data, effect_rows(record))
    write_atomic(page, effect_page(shown_, looked.data.name, looked.given.classes, pictures).encode())
    return record


def _refuse_page(page: Path) -> None:
    if page.suffix.lower() != ".html" or not page.parent.is_dir():
        what = "the page needs a name ending in .html, in a folder that exists"
        raise InputError(what, where=page, fix="choose another with --page")


def _confirmed() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm("save?", err=True)


def _print_effect(record: dict[str, Any]) -> None:
    """The verdict, and the groups and classes that moved."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vlmdesc.cli.results import with_interval
    from vlmdesc.evaluate.statistics import p_value

    console, overall = Console(), record["overall"]
    moved = [row for row in record["groups"] if row["fixed"] + row["broken"]]
    rows = [("all pictures", overall)] + [(f"in {row['group']}", row) for row in moved]
    rows += [(row["name"], row) for row in record["classes"][:SHOWN]]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for column in ("n", "right %", "points", "fixed", "broken", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for title, row in rows:
        right = f"{100 * row['before']:.1f} > {100 * row['after']:.1f}"
        delta = with_interval(row["delta"], row["ci95"], sign="+")
        cells = (f"{row['n']:,}", right, delta, str(row["fixed"]), str(row["broken"]), p_value(row["p_holm"]))
        table.add_row(*map(Text, (shown(title), *cells)))
    console.print(table)
    still = len(record["groups"]) - len(moved)
    more = [f"{counted(still, 'group')} without a change"] if still else []
    more += [f"{len(record['classes']) - SHOWN:,} more classes"] if len(record["classes"]) > SHOWN else []
    if more:
        console.print(Text(f"and {', '.join(more)}", style="dim"))
    console.print(Text(shown(record["verdict"]["text"]), style="bold"))
