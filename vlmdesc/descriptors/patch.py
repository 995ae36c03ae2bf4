"""Edits as text: patches that are reviewed like code, and the edits that lie between two sets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vlmdesc.errors import InputError
from vlmdesc.files import read_text, strict_json, write_atomic
from vlmdesc.records import Descriptor, Descriptors, Edit
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.forms import edit_of
from vlmdesc.records.join import Lookup


def read_patch(path: str | Path) -> list[Edit]:
    """The edits of a patch: JSON lines, one an edit. Raises: InputError naming file and line."""
    lines = enumerate(read_text(Path(path)).split("\n"), 1)
    edits = [edit_of(strict_json(line, str(path), n), f"{path}:{n}") for n, line in lines if line.strip()]
    if not edits:
        raise InputError("no edits", where=path, fix="give a patch, as vlmdesc suggest and edit log --out write it")
    return edits


def write_patch(path: str | Path, edits: Iterable[Edit]) -> None:
    """Write a patch, one edit a line. Atomic. Raises: StoreError when it cannot be written."""
    lines = (json.dumps(edit.to_dict(), ensure_ascii=False) + "\n" for edit in edits)
    write_atomic(Path(path), "".join(lines).encode())


def merge(descriptors: DescriptorSource, other: DescriptorSource) -> list[Edit]:
    """The edits that bring what only another set has into this one: its classes, and descriptors with their weights.

    A class is the same by id, name or alias; a descriptor by its text. Raises: InputError where a class may be two.
    """
    into, other = Descriptors.load(descriptors), Descriptors.load(other)
    lookup, has = Lookup(into.classes), {(row.class_id, row.text) for row in into.rows}
    edits, ids = list[Edit](), dict[str, str]()
    for class_ in other.classes:
        found = next(filter(None, map(lookup, (class_.id, class_.name, *class_.aliases))), ())
        if len(found) > 1:
            raise InputError(f"{len(found)} classes are called '{class_.name}'", fix="give both sets the same ids")
        ids[class_.id] = into.classes[found[0]].id if found else class_.id
        if not found:
            edits.append(Edit("add-class", class_.id, class_.name))
    for row in other.rows:
        if (key := (ids[row.class_id], row.text)) not in has:
            has.add(key)
            edits += _settle(None, replace(row, class_id=key[0]))
    return edits


def diff(a: DescriptorSource, b: DescriptorSource) -> list[Edit]:
    """The edits that make of a's descriptors those of b, whatever their order.

    Raises: InputError where no edits do: a has a class that b has not, or under another name, or a text stands twice.
    """
    a, b = Descriptors.load(a), Descriptors.load(b)
    names = {class_.id: class_.name for class_ in b.classes}
    if gone := [class_ for class_ in a.classes if names.get(class_.id) != class_.name]:
        what = f"class '{gone[0].name}' ({gone[0].id}) is in the first only"
        raise InputError(what, fix="compare sets whose classes have the same ids and names")
    before, after = _by_key(a), _by_key(b)
    edits = [Edit("add-class", class_.id, class_.name) for class_ in b.classes if class_.id not in a.position]
    dropped = sorted((key for key in before if key not in after), key=lambda key: b.position[key[0]])
    edits += [Edit("drop", *key) for key in dropped]
    return edits + [one for key, row in after.items() for one in _settle(before.get(key), row)]


def _by_key(descriptors: Descriptors) -> dict[tuple[str, str], Descriptor]:
    """The rows by class and text. Raises: InputError where two have the same."""
    counts = Counter((row.class_id, row.text) for row in descriptors.rows)
    for (class_, text), n in counts.items():
        if n > 1:
            raise InputError(f"\"{text}\" stands twice in class '{class_}'", fix="vlmdesc lint --fix drops copies")
    return dict(zip(counts, descriptors.rows, strict=True))


def _settle(old: Descriptor | None, new: Descriptor) -> Iterator[Edit]:
    """The edits that make one row of another of the same text, or add it."""
    if old is None:
        yield Edit("add", new.class_id, new.text, origin=new.origin)
        old = Descriptor(new.class_id, new.text)
    if new.weight != old.weight:
        yield Edit("weigh", new.class_id, new.text, weight=new.weight)
    if new.enabled != old.enabled:
        yield Edit("enable" if new.enabled else "disable", new.class_id, new.text)
