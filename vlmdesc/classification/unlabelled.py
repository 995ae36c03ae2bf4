"""A neighbourhood without labels: images teach it under the labels that it gives them itself."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.neighborhood import candidates, parts, picks, running_means, similarities
from vlmdesc.classification.reference import PUBLISHED_K, PUBLISHED_M, Choice, Neighborhood, balanced, profile_of
from vlmdesc.classification.texts import Texts
from vlmdesc.errors import InputError

ROUNDS = 10
CONFIDENT = 0.5  # share of each pseudo-class that teaches


def fit_unlabelled(texts: Texts, images: Float32[np.ndarray, "n d"]) -> Neighborhood:
    """Taught by images without labels: the reference are the images that the neighbourhood itself is surest of.

    Pseudo-labels come from the captions first. The half of each pseudo-class with the widest margins then teaches a
    neighbourhood, which labels all images anew, until no label changes, for ten rounds at most. k and m are the
    published ones, and the name weight is balanced in the first round.
    Raises: InputError when there are no images.
    """
    if not len(images):
        raise InputError("no images", fix="give at least one")
    k = min(PUBLISHED_K, len(texts.captions))
    found = candidates(images, texts.captions, k)
    scores = similarities(images, texts.captions, found)
    labels, current = found[:, 0], None
    for round_ in range(1, ROUNDS + 1):
        sure = _surest(labels, scores)
        taught = profile_of(texts, images[sure], labels[sure])
        chosen = picks(taught, found, texts.own[:, :PUBLISHED_M])
        named, picked = parts(images, texts.captions, texts.texts, chosen)
        described = running_means(picked)[:, :, -1]
        weight = current.choice.name_weight if current else balanced(named, described)
        scores = weight * named + described
        fresh = np.take_along_axis(found, scores.argmax(axis=1)[:, None], axis=1)[:, 0]
        settled = bool((fresh == labels).all())
        current = Neighborhood(texts, Choice(k, PUBLISHED_M, weight), taught, len(sure), False, round_, settled)
        if settled:
            break
        labels = fresh
    assert current is not None  # noqa: S101 - there is a first round
    return current


def _surest(labels: Int[np.ndarray, " n"], scores: Float32[np.ndarray, "n k"]) -> Int[np.ndarray, " s"]:
    """The half of each class that leads its second candidate most clearly, at least one image: their numbers."""
    best = np.sort(scores, axis=1)
    margins = best[:, -1] - best[:, -2] if best.shape[1] > 1 else best[:, -1]
    order = np.lexsort((-margins, labels))
    ordered = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < np.ceil(CONFIDENT * np.bincount(labels)[ordered])])
