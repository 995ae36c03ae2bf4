"""Outcomes to figures: accuracies with intervals, comparisons, classes, groups, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vlmdesc.evaluation.calibrate import calibration_error
from vlmdesc.evaluation.outcomes import Outcome
from vlmdesc.evaluation.statistics import by_group, holm, interval, mcnemar_over_seeds, over_seeds, resampled_means
from vlmdesc.evaluation.verdict import Difference
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
    def group_names(self) -> list[str]:
        return sorted({group for group in self.groups if group is not None})

    @cached_property
    def group_numbers(self) -> Int[np.ndarray, " n"]:
        """The place of each image's group among the names, -1 for none: (N,)."""
        place = {name: g for g, name in enumerate(self.group_names)}
        return np.array([-1 if group is None else place[group] for group in self.groups], np.intp)

    @cached_property
    def _columns(self) -> dict[tuple[str, str], Float32[np.ndarray, "n s"]]:
        columns: dict[tuple[str, str], np.ndarray] = {("", "classes"): self.class_weights[:, None]}
        for name, found in self.outcomes.items():
            right = self.right[name].astype(np.float32)
            columns[name, "top1"] = right
            columns[name, "top5"] = np.stack([o.right(self.labels, 5) for o in found], axis=1).astype(np.float32)
            columns[name, "mean_per_class"] = right * self.class_weights[:, None]
        return columns

    @cached_property
    def _samples(self) -> dict[tuple[str, str], Samples]:
        widths = [column.shape[1] for column in self._columns.values()]
        table = np.concatenate([*self._columns.values()], axis=1)
        means = resampled_means(table, self.labels, self.resamples, self.seed)
        parts = np.split(means, np.cumsum(widths)[:-1], axis=1)
        return {key: over_seeds(part, self.seed) for key, part in zip(self._columns, parts, strict=True)}

    def figure(self, method: str, metric: str) -> Sampled:
        """A method's "top1", "top5" or "mean_per_class": for controls the mean over seeds."""
        key = (method, metric)
        value, samples = float(self._columns[key].mean(dtype=np.float64)), self._samples[key]
        if metric == "mean_per_class":  # small classes are resampled together, so their weights do not add up to 1
            samples = samples / self._samples["", "classes"]
        return Sampled(value, samples)

    def group_figures(self, method: str) -> dict[str, Sampled]:
        """A method's top-1 in each group; a resample in which a group does not occur has none."""
        right, n_groups = self.right[method], len(self.group_names)
        columns = by_group(right, self.group_numbers, n_groups)
        seeds = resampled_means(columns, self.labels, self.resamples, self.seed).reshape(-1, n_groups, right.shape[1])
        sums = np.stack([over_seeds(seeds[:, g], self.seed) for g in range(n_groups)], axis=1)
        shares = np.where(self._group_shares > 0, self._group_shares, np.nan)
        hits = np.asarray(columns.sum(axis=0, dtype=np.float64)).reshape(n_groups, -1).mean(axis=1)
        values = hits / np.bincount(self.group_numbers[self.group_numbers >= 0], minlength=n_groups)
        return {name: Sampled(float(values[g]), sums[:, g] / shares[:, g]) for g, name in enumerate(self.group_names)}

    @cached_property
    def _group_shares(self) -> Float[np.ndarray, "r g"]:
        everyone = by_group(np.ones((len(self.labels), 1), bool), self.group_numbers, len(self.group_names))
        return resampled_means(everyone, self.labels, self.resamples, self.seed)

    def method(self, name: str) -> dict[str, Any]:
        """The record of one method."""
        first = self.outcomes[name][0]
        figures = {metric: self.figure(name, metric) for metric in ("top1", "top5", "mean_per_class")}
        record: dict[str, Any] = {metric: round(figure.value, 6) for metric, figure in figures.items()}
        record |= {
            "ci95": figures["top1"].ci95,
            "ci95_top5": figures["top5"].ci95,
            "ci95_mean_per_class": figures["mean_per_class"].ci95,
            "prompt_form": first.fit.form,
            "phrase": first.method.phrase,
            "pool": first.method.pool,
            "kind": first.method.kind,
            "texts": first.fit.n_texts,
            "calibration": self._calibration(first),
        }
        if first.method.of:
            record["descriptors"] = first.method.of
        if first.learned is not None:
            record["learned"] = dict(first.learned)
        if len(self.outcomes[name]) > 1:
            record["seeds"] = self._spread(name)
        if first.fit.weights is not None and first.fit.curve is not None:
            record["weight"] = {"of_name": _floats(first.fit.weights), "curve": _floats(first.fit.curve)}
        if self.group_names:
            record |= self._by_group(name)
        return record

    def _calibration(self, outcome: Outcome) -> dict[str, Any]:
        right = outcome.right(self.labels)
        error = calibration_error(outcome.confidence, right)
        assert outcome.temperatures is not None  # noqa: S101 - it is a method's first
        return {"ece": round(error, 6), "temperature": _floats(outcome.temperatures)}

    def _spread(self, name: str) -> dict[str, Any]:
        """Over the seeds, as published: population standard deviation, least and most."""
        each = self.right[name].mean(axis=0, dtype=np.float64)
        seeds = [outcome.seed for outcome in self.outcomes[name]]
        spread = {"std": each.std(), "min": each.min(), "max": each.max()}
        return {key: round(float(value), 6) for key, value in spread.items()} | {"seed": seeds, "top1": _floats(each)}

    def _by_group(self, name: str) -> dict[str, Any]:
        figures, sizes = self.group_figures(name), Counter(self.groups)
        worst = min(figures, key=lambda group: figures[group].value)
        best = max(figures, key=lambda group: figures[group].value)
        gap = figures[best] - figures[worst]
        return {
            "groups": {
                group: {"n": sizes[group], "top1": round(figure.value, 6), "ci95": figure.ci95}
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
