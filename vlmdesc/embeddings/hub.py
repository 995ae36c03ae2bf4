"""Data sets that `datasets` reads: what its `save_to_disk` wrote, and the hub's.

Images stay bytes or paths: each is decoded by our own rules, and one that is broken costs itself only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vlmdesc.embeddings.shards import only, unreadable
from vlmdesc.embeddings.tables import Row, Table, pick_split
from vlmdesc.errors import EndpointError, InputError, VlmdescError, check_proxies

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

T = TypeVar("T")


def read_saved(folder: Path, split: str) -> Table:
    """What `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; mapped, not loaded. Raises: InputError."""
    return read_loaded(_asked(folder, lambda datasets: datasets.load_from_disk(str(folder))), split, folder)


def read_loaded(loaded: Any, split: str, where: object) -> Table:
    """A `datasets.Dataset`, or one of a `DatasetDict`, saved in the folder `where` or in memory. Raises: InputError."""
    splits: tuple[str, ...] = ()
    if isinstance(loaded, dict):
        splits = tuple(loaded)
        split = pick_split(splits, split, where)
        loaded = loaded[split]
    form, folder = ("saved data set", where) if isinstance(where, Path) else ("data set", Path())
    return _table(loaded.with_format(None), form, folder, where, splits, split)


def read_hub(name: str, split: str) -> Table:
    """A data set of the Hugging Face hub, ORG/NAME or ORG/NAME:CONFIG; what is downloaded stays in the hub's cache.

    Raises: EndpointError when the hub does not answer or has no such data set; InputError for a split it has not, and
    for a proxy that cannot be used.
    """
    check_proxies("HF_ENDPOINT")
    repository, _, config = name.partition(":")

    def ask(what: Callable[[ModuleType], T]) -> T:
        try:
            return _asked(name, what)
        except InputError as error:
            fix = "check the spelling, or that the hub can be reached; a local path must exist"
            raise EndpointError(
                f"no such file or folder here, and from the hub: {error.what}", where=name, fix=fix
            ) from error

    splits = ask(lambda datasets: datasets.get_dataset_split_names(repository, config or None))
    split = pick_split(splits, split, name)
    loaded = ask(lambda datasets: datasets.load_dataset(repository, config or None, split=split))
    return _table(loaded, "hub data set", Path(), name, tuple(splits), split)


def _asked(where: object, ask: Callable[[ModuleType], T]) -> T:
    """`ask(datasets)`, with whatever it raises as an error of ours."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.disable_progress_bars()
    for talker in ("datasets", "huggingface_hub"):
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    try:
        return ask(datasets)
    except VlmdescError:
        raise
    except Exception as error:  # it raises nearly anything
        raise unreadable(error, where) from error


def _table(loaded: Any, form: str, folder: Path, where: object, splits: tuple[str, ...], split: str) -> Table:
    import datasets

    features: Mapping[str, Any] = loaded.features
    images = tuple(name for name, kind in features.items() if isinstance(kind, datasets.Image))
    packed = tuple(name for name, kind in features.items() if isinstance(kind, dict) and {"bytes", "path"} == set(kind))
    names = {name: kind.names for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    binary = tuple(name for name, kind in features.items() if getattr(kind, "dtype", "") in ("binary", "large_binary"))
    for name in images:
        loaded = loaded.cast_column(name, datasets.Image(decode=False))

    return Table(
        form,
        {name: _kind(kind) for name, kind in features.items()},
        partial(_rows, loaded, where),
        folder,
        len(loaded),
        splits,
        split,
        images or packed or binary,
        only(names),
        names,
    )


def _rows(loaded: Any, where: object, columns: Sequence[str]) -> Iterator[Row]:
    try:
        yield from loaded.select_columns(list(columns))
    except Exception as error:  # truncated in the middle, or changed since it was opened
        raise unreadable(error, where) from error


def _kind(feature: Any) -> str:
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return f"number of one of {len(feature.names)} class names"
    plain = isinstance(feature, datasets.Value)
    return str(feature.dtype) if plain else type(feature).__name__.lower()
