"""A class and one descriptor of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vlmdesc.errors import InputError

MAX_NAME = 200
MAX_TEXT = 500
WEIGHTS = (1e-6, 1e6)  # beyond these, float32 sums lose descriptors or overflow


def reads_as(name: str) -> str:
    """What is left of a name when case, blanks and Unicode form are gone, as they are to CLIP's tokenizer.

    >>> reads_as(" Polar  BEAR")
    'polar bear'
    """
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


@dataclass(frozen=True)
class ClassName:
    """A class. Everything joins by `id`; two classes may share a name (ImageNet has two "crane").

    Raises: InputError when id or name is empty, longer than 200 characters, or holds control characters.
    """

    id: str
    name: str
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in (self.id, self.name, *self.aliases):
            check_text(text, "class name", MAX_NAME)
            if not text.strip():
                raise InputError("a class name is empty", fix="name the class or remove it")


@dataclass(frozen=True)
class Descriptor:
    """One short visual descriptor of one class. `origin` says who wrote it: "user", "llm:MODEL/PROMPT@DATE", ...

    An empty text stands for the bare class name.
    Raises: InputError when the text is longer than 500 characters or holds control characters, or the weight is
    neither 0 nor from a millionth to a million.
    """

    class_id: str
    text: str
    weight: float = 1.0
    enabled: bool = True
    origin: str = ""

    def __post_init__(self) -> None:
        check_text(self.text, "descriptor", MAX_TEXT)
        low, high = WEIGHTS
        if self.weight != 0 and not low <= self.weight <= high:
            fix = f"use 0, or {low:g} to {high:g}"
            raise InputError(f"a weight is {self.weight}", where=f'class "{self.class_id}"', fix=fix)


@contextmanager
def locate_errors(where: str) -> Iterator[None]:
    """An InputError inside is one of that place."""
    try:
        yield
    except InputError as error:
        place = ", ".join(filter(None, (where, error.where)))
        raise InputError(error.what, where=place, fix=error.fix, details=error.details) from error


def check_text(text: str, what: str, limit: int) -> None:
    """Raises: InputError when `text` is longer than `limit` or holds control characters or half surrogates."""
    if len(text) > limit:
        raise InputError(f"a {what} has {len(text)} characters", where=f'"{text[:40]}..."', fix=f"use at most {limit}")
    bad = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    if bad is not None:
        raise InputError(f"a {what} holds the character U+{ord(bad):04X}", where=f'"{text[:40]}"', fix="remove it")
