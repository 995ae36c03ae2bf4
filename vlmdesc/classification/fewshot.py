"""Classes from a few photographs: image prototypes beside the texts, without training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int

from vlmdesc.classification.neighborhood import class_means, left_out_in_turn
from vlmdesc.classification.score import TINY
from vlmdesc.errors import InputError, ShapeError

SHARPNESS = 5.5  # of likeness: beta of Tip-Adapter's cache (Zhang et al. 2022)
TEMPERATURE = 16.0  # of TEEN (Wang et al. 2023)
WEIGHTS = np.geomspace(0.01, 50, 38)
RANGES = 1.5  # of a photograph's text scores, that a perfect likeness is worth where photographs cannot tell
MOSTLY = 0.5  # share of classes with photographs from which these may outweigh the texts


@dataclass(frozen=True)
class FewShot:
    """Unit-norm mean image embeddings of classes (C, D), NaN where there is no photograph, and how much they count.

    A class with photographs gets weight * exp(-5.5 * (1 - cosine to its prototype)) on top of its score by texts: the
    cache of Tip-Adapter with one key a class. The others get nothing.
    """

    prototypes: Float32[np.ndarray, "c d"]
    weight: float
    n_base: int | None = None  # of the classes, those that calibrate more that come; None: all that are here

    def bonus(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """What is added to class scores: (N, C), 0 for a class without photographs."""
        return np.float32(self.weight) * _likeness(images @ self.prototypes.T)

    def add(
        self, photos: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"], n_new: int, shift: float | None = None
    ) -> FewShot:
        """With `n_new` more classes, numbered from 0 in `labels`; those that are here stay exactly as they are.

        New prototypes are calibrated by those that were here before any was added; `shift` says how far. By default
        what these expect counts as one photograph more: 1/2 at one photograph, as published, 1/17 at sixteen.
        Raises: ShapeError when labels do not fit.
        """
        n_base = len(self.prototypes) if self.n_base is None else self.n_base
        new, base = prototypes(photos, labels, n_new), self.prototypes[:n_base]
        base = base[~np.isnan(base[:, 0])]
        if len(base):
            each = 1 / (np.bincount(labels, minlength=n_new) + 1)
            new = calibrated(new, base, each if shift is None else np.full(n_new, shift))
        return replace(self, prototypes=np.concatenate([self.prototypes, new]), n_base=n_base)


def prototypes(
    photos: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"], n_classes: int
) -> Float32[np.ndarray, "c d"]:
    """Mean embedding of each class's photographs at unit norm: (C, D), NaN for a class without any.

    Raises: ShapeError when labels do not fit.
    """
    return _unit(class_means(photos, labels, n_classes))


def calibrated(
    new: Float32[np.ndarray, "n d"], base: Float32[np.ndarray, "b d"], shift: Float[np.ndarray, " n"]
) -> Float32[np.ndarray, "n d"]:
    """Prototypes of few photographs, drawn toward those of many that they resemble: unit norm (N, D).

    (1 - shift) * p + shift * unit(softmax(16 * p . base) base). TEEN, Wang et al. 2023.
    """
    near = TEMPERATURE * new @ base.T
    near = np.exp(near - near.max(axis=1, keepdims=True))
    delta = _unit((near / near.sum(axis=1, keepdims=True)) @ base)
    part = shift.astype(np.float32)[:, None]
    return _unit((1 - part) * new + part * delta)


def fit(
    photos: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " _r"],
    text_scores: Float32[np.ndarray, "_r c"],
) -> FewShot:
    """Prototypes of labelled photographs, and the weight of most right answers on them, each left out in turn.

    `text_scores` are the photographs' class scores without prototypes. The choice is made on at most 5,000
    photographs of classes that have two or more. So that classes without photographs do not lose theirs to those that
    have some, each photograph stands in for one of theirs too, in the share that they are of all classes: right then is
    what is right without the prototype of its own class. Where photographs cannot tell, a perfect likeness is worth 1.5
    times the range that the text scores of a photograph span: with no class of two it is that, of equal weights the
    nearest, and while most classes have no photograph that at most.
    Raises: InputError without a photograph; ShapeError when the arrays do not fit.
    """
    if not len(photos):
        raise InputError("no photographs", fix="give at least one of some class")
    if len(photos) != len(text_scores):
        raise ShapeError(f"{len(photos)} photographs, scores of {len(text_scores)}", fix="give scores of each")
    n_classes = text_scores.shape[1]
    means, sizes = class_means(photos, labels, n_classes), np.bincount(labels, minlength=n_classes)
    found = _unit(means)
    usual = RANGES * float(np.ptp(text_scores, axis=1).mean()) or 1.0
    some = left_out_in_turn(labels)
    if not len(some):
        return FewShot(found, usual)
    x, y, rows = photos[some], labels[some], np.arange(len(some))
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
    return FewShot(found, min(weight, usual) if known < MOSTLY else weight)


def _likeness(cosines: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n c"]:
    return np.nan_to_num(np.exp(np.float32(SHARPNESS) * (cosines - 1)))


def _unit(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(TINY))
