from math import log

import numpy as np
import pytest

from vlmdesc.errors import InputError
from vlmdesc.evaluation.disparity import compare_groups
from vlmdesc.evaluation.proportions import Share, difference


def counted(*cells):
    """Answers, labels and groups from (label, answer, group, how many)."""
    rows = [(label, answer, group) for label, answer, group, n in cells for _ in range(n)]
    labels, answers, groups = zip(*rows, strict=True)
    return np.array(answers), np.array(labels), list(groups)


# Two classes in two groups: a is found in 18 of 20 by day and 10 of 20 by night, b in 27 of 30 and 10 of 10.
HAND = (
    *((0, 0, "day", 18), (0, 1, "day", 2), (0, 0, "night", 10), (0, 1, "night", 10)),
    *((1, 1, "day", 27), (1, 0, "day", 3), (1, 1, "night", 10)),
)
FISHER = {"a": 0.0138141, "b": 0.5597166, "groups": 0.0163467}  # of these tables; R: fisher.test


def cells_of(found):
    return {(cell.class_, cell.group): cell for cell in found.cells}


def test_a_table_of_two_classes_and_two_groups_by_hand():
    found = compare_groups(*counted(*HAND), [0, 1])
    assert (found.overall.k, found.overall.n, found.ungrouped) == (65, 80, 0)
    rates = {name: (gap.here.k, gap.here.n, gap.others.k, gap.others.n) for name, gap in found.groups.items()}
    assert rates == {"day": (45, 50, 20, 30), "night": (20, 30, 45, 50)}
    cells = {
        at: tuple((gap.here.k, gap.here.n, gap.others.k, gap.others.n) for gap in (cell.tpr, cell.fpr))
        for at, cell in cells_of(found).items()
    }
    assert cells == {
        (0, "day"): ((18, 20, 10, 20), (3, 30, 0, 10)),  # found, and taken for it of the other class's images
        (0, "night"): ((10, 20, 18, 20), (0, 10, 3, 30)),
        (1, "day"): ((27, 30, 10, 10), (2, 20, 10, 20)),
        (1, "night"): ((10, 10, 27, 30), (10, 20, 2, 20)),
    }


def test_tests_and_their_correction_by_hand():
    """Of two groups the one against the other is one test: Holm's correction is over the two classes of each kind."""
    found = compare_groups(*counted(*HAND), [0, 1])
    for gap in found.groups.values():
        assert (gap.p, gap.p_holm) == pytest.approx((FISHER["groups"], FISHER["groups"]), abs=1e-6)
        assert gap.differs
    cell = cells_of(found)[0, "night"]
    assert cell.tpr.p == pytest.approx(FISHER["a"], abs=1e-6)
    assert cell.tpr.p_holm == pytest.approx(2 * FISHER["a"], abs=1e-6) and cell.failed
    assert cell.tpr.value == pytest.approx(-0.4)
    assert cell.tpr.ci95 == difference(Share(10, 20), Share(18, 20))
    assert cells_of(found)[1, "day"].tpr.p == pytest.approx(FISHER["b"], abs=1e-6)
    assert cells_of(found)[1, "day"].tpr.p_holm == pytest.approx(FISHER["b"], abs=1e-6)
    assert [(cell.class_, cell.group) for cell in found.failed] == [(0, "night"), (1, "night")]  # found less; crowded


def test_with_three_groups_each_against_the_others_is_a_test():
    labels = np.zeros(120, np.intp)
    answers = np.r_[np.ones(30, np.intp), np.zeros(90, np.intp)]
    found = compare_groups(answers, labels, ["a"] * 40 + ["b"] * 40 + ["c"] * 40, [0])
    p = cells_of(found)[0, "a"].tpr.p
    assert cells_of(found)[0, "a"].tpr.p_holm == pytest.approx(3 * p)
    assert found.groups["a"].p_holm == pytest.approx(3 * p)


