"""Data sets that are text or folders: CSV, TSV, JSON lines, lists of files, image folders.

Read here and not by `datasets`, whose CSV reader makes 7.0 of "007" and nothing of "NA", and whose folder reader
leaves out images without a suffix and takes a class folder named "train" for a split.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from vlmdesc.embeddings.find import Found, find_images
from vlmdesc.errors import InputError
from vlmdesc.files import read_json, strict_json

Row = Mapping[str, Any]
FOLDER = "/folder"  # in a row: what its paths start from, where that is not the same for all; no column is called so
# The folder names that stand for splits, as in `datasets`.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


@dataclass(frozen=True)
class Table:
    """Rows of any form: `rows(columns)` reads them anew, as few columns as are asked for, in any thread or process.

    `n` is their number where it is known before they are read; `image` and `label` are the columns that hold these
    beyond doubt; `class_names` what the numbers in a column stand for. Labels that are `numbered` are numbers of
    classes, whatever these are.
    """

    form: str
    columns: Mapping[str, str]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    folder: Path = Path()
    n: int | None = None
    splits: tuple[str, ...] = ()
    split: str = ""
    image: tuple[str, ...] = ()
    label: str = ""
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    numbered: bool = False


def read_csv(path: Path, separator: str = ",") -> Table:
    """A table with a header line; every cell stays the text it is. Raises: InputError naming file and line."""
    n = sum(1 for _ in _csv_rows(path, separator))
    if not n:
        raise InputError("a header but no rows", where=path, fix="add one row an image")
    header = _csv_header(path, separator)
    form = "TSV" if separator == "\t" else "CSV"
    return Table(form, dict.fromkeys(header, "text"), partial(_csv_rows, path, separator), path.parent, n)


def _csv_header(path: Path, separator: str) -> list[str]:
    header = next((cells for _, cells in _csv_lines(path, separator)), [])
    if not header:
        raise InputError("empty file", where=path, fix="give a table with a header line")
    others = [name for mark, name in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")) if mark in header[0]]
    if len(header) == 1 and others:
        what = f"one column only, '{header[0]}', which has {others[0]} in it"
        raise InputError(what, where=f"{path}:1", fix="separate columns by commas (.csv) or tabs (.tsv)")
    for i, name in enumerate(header):
        if not name.strip() or name in header[:i]:
            what = f"column {i + 1} has {'the name of another' if name.strip() else 'no name'}"
            raise InputError(what, where=f"{path}:1", fix="give each column its own name")
    return header


def _csv_rows(path: Path, separator: str, _: Sequence[str] = ()) -> Iterator[Row]:
    header = _csv_header(path, separator)
    lines = _csv_lines(path, separator)
    next(lines)
    for line, cells in lines:
        if len(cells) != len(header):
            what = f"{len(cells)} fields where the header has {len(header)}: {', '.join(header)}"
            raise InputError(what, where=f"{path}:{line}", fix="put quotes around cells that hold a separator")
        yield dict(zip(header, cells, strict=True))


def _csv_lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = None
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for cells in reader:
                if any("\0" in cell for cell in cells):
                    raise InputError("a NUL character", where=f"{path}:{reader.line_num}", fix="save it as text")
                if cells:
                    yield reader.line_num, cells
    except csv.Error as error:
        line = reader.line_num if reader else 1
        raise InputError(f"not CSV: {error}", where=f"{path}:{line}", fix="correct that line") from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=f"{path}:{_undecodable(path)}", fix="save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path, fix="check path and permissions") from error


def _undecodable(path: Path) -> int:
    """The first line that is not UTF-8."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def read_json_lines(path: Path) -> Table:
    """One JSON object a line, or a JSON file with a list of them. Raises: InputError."""
    columns: dict[str, str] = {}
    n = 0
    for n, row in enumerate(_json_rows(path), 1):  # noqa: B007 - n is wanted after the loop
        columns |= dict.fromkeys(row, "text")
    if not n:
        raise InputError("no rows", where=path, fix="write one JSON object a line")
    return Table("JSON lines", columns, partial(_json_rows, path), path.parent, n)


def _json_rows(path: Path, _: Sequence[str] = ()) -> Iterator[Row]:
    if path.suffix.lower() == ".json":
        found = read_json(path)
        items = enumerate(found if isinstance(found, list) else [found], 1)
        rows: Iterator[tuple[str, Any]] = ((f"{path}, item {number}", item) for number, item in items)
    else:
        rows = ((f"{path}:{number}", strict_json(line, str(path), number)) for number, line in _text_lines(path))
    for where, row in rows:
        if not isinstance(row, dict):
            raise InputError("not a JSON object", where=where, fix='write {"image": ..., "label": ...}')
        yield row


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=f"{path}:{_undecodable(path)}", fix="save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path, fix="check path and permissions") from error


