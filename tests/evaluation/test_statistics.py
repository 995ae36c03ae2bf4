import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc.evaluation.statistics import (
    by_group,
    holm,
    interval,
    mcnemar,
    mcnemar_over_seeds,
    over_seeds,
    resampled_means,
)


def right(*runs):
    """Booleans from counts: three right and two wrong of 3, 2."""
    return np.repeat([i % 2 == 0 for i in range(len(runs))], runs)


def test_mcnemar_by_hand():
    a, b = right(9, 1), right(1, 9)  # 8 against 0: 2 / 2**8
    assert mcnemar(a, b) == pytest.approx(2 / 2**8)
    assert mcnemar(a, a) == 1.0
    assert mcnemar(a, b) == mcnemar(b, a)
    # 3 against 1: both tails of a binomial of 4 at 1/2: 2 * (1 + 4) / 16
    assert mcnemar(np.array([1, 1, 1, 0, 1], bool), np.array([0, 0, 0, 1, 1], bool)) == pytest.approx(10 / 16)


def test_twice_the_median_over_seeds():
    a = right(9, 1)
    seeds = np.stack([right(1, 9), a, right(9, 1)], axis=1)  # p: 2 / 256, 1, 1
    assert mcnemar_over_seeds(a, seeds) == 1.0
    strong = np.stack([right(1, 9)] * 2 + [a], axis=1)
    assert mcnemar_over_seeds(a, strong) == pytest.approx(2 * 2 / 256)
    assert mcnemar_over_seeds(a, strong[:, :1]) == pytest.approx(2 / 256)


def test_twice_the_median_claims_too_much_no_more_often_than_it_says():
    rng, claims = np.random.default_rng(0), 0
    for _ in range(400):
        a, seeds = rng.random(60) < 0.5, rng.random((60, 5)) < 0.5
        claims += mcnemar_over_seeds(a, seeds) < 0.05
    assert claims <= 20


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_never_helps(p):
    adjusted = holm(p)
    assert all(q >= x for q, x in zip(adjusted, p, strict=True)) and all(q <= 1 for q in adjusted)
    order = sorted(range(len(p)), key=p.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_class_sizes_stay_under_resampling_and_small_classes_go_together():
    labels = np.repeat([0, 1, 2, 3], [30, 20, 3, 2])
    member = np.stack([labels == c for c in range(4)], axis=1).astype(np.float32)
    means = resampled_means(member, labels, 200, 0)
    assert np.allclose(means[:, :2], [30 / 55, 20 / 55], atol=1e-6)
    assert np.allclose(means[:, 2:].sum(axis=1), 5 / 55, atol=1e-6)
    assert means[:, 2].std() > 0


def test_resamples_are_paired_seeded_and_of_the_right_spread():
    rng = np.random.default_rng(1)
    labels, hits = np.repeat(np.arange(20), 50), (rng.random(1000) < 0.7).astype(np.float32)
    values = np.stack([hits, hits, 1 - hits], axis=1)
    means = resampled_means(values, labels, 2000, 3)
    assert np.array_equal(means[:, 0], means[:, 1]) and np.allclose(means[:, 0] + means[:, 2], 1)
    assert np.array_equal(means, resampled_means(values, labels, 2000, 3))
    assert not np.array_equal(means, resampled_means(values, labels, 2000, 4))
    within = np.mean([hits[labels == c].var() for c in range(20)])  # of a mean of 1000, stratified
    assert means[:, 0].std() == pytest.approx(np.sqrt(within / 1000), rel=0.08)
    assert means[:, 0].mean() == pytest.approx(hits.mean(), abs=0.002)


@pytest.mark.parametrize("sizes", [(40,) * 10, (1,) * 400])
def test_intervals_cover_the_truth_as_often_as_they_say(sizes):
    """With one image a class too, where resampling within classes would show no spread."""
    rng, labels, covered = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes), 0
    for trial in range(300):
        hits = (rng.random(400) < 0.6).astype(np.float32)[:, None]
        low, high = interval(resampled_means(hits, labels, 400, trial)[:, 0])
        covered += low <= 0.6 <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_seeds_are_resampled_too():
    means = np.tile([0.2, 0.4], (5000, 1))
    found = over_seeds(means, 0)
    assert set(found.round(6)) == {0.2, 0.3, 0.4}
    assert found.mean() == pytest.approx(0.3, abs=0.005)
    assert np.array_equal(over_seeds(means[:, :1], 0), means[:, 0])


def test_sparse_group_columns_are_resampled_as_dense_ones_are():
    rng = np.random.default_rng(0)
    right, group, labels = rng.random((60, 3)) < 0.5, rng.integers(-1, 4, 60), rng.integers(0, 3, 60)
    sparse = by_group(right, group, 4)
    dense = np.stack([right[:, s] & (group == g) for g in range(4) for s in range(3)], axis=1).astype(np.float32)
    assert np.array_equal(sparse.toarray(), dense)
    assert resampled_means(sparse, labels, 100, 1) == pytest.approx(resampled_means(dense, labels, 100, 1), abs=1e-6)
