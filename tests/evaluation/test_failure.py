import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_scored import head_of, unit
from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import get_pool
from vlmdesc.evaluation.failure import lifts
from vlmdesc.evaluation.scored import Scored
from vlmdesc.testing import label_vectors


def without(columns, row):
    """A class's columns with one row of no weight."""
    weights = columns.weights.copy()
    weights[row] = 0
    return Columns(columns.texts, columns.owner, weights, columns.n_classes)


def of_sides(images, here, for_, against, columns, pool="mean"):
    """The lifts of the parts of some classes, and of their rivals, worst in the group first."""
    seen = Scored.of(head_of(columns, pool), label_vectors(images, [0] * len(images)))
    sides = [(c, sign) for classes, sign in ((for_, 1), (against, -1)) for c in classes]
    found = [lift for c, sign in sides for lift in lifts(seen, c, (here, ~here), np.ones_like(here), sign)]
    return sorted(found, key=lambda lift: (-lift.value, int(lift.text)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["mean", "renormalized"]))
def test_a_lift_is_what_leaving_the_descriptor_out_does_to_the_lead(seed, pool):
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.concatenate([np.arange(3), rng.integers(0, 3, 7)]))
    weights = rng.choice([0.5, 1, 3], 10).astype(np.float32)
    columns = Columns(unit(rng.standard_normal((10, 5))), owner, weights, 3)
    images, here = unit(rng.standard_normal((30, 5))), np.arange(30) < 12
    found = {int(lift.text): lift for lift in of_sides(images, here, [1], [0, 2], columns, pool)}
    assert sorted(found) == [*range(10)]
    score = get_pool(pool).score
    for row, of in found.items():
        if (owner == owner[row]).sum() == 1:
            assert (of.here, of.others, of.error) == (0, 0, 0)
            continue
        rival = owner[row] if owner[row] != 1 else 0
        with_, left_out = (score(images, c) for c in (columns, without(columns, row)))
        lift = (with_[:, 1] - with_[:, rival]) - (left_out[:, 1] - left_out[:, rival])
        assert (of.here, of.others) == pytest.approx((lift[here].mean(), lift[~here].mean()), abs=1e-5)
        error = np.sqrt(lift[here].var(ddof=1) / 12 + lift[~here].var(ddof=1) / 18)
        assert of.error == pytest.approx(error, abs=1e-5)


def test_by_hand():
    """Class 0 has x and y; the group's one image is x and the others' is y, so "y" is what misleads here."""
    columns = Columns(np.eye(3, dtype=np.float32), np.array([0, 0, 1]), np.ones(3, np.float32), 2)
    images, here = np.eye(3, dtype=np.float32)[[0, 0, 1, 1]], np.array([1, 1, 0, 0], bool)
    [y, x] = of_sides(images, here, [0], [], columns)
    assert (int(y.text), y.here, y.others, y.value) == (1, -0.5, 0.5, 1.0)  # here 0.5 with it, 1 without
    assert (int(x.text), x.here, x.others, x.value) == (0, 0.5, -0.5, -1.0)
    assert y.wrong and not x.wrong and y.ci95 == (1.0, 1.0)


def test_descriptors_of_rivals_count_the_other_way():
    rng = np.random.default_rng(0)
    columns = Columns(unit(rng.standard_normal((4, 3))), np.repeat([0, 1], 2), np.ones(4, np.float32), 2)
    images, here = unit(rng.standard_normal((8, 3))), np.arange(8) < 4
    for_, against = (of_sides(images, here, *sides, columns) for sides in (([0], []), ([], [0])))
    assert [(p.text, p.here, p.others) for p in for_[::-1]] == [(p.text, -p.here, -p.others) for p in against]


def test_chance_is_called_wrong_no_more_often_than_it_says():
    rng, wrong = np.random.default_rng(0), []
    columns = Columns(unit(rng.standard_normal((6, 6))), np.repeat([0, 1], 3), np.ones(6, np.float32), 2)
    for _ in range(150):
        images = unit(rng.standard_normal((60, 6)))
        wrong += [lift.wrong for lift in of_sides(images, rng.random(60) < 0.4, [0], [1], columns)]
    assert 0.005 <= np.mean(wrong) <= 0.045  # 2.5 % one way


def test_one_picture_tells_nothing():
    columns = Columns(np.eye(3, dtype=np.float32), np.array([0, 0, 1]), np.ones(3, np.float32), 2)
    images, here = np.eye(3, dtype=np.float32)[[0, 1, 1, 1]], np.array([1, 0, 0, 0], bool)
    assert not any(lift.wrong for lift in of_sides(images, here, [0], [], columns))
