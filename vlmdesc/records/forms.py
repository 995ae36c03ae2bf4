"""The three JSON forms of a descriptor set that are in use, told apart by their keys.

ours       {"schema": 1, "meta": {...}, "classes": [{"id", "name", "aliases"}], "rows": [{"class_id", "text", ...}],
            "edits": [{"op", "class", "text", ..., "who", "when", "why", "did": [[at, row before, row after], ...]}]}
plain      {class name: [descriptor, ...]}                              classify_by_description, WaffleCLIP
DisCLIP    {"index_to_classname": {i: name}, "index_to_descriptions": {i: [descriptor, ...]}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, TypeVar

from vlmdesc.errors import InputError
from vlmdesc.records.edits import OPERATIONS, Change, Done, Edit
from vlmdesc.records.names import ClassName, Descriptor, locate_errors

SCHEMA = 1
LARGEST = 1e300  # of numbers; what is written as an integer may be larger than any float
T = TypeVar("T", ClassName, Descriptor, Edit)
Parts = tuple[tuple[ClassName, ...], tuple[Descriptor, ...], dict[str, Any], tuple[Done, ...]]
_KINDS = {type(None): "null", bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list"}
# What a field of a record may be in JSON; true is an int to Python, but no weight.
_MAY_BE: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "float": (int, float),
    "float | None": (int, float),
    "int | None": (int,),
    "tuple[str, ...]": (list,),
}


def parse(data: Any, file: str) -> Parts:
    """Classes, rows, meta and edits of a JSON value read from `file`.

    Raises: InputError naming the file, the class and the position.
    """
    if not isinstance(data, dict) or not data:
        raise _wrong(file, f"expected an object of classes, found {_kind(data) if data else 'none'}")
    if isinstance(data.get("schema"), int):
        return _ours(data, file)
    if "index_to_classname" in data:
        return _lists(data["index_to_classname"], data.get("index_to_descriptions"), file)
    return _lists(dict(zip(data, data, strict=True)), data, file)


def build(make: type[T], value: Any, where: str) -> T:
    """The record of a JSON object, with no unknown keys and none missing. Raises: InputError with the place."""
    if not isinstance(value, dict):
        raise _wrong(where, f"expected an object, found {_kind(value)}")
    known = {field.name.rstrip("_"): field for field in fields(make)}
    if missing := [name for name, field in known.items() if field.default is MISSING and name not in value]:
        raise _wrong(where, f'"{missing[0]}" is missing')
    if unknown := [name for name in value if name not in known]:
        raise _wrong(where, f'unknown key "{unknown[0]}"; known: {", ".join(known)}')
    given = {known[name].name: _read(x, name, str(known[name].type), where) for name, x in value.items()}
    with locate_errors(where):
        return make(**given)


def edit_of(value: Any, where: str) -> Edit:
    """The edit of a JSON object, in which every field of its operation is said. Raises: InputError with the place."""
    edit = build(Edit, value, where)
    takes = OPERATIONS[edit.op]
    for name in takes:
        if name not in value:
            raise InputError(f'{edit.op} without "{name}"', where=where, fix=f"{edit.op} takes {', '.join(takes)}")
    return edit


def dump(
    classes: tuple[ClassName, ...], rows: tuple[Descriptor, ...], meta: Mapping[str, Any], history: tuple[Done, ...]
) -> str:
    """Our form, one class, row and edit a line; fields at their default are left out."""
    lists = {"classes": [*map(_plain, classes)], "rows": [*map(_plain, rows)]}
    if history:
        lists["edits"] = [done.edit.to_dict() | {"did": [_did(change) for change in done.changes]} for done in history]
    parts = [f'"schema": {SCHEMA}', f'"meta": {_line(dict(meta))}']
    parts += [f'"{name}": [\n' + ",\n".join(f"  {_line(x)}" for x in list_) + "\n]" for name, list_ in lists.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _ours(data: dict[str, Any], file: str) -> Parts:
    if data["schema"] != SCHEMA:
        raise InputError(f"schema {data['schema']}, this reads {SCHEMA}", where=file, fix="upgrade vlmdesc")
    if stray := data.keys() - {"schema", "meta", "classes", "rows", "edits"}:
        raise _wrong(file, f'unknown key "{min(stray)}"; known: schema, meta, classes, rows, edits')
    meta = data.get("meta", {})
    if not isinstance(meta, dict):
        raise _wrong(file, f"meta must be an object, found {_kind(meta)}")
    lists = {name: _list(data.get(name), name, file) for name in ("classes", "rows")}
    classes = tuple(build(ClassName, value, f"{file}, class {i}") for i, value in enumerate(lists["classes"]))
    rows = tuple(build(Descriptor, value, f"{file}, row {m}") for m, value in enumerate(lists["rows"]))
    edits = _list(data.get("edits", []), "edits", file)
    return classes, rows, meta, tuple(_done(value, i, f"{file}, edit {i}") for i, value in enumerate(edits, 1))


def _done(value: Any, number: int, where: str) -> Done:
    if not isinstance(value, dict) or not isinstance(value.get("did"), list):
        raise _wrong(where, 'an edit must be an object with a list "did"')
    changes = list[Change]()
    for change in value["did"]:
        if not (isinstance(change, list) and len(change) == 3 and type(change[0]) is int and change[0] >= 0):
            raise _wrong(where, '"did" must hold lists of a place, the row before and the row after')
        before, after = (None if row is None else build(Descriptor, row, where) for row in change[1:])
        changes.append(Change(change[0], before, after))
    edit = edit_of({name: field for name, field in value.items() if name != "did"}, where)
    if edit.number is not None and not 1 <= edit.number < number:
        raise _wrong(where, f"it undoes edit {edit.number}, which does not come before it")
    return Done(edit, tuple(changes))


def _lists(names: Any, lists: Any, file: str) -> Parts:
    """Names of classes by id, and the texts of each. Published sets hold empty texts, for the bare name."""
    if not isinstance(names, dict) or not isinstance(lists, dict):
        raise _wrong(file, "index_to_classname and index_to_descriptions must both be objects")
    if stray := [id_ for id_ in lists if id_ not in names]:
        raise _wrong(file, f'index_to_descriptions has "{stray[0]}", index_to_classname has not')
    classes, rows = list[ClassName](), list[Descriptor]()
    for id_, name in names.items():
        where = f'{file}, class "{id_}"'
        classes.append(build(ClassName, {"id": id_, "name": name}, where))
        for i, text in enumerate(_list(lists.get(id_, []), "descriptors", where)):
            rows.append(build(Descriptor, {"class_id": id_, "text": text}, f"{where}, descriptor {i}"))
    return tuple(classes), tuple(rows), {}, ()


def _list(value: Any, name: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, f"expected a list of {name}, found {_kind(value)}")
    return value


def _read(value: Any, name: str, kind: str, where: str) -> Any:
    """The value of a field of that kind, as Python has it."""
    if type(value) not in _MAY_BE[kind]:
        raise _wrong(where, f'"{name}" is {_kind(value)}, not {_KINDS[_MAY_BE[kind][0]]}')
    if kind.startswith("float"):
        if abs(value) > LARGEST:
            raise _wrong(where, f"the {name} is too large")
        return float(value)
    if isinstance(value, list):
        if not all(isinstance(text, str) for text in value):
            raise _wrong(where, f"{name} must be text")
        return tuple(value)
    return value


def _plain(record: ClassName | Descriptor) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(record)}
    return {name: value for name, value in asdict(record).items() if value != defaults[name]}


def _did(change: Change) -> list[Any]:
    return [change.at, *(row and _plain(row) for row in (change.before, change.after))]


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _wrong(where: str, what: str) -> InputError:
    return InputError(what, where=where, fix="see the descriptor file forms in the README")


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "an object")
