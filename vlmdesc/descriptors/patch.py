"""Edits as text: patches that are reviewed like code, and the edits that lie between two sets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vlmdesc.errors import InputError
from vlmdesc.files import read_text, strict_json
from vlmdesc.records import Descriptor, Descriptors, Done, Edit
from vlmdesc.records.edits import edit_of
from vlmdesc.records.join import Lookup


def read_patch(path: str | Path) -> list[Edit]:
    """The edits of a patch: JSON lines, one an edit. Raises: InputError naming file and line."""
    path, edits = Path(path), []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            fields = strict_json(line, str(path), number)
            if not isinstance(fields, dict):
                raise InputError("not an object", where=f"{path}:{number}", fix="put one edit on each line")
            edits.append(edit_of(fields, f"{path}:{number}"))
    if not edits:
        raise InputError(
            "no edits", where=path, fix="give a patch, as vlmdesc suggest and edit FILE log --out write it"
        )
    return edits


def patch(edits: Iterable[Edit]) -> str:
    """The text of a patch, one edit a line."""
    return "".join(json.dumps(edit.record(), ensure_ascii=False) + "\n" for edit in edits)


def told(done: Done, history: Sequence[Done] = ()) -> str:
    """An edit as a line for people: what, who, when and why. With the history, also what an undo takes back."""
    edit = done.edit
    back = f" ({history[edit.number - 1].edit})" if edit.number and edit.number <= len(history) else ""
    who = " ".join(filter(None, (edit.when, edit.who and f"by {edit.who}")))
    return f"{edit}{back}" + (f" ({who})" if who else "") + (f": {edit.why}" if edit.why else "")


def merging(descriptors: Descriptors, other: Descriptors) -> Iterator[Edit]:
    """The edits that bring what only another set has into this one: its classes, and descriptors with their weights.

    A class is the same by id, name or alias; a descriptor by its text.
    """
    lookup = Lookup(descriptors.classes)
    has = {(row.class_id, row.text) for row in descriptors.rows}
    ids = dict[str, str]()
    for class_ in other.classes:
        found = next(filter(None, map(lookup, (class_.id, class_.name, *class_.aliases))), ())
        if len(found) > 1:
            raise InputError(f"{len(found)} classes are called '{class_.name}'", fix="give both sets the same ids")
        ids[class_.id] = descriptors.classes[found[0]].id if found else class_.id
        if not found:
            yield Edit("add-class", class_.id, class_.name)
    for row in other.rows:
        if (key := (ids[row.class_id], row.text)) not in has:
            has.add(key)
            yield from _arriving(replace(row, class_id=key[0]))


def difference(a: Descriptors, b: Descriptors) -> Iterator[Edit]:
    """The edits that make of a's descriptors those of b, whatever their order: a patch.

    Raises: InputError where no edits do: a has a class that b has not, or of another name, or a text stands twice.
    """
    for set_ in (a, b):
        twice = [key for key, n in Counter((row.class_id, row.text) for row in set_.rows).items() if n > 1]
        if twice:
            what = f"\"{twice[0][1]}\" stands twice in class '{twice[0][0]}'"
            raise InputError(what, fix="vlmdesc lint --fix drops copies")
    renamed = [c for c in a.classes if c.id in b.position and b.classes[b.position[c.id]].name != c.name]
    if renamed:
        what = f"class '{renamed[0].id}' has another name in the second: '{b.classes[b.position[renamed[0].id]].name}'"
        raise InputError(what, fix="compare sets whose classes are called the same")
    gone = [class_ for class_ in a.classes if class_.id not in b.position]
    if gone:
        fix = "compare sets whose classes have the same ids"
        raise InputError(f"class '{gone[0].name}' ({gone[0].id}) is in the first only", fix=fix)
    for class_ in b.classes:
        if class_.id not in a.position:
            yield Edit("add-class", class_.id, class_.name)
    before, after = ({(row.class_id, row.text): row for row in set_.rows} for set_ in (a, b))
    for class_ in b.classes:
        dropped = [text for id_, text in before if id_ == class_.id and (id_, text) not in after]
        yield from (Edit("drop", class_.id, text) for text in dropped)
    for key, row in after.items():
        old = before.get(key)
        yield from _arriving(row) if old is None else _settled(old, row)


def _arriving(row: Descriptor) -> Iterator[Edit]:
    yield Edit("add", row.class_id, row.text, origin=row.origin)
    yield from _settled(Descriptor(row.class_id, row.text), row)


def _settled(old: Descriptor, new: Descriptor) -> Iterator[Edit]:
    """The edits of weight and of being enabled."""
    if new.weight != old.weight:
        yield Edit("weigh", new.class_id, new.text, weight=new.weight)
    if new.enabled != old.enabled:
        yield Edit("enable" if new.enabled else "disable", new.class_id, new.text)
