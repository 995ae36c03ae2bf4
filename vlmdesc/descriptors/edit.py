"""Edits of a descriptor set, all pure: a set and what is asked for in, a new set with its history out.

Every operation comes down to changes of rows, and these are what the history keeps, so that any of them can be undone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from vlmdesc.errors import InputError
from vlmdesc.records import Change, ClassName, Descriptor, Descriptors, Done, Edit
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.edits import standing
from vlmdesc.records.names import locate_errors, reads_as
from vlmdesc.text import did_you_mean, few

BY_HAND = "user"  # the origin of what a person wrote
Changes = tuple[Change, ...]


def edit(descriptors: DescriptorSource, edits: Edit | Iterable[Edit]) -> Descriptors:
    """The set after an edit or several, one after the other, each at the end of its history.

    `descriptors` is what `Descriptors.load` takes. Raises: InputError naming the edit that does not fit, and why.

    >>> edit({"hen": ["a beak"]}, Edit("add", "hen", "a red comb"))
    <Descriptors: 1 class, 2 rows>
    """
    edited, edits = Descriptors.load(descriptors), [edits] if isinstance(edits, Edit) else [*edits]
    for number, one in enumerate(edits, 1):
        with locate_errors(f"edit {number} of {len(edits)}, {one}" if len(edits) > 1 else ""):
            edited = _apply(edited, one)
    return edited


def _apply(descriptors: Descriptors, one: Edit) -> Descriptors:
    changes = CHANGES[one.op](descriptors, one)
    rows, classes = [*descriptors.rows], descriptors.classes
    for change in changes:
        _put(rows, change)
    asked, back = _target(descriptors.history, one)
    if asked.op == "add-class":
        new = ClassName(asked.class_, asked.text)
        classes = tuple(class_ for class_ in classes if class_ != new) if back else (*classes, new)
    history = (*descriptors.history, Done(one, changes))
    return replace(descriptors, classes=classes, rows=tuple(rows), history=history)


def _put(rows: list[Descriptor], change: Change) -> None:
    rows[change.at : change.at + (change.before is not None)] = [change.after] if change.after else []


def _target(history: Sequence[Done], one: Edit) -> tuple[Edit, bool]:
    """The edit that an undo, or the undo of an undo, is about; and whether that takes it back."""
    back = False
    while one.op == "undo":
        one, back = history[(one.number or 0) - 1].edit, not back
    return one, back


# One function for each operation: what it changes. Each change finds the rows as the ones before it left them.


def _add(descriptors: Descriptors, one: Edit) -> Changes:
    """Behind the class's last row."""
    class_ = descriptors.classes[descriptors.find(one.class_)]
    own = {m: row for m, row in enumerate(descriptors.rows) if row.class_id == class_.id}
    twin = next((row for row in own.values() if row.text == one.text), None)
    if twin is not None:
        fix = "reword it, or leave it" if twin.enabled else "enable it"
        raise InputError(f'has "{one.text}" already', where=f'class "{class_.name}"', fix=fix)
    at = max(own, default=len(descriptors.rows) - 1) + 1
    return (Change(at, None, Descriptor(class_.id, one.text, origin=one.origin or BY_HAND)),)


def _drop(descriptors: Descriptors, one: Edit) -> Changes:
    at = _find(descriptors, one.class_, one.text)
    return (Change(at, descriptors.rows[at], None),)


def _alter(descriptors: Descriptors, one: Edit) -> Changes:
    """Text, weight, or whether it is counted."""
    new: dict[str, dict[str, Any]] = {
        "reword": {"text": one.to, "origin": BY_HAND},
        "weigh": {"weight": one.weight},
        "disable": {"enabled": False},
        "enable": {"enabled": True},
    }
    at = _find(descriptors, one.class_, one.text)
    before = descriptors.rows[at]
    after = replace(before, **new[one.op])
    if after == before:
        raise InputError(f"{one.op} changes nothing", where=f'"{before.text}"', fix="leave it out")
    if after.text != before.text and _key(after) in map(_key, descriptors.rows):
        raise InputError(f'has "{after.text}" already', where=f'class "{one.class_}"', fix="drop the one instead")
    return (Change(at, before, after),)


def _move(descriptors: Descriptors, one: Edit) -> Changes:
    """To the end of another class, weight and origin with it."""
    (gone,) = _drop(descriptors, one)
    row, to = descriptors.rows[gone.at], descriptors.classes[descriptors.find(one.to)]
    if row.class_id == to.id:
        raise InputError("move changes nothing", where=f'class "{to.name}"', fix="name another class")
    rest = replace(descriptors, rows=descriptors.rows[: gone.at] + descriptors.rows[gone.at + 1 :])
    (new,) = _add(rest, Edit("add", to.id, row.text))
    return gone, replace(new, after=replace(row, class_id=to.id))


