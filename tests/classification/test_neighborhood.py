from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.classification.test_score import unit
from vlmdesc.classification import selection as rules
from vlmdesc.classification.heads import HeadCard
from vlmdesc.classification.heads import neighborhood as module
from vlmdesc.classification.heads.neighborhood import (
    KS,
    MS,
    Choice,
    Neighborhood,
    Texts,
    balance,
    fit_neighborhood,
    fit_own,
    fit_unlabelled,
    leave_one_out,
    pool_of,
)
from vlmdesc.classification.score import ranking
from vlmdesc.classification.selection import candidates, first_texts, picks, profile, score
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptor, Descriptors

SEEDS = pytest.mark.parametrize("seed", range(5))


def texts_of(captions, texts, owner):
    names, said = (
        tuple(f"{what} {i}" for i in range(n)) for what, n in (("class", len(captions)), ("text", len(texts)))
    )
    return Texts(captions, texts, first_texts(owner, len(captions), max(MS)), names, said)


def card(texts):
    return HeadCard("neighborhood", tuple(ClassName(name, name) for name in texts.names), "fake-1")


def fit(texts, images, labels):
    return fit_neighborhood(card(texts), texts, images, labels)


def unselected(texts, images, labels):
    return fit_own(card(texts), texts, images, labels)


def unlabelled(texts, images):
    return fit_unlabelled(card(texts), texts, images)


def head(texts, choice, known=None):
    return Neighborhood(card(texts), texts, choice, known)


def world(seed, sizes=(20,) * 6, per_class=4, d=24, off=1.5, blur=0.8):
    """Texts whose captions lie off their classes, and labelled images in clusters: (Texts, images, labels)."""
    rng = np.random.default_rng(seed)

    def near(rows, far):
        return unit(rows + far * rng.normal(size=rows.shape) / d**0.5)

    centres, labels = unit(rng.normal(size=(len(sizes), d))), np.repeat(np.arange(len(sizes)), sizes)
    owner = np.repeat(np.arange(len(sizes)), per_class)
    texts = texts_of(near(centres, off), near(centres[owner], 1.5), owner)
    return texts, near(centres[labels], blur), labels


def rounds(found):
    return found.card.fitted_on["rounds"]


def settled(found):
    return found.card.fitted_on["settled"]


def accuracy(found, images, labels):
    return (found.scores(images).argmax(axis=1) == labels).mean()


def test_the_pool_has_each_text_once_and_nothing_that_does_not_count():
    rows = (
        Descriptor("b", "stripes"),
        Descriptor("a", "off", enabled=False),
        Descriptor("a", "legs"),
        Descriptor("a", "nothing", weight=0.0),
        Descriptor("a", ""),
        Descriptor("a", "stripes"),
        Descriptor("b", "hoofs", weight=0.5),
        Descriptor("a", "legs"),
    )
    said, own = pool_of(Descriptors(tuple(ClassName(c, c) for c in "abc"), rows))
    assert said == ["stripes", "legs", "hoofs"]
    assert own.shape == (3, max(MS))
    assert [row[row >= 0].tolist() for row in own] == [[0, 1], [0, 2], []]


@pytest.mark.parametrize("rows", [(), (Descriptor("a", ""), Descriptor("a", "off", enabled=False))])
def test_a_pool_of_nothing_is_refused(rows):
    with pytest.raises(InputError, match="no descriptors to pick from"):
        pool_of(Descriptors((ClassName("a", "a"),), rows))


def without(texts, images, labels, n, choice):
    """What is taught by all reference images but one."""
    rest = np.arange(len(images)) != n
    known = profile(images[rest], labels[rest], texts.texts, len(texts.captions))
    return head(texts, choice, np.ascontiguousarray(known.T))


