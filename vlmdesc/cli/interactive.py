"""The prompt of vlmdesc search --interactive."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmdesc.cli.border import say
from vlmdesc.cli.index import draw
from vlmdesc.cli.search import lines
from vlmdesc.errors import InputError, VlmdescError

if TYPE_CHECKING:
    from vlmdesc import Index, SearchResult

HELP = """\
a red car at night              a text
cat.jpg + in the snow - people  images and texts, wanted and not, with blanks around + and -
#3 - people                     like the third of what was found last
:top 5                          how many are shown
:filter label=tabby*            only these; :filter alone lifts it
:montage found.png              draw what was found last
:quit                           or Ctrl-D"""


@dataclass(frozen=True)
class Talk:
    """What has been set so far, and what was found last."""

    index: Index
    top: int
    filters: Sequence[str]
    last: SearchResult | None = None


def converse(index: Index, top: int, filters: Sequence[str], as_json: bool) -> None:
    """Answer each line of stdin until it ends; an error is said, and the next line is read."""
    watched = sys.stdin.isatty()
    if watched:
        import readline  # noqa: F401 - gives input() a history

        say(f"{len(index):,} images; :help says what can be asked")
    talk = Talk(index, top, filters)
    while True:
        try:
            line = input("> " if watched else "").strip()
        except EOFError:
            return
        if line == ":quit":
            return
        try:
            if line.startswith(":"):
                talk = _command(line, talk)
            elif line:
                wanted, unwanted = ([_part(word, talk.last) for word in words] for words in parsed(line))
                found = index.search(wanted, minus=unwanted, top=talk.top, filters=talk.filters)
                talk = replace(talk, last=found)
                print(json.dumps(found.to_dict()) if as_json else "\n".join(lines(found)), flush=True)
        except VlmdescError as error:
            say(f"error: {error}")


def parsed(line: str) -> tuple[list[str], list[str]]:
    """What a line wants and what it does not. Raises: InputError.

    >>> parsed("a dog + snow - people")
    (['a dog', 'snow'], ['people'])
    """
    signed = line if line.startswith(("+ ", "- ")) else f"+ {line}"
    pieces = re.split(r"(?:^|\s)([+-])(?=\s)", signed)[1:]
    words: dict[str, list[str]] = {"+": [], "-": []}
    for sign, text in zip(pieces[::2], pieces[1::2], strict=True):
        word = text.strip()
        if not word or re.search(r"(^|\s)[+-](\s|$)", word):
            raise InputError("a + or - with nothing behind it", fix="write it as in :help")
        words[sign].append(word)
    return words["+"], words["-"]


def _part(word: str, last: SearchResult | None) -> Any:
    """A word of a query, or the hit that it stands for."""
    if not re.fullmatch("#[0-9]{1,6}", word):
        return word
    number = int(word[1:])
    if last is None or not 1 <= number <= len(last):
        raise InputError(f"no hit {number}", fix="ask first, then #1 is the first of what was found")
    return last[number - 1]


def _command(line: str, talk: Talk) -> Talk:
    name, _, value = line[1:].partition(" ")
    value = value.strip()
    if name == "top" and re.fullmatch("[1-9][0-9]{0,5}", value):
        return replace(talk, top=int(value))
    if name == "filter":
        filters = (value,) if value else ()
        talk.index.rows.where(filters)
        return replace(talk, filters=filters)
    if name == "montage" and value:
        if talk.last is None:
            raise InputError("nothing found yet", fix="ask first")
        draw(talk.last, Path(value))
        return talk
    if name == "help":
        say(HELP)
        return talk
    raise InputError(f"unknown command '{line}'", fix="see :help")
