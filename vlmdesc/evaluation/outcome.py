"""Runs over images, block by block: what each method answers, how sure it is, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32

from vlmdesc.classification.score import ranking
from vlmdesc.evaluation import fit
from vlmdesc.evaluation.methods import Run

BLOCK = 2_048  # images at a time: a block of scores stays in the processor's cache
TOP, REASONS = 5, 3


@dataclass(frozen=True)
class Fitted:
    """What was chosen for a run, one for each fold of the images: softmax temperature, and weight of the name.

    `curve` is the accuracy at each weight of `fit.WEIGHTS`, on the images the choice was made on.
    """

    temperatures: Float32[np.ndarray, " folds"]
    weights: Float32[np.ndarray, " folds"] | None = None
    curve: Float[np.ndarray, " grid"] | None = None


@dataclass(frozen=True)
class Outcome:
    """A run's answers: the best classes and their scores, best first (N, K), confidence in the first (N,), reasons.

    Confidence and reasons are those of a method's primary run alone.
    """

    run: Run
    fitted: Fitted
    ranked: Int32[np.ndarray, "n k"]
    scores: Float32[np.ndarray, "n k"]
    confidence: Float32[np.ndarray, " n"]
    reasons: Int32[np.ndarray, "n r"]  # numbers of what the run has `said`, -1 for none

    def right(self, labels: Int[np.ndarray, " n"], top: int = 1) -> Bool[np.ndarray, " n"]:
        """Whether the true class is among the `top` best: (N,)."""
        return (self.ranked[:, :top] == labels[:, None]).any(axis=1)


def fitted(
    run: Run,
    images: Float32[np.ndarray, "s d"],
    labels: Int[np.ndarray, " s"],
    fold: Int[np.ndarray, " s"] | None,
) -> Fitted:
    """Weight and temperature by cross-validation on some images, or, without folds, on a reference set."""
    chosen, curve = None, None
    if run.name_score is not None:
        wrong = fit.wrong_by_weight(run.name_score(images), run.score(images), labels)
        chosen, curve = fit.WEIGHTS[fit.choose(wrong, fold)], 1 - wrong.mean(axis=0, dtype=np.float64)
    weights = None if chosen is None else chosen[0 if fold is None else fold] * np.ones(len(images), np.float32)
    losses = fit.log_losses(run.scores(images, weights), labels)
    return Fitted(fit.TEMPERATURES[fit.choose(losses, fold)], chosen, curve)


def outcomes(
    images: Float32[np.ndarray, "n d"],
    runs: Sequence[Run],
    fits: Sequence[Fitted],
    fold: Int[np.ndarray, " n"],
    tick: Callable[[int], object] = bool,
) -> list[Outcome]:
    """What each run answers to each image. `tick` is told how many images are done."""
    found = [_empty(run, fit_, len(images)) for run, fit_ in zip(runs, fits, strict=True)]
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        for outcome in found:
            _fill(outcome, block, fold[start : start + BLOCK], slice(start, start + len(block)))
        tick(len(block))
    return found


def _empty(run: Run, fit_: Fitted, n: int) -> Outcome:
    k = min(TOP, run.n_classes)
    ranked, scores = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    why = np.full((n, REASONS if run.reasons else 0), -1, np.int32)
    return Outcome(run, fit_, ranked, scores, np.zeros(n, np.float32), why)


def _fill(outcome: Outcome, block: Float32[np.ndarray, "b d"], fold: Int[np.ndarray, " b"], at: slice) -> None:
    """The answers to one block of images, into their place."""
    run, chosen = outcome.run, outcome.fitted
    scores = run.scores(block, None if chosen.weights is None else chosen.weights[fold])
    best = ranking(scores, TOP)
    outcome.ranked[at] = best
    outcome.scores[at] = np.take_along_axis(scores, best, axis=1)
    if run.primary:
        outcome.confidence[at] = fit.confidences(scores, chosen.temperatures[fold])
    if run.reasons is not None:
        outcome.reasons[at] = run.reasons(block, best[:, 0], k=REASONS)[0]
