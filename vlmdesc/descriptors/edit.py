"""Edits of a descriptor set, all pure: a set and what is asked for in, a new set with its history out.

Every operation comes down to changes of rows, and these are what the history keeps, so that any of them can be undone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from vlmdesc.errors import InputError
from vlmdesc.records import Change, ClassName, Descriptor, Descriptors, Done, Edit
from vlmdesc.records.names import reads_as
from vlmdesc.text import did_you_mean, few

BY_HAND = "user"  # the origin of what a person wrote
Changes = tuple[Change, ...]
Rows = tuple[Descriptor, ...]


def edit(descriptors: Descriptors, edits: Iterable[Edit]) -> Descriptors:
    """The set after some edits, one after the other, each at the end of its history.

    Raises: InputError naming the edit that does not fit, and why.
    """
    edits = [*edits]
    for number, one in enumerate(edits, 1):
        try:
            descriptors = _apply(descriptors, one)
        except InputError as error:
            which = f"edit {number} of {len(edits)}, {one}" if len(edits) > 1 else "" if error.where else str(one)
            where = ", ".join(filter(None, (error.where, which)))
            raise InputError(error.what, where=where, fix=error.fix, details=error.details) from error
    return descriptors


def _apply(descriptors: Descriptors, edit: Edit) -> Descriptors:
    changes = CHANGES[edit.op](descriptors, edit)
    rows, classes = list(descriptors.rows), descriptors.classes
    asked, back = _asked(descriptors.history, edit)
    if asked.op == "add-class":
        new = ClassName(asked.class_, asked.text)
        classes = tuple(class_ for class_ in classes if class_ != new) if back else (*classes, new)
    for change in changes:
        rows[change.at : change.at + (change.before is not None)] = [change.after] if change.after else []
    history = (*descriptors.history, Done(edit, changes))
    return replace(descriptors, classes=classes, rows=tuple(rows), history=history)


def _asked(history: Sequence[Done], edit: Edit) -> tuple[Edit, bool]:
    """The edit that an undo, or the undo of an undo, is about; and whether that takes it back."""
    back = False
    while edit.op == "undo":
        edit, back = history[(edit.number or 0) - 1].edit, not back
    return edit, back


# One function for each operation: what it changes. Each change finds the rows as the ones before it left them.


def _add(descriptors: Descriptors, edit: Edit) -> Changes:
    """Behind the class's last row."""
    class_ = descriptors.classes[descriptors.find(edit.class_)]
    twin = next((row for row in descriptors.rows if row.class_id == class_.id and row.text == edit.text), None)
    if twin is not None:
        fix = "reword it, or leave it" if twin.enabled else "enable it"
        raise InputError(f'has "{edit.text}" already', where=f'class "{class_.name}"', fix=fix)
    own = [m for m, row in enumerate(descriptors.rows) if row.class_id == class_.id]
    at = own[-1] + 1 if own else len(descriptors.rows)
    return (Change(at, None, Descriptor(class_.id, edit.text, origin=edit.origin or BY_HAND)),)


def _drop(descriptors: Descriptors, edit: Edit) -> Changes:
    at = place(descriptors, edit.class_, edit.text)
    return (Change(at, descriptors.rows[at], None),)


def _changed(descriptors: Descriptors, edit: Edit, **fields: object) -> Changes:
    at = place(descriptors, edit.class_, edit.text)
    before = descriptors.rows[at]
    after = replace(before, **fields)  # type: ignore[arg-type]
    if after == before:
        raise InputError(f"{edit.op} changes nothing", where=f'"{before.text}"', fix="leave it out")
    twin = after.text != before.text and any(
        row.class_id == after.class_id and row.text == after.text for row in descriptors.rows
    )
    if twin:
        raise InputError(f'has "{after.text}" already', where=f'class "{edit.class_}"', fix="drop the one instead")
    return (Change(at, before, after),)


def _reword(descriptors: Descriptors, edit: Edit) -> Changes:
    return _changed(descriptors, edit, text=edit.to, origin=BY_HAND)


def _weigh(descriptors: Descriptors, edit: Edit) -> Changes:
    return _changed(descriptors, edit, weight=float(edit.weight or 0))


def _disable(descriptors: Descriptors, edit: Edit) -> Changes:
    return _changed(descriptors, edit, enabled=False)


def _enable(descriptors: Descriptors, edit: Edit) -> Changes:
    return _changed(descriptors, edit, enabled=True)


def _move(descriptors: Descriptors, edit: Edit) -> Changes:
    """To the end of another class, weight and origin with it."""
    (gone,) = _drop(descriptors, edit)
    row, to = descriptors.rows[gone.at], descriptors.classes[descriptors.find(edit.to)]
    if row.class_id == to.id:
        raise InputError("move changes nothing", where=f'class "{to.name}"', fix="name another class")
    rest = replace(descriptors, rows=descriptors.rows[: gone.at] + descriptors.rows[gone.at + 1 :])
    (new,) = _add(rest, Edit("add", to.id, row.text))
    return gone, replace(new, after=replace(row, class_id=to.id))


