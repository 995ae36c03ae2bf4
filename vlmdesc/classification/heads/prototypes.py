"""Classes from a few images: their prototypes beside the texts, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from vlmdesc.classification.columns import TINY
from vlmdesc.classification.heads.head import (
    Arrays,
    Fitting,
    HeadCard,
    Parts,
    embeddings,
    number,
    parts_of,
    put_beside,
    show,
    show_html,
)
from vlmdesc.classification.heads.pooled import Pooled, nest, unnest
from vlmdesc.classification.selection import check_labels, class_means, left_out_in_turn
from vlmdesc.errors import InputError, ShapeError

SHARPNESS = 5.5  # of likeness: beta of Tip-Adapter's cache (Zhang et al. 2022)
TEMPERATURE = 16.0  # of TEEN (Wang et al. 2023)
WEIGHTS = np.geomspace(0.01, 50, 38)
RANGES = 1.5  # of an image's text scores, that a perfect likeness is worth where images cannot tell
MOSTLY = 0.5  # share of classes with images from which these may outweigh the texts
PROTOTYPE = "photographs"  # the key of the part that a prototype gives


@dataclass(frozen=True, repr=False)
class Prototypes:
    """Class scores by texts, and on top of them what is like the class's images.

    `prototypes` are unit-norm mean image embeddings of classes (C, D), NaN where there is no image: a class with images
    gets weight * exp(-5.5 * (1 - cosine to its prototype)) on top of its score by texts, the cache of Tip-Adapter with
    one key a class. The others get nothing.
    """

    card: HeadCard
    texts: Pooled
    prototypes: Float32[np.ndarray, "c d"]
    weight: float
    parts, __repr__, _repr_html_ = parts_of, show, show_html

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores: (N, C)."""
        return self.texts.scores(images) + bonus(images, self.prototypes, self.weight)

    def split(self, images: Float32[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Parts:
        """The parts of the texts, and the prototype's where there is one."""
        of_texts, own = self.texts.split(images, classes), self.prototypes[classes]
        cosine = np.einsum("nd,nd->n", images.astype(np.float64), own)[:, None]
        given = self.weight * _likeness(cosine)
        number = np.where(np.isnan(cosine), -1, 0)
        on_top = Parts(number, given, np.zeros_like(given), np.nan_to_num(cosine), [PROTOTYPE], ["(its photographs)"])
        return put_beside(of_texts, on_top)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What is saved: the head of the texts, prototypes and weight."""
        return nest({"weight": self.weight}, {"prototypes": self.prototypes}, texts=self.texts)

    @classmethod
    def restore(cls, card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Prototypes:
        """From what was saved."""
        texts, found = unnest(card, fields, arrays, "texts"), embeddings(arrays, "prototypes", blank=True)
        if found.shape != (len(card.classes), texts.columns.texts.shape[1]):
            raise ShapeError(f"prototypes of shape {found.shape} for {len(card.classes)} classes", fix="save it again")
        return cls(card, texts, found, number("its weight", fields["weight"]))


def bonus(
    images: Float32[np.ndarray, "n d"], prototypes: Float32[np.ndarray, "c d"], weight: float
) -> Float32[np.ndarray, "n c"]:
    """What prototypes add to class scores: (N, C), 0 for a class without images."""
    return np.float32(weight) * _likeness(images @ prototypes.T)


def fit_prototypes(
    texts: Pooled, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"], n_new: int = 0
) -> Prototypes:
    """Prototypes of labelled images (R, D) beside the head of the texts, as much as serves best on these images.

    The last `n_new` classes, known by few images, are calibrated by the others. Classes without images keep their
    scores exactly. Raises: InputError without an image; ShapeError when labels do not fit.
    """
    n_base = len(texts.card.classes) - n_new
    if not 0 <= n_new <= len(texts.card.classes):
        raise InputError(f"{n_new} new of {len(texts.card.classes)} classes", fix="the last ones are the new")
    check_labels(len(images), labels, len(texts.card.classes))
    base = labels < n_base
    if n_new and base.any():
        scores = texts.scores(images[base])[:, :n_base]
        found, weight = choose(images[base], labels[base], scores)
        new = calibrate_new(found, images[~base], labels[~base] - n_base, n_new)
        found = np.concatenate([found, new])
    else:
        found, weight = choose(images, labels, texts.scores(images))
    learned = {"images": len(images), "labels": "given", "new_classes": n_new}
    card = replace(texts.card, kind="prototypes", name="prototypes", fitted_on=learned)
    return Prototypes(card, texts, found, weight)


def beside_texts(given: Fitting) -> Prototypes:
    """Prototypes beside the head there is. Raises: InputError where that was fitted itself; as `fit_prototypes`."""
    texts = given.base()
    if not isinstance(texts, Pooled):
        what = f"prototypes beside '{texts.card.kind}'"
        raise InputError(what, fix="give all images to a plain classifier")
    return fit_prototypes(texts, given.images, given.labels, given.n_new)


def calibrate_new(
    known: Float32[np.ndarray, "b d"],
    images: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " _r"],
    n_new: int,
    shift: float | None = None,
) -> Float32[np.ndarray, "n d"]:
    """Prototypes of `n_new` more classes, numbered from 0 in `labels`, calibrated by those that are known.

    `shift` says how far. By default what these expect counts as one image more: 1/2 at one image, as published, 1/17
    at sixteen. Raises: ShapeError when labels do not fit.
    """
    new, base = prototypes(images, labels, n_new), known[~np.isnan(known[:, 0])]
    if not len(base):
        return new
    each = 1 / (np.bincount(labels, minlength=n_new) + 1)
    return calibrate(new, base, each if shift is None else np.full(n_new, shift))


def prototypes(
    images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"], n_classes: int
) -> Float32[np.ndarray, "c d"]:
    """Mean embedding of each class's images at unit norm: (C, D), NaN for a class without any.

    Raises: ShapeError when labels do not fit.
    """
    return _unit(class_means(images, labels, n_classes))


def calibrate(
    new: Float32[np.ndarray, "n d"], base: Float32[np.ndarray, "b d"], shift: Float[np.ndarray, " n"]
) -> Float32[np.ndarray, "n d"]:
    """Prototypes of few images, drawn toward those of many that they resemble: unit norm (N, D).

    (1 - shift) * p + shift * unit(softmax(16 * p . base) base). TEEN, Wang et al. 2023.
    """
    near = TEMPERATURE * new @ base.T
    near = np.exp(near - near.max(axis=1, keepdims=True))
    delta = _unit((near / near.sum(axis=1, keepdims=True)) @ base)
    part = shift.astype(np.float32)[:, None]
    return _unit((1 - part) * new + part * delta)


def choose(
    images: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " _r"],
    text_scores: Float32[np.ndarray, "_r c"],
) -> tuple[Float32[np.ndarray, "c d"], float]:
    """Prototypes of labelled images, and the weight of most right answers on them, each left out in turn.

    `text_scores` are the images' class scores without prototypes. The choice is made on at most 5,000
    images of classes that have two or more. So that classes without images do not lose theirs to those that
    have some, each image stands in for one of theirs too, in the share that they are of all classes: right then is
    what is right without the prototype of its own class. Where images cannot tell, a perfect likeness is worth 1.5
    times the range that the text scores of an image span: with no class of two it is that, of equal weights the
    nearest, and while most classes have no image that at most.
    Raises: InputError without an image; ShapeError when the arrays do not fit.
    """
    if not len(images):
        raise InputError("no images", fix="give at least one of some class")
    if len(images) != len(text_scores):
        raise ShapeError(f"{len(images)} images, scores of {len(text_scores)}", fix="give scores of each")
    n_classes = text_scores.shape[1]
    means, sizes = class_means(images, labels, n_classes), np.bincount(labels, minlength=n_classes)
    found = _unit(means)
    usual = RANGES * float(np.ptp(text_scores, axis=1).mean()) or 1.0
    some = left_out_in_turn(labels)
    if not len(some):
        return found, usual
    x, y, rows = images[some], labels[some], np.arange(len(some))
    cosines = x @ found.T
    rest = means[y] * sizes[y, None].astype(np.float32) - x
    cosines[rows, y] = (x * _unit(rest)).sum(axis=1)
    likeness = _likeness(cosines)
    stranger = likeness.copy()
    stranger[rows, y] = 0
    known = np.count_nonzero(sizes) / n_classes
    accuracies = [
        sum(
            share * ((text_scores[some] + np.float32(weight) * like).argmax(axis=1) == y).mean()
            for share, like in ((known, likeness), (1 - known, stranger))
        )
        for weight in WEIGHTS
    ]
    best = WEIGHTS[accuracies >= np.max(accuracies) - 1e-9]
    weight = float(min(best, key=lambda w: abs(np.log(w / usual))))
    return found, min(weight, usual) if known < MOSTLY else weight


def _likeness(cosines: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    return np.nan_to_num(np.exp(cosines.dtype.type(SHARPNESS) * (cosines - 1)))


def _unit(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(TINY))
