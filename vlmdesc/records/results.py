"""What encoders and classifiers give back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from vlmdesc.errors import ShapeError


@runtime_checkable
class Vectors(Protocol):
    """Vectors (N, D) float32 that need not be in memory: indexing by slices or arrays, or np.asarray, reads them."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, wanted: Any, /) -> np.ndarray: ...
    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray: ...


def _made_again(record: Any) -> tuple[Any, ...]:
    """How a record with frozen arrays is unpickled: made anew, since pickled arrays forget that they are frozen."""
    return type(record), tuple(getattr(record, field.name) for field in fields(record))


@dataclass(frozen=True)
class Embeddings:
    """Unit-norm vectors (N, D) float32, one key each, and the fingerprint of the encoder that made them.

    The vectors are an array or, from the store, read as they are indexed.
    Raises: ShapeError when there are not as many keys as vectors.
    """

    vectors: Float[np.ndarray, "n d"] | Vectors
    keys: tuple[str, ...]
    encoder: str

    def __post_init__(self) -> None:
        if len(self.vectors) != len(self.keys):
            raise ShapeError(f"{len(self.vectors)} vectors but {len(self.keys)} keys", fix="pass one key per vector")
        if isinstance(self.vectors, np.ndarray):
            view = self.vectors.view()  # the caller's own array keeps its flags
            view.flags.writeable = False
            object.__setattr__(self, "vectors", view)

    __reduce__ = _made_again


@dataclass(frozen=True)
class Hit:
    """Something found: its key (class id, descriptor row m, image key), its score, and what a person reads."""

    key: str
    score: float
    text: str


Hits = tuple[Hit, ...]


@dataclass(frozen=True)
class Selection:
    """Per image its candidate classes (N, K), best first, and for each the descriptors picked for it (N, K, R).

    `picked` are numbers of texts, best first, -1 where there are fewer; never a dense N x K x M mask. `fallback` (N, K)
    says where no descriptor told the candidate from the others, so that its own first ones stand in for them.
    """

    candidates: Int[np.ndarray, "n k"]
    picked: Int[np.ndarray, "n k r"]
    fallback: Bool[np.ndarray, "n k"]

    def __post_init__(self) -> None:
        for name in ("candidates", "picked", "fallback"):
            view = getattr(self, name).view()  # the caller's own array keeps its flags
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    __reduce__ = _made_again


@dataclass(frozen=True)
class Contrast:
    """Why class `a` is ahead of class `b`: each descriptor's share of the margin; the shares add up to it."""

    a: Hit
    b: Hit
    margin: float
    of_a: Hits
    of_b: Hits


@dataclass(frozen=True)
class Concept:
    """Something that some of the images show: a direction (D,), and the words and images that are nearest to it.

    `density` is the share of the images that show it. `names` are words, best first, with scores in standard
    deviations of all images; `named` says whether the first is good enough to be its name: chance gives one as good in
    a share `chance` of cases. `margin` is the first word's score less the second's, `stability` how alike the best
    words of two halves of the vocabulary are.
    """

    index: int
    direction: Float[np.ndarray, " d"]
    density: float
    names: Hits
    examples: Hits
    named: bool
    chance: float
    margin: float
    stability: float

    def __post_init__(self) -> None:
        view = self.direction.view()
        view.flags.writeable = False
        object.__setattr__(self, "direction", view)

    __reduce__ = _made_again


@dataclass(frozen=True)
class Prediction:
    """One image's classes, best first, and the descriptors that spoke for the winner.

    `margin` is the score of the first class less that of the second. `notes` says what was done to the image that
    its owner may want to know, such as "first frame of an animation".
    """

    key: str
    ranked: Hits
    because: Hits
    margin: float
    contrast: Contrast | None = None
    notes: tuple[str, ...] = ()