def _replace(descriptors: Descriptors, edit: Edit) -> Changes:
    """Whole words, in every class; a descriptor that its class has then already, or of which nothing is left, goes."""
    if not edit.text.strip() or edit.text == edit.to:
        raise InputError("replace changes nothing", fix="say which words, and by which others")
    head, tail = (r"(?<!\w)" if edit.text[0].isalnum() else ""), (r"(?!\w)" if edit.text[-1].isalnum() else "")
    found = re.compile(f"{head}{re.escape(edit.text)}{tail}")
    new = [
        " ".join(found.sub(lambda _: edit.to, row.text).split()) if found.search(row.text) else row.text
        for row in descriptors.rows
    ]
    pairs = [*zip(descriptors.rows, new, strict=True)]
    kept = {(row.class_id, row.text) for row, text in pairs if row.text == text}
    changes, at = list[Change](), 0
    for row, text in pairs:
        if row.text != text:
            gone = not text or (row.class_id, text) in kept
            kept.add((row.class_id, text))
            changes.append(Change(at, row, None if gone else replace(row, text=text, origin=BY_HAND)))
        at += row.text == text or changes[-1].after is not None
    if not changes:
        raise InputError(f'no descriptor has "{edit.text}"', fix="mind capital letters; whole words are looked for")
    return tuple(changes)


def _add_class(descriptors: Descriptors, edit: Edit) -> Changes:
    if edit.class_ in descriptors.position:
        name = descriptors.classes[descriptors.position[edit.class_]].name
        raise InputError(f"there is a class '{name}' with the id '{edit.class_}'", fix="choose another id")
    return ()


def _undo(descriptors: Descriptors, edit: Edit) -> Changes:
    """What an edit did, backwards: each row as it was, found wherever it stands now."""
    done, rows, changes = _standing(descriptors, edit.number), list(descriptors.rows), list[Change]()
    asked, back = _asked(descriptors.history, edit)
    if asked.op == "add-class" and back and any(row.class_id == asked.class_ for row in rows):
        raise InputError(f"class '{asked.class_}' has descriptors by now", fix="drop them first")
    came = _came_since(descriptors.history, edit.number or 0)
    for change in reversed(done.changes):
        row = change.before
        if row and _key(row) in came and _key(row) != _key(change.after):
            raise InputError(f"\"{row.text}\" came back to class '{row.class_id}' since", fix="drop that one first")
        at = min(change.at, len(rows))
        if change.after is not None:
            if change.after not in rows:
                what = f"\"{change.after.text}\" of class '{change.after.class_id}' was changed since"
                raise InputError(what, fix="undo the later edit first; log shows all")
            at = change.at if rows[at : at + 1] == [change.after] else rows.index(change.after)
        changes.append(Change(at, change.after, change.before))
        rows[at : at + (change.after is not None)] = [change.before] if change.before else []
    return tuple(changes)


def _came_since(history: Sequence[Done], number: int) -> set[tuple[str, str] | None]:
    """Class and text of what later edits, as far as they stand, brought into a class."""
    later = (history[n - 1] for n in standing(history) if n > number)
    changes = (change for done in later if done.edit.op != "undo" for change in done.changes)
    return {_key(change.after) for change in changes if _key(change.before) != _key(change.after)} - {None}


def _key(row: Descriptor | None) -> tuple[str, str] | None:
    return (row.class_id, row.text) if row else None


def _standing(descriptors: Descriptors, number: int | None) -> Done:
    """The edit of that number, from 1. Raises: InputError where there is none, or it is undone."""
    history = descriptors.history
    if number is None or not 1 <= number <= len(history):
        has = f"there are {len(history)}" if history else "there are none"
        raise InputError(f"no edit {number}; {has}", fix="see log")
    if number not in standing(history):
        raise InputError(f"edit {number} is undone", fix="undo its undoing; log has the number")
    return history[number - 1]


CHANGES: dict[str, Callable[[Descriptors, Edit], Changes]] = {
    "add": _add,
    "drop": _drop,
    "reword": _reword,
    "weigh": _weigh,
    "disable": _disable,
    "enable": _enable,
    "move": _move,
    "replace": _replace,
    "add-class": _add_class,
    "undo": _undo,
}


def place(descriptors: Descriptors, class_: str, text: str) -> int:
    """The place of a class's row with that text, else of the one that reads the same to a model.

    Raises: InputError with the closest text where there is none, or several read so.
    """
    owner = descriptors.classes[descriptors.find(class_)]
    own = {m: row.text for m, row in enumerate(descriptors.rows) if row.class_id == owner.id}
    found = [m for m in own if own[m] == text] or [m for m in own if reads_as(own[m]) == reads_as(text)]
    if found and len({own[m] for m in found}) == 1:
        return found[0]
    where = f'class "{owner.name}"'
    if found:
        raise InputError(f'{len(found)} descriptors read like "{text}"', where=where, fix="write it exactly")
    has = few((f'"{own_}"' for own_ in own.values()), 8) or "none"
    raise InputError(f'no descriptor "{text}"', where=where, fix=f"{did_you_mean(text, own.values())}it has {has}")


def standing(history: Sequence[Done]) -> list[int]:
    """The numbers, from 1, of the edits that are not undone, undoings among them."""
    stands = dict.fromkeys(range(1, len(history) + 1), True)
    for number in reversed(stands):
        edit = history[number - 1].edit
        if edit.op == "undo" and stands[number]:
            stands[edit.number or 0] = False
    return [number for number, stand in stands.items() if stand]


def last(history: Sequence[Done]) -> int:
    """The number of the last edit that stands and undoes nothing: what a plain undo is about. Raises: InputError."""
    found = [number for number in standing(history) if history[number - 1].edit.op != "undo"]
    if not found:
        raise InputError("nothing to undo", fix="see log")
    return found[-1]