@SEEDS
def test_an_image_never_votes_for_itself(seed):
    sizes = np.array([3, 2, 1, 0, 2, 4])  # without its only image a class is one without any
    texts, images, labels = world(seed, sizes)
    known = np.ascontiguousarray(profile(images, labels, texts.texts, 6).T)
    some = np.arange(len(images))
    found = candidates(images[some], texts.captions, 4)
    texts = replace(texts, own=texts.own[:, :3])
    selection = leave_one_out(texts, known, images, labels, some, found)
    assert selection.candidates.tolist() == found.tolist()
    for n, picked, fallback in zip(some, selection.picked, selection.fallback, strict=True):
        alone = without(texts, images, labels, n, Choice(4, 3, 1.0)).select(images[n : n + 1])
        assert picked.tolist() == alone.picked[0].tolist() and fallback.tolist() == alone.fallback[0].tolist()
    seen = picks(known, found, texts.own[:, :3])  # by images that have a part in it
    assert seen.picked.tolist() != selection.picked.tolist()


@SEEDS
def test_the_figures_of_a_choice_are_those_without_each_image_in_turn(seed):
    texts, images, labels = world(seed, (4, 3, 5, 2))
    choice = fit(texts, images, labels).choice
    taught = [without(texts, images, labels, n, choice) for n in range(len(images))]
    right = [accuracy(found, images[n : n + 1], labels[n]) for n, found in enumerate(taught)]
    assert choice.accuracy == pytest.approx(np.mean(right))
    assert choice.by_name == pytest.approx(((images @ texts.captions.T).argmax(axis=1) == labels).mean())
    assert choice.ceiling == pytest.approx((candidates(images, texts.captions, choice.k) == labels[:, None]).sum() / 14)
    alone = [found.select(images[n : n + 1]).fallback for n, found in enumerate(taught)]
    assert choice.fallback == pytest.approx(np.mean(alone))


def test_no_other_choice_is_right_more_often():
    texts, images, labels = world(3, (4, 3, 5))
    best = fit(texts, images, labels).choice
    for k in {min(k, 3) for k in KS}:
        for m in MS:
            for weight in (0.0, 0.5, 1.0, 3.0, 20.0):
                other = Choice(k, m, weight)
                right = [
                    accuracy(without(texts, images, labels, n, other), images[n : n + 1], labels[n])
                    for n in range(len(images))
                ]
                assert np.mean(right) < best.accuracy + 1e-9


def test_of_equal_choices_the_nearest_to_the_published_is_taken():
    texts, images, labels = world(0, (3, 3, 3, 3), off=0.0, blur=0.1)  # captions that are always right
    for learner in (fit, unselected):
        choice = learner(texts, images, labels).choice
        assert (choice.k, choice.m, choice.accuracy, choice.by_name) == (3, 5, 1.0, 1.0)
        assert 0 < choice.name_weight < 39.75  # all are right, so the nearest to a balanced one


@pytest.mark.parametrize("learner", [fit, unselected])
def test_where_every_class_has_one_image_the_choice_is_the_published_one(learner):
    texts, images, labels = world(1, (1, 1, 1, 0, 1))
    found = learner(texts, images, labels)
    assert (found.choice.k, found.choice.m) == (3, 5)
    assert found.choice.accuracy is None and found.choice.by_name is None
    assert found.card.fitted_on == {"images": 4, "labels": "reference"}
    chosen, described = candidates(images, texts.captions, 3), []
    for n in range(4):  # no image has a part in what is picked for it
        alone = without(texts, images, labels, n, found.choice) if learner is fit else found
        x = images[n : n + 1]
        described.append(score(x, texts.captions, texts.texts, alone.select(x), 0.0)[0])
    named = np.take_along_axis(images @ texts.captions.T, chosen.astype(np.intp), axis=1)
    assert found.choice.name_weight == pytest.approx(balance(named, np.stack(described)), rel=1e-4)


@SEEDS
def test_classes_of_one_image_have_no_say_in_the_choice(seed):
    texts, images, labels = world(seed, (5, 1, 4, 1, 3))
    many = ~np.isin(labels, [1, 3])
    assert unselected(texts, images, labels).choice == unselected(texts, images[many], labels[many]).choice


