"""One way to get at any data set: images with their labels, groups and ids, row by row."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vlmdesc.embeddings import tables
from vlmdesc.embeddings.find import SUFFIXES
from vlmdesc.embeddings.image import is_image
from vlmdesc.embeddings.readers import open_table
from vlmdesc.embeddings.tables import Row, Table
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, did_you_mean

IMAGE_COLUMNS = ("image", "img", "file_name", "filename", "image_path", "filepath", "path", "file")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "fine_label", "cls", "txt", "json.label")


@dataclass(frozen=True)
class Item:
    """One row: its id, the image or the ImageError why there is none, label and group as they are written, if any."""

    id: str
    source: Any
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Roles:
    """Which column is what; "" for none. A column inside a column is written "json.label"."""

    image: str = ""
    label: str = ""
    group: str = ""
    id: str = ""


@dataclass(frozen=True, repr=False)
class DataSet:
    """A data set that can be gone through as often as is wanted; no image of it is held in memory."""

    name: str
    table: Table
    roles: Roles
    opened: Mapping[str, Any] = field(default_factory=dict)  # what `load_data` was given; nothing for what is in memory

    def __repr__(self) -> str:
        size = "" if self.n is None else f", {counted(self.n, 'row')}"
        return f"<DataSet {self.name}: {self.table.form}{size}>"

    def __len__(self) -> int:
        """Number of rows; counted where it is not known."""
        return sum(1 for _ in self._rows(self.roles.label or self.roles.image)) if self.n is None else self.n

    @property
    def n(self) -> int | None:
        """Number of rows, where it is known before they are read."""
        return self.table.n

    def __iter__(self) -> Iterator[Item]:
        roles = self.roles
        for number, row in enumerate(self._rows(roles.image, roles.label, roles.group, roles.id)):
            yield self._item(number, row)

    def read_as(self, column: str) -> list[str]:
        """What a column is read for: "image", "label", "group", "id"."""
        roles = vars(self.roles).items()
        return [role for role, read in roles if read and self.table.outer(read) == column]

    def some(self, rows: Collection[int]) -> Iterator[tuple[int, Item]]:
        """The items of some rows, each with its number, in order; what lies behind the last is not read."""
        wanted = {*rows}
        return ((row, item) for row, item in enumerate(islice(self, max(wanted, default=-1) + 1)) if row in wanted)

    def labels(self) -> list[str | None]:
        """The label of each row, None where there is none; read without images.

        Raises: InputError for a label that is no single value, or where there is no label column.
        """
        if not self.roles.label:
            raise InputError(
                "no label column", where=self.name, fix=f"use --label-column with one of {self._column_names()}"
            )
        return [self._label(number, row) for number, row in enumerate(self._rows(self.roles.label))]

    def _label(self, number: int, row: Row) -> str | None:
        try:
            return self._text(self.roles.label, row, f"row {number}")
        except ImageError:  # a class number without a name: an error of its row, when that is read
            return None

    def _rows(self, *columns: str) -> Iterator[Row]:
        return self.table.rows(sorted({self.table.outer(column) for column in columns if column}))

    def _item(self, number: int, row: Row) -> Item:
        roles, image, key = self.roles, tables.inside(row, self.roles.image), f"row {number}"
        label = group = None
        try:
            key = (self._text(roles.id, row, key) if roles.id else _path_in(image)) or key
            label, group = (self._text(role, row, key) if role else None for role in (roles.label, roles.group))
            return Item(key, self._source(image, key, row.get(tables.FOLDER, self.table.folder)), label, group)
        except ImageError as error:
            return Item(key, error, label, group)

    def _source(self, image: Any, key: str, folder: Path) -> Any:
        if isinstance(image, dict):
            image = image.get("bytes") or image.get("path")
        if image is None or (isinstance(image, str) and not image):
            raise ImageError("missing", "no image in this row", where=key, fix="fill it in, or drop the row")
        if isinstance(image, str) and "://" in image:
            raise ImageError("not-a-file", "a URL, not a file", where=key, fix="download the image first")
        if isinstance(image, (str, Path)):
            return folder / image
        if is_image(image):
            return image
        what = f"column '{self.roles.image}' holds {type(image).__name__}, not images"
        raise ImageError("not-an-image", what, where=key, fix="use --image-column with the column of images")

    def _text(self, column: str, row: Row, key: str) -> str | None:
        value = tables.inside(row, column)
        names = self.table.class_names.get(column)
        if names is not None and isinstance(value, int):
            if value == -1:  # the hub's way to say that a label is not given
                return None
            if not 0 <= value < len(names):
                what = f"class number {value} where there are {len(names)} class names"
                raise ImageError("label", what, where=key, fix="correct the row")
            return names[value]
        if isinstance(value, (list, dict, bytes)):
            what = f"column '{column}' holds {type(value).__name__}, not a single value"
            raise InputError(what, where=f"{self.name}, {key}", fix=f"use one of {self._column_names()}")
        nothing = value is None or value == "" or value != value  # NaN is how Parquet's numbers say nothing
        return None if nothing else str(value)

    def _column_names(self) -> str:
        return ", ".join(self.table.columns)


def load_data(
    source: object,
    *,
    image_column: str = "",
    label_column: str = "",
    group_column: str = "",
    id_column: str = "",
    split: str = "",
) -> DataSet:
    """The data set `source` names, or is.

    A folder of images (labels are the names of the folders they lie in), a table of paths or bytes (CSV, TSV, JSON
    lines, Parquet), WebDataset shards (.tar), what `datasets` saved to disk, a folder of data files, a text file of
    paths, a pattern, a list of paths, or ORG/NAME on the Hugging Face hub. Labels stay as they are written.
    In memory: a `datasets.Dataset`, a torch DataLoader or Dataset of (image, label), a pair (images, labels) with names
    or numbers of classes as labels, images without labels, or a data set, which is given back.

    Raises: InputError naming the file, the line or the columns there are; EndpointError when the hub is needed and
    does not answer.
    """
    wanted = {"image": image_column, "label": label_column, "group": group_column, "id": id_column}
    if isinstance(source, DataSet):
        if split or any(wanted.values()):
            raise InputError("columns or a split for a data set that is loaded", fix="name them when you load it")
        return source
    if isinstance(source, Iterator) and not is_image(source):
        source = [*source]
    paths = _paths(source)
    name, table = open_table(source, paths, split)
    if split and not table.splits:
        raise InputError(f"no split '{split}'", where=name, fix="leave --split out: there are none")
    for option, column in wanted.items():
        if column and column not in (known := table.list_columns(column)):
            fix = f"{did_you_mean(column, known)}use --{option}-column with one of {', '.join(known)}"
            raise InputError(f"no column '{column}'", where=name, fix=fix)
    image = image_column or _image_column(table, name)
    label = label_column or table.label or next((c for c in LABEL_COLUMNS if c in table.list_columns(c)), "")
    own_id = "id" if "id" in table.columns else ""
    opened = {"source": paths, "split": split} | {f"{role}_column": column for role, column in wanted.items()}
    roles = Roles(image, label, group_column, id_column or own_id)
    return DataSet(name, table, roles, opened if paths is not None else {})


def _paths(source: object) -> tuple[str, ...] | None:
    """The paths that a data set is read from; None where it is in memory."""
    listed = [source] if isinstance(source, (str, os.PathLike)) else source
    if isinstance(listed, (list, tuple)) and all(isinstance(path, (str, os.PathLike)) for path in listed):
        return tuple(map(os.fspath, listed))
    return None


def _image_column(table: Table, name: str) -> str:
    found = table.image or [column for column in IMAGE_COLUMNS if column in table.columns][:1]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} columns hold images: {', '.join(found)}" if found else "no column of images found"
    known = ", ".join(table.columns)
    headless = not found and any(Path(column).suffix.lower() in SUFFIXES for column in table.columns)
    fix = "add a header line such as image,label" if headless else "use --image-column with the one that is meant"
    raise InputError(f"{what}; columns: {known}", where=name, fix=fix)


def _path_in(image: Any) -> str | None:
    if isinstance(image, dict):
        image = image.get("path")
    return str(image) if isinstance(image, (str, Path)) else None
