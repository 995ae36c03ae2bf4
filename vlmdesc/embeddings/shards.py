"""Data sets in files of many images: Parquet and WebDataset shards (.tar), one, several or a folder of them.

Read here and not by `datasets`, which imports torch to stream them, makes 7 of a shard's label "007", gives up a shard
for one sample without an image, and takes some file names for patterns.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmdesc.embeddings.find import SUFFIXES
from vlmdesc.embeddings.tables import FOLDER, SPLITS, Row, Table, pick_split
from vlmdesc.errors import InputError, VlmdescError, without_secrets
from vlmdesc.files import strict_json

if TYPE_CHECKING:
    import pyarrow

BATCH = 100  # rows of Parquet in memory at a time
FIRST = 100  # samples of a shard that tell which columns there are
TEXTS = frozenset("txt text caption transcript cls class label labels category target id index".split())  # in a shard
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")


def read_files(files: Sequence[Path]) -> Table:
    """Parquet files, or WebDataset shards, as one split. Raises: InputError naming a file that is no such."""
    return _parquet(files) if files[0].suffix.lower() == ".parquet" else _shards(files)


def data_files(folder: Path) -> list[Path]:
    """The Parquet files in a folder at any depth, else the shards in it."""
    found = sorted(path for path in folder.rglob("*") if "/." not in f"/{path.relative_to(folder)}")
    kinds = ([path for path in found if path.suffix.lower() == suffix] for suffix in (".parquet", ".tar"))
    return next(filter(None, ([path for path in kind if path.is_file()] for kind in kinds)), [])


def read_data_folder(folder: Path, split: str) -> Table:
    """A folder of data files as the hub keeps them, splits by their names. Raises: InputError."""
    by_split: dict[str, list[Path]] = {}
    for file in data_files(folder):
        by_split.setdefault(_split_of(file.relative_to(folder)), []).append(file)
    others = by_split.pop("", [])
    if not by_split:
        return read_files(others)
    split = pick_split([*by_split], split, folder)
    notes = (f"of no split, not read: {', '.join(file.name for file in others)}",) if others else ()
    return replace(read_files(by_split[split]), splits=tuple(by_split), split=split, notes=notes)


def _split_of(file: Path) -> str:
    """The split that "data/train-00000-of-00001.parquet" or "val/0.tar" is of, "" for none: the file's name first."""
    for part in (file.stem, *reversed(file.parent.parts)):
        found = next((SPLITS[word] for word in re.split("[^a-z]+", part.lower()) if word in SPLITS), "")
        if found:
            return found
    named = _SHARD.fullmatch(file.stem)
    return named[1] if named else ""


def _parquet(files: Sequence[Path]) -> Table:
    opened = [_footer(file) for file in files]
    schema, n = opened[0][0], sum(rows for _, rows in opened)
    for file, (other, _) in zip(files, opened, strict=True):
        if set(other.names) != set(schema.names):
            what = f"columns {', '.join(other.names)} where {files[0].name} has {', '.join(schema.names)}"
            raise InputError(what, where=file, fix="read files of other columns apart")
    if not n:
        raise InputError("no rows", where=files[0], fix="give a table with one row an image")
    return of_arrow("Parquet", schema, partial(_each, _parquet_rows, files), files[0].parent, n)


def of_arrow(
    form: str, schema: pyarrow.Schema, rows: Callable[[Sequence[str]], Iterator[Row]], folder: Path, n: int
) -> Table:
    """Rows with the columns of a schema, and what `datasets` writes beside it of what the numbers in them stand for."""
    names, kinds = _class_names(schema), {field.name: _arrow_kind(field.type) for field in schema}
    columns = kinds | {name: f"number of one of {len(named)} class names" for name, named in names.items()}
    images = _of_kind(kinds, "image") or _of_kind(kinds, "binary")
    label = next(iter(names)) if len(names) == 1 else ""
    return Table(form, columns, rows, folder, n, image=images, label=label, class_names=names)


def _footer(file: Path) -> tuple[pyarrow.Schema, int]:
    """Columns and number of rows of a Parquet file. Raises: InputError."""
    from pyarrow import parquet

    with reading(file), file.open("rb") as opened:
        footer = parquet.ParquetFile(opened)
        return footer.schema_arrow, footer.metadata.num_rows


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    from pyarrow import parquet

    with file.open("rb") as opened:
        found = parquet.ParquetFile(opened, page_checksum_verification=True)
        for batch in found.iter_batches(BATCH, columns=list(columns)):
            yield from ({**row, FOLDER: file.parent} for row in batch.to_pylist())


