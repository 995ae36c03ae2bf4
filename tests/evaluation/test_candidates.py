import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_scored import head_of, scored_by, unit
from tests.evaluation.test_suggest import planted
from vlmdesc import Descriptors
from vlmdesc.classification.columns import Columns, columns_of
from vlmdesc.classification.score import POOLS, get_pool
from vlmdesc.errors import InputError
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.candidates import LEAST, MOST, SHOWN, Aim, Draft, add, drop, reweigh, separate
from vlmdesc.evaluation.scored import Scored
from vlmdesc.records import ClassName, Descriptor
from vlmdesc.testing import label_vectors

FOLDS = [name for name, pool in POOLS.items() if pool.fold]
WAYS = [(pool, phrase) for pool in FOLDS for phrase in ("plain", "free")]


def hashed(texts):
    """A unit vector of eight dimensions for every text there is."""
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    seeds = [int.from_bytes(digest[:4], "big") for digest in digests]
    return unit(np.array([np.random.default_rng(seed).standard_normal(8) for seed in seeds]).reshape(-1, 8))


def draft(descriptors, pool="mean", phrase="free"):
    head = head_of(columns_of(descriptors, hashed, phrase), pool, phrase, descriptors.classes)
    return Draft(descriptors, head, hashed)


def aim(images, labels, head, target=None):
    return Aim(Scored.of(head, label_vectors(images, labels)), np.ones(len(labels), bool) if target is None else target)


def zoo(seed):
    """Three classes of two to five descriptors with weights, some of them disabled."""
    rng, rows = np.random.default_rng(seed), []
    for name in ("hen", "owl", "frog"):
        for i in range(int(rng.integers(2, 6))):
            rows.append(Descriptor(name, f"{name} {i} {seed}", float(rng.choice([0.5, 1, 1.7])), i < 2 or i % 2 == 0))
    return Descriptors(tuple(ClassName(name, name) for name in ("hen", "owl", "frog")), tuple(rows))


def really(candidate, draft):
    """The class's vector in the set that has the edits."""
    after = draft.edit(candidate.edits)
    return POOLS[after.card.kind].fold(after.columns.means)[candidate.class_]


def a_world(pool="mean", weight=1.0):
    """`planted` with "good", "bad" and "mid" of this weight, and its images to be aimed at."""
    rows = (*(Descriptor("zero", text, weight) for text in ("good", "bad", "mid")), Descriptor("one", "other"))
    w, draw = planted(Descriptors((ClassName("zero", "zero"), ClassName("one", "one")), rows), pool)
    images, labels = draw(600, 0)
    return w, aim(images, labels, w.head)


def reweighed(pool, **world):
    w, seen = a_world(pool, **world)
    labels = seen.seen.images.labels
    [found] = reweigh(w, 0, seen, calibrate.folds(labels, [*map(str, range(len(labels)))], 0))
    return w, seen.seen, found


# Answers under many edits


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_right_with_is_scoring_everything_anew_with_ties(seed):
    """Small whole numbers: every score is exact, and ties abound."""
    rng = np.random.default_rng(seed)
    texts, images = (rng.integers(-1, 2, (k, 3)).astype(np.float32) for k in (8, 50))
    columns = Columns(texts, np.repeat(np.arange(4), 2), np.ones(8, np.float32), 4)
    labels, vectors = rng.integers(0, 4, 50), rng.integers(-2, 3, (6, 3)).astype(np.float32) / 2
    seen = scored_by(columns, images, labels)
    for class_ in range(4):
        scores = get_pool("mean").score(images, columns)
        found = seen.right_with(class_, images @ vectors.T)
        for k, vector in enumerate(vectors):
            scores[:, class_] = images @ vector
            assert found[:, k].tolist() == (scores.argmax(axis=1) == labels).tolist()


# Candidates and the sets they stand for


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 200), st.sampled_from(WAYS))
def test_a_candidate_has_the_vector_of_the_edited_set(seed, way):
    w = draft(zoo(seed), *way)
    for class_ in range(3):
        dropped = [*drop(w, class_)]
        assert [candidate.edits[0].text for candidate in dropped] == [
            w.descriptors.rows[m].text for m in w.rows_of(class_)
        ]
        added = [*add(w, class_, ["a red comb", "grey", "a red comb", ""], "borrow")]
        assert [candidate.edits[0].text for candidate in added] == ["a red comb", "grey"]
        for candidate in dropped + added:
            assert candidate.class_ == class_ and len(candidate.edits) == 1
            assert candidate.vector == pytest.approx(really(candidate, w), abs=1e-5)


