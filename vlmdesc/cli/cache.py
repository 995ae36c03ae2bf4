"""vlmdesc cache"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmdesc.cache import cache_folder
from vlmdesc.cli.border import bordered, print_messages, say
from vlmdesc.cli.options import Json
from vlmdesc.errors import InputError, StoreError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc.embeddings.upkeep import Kept

cache = typer.Typer(
    help="What is kept on disk: embeddings, and answers that took time or money. $VLMDESC_CACHE says where.",
    no_args_is_help=True,
)
Id = Annotated[
    str,
    typer.Argument(
        help="An id of vlmdesc cache ls, or its beginning; or the key of a language model's answer, "
        "which stands after # in the origin of its descriptors.",
        metavar="ID",
    ),
]
SomeId = Annotated[
    str, typer.Argument(help="An id of vlmdesc cache ls, or its beginning; all without.", metavar="[ID]")
]
RemovedId = Annotated[
    str, typer.Argument(help="An id of vlmdesc cache ls, or its beginning; or the key of an answer.", metavar="[ID]")
]
All = Annotated[bool, typer.Option("--all", help="Everything.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _everything() -> list[Kept]:
    from vlmdesc.embeddings.upkeep import kept

    return kept(cache_folder())


def _some(id_: str) -> list[Kept]:
    from vlmdesc.embeddings.upkeep import pick

    found = _everything()
    return pick(found, id_) if id_ else found


def _each(do: Callable[[Path, Kept], int], id_: str) -> tuple[list[tuple[Kept, int]], int]:
    """What `do` makes of each thing, and how many could not be done; these are named, and the others go on."""
    done, troubles = [], 0
    for item in _some(id_):
        try:
            done.append((item, do(cache_folder(), item)))
        except StoreError as error:
            troubles += 1
            say(f"error: {error}")
    if not done and not troubles:
        say(f"nothing in {shown(cache_folder())}")
    return done, troubles


def ls(as_json: Json = False) -> None:
    """List what is kept, with sizes and ages."""
    found = _everything()
    if as_json:
        print(json.dumps([_record(item) for item in found]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column, justify in (("id", "left"), ("kind", "left"), ("of", "left"), ("entries", "right"), ("size", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("last written")
    for item in found:
        cells = (item.id[:12], item.kind, shown(item.about), f"{item.entries:,}", _size(item.bytes), _age(item))
        table.add_row(*cells)
    if found:
        Console().print(table)
    total = sum(item.bytes for item in found)
    say(f"{_size(total)} in {shown(cache_folder())}" if found else f"nothing in {shown(cache_folder())}")


def show(id_: Id, as_json: Json = False) -> None:
    """Show one thing in full: whose it is, where, its files; or a language model's answer, with its question."""
    from vlmdesc.embeddings.upkeep import answer, card

    found = answer(cache_folder(), id_)
    if found:
        _show_answer(found, as_json)
        return

    records = [_record(item) | card(item) for item in _some(id_)]
    if as_json:
        print(json.dumps(records))
        return
    for record in records:
        print("\n".join(f"{key:12s} {shown(value)}" for key, value in record.items()), end="\n\n")


def verify(id_: SomeId = "", as_json: Json = False) -> None:
    """Read every entry and check it. What is damaged is set aside, and made again when it is next needed.

    The exit status is 1 when something is damaged.
    """
    from vlmdesc.embeddings.upkeep import verify as check

    found, troubles = _each(check, id_)
    if as_json:
        print(json.dumps([_record(item) | {"damaged": bad} for item, bad in found]))
    else:
        for item, bad in found:
            state = f"{bad:,} damaged, set aside" if bad else "all whole"
            print(f"{item.id[:12]} {counted(item.entries, item.kind[:-1])} of {shown(item.about)}: {state}")
    if troubles or any(bad for _, bad in found):
        raise typer.Exit(StoreError.exit_code if troubles else 1)


def prune(id_: SomeId = "", as_json: Json = False) -> None:
    """Delete what was set aside as damaged and what interrupted writes left; merge small files."""
    from vlmdesc.embeddings.upkeep import prune as tidy

    found, troubles = _each(tidy, id_)
    freed = {item.id + "/" + item.kind: size for item, size in found}
    print(json.dumps({"freed": freed}) if as_json else f"freed {_size(sum(freed.values()))}")
    if troubles:
        raise typer.Exit(StoreError.exit_code)


def rm(id_: RemovedId = "", all_: All = False, yes: Yes = False, as_json: Json = False) -> None:
    """Remove embeddings or answers. They can be made again, which takes what it took; one answer goes by its key."""
    from vlmdesc.embeddings.upkeep import answer, remove

    if bool(id_) == all_:
        raise InputError("give either an id or --all", fix="see vlmdesc cache ls")
    one = answer(cache_folder(), id_)
    if one:
        one.unlink(missing_ok=True)
        print(json.dumps({"removed": [str(one)]}) if as_json else f"removed {shown(one)}")
        return
    found = _some(id_)
    size = _size(sum(item.bytes for item in found))
    if found and not yes:
        if not sys.stdin.isatty():
            raise InputError(f"this would remove {size}", fix="add --yes")
        typer.confirm(
            f"Remove {size} ({', '.join(f'{item.kind} of {shown(item.about)}' for item in found)})?", abort=True
        )
    for item in found:
        remove(item)
    print(json.dumps({"removed": [_record(item) for item in found]}) if as_json else f"removed {size}")


def _show_answer(path: Path, as_json: bool) -> None:
    """A question, message by message, and the answer as it came."""
    from vlmdesc.cache import Answers

    entry = Answers(path.parent).read(path)
    if entry is None:  # set aside, and said
        raise typer.Exit(1)
    if as_json:
        print(json.dumps(entry | {"file": str(path)}))
        return
    question, found = entry["question"], entry["answer"]
    print(f"model   {shown(question['model'])}\nprompt  {shown(question['prompt'])}\nasked   {shown(found['date'])}\n")
    print_messages((*question["messages"], {"role": "answer", "content": found["text"]}))


for _command in (ls, show, verify, prune, rm):
    cache.command()(bordered(_command))


def _record(item: Kept) -> dict[str, object]:
    return asdict(item) | {"folder": str(item.folder)}


def _size(n_bytes: int) -> str:
    size, units = float(n_bytes), ["B", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _age(item: Kept) -> str:
    if item.written is None:
        return ""
    seconds = max(0.0, time.time() - item.written)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            n = int(seconds // length)
            return f"{n} {unit}{'s' if n > 1 else ''} ago"
    return "just now"
