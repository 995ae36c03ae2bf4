"""Every class by its own descriptors: Menon & Vondrick 2023, prompt ensembles, and names beside descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.columns import Columns, Prompts, encoded, prompts_of
from vlmdesc.classification.heads.head import Arrays, HeadCard, Parts, adding_up, put_beside
from vlmdesc.classification.score import get_pool
from vlmdesc.descriptors.phrase import PHOTO
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptors


@dataclass(frozen=True)
class Pooled:
    """Similarities to each class's columns, pooled: "mean", "max" or "renormalized", as the card's kind says."""

    card: HeadCard
    columns: Columns

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores: (N, C)."""
        return get_pool(self.card.kind).score(images, self.columns)

    def parts(self, images: Float32[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Parts:
        """The columns of each image's class, in row order, and what each gives."""
        columns, give = self.columns, get_pool(self.card.kind).give
        most = int(np.diff(columns.bounds).max())
        number = np.full((len(images), most), -1, np.intp)
        value, share, similarity = (np.zeros(number.shape) for _ in range(3))
        for class_ in np.unique(classes).tolist():
            at, rows = np.flatnonzero(classes == class_), columns.rows_of(class_)
            found = images[at].astype(np.float64) @ columns.texts[rows].T.astype(np.float64)
            here = np.ix_(at, np.arange(len(rows)))
            value[here], share[here] = give(found, columns, class_)
            number[here], similarity[here] = rows, found
        keys = [str(m) for m in range(len(columns.owner))]
        raw = Parts(number, value, share, similarity, keys, columns.descriptors or keys)
        return adding_up(raw, self.scores(images), classes)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What is saved: the columns."""
        columns = self.columns
        arrays = {"texts": columns.texts, "owner": columns.owner.astype(np.int64), "weights": columns.weights}
        return {"descriptors": [*columns.descriptors]}, arrays

    @classmethod
    def restore(cls, card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Pooled:
        """From what was saved."""
        owner, texts = arrays["owner"].astype(np.intp), tuple(fields["descriptors"])
        if len(texts) not in (0, len(owner)):
            raise InputError(f"{len(texts)} descriptors for {len(owner)} columns", fix="save it again")
        return cls(card, Columns(arrays["texts"], owner, arrays["weights"], len(card.classes), texts))


def fit_pooled(
    encoder: Encoder, descriptors: Descriptors, phrase: str = "plain", pool: str = "mean", store: Store | None = None
) -> Pooled:
    """The head of a descriptor set under a phrase and a pooling; nothing is learned.

    Raises: InputError for an unknown phrase or pooling, or a class with nothing to be scored by.
    """
    get_pool(pool)
    return pooled(encoder, descriptors, prompts_of(descriptors, phrase), phrase, pool, store)


def pooled(
    encoder: Encoder, descriptors: Descriptors, prompts: Prompts, phrase: str, pool: str, store: Store | None = None
) -> Pooled:
    """The head of prompts for the classes of a set, however they were made."""
    columns = encoded(prompts, partial(text_vectors, encoder=encoder, store=store))
    card = HeadCard.of(pool, encoder, descriptors, phrase=phrase, form=prompts.form)
    return Pooled(card, columns)


@dataclass(frozen=True)
class Mixed:
    """Two heads of the same classes: weight of the first, and the rest of the second. Their parts stand side by side.

    "name+describe" is the caption's head and that of descriptors without the name. Ma et al. 2025.
    """

    card: HeadCard
    first: Pooled
    second: Pooled
    weight: float

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores: (N, C)."""
        weight = np.float32(self.weight)
        return weight * self.first.scores(images) + (1 - weight) * self.second.scores(images)

    def parts(self, images: Float32[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Parts:
        """The parts of both, each as much as it counts; keys of the first have "name:" before them."""
        sides = []
        for head, weight, mark in ((self.first, self.weight, "name:"), (self.second, 1 - self.weight, "")):
            parts = head.parts(images, classes)
            keys = [mark + key for key in parts.keys]
            sides.append(replace(parts, value=weight * parts.value, share=weight * parts.share, keys=keys))
        return adding_up(put_beside(*sides), self.scores(images), classes)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What is saved: both heads and the weight."""
        return nested({"weight": self.weight}, {}, first=self.first, second=self.second)

    @classmethod
    def restore(cls, card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Mixed:
        """From what was saved."""
        first, second = (unnested(card, fields, arrays, name) for name in ("first", "second"))
        return cls(card, first, second, float(fields["weight"]))


def fit_mixed(
    encoder: Encoder, descriptors: Descriptors, weight: float, phrase: str = "free", store: Store | None = None
) -> Mixed:
    """Captions ("a photo of a ...") and descriptors, of which the captions have this weight.

    Raises: InputError for a weight that is no share, or a class without descriptors under a phrase without names.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"a weight of {weight}", fix="give a share, from 0 to 1")
    captions, described = (fit_pooled(encoder, descriptors, form, "mean", store) for form in (PHOTO, phrase))
    card = HeadCard.of("mixed", encoder, descriptors, phrase=phrase, form=described.card.settings["form"])
    return Mixed(card, captions, described, weight)


def nested(fields: dict[str, Any], arrays: Arrays, **heads: Pooled) -> tuple[dict[str, Any], Arrays]:
    """The state of a head that holds others: theirs under their names."""
    for name, head in heads.items():
        inner, its_arrays = head.state()
        fields[name] = {"kind": head.card.kind, "settings": dict(head.card.settings), "fields": inner}
        arrays |= {f"{name}.{key}": array for key, array in its_arrays.items()}
    return fields, arrays


def unnested(card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str) -> Pooled:
    """A head that another holds, from what was saved."""
    inner = fields[name]
    mine = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
    its_card = replace(card, kind=inner["kind"], name=inner["kind"], settings=inner["settings"], fitted_on=None)
    return Pooled.restore(its_card, inner["fields"], mine)
