"""Every error a user can meet says what is wrong, where, and what to do.

VlmdescError
├── InputError     a file, an option or a value the user gave            exit 2
│   ├── ShapeError    arrays that do not fit together
│   └── ConflictError a file that someone else has changed meanwhile
├── ModelError     a model that cannot be loaded or used                 exit 2
├── EndpointError  a hub or service that does not answer                 exit 3
├── StoreError     a disk or cache that cannot be read or written        exit 4
├── ImageError     one picture that cannot be used; the batch goes on    exit 1
└── AnswerError    one question without a usable answer; others go on    exit 1
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import Any


def shown(text: object) -> str:
    r"""`text` with control, bidirectional and undecodable characters as escapes, safe to print anywhere.

    >>> shown("red\x1b[31m\u202etxt.exe")
    'red\\x1b[31m\\u202etxt.exe'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The start of a fix: the closest known word, or nothing.

    >>> did_you_mean("maen", ["max", "mean"])
    "did you mean 'mean'? "
    """
    by_fold = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), by_fold, 1)
    return f"did you mean '{by_fold[close[0]]}'? " if close else ""


def counted(n: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "class"), counted(2, "class"), counted(12345, "picture"), counted(2, "copy")
    ('1 class', '2 classes', '12,345 pictures', '2 copies')
    """
    if n != 1:
        noun = f"{noun}es" if noun.endswith("s") else f"{noun[:-1]}ies" if noun.endswith("py") else f"{noun}s"
    return f"{n:,} {noun}"


def few(names: Iterable[str], limit: int = 5) -> str:
    """The first of some names.

    >>> few("abc", 2), few("ab")
    ('a, b, ...', 'a, b')
    """
    first = [*islice(names, limit + 1)]
    return ", ".join(first[:limit]) + (", ..." if len(first) > limit else "")


class VlmdescWarning(UserWarning):
    """Something the user should know though the work goes on."""


class VlmdescError(Exception):
    """`what` went wrong, `where` (a file, a class), and the one action that would `fix` it. `details` are more lines.

    >>> print(InputError("no classes", where="zoo.json", fix="add at least two"))
    no classes (zoo.json); fix: add at least two
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = "", fix: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(what)
        self.what, self.where, self.fix, self.details = what, str(where), fix, tuple(details)

    def __reduce__(self) -> tuple[Any, ...]:  # as `copyreg` rebuilds plain objects: `__init__` wants other arguments
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        fix = f"; fix: {self.fix}" if self.fix else ""
        return shown(f"{self.what}{where}{fix}")


class InputError(VlmdescError):
    """A file, an option or a value the user gave cannot be used."""


class ShapeError(InputError):
    """Arrays that do not fit together."""


class ConflictError(InputError):
    """A file was changed by someone else between reading and saving, so that saving would lose their work."""


class ModelError(VlmdescError):
    """A model cannot be loaded, or gave something that is no embedding."""


class EndpointError(VlmdescError):
    """A model hub or another service did not answer."""

    exit_code = 3


class StoreError(VlmdescError):
    """A file cannot be written, or the disk is full."""

    exit_code = 4


class ImageError(VlmdescError):
    """One picture cannot be used. `code` is a short stable name of the reason, such as "truncated"."""

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: object = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.code = code


class AnswerError(VlmdescError):
    """A language model gave no usable answer to one question. `code` is a short stable name of the reason."""

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: object = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.code = code
