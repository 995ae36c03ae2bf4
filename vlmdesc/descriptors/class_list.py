"""Class lists in files, and the classes that an evaluation confused."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vlmdesc.errors import InputError, VlmdescError
from vlmdesc.files import read_json, read_text
from vlmdesc.records import ClassName, Report, forms
from vlmdesc.records.names import reads_as

SUFFIXES = (".txt", ".csv", ".tsv", ".json")
RIVALS = 3  # of a class: more make the question vague
Entry = tuple[str, str, tuple[str, ...]]  # id, name, aliases


def read_classes(path: Path) -> tuple[ClassName, ...]:
    """Classes of a text file (a name a line), a table (columns name, id, aliases with "|" between; or one column of
    names), or JSON (a list of names, {id: name}, or a descriptor file).

    Raises: InputError naming the file and the line of what is wrong.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json_classes(path)
    text = read_text(path)
    if suffix in (".csv", ".tsv"):
        return _class_names([*_table(text, "\t" if suffix == ".tsv" else ",", path)], path)
    lines = enumerate((line.strip() for line in re.split(r"\r\n|\r|\n", text)), 1)
    return _class_names([(i, (name, name, ())) for i, name in lines if name and not name.startswith("#")], path)


def _json_classes(path: Path) -> tuple[ClassName, ...]:
    data = read_json(path)
    if isinstance(data, list) and all(isinstance(name, str) for name in data):
        return _class_names([(i, (name, name, ())) for i, name in enumerate(data, 1)], path)
    if isinstance(data, dict) and data and all(isinstance(name, str) for name in data.values()):
        return _class_names([(i, (id_, name, ())) for i, (id_, name) in enumerate(data.items(), 1)], path)
    classes = forms.parse(data, str(path))[0]
    return _class_names([(i, (c.id, c.name, c.aliases)) for i, c in enumerate(classes, 1)], path)


def _table(text: str, delimiter: str, path: Path) -> Iterable[tuple[int, Entry]]:
    rows = _rows(text, delimiter, path)
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if len(header) > 1 and "name" not in header:
        raise InputError(f"no column 'name' among {', '.join(header)}", where=path, fix="name the column of classes so")
    body = rows[1:] if "name" in header else rows
    for i, row in body:
        if len(row) != len(header):
            what = f"{len(row)} fields, the first line has {len(header)}"
            raise InputError(what, where=f"{path}:{i}", fix="put names that hold the separator in quotes")
        cells = dict(zip(header, row, strict=True)) if "name" in header else {"name": row[0]}
        aliases = tuple(alias.strip() for alias in cells.get("aliases", "").split("|") if alias.strip())
        yield i, (cells.get("id") or cells["name"].strip(), cells["name"].strip(), aliases)


def _rows(text: str, delimiter: str, path: Path) -> list[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        what, where = f"no table: {error}", f"{path}:{reader.line_num}"
        raise InputError(what, where=where, fix="correct the quotes there") from error


def _class_names(entries: Sequence[tuple[int, Entry]], path: Path) -> tuple[ClassName, ...]:
    """Raises: InputError at the line of a class that is no name, or that a model cannot tell from another."""
    if not entries:
        raise InputError("no classes", where=path, fix="write one a line")
    seen: dict[str, int] = {}
    classes = []
    for line, (id_, name, aliases) in entries:
        try:
            classes.append(ClassName(id_, name, aliases))
        except VlmdescError as error:
            raise InputError(error.what, where=f"{path}:{line}", fix=error.fix) from error
        twin = seen.setdefault(reads_as(id_), line)
        if twin != line:
            fix = "remove one of them, or give each its own id"
            raise InputError(f"'{name}' reads the same as line {twin}", where=f"{path}:{line}", fix=fix)
    return tuple(classes)


def rivals_of(report: Report, limit: int = RIVALS) -> dict[str, list[str]]:
    """Class id -> ids of the classes it is confused with most, in either direction: `limit` at most."""
    counts: dict[str, Counter[str]] = {}
    for row in report.confusions:
        pair = [row.truth, row.answer]
        for class_, rival in (pair, pair[::-1]):
            counts.setdefault(class_, Counter())[rival] += row.n
    return {class_: [rival for rival, _ in found.most_common(limit)] for class_, found in counts.items()}
