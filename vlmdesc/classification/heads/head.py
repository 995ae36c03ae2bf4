"""One head: class scores from image embeddings, each the sum of parts, and each part says what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int

from vlmdesc.classification.columns import Encode
from vlmdesc.embeddings.load import lasting_name
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.errors import InputError, ModelError
from vlmdesc.records import ClassName, Descriptors
from vlmdesc.text import counted, few

MOST = 1e9  # of a weight in a file: beyond it float32 sums might overflow
SLACK = 1e-3  # of a norm, by rounding
REST = "rest"  # the key of what no descriptor, caption or prototype gives
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class HeadCard:
    """What a head is, for people and for checks: kind, classes in order, and the fingerprint of its encoder.

    `settings` are how it was made, `fitted_on` what images it learned from, None for none, both ready for JSON.
    `temperature` is that of a softmax over its scores, where one was fitted. `parent` is the id of the head that it was
    made from, `model` and `precision` are the encoder's.
    """

    kind: str
    classes: tuple[ClassName, ...]
    encoder: str
    name: str = ""
    model: str = ""
    precision: str = "fp32"
    settings: Mapping[str, Any] = field(default_factory=dict)
    fitted_on: Mapping[str, Any] | None = None
    temperature: float | None = None
    parent: str = ""

    @classmethod
    def of(cls, kind: str, encoder: Encoder, descriptors: Descriptors, **settings: Any) -> HeadCard:
        """The card of a head over the classes of a descriptor set, for the embeddings of an encoder."""
        about = (encoder.fingerprint, kind, lasting_name(encoder.name) if encoder.name else "", encoder.precision)
        return cls(kind, descriptors.classes, *about, settings)


def check_encoder(card: HeadCard, fingerprint: str, name: str = "") -> None:
    """Raises: ModelError when embeddings of an encoder with this fingerprint cannot meet the head."""
    if fingerprint != card.encoder:
        what = f"the head '{card.name}' is for embeddings of {card.model or 'another model'} ({card.encoder})"
        came = f"{name or 'another model'} ({fingerprint})"
        raise ModelError(f"{what}, these are of {came}", fix="use its model and precision, or fit it again with this")


def check_width(head: Head, dim: int) -> None:
    """Raises: ModelError when embeddings of this width cannot meet the head, whatever its card says."""
    try:
        head.scores(np.zeros((1, dim), np.float32))
    except (TypeError, ValueError) as error:  # numpy's, or that of checked shapes
        what = f"the head '{head.card.name}' is for embeddings of another width than {dim}"
        raise ModelError(what, fix="fit it again with this model") from error


def check_classes(card: HeadCard, classes: Sequence[ClassName]) -> None:
    """Raises: InputError unless these are the classes of the head, by id and in order."""
    mine, theirs = [c.id for c in card.classes], [c.id for c in classes]
    if mine == theirs:
        return
    what = f"the head '{card.name}' was made for other classes"
    missing, more = [i for i in mine if i not in {*theirs}], [i for i in theirs if i not in {*mine}]
    if missing or more:
        lists = (f"it alone has {few(missing)}" if missing else "", f"it lacks {few(more)}" if more else "")
        raise InputError(f"{what}: {'; '.join(filter(None, lists))}", fix="fit it again with these descriptors")
    at = next(i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
    order = f"the same in another order: class {at} is '{mine[at]}' there and '{theirs[at]}' here"
    raise InputError(f"{what}: {order}", fix="give the classes in its order, or fit it again with these descriptors")


@dataclass(frozen=True)
class Parts:
    """What makes up one class's score for each image: (N, P) arrays; number -1 and 0 elsewhere where there are fewer.

    `value` adds up to the score. `number` says which of `keys` and `texts` a part is; `similarity` is its cosine to the
    image, NaN for what has none. `share` is how much of the class's weight it holds: shares add up to 1, and what
    counts on top holds 0.
    """

    number: Int[np.ndarray, "n p"]
    value: Float[np.ndarray, "n p"]
    share: Float[np.ndarray, "n p"]
    similarity: Float[np.ndarray, "n p"]
    keys: Sequence[str]
    texts: Sequence[str]

    @property
    def here(self) -> np.ndarray:
        """Where there is a part: (N, P)."""
        return self.number >= 0

    def take(self, images: slice) -> Parts:
        """Of some images."""
        columns = (self.number[images], self.value[images], self.share[images], self.similarity[images])
        return Parts(*columns, self.keys, self.texts)


@runtime_checkable
class Head(Protocol):
    """Whatever decides. `classes` of `parts` are one class number an image: (N,); `scores` (N, C) are those of the
    images where they are known already, so that they need not be made again.

    |sum of parts - score| <= 1e-6 x sum |parts|. `state` and `restore` are for saving: fields of JSON, and arrays.
    """

    @property
    def card(self) -> HeadCard: ...
    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]: ...
    def parts(
        self,
        images: Float32[np.ndarray, "n d"],
        classes: Int[np.ndarray, " n"],
        scores: Float32[np.ndarray, "n c"] | None = None,
    ) -> Parts: ...
    def state(self) -> tuple[dict[str, Any], Arrays]: ...
    @classmethod
    def restore(cls, card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Head: ...


@dataclass(frozen=True)
class Fitting:
    """What a head is fitted with: labelled embeddings (R, D) and class numbers (R,), and what is said of the classes.

    `card` has classes, encoder and phrase. `base` gives the head that decides without these images. The last `n_new`
    classes are known by few images.
    """

    card: HeadCard
    base: Callable[[], Head]
    descriptors: Descriptors
    encode: Encode
    images: Float32[np.ndarray, "r d"]
    labels: Int[np.ndarray, " _r"]
    n_new: int = 0

    @property
    def phrase(self) -> str:
        """How names and descriptors are worded."""
        return str(self.card.settings["phrase"])


@dataclass(frozen=True)
class HeadKind:
    """A kind of head: how it is loaded, and where labelled images make one, how, with a word about it.

    `phrase` is how descriptors are worded where nothing is said. One that `picks` needs descriptors, not names alone.
    """

    restore: Callable[[HeadCard, Mapping[str, Any], Arrays], Head]
    fit: Callable[[Fitting], Head] | None = None
    about: str = ""
    phrase: str = "plain"
    picks: bool = False


def show(head: Head) -> str:
    """A head in a line, for its repr."""
    card = head.card
    return f"<Head {card.kind}: {counted(len(card.classes), 'class')}, {card.model or card.encoder}>"


def show_html(head: Head) -> str:
    """What a head is, for a notebook."""
    card, learned = head.card, head.card.fitted_on
    rows = {
        "classes": f"{len(card.classes)}: {few(class_.name for class_ in card.classes)}",
        "model": f"{card.model} in {card.precision} ({card.encoder})",
        **{str(name): str(value) for name, value in card.settings.items()},
        "fitted on": counted(learned["images"], "image") if learned else "nothing",
    }
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
    return f"<table><caption>{escape(card.kind)} head</caption>{cells}</table>"


@runtime_checkable
class Splits(Protocol):
    """A head that tells its parts but for the rounding by which they may miss the score."""

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]: ...
    def split(self, images: Float32[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Parts: ...


def parts_of(
    head: Splits,
    images: Float32[np.ndarray, "n d"],
    classes: Int[np.ndarray, " n"],
    scores: Float32[np.ndarray, "n c"] | None = None,
) -> Parts:
    """The parts of each image's class, which add up to its score: the `parts` of heads that `split`."""
    return add_up(head.split(images, classes), head.scores(images) if scores is None else scores, classes)