def _arrow_kind(kind: pyarrow.DataType) -> str:
    from pyarrow import types

    if types.is_struct(kind):
        return "image" if {field.name for field in kind} == {"bytes", "path"} else "struct"
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return "binary" if binary else str(kind)


def _class_names(schema: pyarrow.Schema) -> dict[str, Sequence[str]]:
    """What the numbers in a column stand for, as `datasets` writes it beside a schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kinds = {name: kind for name, kind in features.items() if name in schema.names and isinstance(kind, dict)}
        return {name: [*kind["names"]] for name, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):  # there is none, or not as it should be
        return {}


def _shards(files: Sequence[Path]) -> Table:
    samples = [*islice(_each(_samples, files, []), FIRST)]
    if not samples:
        raise InputError("no samples", where=files[0], fix="give a .tar whose files are named 0.jpg, 0.txt, 1.jpg, ...")
    fields = dict.fromkeys(field for sample in samples for field in sample)
    columns = {field: _field_kind(field) for field in fields}
    images, rows = _of_kind(columns, "image"), partial(_each, _samples, files)
    if len(images) > 1 and all(len(sample.keys() & {*images}) <= 1 for sample in samples):
        columns = {"image": "image"} | {field: kind for field, kind in columns.items() if field not in images}
        return Table("WebDataset", columns, partial(_as_one, rows, images), files[0].parent, image=("image",))
    return Table("WebDataset", columns, rows, files[0].parent, image=images)


def _as_one(
    rows: Callable[[Sequence[str]], Iterator[Row]], images: Sequence[str], columns: Sequence[str]
) -> Iterator[Row]:
    """Rows whose image is a PNG here and a JPEG there, with one column for it."""
    for row in rows([*columns, *images] if "image" in columns else columns):
        yield {**row, "image": next((row[name] for name in images if name in row), None)}


def _samples(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Files of one name that follow each other, by what comes after the name's first dot; read are the columns only."""
    row: dict[str, Any] = {}
    with tarfile.open(file, "r:") as opened:
        for member in opened:
            folder, _, name = member.name.rpartition("/")
            stem, _, field = name.partition(".")
            key = f"{folder}/{stem}".removeprefix("/")
            if not (member.isreg() and stem and field):
                continue
            if row and row["__key__"] != key:
                yield row
                row = {}
            if field in row:
                raise InputError(f"two files {member.name}", where=file, fix="give each sample its own name")
            row = row or {"__key__": key}
            row[field] = _content(file, opened, member, field) if field in columns else None
        with file.open("rb") as whole:  # tarfile takes a damaged header for the end, which is a block of zeros
            whole.seek(opened.offset)
            if whole.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise InputError("damaged or cut off", where=f"{file}, byte {opened.offset}", fix="download it again")
    if row:
        yield row


def _content(file: Path, opened: tarfile.TarFile, member: tarfile.TarInfo, field: str) -> Any:
    reader = opened.extractfile(member)
    raw = reader.read() if reader else b""
    kind = _field_kind(field)
    if kind == "image":
        return {"path": member.name, "bytes": raw}
    if kind == "bytes":
        return raw
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=f"{file}: {member.name}", fix="save it as UTF-8") from error
    return strict_json(text, f"{file}: {member.name}") if kind == "JSON" else text.rstrip("\r\n")


def _field_kind(field: str) -> str:
    end = field.rpartition(".")[2].lower()
    if field == "__key__" or end in TEXTS:
        return "text"
    return "JSON" if end == "json" else "image" if f".{end}" in SUFFIXES else "bytes"


def _each(
    read: Callable[[Path, Sequence[str]], Iterator[Row]], files: Sequence[Path], columns: Sequence[str]
) -> Iterator[Row]:
    """The rows of all files, one after the other; an error names the file."""
    for file in files:
        with reading(file):
            yield from read(file, columns)


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Whatever a reader of others raises, as an InputError that names the file: it is damaged, or has changed."""
    try:
        yield
    except VlmdescError:
        raise
    except Exception as error:
        what = f"cannot be read as a data set: {type(error).__name__}: {' '.join(without_secrets(error).split())[:300]}"
        raise InputError(what, where=where, fix="check that the file is whole") from error


def _of_kind(columns: Mapping[str, str], kind: str) -> tuple[str, ...]:
    return tuple(name for name, found in columns.items() if found == kind)
