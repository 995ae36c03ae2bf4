from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_scored import scored_by
from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import get_pool
from vlmdesc.errors import InputError
from vlmdesc.evaluation.credit import leave_one_out


def found(images, labels, columns, pool):
    """Only with, only without and whether that is defined, by number of the column."""
    seen = scored_by(columns, images, labels, pool)
    credit = leave_one_out(seen.head, seen.images, seen.two)
    whole = [np.zeros(len(columns.owner), kind) for kind in (np.intp, np.intp, bool)]
    for of, part in zip(whole, (credit.only_with, credit.only_without, credit.defined), strict=True):
        of[credit.columns] = part
    assert (credit.owner == columns.owner[credit.columns]).all()
    return SimpleNamespace(only_with=whole[0], only_without=whole[1], defined=whole[2])


def by_force(images, labels, columns, pool):
    """Drop each descriptor in turn and classify anew."""
    score = get_pool(pool).score
    before = score(images, columns).argmax(axis=1) == labels
    only_with, only_without = [], []
    for m in range(len(columns.owner)):
        weights = columns.weights.copy()
        weights[m] = 0
        if not weights[columns.owner == columns.owner[m]].any() or columns.weights[m] == 0:
            only_with.append(0), only_without.append(0)
            continue
        after = (
            score(images, Columns(columns.texts, columns.owner, weights, columns.n_classes)).argmax(axis=1) == labels
        )
        only_with.append(int((before & ~after).sum()))
        only_without.append(int((after & ~before).sum()))
    return only_with, only_without


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["mean", "renormalized"]))
def test_as_if_each_descriptor_were_dropped_in_turn(seed, pool):
    rng = np.random.default_rng(seed)
    classes, dim, n = int(rng.integers(2, 6)), 4, 60
    owner = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, 8)]))
    texts, images = (rng.standard_normal((k, dim)).astype(np.float32) for k in (len(owner), n))
    weights = rng.choice([0, 0.5, 1, 3], len(owner)).astype(np.float32)
    weights[[int(np.flatnonzero(owner == c)[0]) for c in range(classes)]] = 1
    columns, labels = Columns(texts, owner, weights, classes), rng.integers(0, classes, n)
    credit = found(images, labels, columns, pool)
    assert (credit.only_with.tolist(), credit.only_without.tolist()) == by_force(images, labels, columns, pool)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000))
def test_ties_go_to_the_lower_class(seed):
    """Small whole numbers and two descriptors a class: every sum and mean is exact, and ties abound."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(4), 2)
    texts, images = (rng.integers(-1, 2, (k, 3)).astype(np.float32) for k in (8, 50))
    columns = Columns(texts, owner, np.ones(8, np.float32), 4)
    labels = rng.integers(0, 4, 50)
    credit = found(images, labels, columns, "mean")
    assert (credit.only_with.tolist(), credit.only_without.tolist()) == by_force(images, labels, columns, "mean")


def test_by_hand():
    """Two classes; "wrong" draws the first towards the second's image, the others do what they should."""
    texts = np.array([[1, 0], [0, 1], [0, 1]], np.float32)  # of class 0: right, wrong; of class 1: right
    columns = Columns(texts, np.array([0, 0, 1]), np.ones(3, np.float32), 2)
    images = np.array([[0.9, 0.4], [0.5, 0.6], [0.1, 0.9]], np.float32)
    labels = np.array([0, 0, 1])
    # class 0 scores 0.65, 0.55, 0.5 and class 1 scores 0.4, 0.6, 0.9: the second image is wrong
    credit = found(images, labels, columns, "mean")
    assert credit.defined.tolist() == [True, True, False]
    # without "right": 0.4, 0.6, 0.9 for class 0, a tie everywhere, which class 0 wins: the last is lost, the second won
    assert credit.only_with.tolist() == [1, 0, 0]
    # without "wrong": 0.9, 0.5, 0.1: nothing changes
    assert credit.only_without.tolist() == [1, 0, 0]


def test_the_only_descriptor_of_a_class_has_no_credit_and_max_pooling_has_none():
    columns = Columns(np.eye(2, dtype=np.float32), np.array([0, 1]), np.ones(2, np.float32), 2)
    credit = found(np.eye(2, dtype=np.float32), np.array([0, 1]), columns, "mean")
    assert not credit.defined.any() and not credit.only_with.any() and not credit.only_without.any()
    with pytest.raises(InputError, match="no vector of a class under pooling 'max'"):
        found(np.eye(2, dtype=np.float32), np.array([0, 1]), columns, "max")