def add_up(parts: Parts, scores: Float32[np.ndarray, "n c"], classes: Int[np.ndarray, " n"]) -> Parts:
    """The parts with rounding, by which two ways to add up differ, spread over them: they add up to these scores."""
    wanted = scores[np.arange(len(classes)), classes].astype(np.float64)
    size = np.abs(parts.value)
    total = size.sum(axis=1)
    off = (wanted - parts.value.sum(axis=1)) / np.where(total > 0, total, 1)
    return replace(parts, value=parts.value + size * off[:, None])


def put_beside(parts: Parts, more: Parts) -> Parts:
    """The parts of both, those of `more` behind."""
    shifted = np.where(more.here, more.number + len(parts.keys), -1)
    sides = ((parts.number, shifted), (parts.value, more.value), (parts.share, more.share))
    number, value, share = (np.concatenate(pair, axis=1) for pair in sides)
    similarity = np.concatenate([parts.similarity, more.similarity], axis=1)
    keys, texts = [*parts.keys, *more.keys], [*parts.texts, *more.texts]
    return Parts(number, value, share, similarity, keys, texts)


def number(what: str, value: Any, most: float = MOST) -> float:
    """A number from a file, from 0 to `most`. Raises: TypeError, ValueError."""
    if type(value) not in (int, float):
        raise TypeError(f"{what} is {value!r:.40}")
    if not 0 <= value <= most:
        raise ValueError(f"{what} is {value!r:.40}, not from 0 to {most:g}")
    return float(value)


def strings(what: str, value: Any) -> tuple[str, ...]:
    """Texts from a file. Raises: TypeError."""
    if not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
        raise TypeError(f"{what} are no list of texts")
    return tuple(value)


def embeddings(arrays: Mapping[str, np.ndarray], name: str, blank: bool = False) -> Float32[np.ndarray, "m d"]:
    """Vectors from a file, each of norm 1 or a mean of such; with `blank` a row may be NaN all through.

    Raises: KeyError, ValueError.
    """
    found = of_type(arrays, name, np.float32, 2)
    norms = np.linalg.norm(found.astype(np.float64), axis=1)
    fine = (norms <= 1 + SLACK) | (blank & np.isnan(found).all(axis=1))
    if not fine.all():
        raise ValueError(f"{name} has vectors that are no embeddings")
    return found


def of_type(arrays: Mapping[str, np.ndarray], name: str, dtype: type[np.generic], ndim: int) -> np.ndarray:
    """An array from a file. Raises: KeyError; ValueError for one of another type or number of axes."""
    found = arrays[name]
    if found.dtype != dtype or found.ndim != ndim:
        raise ValueError(f"{name} is {found.dtype} with {found.ndim} axes, not {np.dtype(dtype)} with {ndim}")
    return found
