import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.concepts.test_index import create
from tests.concepts.test_nearest import unit
from tests.concepts.test_rows import key, rows_for
from vlmdesc.concepts.search import FAINT, Match, compose, find, matches
from vlmdesc.errors import InputError, ShapeError
from vlmdesc.testing import FakeEncoder


def wheel(*degrees):
    """Unit vectors (n, 2) at some angles."""
    at = np.radians(degrees)
    return np.stack([np.cos(at), np.sin(at)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Images at 0, 10, ..., 50 degrees; those at 0 and 30 are one content."""
    folder = tmp_path_factory.mktemp("query")
    rows = rows_for("abcdef", ["hen", "hen", None, "owl", "owl", "cat"], contents="xbcxef")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLMDESC_CACHE", str(folder / "cache"))
        return create(folder / "i", wheel(0, 10, 20, 30, 40, 50), rows)


def found(index, *asked, **options):
    rows, scores = find(index.nearest, index.rows, *asked, **options)
    return rows.tolist(), scores.tolist()


PARTS = st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 5)


def parts(seed, wanted, unwanted):
    both = unit(wanted + unwanted, seed, 6)
    assume(np.linalg.norm(both[:wanted].sum(axis=0) - both[wanted:].sum(axis=0)) > 0.05)
    return both[:wanted], both[wanted:]


@given(*PARTS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_composed_query_is_a_unit_vector_whatever_the_order(seed, n, m, random):
    wanted, unwanted = parts(seed, n, m)
    query = compose(wanted, unwanted)
    assert query.shape == (6,) and query.dtype == np.float32
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    orders = [random.sample(range(size), size) for size in (n, m)]
    assert np.allclose(compose(wanted[orders[0]], unwanted[orders[1]]), query, atol=1e-4)


@given(*PARTS)
@settings(max_examples=40, deadline=None)
def test_what_is_said_twice_is_said_once(seed, n, m):
    wanted, unwanted = parts(seed, n, m)
    query = compose(wanted, unwanted)
    assert np.allclose(compose(np.tile(wanted, (2, 1)), np.tile(unwanted, (2, 1))), query, atol=1e-4)
    assert np.allclose(compose(wanted[:1]), wanted[0], atol=1e-6)
    assert np.allclose(compose(wanted[[0, 0]]), wanted[0], atol=1e-6)
    assert np.allclose(compose(wanted[[0, 0]], wanted[:1]), wanted[0], atol=1e-6)
    assert np.allclose(compose(wanted, wanted[:0]), compose(wanted, None), atol=1e-6)


def test_composed_by_hand():
    assert compose(wheel(0, 90)) == pytest.approx(wheel(45)[0])
    assert compose(wheel(0), wheel(180)) == pytest.approx(wheel(0)[0])
    assert compose(wheel(0), wheel(90)) == pytest.approx(wheel(-45)[0])
    texts = FakeEncoder().texts(["red", "blue", "a blue door"])
    assert compose(texts[:2], texts[2:]) @ texts[0] > 0.95


def test_what_is_taken_away_again_is_refused():
    for wanted, unwanted in ((wheel(0), wheel(0)), (wheel(0, 180), None), (wheel(0, 90), wheel(90, 0.01))):
        with pytest.raises(InputError, match="what is not wanted takes all away that is"):
            compose(wanted, unwanted)
    assert np.isfinite(compose(wheel(0), wheel(np.degrees(2 * FAINT)))).all()


def test_the_best_come_first_and_all_where_there_are_fewer(index):
    rows, scores = found(index, wheel(12)[0], 3)
    assert rows == [1, 2, 0]
    assert scores == pytest.approx(np.cos(np.radians([2, 8, 12])))
    assert found(index, wheel(-1)[0], 99)[0] == [0, 1, 2, 3, 4, 5]


def test_filters_and_contents_left_out(index):
    query = wheel(-1)[0]
    assert found(index, query, 3, filters=["label=owl"])[0] == [3, 4]
    assert found(index, query, 1, filters=["label=owl", "label=hen"])[0] == [0]
    assert found(index, query, 3, leave_out=[key("x")])[0] == [1, 2, 4]
    assert found(index, query, 3, leave_out=[key("absent")])[0] == [0, 1, 2]
    assert found(index, query, 9, leave_out=[key("x"), key("b")])[0] == [2, 4, 5]
    assert found(index, query, 2, filters=["label=owl"], leave_out=[key("x")])[0] == [4]
    assert found(index, query, 2, filters=["id=a"], leave_out=[key("x")]) == ([], [])


def test_what_no_row_fits_or_no_vector_meets_is_refused(index):
    with pytest.raises(InputError, match="no row has label=cow"):
        find(index.nearest, index.rows, wheel(0)[0], 3, filters=["label=cow"])
    with pytest.raises(ShapeError, match="queries have shape"):
        find(index.nearest, index.rows, unit(1)[0], 3)


def test_matches_say_what_was_found(index):
    rows, scores = find(index.nearest, index.rows, wheel(20)[0], 2, filters=["id=b", "id=c"])
    best, second = scores.tolist()
    assert matches(index.rows, rows, scores) == (Match(2, "c", None, best), Match(1, "b", "hen", second))
    assert (best, second) == pytest.approx((1, np.cos(np.radians(10))))
    assert matches(index.rows, rows[:0], scores[:0]) == ()
