"""Whom a classifier fails: rates by class and group with intervals, gaps between groups, and corrected tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.errors import InputError
from vlmdesc.evaluation.proportions import ENOUGH, Share, difference
from vlmdesc.evaluation.statistics import fisher, holm

CLAIM = 0.05


@dataclass(frozen=True)
class Gap:
    """A share in a group against the same of all other groups: difference, 95 % interval, Fisher's exact p, Holm's."""

    here: Share
    others: Share
    p: float = 1.0
    p_holm: float = 1.0

    @property
    def judged(self) -> bool:
        """Whether both sides have enough images to be compared."""
        return self.here.judged and self.others.judged

    @property
    def value(self) -> float:
        return self.here.value - self.others.value

    @property
    def ci95(self) -> tuple[float, float]:
        return difference(self.here, self.others)

    @property
    def differs(self) -> bool:
        """Whether the groups differ by more than chance, with all tests that were made counted."""
        return self.judged and self.p_holm < CLAIM


@dataclass(frozen=True)
class Cell:
    """A class in a group: its images that are found, the true-positive rate, and others taken for it, the
    false-positive rate. The false-negative rate is 1 less the first.
    """

    class_: int
    group: str
    tpr: Gap
    fpr: Gap

    @property
    def failed(self) -> bool:
        """Whether the class is found less often in this group than in the others."""
        return self.tpr.differs and self.tpr.value < 0

    @property
    def crowded(self) -> bool:
        """Whether other classes' images are taken for it more often in this group than in the others."""
        return self.fpr.differs and self.fpr.value > 0


@dataclass(frozen=True)
class Skew:
    """MaxSkew@k of a class: how far the group that is shown most beyond its share is so among the k best (Geyik 2019).

    0 where groups are shown as the class has them; log 2 where one is shown twice as often.
    """

    class_: int
    k: int
    group: str
    value: float


@dataclass(frozen=True)
class Audit:
    """Accuracy overall and by group, each class in each group, retrieval skew; groups that are too small stand apart.

    The most and the least of several groups differ by chance too: which do by more than that, `failed` says.
    """

    overall: Share
    groups: dict[str, Gap]
    cells: tuple[Cell, ...]
    skews: tuple[Skew, ...]
    ungrouped: int

    @property
    def worst_group(self) -> str | None:
        """Of the groups that can be judged, the one of lowest accuracy."""
        judged = [group for group, gap in self.groups.items() if gap.here.judged]
        return min(judged, key=lambda group: self.groups[group].here.value, default=None)

    @property
    def worst_cell(self) -> Cell | None:
        """Of the classes in groups that can be judged, the one that is found least: worst-group accuracy."""
        judged = [cell for cell in self.cells if cell.tpr.here.judged]
        return min(judged, key=lambda cell: cell.tpr.here.value, default=None)

    @property
    def failed(self) -> list[Cell]:
        """Classes that are found less often in a group, largest gap first; then those that others are taken for."""
        lost = sorted((cell for cell in self.cells if cell.failed), key=lambda cell: cell.tpr.value)
        crowded = (cell for cell in self.cells if cell.crowded and not cell.failed)
        return lost + sorted(crowded, key=lambda cell: -cell.fpr.value)

    @property
    def small(self) -> list[Cell]:
        """Classes in groups with images, but too few to judge how often they are found."""
        return [cell for cell in self.cells if 0 < cell.tpr.here.n < ENOUGH]

    def equal_opportunity(self) -> dict[int, list[Cell]]:
        """For each class with two groups that can be judged or more, its cells, the one that is found least first."""
        judged = dict[int, list[Cell]]()
        for cell in self.cells:
            if cell.tpr.here.judged:
                judged.setdefault(cell.class_, []).append(cell)
        return {c: sorted(cells, key=lambda cell: cell.tpr.here.value) for c, cells in judged.items() if len(cells) > 1}