def test_choices_are_made_on_so_many_images_of_all_classes(monkeypatch):
    texts, images, labels = world(0, (10, 1, 10, 10))
    seen = []

    def watched(*args):
        seen.append(args[4].tolist())
        return leave_one_out(*args)

    monkeypatch.setattr(rules, "MOST", 4)
    monkeypatch.setattr(module, "leave_one_out", watched)
    fit(texts, images, labels)
    assert seen and all(len(some) == 4 and {*labels[some].tolist()} == {0, 2, 3} for some in seen)


def test_equal_captions_keep_their_places():
    """Classes 0 and 1 have one caption: class 1 is no candidate and stays behind class 0, a tie or not."""
    captions, texts = np.float32([[0.5, 0], [0.5, 0], [1, 0]]), np.float32([[0, 1], [1, 0]])
    own = np.array([[1], [-1], [0]])
    found = head(Texts(captions, texts, own, ("a", "b", "c"), ("x", "y")), Choice(2, 1, 0.25))
    assert ranking(found.scores(np.float32([[1, 0]])), 3).tolist() == [[0, 2, 1]]  # 1.125, 0.25, less than 0.25


def test_without_reference_images_there_is_nothing_to_fit():
    texts, images, labels = world(0)
    with pytest.raises(InputError, match="no reference images"):
        fit(texts, images[:0], labels[:0])
    with pytest.raises(InputError, match="no images"):
        unlabelled(texts, images[:0])


def test_balanced_by_hand():
    # Within images the name spreads by 0.5, the descriptors by 0.25 and 0; twice
    # sqrt(2 * 0.25^2 / 4) / 0.5 is sqrt(0.5).
    assert balance(np.float32([[1, 0], [3, 2]]), np.float32([[0.5, 0], [4, 4]])) == pytest.approx(0.5**0.5)
    assert balance(np.float32([[1, 1]]), np.float32([[0.5, 0]])) == 1.0


