import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmdesc.evaluation.proportions import Share, difference, paired_interval

counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))).map(lambda kn: Share(*kn))
tables = st.tuples(*[st.integers(0, 40)] * 4).filter(any)
TINY = 1e-12


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_intervals_of_a_share(k, n, low, high):
    """Newcombe 1998, Stat. Med. 17:857, table I, method 3."""
    assert Share(k, n).ci95 == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_published_intervals_of_a_difference(a, b, low, high):
    """Newcombe 1998, Stat. Med. 17:873, table II, method 10."""
    assert difference(Share(*a), Share(*b)) == pytest.approx((low, high), abs=5e-5)


def test_published_interval_of_a_paired_difference():
    """Newcombe 1998, Stat. Med. 17:2635, method 10: first less second there, second less first here."""
    assert paired_interval(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert paired_interval(36, 12, 2, 0) == pytest.approx((-0.3404, -0.0569), abs=5e-5)


def test_paired_by_hand():
    """4 of 10 before and 6 after, with correlation (3 * 3 - 3 * 1) less half of 10, over root of 4 * 6 * 6 * 4."""
    before, after = Share(4, 10), Share(6, 10)
    down, up = after.value - after.ci95[0], before.ci95[1] - before.value
    low = 0.2 - np.sqrt(down**2 - 2 * (1 / 24) * down * up + up**2)
    assert paired_interval(3, 1, 3, 3)[0] == pytest.approx(low)
    # 2 * 2 - 3 * 3 is below 0: no correction
    assert paired_interval(2, 3, 3, 2)[0] == pytest.approx(
        -np.sqrt(2 * (1 + 5 / 25) * (0.5 - Share(5, 10).ci95[0]) ** 2)
    )


def test_of_no_image_nothing_is_known_and_ten_are_enough_to_judge():
    assert [Share(0, n).judged for n in (9, 10)] == [False, True]
    none = Share(0, 0)
    assert np.isnan(none.value) and none.ci95 == (0, 1) and not none.judged
    assert difference(none, Share(3, 4)) == difference(Share(3, 4), none) == paired_interval(0, 0, 0, 0) == (-1, 1)


@given(counts)
def test_a_share_lies_in_its_interval_which_is_no_point(share):
    low, high = share.ci95
    assert 0 <= low <= share.value + TINY and share.value - TINY <= high <= 1
    assert high - low > 0.01


def test_all_or_none_are_ends_of_their_intervals():
    assert all(Share(0, n).ci95[0] == 0 and Share(n, n).ci95[1] == 1 for n in range(1, 200))


@settings(max_examples=50)
@given(counts, counts)
def test_a_difference_lies_in_its_interval_and_sides_can_be_swapped(a, b):
    low, high = difference(a, b)
    assert -1 <= low <= a.value - b.value + TINY and a.value - b.value - TINY <= high <= 1
    assert high - low > 0.01
    assert difference(b, a) == pytest.approx((-high, -low))


@settings(max_examples=50)
@given(tables)
def test_a_paired_difference_lies_in_its_interval_and_sides_can_be_swapped(table):
    both, first, second, neither = table
    low, high = paired_interval(both, first, second, neither)
    value = (second - first) / sum(table)
    assert -1 <= low <= value + TINY and value - TINY <= high <= 1
    assert high - low > 0.001
    assert paired_interval(both, second, first, neither) == pytest.approx((-high, -low))
    assert paired_interval(neither, first, second, both) == pytest.approx((low, high))  # wrong answers for right ones


@settings(max_examples=50)
@given(counts, counts, tables, st.integers(2, 5))
def test_more_images_narrow_intervals(a, b, table, times):
    more_a, more_b = (Share(share.k * times, share.n * times) for share in (a, b))
    for few, many in (
        (a.ci95, more_a.ci95),
        (difference(a, b), difference(more_a, more_b)),
        (paired_interval(*table), paired_interval(*(count * times for count in table))),
    ):
        assert many[1] - many[0] < few[1] - few[0]


def covered(intervals, truth):
    return np.mean([low <= truth <= high for low, high in intervals])


@pytest.mark.parametrize(("p", "n"), [(0.5, 15), (0.8, 50), (0.95, 60)])
def test_shares_are_covered_as_often_as_they_say(p, n):
    drawn = np.random.default_rng(0).binomial(n, p, 1000).tolist()
    assert 0.93 <= covered([Share(k, n).ci95 for k in drawn], p) <= 0.99


@pytest.mark.parametrize(("p", "q"), [((0.5, 12), (0.6, 30)), ((0.9, 40), (0.7, 25)), ((0.95, 50), (0.9, 50))])
def test_differences_are_covered_as_often_as_they_say(p, q):
    rng = np.random.default_rng(1)
    a, b = (rng.binomial(n, share, 1000).tolist() for share, n in (p, q))
    found = [difference(Share(x, p[1]), Share(y, q[1])) for x, y in zip(a, b, strict=True)]
    assert 0.93 <= covered(found, p[0] - q[0]) <= 0.99


@pytest.mark.parametrize(
    ("shares", "n"),
    [((0.6, 0.05, 0.15, 0.2), 50), ((0.4, 0.2, 0.2, 0.2), 30), ((0.7, 0.03, 0.03, 0.24), 120)],
)
def test_paired_differences_are_covered_as_often_as_they_say(shares, n):
    drawn = np.random.default_rng(2).multinomial(n, shares, 1000).tolist()
    assert 0.93 <= covered([paired_interval(*table) for table in drawn], shares[2] - shares[1]) <= 0.99
