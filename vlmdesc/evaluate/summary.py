"""Outcomes to figures: accuracies with intervals, comparisons, classes, groups, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vlmdesc.evaluate.fit import calibration_error
from vlmdesc.evaluate.outcome import Outcome
from vlmdesc.evaluate.statistics import holm, interval, mcnemar_over_seeds, over_seeds, resampled_means
from vlmdesc.evaluate.verdict import Difference
from vlmdesc.records import ClassName

Samples = Float[np.ndarray, " r"]
PAIRS_SHOWN = 50  # confusions kept


@dataclass(frozen=True)
class Sampled:
    """A figure and its bootstrap samples (R,)."""

    value: float
    samples: Samples

    def __sub__(self, other: Sampled) -> Sampled:
        return Sampled(self.value - other.value, self.samples - other.samples)

    @property
    def ci95(self) -> tuple[float, float]:
        low, high = interval(self.samples)
        return round(low, 6), round(high, 6)


@dataclass(frozen=True)
class Summary:
    """All figures of an evaluation. `outcomes` are those of each method, one for each of its seeds.

    Every figure comes from one table of columns over images, resampled once, so that all differences are paired.
    """

    outcomes: Mapping[str, Sequence[Outcome]]
    labels: Int[np.ndarray, " n"]
    groups: Sequence[str | None]
    classes: Sequence[ClassName]
    resamples: int
    seed: int

    @cached_property
    def right(self) -> dict[str, Bool[np.ndarray, "n s"]]:
        """Whether each method's first answer is right, one column for each seed: (N, S)."""
        return {name: np.stack([o.right(self.labels) for o in found], axis=1) for name, found in self.outcomes.items()}

    @cached_property
    def class_weights(self) -> Float32[np.ndarray, " n"]:
        """Weights under which the mean over images is the mean over the classes that have any."""
        sizes = np.bincount(self.labels)
        return (len(self.labels) / (np.count_nonzero(sizes) * sizes[self.labels])).astype(np.float32)

    @cached_property
    def members(self) -> dict[str, Bool[np.ndarray, " n"]]:
        """Which images are of each group."""
        named = sorted({group for group in self.groups if group is not None})
        return {group: np.array([g == group for g in self.groups]) for group in named}

    @cached_property
    def _columns(self) -> dict[tuple[str, str], Float32[np.ndarray, "n s"]]:
        columns: dict[tuple[str, str], np.ndarray] = {}
        for name, found in self.outcomes.items():
            right = self.right[name].astype(np.float32)
            columns[name, "top1"] = right
            columns[name, "top5"] = np.stack([o.right(self.labels, 5) for o in found], axis=1).astype(np.float32)
            columns[name, "mean_per_class"] = right * self.class_weights[:, None]
            for group, member in self.members.items():
                columns[name, f"group {group}"] = right.mean(axis=1, keepdims=True) * member[:, None]
        for group, member in self.members.items():
            columns["", f"group {group}"] = member[:, None].astype(np.float32)
        return columns

    @cached_property
    def _samples(self) -> dict[tuple[str, str], Samples]:
        widths = [column.shape[1] for column in self._columns.values()]
        table = np.concatenate([*self._columns.values()], axis=1)
        means = resampled_means(table, self.labels, self.resamples, self.seed)
        parts = np.split(means, np.cumsum(widths)[:-1], axis=1)
        return {key: over_seeds(part, self.seed) for key, part in zip(self._columns, parts, strict=True)}

    def figure(self, method: str, metric: str) -> Sampled:
        """A method's "top1", "top5", "mean_per_class" or "group NAME": for controls the mean over seeds."""
        key = (method, metric)
        value, samples = float(self._columns[key].mean(dtype=np.float64)), self._samples[key]
        if metric.startswith("group "):
            whole = self._columns["", metric].mean(dtype=np.float64)
            sizes = self._samples["", metric]
            return Sampled(value / whole, samples / np.where(sizes > 0, sizes, np.nan))
        return Sampled(value, samples)

    def method(self, name: str) -> dict[str, Any]:
        """The record of one method."""
        first = self.outcomes[name][0]
        run, fitted = first.run, first.fitted
        figures = {metric: self.figure(name, metric) for metric in ("top1", "top5", "mean_per_class")}
        record: dict[str, Any] = {metric: round(figure.value, 6) for metric, figure in figures.items()}
        record |= {
            "ci95": figures["top1"].ci95,
            "ci95_top5": figures["top5"].ci95,
            "ci95_mean_per_class": figures["mean_per_class"].ci95,
            "prompt_form": run.form,
            "phrase": run.method.phrase,
            "pool": run.method.pool,
            "kind": run.method.kind,
            "texts": run.n_texts,
            "calibration": self._calibration(first),
        }
        if run.method.of:
            record["descriptors"] = run.method.of
        if len(self.outcomes[name]) > 1:
            record["seeds"] = self._spread(name)
        if fitted.weights is not None and fitted.curve is not None:
            record["weight"] = {
                "of_name": _floats(fitted.weights),
                "curve": _floats(fitted.curve),
            }
        if self.members:
            record |= self._by_group(name)
        return record

    def _calibration(self, outcome: Outcome) -> dict[str, Any]:
        right = outcome.right(self.labels)
        error = calibration_error(outcome.confidence, right)
        return {"ece": round(error, 6), "temperature": _floats(outcome.fitted.temperatures)}

    def _spread(self, name: str) -> dict[str, Any]:
        """Over the seeds, as published: population standard deviation, least and most."""
        each = self.right[name].mean(axis=0, dtype=np.float64)
        seeds = [outcome.run.seed for outcome in self.outcomes[name]]
        spread = {"std": each.std(), "min": each.min(), "max": each.max()}
        return {key: round(float(value), 6) for key, value in spread.items()} | {"seed": seeds, "top1": _floats(each)}

    def _by_group(self, name: str) -> dict[str, Any]:
        figures = {group: self.figure(name, f"group {group}") for group in self.members}
        worst = min(figures, key=lambda group: figures[group].value)
        best = max(figures, key=lambda group: figures[group].value)
        gap = figures[best] - figures[worst]
        return {
            "groups": {
                group: {"n": int(self.members[group].sum()), "top1": round(figure.value, 6), "ci95": figure.ci95}
                for group, figure in figures.items()
            },
            "worst_group": worst,
            "gap": {"best": best, "value": round(gap.value, 6), "ci95": gap.ci95},
        }

    def comparisons(self, pairs: Sequence[tuple[str, str]]) -> list[Difference]:
        """Paired differences of top-1, with exact McNemar p and Holm's over all pairs. A control is always `b`."""
        deltas = [self.figure(a, "top1") - self.figure(b, "top1") for a, b in pairs]
        p_values = [mcnemar_over_seeds(self.right[a][:, 0], self.right[b]) for a, b in pairs]
        return [
            Difference(a, b, round(delta.value, 6), delta.ci95, p, p_holm, len(self.labels))
            for (a, b), delta, p, p_holm in zip(pairs, deltas, p_values, holm(p_values), strict=True)
        ]

    def class_table(self, base: str, main: str) -> list[dict[str, Any]]:
        """Each class that has images: n, top-1 of every method, and images fixed and broken from `base` to `main`."""
        sizes = np.bincount(self.labels, minlength=len(self.classes))
        accuracy = {
            name: np.bincount(self.labels, right.mean(axis=1), len(self.classes)) / np.maximum(sizes, 1)
            for name, right in self.right.items()
        }
        before, after = self.right[base][:, 0], self.right[main][:, 0]
        fixed, broken = (np.bincount(self.labels[x], minlength=len(sizes)) for x in (after & ~before, before & ~after))
        return [
            {
                "id": self.classes[c].id,
                "name": self.classes[c].name,
                "n": int(sizes[c]),
                "top1": {name: round(float(values[c]), 6) for name, values in accuracy.items()},
                "fixed": int(fixed[c]),
                "broken": int(broken[c]),
            }
            for c in np.flatnonzero(sizes).tolist()
        ]

    def confusions(self, base: str, main: str) -> list[dict[str, Any]]:
        """The pairs of true and answered class that `main` confuses most, and how often `base` does."""
        counts = [self._confused(name) for name in (main, base)]
        order = sorted(counts[0], key=lambda pair: (-counts[0][pair], pair))
        return [
            {
                "truth": self.classes[truth].id,
                "answer": self.classes[answer].id,
                "n": counts[0][truth, answer],
                "before": counts[1][truth, answer],
            }
            for truth, answer in order[:PAIRS_SHOWN]
        ]

    def _confused(self, name: str) -> Counter[tuple[int, int]]:
        answers = self.outcomes[name][0].ranked[:, 0]
        wrong = answers != self.labels
        return Counter(zip(self.labels[wrong].tolist(), answers[wrong].tolist(), strict=True))


def _floats(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]
