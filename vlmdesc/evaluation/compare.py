"""Two evaluations held against each other, image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vlmdesc.errors import InputError
from vlmdesc.evaluation.predictions import PREDICTIONS, RESULTS, Marks, read_predictions
from vlmdesc.evaluation.run import Evaluation
from vlmdesc.evaluation.statistics import holm, interval, mcnemar, resampled_means
from vlmdesc.records import Report
from vlmdesc.records.report import Interval
from vlmdesc.text import counted, few


@dataclass(frozen=True)
class Side:
    """One of two evaluations; `unpaired` are its images that the other does not have."""

    results: str
    data: str
    data_hash: str
    encoder: str
    unpaired: int


@dataclass(frozen=True)
class Paired:
    """Top-1 of a method on the `n` images of both, b less a: interval, images fixed and broken, McNemar p, and Holm's.

    `forms` are the first texts of each.
    """

    method: str
    n: int
    a: float
    b: float
    delta: float
    ci95: Interval
    fixed: int
    broken: int
    p: float
    p_holm: float
    forms: tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, and the methods that they share, paired on the `n` images that they share."""

    a: Side
    b: Side
    n: int
    methods: tuple[Paired, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"schema": 1} | asdict(self)


def compare(
    a: Evaluation | str | Path,
    b: Evaluation | str | Path,
    methods: Sequence[str] = (),
    *,
    resamples: int = 2_000,
    seed: int = 0,
) -> Comparison:
    """The methods that two evaluations, or their folders, share, paired on the images they share; b less a.

    Images are known by content; one that stands k times in both is paired k times. Of controls the first seed is
    compared. Raises: InputError when nothing is shared, or an image has another label in b.
    """
    (name_a, report_a, answers_a), (name_b, report_b, answers_b) = _opened(a), _opened(b)
    shared = [name for name in answers_a if name in answers_b and (not methods or name in methods)]
    missing = [name for name in methods if name not in shared]
    if missing or not shared:
        has = f"{name_a} has {few(answers_a, 8)}; {name_b} has {few(answers_b, 8)}"
        what = f"not in both: {', '.join(missing)}" if missing else "no method in common"
        raise InputError(what, where=has, fix="evaluate both with the same --methods")
    rows = [_pair(name, answers_a[name], answers_b[name], resamples, seed) for name in shared]
    rows = [
        replace(
            row,
            p_holm=p,
            forms=(report_a.methods[row.method].prompt_form, report_b.methods[row.method].prompt_form),
        )
        for row, p in zip(rows, holm([row.p for row in rows]), strict=True)
    ]
    n = rows[0].n
    unpaired = [len(answers[shared[0]].contents) - n for answers in (answers_a, answers_b)]
    return Comparison(_side(name_a, report_a, unpaired[0]), _side(name_b, report_b, unpaired[1]), n, tuple(rows))


def _side(name: str, report: Report, unpaired: int) -> Side:
    return Side(name, report.task.data, report.task.data_hash, report.encoder.name, unpaired)


def _opened(source: Evaluation | str | Path) -> tuple[str, Report, dict[str, Marks]]:
    """What an evaluation is called, its report, and its answers."""
    if isinstance(source, Evaluation):
        images, ids = source.images, [class_.id for class_ in source.descriptors.classes]
        truths = tuple(ids[label] for label in images.labels)
        marks = {
            name: Marks(images.contents, truths, found[0].right(images.labels))
            for name, found in source.outcomes.items()
        }
        return source.report.task.name or source.data.name, source.report, marks
    folder = Path(source)
    folder = folder.parent if folder.name == RESULTS else folder
    return str(folder), Report.load(folder / RESULTS), read_predictions(folder / PREDICTIONS)


def _pair(name: str, a: Marks, b: Marks, resamples: int, seed: int) -> Paired:
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
    return Paired(
        name,
        len(in_a),
        round(float(first.mean()), 6),
        round(float(second.mean()), 6),
        round(float(delta.mean(dtype=np.float64)), 6),
        (round(low, 6), round(high, 6)),
        int((second & ~first).sum()),
        int((first & ~second).sum()),
        mcnemar(first, second),
        1.0,
        ("", ""),
    )


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
