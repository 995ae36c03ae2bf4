import numpy as np
import pytest

from vlmdesc import Descriptors
from vlmdesc.evaluation.calibrate import TEMPERATURES
from vlmdesc.evaluation.examples import confusions
from vlmdesc.evaluation.methods import Fit
from vlmdesc.evaluation.metrics import Summary
from vlmdesc.evaluation.outcomes import Outcome
from vlmdesc.evaluation.specs import Plan, build
from vlmdesc.records.report import Seeds
from vlmdesc.testing import label_vectors

ZOO = Descriptors.of({name: [f"{name} thing"] for name in ("red", "green", "blue", "white")})


def outcome(spec, ranked, seed=None):
    """What a method answered, made up."""
    [method], _ = build([spec], {"zoo": ZOO}, Plan(seeds=2))
    ranked = np.array(ranked, np.int32)
    scores, flat = np.zeros(ranked.shape, np.float32), np.zeros(len(ranked), np.float32)
    nothing, fit = np.zeros((len(ranked), 0), np.int32), Fit((), "a text", 1)
    return Outcome(method, seed, ranked, scores, flat, nothing, fit, temperatures=TEMPERATURES[:1].repeat(5))


def answers(labels, right):
    """Ranked classes: the true one first where right, else second."""
    labels = np.array(labels)
    other = (labels + 1) % 4
    return np.where(np.array(right)[:, None], np.stack([labels, other], 1), np.stack([other, labels], 1))


def summary(outcomes, labels, groups=None, resamples=400):
    groups = groups or [None] * len(labels)
    return Summary(outcomes, np.array(labels), groups, ZOO.classes, resamples, 0)


def test_figures_by_hand():
    labels = [0, 0, 0, 1, 2, 2]
    found = summary({"name": [outcome("name", answers(labels, [1, 1, 0, 0, 1, 0]))]}, labels)
    assert found.figure("name", "top1").value == pytest.approx(3 / 6)
    assert found.figure("name", "top5").value == 1
    assert found.figure("name", "mean_per_class").value == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)


def test_the_interval_of_the_mean_per_class_is_one_of_means():
    """Small classes are resampled together: their shares change, and with them what a class's images weigh."""
    labels = [0] + [1] * 9 + [2] * 2
    [perfect, some] = [answers(labels, [1] * 12), answers(labels, [1, 0] * 6)]
    found = summary({"name": [outcome("name", perfect)], "photo": [outcome("photo", some)]}, labels)
    assert found.figure("name", "mean_per_class").ci95 == (1, 1)
    low, high = found.figure("photo", "mean_per_class").ci95
    assert 0 <= low < found.figure("photo", "mean_per_class").value < high <= 1


def test_controls_are_means_over_seeds_and_their_spread_is_in_every_interval():
    labels, groups = [0] * 40, ["a"] * 20 + ["b"] * 20
    seeds = [outcome("waffle", answers(labels, [right] * 40), seed) for seed, right in enumerate((0, 1))]
    found = summary({"waffle": seeds}, labels, groups)
    assert found.figure("waffle", "top1").value == 0.5 and found.figure("waffle", "top1").ci95 == (0, 1)
    figure = found.group_figures("waffle")["a"]
    assert figure.value == 0.5 and figure.ci95 == (0, 1)
    assert found.method("waffle").seeds == Seeds(0.5, 0, 1, (0, 1), (0, 1))


def test_groups_by_hand():
    labels, groups = [0, 0, 1, 1, 2], ["x", "y", "x", None, "y"]
    found = summary({"name": [outcome("name", answers(labels, [1, 0, 1, 0, 1]))]}, labels, groups)
    record = found.method("name")
    assert {g: (r.n, r.top1) for g, r in record.groups.items()} == {"x": (2, 1.0), "y": (2, 0.5)}
    assert record.worst_group == "y" and record.gap.best == "x" and record.gap.value == 0.5


def test_comparisons_classes_and_confusions_by_hand():
    labels = [0, 0, 1, 1, 1, 2]
    before, after = answers(labels, [1, 0, 0, 0, 1, 0]), answers(labels, [1, 1, 1, 0, 0, 0])
    found = summary({"name": [outcome("name", before)], "describe": [outcome("describe", after)]}, labels)
    [row] = found.comparisons([("describe", "name")])
    assert row.delta == pytest.approx(1 / 6, abs=1e-6) and row.p == row.p_holm == 1  # 2 against 1
    assert row.state == "unclear"
    table = {c.id: (c.n, c.top1["describe"], c.fixed, c.broken) for c in found.class_table("name", "describe")}
    assert table == {"red": (2, 1.0, 1, 0), "green": (3, 0.333333, 1, 1), "blue": (1, 0.0, 0, 0)}
    images = label_vectors(np.zeros((6, 2), np.float32), labels)
    pairs = confusions(images, found.outcomes["name"][0], found.outcomes["describe"][0], ZOO.classes)
    assert [(c.truth, c.answer, c.n, c.before, c.row) for c in pairs] == [
        ("green", "blue", 2, 2, 3), ("blue", "white", 1, 1, 5),
    ]  # fmt: skip