def test_worst_and_equal_opportunity_by_hand():
    found = compare_groups(*counted(*HAND), [0, 1])
    assert found.worst_group == "night"
    assert (found.worst_cell.class_, found.worst_cell.group) == (0, "night")
    gaps = {
        class_: (least.group, most.group, most.tpr.here.value - least.tpr.here.value)
        for class_, (least, most) in found.equal_opportunity().items()
    }
    assert gaps == {0: ("night", "day", pytest.approx(0.4)), 1: ("day", "night", pytest.approx(0.1))}


def test_what_fails_comes_first_by_its_gap_and_then_what_others_are_taken_for():
    found = compare_groups(
        *counted(
            *((0, 0, "day", 100), (0, 0, "night", 50), (0, 2, "night", 50)),
            *((1, 1, "day", 100), (1, 1, "night", 20), (1, 2, "night", 80)),
            *((2, 2, "day", 100), (2, 2, "night", 100)),
        ),
        [0, 1, 2],
    )
    assert [(cell.class_, cell.group, cell.failed, cell.crowded) for cell in found.failed] == [
        (1, "night", True, False),
        (0, "night", True, False),
        (2, "night", False, True),
    ]


@pytest.mark.parametrize("n", [9, 10])
def test_groups_that_are_too_small_are_named_and_never_judged(n):
    """All of the group's images are wrong, all others are right."""
    found = compare_groups(*counted((0, 0, "day", 200), (1, 1, "day", 200), (0, 1, "dusk", n)), [0, 1])
    cell = cells_of(found)[0, "dusk"]
    if n < 10:
        assert found.small == [cell] and found.failed == []
        assert not cell.tpr.judged and not cell.tpr.differs and cell.tpr.p_holm == 1
        assert found.worst_group == "day" and found.worst_cell.group == "day"
        assert found.equal_opportunity() == {} and not found.groups["dusk"].differs
    else:
        assert found.small == [] and cell in found.failed
        assert found.worst_group == "dusk" and found.worst_cell is cell
        assert list(found.equal_opportunity()) == [0] and found.groups["dusk"].differs


def test_a_group_that_is_nearly_all_of_a_class_is_not_judged_against_few():
    found = compare_groups(*counted((0, 1, "day", 200), (0, 0, "dusk", 9), (1, 1, "day", 200)), [0, 1])
    assert not cells_of(found)[0, "day"].tpr.judged and found.failed == []


def test_where_all_is_too_small_nothing_is_worst():
    found = compare_groups(*counted((0, 0, "day", 9), (0, 1, "night", 9)), [0])
    assert found.worst_group is None and found.worst_cell is None and found.equal_opportunity() == {}
    assert [cell.group for cell in found.small] == ["day", "night"]


def test_pictures_without_a_group_are_counted_and_no_more():
    answers, labels, groups = counted(*HAND, (0, 1, None, 7), (1, 0, None, 5))
    found = compare_groups(answers, labels, groups, [0, 1], np.eye(2, dtype=np.float32)[labels])
    plain = compare_groups(*counted(*HAND), [0, 1])
    assert found.ungrouped == 12
    assert (found.overall, found.groups, found.cells) == (plain.overall, plain.groups, plain.cells)


@pytest.mark.parametrize(
    ("groups", "what"), [([None] * 4, "no image has a group"), (["x", "x", None, "x"], "one group only: x")]
)
def test_one_group_or_none_is_an_error(groups, what):
    labels = np.array([0, 1, 0, 1])
    with pytest.raises(InputError, match=what):
        compare_groups(labels, labels, groups, [0, 1])


def test_classes_that_are_not_looked_at_count_for_groups_and_as_others():
    whole, one = (compare_groups(*counted(*HAND), classes) for classes in ([0, 1], [1]))
    assert one.overall == whole.overall and one.groups == whole.groups
    assert {cell.class_ for cell in one.cells} == {1} and list(one.equal_opportunity()) == [1]
    for cell in one.cells:
        twin = cells_of(whole)[1, cell.group]
        assert (cell.tpr.here, cell.fpr.here, cell.fpr.others) == (
            twin.tpr.here,
            twin.fpr.here,
            twin.fpr.others,
        )
        assert cell.fpr.p_holm <= twin.fpr.p_holm  # two tests, not four


