"""Every class by its own descriptors: Menon & Vondrick 2023, prompt ensembles, and names beside descriptors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vlmdesc.classification.columns import Columns, Encode, columns_of, encode_prompts, prompts_of
from vlmdesc.classification.heads.head import (
    MOST,
    Arrays,
    Head,
    HeadCard,
    Parts,
    embeddings,
    number,
    of_type,
    parts_of,
    put_beside,
    show,
    show_html,
    strings,
)
from vlmdesc.classification.score import get_fold, get_pool
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptors
from vlmdesc.records.progress import Progress, silent


@dataclass(frozen=True, repr=False)
class Pooled:
    """Similarities to each class's columns, pooled: "mean", "max" or "renormalized", as the card's kind says."""

    card: HeadCard
    columns: Columns
    parts, __repr__, _repr_html_ = parts_of, show, show_html

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores: (N, C)."""
        return get_pool(self.card.kind).score(images, self.columns)

    def split(self, images: Float32[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Parts:
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
        return Parts(number, value, share, similarity, self._keys, columns.descriptors or self._keys)

    @cached_property
    def _keys(self) -> list[str]:
        return [*map(str, range(len(self.columns.owner)))]

    @property
    def phrase(self) -> str:
        """How its texts are worded."""
        return str(self.card.settings["phrase"])

    @property
    def folds(self) -> bool:
        """Whether a class's descriptors come down to one vector."""
        return get_pool(self.card.kind).fold is not None

    def select(self, classes: Int[np.ndarray, " k"]) -> Pooled:
        """The head of some classes alone, in that order."""
        card = replace(self.card, classes=tuple(self.card.classes[c] for c in classes.tolist()))
        return Pooled(card, self.columns.select(classes))

    def revise(self, descriptors: Descriptors, encode: Encode) -> Pooled:
        """The head of another version of its descriptor set, worded and pooled as this one is."""
        columns = columns_of(descriptors, encode, self.phrase)
        return Pooled(replace(self.card, classes=descriptors.classes), columns)

    def rows_of(self, class_: int) -> list[int]:
        """Numbers of a class's columns that count."""
        return self.columns.rows_of(class_).tolist()

    def columns_at(self, rows: Sequence[int]) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r d"]]:
        """The weights (R,) and texts (R, D) of some columns, in double precision."""
        return self.columns.weights[[*rows]].astype(float), self.columns.texts[[*rows]].astype(float)

    def fold(self, sums: Float[np.ndarray, "k d"], totals: Float[np.ndarray, " k"]) -> Float32[np.ndarray, "k d"]:
        """Class vectors of weighted sums of texts and of the sums of their weights.

        Raises: InputError for a pooling under which classes do not come down to one vector.
        """
        return get_fold(self.card.kind, "vector of a class")(sums / totals[:, None]).astype(np.float32)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What is saved: the columns."""
        columns = self.columns
        arrays = {"texts": columns.texts, "owner": columns.owner.astype(np.int64), "weights": columns.weights}
        return {"descriptors": [*columns.descriptors]}, arrays

    @classmethod
    def restore(cls, card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Pooled:
        """From what was saved."""
        owner, texts = of_type(arrays, "owner", np.int64, 1), strings("descriptors", fields["descriptors"])
        weights = of_type(arrays, "weights", np.float32, 1)
        if len(texts) not in (0, len(owner)):
            raise InputError(f"{len(texts)} descriptors for {len(owner)} columns", fix="save it again")
        if not ((weights >= 0) & (weights <= MOST)).all():
            raise InputError("weights that are none", fix="save it again")
        get_pool(card.kind)
        embedded = embeddings(arrays, "texts")
        return cls(card, Columns(embedded, owner.astype(np.intp), weights, len(card.classes), texts))


def fit_pooled(
    encoder: Encoder,
    descriptors: Descriptors,
    phrase: str = "plain",
    pool: str = "mean",
    store: Store | None = None,
    progress: Progress = silent,
) -> Pooled:
    """The head of a descriptor set under a phrase and a pooling; nothing is learned.

    Raises: InputError for an unknown phrase or pooling, or a class with nothing to be scored by.
    """
    get_pool(pool)
    prompts = prompts_of(descriptors, phrase)
    columns = encode_prompts(prompts, partial(text_vectors, encoder=encoder, store=store, progress=progress))
    card = HeadCard.of(pool, encoder, descriptors, phrase=phrase, form=prompts.form)
    return Pooled(card, columns)


def rescore(
    before: Head, after: Head, images: Float32[np.ndarray, "n d"]
) -> tuple[Int[np.ndarray, " k"], Float32[np.ndarray, "n k"]] | None:
    """The classes (K,) that one head scores by other columns than another did, and its scores of them (N, K).

    None where it has to score everything: more than half of the classes, or heads that are not both pooled, and alike.
    """
    if not (isinstance(before, Pooled) and isinstance(after, Pooled) and before.card.kind == after.card.kind):
        return None
    changed = before.columns.changes(after.columns)
    if 2 * len(changed) > len(after.card.classes):
        return None
    new = after.select(changed).scores(images) if len(changed) else np.empty((len(images), 0), np.float32)
    return changed, new


@dataclass(frozen=True)
class LeftOut:
    """The vector (K, D) of a class without each of its columns, for all columns that count, class after class.

    `columns` (K,) are their numbers, `owner` (K,) their classes; class c's are those from bounds[c] to bounds[c + 1].
    The only column of a class cannot be left out: it is not `defined`, and its vector is 0.
    """

    columns: Int[np.ndarray, " k"]
    owner: Int[np.ndarray, " k"]
    bounds: Int[np.ndarray, " edges"]
    vectors: Float32[np.ndarray, "k d"]
    defined: Bool[np.ndarray, " k"]


def leave_out_each(head: Pooled) -> LeftOut:
    """Every column left out in turn, all at once and exactly.

    Raises: InputError for a pooling under which classes do not come down to one vector.
    """
    columns = head.columns
    texts, owner = columns.kept_texts.astype(np.float64), columns.owner[columns.kept]
    weights = columns.weights[columns.kept].astype(np.float64)[:, None]
    sums = np.stack([(weights[a:b] * texts[a:b]).sum(axis=0) for a, b in pairwise(columns.bounds)])
    rest = columns.totals[owner] - weights[:, 0]
    defined = (np.diff(columns.bounds) > 1)[owner]
    vectors = head.fold(sums[owner] - weights * texts, np.where(defined, rest, 1))
    vectors[~defined] = 0
    return LeftOut(columns.kept, owner, columns.bounds, vectors, defined)


@dataclass(frozen=True, repr=False)
class Mixed:
    """Two heads of the same classes: weight of the first, and the rest of the second. Their parts stand side by side.

    "name+describe" is the caption's head and that of descriptors without the name. Ma et al. 2025.
    """

    card: HeadCard
    first: Pooled
    second: Pooled
    weight: float
    parts, __repr__, _repr_html_ = parts_of, show, show_html

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores: (N, C)."""
        weight = np.float32(self.weight)
        return weight * self.first.scores(images) + (1 - weight) * self.second.scores(images)

    def split(self, images: Float32[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Parts:
        """The parts of both, each as much as it counts; keys of the first have "name:" before them."""
        sides = []
        for head, weight, mark in ((self.first, self.weight, "name:"), (self.second, 1 - self.weight, "")):
            parts = head.split(images, classes)
            keys = [mark + key for key in parts.keys]
            sides.append(replace(parts, value=weight * parts.value, share=weight * parts.share, keys=keys))
        return put_beside(*sides)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What is saved: both heads and the weight."""
        return nest({"weight": self.weight}, {}, first=self.first, second=self.second)

    @classmethod
    def restore(cls, card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Mixed:
        """From what was saved."""
        first, second = (unnest(card, fields, arrays, name) for name in ("first", "second"))
        return cls(card, first, second, number("its weight", fields["weight"], 1.0))


def nest(fields: dict[str, Any], arrays: Arrays, **heads: Pooled) -> tuple[dict[str, Any], Arrays]:
    """The state of a head that holds others: theirs under their names."""
    for name, head in heads.items():
        inner, its_arrays = head.state()
        fields[name] = {"kind": head.card.kind, "settings": dict(head.card.settings), "fields": inner}
        arrays |= {f"{name}.{key}": array for key, array in its_arrays.items()}
    return fields, arrays


def unnest(card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str) -> Pooled:
    """A head that another holds, from what was saved."""
    inner = fields[name]
    if not isinstance(inner["kind"], str) or not isinstance(inner["settings"], dict):
        raise TypeError(f"{name} is no head")
    mine = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
    its_card = replace(card, kind=inner["kind"], name=inner["kind"], settings=inner["settings"], fitted_on=None)
    return Pooled.restore(its_card, inner["fields"], mine)
