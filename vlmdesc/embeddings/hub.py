"""Data sets that `datasets` reads: in memory, what its `save_to_disk` wrote, and the hub's.

Images stay bytes or paths: each is decoded by our own rules, and one that is broken costs itself only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from vlmdesc.embeddings.shards import of_arrow, reading
from vlmdesc.embeddings.tables import Row, Table, pick_split
from vlmdesc.errors import EndpointError, InputError, check_proxies


def read_saved(folder: Path, split: str) -> Table:
    """What `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; mapped, not loaded. Raises: InputError."""
    with reading(folder):
        datasets = _quiet()
        loaded = datasets.load_from_disk(str(folder))
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

    datasets = _quiet()
    with _asking(name):
        splits = tuple(datasets.get_dataset_split_names(repository, config or None))
    split = pick_split(splits, split, name)
    with _asking(name):
        loaded = datasets.load_dataset(repository, config or None, split=split)
    return replace(read_loaded(loaded, "", name), form="hub data set", splits=splits, split=split)


@contextmanager
def _asking(name: str) -> Iterator[None]:
    try:
        with reading(name):
            yield
    except InputError as error:
        what = f"no such file or folder here, and from the hub: {error.what}"
        fix = "check the spelling, or that the hub can be reached; a local path must exist"
        raise EndpointError(what, where=name, fix=fix) from error


def _quiet() -> ModuleType:
    """`datasets`, which otherwise talks."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.disable_progress_bars()
    for talker in ("datasets", "huggingface_hub"):
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    return datasets


def _rows(loaded: Any, where: object, columns: Sequence[str]) -> Iterator[Row]:
    with reading(where):
        yield from loaded.select_columns(list(columns))
