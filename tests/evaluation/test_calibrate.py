import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc.evaluation import calibrate


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 9))
def test_folds_spread_each_class_evenly(labels, seed):
    labels = np.array(labels)
    contents = [str(i) for i in range(len(labels))]
    fold = calibrate.folds(labels, contents, seed)
    assert np.array_equal(fold, calibrate.folds(labels, contents, seed))
    assert np.ptp(np.bincount(fold, minlength=calibrate.N_FOLDS)) <= 1
    for c in np.unique(labels):
        assert np.ptp(np.bincount(fold[labels == c], minlength=calibrate.N_FOLDS)) <= 1


def test_copies_share_a_fold():
    contents = [str(i % 20) for i in range(60)]
    fold = calibrate.folds(np.arange(60) % 3, contents, 0)
    assert all(len({fold[i] for i in range(60) if contents[i] == c}) == 1 for c in set(contents))


def test_a_sample_keeps_the_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [8_000, 4_000, 200])
    some = calibrate.sample(labels, 0)
    assert len(some) == len(set(some.tolist())) == calibrate.MOST and np.all(np.diff(some) > 0)
    assert np.abs(np.bincount(labels[some]) / calibrate.MOST - np.bincount(labels) / len(labels)).max() < 0.001
    assert calibrate.sample(labels[:100], 0).tolist() == list(range(100))


def test_a_choice_for_a_fold_never_sees_it():
    fold = np.arange(100) % calibrate.N_FOLDS
    losses = np.random.default_rng(0).random((100, 7)).astype(np.float32)
    before = calibrate.choose(losses, fold)
    for f in range(calibrate.N_FOLDS):
        changed = losses.copy()
        changed[fold == f] = 1 - changed[fold == f]
        assert calibrate.choose(changed, fold)[f] == before[f]


def test_choices_by_hand():
    losses = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [1, 0]], np.float32)  # image i is fold i
    # without 0 or 1, one image of four wants the first; without 2, 3 or 4 two of four do, and the first of equals wins
    assert calibrate.choose(losses, np.arange(5)).tolist() == [1, 1, 0, 0, 0]
    assert calibrate.choose(losses, None).tolist() == [1] * 5


def test_log_losses_are_those_of_a_softmax():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(0, 0.2, (30, 8)).astype(np.float32), rng.integers(0, 8, 30)
    found = calibrate.log_losses(scores, labels)
    for g in (0, 10, 28):
        logits = scores.astype(np.float64) / calibrate.TEMPERATURES[g]
        whole = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
        assert found[:, g] == pytest.approx(whole - logits[np.arange(30), labels], abs=1e-3)


def test_confidence_is_the_probability_of_the_best():
    scores = np.array([[0.0, np.log(3.0) * 0.1]], np.float32)
    assert calibrate.confidences(scores, np.array([0.1], np.float32)) == pytest.approx([0.75])


def test_calibration_error_by_hand():
    confidence = np.array([0.9, 0.9, 0.3, 0.3], np.float32)
    # bin of 0.9: accuracy 0.5, gap 0.4; bin of 0.3: accuracy 0.5, gap 0.2; half the images each
    assert calibrate.calibration_error(confidence, np.array([1, 0, 1, 0], bool)) == pytest.approx(0.3)
    assert calibrate.calibration_error(np.array([1.0], np.float32), np.array([True])) == 0


def test_weights_go_from_the_descriptors_to_the_name():
    name, described = np.array([[1, 0]], np.float32), np.array([[0, 0.5]], np.float32)
    wrong = calibrate.wrong_by_weight(name, described, np.array([0]))
    # right where w > 0.5 * (1 - w), and where they are equal: w >= 1/3
    assert wrong[0].tolist() == [float(w < 1 / 3) for w in calibrate.WEIGHTS]
