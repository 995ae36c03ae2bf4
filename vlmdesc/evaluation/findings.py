"""An audit as JSON has it: figures, and for each class that fails a group the descriptors and pictures that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any

import numpy as np
from jaxtyping import Bool

from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import get_pool
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation.audit import Audit, Cell, Gap
from vlmdesc.evaluation.candidates import Ground
from vlmdesc.evaluation.credit import Best, Credit, leave_one_out
from vlmdesc.evaluation.proportions import Share, difference
from vlmdesc.evaluation.pulls import pulls, rivals
from vlmdesc.records import ClassName

EXAMPLES, PULLS = 8, 10
MOST = 20  # failed classes that are explained


@dataclass(frozen=True)
class Audited:
    """Pictures that were audited with the answers to them: `said[m]` is what column m says, empty for a bare name."""

    photos: Labelled
    classes: Sequence[ClassName]
    columns: Columns
    pool: str
    said: Sequence[str]
    seen: Ground
    audit: Audit

    def findings(self) -> dict[str, Any]:
        """The whole audit, ready for JSON."""
        found = self.audit
        worst, failed = found.worst_cell, found.failed
        return {
            "schema": 1,
            "n": found.overall.n,
            "unusable": len(self.photos.failed),
            "unlabelled": self.photos.unlabelled,
            "pulls_defined": get_pool(self.pool).fold is not None,
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
        """What pulls wrong, and the pictures that show it: those not found, or else those of others taken for it."""
        labels, answers = self.photos.labels, self.seen.best[:, 0]
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
            "pulls": self._pulls(cell, among, here, [rival for rival, _ in found]),
            "images": self._images(wrong),
        }

    def _pulls(
        self, cell: Cell, among: Bool[np.ndarray, " n"], here: Bool[np.ndarray, " n"], others: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Descriptors without which more of the group would be right, or that do worse here than in other groups."""
        if get_pool(self.pool).fold is None:
            return []
        sides = ([cell.class_], others) if cell.failed else ([], [cell.class_])
        credit, elsewhere = self._credits[cell.group]
        rows = list[dict[str, Any]]()
        for pull in pulls(self.photos.vectors[among], here[among], *sides, self.columns, self.pool):
            m = pull.row
            net = int(credit.only_with[m] - credit.only_without[m])
            if not pull.wrong and net >= 0:
                continue
            rows.append(
                {
                    **self._class(int(self.columns.owner[m])),
                    "descriptor": self.said[m],
                    "here": round(pull.here, 6),
                    "others": round(pull.others, 6),
                    "worse_by": round(pull.value, 6),
                    "ci95": [round(end, 6) for end in pull.ci95],
                    "right_only_with": _both(credit.only_with[m], elsewhere.only_with[m]),
                    "right_only_without": _both(credit.only_without[m], elsewhere.only_without[m]),
                    "net": net,
                }
            )
        return sorted(rows, key=lambda row: (row["net"], -row["worse_by"]))[:PULLS]

    @cached_property
    def _credits(self) -> dict[str, tuple[Credit, Credit]]:
        """The credit of all descriptors in each group that some class fails, and in the other groups."""
        found, groups = {}, np.array(self.photos.groups, object)
        all_ = self._credit(np.array([group is not None for group in self.photos.groups]))
        for name in dict.fromkeys(cell.group for cell in self.audit.failed[:MOST]):
            here = self._credit(groups == name)
            rest = (all_.only_with - here.only_with, all_.only_without - here.only_without)
            found[name] = here, Credit(*rest, all_.defined)
        return found

    def _credit(self, part: Bool[np.ndarray, " n"]) -> Credit:
        best = Best(self.seen.best[part], self.seen.scores[part])
        return leave_one_out(self.photos.vectors[part], self.photos.labels[part], best, self.pool, self.columns)

    def _images(self, wrong: Bool[np.ndarray, " n"]) -> list[dict[str, Any]]:
        """Those whose wrong class is most ahead of the next."""
        rows = np.flatnonzero(wrong)
        ahead = self.seen.scores[rows, 0] - self.seen.scores[rows, 1]
        return [self._image(i) for i in rows[np.argsort(-ahead, kind="stable")[:EXAMPLES]].tolist()]

    def _image(self, i: int) -> dict[str, Any]:
        answer, truth = int(self.seen.best[i, 0]), int(self.photos.labels[i])
        return {
            "image": self.photos.keys[i],
            "row": self.photos.rows[i],
            "truth": self.classes[truth].id,
            "answer": self.classes[answer].id,
        }


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
    """A share with what sets it apart from the other groups, where there are enough pictures to judge."""
    told: dict[str, Any] = {"judged": gap.judged}
    if gap.judged:
        ends = [round(end, 6) for end in gap.ci95]
        told |= {"gap": round(gap.value, 6), "gap_ci95": ends, "p": gap.p, "p_holm": gap.p_holm, "differs": gap.differs}
    return _share(gap.here) | told