@st.composite
def neighborhoods(draw):
    """Of any number of classes, some without images, some without texts; and images."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    c, m, n, d = draw(st.integers(1, 7)), draw(st.integers(1, 12)), draw(st.integers(0, 5)), 6
    texts = texts_of(unit(rng.normal(size=(c, d))), unit(rng.normal(size=(m, d))), rng.integers(0, c, m))
    choice = Choice(draw(st.integers(1, c)), draw(st.sampled_from(MS)), draw(st.floats(0, 10)))
    known = rng.normal(size=(c, m)).astype(np.float32)
    known[draw(st.lists(st.integers(0, c - 1)))] = np.nan
    return head(texts, choice, draw(st.sampled_from([known, None]))), unit(rng.normal(size=(n, d)))


@settings(max_examples=60)
@given(neighborhoods())
def test_candidates_come_first_and_the_others_by_their_captions(problem):
    found, images = problem
    selection, scores = found.select(images), found.scores(images)
    texts, k = found.texts, found.choice.k
    named = images @ texts.captions.T
    assert scores.shape == named.shape and scores.dtype == np.float32
    best = score(images, texts.captions, texts.texts, selection, found.choice.name_weight)
    assert np.allclose(np.take_along_axis(scores, selection.candidates.astype(np.intp), axis=1), best, atol=1e-5)
    order = np.argsort(-named, axis=1)
    in_order = -np.diff(np.take_along_axis(named, order, axis=1), axis=1)
    ranks = ranking(scores, named.shape[1])
    assert np.sort(ranks[:, :k]).tolist() == np.sort(selection.candidates).tolist()
    assume((in_order > 1e-4).all())
    assert ranks[:, k:].tolist() == order[:, k:].tolist()


@settings(max_examples=60)
@given(neighborhoods())
def test_classes_without_images_keep_their_own_descriptors(problem):
    found, images = problem
    bare = range(len(found.texts.captions)) if found.profile is None else np.flatnonzero(np.isnan(found.profile[:, 0]))
    assert found.bare.tolist() == list(bare)
    selection = found.select(images)
    own = found.texts.own[selection.candidates][:, :, : found.choice.m]
    kept = np.isin(selection.candidates, found.bare)
    assert selection.fallback[kept].all()
    assert selection.picked[selection.fallback].tolist() == own[selection.fallback].tolist()


@SEEDS
@pytest.mark.parametrize("blur", [0.5, 1.5])
def test_unlabelled_images_teach_until_their_labels_come_to_rest(seed, blur, monkeypatch):
    texts, images, _ = world(seed, blur=blur)
    whole = unlabelled(texts, images)
    assert (
        whole.card.fitted_on["labels"] == "none"
        and 1 <= rounds(whole) <= 10
        and (whole.choice.k, whole.choice.m) == (3, 5)
    )
    assert whole.choice.accuracy is None
    labels = (images @ texts.captions.T).argmax(axis=1)
    for round_ in range(1, rounds(whole) + 1):
        monkeypatch.setattr(module, "ROUNDS", round_)
        found = unlabelled(texts, images)
        assert rounds(found) == round_ and found.choice == whole.choice  # balanced in the first round
        assert found.card.fitted_on["images"] == sum(
            -(-size // 2) for size in np.bincount(labels)
        )  # half of each, rounded up
        fresh = found.scores(images).argmax(axis=1)
        assert settled(found) == (fresh == labels).all()
        labels = fresh
    assert settled(found) == settled(whole) and (found.scores(images) == whole.scores(images)).all()
    assert settled(whole) or rounds(whole) == 10


@SEEDS
def test_the_half_of_each_class_that_the_captions_are_surest_of_teaches_first(seed, monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 1)
    texts, images, _ = world(seed, sizes=(5, 6, 7))
    named = images @ texts.captions.T
    labels, margins = named.argmax(axis=1), -np.diff(np.sort(named, axis=1)[:, ::-1], axis=1)[:, 0]
    sure = []
    for class_ in range(3):
        own = sorted(np.flatnonzero(labels == class_), key=lambda n: -margins[n])
        sure += own[: (len(own) + 1) // 2]
    expected = profile(images[sure], labels[sure], texts.texts, 3).T
    assert np.allclose(unlabelled(texts, images).profile, expected, atol=1e-5, equal_nan=True)


def test_some_labels_take_more_than_a_round_and_some_never_rest():
    some = [unlabelled(*world(seed, blur=1.5)[:2]) for seed in range(5)]
    assert {settled(found) for found in some} == {True, False}
    assert unlabelled(*world(0, off=0.0, blur=0.1)[:2]).card.fitted_on["rounds"] == 1


@SEEDS
def test_unlabelled_clusters_do_better_than_captions_that_are_off(seed):
    texts, images, labels = world(seed)
    by_name = ((images @ texts.captions.T).argmax(axis=1) == labels).mean()
    assert accuracy(unlabelled(texts, images), images, labels) > by_name


@SEEDS
def test_the_order_of_images_does_not_matter(seed):
    texts, images, labels = world(seed)
    order = np.random.default_rng(seed).permutation(len(images))
    for one, other in (
        (fit(texts, images, labels), fit(texts, images[order], labels[order])),
        (unlabelled(texts, images), unlabelled(texts, images[order])),
    ):
        assert (one.choice.k, one.choice.m) == (other.choice.k, other.choice.m)
        assert one.choice.name_weight == pytest.approx(other.choice.name_weight, rel=1e-4)
        assert np.allclose(one.scores(images)[order], other.scores(images[order]), atol=1e-4)


def test_one_class_or_one_image_is_enough():
    texts, images, labels = world(0, (4,))
    for found in (unlabelled(texts, images), fit(texts, images, labels), unselected(texts, images, labels)):
        assert found.scores(images).shape == (4, 1) and found.select(images).fallback.all()
    texts, images, labels = world(0, (0, 1, 0))
    for found in (unlabelled(texts, images), fit(texts, images, labels), unselected(texts, images, labels)):
        assert np.isfinite(found.scores(images)).all() and found.card.fitted_on["images"] == 1
