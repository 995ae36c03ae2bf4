import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.classification.test_score import unit
from vlmdesc.classification import selection as rules
from vlmdesc.classification.heads.prototypes import WEIGHTS, bonus, calibrate, calibrate_new, choose, prototypes
from vlmdesc.errors import InputError, ShapeError

SEEDS = pytest.mark.parametrize("seed", range(5))


@st.composite
def problems(draw):
    """Photographs of c classes (some of none), their labels, and c."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    r, c = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    return unit(rng.normal(size=(r, 6))), rng.integers(0, c, r), c


@settings(max_examples=50)
@given(problems())
def test_prototypes_are_unit_norm_means_of_their_photographs(problem):
    photos, labels, c = problem
    found = prototypes(photos, labels, c)
    assert found.shape == (c, 6) and found.dtype == np.float32
    for class_ in range(c):
        own = photos[labels == class_].astype(float)
        if len(own):
            assert np.linalg.norm(found[class_]) == pytest.approx(1, abs=1e-5)
            assert found[class_] * np.linalg.norm(own.mean(axis=0)) == pytest.approx(own.mean(axis=0), abs=1e-5)
        else:
            assert np.isnan(found[class_]).all()


def at(*degrees):
    """Unit vectors in the plane."""
    angle = np.radians(degrees)
    return np.float32(np.stack([np.cos(angle), np.sin(angle)], axis=1))


def test_calibrated_by_hand():
    """Bases at 0 and 90 degrees. cos a - sin a is ln(3) / 16 at a = acos(ln(3) / 16 / sqrt(2)) - 45 = 42.217 degrees,
    where the softmax at 16 is 3/4 and 1/4: toward (3, 1), at 18.435 degrees. Halfway lies their bisector.
    """
    new = at(np.degrees(np.arccos(np.log(3) / 16 / 2**0.5)) - 45)
    toward = np.degrees(np.arctan2(1, 3))
    assert calibrate(new, at(0, 90), np.array([0.5])) == pytest.approx(at((42.217 + toward) / 2), abs=1e-4)
    assert calibrate(new, at(0, 90), np.array([1.0])) == pytest.approx(at(toward), abs=1e-5)
    # 0.75 * new + 0.25 * toward, by components: (0.7927, 0.5830), of length 0.9840
    assert calibrate(new, at(0, 90), np.array([0.25])) == pytest.approx(np.array([[0.8056, 0.5925]]), abs=1e-4)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5), st.floats(0, 1))
def test_calibrated_is_the_published_rule_at_unit_norm(seed, n, b, shift):
    rng = np.random.default_rng(seed)
    new, base = unit(rng.normal(size=(n, 6))), unit(rng.normal(size=(b, 6)))
    found = calibrate(new, base, np.full(n, shift))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(n), abs=1e-5)
    for p, ours in zip(new.astype(float), found, strict=True):
        weights = np.array([np.exp(16 * p @ q) for q in base.astype(float)])
        toward = (weights / weights.sum()) @ base
        drawn = (1 - shift) * p + shift * toward / np.linalg.norm(toward)
        assert ours * np.linalg.norm(drawn) == pytest.approx(drawn, abs=1e-5)
    assert np.allclose(calibrate(new, base, np.zeros(n)), new, atol=1e-6)


def test_bonus_by_hand():
    """The second class has no photograph; 1 - cosine is 0, 0.4 and 1."""
    given_ = bonus(np.float32([[1, 0], [0.6, 0.8], [0, 1]]), np.float32([[1, 0], [np.nan, np.nan]]), 2.0)
    assert given_[:, 0] == pytest.approx([2, 2 * np.exp(-2.2), 2 * np.exp(-5.5)])  # 2, 0.2216, 0.0082
    assert given_[:, 1].tolist() == [0, 0, 0]


@settings(max_examples=50)
@given(problems(), problems(), st.sampled_from([0.0, 0.1, 0.5, None]))
def test_new_prototypes_are_calibrated_by_those_that_are_known(here, more, shift):
    known, (photos, labels, n_new) = prototypes(*here), more
    found = calibrate_new(known, photos, labels, n_new, shift)
    fresh, base = prototypes(photos, labels, n_new), known[~np.isnan(known[:, 0])]
    # What the others expect counts as one photograph more.
    shifts = np.full(n_new, shift) if shift is not None else 1 / (np.bincount(labels, minlength=n_new) + 1)
    assert np.array_equal(found, calibrate(fresh, base, shifts), equal_nan=True)
    images = here[0]
    assert (bonus(images, found, 3.0) == 0).all(axis=0).tolist() == np.isnan(fresh[:, 0]).tolist()


def test_the_first_photographs_have_nothing_to_be_drawn_toward():
    nobody = np.full((2, 2), np.nan, np.float32)
    assert calibrate_new(nobody, at(30), np.array([0]), 1) == pytest.approx(at(30))


def test_with_a_photograph_a_class_the_weight_goes_by_the_range_of_the_text_scores():
    scores = np.float32([[0.1, 0.4, 0.2], [0.3, 0.3, 0.2]])  # ranges 0.3 and 0.1
    found, weight = choose(at(0, 90), np.array([2, 0]), scores)
    assert weight == pytest.approx(1.5 * 0.2)
    assert found[[0, 2]] == pytest.approx(at(90, 0)) and np.isnan(found[1]).all()


def by_loop(photos, labels, text_scores):
    """Share of right answers at each weight, each photograph classified by the others.

    In the share of classes that have no photographs, it is one of theirs: its own class has none then.
    """
    counts, right = np.bincount(labels, minlength=text_scores.shape[1]), []
    for n in np.flatnonzero(counts[labels] > 1):
        rest = np.arange(len(photos)) != n
        keys = prototypes(photos[rest], labels[rest], text_scores.shape[1])
        right.append([])
        for weight in WEIGHTS:
            more = bonus(photos[n : n + 1], keys, float(weight))[0]
            known, stranger = text_scores[n] + more, text_scores[n] + more * (np.arange(len(more)) != labels[n])
            share = (counts > 0).mean()
            right[-1].append(share * (known.argmax() == labels[n]) + (1 - share) * (stranger.argmax() == labels[n]))
    return np.mean(right, axis=0)


@SEEDS
def test_the_weight_is_one_of_those_that_are_right_most_often_on_photographs_left_out(seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(6), [5, 4, 3, 1, 0, 6])
    photos = unit(rng.normal(size=(6, 8))[labels] + rng.normal(size=(len(labels), 8)))
    text_scores = (0.3 * np.eye(6)[labels] + rng.normal(size=(len(labels), 6)) / 4).astype(np.float32)
    shares = by_loop(photos, labels, text_scores)
    assert shares.max() > shares[0]  # photographs help
    best = WEIGHTS[shares > shares.max() - 1e-9]
    usual = 1.5 * np.ptp(text_scores, axis=1).mean()
    assert choose(photos, labels, text_scores)[1] == best[np.abs(np.log(best / usual)).argmin()]


def test_while_most_classes_have_no_photographs_these_count_no_more_than_the_range_of_the_texts():
    """One class of five. All of its photographs are right from 0.5 on; 1.5 times the range is 0.75."""
    photos, labels = at(0, 5, 10), np.zeros(3, np.intp)
    text_scores = np.float32([[0.0, 0.5, 0.1, 0.1, 0.1]] * 3)
    assert 0.5 < choose(photos, labels, text_scores)[1] <= 0.75
    harder = np.float32([[0.0, 0.5, 0.1, 0.1, 0.1], [0.0, 0.5, 0.1, 0.1, 0.1], [0.0, 2.0, 0.1, 0.1, 0.1]])
    assert choose(photos, labels, harder)[1] == 1.5  # from 2.0 on all are right; the mean range is 1.0


def test_a_photograph_does_not_vouch_for_itself():
    """Each class has two photographs at right angles, each near one of the other class: left out, all mislead."""
    photos, labels = at(0, 90, 10, 100), np.array([0, 0, 1, 1])
    right_by_a_little = np.float32(np.eye(3)[labels] * 0.05 - [0, 0, 1])  # and far from a third, so the range is wide
    assert choose(photos, labels, right_by_a_little)[1] < 0.2


def test_where_any_weight_is_right_it_goes_by_the_range_of_the_text_scores():
    photos, labels = at(0, 0, 90, 90), np.array([0, 0, 1, 1])
    assert choose(photos, labels, np.float32(0.4 * np.eye(2)[labels]))[1] == pytest.approx(0.6, rel=0.15)
    assert choose(photos, labels, np.zeros((4, 2), np.float32))[1] == pytest.approx(1, rel=0.15)


def test_the_weight_is_chosen_on_so_many_photographs(monkeypatch):
    """In class order 0, 2, 1, 3. The texts are wrong by 1 about 2 and 1, which takes a weight above 1; right about the
    first and the last, for which any will do, and 1.5 times the range is 0.825.
    """
    photos, labels = at(0, 90, 0, 90), np.array([0, 1, 0, 1])
    text_scores = np.float32([[0.1, 0], [1, 0], [0, 1], [0, 0.1]])
    assert choose(photos, labels, text_scores)[1] > 1
    monkeypatch.setattr(rules, "MOST", 2)
    assert choose(photos, labels, text_scores)[1] < 1


def test_without_photographs_there_is_nothing_to_fit():
    with pytest.raises(InputError, match="no images"):
        choose(np.empty((0, 2), np.float32), np.empty(0, np.intp), np.empty((0, 3), np.float32))


@pytest.mark.parametrize(("labels", "scores"), [(1, 2), (2, 1), (3, 2)])
def test_misfits_are_refused(labels, scores):
    with pytest.raises(ShapeError, match=f"scores of {scores}" if scores != 2 else f"2 images, {labels} labels"):
        choose(at(0, 90), np.zeros(labels, np.intp), np.zeros((scores, 3), np.float32))


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0]])
def test_labels_of_no_class_are_refused(labels):
    for give in (lambda y: prototypes(at(0, 90), y, 3), lambda y: calibrate_new(at(0, 90), at(0, 90), y, 3)):
        with pytest.raises(ShapeError, match="give each image the number of its class"):
            give(np.array(labels))
