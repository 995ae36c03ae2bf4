"""Which image each vector of an index is of: row i of these is row i of the vectors."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from vlmdesc.embeddings.data import DataSet, Item, load_data
from vlmdesc.errors import InputError
from vlmdesc.text import did_you_mean

SCHEMA = pa.schema(
    {
        "id": pa.large_binary(),  # UTF-8; file names may hold what is not, as Python's surrogates do
        "label": pa.large_binary(),
        "content": pa.binary(32),
        "file": pa.bool_(),  # the id is the image's path; else it is row `number` of its origin
        "origin": pa.int32(),
        "number": pa.int64(),
    }
)
FILTERS = ("label", "id")
MAGIC = b"ARROW1\0\0"


@dataclass(frozen=True)
class Origin:
    """A data set that rows came from, as `load_data` takes it; local paths are absolute."""

    data: tuple[str, ...]
    split: str = ""
    image_column: str = ""
    label_column: str = ""
    id_column: str = ""

    @staticmethod
    def of(data: DataSet) -> Origin:
        """How a data set can be opened again; one that was made by hand cannot."""
        opened = {"source": (data.name,), **data.opened}
        paths = (
            os.path.abspath(path) if os.path.lexists(path) or has_magic(path) else path for path in opened["source"]
        )
        return Origin(tuple(paths), **{field.name: opened.get(field.name, "") for field in fields(Origin)[1:]})

    def open(self) -> DataSet:
        """The data set as it is now. Raises: InputError when it is gone; EndpointError when the hub does not answer."""
        options = asdict(self)
        data = options.pop("data")
        return load_data(data[0] if len(data) == 1 else data, **options)


@dataclass(frozen=True)
class Rows:
    """The rows of an index, as a table of `SCHEMA`, and the data sets they came from."""

    table: pa.Table
    origins: tuple[Origin, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str, rows: Sequence[int] | Int[np.ndarray, " r"] | None = None) -> list[Any]:
        """What stands in a column, in all rows or in some."""
        column = self.table[name]
        values = (column if rows is None else column.take(pa.array(rows, pa.int64()))).to_pylist()
        return [*map(_text, values)] if name in FILTERS else list(values)

    def labels(self) -> list[str]:
        """The labels there are, in order."""
        return sorted(
            label.decode("utf-8", "surrogatepass")
            for label in self.table["label"].unique().to_pylist()
            if label is not None
        )

    def contents(self) -> np.ndarray:
        """The keys of the contents, as one array (N,) of 32 bytes each."""
        column = self.table["content"].combine_chunks()
        return np.array(column.to_pylist(), "V32")

    def with_content(self, contents: Sequence[bytes]) -> Int[np.ndarray, " r"]:
        """Rows of images with one of these contents."""
        return np.flatnonzero(pc.is_in(self.table["content"], pa.array(contents, pa.binary(32))).to_numpy())

    def where(self, filters: Iterable[str]) -> Bool[np.ndarray, " n"]:
        """Which rows fit filters such as "label=tabby*"; of several for one column one is enough.

        Raises: InputError for a column that is not known, or a filter that no row fits.
        """
        fits: dict[str, np.ndarray] = {}
        for filter_ in filters:
            column, sign, pattern = filter_.partition("=")
            if column not in FILTERS or not sign:
                hint = did_you_mean(column, FILTERS)
                known = " or ".join(f"{name}=PATTERN" for name in FILTERS)
                raise InputError(f"unknown filter '{filter_}'", fix=f"{hint}write {known}")
            found = self.fits(column, pattern)
            if not found.any():
                hint = did_you_mean(pattern, self.labels() if column == "label" else ())
                raise InputError(f"no row has {filter_}", fix=f"{hint}see vlmdesc index info; * stands for anything")
            fits[column] = fits.get(column, False) | found
        return np.logical_and.reduce([*fits.values()]) if fits else np.ones(len(self), bool)

    def fits(self, column: str, pattern: str) -> Bool[np.ndarray, " n"]:
        """Which rows have a value in a column that fits a pattern, where * stands for anything."""
        wanted = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
        encoded = self.table[column].combine_chunks().dictionary_encode()
        known = [
            value is not None and bool(wanted.fullmatch(value)) for value in map(_text, encoded.dictionary.to_pylist())
        ]
        numbers = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        return np.array([*known, False])[numbers]

    def keep(self, wanted: Bool[np.ndarray, " n"]) -> Rows:
        return Rows(self.table.filter(pa.array(wanted)), self.origins)

    def keys(self) -> list[tuple[object, ...]]:
        """What a row is the same by: its path, or its place in its data set."""
        names = ("id", "file", "origin", "number")
        columns = zip(*(self.column(name) for name in names), strict=True)
        return [(id_,) if file else (self.origins[origin], number) for id_, file, origin, number in columns]

    def plus(self, more: Rows) -> Rows:
        """These rows and more behind them, with the data sets that some row is from."""
        used = [rows.origins[at] for rows in (self, more) for at in sorted(rows.table["origin"].unique().to_pylist())]
        origins = tuple(dict.fromkeys(used))
        return Rows(pa.concat_tables([self._among(origins).table, more._among(origins).table]), origins)

    def _among(self, origins: tuple[Origin, ...]) -> Rows:
        """The same rows, where their data sets stand among others."""
        moved = pa.array([origins.index(self.origins[at]) for at in self.column("origin")], pa.int32())
        at = SCHEMA.get_field_index("origin")
        return Rows(self.table.set_column(at, SCHEMA.field(at), moved), origins)

    def gone(self) -> list[int]:
        """Rows whose image was a file that is no longer there."""
        paths = zip(self.column("id"), self.column("file"), strict=True)
        return [row for row, (path, file) in enumerate(paths) if file and not os.path.isfile(path)]

    def to_bytes(self) -> pa.Buffer:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, SCHEMA) as file:
            file.write_table(self.table.combine_chunks())
        return sink.getvalue()

    @staticmethod
    def read(path: Path, origins: Iterable[Mapping[str, Any]]) -> Rows:
        """Map a file of `to_bytes`, whoever wrote it. Raises: ValueError when it is no such file."""
        known = tuple(Origin(**{**origin, "data": tuple(origin["data"])}) for origin in origins)
        try:
            with pa.memory_map(str(path)) as file:
                file.seek(len(MAGIC))
                schema, *parts = pa.ipc.MessageReader.open_stream(file)
                if pa.ipc.read_schema(schema) != SCHEMA:
                    raise ValueError("not the columns of an index")
                if any(map(_is_compressed, parts)):
                    raise ValueError("compressed")  # a small file might become a large table
                table = pa.Table.from_batches([pa.ipc.read_record_batch(part, SCHEMA) for part in parts], SCHEMA)
            table.validate(full=True)
        except (pa.ArrowException, struct.error) as error:
            raise ValueError(str(error)) from error
        rows = Rows(table, known)
        rows._check()
        return rows

    def _check(self) -> None:
        """Raises: ValueError for a value that has no meaning in its column."""
        if any(self.table[name].null_count for name in SCHEMA.names if name != "label"):
            raise ValueError("a value is missing")
        for name, end in (("origin", len(self.origins)), ("number", 2**63)):
            found = pc.min_max(self.table[name]).as_py()
            if len(self) and not 0 <= found["min"] <= found["max"] < end:
                raise ValueError("a row of no data set")
        for name in FILTERS:
            try:
                self.table[name].cast(pa.large_string())
            except pa.ArrowInvalid:  # no UTF-8; it may be as surrogates are
                self.column(name)


def _is_compressed(message: pa.Message) -> bool:
    """Whether a batch says so: field 3 of the table (in the sense of FlatBuffers) that is field 2 of its message."""
    raw = message.metadata.to_pybytes()
    root = struct.unpack_from("<I", raw)[0]
    at = _field(raw, root, 2)
    return bool(_field(raw, at + struct.unpack_from("<I", raw, at)[0], 3))


def _field(raw: bytes, table: int, number: int) -> int:
    """Where a field of a table is, 0 where it has none."""
    offsets = table - struct.unpack_from("<i", raw, table)[0]
    known = struct.unpack_from("<H", raw, offsets)[0]
    there = struct.unpack_from("<H", raw, offsets + 4 + 2 * number)[0] if known > 4 + 2 * number else 0
    return table + there if there else 0


def rows_of(found: Iterable[tuple[int, Item, bytes]], origin: Origin) -> Rows:
    """Rows of a data set's items, each with its number and the key of its content; of equal paths the first."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for number, item, content in found:
        file = isinstance(item.source, Path)
        id_ = os.path.abspath(str(item.source)) if file else item.id
        for name, value in zip(SCHEMA.names, (id_, item.label, content, file, 0, number), strict=True):
            columns[name].append(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)
    rows = Rows(pa.table(columns, SCHEMA), (origin,))
    first = dict(zip(reversed(rows.keys()), range(len(rows) - 1, -1, -1), strict=True))
    return rows.keep(np.isin(np.arange(len(rows)), [*first.values()]))


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "surrogatepass")
