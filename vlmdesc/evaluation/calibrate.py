"""Weights and temperatures chosen on other images than those they are used on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int

WEIGHTS = np.linspace(0, 1, 21, dtype=np.float32)  # of the name, against 1 - w of its descriptors
TEMPERATURES = np.geomspace(0.002, 1.0, 29, dtype=np.float32)  # of a softmax over similarities; CLIP's own is 0.01
N_FOLDS = 5
MOST = 5_000  # images that choices are made on


def folds(
    labels: Int[np.ndarray, " n"], contents: Sequence[str], seed: int, n_folds: int = N_FOLDS
) -> Int[np.ndarray, " n"]:
    """A fold, from 0, for each image, each class spread evenly over them; equal contents share one: (N,)."""
    order = _class_after_class(labels, seed)
    fold = np.empty(len(labels), np.intp)
    fold[order] = np.arange(len(labels)) % n_folds
    _, first, which = np.unique(np.array(contents, object), return_index=True, return_inverse=True)
    return fold[first[which]]


def sample(labels: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " s"]:
    """At most 5,000 images, as many of each class as its share is: their numbers, in order."""
    if len(labels) <= MOST:
        return np.arange(len(labels))
    order = _class_after_class(labels, seed)
    return np.sort(order[np.linspace(0, len(labels) - 1, MOST).astype(np.intp)])


def _class_after_class(labels: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """Numbers of the images, class after class, at random within each."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def choose(losses: Float32[np.ndarray, "s g"], fold: Int[np.ndarray, " s"] | None) -> Int[np.ndarray, " folds"]:
    """For each fold the grid point of least mean loss on the images of all other folds: (5,).

    Without folds, of least loss on all images, the same for each: for losses of a reference set. Of equal ones the
    first.
    """
    if fold is None:
        return np.full(N_FOLDS, losses.mean(axis=0).argmin())
    return np.array([losses[fold != f].mean(axis=0).argmin() if (fold != f).any() else 0 for f in range(N_FOLDS)])


def wrong_by_weight(
    name: Float32[np.ndarray, "s c"], described: Float32[np.ndarray, "s c"], labels: Int[np.ndarray, " s"]
) -> Float32[np.ndarray, "s g"]:
    """Whether w * name + (1 - w) * described is wrong, for each weight of the grid: (S, G) of 0 and 1."""
    return np.stack([(w * name + (1 - w) * described).argmax(axis=1) != labels for w in WEIGHTS], axis=1).astype(
        np.float32
    )


def log_losses(scores: Float32[np.ndarray, "s c"], labels: Int[np.ndarray, " s"]) -> Float32[np.ndarray, "s g"]:
    """-log softmax(scores / T) of the true class, for each temperature of the grid: (S, G)."""
    below = scores - scores.max(axis=1, keepdims=True)
    true = below[np.arange(len(labels)), labels]
    return np.stack([np.log(np.exp(below / t).sum(axis=1)) - true / t for t in TEMPERATURES], axis=1)


def confidences(
    scores: Float32[np.ndarray, "n c"], temperatures: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, " n"]:
    """Probability of the best class under softmax(scores / T), T one for each image: (N,)."""
    below = (scores - scores.max(axis=1, keepdims=True)) / temperatures[:, None]
    return 1 / np.exp(below).sum(axis=1)


def calibration_error(confidence: Float32[np.ndarray, " n"], right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over 15 bins of equal width. Guo et al. 2017."""
    bin_ = np.minimum((confidence * bins).astype(np.intp), bins - 1)
    gaps = np.bincount(bin_, confidence - right, bins)
    return float(np.abs(gaps).sum() / max(1, len(confidence)))
