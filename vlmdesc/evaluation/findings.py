"""An audit as JSON has it: figures, and for each class that fails a group the descriptors and images that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from jaxtyping import Bool

from vlmdesc.classification.explain import Without, leave_out
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation.audit import Audit, Cell, Gap
from vlmdesc.evaluation.lift import Lift, lifts, rivals
from vlmdesc.evaluation.proportions import Share, difference
from vlmdesc.evaluation.scored import Scored
from vlmdesc.records import ClassName

EXAMPLES, LIFTS = 8, 10
MOST = 20  # failed classes that are explained


@dataclass(frozen=True)
class Audited:
    """Images that were audited, with a head's answers to them."""

    seen: Scored
    audit: Audit

    @property
    def photos(self) -> Labelled:
        return self.seen.images

    @property
    def classes(self) -> Sequence[ClassName]:
        return self.seen.head.card.classes

    def findings(self) -> dict[str, Any]:
        """The whole audit, ready for JSON."""
        found = self.audit
        worst, failed = found.worst_cell, found.failed
        return {
            "schema": 1,
            "n": found.overall.n,
            "unusable": len(self.photos.failed),
            "unlabelled": self.photos.unlabelled,
            "pulls_defined": self.seen.head.card.kind != "max",
            "ungrouped": found.ungrouped,
            "accuracy": _share(found.overall),
            "groups": [{"group": name, **_gap(gap)} for name, gap in found.groups.items()],
            "worst_group": found.worst_group,
            "worst_class_in_group": worst and {**self._cell(worst), "accuracy": _share(worst.tpr.here)},
            "equal_opportunity": self._opportunity(),
            "max_skew": self._skew(),
            "failed": [self._failure(cell) for cell in failed[:MOST]],
            "failed_in_all": len(failed),
            "judged": sum(cell.tpr.judged for cell in found.cells),
            "cells": [{**self._cell(cell), **_rates(cell)} for cell in found.cells],
            "too_small": [{**self._cell(cell), "n": cell.tpr.here.n} for cell in found.small],
        }

    def _cell(self, cell: Cell) -> dict[str, Any]:
        return {**self._class(cell.class_), "group": cell.group}

    def _class(self, c: int) -> dict[str, str]:
        return {"class": self.classes[c].id, "name": self.classes[c].name}

    def _opportunity(self) -> dict[str, Any]:
        """For each class how far the group that is found least is behind the one that is found most, largest first."""
        rows, gaps = list[dict[str, Any]](), list[float]()
        for class_, cells in self.audit.equal_opportunity().items():
            a, b = cells[-1].tpr.here, cells[0].tpr.here
            gaps.append(a.value - b.value)
            ends = [round(end, 6) for end in difference(a, b)]
            rows.append(
                {
                    **self._class(class_),
                    "gap": round(gaps[-1], 6),
                    "ci95": ends if len(cells) == 2 else None,  # of the ends of several an interval says nothing
                    "least": {"group": cells[0].group, **_share(b)},
                    "most": {"group": cells[-1].group, **_share(a)},
                }
            )
        return _spread(gaps) | {"classes": sorted(rows, key=lambda row: -row["gap"])}

    def _skew(self) -> dict[str, Any]:
        skews = sorted(self.audit.skews, key=lambda skew: -skew.value)
        rows = [{**self._class(s.class_), "k": s.k, "group": s.group, "value": round(s.value, 6)} for s in skews]
        return _spread([skew.value for skew in skews]) | {"classes": rows}

    def _failure(self, cell: Cell) -> dict[str, Any]:
        """What misleads, and the images that show it: those not found, or else those of others taken for it."""
        labels, answers = self.photos.labels, self.seen.answers
        here = np.array([group == cell.group for group in self.photos.groups])
        known = np.array([group is not None for group in self.photos.groups])
        among = known & ((labels == cell.class_) if cell.failed else (labels != cell.class_))
        wrong = among & here & ((answers != labels) if cell.failed else (answers == cell.class_))
        found = rivals(answers, labels, among & here) if cell.failed else []
        return {
            **self._cell(cell),
            "how": "not found" if cell.failed else "others taken for it",
            **_rates(cell),
            "taken_for": [{**self._class(rival), "n": n} for rival, n in found],
            "pulls": self._misleading(cell, among, here, [rival for rival, _ in found]),
            "images": self._images(wrong),
        }

    def _misleading(
        self, cell: Cell, among: Bool[np.ndarray, " n"], here: Bool[np.ndarray, " n"], others: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Parts without which more of the group would be right, or that do worse here than in other groups."""
        sides = [(cell.class_, 1), *((rival, -1) for rival in others)] if cell.failed else [(cell.class_, -1)]
        known, rows = np.array([group is not None for group in self.photos.groups]), list[dict[str, Any]]()
        for class_, sign in sides:
            left, only_with, only_without = self._left_out(class_)
            found = lifts(left.take(among), class_, here[among], sign)
            for lift, with_, without in zip(found, only_with.T, only_without.T, strict=True):
                net = int(with_[here].sum() - without[here].sum())
                if lift.wrong or net < 0:
                    figures = {"right_only_with": with_, "right_only_without": without}
                    counts = {key: _both(of[here].sum(), of[known & ~here].sum()) for key, of in figures.items()}
                    rows.append({**self._class(class_), **_lift(lift), **counts, "net": net})
        return sorted(rows, key=lambda row: (row["net"], -row["worse_by"]))[:LIFTS]

    def _left_out(self, class_: int) -> tuple[Without, Bool[np.ndarray, "n r"], Bool[np.ndarray, "n r"]]:
        """A class's scores without each of its parts, and which images are right only with it, or only without it."""
        left, now = leave_out(self.seen.head, self.photos.vectors, class_), ~self.seen.wrong[:, None]
        same = left.without == left.score[:, None]
        after = np.where(same, now, self.seen.right_with(class_, left.without))
        return left, now & ~after, after & ~now

    def _images(self, wrong: Bool[np.ndarray, " n"]) -> list[dict[str, Any]]:
        """Those whose wrong class is most ahead of the next."""
        rows = np.flatnonzero(wrong)
        ahead = -np.diff(self.seen.two[1][rows], axis=1)[:, 0]
        return [self._image(i) for i in rows[np.argsort(-ahead, kind="stable")[:EXAMPLES]].tolist()]

    def _image(self, i: int) -> dict[str, Any]:
        answer, truth = int(self.seen.answers[i]), int(self.photos.labels[i])
        return {
            "image": self.photos.keys[i],
            "row": self.photos.rows[i],
            "truth": self.classes[truth].id,
            "answer": self.classes[answer].id,
        }


def _lift(lift: Lift) -> dict[str, Any]:
    figures = {"here": lift.here, "others": lift.others, "worse_by": lift.value}
    rounded = {key: round(figure, 6) for key, figure in figures.items()}
    return {"descriptor": lift.text, **rounded, "ci95": [round(end, 6) for end in lift.ci95]}


def _both(here: Any, others: Any) -> dict[str, int]:
    return {"here": int(here), "others": int(others)}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"largest": None, "mean": None}
    return {"largest": round(max(values), 6), "mean": round(sum(values) / len(values), 6)}


def _share(share: Share) -> dict[str, Any]:
    low, high = share.ci95
    value = None if isnan(share.value) else round(share.value, 6)
    return {"n": share.n, "value": value, "ci95": [round(low, 6), round(high, 6)]}


def _rates(cell: Cell) -> dict[str, Any]:
    """True positives, false negatives and false positives of a class in a group, as shares with their intervals."""
    missed = Share(cell.tpr.here.n - cell.tpr.here.k, cell.tpr.here.n)
    return {"tpr": _gap(cell.tpr), "fnr": _share(missed), "fpr": _gap(cell.fpr)}


def _gap(gap: Gap) -> dict[str, Any]:
    """A share with what sets it apart from the other groups, where there are enough images to judge."""
    told: dict[str, Any] = {"judged": gap.judged}
    if gap.judged:
        ends = [round(end, 6) for end in gap.ci95]
        told |= {"gap": round(gap.value, 6), "gap_ci95": ends, "p": gap.p, "p_holm": gap.p_holm, "differs": gap.differs}
    return _share(gap.here) | told
