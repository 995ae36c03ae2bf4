"""vlmdesc cache"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import print_messages, say, with_border
from vlmdesc.cli.options import Json
from vlmdesc.errors import InputError, StoreError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc.embeddings.upkeep import CacheItem

cache = typer.Typer(
    help="What is kept on disk: embeddings, and answers that took time or money. $VLMDESC_CACHE says where.",
    no_args_is_help=True,
)
BEGINNING = "An id of vlmdesc cache ls, or its beginning"
Id = Annotated[
    str,
    typer.Argument(
        help=f"{BEGINNING}; or the key of a language model's answer, which stands after # in the origin of its "
        "descriptors.",
        metavar="ID",
    ),
]
SomeId = Annotated[str, typer.Argument(help=f"{BEGINNING}; all without.", metavar="[ID]")]
RemovedId = Annotated[str, typer.Argument(help=f"{BEGINNING}; or the key of an answer.", metavar="[ID]")]
All = Annotated[bool, typer.Option("--all", help="Everything.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def ls(as_json: Json = False) -> None:
    """List what is kept, with sizes and ages."""
    kept = vd.Cache()
    found = kept.items()
    if as_json:
        print(json.dumps([item.to_dict() for item in found]))
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
    say(f"{_size(total)} in {shown(kept.folder)}" if found else f"nothing in {shown(kept.folder)}")


def show(id_: Id, as_json: Json = False) -> None:
    """Show one thing in full: whose it is, where, its files; or a language model's answer, with its question."""
    kept = vd.Cache()
    if file := kept.answer(id_):
        _show_answer(kept, file, as_json)
        return
    records = [item.details() for item in kept.items(id_)]
    if as_json:
        print(json.dumps(records))
        return
    for record in records:
        print("\n".join(f"{key:12s} {shown(value)}" for key, value in record.items()), end="\n\n")


def verify(id_: SomeId = "", as_json: Json = False) -> None:
    """Read every entry and check it. What is damaged is set aside, and made again when it is next needed.

    The exit status is 1 when something is damaged.
    """
    found, troubles = _each(vd.Cache.verify, id_)
    if as_json:
        print(json.dumps([item.to_dict() | {"damaged": bad} for item, bad in found]))
    else:
        for item, bad in found:
            state = f"{bad:,} damaged, set aside" if bad else "all whole"
            print(f"{item.id[:12]} {counted(item.entries, item.kind[:-1])} of {shown(item.about)}: {state}")
    if troubles or any(bad for _, bad in found):
        raise typer.Exit(StoreError.exit_code if troubles else 1)


def prune(id_: SomeId = "", as_json: Json = False) -> None:
    """Delete what was set aside as damaged and what interrupted writes left; merge small files."""
    found, troubles = _each(vd.Cache.prune, id_)
    freed = {item.id + "/" + item.kind: size for item, size in found}
    print(json.dumps({"freed": freed}) if as_json else f"freed {_size(sum(freed.values()))}")
    if troubles:
        raise typer.Exit(StoreError.exit_code)


def rm(id_: RemovedId = "", all_: All = False, yes: Yes = False, as_json: Json = False) -> None:
    """Remove embeddings or answers. They can be made again, which takes what it took; one answer goes by its key."""
    if bool(id_) == all_:
        raise InputError("give either an id or --all", fix="see vlmdesc cache ls")
    kept = vd.Cache()
    if one := kept.answer(id_):
        one.unlink(missing_ok=True)
        print(json.dumps({"removed": [str(one)]}) if as_json else f"removed {shown(one)}")
        return
    found = kept.items(id_)
    size = _size(sum(item.bytes for item in found))
    if found and not yes:
        if not sys.stdin.isatty():
            raise InputError(f"this would remove {size}", fix="add --yes")
        names = ", ".join(f"{item.kind} of {shown(item.about)}" for item in found)
        typer.confirm(f"Remove {size} ({names})?", abort=True)
    for item in found:
        kept.remove(item)
    print(json.dumps({"removed": [item.to_dict() for item in found]}) if as_json else f"removed {size}")


def _each(do: Callable[[vd.Cache, CacheItem], int], id_: str) -> tuple[list[tuple[CacheItem, int]], int]:
    """What `do` makes of each thing, and how many could not be done; these are named, and the others go on."""
    kept, done, troubles = vd.Cache(), [], 0
    for item in kept.items(id_):
        try:
            done.append((item, do(kept, item)))
        except StoreError as error:
            troubles += 1
            say(f"error: {error}")
    if not done and not troubles:
        say(f"nothing in {shown(kept.folder)}")
    return done, troubles


def _show_answer(kept: vd.Cache, file: Path, as_json: bool) -> None:
    """A question, message by message, and the answer as it came."""
    entry = kept.read_answer(file)
    if entry is None:  # set aside, and said
        raise typer.Exit(1)
    if as_json:
        print(json.dumps(entry | {"file": str(file)}))
        return
    question, found = entry["question"], entry["answer"]
    print(f"model   {shown(question['model'])}\nprompt  {shown(question['prompt'])}\nasked   {shown(found['date'])}\n")
    print_messages((*question["messages"], {"role": "answer", "content": found["text"]}))


for _command in (ls, show, verify, prune, rm):
    cache.command()(with_border(_command))


def _size(n_bytes: int) -> str:
    size, units = float(n_bytes), ["B", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _age(item: CacheItem) -> str:
    if item.written is None:
        return ""
    seconds = max(0.0, time.time() - item.written)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{counted(int(seconds // length), unit)} ago"
    return "just now"
