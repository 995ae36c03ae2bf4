"""A head's scores, kept: versions of it are as if everything were scored anew."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vlmdesc as vd
from tests.classification.test_heads import KINDS, made
from vlmdesc.classification.columns import Columns, columns_of
from vlmdesc.classification.heads import HeadCard
from vlmdesc.classification.heads.pooled import Pooled
from vlmdesc.classification.score import POOLS, get_pool
from vlmdesc.descriptors.edit import edit
from vlmdesc.errors import InputError, ModelError, ShapeError
from vlmdesc.evaluation.scored import Scored
from vlmdesc.records import ClassName, Descriptors, Edit
from vlmdesc.testing import FakeEncoder, label_vectors

ZOO = Descriptors.of({"hen": ["a red comb", "brown"], "owl": ["grey"], "frog": ["green", "black spots"]})
ENCODE = FakeEncoder().texts


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def head_of(columns, pool="mean", phrase="free", classes=None):
    """The pooled head of some columns."""
    classes = classes or tuple(ClassName(f"c{c}", f"class {c}") for c in range(columns.n_classes))
    return Pooled(HeadCard(pool, classes, "fake", settings={"phrase": phrase}), columns)


def scored_by(columns, images, labels=None, pool="mean"):
    labels = [0] * len(images) if labels is None else labels
    return Scored.of(head_of(columns, pool), label_vectors(images, labels))


def before_and_after(images, before, after, pool):
    """The answers before, and after one edit and another; the second comes back to what was scored first."""
    seen = scored_by(before, images, pool=pool)
    then = seen.rescored(head_of(after, pool))
    assert (then.scores.argmax(axis=1) == then.answers).all() and (then.best(2)[0][:, 0] == then.answers).all()
    assert then.scores == pytest.approx(get_pool(pool).score(images, after), abs=1e-5)
    again = then.rescored(head_of(before, pool))
    assert again.answers.tolist() == seen.answers.tolist() and (again.scores == seen.scores).all()
    return seen.answers.tolist(), then.answers.tolist()


def anew(images, columns, pool):
    return get_pool(pool).score(images, columns).argmax(axis=1).tolist()


def random_edit(rng, columns, drawn):
    """Other columns of the same classes: some rows new, some gone, some weighed anew."""
    kept = rng.random(len(columns.owner)) < 0.8
    owner = np.concatenate([columns.owner[kept], rng.integers(0, columns.n_classes, 3)])
    lost = np.setdiff1d(np.arange(columns.n_classes), owner)
    owner = np.concatenate([owner, lost])
    texts = np.concatenate([columns.texts[kept], drawn(len(owner) - kept.sum())])
    weights = np.concatenate([columns.weights[kept], np.ones(len(owner) - kept.sum(), np.float32)])
    weights[: kept.sum()][rng.random(kept.sum()) < 0.1] *= 2
    return Columns(texts, owner, weights, columns.n_classes)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([*POOLS]))
def test_answers_are_those_of_scoring_everything_anew(seed, pool):
    rng = np.random.default_rng(seed)
    classes, images = int(rng.integers(2, 6)), rng.standard_normal((40, 5)).astype(np.float32)
    owner = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, 8)]))

    def drawn(k):
        return rng.standard_normal((k, 5)).astype(np.float32)

    before = Columns(drawn(len(owner)), owner, rng.choice([0.5, 1, 3], len(owner)).astype(np.float32), classes)
    after = random_edit(rng, before, drawn)
    found = before_and_after(images, before, after, pool)
    assert found == (anew(images, before, pool), anew(images, after, pool))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([*POOLS]))
def test_ties_go_to_the_lower_class(seed, pool):
    """Small whole numbers along axes, and one, two or four descriptors a class: exact, and ties abound."""
    rng = np.random.default_rng(seed)

    def drawn():
        axis, sizes = rng.integers(0, 3, 4), rng.choice([1, 2, 4], 4)
        owner = np.repeat(np.arange(4), sizes)
        texts = np.eye(3, dtype=np.float32)[axis[owner] if pool == "renormalized" else rng.integers(0, 3, len(owner))]
        return [texts[owner == c] for c in range(4)]

    first, second = drawn(), drawn()
    edit = rng.random(4) < 0.5
    sets = [first, [b if e else a for a, b, e in zip(first, second, edit, strict=True)]]
    before, after = (
        Columns(np.concatenate(s), np.repeat(np.arange(4), [len(x) for x in s]), np.ones(sum(map(len, s)), "f4"), 4)
        for s in sets
    )
    images = rng.integers(-1, 2, (60, 3)).astype(np.float32)
    found = before_and_after(images, before, after, pool)
    assert found == (anew(images, before, pool), anew(images, after, pool))


@pytest.mark.parametrize("pool", POOLS)
def test_a_tie_of_rounded_scores_goes_to_the_lower_class_too(pool):
    """Two classes say the same after an edit, as all scored anew do, and so the second is never the answer."""
    rng = np.random.default_rng(0)
    texts = rng.standard_normal((20, 64)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    images = texts[0] + 0.05 * rng.standard_normal((2000, 64)).astype(np.float32)
    same = texts[[0, 1, 0, 1, *range(4, 20)]]
    before, after = (Columns(said, np.repeat(np.arange(10), 2), np.ones(20, np.float32), 10) for said in (texts, same))
    assert 1 not in anew(images, after, pool)
    assert 1 not in before_and_after(images, before, after, pool)[1]


def test_an_edit_of_nothing_changes_no_answer():
    columns = columns_of(ZOO, ENCODE, "plain")
    images = np.random.default_rng(0).standard_normal((30, 16)).astype(np.float32)
    was, is_ = before_and_after(images, columns, columns, "mean")
    assert was == is_ == anew(images, columns, "mean")


def test_other_classes_and_other_encoders_are_refused_by_id_and_fingerprint():
    columns = columns_of(ZOO, ENCODE, "plain")
    seen = scored_by(columns, np.ones((1, 16), np.float32))
    with pytest.raises(InputError, match="made for other classes"):
        seen.rescored(head_of(columns).select(np.array([0, 1])))
    with pytest.raises(InputError, match="the same in another order"):
        seen.rescored(head_of(columns).select(np.array([0, 2, 1])))
    with pytest.raises(ModelError, match="for embeddings of"):
        seen.rescored(replace(head_of(columns), card=replace(seen.head.card, encoder="another")))
    with pytest.raises(ShapeError):
        scored_by(columns, np.ones((1, 16), np.float32), [3])
    with pytest.raises(InputError, match="one class only"):
        scored_by(columns.select(np.array([0])), np.ones((1, 16), np.float32))


@pytest.mark.parametrize(
    ("edits", "changed"),
    [
        ([], []),
        ([Edit("drop", "hen", "brown")], [0]),
        ([Edit("drop", "owl", "grey")], [1]),  # scored by its name then
        ([Edit("weigh", "frog", "green", weight=2.0), Edit("add", "owl", "white")], [1, 2]),
        ([Edit("move", "hen", "brown", to="frog")], [0, 2]),
        ([Edit("disable", "frog", "green")], [2]),
        ([Edit("drop", "hen", "brown"), Edit("add", "hen", "brown")], []),
        ([Edit("replace", text="comb", to="hat")], [0]),
    ],
)
def test_the_changed_classes_are_those_edited(edits, changed):
    before, after = (columns_of(set_, ENCODE, "plain") for set_ in (ZOO, edit(ZOO, edits)))
    assert before.changes(after).tolist() == changed


def test_classes_of_a_set_are_numbered_anew_and_score_the_same():
    columns = columns_of(ZOO, ENCODE, "plain")
    images = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)
    for pool in POOLS:
        whole = get_pool(pool).score(images, columns)
        assert get_pool(pool).score(images, columns.select(np.array([2, 0]))) == pytest.approx(
            whole[:, [2, 0]], abs=1e-6
        )


def test_versions_share_what_did_not_change(monkeypatch):
    assert vd.Scored is Scored
    columns, images = columns_of(ZOO, ENCODE, "plain"), np.random.default_rng(0).standard_normal((30, 16)).astype("f4")
    seen, asked, score = scored_by(columns, images), [], Pooled.scores
    monkeypatch.setattr(Pooled, "scores", lambda head, x: asked.append(len(head.card.classes)) or score(head, x))
    then = seen.rescored(head_of(columns_of(edit(ZOO, [Edit("add", "owl", "white")]), ENCODE, "plain")))
    assert asked == [1] and then.table is seen.table and np.shares_memory(seen.scores, then.table.scores)
    with pytest.raises(ValueError, match="read-only"):
        seen.scores[0, 0] = 1


@pytest.mark.parametrize("kind", KINDS)
def test_any_head_is_scored_and_only_a_pooled_one_keeps_what_did_not_change(kind):
    head, images = next(found for seed in range(9) if len((found := made(kind, seed))[0].card.classes) > 2)
    seen = Scored.of(head, label_vectors(images, np.zeros(len(images), np.intp)))
    then = seen.rescored(head)
    assert seen.answers.tolist() == then.answers.tolist() == head.scores(images).argmax(axis=1).tolist()
    assert (then.table is seen.table) == (kind in POOLS)
