import json

import numpy as np
import pytest

from vlmdesc import Descriptors
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation.effect import EXAMPLES, deltas, effect

ZOO = Descriptors.of({"hen": ["a red comb", "brown"], "owl": ["grey"], "frog": ["green", "black spots"]})


def photos(labels, groups=None):
    n = len(labels)
    keys = tuple(f"{i}.jpg" for i in range(n))
    given_ = tuple(groups or [None] * n)
    return Labelled(
        np.ones((n, 2), np.float32), np.array(labels, np.intp), keys, tuple(range(10, 10 + n)), keys, given_
    )


def of(right, labels):
    """Answers: the label where right, else the next of three classes."""
    labels = np.array(labels)
    return np.where(np.array(right, bool), labels, (labels + 1) % 3)


def flips(fixed, broken, same=10):
    """The effect on images of class 0, of which some are fixed and some broken."""
    before = [0] * fixed + [1] * broken + [1] * same
    after = [1] * fixed + [0] * broken + [1] * same
    labels = np.zeros(len(before), np.intp)
    return effect(of(before, labels), of(after, labels), labels)


def test_deltas_by_hand():
    was, is_ = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool), np.array([1, 1, 0, 1, 1, 1, 0, 0], bool)
    [all_, half] = deltas([np.ones(8, bool), np.arange(8) < 4], was, is_)
    assert (all_.n, all_.before, all_.fixed, all_.broken, all_.value) == (8, 3, 3, 1, 0.25)
    assert all_.p == pytest.approx(10 / 16) and all_.p_holm == 1  # twice (1 + 4) / 16; times 2
    assert (half.n, half.before, half.fixed, half.broken, half.value, half.p) == (4, 3, 1, 1, 0, 1)
    low, high = all_.ci95
    assert -1 < low < 0.25 < high < 1


@pytest.mark.parametrize(
    ("fixed", "broken", "verdict"),
    [
        (5, 0, "noise"),  # 2 / 32
        (6, 0, "better"),  # 2 / 64
        (0, 5, "noise"),
        (0, 6, "worse"),
        (7, 1, "noise"),  # 2 * 9 / 256 = 0.07
        (8, 1, "better"),  # 2 * 10 / 512 = 0.04
        (0, 0, "none"),
        (50, 50, "noise"),
    ],
)
def test_noise_is_never_called_better(fixed, broken, verdict):
    found = flips(fixed, broken)
    assert found.overall.verdict == verdict
    starts = {"noise": "not to be told from chance", "none": "no effect"}
    assert found.text.startswith(starts.get(verdict, verdict))
    assert ("can never be told" in found.text) == (0 < fixed + broken < 6)


def test_chance_is_called_an_improvement_no_more_often_than_it_says():
    drawn = np.random.default_rng(0).binomial(30, 0.5, 2000)
    better = [fixed for fixed in set(drawn.tolist()) if flips(fixed, 30 - fixed).overall.verdict == "better"]
    assert 0 < np.isin(drawn, better).mean() <= 0.03  # 2.5 % one way


def test_holm_is_over_the_parts():
    """Six fixed of each of two classes: for sure of both, but of neither alone, since two were asked."""
    labels = [0] * 6 + [1] * 6
    found = effect(of([0] * 12, labels), of([1] * 12, labels), np.array(labels), ["day"] * 6 + ["night"] * 6)
    assert found.overall.verdict == "better" and found.overall.p_holm == found.overall.p
    for parts in (found.classes, found.groups):
        assert [part.p for part in parts.values()] == pytest.approx([2 / 64] * 2)
        assert [part.p_holm for part in parts.values()] == pytest.approx([4 / 64] * 2)
        assert {part.verdict for part in parts.values()} == {"noise"}


def test_only_classes_whose_right_answers_changed_are_listed_but_all_groups_are():
    labels = np.array([0, 0, 1, 2])
    found = effect(of([1, 0, 1, 0], labels), np.array([0, 0, 1, 1]), labels, ["x", "x", "y", None])
    assert list(found.classes) == [0] and list(found.groups) == ["x", "y"]
    assert found.groups["y"].verdict == "none" and found.groups["y"].n == 1
    assert (found.fixed.tolist(), found.broken.tolist()) == ([1], [])


@pytest.mark.parametrize("groups", [(), [None] * 3, ["one"] * 3])
def test_groups_may_be_none_or_one(groups):
    labels = np.array([0, 1, 2])
    found = effect(of([0, 1, 1], labels), of([1, 1, 0], labels), labels, groups)
    assert list(found.groups) == (["one"] if groups and groups[0] else [])
    assert all(delta.n == 3 and delta.value == 0 for delta in found.groups.values())
    json.dumps(found.record(photos(labels, groups or None), ZOO.classes), allow_nan=False)


@pytest.mark.parametrize(
    ("after", "text"),
    [([1, 0, 0], "no effect: no answer changed"), ([2, 0, 0], "no effect: 1 answer changed, from one wrong class")],
)
def test_no_flips(after, text):
    labels = np.array([0, 0, 0])
    found = effect(np.array([1, 0, 0]), np.array(after), labels)
    assert found.text.startswith(text) and not found.classes and not len(found.fixed) and not len(found.broken)
    record = json.loads(json.dumps(found.record(photos(labels), ZOO.classes), allow_nan=False))
    assert record["verdict"]["code"] == "none" and record["classes"] == record["groups"] == []


def test_no_picture():
    none = np.empty(0, np.intp)
    found = effect(none, none, none)
    assert found.overall.n == 0 and found.overall.verdict == "none"
    json.dumps(found.record(photos([]), ZOO.classes), allow_nan=False)


def test_a_record_has_it_all_and_is_strict_json():
    labels = np.array([0] * 8 + [1] * 4)
    groups = ["day"] * 6 + ["night"] * 5 + [None]
    before, after = of([0] * 7 + [1] * 5, labels), of([1] * 8 + [1, 1, 1, 0], labels)
    found = effect(before, after, labels, groups)
    record = json.loads(json.dumps(found.record(photos(labels, groups), ZOO.classes), allow_nan=False))
    assert record["overall"]["n"] == 12 and record["overall"]["fixed"] == 7 and record["overall"]["broken"] == 1
    assert record["overall"]["before"] == pytest.approx(5 / 12, abs=1e-6)
    assert record["overall"]["after"] == pytest.approx(11 / 12, abs=1e-6)
    assert record["overall"]["delta"] == 0.5 and record["overall"]["verdict"] == record["verdict"]["code"] == "noise"
    assert [(row["class"], row["delta"]) for row in record["classes"]] == [("hen", 0.875), ("owl", -0.25)]
    assert [(row["group"], row["n"]) for row in record["groups"]] == [("day", 6), ("night", 5)]
    assert [len(record["examples"][kind]) for kind in ("fixed", "broken")] == [7, 1]
    assert record["examples"]["broken"] == [
        {"image": "11.jpg", "row": 21, "group": None, "truth": "owl", "before": "owl", "after": "frog"}
    ]


def test_examples_are_some_of_each_class_first():
    labels = np.array([0] * 40 + [1] * 2 + [2])
    found = effect(of([0] * 43, labels), of([1] * 43, labels), labels)
    rows = found.record(photos(labels), ZOO.classes)["examples"]["fixed"]
    assert len(rows) == EXAMPLES
    assert [row["truth"] for row in rows[:5]] == ["hen", "owl", "frog", "hen", "owl"]
    assert {row["truth"] for row in rows[5:]} == {"hen"}
