"""Two evaluations held against each other, image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vlmdesc.errors import InputError
from vlmdesc.evaluation.predictions import Marks, read_predictions
from vlmdesc.evaluation.statistics import holm, interval, mcnemar, resampled_means
from vlmdesc.records import Report
from vlmdesc.text import counted, few

RESULTS, PREDICTIONS = "results.json", "predictions.parquet"


def compare(a: Path, b: Path, methods: Sequence[str] = (), resamples: int = 2_000, seed: int = 0) -> dict[str, Any]:
    """The methods that two result folders share, paired on the images they share; differences are b less a.

    Images are known by content; one that stands k times in both is paired k times. Of controls the first seed is
    compared. Raises: InputError when nothing is shared, or an image has another label in b.
    """
    a, b = (path.parent if path.name == RESULTS else path for path in (a, b))
    reports = [Report.load(folder / RESULTS) for folder in (a, b)]
    answers = [read_predictions(folder / PREDICTIONS) for folder in (a, b)]
    shared = [name for name in answers[0] if name in answers[1] and (not methods or name in methods)]
    missing = [name for name in methods if name not in shared]
    if missing or not shared:
        has = "; ".join(f"{folder} has {few(found, 8)}" for folder, found in zip((a, b), answers, strict=True))
        what = f"not in both: {', '.join(missing)}" if missing else "no method in common"
        raise InputError(what, where=has, fix="evaluate both with the same --methods")
    rows = [_row(name, answers[0][name], answers[1][name], resamples, seed) for name in shared]
    adjusted = holm([row["p"] for row in rows])
    first = [found[shared[0]] for found in answers]
    n = rows[0]["n"]
    return {
        "schema": 1,
        "a": _about(a, reports[0], len(first[0].contents) - n),
        "b": _about(b, reports[1], len(first[1].contents) - n),
        "n": n,
        "methods": [
            row | {"p_holm": p, "forms": [report.methods[row["method"]]["prompt_form"] for report in reports]}
            for row, p in zip(rows, adjusted, strict=True)
        ],
    }


def _about(folder: Path, report: Report, unpaired: int) -> dict[str, Any]:
    return {
        "results": str(folder),
        "data": report.task["data"],
        "data_hash": report.task["data_hash"],
        "encoder": report.encoder["name"],
        "unpaired": unpaired,
    }


def _row(name: str, a: Marks, b: Marks, resamples: int, seed: int) -> dict[str, Any]:
    in_a, in_b = pair(a.contents, b.contents)
    if not len(in_a):
        raise InputError("no image in common", where=name, fix="compare evaluations of the same images")
    differ = [i for i, j in zip(in_a, in_b, strict=True) if a.truths[i] != b.truths[j]]
    if differ:
        what = f"{counted(len(differ), 'image')} under another label in the second"
        raise InputError(what, where=f"'{a.truths[differ[0]]}' in the first", fix="evaluate both with the same labels")
    labels = np.unique([a.truths[i] for i in in_a], return_inverse=True)[1]
    first, second = a.right[in_a], b.right[in_b]
    delta = (second.astype(np.float32) - first)[:, None]
    low, high = interval(resampled_means(delta, labels, resamples, seed)[:, 0])
    return {
        "method": name,
        "n": len(in_a),
        "a": round(float(first.mean()), 6),
        "b": round(float(second.mean()), 6),
        "delta": round(float(delta.mean(dtype=np.float64)), 6),
        "ci95": [round(low, 6), round(high, 6)],
        "fixed": int((second & ~first).sum()),
        "broken": int((first & ~second).sum()),
        "p": mcnemar(first, second),
    }


def pair(a: Sequence[str], b: Sequence[str]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Places in a and in b of what stands in both, the k-th time with the k-th: (n,) each, in the order of a.

    >>> [places.tolist() for places in pair("xyxz", "zxxx")]
    [[0, 2, 3], [1, 2, 0]]
    """
    place = {key: i for i, key in enumerate(_numbered(b))}
    shared = [(i, place[key]) for i, key in enumerate(_numbered(a)) if key in place]
    found = np.array(shared, np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _numbered(contents: Sequence[str]) -> list[tuple[str, int]]:
    seen = Counter[str]()
    numbered = []
    for content in contents:
        numbered.append((content, seen[content]))
        seen[content] += 1
    return numbered