def audit(
    answers: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    groups: Sequence[str | None],
    classes: Sequence[int],
    scores: Float32[np.ndarray, "n k"] | None = None,
    k: int | None = None,
) -> Audit:
    """Compare groups within classes; `classes` are the numbers of those looked at.

    With `scores` (N, K), of the classes in that order, also how the best k images of each are spread over groups; k
    is by default the number of the class's images, so that perfect retrieval has no skew. Three families of tests are
    corrected by Holm, each by itself: groups, what is found of classes in them, and what is taken for these.
    Raises: InputError when no image has a group, or all have the same.
    """
    names = sorted({group for group in groups if group is not None})
    if len(names) < 2:
        what = f"one group only: {names[0]}" if names else "no image has a group"
        raise InputError(what, fix="use --group-column with a column that divides the images, or --group-by-concepts")
    number = {name: g for g, name in enumerate(names)}
    group = np.array([-1 if name is None else number[name] for name in groups], np.intp)
    known = group >= 0
    answers, labels, group = answers[known], labels[known], group[known]
    n = _counts(labels, group, classes, names)
    hits = _counts(np.where(answers == labels, labels, -1), group, classes, names)
    wrong = _counts(np.where(answers != labels, answers, -1), group, classes, names)
    sizes, right = np.bincount(group, minlength=len(names)), np.bincount(group[answers == labels], minlength=len(names))
    cells = [
        Cell(c, names[g], _gap(hits[i], n[i], g), _gap(wrong[i], sizes - n[i], g))
        for i, c in enumerate(classes)
        for g in np.flatnonzero(n[i] + wrong[i]).tolist()
    ]
    # Each family of tests is corrected by itself: for groups, for what is found, for what is taken for a class. Of two
    # groups, the one against the other and the other against the one are the same test.
    tests = [(cell.class_, cell.group if len(names) > 2 else "") for cell in cells]
    tprs, fprs = (_corrected([getattr(cell, rate) for cell in cells], tests) for rate in ("tpr", "fpr"))
    of_groups = _corrected([_gap(right, sizes, g) for g in range(len(names))], names if len(names) > 2 else [""] * 2)
    return Audit(
        Share(int(right.sum()), len(labels)),
        dict(zip(names, of_groups, strict=True)),
        tuple(replace(cell, tpr=tpr, fpr=fpr) for cell, tpr, fpr in zip(cells, tprs, fprs, strict=True)),
        () if scores is None else _skews(scores[known], labels, group, names, classes, k),
        int((~known).sum()),
    )


def _counts(
    classes_of: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"], classes: Sequence[int], names: Sequence[str]
) -> Int[np.ndarray, "c g"]:
    """How many images of each of those classes there are in each group; -1 is an image of none: (C, G)."""
    counts = np.zeros((max([*classes, int(classes_of.max(initial=-1))]) + 1, len(names)), np.intp)
    some = classes_of >= 0
    np.add.at(counts, (classes_of[some], group[some]), 1)
    return counts[[*classes]]


def _gap(hits: Int[np.ndarray, " g"], n: Int[np.ndarray, " g"], g: int) -> Gap:
    """The share of hits in group g and in all others."""
    here, all_ = (int(hits[g]), int(n[g])), (int(hits.sum()), int(n.sum()))
    gap = Gap(Share(*here), Share(all_[0] - here[0], all_[1] - here[1]))
    if not gap.judged:
        return gap
    sides = (gap.here.k, gap.here.n - gap.here.k, gap.others.k, gap.others.n - gap.others.k)
    return replace(gap, p=fisher(*sides))


def _corrected(gaps: Sequence[Gap], tests: Sequence[Any]) -> list[Gap]:
    """With Holm's correction over the tests of those that are judged; `tests` tells which gaps share one."""
    p_values = {test: gap.p for gap, test in zip(gaps, tests, strict=True) if gap.judged}
    adjusted = dict(zip(p_values, holm([*p_values.values()]), strict=True))
    return [replace(gap, p_holm=adjusted[test] if gap.judged else 1.0) for gap, test in zip(gaps, tests, strict=True)]


def _skews(
    scores: Float32[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    group: Int[np.ndarray, " n"],
    names: Sequence[str],
    classes: Sequence[int],
    k: int | None,
) -> tuple[Skew, ...]:
    """Log of a group's share of the k best images over its share of the class's own, the largest over groups.

    Only groups that the class has are looked at: images of others are plain errors.
    """
    skews = []
    for at, class_ in enumerate(classes):
        wanted = np.bincount(group[labels == class_], minlength=len(names))
        n = min(k or int(wanted.sum()), len(group))
        best = group[np.argsort(-scores[:, at], kind="stable")[:n]]
        shown = np.bincount(best, minlength=len(names)) * (wanted > 0)
        if wanted.sum() < ENOUGH or not shown.any() or (wanted > 0).sum() < 2:
            continue
        has = np.flatnonzero(wanted)
        ratio = (shown[has] / shown.sum()) / (wanted[has] / wanted.sum())
        worst = int(ratio.argmax())
        skews.append(Skew(class_, n, names[int(has[worst])], log(ratio[worst])))
    return tuple(skews)