def _replace(descriptors: Descriptors, one: Edit) -> Changes:
    """Whole words, in every class; a descriptor that its class has then already, or of which nothing is left, goes."""
    if not one.text.strip() or one.text == one.to:
        raise InputError("replace changes nothing", fix="say which words, and by which others")
    head, tail = (r"(?<!\w)" if one.text[0].isalnum() else ""), (r"(?!\w)" if one.text[-1].isalnum() else "")
    words = re.compile(f"{head}{re.escape(one.text)}{tail}")
    texts = [
        " ".join(words.sub(lambda _: one.to, row.text).split()) if words.search(row.text) else row.text
        for row in descriptors.rows
    ]
    there = {_key(row) for row, text in zip(descriptors.rows, texts, strict=True) if row.text == text}
    changes, at = list[Change](), 0
    for row, text in zip(descriptors.rows, texts, strict=True):
        gone = row.text != text and (not text or (row.class_id, text) in there)
        if row.text != text:
            there.add((row.class_id, text))
            changes.append(Change(at, row, None if gone else replace(row, text=text, origin=BY_HAND)))
        at += not gone
    if not changes:
        raise InputError(f'no descriptor has "{one.text}"', fix="mind capital letters; whole words are looked for")
    return tuple(changes)


def _undo(descriptors: Descriptors, one: Edit) -> Changes:
    """What an edit did, backwards: each row as it was, found wherever it stands now."""
    number, history, rows, changes = one.number or 0, descriptors.history, [*descriptors.rows], list[Change]()
    if not 1 <= number <= len(history):
        raise InputError(f"no edit {number}; there are {len(history) or 'none'}", fix="see log")
    if number not in standing(history):
        raise InputError(f"edit {number} is undone", fix="undo its undoing; log has the number")
    came = _came_since(history, number)
    for change in reversed(history[number - 1].changes):
        now, then, at = change.after, change.before, min(change.at, len(rows))
        if then and _key(then) in came and _key(then) != _key(now):
            raise InputError(f"\"{then.text}\" came back to class '{then.class_id}' since", fix="drop that one first")
        if now is not None:
            if now not in rows:
                what = f"\"{now.text}\" of class '{now.class_id}' was changed since"
                raise InputError(what, fix="undo the later edit first; log shows all")
            at = at if rows[at : at + 1] == [now] else rows.index(now)
        changes.append(Change(at, now, then))
        _put(rows, changes[-1])
    return tuple(changes)


def _came_since(history: Sequence[Done], number: int) -> set[tuple[str, str] | None]:
    """Class and text of what later edits, as far as they stand, brought into a class."""
    later = (history[n - 1] for n in standing(history) if n > number)
    changes = (change for done in later if done.edit.op != "undo" for change in done.changes)
    return {_key(change.after) for change in changes if _key(change.before) != _key(change.after)} - {None}


def _key(row: Descriptor | None) -> tuple[str, str] | None:
    return (row.class_id, row.text) if row else None


CHANGES: dict[str, Callable[[Descriptors, Edit], Changes]] = {
    **dict.fromkeys(("reword", "weigh", "disable", "enable"), _alter),
    "add": _add,
    "drop": _drop,
    "move": _move,
    "replace": _replace,
    "add-class": lambda descriptors, one: (),
    "undo": _undo,
}


def _find(descriptors: Descriptors, class_: str, text: str) -> int:
    """The place of a class's row with that text, else of the one that reads the same to a model.

    Raises: InputError with the closest text where there is none, or several read so.
    """
    owner = descriptors.classes[descriptors.find(class_)]
    own = {m: row.text for m, row in enumerate(descriptors.rows) if row.class_id == owner.id}
    found = [m for m in own if own[m] == text] or [m for m in own if reads_as(own[m]) == reads_as(text)]
    if found and len({own[m] for m in found}) == 1:
        return found[0]
    with locate_errors(f'class "{owner.name}"'):
        if found:
            raise InputError(f'{len(found)} descriptors read like "{text}"', fix="write it exactly")
        has = few((f'"{own_}"' for own_ in own.values()), 8) or "none"
        raise InputError(f'no descriptor "{text}"', fix=f"{did_you_mean(text, own.values())}it has {has}")
