"""How answers differ between groups of images: rates with intervals, gaps between groups, and corrected tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isnan, log
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.errors import InputError
from vlmdesc.evaluation.proportions import ENOUGH, Share, difference
from vlmdesc.evaluation.statistics import fisher, holm

CLAIM = 0.05
Record = dict[str, Any]


@dataclass(frozen=True)
class ShareGap:
    """A share in a group against the same of all other groups: difference, 95 % interval, Fisher's exact p, Holm's."""

    here: Share
    others: Share
    p_holm: float = 1.0

    @property
    def judged(self) -> bool:
        """Whether both sides have enough images to be compared."""
        return self.here.judged and self.others.judged

    @property
    def p(self) -> float:
        """Fisher's exact p that both shares are one; 1 where they cannot be compared."""
        sides = (self.here.k, self.here.n - self.here.k, self.others.k, self.others.n - self.others.k)
        return fisher(*sides) if self.judged else 1.0

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

    def to_dict(self) -> Record:
        """The share here, with what sets it apart from the other groups where there are enough images to judge."""
        found = share_record(self.here) | {"judged": self.judged}
        if not self.judged:
            return found
        gap = {"gap": round(self.value, 6), "gap_ci95": round_all(self.ci95)}
        return found | gap | {"p": self.p, "p_holm": self.p_holm, "differs": self.differs}


@dataclass(frozen=True)
class Cell:
    """A class in a group: its images that are found, the true-positive rate, and others taken for it, the
    false-positive rate. The false-negative rate is 1 less the first.
    """

    class_: int
    group: str
    tpr: ShareGap
    fpr: ShareGap

    @property
    def failed(self) -> bool:
        """Whether the class is found less often in this group than in the others."""
        return self.tpr.differs and self.tpr.value < 0

    @property
    def crowded(self) -> bool:
        """Whether other classes' images are taken for it more often in this group than in the others."""
        return self.fpr.differs and self.fpr.value > 0

    def rates(self) -> Record:
        """True positives, false negatives and false positives, as shares with their intervals."""
        missed = Share(self.tpr.here.n - self.tpr.here.k, self.tpr.here.n)
        return {"tpr": self.tpr.to_dict(), "fnr": share_record(missed), "fpr": self.fpr.to_dict()}


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
class Disparity:
    """Accuracy overall and by group, each class in each group, retrieval skew; groups that are too small stand apart.

    The most and the least of several groups differ by chance too: which do by more than that, `failed` says.
    """

    overall: Share
    groups: dict[str, ShareGap]
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


def compare_groups(
    answers: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    groups: Sequence[str | None],
    classes: Sequence[int],
    scores: Float32[np.ndarray, "n k"] | None = None,
    k: int | None = None,
) -> Disparity:
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
    known = np.array([name is not None for name in groups])
    group = np.array([number[name] for name in groups if name is not None], np.intp)
    answers, labels = answers[known], labels[known]
    right, shape = answers == labels, (max(*classes, int(answers.max()), int(labels.max())) + 1, len(names))

    def count(of: Int[np.ndarray, " n"], where: Bool[np.ndarray, " n"] | slice) -> Int[np.ndarray, "k g"]:
        numbers = np.ravel_multi_index((of[where], group[where]), shape)
        return np.bincount(numbers, minlength=shape[0] * shape[1]).reshape(shape)[[*classes]]

    n, hits, wrong = count(labels, slice(None)), count(labels, right), count(answers, ~right)
    sizes, found = np.bincount(group, minlength=len(names)), np.bincount(group[right], minlength=len(names))
    at = [(i, g) for i in range(len(classes)) for g in np.flatnonzero(n[i] + wrong[i]).tolist()]
    # Of two groups, the one against the other and the other against the one are the same test.
    tests = [(i, g if len(names) > 2 else 0) for i, g in at]
    tprs = _correct([_gap(hits[i], n[i], g) for i, g in at], tests)
    fprs = _correct([_gap(wrong[i], sizes - n[i], g) for i, g in at], tests)
    of_groups = [_gap(found, sizes, g) for g in range(len(names))]
    of_groups = _correct(of_groups, [(0, g if len(names) > 2 else 0) for g in range(len(names))])
    return Disparity(
        Share(int(right.sum()), len(labels)),
        dict(zip(names, of_groups, strict=True)),
        tuple(Cell(classes[i], names[g], tpr, fpr) for (i, g), tpr, fpr in zip(at, tprs, fprs, strict=True)),
        () if scores is None else _skews(scores[known], labels, group, names, classes, k),
        int((~known).sum()),
    )


def _gap(hits: Int[np.ndarray, " g"], n: Int[np.ndarray, " g"], g: int) -> ShareGap:
    """The share of hits in group g and in all others."""
    here = Share(int(hits[g]), int(n[g]))
    return ShareGap(here, Share(int(hits.sum()) - here.k, int(n.sum()) - here.n))


def _correct(gaps: Sequence[ShareGap], tests: Sequence[tuple[int, int]]) -> list[ShareGap]:
    """With Holm's correction over the tests of those that are judged; `tests` tells which gaps share one."""
    p_values = {test: gap.p for gap, test in zip(gaps, tests, strict=True) if gap.judged}
    adjusted = dict(zip(p_values, holm([*p_values.values()]), strict=True))
    return [replace(gap, p_holm=adjusted[test]) if gap.judged else gap for gap, test in zip(gaps, tests, strict=True)]


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
        has = np.flatnonzero(wanted)
        shown = np.bincount(best, minlength=len(names))[has]
        if wanted.sum() < ENOUGH or not shown.any() or len(has) < 2:
            continue
        ratio = (shown / shown.sum()) / (wanted[has] / wanted.sum())
        worst = int(ratio.argmax())
        skews.append(Skew(class_, n, names[int(has[worst])], log(ratio[worst])))
    return tuple(skews)


def share_record(share: Share) -> Record:
    """A share as JSON has it: null of no images."""
    value = None if isnan(share.value) else round(share.value, 6)
    return {"n": share.n, "value": value, "ci95": round_all(share.ci95)}


def round_all(values: Iterable[float]) -> list[float]:
    """To six digits, as all figures of JSON are."""
    return [round(value, 6) for value in values]
