"""predictions.parquet: what each method answered to each image, and why."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int

from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.errors import InputError
from vlmdesc.evaluation.outcomes import Outcome
from vlmdesc.files import write_atomic
from vlmdesc.records import ClassName

RESULTS, PREDICTIONS, ERRORS = "results.json", "predictions.parquet", "errors.jsonl"


@dataclass(frozen=True)
class Marks:
    """One method's answers as they were written: for each image its content hash, true class, whether it was right.

    (N,) each, in the order of the file.
    """

    contents: tuple[str, ...]
    truths: tuple[str, ...]
    right: Bool[np.ndarray, " n"]


def write_predictions(path: Path, images: Labelled, classes: Sequence[ClassName], outcomes: Sequence[Outcome]) -> None:
    """One row for each image and method (of a control its first seed); atomic, with checksums of every page.

    `ranked` are ids of the best classes, best first, `scores` theirs, `reasons` descriptors of the first one.
    Raises: StoreError.
    """
    ids = pa.array([class_.id for class_ in classes])
    buffer = io.BytesIO()
    schema = _table(images, ids, outcomes[0]).schema
    with pq.ParquetWriter(buffer, schema, compression="zstd", write_page_checksum=True) as writer:
        for outcome in outcomes:
            writer.write_table(_table(images, ids, outcome))
    write_atomic(path, buffer.getvalue())


def read_predictions(path: Path) -> dict[str, Marks]:
    """The answers of each method in a file. Raises: InputError when it is another file, or damaged."""
    wanted = ["content", "truth", "method", "right"]
    try:
        # From a buffer, since pyarrow takes no path that is not UTF-8.
        table = pq.read_table(pa.BufferReader(path.read_bytes()), columns=wanted, page_checksum_verification=True)
    except (OSError, pa.ArrowException, KeyError) as error:
        what = str(error).partition("\n")[0]
        raise InputError(f"no predictions can be read: {what}", where=path, fix="evaluate again") from error
    method = np.array(table["method"].to_pylist())
    columns = {name: np.array(table[name].to_pylist()) for name in ("content", "truth", "right")}
    return {
        str(name): Marks(
            tuple(columns["content"][method == name].tolist()),
            tuple(columns["truth"][method == name].tolist()),
            columns["right"][method == name].astype(bool),
        )
        for name in dict.fromkeys(method.tolist())
    }


def _table(images: Labelled, ids: pa.Array, outcome: Outcome) -> pa.Table:
    n, keys = len(images.labels), (key.encode("utf-8", "surrogateescape") for key in images.keys)
    columns = {
        "image": pa.array([key.decode("utf-8", "backslashreplace") for key in keys]),
        "content": pa.array(images.contents),
        "truth": pa.DictionaryArray.from_arrays(pa.array(images.labels.astype(np.int32)), ids),
        "group": pa.array(images.groups, pa.string()).dictionary_encode(),
        "method": pa.array([outcome.method.name] * n).dictionary_encode(),
        "seed": pa.array([outcome.seed] * n, pa.int64()),
        "right": pa.array(outcome.right(images.labels)),
        "ranked": _lists(outcome.ranked, ids),
        "scores": pa.ListArray.from_arrays(_offsets(np.full(n, outcome.scores.shape[1])), outcome.scores.ravel()),
        "confidence": pa.array(outcome.confidence),
        "reasons": _lists(outcome.reasons, pa.array([*outcome.texts] or [""])),
    }
    return pa.table(columns)


def _lists(numbers: Int[np.ndarray, "n k"], names: pa.Array) -> pa.ListArray:
    """Lists of names by number; -1 is left out."""
    flat = pa.DictionaryArray.from_arrays(pa.array(numbers[numbers >= 0].astype(np.int32)), names)
    return pa.ListArray.from_arrays(_offsets((numbers >= 0).sum(axis=1)), flat)


def _offsets(lengths: Int[np.ndarray, " n"]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
