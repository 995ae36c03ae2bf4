"""What the store may keep of a content: an embedding, one for each patch, a sparse code."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped

from vlmdesc.errors import InputError

TOLERANCE = 2e-3  # of a norm from 1: float16 rounding stays below it
_KEY = re.compile(r"([a-z0-9_]+)(?:-([1-9]\d*(?:x[1-9]\d*)*))?(-free)?")


@dataclass(frozen=True)
class Kind:
    """What an encoder makes of a content: its `shape`, by default one vector of the encoder's width, and if of norm 1.

    In a shape of several axes the last is that of the vectors: (P, D) are P vectors, each of norm 1 if `unit`.
    Raises: InputError for a name of other than a-z, 0-9 and _, or a shape with a side below 1.

    >>> IMAGES.key, Kind("patches", (49, 512)).key, Kind("codes", (4096,), unit=False).key
    ('images', 'patches-49x512', 'codes-4096-free')
    """

    name: str
    shape: tuple[int, ...] = ()
    unit: bool = True

    def __post_init__(self) -> None:
        found = _KEY.fullmatch(self.key)
        if found is None or found[1] != self.name:
            what = f"no kind '{self.name}' of shape {self.shape}"
            raise InputError(what, fix="use a-z, 0-9 and _ in its name, and sides of 1 or more")

    @property
    def key(self) -> str:
        """All of it in one word: the folder's name, and a part of what every checksum covers."""
        shape = f"-{sides(self.shape)}" if self.shape else ""
        return f"{self.name}{shape}{'' if self.unit else '-free'}"

    @staticmethod
    def of(key: str) -> Kind | None:
        """The kind of a key, None where it is no key."""
        found = _KEY.fullmatch(key)
        if found is None:
            return None
        shape = tuple(map(int, found[2].split("x"))) if found[2] else ()
        return Kind(found[1], shape, not found[3])

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a row may have this shape."""
        return shape == self.shape if self.shape else len(shape) == 1 and shape[0] > 0

    def sound(self, rows: Shaped[np.ndarray, "n ..."]) -> Bool[np.ndarray, " n"]:
        """Which rows are finite and, if `unit`, of norm 1."""
        if self.unit:
            exact = rows.astype(np.float32, copy=False)
            with np.errstate(invalid="ignore", over="ignore"):
                fine = np.abs(np.einsum("...d,...d->...", exact, exact) - 1) < 2 * TOLERANCE  # False for NaN
        else:
            fine = np.isfinite(rows)
        return np.asarray(fine.all(axis=tuple(range(1, fine.ndim))))


IMAGES, TEXTS = Kind("images"), Kind("texts")


def sides(shape: tuple[int, ...]) -> str:
    """A shape in one word."""
    return "x".join(map(str, shape))