def test_a_class_without_a_picture_is_no_cell_unless_others_are_taken_for_it():
    found = compare_groups(*counted((0, 0, "day", 20), (0, 2, "night", 20)), [0, 1, 2])
    assert list(cells_of(found)) == [(0, "day"), (0, "night"), (2, "night")]
    assert not cells_of(found)[2, "night"].tpr.judged and cells_of(found)[2, "night"].crowded


# MaxSkew


def test_perfect_retrieval_has_no_skew():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    groups = [("x", "y", "z", None)[g] for g in rng.choice(4, 200, p=[0.6, 0.2, 0.1, 0.1])]
    found = compare_groups(labels, labels, groups, [0, 1, 2], np.eye(3, dtype=np.float32)[labels])
    assert [(skew.class_, skew.value) for skew in found.skews] == [(0, 0.0), (1, 0.0), (2, 0.0)]


def test_skew_by_hand():
    """Ten images of a class, half of each group, and one of another class; the best four are three and one."""
    labels, groups = np.array([0] * 10 + [1]), ["day"] * 5 + ["night"] * 5 + ["dusk"]
    scores = np.zeros((11, 1), np.float32)
    scores[[0, 1, 2, 5], 0] = 1
    [skew] = compare_groups(labels, labels, groups, [0], scores, k=4).skews
    assert (skew.class_, skew.k, skew.group) == (0, 4, "day")
    assert skew.value == pytest.approx(log((3 / 4) / (1 / 2)))
    scores[10] = 2  # of a group that the class does not have: an error, but no skew
    [skew] = compare_groups(labels, labels, groups, [0], scores, k=4).skews
    assert skew.value == pytest.approx(log((3 / 3) / (1 / 2)))  # 0, 1, 2 are left of the class


def test_classes_of_few_pictures_or_of_one_group_have_no_skew():
    labels = np.array([0] * 9 + [1] * 20 + [2] * 20)
    groups = ["day", "night", "day"] * 3 + ["day"] * 20 + ["day", "night"] * 10
    found = compare_groups(labels, labels, groups, [0, 1, 2], np.eye(3, dtype=np.float32)[labels])
    assert [skew.class_ for skew in found.skews] == [2]
    assert compare_groups(labels, labels, groups, [0, 1, 2]).skews == ()


# Chance


@pytest.fixture(scope="module")
def chance():
    """What 100 audits claim where groups have nothing to do with answers: of groups, found, taken; what failed."""
    rng, claims = np.random.default_rng(2), []
    for _ in range(100):
        labels = rng.integers(0, 3, 600)
        answers = np.where(rng.random(600) < 0.6, labels, rng.integers(0, 3, 600))
        found = compare_groups(answers, labels, [f"g{g}" for g in rng.integers(0, 4, 600)], range(3))
        claims.append(
            (
                any(gap.differs for gap in found.groups.values()),
                any(cell.tpr.differs for cell in found.cells),
                any(cell.fpr.differs for cell in found.cells),
                bool(found.failed),
            )
        )
    return np.array(claims)


def test_under_no_bias_few_audits_claim_anything(chance):
    """Each family of tests is corrected by itself."""
    assert (chance.sum(axis=0) <= 10).all()  # more than 10 come in 1 % of such simulations


def test_a_planted_bias_is_found_and_nothing_else():
    rng, found_at = np.random.default_rng(1), []
    for _ in range(20):
        labels, groups = rng.integers(0, 3, 600), rng.integers(0, 3, 600)
        accuracy = np.where((labels == 1) & (groups == 2), 0.4, 0.85)
        answers = np.where(rng.random(600) < accuracy, labels, (labels + 1) % 3)
        found = compare_groups(answers, labels, [f"g{g}" for g in groups], range(3))
        found_at.append([(cell.class_, cell.group) for cell in found.failed])
        assert (found.worst_cell.class_, found.worst_cell.group) == (1, "g2")
    assert all(failed[0] == (1, "g2") for failed in found_at)
    # what is not found there is taken for the next class there
    assert sum(set(failed) == {(1, "g2"), (2, "g2")} for failed in found_at) >= 17
