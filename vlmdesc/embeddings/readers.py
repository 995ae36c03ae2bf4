"""Which reader opens what: files by their suffix, folders, patterns, names on the hub, and what is in memory."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlmdesc.embeddings import hub, shards, sources, tables
from vlmdesc.embeddings.find import SUFFIXES, ImagePaths, find_images
from vlmdesc.embeddings.tables import Table
from vlmdesc.errors import InputError
from vlmdesc.text import did_you_mean

METADATA = ("metadata.csv", "metadata.jsonl")
SHARDS = (".parquet", ".tar")
_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def open_table(source: Any, paths: tuple[str, ...] | None, split: str) -> tuple[str, Table]:
    """What a data set is called, and its rows: of paths, or of what is in memory. Raises: InputError; EndpointError."""
    if paths is not None:
        single = isinstance(source, (str, os.PathLike))
        return (paths[0], _table(paths[0], split)) if single else (f"{len(paths)} files", _several(paths))
    if sources.is_of(source, "datasets", "Dataset", "DatasetDict"):
        return "data set", hub.read_loaded(source, split)
    if sources.is_torch_data(source):
        return type(source).__name__, sources.read_torch(source)
    if sources.is_pair(source):
        return "images and labels", sources.read_pair(*source)
    return "images", sources.read_images(source)


@dataclass(frozen=True)
class Reader:
    """A kind of data set: `open(source, split)` is its table, for a source that it `reads`, or files of such suffixes.

    What is there is read when rows are asked for. Raises: InputError, from `open`, for what is no such thing after all.
    """

    open: Callable[[str, str], Table]
    reads: Callable[[str], bool] = lambda source: False
    suffixes: tuple[str, ...] = ()


def _table(source: str, split: str) -> Table:
    if not source:
        raise InputError("an empty path", fix="name a data set")
    path = Path(source)
    there, suffix = os.path.lexists(path), path.suffix.lower()
    if not there and glob.has_magic(source) and (matches := sorted(glob.glob(source, recursive=True))):
        return _several(matches) if len(matches) > 1 else _table(matches[0], split)
    for reader in reversed(READERS.values()):
        if there and suffix in reader.suffixes and not os.path.isdir(path):
            if not path.is_file():
                raise InputError("not a regular file", where=path, fix="give a file that can be read more than once")
            return reader.open(source, split)
        if reader.reads(source):
            return reader.open(source, split)
    hint = did_you_mean(path.name, os.listdir(path.parent)) if os.path.isdir(path.parent) else ""
    fix = f"{hint}give a folder, a table, or ORG/NAME on the hub"
    raise InputError("no such file or folder", where=source, fix=fix)


def _is_saved(source: str) -> bool:
    """Whether `datasets` saved this folder. Raises: InputError for a folder that cannot be read."""
    if not os.path.isdir(source):
        return False
    try:
        names = {*os.listdir(source)}
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=source, fix="check its permissions") from error
    return "dataset_dict.json" in names or {"dataset_info.json", "state.json"} <= names


def _folder(source: str, split: str) -> Table:
    folder = Path(source)
    if metadata := _metadata(folder):
        return _table(str(metadata), split)
    splits = tables.splits_of(folder)
    if splits and (metadata := _metadata(folder / tables.pick_split(splits, split, folder))):
        return replace(_table(str(metadata), ""), splits=splits, split=metadata.parent.name)
    try:
        return tables.read_folder(folder, split)
    except InputError:
        if shards.data_files(folder):
            return shards.read_data_folder(folder, split)
        raise


def _is_of_hub(source: str) -> bool:
    """Whether this can only be ORG/NAME: "photos/cats" where photos/ is here is a slip, and so is "potos/cats.csv"."""
    path = Path(source)
    of_a_file = path.suffix.lower() in SUFFIXES or path.suffix.lower() in _suffixes()
    here = os.path.lexists(path) or os.path.lexists(path.parent)
    return bool(_HUB.fullmatch(source)) and not here and not of_a_file


READERS: dict[str, Reader] = {  # of several that read a source, the last does: what is more special stands below
    "image": Reader(lambda source, _: tables.of_images(ImagePaths((Path(source),))), os.path.lexists),
    "hub": Reader(hub.read_hub, _is_of_hub),
    "folder": Reader(_folder, os.path.isdir),
    "saved": Reader(lambda source, split: hub.read_saved(Path(source), split), _is_saved),
    "csv": Reader(lambda source, _: tables.read_csv(Path(source)), suffixes=(".csv",)),
    "tsv": Reader(lambda source, _: tables.read_csv(Path(source), "\t"), suffixes=(".tsv",)),
    "list": Reader(lambda source, _: tables.read_list(Path(source)), suffixes=(".txt",)),
    "json": Reader(lambda source, _: tables.read_json_lines(Path(source)), suffixes=(".jsonl", ".ndjson", ".json")),
    "shards": Reader(lambda source, _: shards.read_files([Path(source)]), suffixes=SHARDS),
}


def _suffixes() -> set[str]:
    return {suffix for reader in READERS.values() for suffix in reader.suffixes}


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _several(sources: Sequence[str | Path]) -> Table:
    """Files that were listed, or that a pattern stands for: data files of one kind, else images."""
    paths = [Path(source) for source in sources]
    if len({path.suffix.lower() for path in paths}) == 1 and paths[0].suffix.lower() in SHARDS:
        return shards.read_files(paths)
    table = next((path for path in paths if path.suffix.lower() in _suffixes()), None)
    if table is not None:
        raise InputError("a table among other files", where=table, fix="give one table at a time, and nothing else")
    return tables.of_images(find_images(sources))
