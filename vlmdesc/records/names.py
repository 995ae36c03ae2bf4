"""A class and one descriptor of it."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

from vlmdesc.errors import InputError

MAX_NAME = 200
MAX_TEXT = 500


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
            _check(text, "class name", MAX_NAME)
            if not text.strip():
                raise InputError("a class name is empty", fix="name the class or remove it")


@dataclass(frozen=True)
class Descriptor:
    """One short visual descriptor of one class. `origin` says who wrote it: "user", "llm:MODEL/PROMPT@DATE", ...

    An empty text stands for the bare class name.
    Raises: InputError when the text is longer than 500 characters or holds control characters, or the weight is no
    finite number of 0 or more.
    """

    class_id: str
    text: str
    weight: float = 1.0
    enabled: bool = True
    origin: str = ""

    def __post_init__(self) -> None:
        _check(self.text, "descriptor", MAX_TEXT)
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(
                f"a weight is {self.weight}", where=f'class "{self.class_id}"', fix="use a number of 0 or more"
            )


def _check(text: str, what: str, limit: int) -> None:
    if len(text) > limit:
        raise InputError(f"a {what} has {len(text)} characters", where=f'"{text[:40]}..."', fix=f"use at most {limit}")
    bad = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    if bad is not None:
        raise InputError(f"a {what} holds the character U+{ord(bad):04X}", where=f'"{text[:40]}"', fix="remove it")
