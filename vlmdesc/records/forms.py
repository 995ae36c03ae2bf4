"""The three JSON forms of a descriptor set that are in use, told apart by their keys.

ours       {"schema": 1, "meta": {...}, "classes": [{"id", "name", "aliases"}], "rows": [{"class_id", "text", ...}],
            "edits": [{"op", "class", "text", ..., "who", "when", "why", "did": [[at, row before, row after], ...]}]}
plain      {class name: [descriptor, ...]}                              classify_by_description, WaffleCLIP
DisCLIP    {"index_to_classname": {i: name}, "index_to_descriptions": {i: [descriptor, ...]}}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from vlmdesc.errors import InputError, VlmdescError
from vlmdesc.records.edits import Change, Done, edit_of
from vlmdesc.records.names import ClassName, Descriptor

SCHEMA = 1
T = TypeVar("T")
# bool before number: it is an int to Python
_KINDS: tuple[tuple[Any, str], ...] = (
    (type(None), "null"),
    (bool, "true or false"),
    (str, "a string"),
    ((int, float), "a number"),
    (list, "a list"),
)
Parts = tuple[tuple[ClassName, ...], tuple[Descriptor, ...], dict[str, Any], tuple[Done, ...]]


def parse(data: Any, file: str) -> Parts:
    """Classes, rows, meta and edits of a JSON value read from `file`.

    Raises: InputError naming the file, the class and the position.
    """
    if not isinstance(data, dict) or not data:
        raise _wrong(file, f"expected an object of classes, found {_kind(data)}")
    if isinstance(data.get("schema"), int):
        return _ours(data, file)
    if "index_to_classname" in data:
        return _disclip(data, file)
    lists = {name: _texts(list_, name, file) for name, list_ in data.items()}
    return _build([(name, name, ()) for name in lists], lists, file)


def _ours(data: dict[str, Any], file: str) -> Parts:
    if data["schema"] != SCHEMA:
        raise InputError(f"schema {data['schema']}, this reads {SCHEMA}", where=file, fix="upgrade vlmdesc")
    stray = data.keys() - {"schema", "meta", "classes", "rows", "edits"}
    if stray:
        raise _wrong(file, f'unknown key "{min(stray)}"; known: schema, meta, classes, rows, edits')
    meta = data.get("meta", {})
    if not isinstance(meta, dict):
        raise _wrong(file, f"meta must be an object, found {_kind(meta)}")
    classes = [_class(c, i, file) for i, c in enumerate(_list(data, "classes", file))]
    rows = [_row(r, f"{file}, row {m}") for m, r in enumerate(_list(data, "rows", file))]
    edits = [_done(e, i, f"{file}, edit {i}") for i, e in enumerate(_list({"edits": []} | data, "edits", file), 1)]
    return tuple(classes), tuple(rows), meta, tuple(edits)


def _class(value: Any, i: int, file: str) -> ClassName:
    value = _fields(value, {"id": str, "name": str, "aliases": list}, {"id", "name"}, f"{file}, class {i}")
    aliases = value.get("aliases", [])
    if not all(isinstance(a, str) for a in aliases):
        raise _wrong(f"{file}, class {i}", "aliases must be strings")
    return _located(f"{file}, class {i}", ClassName, value["id"], value["name"], tuple(aliases))


def _done(value: Any, number: int, where: str) -> Done:
    if not isinstance(value, dict) or not isinstance(value.get("did"), list):
        raise _wrong(where, 'an edit must be an object with a list "did"')
    changes = []
    for change in value["did"]:
        if not (isinstance(change, list) and len(change) == 3 and type(change[0]) is int and change[0] >= 0):
            raise _wrong(where, '"did" must hold lists of a place, the row before and the row after')
        changes.append(Change(change[0], *(None if row is None else _row(row, where) for row in change[1:])))
    edit = edit_of({name: field for name, field in value.items() if name != "did"}, where)
    if edit.number is not None and not 1 <= edit.number < number:
        raise _wrong(where, f"it undoes edit {edit.number}, which is none before it")
    return Done(edit, tuple(changes))


def _row(value: Any, where: str) -> Descriptor:
    kinds = {"class_id": str, "text": str, "weight": (int, float), "enabled": bool, "origin": str}
    value = _fields(value, kinds, {"class_id", "text"}, where)
    try:
        weight = float(value.get("weight", 1.0))
    except OverflowError as error:
        raise _wrong(where, "the weight is too large") from error
    rest = (weight, value.get("enabled", True), value.get("origin", ""))
    return _located(where, Descriptor, value["class_id"], value["text"], *rest)


def _disclip(data: dict[str, Any], file: str) -> Parts:
    names, lists = data["index_to_classname"], data.get("index_to_descriptions")
    if not isinstance(names, dict) or not isinstance(lists, dict):
        raise _wrong(file, "index_to_classname and index_to_descriptions must both be objects")
    stray = next((i for i in lists if i not in names), None)
    if stray is not None:
        raise _wrong(file, f'index_to_descriptions has "{stray}", index_to_classname has not')
    for i, name in names.items():
        if not isinstance(name, str):
            raise _wrong(file, f'the name of class "{i}" is {_kind(name)}')
    texts = {i: _texts(lists.get(i, []), f"{i}: {name}", file) for i, name in names.items()}
    return _build([(i, name, ()) for i, name in names.items()], texts, file)


def _build(classes: list[tuple[str, str, tuple[str, ...]]], lists: dict[str, list[str]], file: str) -> Parts:
    named = tuple(_located(file, ClassName, *c) for c in classes)
    rows = (
        _located(f'{file}, class "{id}", descriptor {i}', Descriptor, id, text)
        for id, texts in lists.items()
        for i, text in enumerate(texts)
    )
    return named, tuple(rows), {}, ()


def _texts(value: Any, class_: str, file: str) -> list[str]:
    """The list of one class. Published sets hold empty texts; they stand for the bare name, as in `Descriptor`."""
    if not isinstance(value, list):
        raise _wrong(f'{file}, class "{class_}"', f"expected a list of descriptors, found {_kind(value)}")
    for i, text in enumerate(value):
        if not isinstance(text, str):
            raise _wrong(f'{file}, class "{class_}", descriptor {i}', f"expected a text, found {_kind(text)}")
    return value


def _list(data: dict[str, Any], key: str, file: str) -> list[Any]:
    if not isinstance(data.get(key), list):
        raise _wrong(file, f'"{key}" must be a list, found {_kind(data.get(key))}')
    found: list[Any] = data[key]
    return found


def _fields(value: Any, kinds: dict[str, Any], needed: set[str], where: str) -> dict[str, Any]:
    """`value` when it is an object with the needed keys, no unknown ones, and each of its kind."""
    if not isinstance(value, dict):
        raise _wrong(where, f"expected an object, found {_kind(value)}")
    for key in sorted(needed - value.keys()):
        raise _wrong(where, f'"{key}" is missing')
    for key, found in value.items():
        if key not in kinds:
            raise _wrong(where, f'unknown key "{key}"; known: {", ".join(kinds)}')
        # bool is an int to Python, but no weight
        if not isinstance(found, kinds[key]) or (isinstance(found, bool) and kinds[key] is not bool):
            raise _wrong(where, f'"{key}" is {_kind(found)}')
    return value


def _located(where: str, make: Callable[..., T], *fields: Any) -> T:
    """`make(*fields)`; an error of its checks gets the file and the place in it."""
    try:
        return make(*fields)
    except VlmdescError as error:
        raise InputError(error.what, where=f"{where}, {error.where}".removesuffix(", "), fix=error.fix) from error


def _wrong(where: str, what: str) -> InputError:
    return InputError(what, where=where, fix="see the descriptor file forms in the README")


def _kind(value: Any) -> str:
    kind = next((name for type_, name in _KINDS if isinstance(value, type_)), "an object")
    return "an empty " + kind.removeprefix("an ").removeprefix("a ") if value in ("", [], {}) else kind