def read_list(path: Path) -> Table:
    """A text file with one path a line, relative to the file. Raises: InputError."""
    paths = [line for _, line in _text_lines(path)]
    if not paths:
        raise InputError("empty file", where=path, fix="write one path a line")
    return _of_files([Path(line) for line in paths], "list of files", path.parent)


def of_images(found: Found, form: str = "files") -> Table:
    """Images that were named or found; no labels."""
    if not found.paths:
        raise InputError("no images", fix="name image files or folders that have some")
    return _of_files(found.paths, form, Path(), passed_over(found))


def _of_files(paths: Sequence[Path], form: str, folder: Path, notes: tuple[str, ...] = ()) -> Table:
    return Table(
        form,
        {"image": "path"},
        partial(_file_rows, paths),
        folder,
        len(paths),
        image=("image",),
        notes=notes,
    )


def _file_rows(paths: Sequence[Path], _: Sequence[str]) -> Iterator[Row]:
    return ({"image": path} for path in paths)


def read_folder(root: Path, split: str) -> Table:
    """A folder of images: the label of each is the folder it lies in. Raises: InputError when it has none."""
    splits = splits_of(root)
    if splits:
        split = pick_split(splits, split, root)
    elif split:
        raise InputError(f"no split '{split}'", where=root, fix="leave --split out: this folder has none")
    place = root / split if splits else root
    found = find_images([place])
    if not found.paths:
        others = [path.name for path in found.passed_over if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json")]
        fix = f"give one of its tables: {', '.join(others[:5])}" if others else "give a folder of images or a table"
        raise InputError("no images in this folder", where=place, fix=fix, details=passed_over(found))
    n_open = len(found.paths) - len(found.closed)
    folders = (*(path.parent for path in found.paths[:n_open]), *found.closed)
    labels = [folder.name if folder != place else None for folder in folders]
    notes = passed_over(found)
    depths = {len(path.relative_to(place).parts) for path in found.paths[:n_open]}
    if len(depths) > 1:
        notes += (f"images lie at {len(depths)} depths: the label of each is the folder directly above it",)
    has = {"image": "path", "id": "path in the folder"} | ({"label": "folder name"} if any(labels) else {})
    label = "label" if any(labels) else ""
    rows = partial(_folder_rows, root, found.paths, labels)
    return Table("image folder", has, rows, Path(), len(labels), splits, split, ("image",), label, notes=notes)


def _folder_rows(root: Path, paths: Sequence[Path], labels: Sequence[str | None], _: Sequence[str]) -> Iterator[Row]:
    for path, label in zip(paths, labels, strict=True):
        yield {"image": path, "label": label, "id": str(path.relative_to(root))}


def splits_of(root: Path) -> tuple[str, ...]:
    """The folders in a folder, where all are named as splits are; so {train, bus, car} are three classes."""
    top = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return tuple(top) if all(name.lower() in SPLITS for name in top) else ()


def pick_split(splits: Sequence[str], wanted: str, where: object) -> str:
    """The split asked for, by its name or what the name stands for; the only one if none is asked for.

    Raises: InputError.
    """
    if not wanted and len(splits) == 1:
        return splits[0]
    same = [name for name in splits if name == wanted] or [
        name for name in splits if wanted and SPLITS.get(name.lower(), name) == SPLITS.get(wanted.lower(), wanted)
    ]
    if len(same) == 1:
        return same[0]
    what = f"no split '{wanted}'" if wanted else f"{len(splits)} splits"
    raise InputError(
        what, where=where, fix=f"name the split (--split, or --reference-split of a reference): {', '.join(splits)}"
    )


def passed_over(found: Found) -> tuple[str, ...]:
    """A note on what was no image, if there was any such thing."""
    first = ", ".join(path.name for path in found.passed_over[:3])
    more = ", ..." if len(found.passed_over) > 3 else ""
    heic = any(path.suffix.lower() in (".heic", ".heif") for path in found.passed_over)
    hint = "; HEIC is not read: export as JPEG" if heic else ""
    note = f"passed over, no images: {len(found.passed_over)} ({first}{more}){hint}"
    return (note,) if found.passed_over else ()


def known(table: Table, column: str) -> list[str]:
    """The columns there are; for "json.label" also those inside the column "json", as its first rows tell."""
    around = outer(column, table)
    if around == column or around not in table.columns:
        return [*table.columns]
    inner = (name for row in islice(table.rows([around]), 100) for name in _names(row.get(around), around))
    return [*dict.fromkeys([*table.columns, *inner])]


def _names(value: Any, around: str) -> Iterator[str]:
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield f"{around}.{name}"
        yield from _names(inner, f"{around}.{name}")


def outer(column: str, table: Table) -> str:
    """The column to read for a column: itself, or the one it is inside of."""
    return column if column in table.columns else column.partition(".")[0]


def inside(row: Row, column: str) -> Any:
    """What a row has in a column, or in one inside of it; None where it has no such thing."""
    value: Any = row
    for name in [column] if column in row else column.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
