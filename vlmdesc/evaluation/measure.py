"""Encoded methods and labelled embeddings to a report. No model, no disk: arrays in, figures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from vlmdesc.classification.score import FOLDS
from vlmdesc.evaluation import fit
from vlmdesc.evaluation.credit import Best, leave_one_out
from vlmdesc.evaluation.methods import Method, Run
from vlmdesc.evaluation.outcome import REASONS, Outcome, fitted, outcomes
from vlmdesc.evaluation.photos import Photos
from vlmdesc.evaluation.roles import drawn, pairs, selection_verdicts, verdicts
from vlmdesc.evaluation.summary import Summary
from vlmdesc.evaluation.verdict import NO_DESCRIPTORS, Difference
from vlmdesc.records import ClassName

EXAMPLES = 12  # images shown of those fixed, and of those broken


@dataclass(frozen=True)
class Measured:
    """The outcomes of each method, one a seed, and the parts of a `Report` that follow from them."""

    outcomes: Mapping[str, Sequence[Outcome]]
    parts: Mapping[str, Any]


def measure(
    photos: Photos,
    runs: Sequence[Run],
    classes: Sequence[ClassName],
    *,
    reference: Photos | None = None,
    resamples: int = 2_000,
    seed: int = 0,
    tick: Callable[[int], object] = bool,
) -> Measured:
    """Answers of all runs, and every figure about them.

    Weights and temperatures are chosen on the reference where there is one, else by cross-validation over five folds;
    so are the temperatures of methods that the reference has taught.
    """
    fold = fit.folds(photos.labels, photos.contents, seed)
    fits = _fits([run for run in runs if run.learned], photos, fold, seed)
    fits |= _fits([run for run in runs if not run.learned], reference or photos, None if reference else fold, seed)
    found: dict[str, list[Outcome]] = {}
    chosen = [fits[run.method.name] for run in runs]
    for outcome in outcomes(photos.vectors, runs, chosen, fold, tick):
        found.setdefault(outcome.run.method.name, []).append(outcome)
    methods = [seeds[0].run.method for seeds in found.values()]
    base, main = drawn(methods)
    summary = Summary(found, photos.labels, photos.groups, classes, resamples, seed)
    comparisons = summary.comparisons(pairs(methods))
    parts = {
        "methods": {name: summary.method(name) for name in found},
        "comparisons": [difference.record() for difference in comparisons],
        "verdict": _verdict(summary, methods, comparisons),
        "base": base,
        "main": main,
        "classes": summary.class_table(base, main),
        "confusions": _with_examples(summary.confusions(base, main), photos, found[main][0], classes),
        "changes": _changes(photos, found[base][0], found[main][0], classes),
        "credit": _credit(photos, found[main][0], classes),
    }
    return Measured(found, parts)


def _fits(runs: Sequence[Run], photos: Photos, fold: Int[np.ndarray, " n"] | None, seed: int) -> dict[str, Any]:
    """What is chosen for each method, on its first run."""
    some = fit.sample(photos.labels, seed)
    images, labels = photos.vectors[some], photos.labels[some]
    folds = None if fold is None else fold[some]
    return {run.method.name: fitted(run, images, labels, folds) for run in runs if run.primary}


def _verdict(summary: Summary, methods: Sequence[Method], comparisons: Sequence[Difference]) -> dict[str, Any]:
    """The verdict on the first descriptor set, and on each where there are several."""
    free = {m.name: summary.figure(m.name, "top1").value for m in methods if m.base == "free"}
    chance = 1 / len(summary.classes)
    found = {of: vars(v) for of, v in verdicts(methods, comparisons, free, chance).items()}
    selected = [vars(verdict) for verdict in selection_verdicts(methods, comparisons)]
    first = next(iter(found.values()))
    if selected and first["code"] == NO_DESCRIPTORS.code:
        first = selected[0]
    more = ({"sets": found} if len(found) > 1 else {}) | ({"selection": selected} if selected else {})
    return dict(first) | more


def _changes(photos: Photos, before: Outcome, after: Outcome, classes: Sequence[ClassName]) -> dict[str, Any]:
    """Images that are right after and were wrong before, and the reverse: how many, and the clearest of them."""
    was, is_ = before.right(photos.labels), after.right(photos.labels)
    which = {"fixed": is_ & ~was, "broken": was & ~is_}
    margin = after.scores[:, 0] - after.scores[:, :2][:, -1]  # of one class alone there is no margin
    examples = {
        kind: [_example(int(i), photos, before, after, classes) for i in _clearest(changed, margin, photos.labels)]
        for kind, changed in which.items()
    }
    return {kind: int(changed.sum()) for kind, changed in which.items()} | {"examples": examples}


def _clearest(changed: np.ndarray, margin: np.ndarray, labels: np.ndarray) -> list[int]:
    """The changed images of widest margin, one of each class."""
    order = [i for i in np.argsort(-margin, kind="stable") if changed[i]]
    first = dict[int, int]()
    for i in order:
        first.setdefault(int(labels[i]), int(i))
    return [*first.values()][:EXAMPLES]


def _example(i: int, photos: Photos, before: Outcome, after: Outcome, classes: Sequence[ClassName]) -> dict[str, Any]:
    """One image: its true class, both answers, and the descriptors of the second answer and of the true class."""
    truth, was, is_ = (int(x) for x in (photos.labels[i], before.ranked[i, 0], after.ranked[i, 0]))
    ids = {"truth": truth, "before": was, "after": is_}
    why = [
        reason for class_ in dict.fromkeys((is_, truth, was)) for reason in _reasons(i, class_, photos, after, classes)
    ]
    return (
        {"image": photos.keys[i], "row": photos.rows[i]} | {k: classes[c].id for k, c in ids.items()} | {"reasons": why}
    )


def _reasons(
    i: int, class_: int, photos: Photos, outcome: Outcome, classes: Sequence[ClassName]
) -> list[dict[str, Any]]:
    run = outcome.run
    if run.reasons is None:
        return []
    rows, values = run.reasons(photos.vectors[i : i + 1], np.array([class_]), k=REASONS)
    return [
        {"class": classes[class_].id, "descriptor": run.said[row], "similarity": round(value, 4)}
        for row, value in zip(rows[0].tolist(), values[0].tolist(), strict=True)
        if row >= 0
    ]


def _with_examples(
    confusions: Sequence[Mapping[str, Any]], photos: Photos, outcome: Outcome, classes: Sequence[ClassName]
) -> list[dict[str, Any]]:
    """Confused pairs, each with the first image of it."""
    place = {class_.id: c for c, class_ in enumerate(classes)}
    first = dict[tuple[int, int], int]()
    for i, pair in enumerate(zip(photos.labels.tolist(), outcome.ranked[:, 0].tolist(), strict=True)):
        first.setdefault(pair, i)
    at = [first[place[row["truth"]], place[row["answer"]]] for row in confusions]
    return [{**row, "image": photos.keys[i], "row": photos.rows[i]} for row, i in zip(confusions, at, strict=True)]


def _credit(photos: Photos, outcome: Outcome, classes: Sequence[ClassName]) -> list[dict[str, Any]]:
    """Each descriptor's worth; empty for a pooling it is not defined under."""
    run = outcome.run
    if run.columns is None or run.method.pool not in FOLDS or len(classes) < 2 or run.name_score is not None:
        return []
    best = Best(outcome.ranked[:, :2], outcome.scores[:, :2])
    found = leave_one_out(photos.vectors, photos.labels, best, run.method.pool, run.columns)
    worth = (found.only_with - found.only_without) / len(photos.labels)
    return [
        {
            "class": classes[run.columns.owner[m]].id,
            "descriptor": run.said[m],
            "credit": round(float(worth[m]), 6),
            "only_with": int(found.only_with[m]),
            "only_without": int(found.only_without[m]),
        }
        for m in np.flatnonzero(found.defined).tolist()
    ]
