"""Two evaluations held against each other, image by image."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from vlmdesc.errors import InputError
from vlmdesc.evaluation.predictions import PREDICTIONS, RESULTS, Marks, read_predictions
from vlmdesc.evaluation.run import Evaluation
from vlmdesc.evaluation.statistics import holm, interval, mcnemar, resampled_means
from vlmdesc.records import Report
from vlmdesc.records.report import Interval
from vlmdesc.text import counted, few

RESAMPLES = 2_000


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

    def __repr__(self) -> str:
        return f"<Comparison of {counted(len(self.methods), 'method')} on {counted(self.n, 'image')}>"


class _Side(NamedTuple):
    """What an evaluation is called, its report, and its answers by method."""

    name: str
    report: Report
    answers: dict[str, Marks]

    def side(self, method: str, n: int) -> Side:
        task, images = self.report.task, len(self.answers[method].contents)
        return Side(self.name, task.data, task.data_hash, self.report.encoder.name, images - n)


def compare(a: Evaluation | str | Path, b: Evaluation | str | Path, methods: Sequence[str] = ()) -> Comparison:
    """The methods that two evaluations, or their folders, share, paired on the images they share; b less a.

    Images are known by content; one that stands k times in both is paired k times. Of controls the first seed is
    compared. Raises: InputError when nothing is shared, or an image has another label in b.
    """
    first, second = _open(a), _open(b)
    shared = [name for name in first.answers if name in second.answers and (not methods or name in methods)]
    missing = [name for name in methods if name not in shared]
    if missing or not shared:
        has = "; ".join(f"{found.name} has {few(found.answers, 8)}" for found in (first, second))
        what = f"not in both: {', '.join(missing)}" if missing else "no method in common"
        raise InputError(what, where=has, fix="evaluate both with the same --methods")
    rows = [_pair(name, first, second) for name in shared]
    adjusted = holm([row.p for row in rows])
    rows = [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]
    n = rows[0].n
    return Comparison(first.side(shared[0], n), second.side(shared[0], n), n, tuple(rows))


def _open(source: Evaluation | str | Path) -> _Side:
    if isinstance(source, Evaluation):
        images, ids = source.images, [class_.id for class_ in source.descriptors.classes]
        truths = tuple(ids[label] for label in images.labels)
        right = {name: found[0].right(images.labels) for name, found in source.outcomes.items()}
        marks = {name: Marks(images.contents, truths, of) for name, of in right.items()}
        return _Side(source.report.task.name or source.data.name, source.report, marks)
    given: object = source
    if not isinstance(given, (str, Path)):
        what = f"{type(given).__name__} where an evaluation is meant"
        raise InputError(what, fix="give what evaluate gives, or the folder that it was saved to")
    folder = Path(given)
    folder = folder.parent if folder.name == RESULTS else folder
    return _Side(str(folder), Report.load(folder / RESULTS), read_predictions(folder / PREDICTIONS))


def _pair(name: str, first: _Side, second: _Side) -> Paired:
    a, b = first.answers[name], second.answers[name]
    in_a, in_b = pair(a.contents, b.contents)
    if not len(in_a):
        raise InputError("no image in common", where=name, fix="compare evaluations of the same images")
    differ = [i for i, j in zip(in_a, in_b, strict=True) if a.truths[i] != b.truths[j]]
    if differ:
        what = f"{counted(len(differ), 'image')} under another label in the second"
        raise InputError(what, where=f"'{a.truths[differ[0]]}' in the first", fix="evaluate both with the same labels")
    labels = np.unique([a.truths[i] for i in in_a], return_inverse=True)[1]
    was, is_ = a.right[in_a], b.right[in_b]
    delta = (is_.astype(np.float32) - was)[:, None]
    low, high = interval(resampled_means(delta, labels, RESAMPLES, 0)[:, 0])
    p = mcnemar(was, is_)
    return Paired(
        name,
        len(in_a),
        round(float(was.mean()), 6),
        round(float(is_.mean()), 6),
        round(float(delta.mean(dtype=np.float64)), 6),
        (round(low, 6), round(high, 6)),
        int((is_ & ~was).sum()),
        int((was & ~is_).sum()),
        p,
        p,
        (first.report.methods[name].prompt_form, second.report.methods[name].prompt_form),
    )


def pair(a: Sequence[str], b: Sequence[str]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Places in a and in b of what stands in both, the k-th time with the k-th: (n,) each, in the order of a.

    >>> [places.tolist() for places in pair("xyxz", "zxxx")]
    [[0, 2, 3], [1, 2, 0]]
    """
    places = defaultdict[str, deque[int]](deque)
    for j, key in enumerate(b):
        places[key].append(j)
    shared = [(i, places[key].popleft()) for i, key in enumerate(a) if places[key]]
    found = np.array(shared, np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]
