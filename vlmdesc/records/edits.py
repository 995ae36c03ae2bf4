"""An edit of a descriptor set as it was asked for, what it did, and which edits of a history stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
NOTED = ("who", "when", "why", "origin")


@dataclass(frozen=True)
class Edit:
    """One operation on one descriptor set: which fields it has beside who, when and why, `OPERATIONS` says.

    `to` is the new text, or the class a descriptor moves to; "add-class" has the id as its class and the name as its
    text; `number` is the edit that "undo" takes back, `origin` whom "add" has the descriptor from where that is not the
    user. Raises: InputError for an unknown operation, or other fields.
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
        takes, fields = OPERATIONS[self.op], self._fields()
        # A text may be empty, it stands for the bare class name; and so may what words are replaced by.
        may_be_empty = ("text", "to") if self.op in ("reword", "replace") else ("text",)
        may_be_given = (*takes, *NOTED) if self.op == "add" else (*takes, *NOTED[:3])
        for name, value in fields.items():
            if isinstance(value, str):
                check_text(value, f'value of "{name}"', MAX_TEXT)
            wrong = "with" if value not in ("", None) and name not in (*may_be_given, "op") else ""
            if value in ("", None) and name in takes and name not in may_be_empty:
                wrong = "without"
            if wrong:
                raise InputError(f"{self.op} {wrong} {name}", fix=f"{self.op} takes {', '.join(takes)}")

    def _fields(self) -> dict[str, Any]:
        return {name.rstrip("_"): value for name, value in vars(self).items()}

    def to_dict(self) -> dict[str, Any]:
        """The edit as JSON has it: the fields of its operation, and who, when and why where they are said."""
        takes = ("op", *OPERATIONS[self.op])
        return {name: x for name, x in self._fields().items() if name in takes or (name in NOTED and x)}

    def __str__(self) -> str:
        fields = self._fields()
        values = [fields[name] for name in OPERATIONS[self.op]]
        return " ".join([self.op, *(f'"{x}"' if isinstance(x, str) else f"{x:g}" for x in values)])


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
    changes: tuple[Change, ...] = ()


def log_line(edit: Edit, history: Sequence[Done] = ()) -> str:
    """An edit for people: what, who, when and why. With the history, also what an undo takes back."""
    back = f" ({history[edit.number - 1].edit})" if edit.number and edit.number <= len(history) else ""
    who = " ".join(filter(None, (edit.when, edit.who and f"by {edit.who}")))
    return f"{edit}{back}" + (f" ({who})" if who else "") + (f": {edit.why}" if edit.why else "")


def standing(history: Sequence[Done]) -> list[int]:
    """The numbers, from 1, of the edits that are not undone, undoings among them."""
    undone = set[int]()
    for number, done in reversed([*enumerate(history, 1)]):
        if done.edit.op == "undo" and number not in undone:
            undone.add(done.edit.number or 0)
    return [number for number in range(1, len(history) + 1) if number not in undone]


def last_edit(history: Sequence[Done]) -> int:
    """The number of the last edit that stands and undoes nothing: what a plain undo is about. Raises: InputError."""
    found = [number for number in standing(history) if history[number - 1].edit.op != "undo"]
    if not found:
        raise InputError("nothing to undo", fix="see log")
    return found[-1]
