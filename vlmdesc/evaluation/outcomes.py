"""Heads over images, block by block: what each method answers, how sure it is, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from vlmdesc.classification.explain import rank
from vlmdesc.classification.heads import Head
from vlmdesc.classification.heads.learned import measure as measure_learned
from vlmdesc.classification.score import ranking
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.methods import Fit, Given, Method
from vlmdesc.records.progress import Progress, counter, silent

BLOCK = 2_048  # images at a time: a block of scores stays in the processor's cache
TOP, REASONS = 5, 3


@dataclass(frozen=True)
class Outcome:
    """The answers of a method with one seed: the best classes and their scores, best first (N, K).

    Of a method's first seed alone there are confidence in the first answer (N,), under the `temperatures` of each fold,
    `reasons` (N, R), numbers of `texts`, -1 for none, its heads, and a record of what they learned.
    """

    method: Method
    seed: int | None
    ranked: Int32[np.ndarray, "n k"]
    scores: Float32[np.ndarray, "n k"]
    confidence: Float32[np.ndarray, " n"]
    reasons: Int32[np.ndarray, "n r"]
    fit: Fit
    texts: Sequence[str] = ()
    temperatures: Float32[np.ndarray, " folds"] | None = None
    learned: Mapping[str, Any] | None = None

    def right(self, labels: Int[np.ndarray, " n"], top: int = 1) -> Bool[np.ndarray, " n"]:
        """Whether the true class is among the `top` best: (N,)."""
        return (self.ranked[:, :top] == labels[:, None]).any(axis=1)


def measure(
    methods: Sequence[Method], given: Given, images: Labelled, seed: int = 0, progress: Progress = silent
) -> dict[str, list[Outcome]]:
    """The answers of each method, one outcome for each of its seeds: a list of heads on the same images.

    One head at a time: of all but a method's first seed only the answers are kept.
    """
    fold = calibrate.folds(images.labels, images.contents, seed)
    more = counter(progress, "methods", sum(len(method.seeds) for method in methods))
    found: dict[str, list[Outcome]] = {}
    for method in methods:
        for seed_ in method.seeds:
            found.setdefault(method.name, []).append(outcome(method, seed_, given, images, fold))
            more(1)
    return found


def outcome(method: Method, seed: int | None, given: Given, images: Labelled, fold: Int[np.ndarray, " n"]) -> Outcome:
    """What a method with one seed answers to each image.

    Temperatures are chosen on what weights are chosen on; those of heads that the reference was given to, on the images
    themselves, by cross-validation.
    """
    fit, first = method.entry.fit(method, given, seed), seed == method.seeds[0]
    temperatures = _temperatures(fit, given, images, fold) if first else None
    explained = first and method.entry.kind != "name"
    n, k = len(images.labels), min(TOP, len(given.card.classes))
    answers, scores = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    confidence, why = np.zeros(n, np.float32), np.full((n, REASONS if explained else 0), -1, np.int32)
    for start in range(0, n, BLOCK):
        at = slice(start, start + BLOCK)
        block = images.vectors[at]
        found = scores_of(fit.heads, block, fold[at])
        best = ranking(found, TOP)
        answers[at], scores[at] = best, np.take_along_axis(found, best, axis=1)
        if temperatures is not None:
            confidence[at] = calibrate.confidences(found, temperatures[fold[at]])
        if explained:
            why[at] = _reasons(fit.heads, block, best[:, 0], found, fold[at])
    if not first:
        return Outcome(method, seed, answers, scores, confidence, why, Fit((), fit.form, fit.n_texts))
    texts = fit.heads[0].parts(images.vectors[:0], np.empty(0, np.intp)).texts if explained else ()
    learned = measure_learned(fit.heads[0], images.vectors, images.labels)
    return Outcome(method, seed, answers, scores, confidence, why, fit, texts, temperatures, learned)


def scores_of(
    heads: Sequence[Head], images: Float32[np.ndarray, "n d"], fold: Int[np.ndarray, " n"]
) -> Float32[np.ndarray, "n c"]:
    """Class scores (N, C) by one head, or by the head of each image's fold."""
    if len(heads) == 1:
        return heads[0].scores(images)
    found = np.empty((len(images), len(heads[0].card.classes)), np.float32)
    for f, head in enumerate(heads):
        found[fold == f] = head.scores(images[fold == f])
    return found


def _temperatures(
    fit: Fit, given: Given, images: Labelled, fold: Int[np.ndarray, " n"]
) -> Float32[np.ndarray, " folds"]:
    chosen_on, labels, folds = given.chosen_on, given.labels, given.folds
    if fit.heads[0].card.fitted_on is not None:
        some = calibrate.sample(images.labels, given.seed)
        chosen_on, labels, folds = images.vectors[some], images.labels[some], fold[some]
    scores = scores_of(fit.heads, chosen_on, np.zeros(len(labels), np.intp) if folds is None else folds)
    return calibrate.TEMPERATURES[calibrate.choose(calibrate.log_losses(scores, labels), folds)]


def _reasons(
    heads: Sequence[Head],
    images: Float32[np.ndarray, "b d"],
    classes: Int[np.ndarray, " b"],
    scores: Float32[np.ndarray, "b c"],
    fold: Int[np.ndarray, " b"],
) -> Int[np.ndarray, "b r"]:
    """Numbers of the parts that give most to the score of each image's class, by its own head: (B, R), -1 for none."""
    found = np.empty((len(images), REASONS), np.intp)
    for f, head in enumerate(heads):
        some = fold == f if len(heads) > 1 else np.ones(len(images), bool)
        parts = head.parts(images[some], classes[some], scores[some])
        places, _ = rank(parts, REASONS)
        found[some] = np.where(places >= 0, np.take_along_axis(parts.number, places, axis=1), -1)
    return found
