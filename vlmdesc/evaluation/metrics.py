"""Outcomes to figures: accuracies with intervals, comparisons, classes, groups, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vlmdesc.evaluation.calibrate import calibration_error
from vlmdesc.evaluation.outcomes import Outcome
from vlmdesc.evaluation.statistics import by_group, holm, interval, mcnemar_over_seeds, over_seeds, resampled_means
from vlmdesc.evaluation.verdict import state
from vlmdesc.records import ClassName
from vlmdesc.records.report import (
    Calibration,
    ClassFigures,
    Difference,
    Gap,
    GroupFigures,
    Interval,
    MethodFigures,
    Seeds,
    Weight,
)

Samples = Float[np.ndarray, " r"]


@dataclass(frozen=True)
class Sampled:
    """A figure and its bootstrap samples (R,)."""

    value: float
    samples: Samples

    def __sub__(self, other: Sampled) -> Sampled:
        return Sampled(self.value - other.value, self.samples - other.samples)

    @property
    def rounded(self) -> float:
        return round(self.value, 6)

    @property
    def ci95(self) -> Interval:
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

    def method(self, name: str) -> MethodFigures:
        """The figures of one method."""
        found = self.outcomes[name]
        first, fit = found[0], found[0].fit
        top1, top5, mean = (self.figure(name, metric) for metric in ("top1", "top5", "mean_per_class"))
        groups = self.group_figures(name) if self.group_names else {}
        sizes = Counter(self.groups)
        worst, gap = _gap(groups) if groups else (None, None)
        weighed = fit.weights is not None and fit.curve is not None
        return MethodFigures(
            top1.rounded,
            top5.rounded,
            mean.rounded,
            top1.ci95,
            top5.ci95,
            mean.ci95,
            fit.form,
            first.method.phrase,
            first.method.pool,
            first.method.entry.kind,
            fit.n_texts,
            self._calibration(first),
            descriptors=first.method.of,
            learned=None if first.learned is None else dict(first.learned),
            seeds=self._spread(name) if len(found) > 1 else None,
            weight=Weight(_floats(fit.weights), _floats(fit.curve)) if weighed else None,
            groups={group: GroupFigures(sizes[group], of.rounded, of.ci95) for group, of in groups.items()},
            worst_group=worst,
            gap=gap,
        )

    def _calibration(self, outcome: Outcome) -> Calibration:
        error = calibration_error(outcome.confidence, outcome.right(self.labels))
        return Calibration(round(error, 6), _floats(outcome.temperatures))

    def _spread(self, name: str) -> Seeds:
        """Over the seeds, as published: population standard deviation, least and most."""
        each = self.right[name].mean(axis=0, dtype=np.float64)
        seeds = tuple(outcome.seed or 0 for outcome in self.outcomes[name])
        std, least, most = _floats(np.array([each.std(), each.min(), each.max()]))
        return Seeds(std, least, most, seeds, _floats(each))

    def comparisons(self, pairs: Sequence[tuple[str, str]]) -> tuple[Difference, ...]:
        """Paired differences of top-1, with exact McNemar p and Holm's over all pairs. A control is always `b`."""
        deltas = [self.figure(a, "top1") - self.figure(b, "top1") for a, b in pairs]
        p_values = [mcnemar_over_seeds(self.right[a][:, 0], self.right[b]) for a, b in pairs]
        return tuple(
            Difference(a, b, delta.rounded, delta.ci95, p, p_holm, state(delta.ci95, p_holm, len(self.labels)))
            for (a, b), delta, p, p_holm in zip(pairs, deltas, p_values, holm(p_values), strict=True)
        )

    def class_table(self, base: str, main: str) -> tuple[ClassFigures, ...]:
        """Each class that has images."""
        sizes = np.bincount(self.labels, minlength=len(self.classes))
        accuracy = {
            name: np.bincount(self.labels, right.mean(axis=1), len(self.classes)) / np.maximum(sizes, 1)
            for name, right in self.right.items()
        }
        before, after = self.right[base][:, 0], self.right[main][:, 0]
        fixed, broken = (np.bincount(self.labels[x], minlength=len(sizes)) for x in (after & ~before, before & ~after))
        return tuple(
            ClassFigures(
                self.classes[c].id,
                self.classes[c].name,
                int(sizes[c]),
                {name: round(float(values[c]), 6) for name, values in accuracy.items()},
                int(fixed[c]),
                int(broken[c]),
            )
            for c in np.flatnonzero(sizes).tolist()
        )


def _gap(groups: Mapping[str, Sampled]) -> tuple[str, Gap]:
    worst = min(groups, key=lambda group: groups[group].value)
    best = max(groups, key=lambda group: groups[group].value)
    gap = groups[best] - groups[worst]
    return worst, Gap(best, gap.rounded, gap.ci95)


def _floats(values: np.ndarray | None) -> tuple[float, ...]:
    return () if values is None else tuple(round(float(value), 6) for value in values)
