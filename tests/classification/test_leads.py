from unittest import mock

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vlmdesc.classification import leads
from vlmdesc.classification.leads import CLOSE, ROOM, over_each, over_mean, separating, widest

NAN = np.nan


def room(rows):
    return np.empty((ROOM, *rows.shape[1:]), np.float32)


def picked(rows, n):
    """What separates (B, K, n), the same whether so few texts count as many or not."""
    with mock.patch.object(leads, "MANY", 0):
        found = separating(rows.copy(), n, room(rows)).tolist()
    assert separating(rows.copy(), n, room(rows)).tolist() == found
    return found


def profiles(*candidates):
    """One image's candidates, each with the profile of every text: (K, 1, M)."""
    return np.array(candidates, np.float32)[:, None]


def one_by_one(rows, n):
    """The rule, text by text: (B, K, n)."""
    k, b, m = rows.shape
    found = np.full((b, k, n), -1)
    for i in range(b):
        known = [c for c in range(k) if not np.isnan(rows[c, i, 0])]
        for j in known if len(known) > 1 else []:
            leads = [d for d in range(m) if all(rows[j, i, d] >= rows[c, i, d] for c in known)]
            mean = {d: np.sum(rows[known, i, d], dtype=np.float32) / np.float32(len(known)) for d in leads}
            first = sorted(leads, key=lambda d: (-(rows[j, i, d] - mean[d]), d))[:n]
            found[i, j, : len(first)] = first
    return found


@st.composite
def problems(draw, least=1):
    """Profiles (K, B, M) of eighths, with ties; the candidates that are not known are NaN."""
    k, b, m = draw(st.integers(least, 6)), draw(st.integers(0, 4)), draw(st.integers(1, 30))
    rows = draw(hnp.arrays(np.float32, (k, b, m), elements=st.sampled_from([n / 8 for n in range(-8, 9)])))
    rows[draw(hnp.arrays(bool, (k, b), elements=st.sampled_from([False, False, False, True])))] = np.nan
    return rows, draw(st.integers(1, 6))


@given(problems())
def test_separating_agrees_with_the_rule(problem):
    rows, n = problem
    assert picked(rows, n) == one_by_one(rows, n).tolist()


@given(problems(least=2))
def test_where_all_that_is_farthest_over_the_mean_leads_nothing_leads_by_more(problem):
    rows, n = problem
    found, sure = over_mean(rows, n, room(rows))
    event(f"{sure.sum()} sure")
    assert found[:, :, sure].tolist() == over_each(rows[:, sure], n, room(rows[:, sure])).tolist()


def test_two_candidates_by_hand():
    rows = profiles([0.5, 0.25, 0.5, 0.0], [0.25, 0.5, 0.0, 0.0])
    found, sure = over_mean(rows, 2, room(rows))
    assert sure.tolist() == [True]  # the first leads by 1/8, 1/4 (and 0 at the last), the second by 1/8 (and 0)
    assert found[:, :, 0].tolist() == [[2, 0], [1, 3]]
    assert picked(rows, 2) == [[[2, 0], [1, 3]]]


def test_a_text_over_the_mean_that_is_higher_at_another_is_not_picked():
    rows = profiles([0.5, 0.5], [0.625, 0.25], [-1.0, 0.25])  # the first is 11/24 over the mean of the first text
    found, sure = over_mean(rows, 1, room(rows))
    assert found[0, 0, 0] == 0
    assert not sure.any()
    assert picked(rows, 1) == [[[1], [0], [-1]]]


def test_widest_takes_the_first_of_equals_and_says_where_there_is_none():
    rows = np.array([[0.5, 1.0, 1.0], [-np.inf, 0.0, -np.inf]], np.float32)
    assert widest(rows, 2).tolist() == [[1, 1], [2, -1]]


def test_many_texts_are_read_by_their_mean(monkeypatch):
    monkeypatch.setattr(leads, "over_each", lambda *_: pytest.fail("all by their mean"))
    rows = np.random.default_rng(0).normal(size=(CLOSE, 5, 2 * leads.MANY)).astype(np.float32)
    assert separating(rows.copy(), 2, room(rows)).tolist() == one_by_one(rows, 2).tolist()
