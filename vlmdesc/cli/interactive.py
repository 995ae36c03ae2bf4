"""The prompt of vlmdesc search --interactive."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from vlmdesc.cli.border import say
from vlmdesc.cli.search import Answer, Asked, Word, draw, kind_of, lines, record
from vlmdesc.errors import InputError, VlmdescError

HELP = """\
a red car at night              a text
cat.jpg + in the snow - people  images and texts, wanted and not, with blanks around + and -
#3 - people                     like the third of what was found last
:top 5                          how many are shown
:filter label=tabby*            only these; :filter alone lifts it
:montage found.png              draw what was found last
:quit                           or Ctrl-D"""


def converse(asked: Asked, as_json: bool) -> None:
    """Answer each line of stdin until it ends; an error is said, and the next line is read."""
    watched = sys.stdin.isatty()
    if watched:
        import readline  # noqa: F401 - gives input() a history

        say(f"{len(asked.index):,} images; :help says what can be asked")
    last: Answer | None = None
    while True:
        try:
            line = input("> " if watched else "").strip()
        except EOFError:
            return
        if line == ":quit":
            return
        try:
            if line.startswith(":"):
                asked = _command(line, asked, last)
            elif line:
                last = asked.answer(*parsed(line), last)
                print(json.dumps(record(last)) if as_json else "\n".join(lines(last)), flush=True)
        except VlmdescError as error:
            say(f"error: {error}")


def parsed(line: str) -> tuple[list[Word], list[Word]]:
    """What a line wants and what it does not. Raises: InputError.

    >>> parsed("a dog + snow - people")
    ([('a dog', 'text'), ('snow', 'text')], [('people', 'text')])
    """
    signed = line if line.startswith(("+ ", "- ")) else f"+ {line}"
    pieces = re.split(r"(?:^|\s)([+-])(?=\s)", signed)[1:]
    words: dict[str, list[Word]] = {"+": [], "-": []}
    for sign, text in zip(pieces[::2], pieces[1::2], strict=True):
        word = text.strip()
        if not word or re.search(r"(^|\s)[+-](\s|$)", word):
            raise InputError("a + or - with nothing behind it", fix="write it as in :help")
        words[sign].append((word[1:], "hit") if re.fullmatch("#[0-9]{1,6}", word) else (word, kind_of(word)))
    return words["+"], words["-"]


def _command(line: str, asked: Asked, last: Answer | None) -> Asked:
    name, _, value = line[1:].partition(" ")
    value = value.strip()
    if name == "top" and re.fullmatch("[1-9][0-9]{0,5}", value):
        return replace(asked, top=int(value))
    if name == "filter":
        filters = (value,) if value else ()
        asked.index.rows.where(filters)
        return replace(asked, filters=filters)
    if name == "montage" and value:
        if last is None:
            raise InputError("nothing found yet", fix="ask first")
        draw(last, Path(value))
        return asked
    if name == "help":
        say(HELP)
        return asked
    raise InputError(f"unknown command '{line}'", fix="see :help")
