"""What an edit of descriptors does to the answers: for all images, for each class, for each group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation.proportions import paired
from vlmdesc.evaluation.statistics import holm, p_value, sign_test
from vlmdesc.records import ClassName
from vlmdesc.text import counted

CLAIM, EXAMPLES = 0.05, 24
FEWEST = 6  # changed answers, all one way, that chance seldom gives: 2 / 2**6 < 0.05


@dataclass(frozen=True)
class Delta:
    """Right answers of the same `n` images before and after: how many, which came and which went, and p.

    `p` is the exact McNemar test's; `p_holm` has Holm's correction over the classes that changed, or over all groups.
    """

    n: int
    before: int
    fixed: int
    broken: int
    p: float
    p_holm: float

    @property
    def value(self) -> float:
        """Accuracy after less accuracy before."""
        return (self.fixed - self.broken) / self.n if self.n else 0.0

    @cached_property
    def ci95(self) -> tuple[float, float]:
        """The paired 95 % interval of `value`."""
        both = self.before - self.broken
        return paired(both, self.broken, self.fixed, self.n - both - self.broken - self.fixed)

    @property
    def verdict(self) -> str:
        """ "better", "worse", "none" where no answer changed from or to a right one, else "noise"."""
        if not self.fixed + self.broken:
            return "none"
        return ("better" if self.value > 0 else "worse") if self.p_holm < CLAIM else "noise"

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        shares = {"before": self.before / self.n, "after": self.before / self.n + self.value} if self.n else {}
        figures = shares | {"delta": self.value, "p": self.p, "p_holm": self.p_holm}
        rounded = {name: round(value, 6) for name, value in figures.items()}
        ends = [round(end, 6) for end in self.ci95]
        return {"n": self.n, "fixed": self.fixed, "broken": self.broken, **rounded, "ci95": ends} | {
            "verdict": self.verdict
        }


@dataclass(frozen=True)
class Effect:
    """Answers before and after (N,), what was right (N,), and the deltas over all, each class and each group.

    Only classes whose right answers changed are listed; groups all are.
    """

    before: Int[np.ndarray, " n"]
    after: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    overall: Delta
    classes: Mapping[int, Delta]
    groups: Mapping[str, Delta]

    @property
    def fixed(self) -> Int[np.ndarray, " f"]:
        """Numbers of the images that are right after and were not before."""
        return np.flatnonzero((self.after == self.labels) & (self.before != self.labels))

    @property
    def broken(self) -> Int[np.ndarray, " b"]:
        """Numbers of the images that were right before and are no longer."""
        return np.flatnonzero((self.before == self.labels) & (self.after != self.labels))

    def record(self, photos: Labelled, classes: Sequence[ClassName]) -> dict[str, Any]:
        """As JSON has it, with the images that changed sides, one of a class first."""
        flips = {"fixed": self.fixed, "broken": self.broken}
        return {
            "verdict": {"code": self.overall.verdict, "text": self.text},
            "overall": self.overall.record(),
            "groups": [{"group": name, **delta.record()} for name, delta in self.groups.items()],
            "classes": [
                {"class": classes[c].id, "name": classes[c].name, **delta.record()}
                for c, delta in sorted(self.classes.items(), key=lambda pair: -abs(pair[1].value))
            ],
            "examples": {
                kind: [self._example(i, photos, classes) for i in _spread(rows, self.labels)]
                for kind, rows in flips.items()
            },
        }

    def _example(self, i: int, photos: Labelled, classes: Sequence[ClassName]) -> dict[str, Any]:
        of = {"truth": self.labels, "before": self.before, "after": self.after}
        return {
            "image": photos.keys[i],
            "row": photos.rows[i],
            "group": photos.groups[i],
            **{name: classes[int(numbers[i])].id for name, numbers in of.items()},
        }

    @property
    def text(self) -> str:
        """The verdict as a sentence; noise is not called an improvement."""
        all_, moved = self.overall, int((self.before != self.after).sum())
        if all_.verdict == "none":
            what = (
                f"{counted(moved, 'answer')} changed, from one wrong class to another" if moved else "no answer changed"
            )
            return f"no effect: {what}"
        flips = f"{all_.fixed:,} fixed, {all_.broken:,} broken of {counted(all_.n, 'image')}"
        if all_.verdict == "noise":
            few = f"; fewer than {FEWEST} changes can never be told" if all_.fixed + all_.broken < FEWEST else ""
            return f"not to be told from chance: {flips} (p {p_value(all_.p)}){few}"
        return f"{all_.verdict}: {flips} (p {p_value(all_.p)})"


def _spread(rows: Int[np.ndarray, " f"], labels: Int[np.ndarray, " n"]) -> list[int]:
    """Some of these images: the first of each class, then the second of each, and so on."""
    seen = Counter[int]()
    ranked = list[tuple[int, int]]()
    for row in rows.tolist():
        ranked.append((seen[int(labels[row])], row))
        seen[int(labels[row])] += 1
    return [row for _, row in sorted(ranked)[:EXAMPLES]]


def effect(
    before: Int[np.ndarray, " n"],
    after: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    groups: Sequence[str | None] = (),
) -> Effect:
    """The effect of answers changing from before to after, (N,) each, for images with those labels and groups."""
    was, is_ = before == labels, after == labels
    flipped = np.unique(labels[was != is_])
    names = sorted({group for group in groups if group is not None})
    group_of = np.array(groups, object)
    return Effect(
        before,
        after,
        labels,
        deltas([np.ones(len(labels), bool)], was, is_)[0],
        dict(zip(flipped.tolist(), deltas([labels == c for c in flipped], was, is_), strict=True)),
        dict(zip(names, deltas([group_of == name for name in names], was, is_), strict=True)),
    )


def deltas(
    parts: Sequence[Bool[np.ndarray, " n"]], was: Bool[np.ndarray, " n"], is_: Bool[np.ndarray, " n"]
) -> list[Delta]:
    """How right answers (N,) changed in some parts of the images, (N,) each; Holm's correction is over the parts."""
    counts = []
    for part in parts:
        fixed, broken = int((part & is_ & ~was).sum()), int((part & was & ~is_).sum())
        counts.append((int(part.sum()), int((part & was).sum()), fixed, broken, sign_test(fixed, broken)))
    adjusted = holm([count[-1] for count in counts])
    return [Delta(*count, p_holm) for count, p_holm in zip(counts, adjusted, strict=True)]
