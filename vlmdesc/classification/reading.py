"""Ways to read class scores and their reasons off image embeddings; a classifier has one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from vlmdesc.classification.explain import Side, because, side
from vlmdesc.classification.fewshot import FewShot
from vlmdesc.classification.reference import Neighborhood
from vlmdesc.classification.score import Columns, get_pool, ranking
from vlmdesc.records import Hit, Hits

Vector = Float32[np.ndarray, " d"]
Pair = tuple[int, int]


class Reading(Protocol):
    """Image embeddings to class scores, and the reasons for them."""

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores: (N, C)."""
        ...

    def because(self, image: Vector, class_: int) -> Hits:
        """What speaks for a class, best first."""
        ...

    def rivals(self, image: Vector, asked: Pair | None) -> Pair | None:
        """Numbers of the two classes that are set against each other where `asked` are wanted, if any are."""
        ...

    def side(self, image: Vector, class_: int) -> Side:
        """What a class's score is made of."""
        ...


@dataclass(frozen=True)
class ByDescriptors:
    """Every class by its own descriptors. Menon & Vondrick 2023. `said[m]` is what column m says."""

    columns: Columns
    pool: str
    said: Sequence[str]

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        return get_pool(self.pool)(images, self.columns)

    def because(self, image: Vector, class_: int) -> Hits:
        return because(image, class_, self.columns, self.said)

    def rivals(self, image: Vector, asked: Pair | None) -> Pair | None:
        return asked

    def side(self, image: Vector, class_: int) -> Side:
        return side(image, class_, self.pool, self.columns, self.said)


@dataclass(frozen=True)
class ByShots:
    """The same, and prototypes of photographs on top."""

    texts: ByDescriptors
    shots: FewShot

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        return self.texts.scores(images) + self.shots.bonus(images)

    def because(self, image: Vector, class_: int) -> Hits:
        """The descriptors, and the cosine to the prototype where there is one."""
        cosine = float(self.shots.prototypes[class_] @ image)
        likeness = () if np.isnan(cosine) else (Hit("photographs", cosine, "(its photographs)"),)
        return tuple(sorted((*likeness, *self.texts.because(image, class_)), key=lambda hit: -hit.score))

    def rivals(self, image: Vector, asked: Pair | None) -> Pair | None:
        return asked

    def side(self, image: Vector, class_: int) -> Side:
        said, bonus = self.texts.side(image, class_), self.shots.bonus(image[None])[0, class_]
        if np.isnan(self.shots.prototypes[class_, 0]):
            return said
        keys, texts = [*said.keys, "photographs"], [*said.said, "(its photographs)"]
        return Side(keys, texts, np.append(said.share, np.float32(0)), np.append(said.given, bonus))


@dataclass(frozen=True)
class BySelection:
    """Candidates by caption and by the descriptors that tell them apart; the first two are always set against another.

    What is said of a class that is no candidate is its caption.
    """

    neighborhood: Neighborhood

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        return self.neighborhood.scores(images)

    def because(self, image: Vector, class_: int) -> Hits:
        """The caption and what is picked for the class: what adds most to its score first, what lowers it left out, but
        where nothing adds to it.
        """
        keys, said, weights, similarity = self._parts(image, class_)
        share = weights * similarity
        order = np.argsort(-share, kind="stable")
        adds = order[share[order] > 0]
        return tuple(Hit(keys[i], float(similarity[i]), said[i]) for i in (adds if len(adds) else order))

    def rivals(self, image: Vector, asked: Pair | None) -> Pair | None:
        """The asked ones where both are candidates, else the first two."""
        chosen = self.neighborhood.select(image[None]).candidates[0].tolist()
        if asked and set(asked) <= set(chosen):
            return asked
        best = ranking(self.scores(image[None]), 2)[0].tolist()
        return (best[0], best[1]) if len(chosen) > 1 else None

    def side(self, image: Vector, class_: int) -> Side:
        keys, said, weights, similarity = self._parts(image, class_)
        return Side(keys, said, weights / weights.sum(), weights * similarity)

    def _parts(self, image: Vector, class_: int) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
        """Key, text, weight and similarity of the caption, and then of each descriptor picked for the class."""
        texts, name_weight = self.neighborhood.texts, self.neighborhood.choice.name_weight
        selection = self.neighborhood.select(image[None])
        picked = selection.picked[0, selection.candidates[0] == class_].ravel()
        picked = picked[picked >= 0]
        vectors = np.concatenate([texts.captions[[class_]], texts.texts[picked]])
        # With nothing picked the caption stands in for the mean.
        named = name_weight if len(picked) else name_weight + 1
        weights = np.array([named, *[1 / max(1, len(picked))] * len(picked)], np.float32)
        keys, said = ["name", *map(str, picked)], [texts.names[class_], *(texts.said[d] for d in picked)]
        return keys, said, weights, vectors @ image
