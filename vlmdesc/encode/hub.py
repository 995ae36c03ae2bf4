"""Data sets that `datasets` reads: Parquet, WebDataset shards, what `save_to_disk` wrote, and the hub's.

Local files are streamed, so nothing is copied and nothing written. Images stay bytes or paths: each is decoded by our
own rules, and one that is broken costs itself only.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmdesc.encode.tables import Row, Table, pick_split
from vlmdesc.errors import EndpointError, InputError, VlmdescError

if TYPE_CHECKING:
    from types import ModuleType


def read_files(builder: str, files: Sequence[Path], form: str) -> Table:
    """Files of one kind ("parquet", "webdataset") as one split. Raises: InputError naming a file that is no such."""
    where = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    if form == "Parquet":
        for file in files:
            _check_parquet(file)
    loaded = _stream(where, builder, data_files={"all": [_literal(file) for file in files]})
    return _table(loaded["all"], form, files[0].parent, where, n=_rows_of(files) if form == "Parquet" else None)


def read_data_folder(folder: Path, split: str) -> Table:
    """A folder of data files as the hub keeps them, splits by their names. Raises: InputError."""
    loaded = _stream(folder, str(folder))
    split = pick_split([*loaded], split, folder)
    return _table(loaded[split], "folder of data files", folder, folder, splits=tuple(loaded), split=split)


def read_saved(folder: Path, split: str) -> Table:
    """What `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; mapped, not loaded. Raises: InputError."""
    loaded = _asked(folder, lambda datasets: datasets.load_from_disk(str(folder)))
    splits: tuple[str, ...] = ()
    if isinstance(loaded, dict):
        splits = tuple(loaded)
        split = pick_split(splits, split, folder)
        loaded = loaded[split]
    return _table(loaded.with_format(None), "saved data set", folder, folder, splits, split, len(loaded))


def read_hub(name: str, split: str) -> Table:
    """A data set of the Hugging Face hub, ORG/NAME or ORG/NAME:CONFIG; what is downloaded stays in the hub's cache.

    Raises: EndpointError when the hub does not answer or has no such data set.
    """
    repository, _, config = name.partition(":")

    def load(datasets: ModuleType) -> Any:
        builder = datasets.load_dataset_builder(repository, config or None)
        return datasets.load_dataset(repository, config or None, split=pick_split([*builder.info.splits], split, name))

    try:
        loaded = _asked(name, load)
    except InputError as error:
        fix = "check the spelling, or that the hub can be reached; a local path must exist"
        raise EndpointError(
            f"no such file or folder here, and from the hub: {error.what}", where=name, fix=fix
        ) from error
    return _table(loaded, "hub data set", Path(), name, (str(loaded.split),), str(loaded.split), len(loaded))


def _stream(where: object, *args: Any, **kwargs: Any) -> Any:
    # The cache folder would hold a lock file only; a temporary one lets a read-only home do.
    with tempfile.TemporaryDirectory() as place:
        return _asked(where, lambda datasets: datasets.load_dataset(*args, streaming=True, cache_dir=place, **kwargs))


def _asked(where: object, ask: Any) -> Any:
    """`ask(datasets)`, with whatever it raises as an error of ours."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)
    try:
        return ask(datasets)
    except VlmdescError:
        raise
    except Exception as error:  # it raises nearly anything
        raise _unreadable(error, where) from error


def _unreadable(error: Exception, where: object) -> InputError:
    what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    return InputError(f"cannot be read as a data set: {what}", where=where, fix="check that the file is whole")


def _check_parquet(file: Path) -> None:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(4)
            opened.seek(-min(4, size), os.SEEK_END)
            tail = opened.read(4)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=file, fix="check path and permissions") from error
    if head != b"PAR1" or tail != b"PAR1":
        what = "a truncated Parquet file" if head == b"PAR1" else "not a Parquet file"
        raise InputError(what, where=file, fix="download it again")


def _rows_of(files: Sequence[Path]) -> int:
    from pyarrow import parquet

    return sum(parquet.read_metadata(file).num_rows for file in files)


def _literal(file: Path) -> str:
    """A path as `datasets` takes it, with its pattern characters made plain."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(file.absolute()))


def _table(
    loaded: Any,
    form: str,
    folder: Path,
    where: object,
    splits: tuple[str, ...] = (),
    split: str = "",
    n: int | None = None,
) -> Table:
    import datasets

    if loaded.features is None:
        loaded = loaded._resolve_features()  # what its first rows are
    features: Mapping[str, Any] = loaded.features
    images = tuple(name for name, kind in features.items() if isinstance(kind, datasets.Image))
    packed = tuple(name for name, kind in features.items() if isinstance(kind, dict) and {"bytes", "path"} == set(kind))
    names = {name: kind.names for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    binary = tuple(name for name, kind in features.items() if getattr(kind, "dtype", "") in ("binary", "large_binary"))
    for name in images:
        loaded = loaded.cast_column(name, datasets.Image(decode=False))

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        try:
            yield from (loaded.select_columns(list(columns)) if columns else loaded)
        except Exception as error:  # truncated in the middle, or changed since it was opened
            raise _unreadable(error, where) from error

    return Table(
        form,
        {name: _kind(kind) for name, kind in features.items()},
        rows,
        folder,
        n,
        splits,
        split,
        images or packed or binary,
        next(iter(names), "") if len(names) == 1 else "",
        names,
    )


def _kind(feature: Any) -> str:
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return f"number of one of {len(feature.names)} class names"
    plain = isinstance(feature, datasets.Value)
    return str(feature.dtype) if plain else type(feature).__name__.lower()
