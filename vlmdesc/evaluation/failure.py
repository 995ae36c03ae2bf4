"""A class that fares worse in a group: which parts of the head mislead there, and which images show it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt

import numpy as np
from jaxtyping import Bool, Float

from vlmdesc.classification.explain import leave_out
from vlmdesc.evaluation.disparity import Cell, Record, round_all
from vlmdesc.evaluation.scored import Scored

RIVALS = 3  # classes that a group's images are mostly taken for
LEAST = 5e-4  # of a similarity: less decides nothing
Z = 1.959964  # of a 95 % interval
EXAMPLES, LIFTS = 8, 10
Mask = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Lift:
    """What a part of a class does for the right answer on images of a group, and on the other groups' images.

    `here` and `others` are means over images of how far the right class's lead grows by it: below 0 it misleads.
    `only_with` and `only_without` are the images of the group, and of the others, that are right so and not otherwise.
    """

    class_: int
    text: str
    here: float
    others: float
    error: float
    only_with: tuple[int, int]
    only_without: tuple[int, int]

    @property
    def value(self) -> float:
        """How much worse it does in the group than in the others: above 0 it misleads there."""
        return self.others - self.here

    @cached_property
    def ci95(self) -> tuple[float, float]:
        """The normal interval of `value`."""
        return self.value - Z * self.error, self.value + Z * self.error

    @property
    def wrong(self) -> bool:
        """Whether it does worse in the group than elsewhere, by more than chance and than next to nothing."""
        return self.ci95[0] > 0 and self.value >= LEAST

    @property
    def net(self) -> int:
        """Images of the group that it wins, less those that it loses."""
        return self.only_with[0] - self.only_without[0]

    def to_dict(self) -> Record:
        here, others, worse_by = round_all((self.here, self.others, self.value))
        return {
            "descriptor": self.text,
            "here": here,
            "others": others,
            "worse_by": worse_by,
            "ci95": round_all(self.ci95),
            "right_only_with": dict(zip(("here", "others"), self.only_with, strict=True)),
            "right_only_without": dict(zip(("here", "others"), self.only_without, strict=True)),
            "net": self.net,
        }


@dataclass(frozen=True)
class Failure:
    """A class in a group, the classes its images are mostly taken for with how many, the parts that mislead, and the
    numbers of images that show it: those not found, or else those of others taken for it.
    """

    cell: Cell
    rivals: tuple[tuple[int, int], ...]
    lifts: tuple[Lift, ...]
    images: tuple[int, ...]


def explain(seen: Scored, cell: Cell) -> Failure:
    """Parts without which more of the group would be right, or that do worse here than in other groups; of a rival's
    parts, those that keep the class's images from it.
    """
    labels, answers, groups = seen.images.labels, seen.answers, seen.images.groups
    here = np.array([group == cell.group for group in groups])
    others = np.array([group is not None for group in groups]) & ~here
    own = labels == cell.class_
    among = own if cell.failed else ~own
    wrong = np.flatnonzero(among & here & ((answers != labels) if cell.failed else (answers == cell.class_)))
    rivals = Counter(answers[wrong].tolist()).most_common(RIVALS) if cell.failed else []
    sides = [(cell.class_, 1), *((rival, -1) for rival, _ in rivals)] if cell.failed else [(cell.class_, -1)]
    found = [lift for class_, sign in sides for lift in lifts(seen, class_, (here, others), among, sign)]
    found = sorted((lift for lift in found if lift.wrong or lift.net < 0), key=lambda lift: (lift.net, -lift.value))
    ahead = -np.diff(seen.two[1][wrong], axis=1)[:, 0]  # the wrong class is most ahead of the next
    images = wrong[np.argsort(-ahead, kind="stable")[:EXAMPLES]].tolist()
    return Failure(cell, tuple(rivals), tuple(found[:LIFTS]), tuple(images))


def lifts(seen: Scored, class_: int, sides: tuple[Mask, Mask], among: Mask, sign: int = 1) -> list[Lift]:
    """The lifts of the parts of a class on images (N,) of a group and of the others, `sides`.

    Means are over those `among`, counts over all. A part of the right class helps by lifting it, and one of a rival,
    of `sign` -1, by not doing so.
    """
    left, now = leave_out(seen.head, seen.images.vectors, class_), ~seen.wrong[:, None]
    same = left.without == left.score[:, None]
    after = np.where(same, now, seen.right_with(class_, left.without))
    only_with, only_without = ([flips[side].sum(axis=0) for side in sides] for flips in (now & ~after, after & ~now))
    found = []
    for m, (text, lift) in enumerate(zip(left.texts, sign * left.lift.T, strict=True)):
        here, others = (lift[side & among] for side in sides)
        error = sqrt(_variance_of_mean(here) + _variance_of_mean(others))
        with_, without = ((int(a[m]), int(b[m])) for a, b in (only_with, only_without))
        found.append(Lift(class_, text, _mean(here), _mean(others), error, with_, without))
    return found


def _mean(values: Float[np.ndarray, " n"]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _variance_of_mean(values: Float[np.ndarray, " n"]) -> float:
    """Of one value, or of none, nothing is known."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else inf
