"""An edit of a descriptor set as it was asked for, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vlmdesc.errors import InputError
from vlmdesc.records.names import MAX_TEXT, Descriptor, check_text
from vlmdesc.text import did_you_mean

# What each operation says, besides who, when and why. A "class" is an id, a name or an alias.
OPERATIONS: dict[str, tuple[str, ...]] = {
    "add": ("class", "text"),
    "drop": ("class", "text"),
    "reword": ("class", "text", "to"),
    "weigh": ("class", "text", "weight"),
    "disable": ("class", "text"),
    "enable": ("class", "text"),
    "move": ("class", "text", "to"),
    "replace": ("text", "to"),
    "add-class": ("class", "text"),
    "undo": ("number",),
}


@dataclass(frozen=True)
class Edit:
    """One operation on one descriptor set: which fields it has beside who, when and why, `OPERATIONS` says.

    `to` is the new text, or the class a descriptor moves to; "add-class" has the id as its class and the name as its
    text; `number` is the edit that "undo" takes back, `origin` whom "add" has the
    descriptor from where that is not the user. Raises: InputError for an unknown operation, or other fields.
    """

    op: str
    class_: str = ""
    text: str = ""
    to: str = ""
    weight: float | None = None
    number: int | None = None
    who: str = ""
    when: str = ""
    why: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        if self.op not in OPERATIONS:
            fix = f"{did_you_mean(self.op, OPERATIONS)}known: {', '.join(OPERATIONS)}"
            raise InputError(f"unknown operation '{self.op}'", fix=fix)
        wanted = OPERATIONS[self.op]
        for what in ("text", "to", "who", "when", "why", "origin"):
            check_text(getattr(self, what), f'value of "{what}"', MAX_TEXT)
        given = {
            "class": self.class_,
            "text": self.text,
            "to": self.to,
            "weight": self.weight,
            "number": self.number,
        } | ({"origin": self.origin} if self.op != "add" else {})
        for name, value in given.items():
            empty = value in ("", None)
            # A text may be empty, it stands for the bare class name; and so may what words are replaced by.
            may_be_empty = name == "text" or (name == "to" and self.op in ("reword", "replace"))
            if name in wanted and empty and not may_be_empty:
                raise InputError(f"{self.op} without {name}", fix=f"{self.op} takes {', '.join(wanted)}")
            if name not in wanted and not empty:
                raise InputError(f"{self.op} with {name}", fix=f"{self.op} takes {', '.join(wanted)}")

    def record(self) -> dict[str, Any]:
        """The edit as JSON has it: the fields of its operation, and who, when and why where they are said."""
        fields = {("class" if name == "class_" else name): value for name, value in asdict(self).items()}
        noted = {name for name in ("who", "when", "why", "origin") if fields[name]}
        return {name: value for name, value in fields.items() if name in {"op", *OPERATIONS[self.op]} | noted}

    def __str__(self) -> str:
        fields = self.record()
        return " ".join([self.op, *(_spell(fields[name]) for name in OPERATIONS[self.op])])


@dataclass(frozen=True)
class Change:
    """What became of the row at a place: None before where there was none, None after where there is none any more."""

    at: int
    before: Descriptor | None
    after: Descriptor | None


@dataclass(frozen=True)
class Done:
    """An edit and what it did, in order: enough to take it back."""

    edit: Edit
    changes: tuple[Change, ...]


def edit_of(fields: Mapping[str, Any], where: str) -> Edit:
    """The edit of a JSON object. Raises: InputError naming the place."""
    kinds: dict[str, Any] = dict.fromkeys(("op", "class", "text", "to", "who", "when", "why", "origin"), str)
    kinds |= {"weight": (int, float), "number": int}
    for name, value in fields.items():
        if name not in kinds:
            raise InputError(f'unknown key "{name}"', where=where, fix=f"known: {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise InputError(f'"{name}" is {value!r}', where=where, fix="see the form of a patch in the README")
    if "op" not in fields:
        raise InputError('"op" is missing', where=where, fix=f"say one of {', '.join(OPERATIONS)}")
    named = {("class_" if name == "class" else name): value for name, value in fields.items()}
    try:
        if "weight" in named:
            named["weight"] = float(named["weight"])
        edit = Edit(**named)
    except OverflowError as error:
        raise InputError("the weight is too large", where=where, fix="use a millionth to a million") from error
    except InputError as error:
        raise InputError(error.what, where=where, fix=error.fix) from error
    wanted = OPERATIONS[edit.op]
    missing = [name for name in wanted if name not in fields]
    if missing:
        raise InputError(f'{edit.op} without "{missing[0]}"', where=where, fix=f"{edit.op} takes {', '.join(wanted)}")
    return edit


def _spell(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
