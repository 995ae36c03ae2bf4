"""Data sets that are text or folders: CSV, TSV, JSON lines, lists of files, image folders.

Read here and not by `datasets`, whose CSV reader makes 7.0 of "007" and nothing of "NA", and whose folder reader
leaves out images without a suffix and takes a class folder named "train" for a split.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from vlmdesc.embeddings.find import ImagePaths, find_images
from vlmdesc.errors import InputError
from vlmdesc.files import read_json, strict_json
from vlmdesc.text import few

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

    def outer(self, column: str) -> str:
        """The column to read for a column: itself, or the one it is inside of."""
        return column if column in self.columns else column.partition(".")[0]

    def list_columns(self, column: str) -> list[str]:
        """The columns there are; for "json.label" also those inside the column "json", as its first rows tell."""
        around = self.outer(column)
        if around == column or around not in self.columns:
            return [*self.columns]
        inner = (name for row in islice(self.rows([around]), 100) for name in _names(row.get(around), around))
        return [*dict.fromkeys([*self.columns, *inner])]


def _names(value: Any, around: str) -> Iterator[str]:
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield f"{around}.{name}"
        yield from _names(inner, f"{around}.{name}")


def inside(row: Row, column: str) -> Any:
    """What a row has in a column, or in one inside of it; None where it has no such thing."""
    value: Any = row
    for name in [column] if column in row else column.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def read_csv(path: Path, separator: str = ",") -> Table:
    """A table with a header line; every cell stays the text it is. Raises: InputError naming file and line."""
    rows = partial(_csv_rows, path, separator)
    found = rows()
    first = next(found, None)
    if first is None:
        raise InputError("a header but no rows", where=path, fix="add one row an image")
    form, n = "TSV" if separator == "\t" else "CSV", 1 + sum(1 for _ in found)
    return Table(form, dict.fromkeys(first, "text"), rows, path.parent, n)


def _csv_rows(path: Path, separator: str, _: Sequence[str] = ()) -> Iterator[Row]:
    header: list[str] = []
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=separator, strict=True)
    try:
        for cells in filter(None, reader):
            where = f"{path}:{reader.line_num}"
            if any("\0" in cell for cell in cells):
                raise InputError("a NUL character", where=where, fix="save it as text")
            if not header:
                header = _checked_header(cells, where)
            elif len(cells) != len(header):
                what = f"{len(cells)} fields where the header has {len(header)}: {', '.join(header)}"
                raise InputError(what, where=where, fix="put quotes around cells that hold a separator")
            else:
                yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"not CSV: {error}", where=f"{path}:{reader.line_num}", fix="correct that line") from error
    if not header:
        raise InputError("empty file", where=path, fix="give a table with a header line")


def _checked_header(header: list[str], where: str) -> list[str]:
    others = [name for mark, name in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")) if mark in header[0]]
    if len(header) == 1 and others:
        what = f"one column only, '{header[0]}', which has {others[0]} in it"
        raise InputError(what, where=where, fix="separate columns by commas (.csv) or tabs (.tsv)")
    for i, name in enumerate(header):
        if not name.strip() or name in header[:i]:
            what = f"column {i + 1} has {'the name of another' if name.strip() else 'no name'}"
            raise InputError(what, where=where, fix="give each column its own name")
    return header


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
    rows: Iterator[tuple[int, Any]]
    if path.suffix.lower() == ".json":
        found = read_json(path)
        rows = enumerate(found if isinstance(found, list) else [found], 1)
    else:
        rows = ((number, strict_json(line, str(path), number)) for number, line in _lines(path))
    for number, row in rows:
        if not isinstance(row, dict):
            raise InputError("not a JSON object", where=f"{path}:{number}", fix='write {"image": ..., "label": ...}')
        yield row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(io.StringIO(_text(path), newline=None), 1) if line.strip())


def _text(path: Path) -> str:
    """Raises: InputError that names the line that is not UTF-8."""
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError("not UTF-8 text", where=f"{path}:{line}", fix="save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path, fix="check path and permissions") from error


def read_list(path: Path) -> Table:
    """A text file with one path a line, relative to the file. Raises: InputError."""
    found = ImagePaths(tuple(Path(line.rstrip("\n")) for _, line in _lines(path)))
    if not found.paths:
        raise InputError("empty file", where=path, fix="write one path a line")
    return of_images(found, "list of files", path.parent)


def of_images(found: ImagePaths, form: str = "files", folder: Path = Path()) -> Table:
    """Images that were named or found; no labels. Raises: InputError where there are none."""
    if not found.paths:
        raise InputError("no images", fix="name image files or folders that have some")
    rows = partial(_image_rows, found.paths)
    notes = passed_over(found)
    return Table(form, {"image": "path"}, rows, folder, len(found.paths), image=("image",), notes=notes)


def _image_rows(paths: Sequence[Path], _: Sequence[str]) -> Iterator[Row]:
    return ({"image": path} for path in paths)


def read_folder(root: Path, split: str) -> Table:
    """A folder of images: the label of each is the folder it lies in. Raises: InputError when it has none."""
    splits = splits_of(root)
    if splits:
        split = pick_split(splits, split, root)
    elif split:
        raise InputError(f"no split '{split}'", where=root, fix="leave --split out: this folder has none")
    place = root / split
    found = find_images([place])
    notes = passed_over(found)
    if not found.paths:
        others = [path.name for path in found.passed_over if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json")]
        fix = f"give one of its tables: {few(others)}" if others else "give a folder of images or a table"
        raise InputError("no images in this folder", where=place, fix=fix, details=notes)
    labels = [_label(path if path in found.closed else path.parent, place) for path in found.paths]
    depths = {len(path.relative_to(place).parts) for path in found.paths if path not in found.closed}
    if len(depths) > 1:
        notes += (f"images lie at {len(depths)} depths: the label of each is the folder directly above it",)
    has, label = {"image": "path", "id": "path in the folder"}, "label" if any(labels) else ""
    if label:
        has |= {"label": "folder name"}
    rows = partial(_folder_rows, root, found.paths, labels)
    return Table("image folder", has, rows, Path(), len(labels), splits, split, ("image",), label, notes=notes)


def _label(folder: Path, place: Path) -> str | None:
    return folder.name if folder != place else None


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
    fix = f"name the split (--split, or --reference-split of a reference): {', '.join(splits)}"
    raise InputError(what, where=where, fix=fix)


def passed_over(found: ImagePaths) -> tuple[str, ...]:
    """A note on what was no image, if there was any such thing."""
    if not found.passed_over:
        return ()
    heic = any(path.suffix.lower() in (".heic", ".heif") for path in found.passed_over)
    hint = "; HEIC is not read: export as JPEG" if heic else ""
    names = few((path.name for path in found.passed_over), 3)
    return (f"passed over, not images: {len(found.passed_over)} ({names}){hint}",)
