"""The prompt of vlmdesc search --interactive."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
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


def converse(index: Index, top: int, filters: Sequence[str], as_json: bool) -> None:
    """Answer each line of stdin until it ends; an error is said, and the next line is read."""
    watched, last = sys.stdin.isatty(), None
    if watched:
        import readline  # noqa: F401 - gives input() a history

        say(f"{len(index):,} images; :help says what can be asked")
    while True:
        try:
            line = input("> " if watched else "").strip()
            name, _, value = line.partition(" ")
            if line == ":quit":
                return
            if name == ":top" and re.fullmatch("[1-9][0-9]{0,5}", value.strip()):
                top = int(value)
            elif name == ":filter":
                wanted = [value.strip()] if value.strip() else []
                index.rows.where(wanted)  # it may fit nothing
                filters = wanted
            elif name == ":montage" and value.strip():
                draw(_require(last), Path(value.strip()))
            elif line == ":help":
                say(HELP)
            elif line.startswith(":"):
                raise InputError(f"unknown command '{line}'", fix="see :help")
            elif line:
                query, minus = ([_part(word, last) for word in words] for words in parse_line(line))
                last = index.search(query, minus=minus, top=top, filters=filters)
                print(json.dumps(last.to_dict()) if as_json else "\n".join(lines(last)), flush=True)
        except EOFError:
            return
        except VlmdescError as error:
            say(f"error: {error}")


def parse_line(line: str) -> tuple[list[str], list[str]]:
    """What a line wants and what it does not. Raises: InputError.

    >>> parse_line("a dog + snow - people")
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
    found, number = _require(last), int(word[1:])
    if not 1 <= number <= len(found):
        raise InputError(f"no hit {number}", fix="#1 is the first of what was found last")
    return found[number - 1]


def _require(last: SearchResult | None) -> SearchResult:
    if last is None:
        raise InputError("nothing found yet", fix="ask first")
    return last