@pytest.mark.parametrize("pool", FOLDS)
def test_what_is_added_to_a_class_without_descriptors_takes_the_place_of_its_name(pool):
    descriptors = Descriptors(
        (ClassName("hen", "hen"), ClassName("owl", "owl")),
        (Descriptor("hen", "a beak", enabled=False), Descriptor("owl", "big eyes")),
    )
    w = draft(descriptors, pool, "plain")
    assert w.rows_of(0) == [] and not [*drop(w, 0)]
    [added] = add(w, 0, ["a red comb", "a beak"], "ask")  # a beak is there, though disabled
    assert added.vector == pytest.approx(really(added, w), abs=1e-5) and added.kind == "ask"


def test_the_only_descriptor_is_not_dropped_and_what_is_there_is_not_added():
    w = draft(Descriptors.of({"hen": ["a beak"], "owl": ["a beak", "big eyes"]}))
    assert not [*drop(w, 0)] and len([*drop(w, 1)]) == 2
    assert not [*add(w, 0, ["a beak", ""], "borrow")]
    seen = aim(np.eye(8, dtype=np.float32), np.arange(8) % 2, w.head)
    assert not [*reweigh(w, 0, seen, np.arange(8) % calibrate.N_FOLDS)]  # one descriptor has no weight to change
    assert [c.edits[0].to_dict() for c in add(w, 0, ["big eyes"], "borrow")] == [
        {"op": "add", "class": "hen", "text": "big eyes"}
    ]


@pytest.mark.parametrize("first", [Descriptor("hen", "grey", enabled=False), Descriptor("hen", "grey", 3.0)])
def test_a_descriptor_that_a_class_has_twice_is_dropped_where_it_stands(first):
    rows = (first, Descriptor("hen", "grey"), Descriptor("hen", "brown"), Descriptor("owl", "white"))
    w = draft(Descriptors((ClassName("hen", "hen"), ClassName("owl", "owl")), rows))
    for candidate in drop(w, 0):
        assert candidate.vector == pytest.approx(really(candidate, w), abs=1e-5)


# Weights


@pytest.mark.parametrize("pool", FOLDS)
def test_weights_follow_what_descriptors_are_worth(pool):
    w, seen, found = reweighed(pool)
    weights = {edit.text: edit.weight for edit in found.edits}
    assert all(edit.op == "weigh" and edit.class_ == "zero" for edit in found.edits)
    assert weights["good"] > 1 > weights["bad"]
    assert found.vector == pytest.approx(really(found, w), abs=1e-5)
    assert all(LEAST <= weight <= MOST for weight in weights.values())
    assert seen.right_with(0, seen.images.vectors @ found.vector[:, None]).mean() > (~seen.wrong).mean() + 0.1
    assert seen.right_with(0, seen.images.vectors @ really(found, w)[:, None]).mean() > (~seen.wrong).mean() + 0.1


@pytest.mark.parametrize("weight", [0.001, 0.02, 200_000.0])
def test_all_weights_of_a_class_can_be_scaled(weight):
    w, _, found = reweighed("mean", weight=weight)
    _, _, plain = reweighed("mean")
    assert found.vector == pytest.approx(plain.vector, abs=1e-4)
    assert all(edit.weight > 0 for edit in found.edits)
    assert really(found, w) == pytest.approx(found.vector, abs=0.02)


def test_weights_stay_where_nothing_is_gained_by_changing_them():
    rng, found = np.random.default_rng(0), 0
    for seed in range(20):
        w, labels = draft(zoo(seed)), np.repeat(np.arange(3), 30)
        images = unit(w.head.columns.means[labels] + 0.02 * rng.standard_normal((90, 8)))  # each image is right
        seen = aim(images, labels, w.head)
        found += len([*reweigh(w, 0, seen, np.arange(90) % calibrate.N_FOLDS)])
    assert found == 0


# The pool


def test_texts_that_set_lost_pictures_apart_come_first():
    w, seen = a_world()
    images, labels = seen.seen.images.vectors, seen.seen.images.labels
    pool = ["bad", "good", "other", *(f"text {i}" for i in range(30))]
    vectors = np.concatenate([w.encode(pool[:3]), 0.1 * hashed(pool[3:])])
    shown = separate(seen, 0, pool, vectors)
    assert len(shown) == SHOWN and shown[0] == "good" and "bad" not in shown
    nothing = aim(images, labels, w.head, np.zeros(len(labels), bool))
    assert separate(nothing, 0, ["good"], w.encode(["good"])) == []
    lost = (labels == 0) & seen.seen.wrong
    apart = vectors @ (images[lost].mean(axis=0) - images[labels == 1].mean(axis=0))
    assert shown == [pool[m] for m in np.argsort(-apart, kind="stable")[:SHOWN]]


@pytest.mark.parametrize("pool", ["max", "maen"])
def test_poolings_that_do_not_fold_are_refused(pool):
    columns = columns_of(zoo(0), hashed, "free")
    with pytest.raises(InputError, match=f"pooling '{pool}'"):
        Draft(zoo(0), head_of(columns, pool), hashed)
