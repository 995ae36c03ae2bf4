"""Data sets that `datasets` reads: in memory, what its `save_to_disk` wrote, and the hub's.

Images stay bytes or paths: each is decoded by our own rules, and one that is broken costs itself only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vlmdesc.embeddings.shards import of_arrow, unreadable
from vlmdesc.embeddings.tables import Row, Table, pick_split
from vlmdesc.errors import EndpointError, InputError, VlmdescError, check_proxies

T = TypeVar("T")


def read_saved(folder: Path, split: str) -> Table:
    """What `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; mapped, not loaded. Raises: InputError."""
    loaded = _asked(folder, lambda datasets: datasets.load_from_disk(str(folder)))
    return replace(read_loaded(loaded, split, folder), form="saved data set", folder=folder)


def read_loaded(loaded: Any, split: str, where: object = "data set") -> Table:
    """A `datasets.Dataset`, or one of a `DatasetDict`. Raises: InputError."""
    import datasets

    if isinstance(loaded, dict):
        splits = tuple(loaded)
        split = pick_split(splits, split, where)
        return replace(read_loaded(loaded[split], "", where), splits=splits, split=split)
    loaded = loaded.with_format(None)
    for name, kind in loaded.features.items():
        if isinstance(kind, datasets.Image):
            loaded = loaded.cast_column(name, datasets.Image(decode=False))
    return of_arrow("data set", loaded.features.arrow_schema, partial(_rows, loaded, where), Path(), len(loaded))


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
            said = f"no such file or folder here, and from the hub: {error.what}"
            fix = "check the spelling, or that the hub can be reached; a local path must exist"
            raise EndpointError(said, where=name, fix=fix) from error

    splits = tuple(ask(lambda datasets: datasets.get_dataset_split_names(repository, config or None)))
    split = pick_split(splits, split, name)
    loaded = ask(lambda datasets: datasets.load_dataset(repository, config or None, split=split))
    return replace(read_loaded(loaded, "", name), form="hub data set", splits=splits, split=split)


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


def _rows(loaded: Any, where: object, columns: Sequence[str]) -> Iterator[Row]:
    try:
        yield from loaded.select_columns(list(columns))
    except Exception as error:  # truncated in the middle, or changed since it was opened
        raise unreadable(error, where) from error
