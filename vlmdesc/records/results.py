"""What encoders and classifiers give back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape
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


def _freeze(record: Any, *names: str) -> None:
    """Arrays of a record as views that are read-only; the caller's own keep their flags."""
    for name in names:
        view = getattr(record, name).view()
        view.flags.writeable = False
        object.__setattr__(record, name, view)


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
            _freeze(self, "vectors")

    __reduce__ = _made_again


@dataclass(frozen=True)
class Hit:
    """Something found: its key (class id, descriptor row m, image key), its score, and what a person reads."""

    key: str
    score: float
    text: str


Hits = tuple[Hit, ...]


def _class(hit: Hit) -> dict[str, Any]:
    """A class as JSON names it: with its id where that is not its name."""
    return {"class": hit.text} | ({"id": hit.key} if hit.key != hit.text else {})


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
        _freeze(self, "candidates", "picked", "fallback")

    __reduce__ = _made_again


@dataclass(frozen=True)
class Contrast:
    """Why class `a` is ahead of class `b`: each descriptor's share of the margin; the shares add up to it."""

    a: Hit
    b: Hit
    margin: float
    of_a: Hits
    of_b: Hits

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the class behind, the one ahead, and what each descriptor contributes."""
        sides = ((self.a, self.of_a), (self.b, self.of_b))
        each = [
            _class(side) | {"descriptor": hit.text, "contribution": round(hit.score, 6)}
            for side, hits in sides
            for hit in hits
        ]
        return {**_class(self.b), "ahead": _class(self.a), "margin": round(self.margin, 6), "descriptors": each}


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
        _freeze(self, "direction")

    __reduce__ = _made_again


@dataclass(frozen=True, repr=False)
class Prediction:
    """One image's classes, best first, and the descriptors that spoke for the winner.

    `margin` is the score of the first class less that of the second. `notes` says what was done to the image that
    its owner may want to know, such as "first frame of an animation". `model` is the name of the encoder.
    """

    key: str
    ranked: Hits
    because: Hits
    margin: float
    contrast: Contrast | None = None
    notes: tuple[str, ...] = ()
    model: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Optional keys: "id" where it is not the name of a class, "against", "notes"."""
        found: dict[str, Any] = {
            "image": self.key,
            "model": self.model,
            "ranked": [_class(hit) | {"score": round(hit.score, 6)} for hit in self.ranked],
            "because": [{"descriptor": hit.text, "similarity": round(hit.score, 6)} for hit in self.because],
            "margin": round(self.margin, 6),
        }
        if self.contrast:
            found["against"] = self.contrast.to_dict()
        return found | ({"notes": [*self.notes]} if self.notes else {})

    def __repr__(self) -> str:
        reasons = ", ".join(hit.text for hit in self.because)
        return f"<Prediction {self.key}: {self.ranked[0].text} {self.ranked[0].score:.3f}; {reasons}>"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{hit.score:.3f}</td><td>{escape(hit.text)}</td></tr>" for hit in self.ranked)
        reasons = "; ".join(escape(hit.text) for hit in self.because)
        return f"<table><caption>{escape(self.key)}</caption>{rows}</table><p>because: {reasons}</p>"
