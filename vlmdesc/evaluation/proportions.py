"""Shares of images, their differences, and intervals that hold for few images too: none is ever a point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist

from vlmdesc.evaluation.statistics import LEVEL

Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
ENOUGH = 10  # images, for a share to be judged


@dataclass(frozen=True)
class Share:
    """`k` of `n`, with Wilson's 95 % interval (Wilson 1927): from 0 to 1, NaN of none.

    >>> Share(48, 80).value, [round(end, 4) for end in Share(48, 80).ci95]
    (0.6, [0.4905, 0.7004])
    """

    k: int
    n: int

    @property
    def value(self) -> float:
        return self.k / self.n if self.n else float("nan")

    @cached_property
    def ci95(self) -> tuple[float, float]:
        if not self.n:
            return 0.0, 1.0
        z2 = Z**2
        middle = (self.k + z2 / 2) / (self.n + z2)
        half = Z * sqrt(self.k * (self.n - self.k) / self.n + z2 / 4) / (self.n + z2)
        return max(0.0, min(middle - half, self.value)), min(1.0, max(middle + half, self.value))

    @property
    def judged(self) -> bool:
        """Whether there are enough images to say anything."""
        return self.n >= ENOUGH


def difference(a: Share, b: Share) -> tuple[float, float]:
    """95 % interval of a less b, of different images. Newcombe 1998, Stat. Med. 17:873, method 10.

    >>> [round(end, 4) for end in difference(Share(56, 70), Share(48, 80))]
    [0.0524, 0.3339]
    """
    return _around(a, b, 0.0)


def paired_interval(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """95 % interval of the second share less the first, of the same images; `first` are those right in it alone.

    Newcombe 1998, Stat. Med. 17:2635, method 10: the correlation of the two makes it narrow.
    """
    n = both + first + second + neither
    a, b = Share(both + second, n), Share(both + first, n)
    product = a.k * (n - a.k) * b.k * (n - b.k)
    together = both * neither - first * second
    if together > 0:
        together = max(0, together - n / 2)  # type: ignore[assignment]
    return _around(a, b, together / sqrt(product) if product else 0.0)


def _around(a: Share, b: Share, correlation: float) -> tuple[float, float]:
    """Square-and-add of the two intervals."""
    if not a.n or not b.n:
        return -1.0, 1.0
    below, above = _arms(a), _arms(b)
    delta = a.value - b.value
    low = _norm(below[0], above[1], correlation)
    high = _norm(below[1], above[0], correlation)
    return max(-1.0, delta - low), min(1.0, delta + high)


def _arms(share: Share) -> tuple[float, float]:
    low, high = share.ci95
    return share.value - low, high - share.value


def _norm(x: float, y: float, correlation: float) -> float:
    return sqrt(max(0.0, x * x - 2 * correlation * x * y + y * y))
