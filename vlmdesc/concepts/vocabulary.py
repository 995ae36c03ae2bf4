"""Words that may become names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from vlmdesc.errors import InputError
from vlmdesc.files import read_text
from vlmdesc.records.descriptors import open_set
from vlmdesc.records.names import MAX_TEXT

WORDS = Path(__file__).parent / "words.txt"  # made by eval/vocabulary.py
MIN = 2


@cache
def shipped_words() -> tuple[str, ...]:
    """Some 18,000 names of visible things, materials and qualities, from WordNet 3.0."""
    return parse(read_text(WORDS), WORDS)


def open_vocabulary(source: str) -> tuple[str, ...]:
    """The words of a text file with one a line, or the classes and descriptors of a set; "" for those that ship.

    Raises: InputError naming the file and line.
    """
    if not source:
        return shipped_words()
    path = Path(source)
    if path.suffix == ".json" or not os.path.exists(source):
        given = open_set(source)
        return distinct_words([class_.name for class_ in given.classes] + [row.text for row in given.rows], source)
    return parse(read_text(path), path)


def parse(text: str, path: Path) -> tuple[str, ...]:
    """The words of a text, one a line; lines that begin with # are remarks. Raises: InputError."""
    words = []
    for number, line in enumerate(text.split("\n"), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if len(word) > MAX_TEXT or not word.isprintable():
            what = f"more than {MAX_TEXT} characters" if word.isprintable() else "characters that cannot be seen"
            raise InputError(what, where=f"{path}:{number}", fix="write one word or short phrase a line")
        words.append(word)
    return distinct_words(words, path)


def distinct_words(words: Iterable[str], where: object) -> tuple[str, ...]:
    """Words that differ in more than case, the first of each. Raises: InputError when fewer than two are left."""
    kept: dict[str, str] = {}
    for word in words:
        kept.setdefault(word.casefold(), word)
    if len(kept) < MIN:
        raise InputError(f"{len(kept)} words", where=where, fix="give at least two")
    return tuple(kept.values())
