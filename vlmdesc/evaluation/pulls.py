"""Which descriptors pull wrong in a group: what each does to the lead of a class there, and elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import get_fold
from vlmdesc.evaluation.credit import without_one
from vlmdesc.evaluation.effect import of_classes

RIVALS = 3  # classes that a group's pictures are mostly taken for
LEAST = 5e-4  # of a similarity: less decides nothing
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Pull:
    """What descriptor `row` does for the right answer on pictures of a group, and on the other groups' pictures.

    `here` and `others` are means over pictures of how far the right class's lead grows by it: below 0 it pulls wrong.
    """

    row: int
    here: float
    others: float
    error: float

    @property
    def value(self) -> float:
        """How much worse it does in the group than in the others: above 0 it pulls wrong there."""
        return self.others - self.here

    @cached_property
    def ci95(self) -> tuple[float, float]:
        """The normal interval of `value`."""
        return self.value - Z * self.error, self.value + Z * self.error

    @property
    def wrong(self) -> bool:
        """Whether it does worse in the group than elsewhere, by more than chance and than next to nothing."""
        return self.ci95[0] > 0 and self.value >= LEAST


def pulls(
    images: Float32[np.ndarray, "n d"],
    here: Bool[np.ndarray, " n"],
    for_: Sequence[int],
    against: Sequence[int],
    columns: Columns,
    pool: str,
) -> list[Pull]:
    """The pulls of the descriptors of some classes on pictures (N, D), those `here` (N,) held against the rest.

    Descriptors of classes `for_` help by lifting their class, those of classes `against` by not doing so. The one that
    does worst here, as against the rest, is first. Raises: InputError where classes do not come down to one vector.
    """
    found = []
    for class_, sign in [*((c, 1) for c in for_), *((c, -1) for c in against)]:
        lifts = sign * _lifts(images, class_, columns, pool)
        for row, lift in zip(columns.rows_of(class_).tolist(), lifts.T, strict=True):
            a, b = lift[here], lift[~here]
            error = sqrt(_variance_of_mean(a) + _variance_of_mean(b))
            found.append(Pull(row, _mean(a), _mean(b), error))
    return sorted(found, key=lambda pull: (-pull.value, pull.row))


def rivals(
    answers: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], here: Bool[np.ndarray, " n"]
) -> list[tuple[int, int]]:
    """The three classes that pictures `here` (N,) are mostly taken for, and how many are."""
    return Counter(answers[here & (answers != labels)].tolist()).most_common(RIVALS)


def _lifts(images: Float32[np.ndarray, "n d"], class_: int, columns: Columns, pool: str) -> Float32[np.ndarray, "n r"]:
    """How far each descriptor of a class lifts the class's score over the score without it: (N, R)."""
    own = of_classes(columns, np.array([class_]))
    if len(own.owner) < 2:
        return np.zeros((len(images), len(own.owner)), np.float32)
    return images @ (get_fold(pool, "pulls of descriptors")(own.means) - without_one(pool, own)).T


def _mean(values: Float[np.ndarray, " n"]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _variance_of_mean(values: Float[np.ndarray, " n"]) -> float:
    """Of one value, or of none, nothing is known."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else inf
