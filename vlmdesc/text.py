"""Words for people: numbers of things, lists that are cut, and text that is safe to print."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice


def shown(text: object) -> str:
    r"""`text` with control, bidirectional and undecodable characters as escapes, safe to print anywhere.

    >>> shown("red\x1b[31m\u202etxt.exe")
    'red\\x1b[31m\\u202etxt.exe'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def counted(n: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "class"), counted(2, "class"), counted(12345, "image"), counted(2, "copy")
    ('1 class', '2 classes', '12,345 images', '2 copies')
    """
    if n != 1:
        noun = f"{noun}es" if noun.endswith("s") else f"{noun[:-1]}ies" if noun.endswith("py") else f"{noun}s"
    return f"{n:,} {noun}"


def p_value(p: float) -> str:
    """A p-value as it is read.

    >>> p_value(3e-9), p_value(0.0312), p_value(1.0)
    ('<0.001', '0.031', '1')
    """
    return "<0.001" if p < 0.001 else "1" if p >= 0.9995 else f"{p:.3f}"


def few(names: Iterable[str], limit: int = 5) -> str:
    """The first of some names.

    >>> few("abc", 2), few("ab")
    ('a, b, ...', 'a, b')
    """
    first = [*islice(names, limit + 1)]
    return ", ".join(first[:limit]) + (", ..." if len(first) > limit else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The start of a fix: the closest known word, or nothing.

    >>> did_you_mean("maen", ["max", "mean"])
    "did you mean 'mean'? "
    """
    by_fold = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), by_fold, 1)
    return f"did you mean '{by_fold[close[0]]}'? " if close else ""
