"""Which parts of a head mislead in a group: how far each lifts the lead of the right class there, and elsewhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt

import numpy as np
from jaxtyping import Bool, Float, Int

from vlmdesc.classification.explain import Without

RIVALS = 3  # classes that a group's images are mostly taken for
LEAST = 5e-4  # of a similarity: less decides nothing
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Lift:
    """What part `number` of a class does for the right answer on images of a group, and on the other groups' images.

    `here` and `others` are means over images of how far the right class's lead grows by it: below 0 it misleads.
    """

    class_: int
    number: int
    text: str
    here: float
    others: float
    error: float

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


def lifts(left: Without, class_: int, here: Bool[np.ndarray, " n"], sign: int = 1) -> list[Lift]:
    """The lifts of the parts of a class for images (N,), those `here` held against the rest.

    A part of the right class helps by lifting it, and one of a rival, of `sign` -1, by not doing so.
    """
    found = []
    for number, text, lift in zip(left.numbers.tolist(), left.texts, sign * left.lift.T, strict=True):
        a, b = lift[here], lift[~here]
        error = sqrt(_variance_of_mean(a) + _variance_of_mean(b))
        found.append(Lift(class_, number, text, _mean(a), _mean(b), error))
    return found


def rivals(
    answers: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], here: Bool[np.ndarray, " n"]
) -> list[tuple[int, int]]:
    """The three classes that images `here` (N,) are mostly taken for, and how many are."""
    return Counter(answers[here & (answers != labels)].tolist()).most_common(RIVALS)


def _mean(values: Float[np.ndarray, " n"]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _variance_of_mean(values: Float[np.ndarray, " n"]) -> float:
    """Of one value, or of none, nothing is known."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else inf
