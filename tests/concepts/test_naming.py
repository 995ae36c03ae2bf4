import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tests.concepts.test_nearest import unit
from vlmdesc.concepts.naming import CLOSE, DRAWS, LEVEL, Names, by_cosine, frame, name
from vlmdesc.errors import ShapeError
from vlmdesc.records import Hit

DIM = 8
SEEDS = st.integers(0, 2**32 - 1)


def normed(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def cone(n, seed=0, dim=DIM, towards=99):
    """Unit vectors about a common one, that differ in some directions more than in others."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(towards).standard_normal((dim, dim)) * np.linspace(0.2, 0.02, dim)
    return normed(unit(1, towards, dim) + rng.standard_normal((n, dim)) @ mix)


def scores(frame_, directions, **options):
    """Of every word (V,) for each direction: (P, V)."""
    return frame_.place(directions, **options) @ frame_.words.T


def raw(frame_, placed):
    """The directions that are placed where these are."""
    return frame_.mean + placed @ np.linalg.inv(frame_.whiten)


def test_without_images_words_are_only_centred():
    """(3, 0), (0, 3) and (0, 0) less their mean (1, 1) are (2, -1), (-1, 2), (-1, -1); a score is sqrt(D) cosine."""
    bare = frame(np.float32([[3, 0], [0, 3], [0, 0]]))
    assert bare.words == pytest.approx(np.array([[2, -1], [-1, 2], [-np.sqrt(2.5)] * 2]) * np.sqrt(2 / 5), abs=1e-6)
    assert scores(bare, np.array([[10.0, 0]])) == pytest.approx(np.array([[4, -2, -np.sqrt(10)]]) / np.sqrt(10))
    assert bare.mean.tolist() == [0, 0]
    assert np.linalg.norm(frame(unit(30)).words, axis=1) == pytest.approx(np.full(30, np.sqrt(DIM)), rel=1e-5)
    assert np.array_equal(frame(unit(30)).words, frame(unit(30), unit(0)).words)


def test_a_score_is_standard_deviations_of_the_images():
    images, words = cone(20_000, dim=48), normed(unit(50, 7, 48) + unit(1, 99, 48))
    found = scores(frame(words, images), images)
    assert np.abs(found.mean(axis=0)).max() < 0.08
    assert found.std(axis=0).min() > 0.95 and found.std(axis=0).max() < 1.05
    cosines = images @ words.T  # of which neither is so
    assert np.abs(cosines.mean(axis=0) / cosines.std(axis=0)).max() > 0.5
    assert cosines.std(axis=0).max() > 1.2 * cosines.std(axis=0).min()


def test_what_is_common_to_images_and_directions_does_not_count():
    images, words, shift = cone(20_000), unit(20, 1), 0.3 * unit(1, 2)
    before = scores(frame(words, images), images[:50])
    after = scores(frame(words, images + shift), images[:50] + shift)
    assert np.abs(after - before).max() < 0.05
    assert np.abs(scores(frame(words, images), images[:50] + shift) - before).max() > 1


@given(SEEDS, st.sampled_from([0, 5, 200]))
@settings(max_examples=30, deadline=None)
def test_what_is_common_to_words_does_not_count(seed, n):
    images, words, shift = cone(n, seed), unit(12, seed), 5 * unit(1, seed + 1)
    before, after = frame(words, images), frame(words + shift, images)
    assert np.allclose(before.words, after.words, atol=1e-3)


@given(SEEDS, st.sampled_from([3, 50]))
@settings(max_examples=30, deadline=None)
def test_order_does_not_matter(seed, n):
    images, words, directions = cone(n, seed), unit(40, seed), unit(6, seed + 1)
    rng = np.random.default_rng(seed)
    by_image, by_word, by_direction = (rng.permutation(size) for size in (n, 40, 6))
    one, other = name(directions, frame(words, images)), frame(words[by_word], images[by_image])
    turned = name(directions[by_direction], other)
    assert by_word[turned.best[:, 0]].tolist() == one.best[by_direction, 0].tolist()
    assert turned.scores == pytest.approx(one.scores[by_direction], abs=1e-3)
    assert turned.chance == pytest.approx(one.chance[by_direction], abs=0.003)


@pytest.mark.parametrize("kind", [cone, lambda n: np.repeat(cone(1), n, axis=0), lambda n: np.zeros((n, DIM), "f4")])
def test_few_images_tell_little(kind):
    words, directions = unit(40), unit(20, 1)
    for n in (1, 2, 10, 1000):
        assert np.isfinite(scores(frame(words, kind(n)), directions)).all()
    assert frame(words, kind(1)).spread == pytest.approx(np.eye(DIM) / DIM, abs=0.03)  # one image says next to nothing


def test_a_direction_of_nothing_has_no_name():
    found = name(np.zeros((2, DIM)), frame(unit(40)), unique=True)
    assert not found.scores.any() and found.chance.tolist() == [1, 1] and found.chosen.tolist() == [-1, -1]
    assert name(np.zeros((1, DIM)), frame(np.vstack([unit(5), np.zeros((1, DIM), "f4")]))).chosen.tolist() == [-1]


def test_differences_have_no_mean_to_lose():
    within, some = frame(unit(40), cone(300)), unit(5, 3) - unit(5, 4)
    assert within.place(some, differences=True) == pytest.approx(within.place(within.mean + some), abs=1e-5)
    assert np.abs(within.place(some) - within.place(some, differences=True)).max() > 0.05
    one, other = (name(k * some, within, differences=True) for k in (1, 0.01))
    assert one.best[:, 0].tolist() == other.best[:, 0].tolist()
    assert one.scores == pytest.approx(other.scores, abs=1e-4)
    assert scores(within, -some, differences=True) == pytest.approx(-scores(within, some, differences=True), abs=1e-5)


def test_words_and_images_of_different_encoders_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(ShapeError, match=r"words have 8 dimensions, images 9.*use one encoder"):
        frame(unit(5), unit(5, dim=9))


@given(SEEDS, st.integers(1, 6), st.integers(2, 60), st.sampled_from([0, 2, 100]))
@settings(max_examples=50, deadline=None)
def test_the_best_words_are_those_of_all(seed, p, v, n):
    directions, words, images = unit(p, seed), unit(v, seed + 1), cone(n, seed)
    found, every = name(directions, frame(words, images)), scores(frame(words, images), directions)
    order = np.argsort(-every, axis=1)[:, :CLOSE]
    assert found.best.shape == found.scores.shape == (p, min(v, CLOSE))
    assert found.scores == pytest.approx(np.take_along_axis(every, order, 1), abs=1e-4)
    assert np.take_along_axis(every, found.best, 1) == pytest.approx(found.scores, abs=1e-4)
    assert all(len({*row}) == len(row) for row in found.best.tolist())
    assert found.margin == pytest.approx(found.scores[:, 0] - found.scores[:, 1]) and (found.margin >= 0).all()
    assert found.chosen.tolist() == np.where(found.chance <= LEVEL, found.best[:, 0], -1).tolist()
    assert (found.stability >= -1 - 1e-6).all() and (found.stability <= 1 + 1e-6).all()


def test_frame_by_definition():
    """Directions lose the images' mean and are whitened; each word's score has unit variance over what is left."""
    images, words = cone(500), unit(10, 1)
    found, trust = frame(words, images), 500 / 550
    assert found.mean == pytest.approx(images.mean(axis=0), abs=1e-6)
    centred = normed(images - found.mean)
    spread = trust * centred.T @ centred / 500 + (1 - trust) * np.eye(DIM) / DIM
    whitened = np.linalg.inv(spread + np.eye(DIM) / DIM)  # between none, for what varies little, and all of it
    assert found.whiten @ found.whiten.T == pytest.approx(whitened, rel=1e-4, abs=1e-4)
    assert np.trace(found.spread) == pytest.approx(1)
    assert np.einsum("vd,de,ve->v", found.words, found.spread, found.words) == pytest.approx(np.ones(10), rel=1e-4)
    assert np.linalg.norm(found.place(images), axis=1) == pytest.approx(np.ones(500), abs=1e-5)


@pytest.mark.parametrize("images", [None, cone(5), cone(2000)])
@pytest.mark.parametrize("level", [0.05, 0.2])
def test_chance_gives_a_name_as_often_as_is_said(images, level):
    within, n = frame(unit(60), images), 4000
    for seed in (1, 2):
        found = name(raw(within, within.random(n, seed)), within, level=level, seed=seed + 100)
        off = np.sqrt(level * (1 - level) * (1 / n + 1 / DRAWS))  # the draws that it is held against vary too
        assert abs((found.chosen >= 0).mean() - level) < 4 * off


def test_a_direction_along_a_word_is_named_by_it():
    for images in (None, *(normed(unit(1, 9, 32) + unit(n, 8, 32)) for n in (3, 2000))):
        within = frame(unit(100, 5, 32), images)  # not what seed 0 draws
        found = name(raw(within, normed(within.words)), within)
        assert found.chosen.tolist() == [*range(100)] and not found.chance.any()
        assert found.scores[:, 0] == pytest.approx(np.linalg.norm(within.words, axis=1), rel=1e-3)


@given(SEEDS, st.integers(1, 32), st.integers(2, CLOSE))
@settings(max_examples=60, deadline=None)
def test_unique_names_are_the_best_assignment(seed, p, v):
    """Of all words to all directions, since each word is among the 32 best and level 1 lets every name pass."""
    within, directions = frame(unit(v, seed)), unit(p, seed + 1)
    chosen = name(directions, within, unique=True, level=1.0).chosen
    named, every = chosen >= 0, scores(within, directions)
    assert named.sum() == min(p, v) and len({*chosen[named]}) == min(p, v)
    best = every[linear_sum_assignment(every, maximize=True)].sum()
    assert every[np.flatnonzero(named), chosen[named]].sum() == pytest.approx(best, abs=1e-3)


@given(SEEDS, st.integers(1, 20), st.sampled_from([0.05, 0.3, 0.7]))
@settings(max_examples=30, deadline=None)
def test_directions_without_a_name_take_no_word(seed, p, level):
    within, directions = frame(unit(25, seed)), unit(p, seed + 1)
    found = name(directions, within, unique=True, level=level)
    fits, named = name(directions, within).chance <= level, found.chosen >= 0
    assert not named[~fits].any() and (found.chance[named] <= level).all()
    assert named[fits].any() or not fits.any()
    alone = name(directions[fits], within, unique=True, level=level).chosen
    assert sorted(alone.tolist()) == sorted(found.chosen[fits].tolist())


def test_unique_among_many_words_leaves_those_without_a_word_unnamed():
    within = frame(unit(400))
    twins = np.repeat(raw(within, normed(within.words[:1])), CLOSE + 3, axis=0)
    chosen = name(twins, within, unique=True, level=1.0).chosen
    close = name(twins[:1], within).best[0]
    assert sorted(chosen[chosen >= 0]) == sorted(close) and (chosen < 0).sum() == 3
    assert (name(twins, within).chosen == 0).all()


def test_the_published_rule_is_the_highest_cosine():
    directions, words = 3 * unit(20, 1), unit(30, 2) * np.float32([[0.1], [9]] * 15)
    assert by_cosine(directions, words).tolist() == (directions @ normed(words).T).argmax(axis=1).tolist()


def test_hits_begin_with_the_name():
    found = Names(
        best=np.array([[2, 0, 1], [0, 1, 2]]),
        scores=np.float32([[3, 2.5, -1], [1, 0.5, 0.25]]),
        chance=np.array([0.0, 0.5]),
        stability=np.zeros(2),
        chosen=np.array([1, -1]),
    )
    hen, owl, cat = "hen owl cat".split()
    assert found.hits(0, (hen, owl, cat), 2) == (Hit("1", -1.0, owl), Hit("2", 3.0, cat))
    assert found.hits(1, (hen, owl, cat), 9) == (Hit("0", 1.0, hen), Hit("1", 0.5, owl), Hit("2", 0.25, cat))
    assert found.margin.tolist() == [0.5, 0.5]


def test_stability_of_copies_is_1_and_of_what_is_alone_is_not():
    copies = frame(np.repeat(unit(3), 40, axis=0))
    assert name(raw(copies, normed(copies.words[::40])), copies).stability == pytest.approx(np.ones(3), abs=1e-5)
    alone = frame(unit(200, dim=64))
    assert (name(raw(alone, normed(alone.words[:9])), alone).stability < 0.7).all()


def test_no_directions_have_no_names():
    for unique in (False, True):
        found = name(np.empty((0, DIM)), frame(unit(40)), unique=unique)
        assert found.best.shape == (0, CLOSE) and found.chosen.shape == found.stability.shape == (0,)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_across_the_modality_gap(seed):
    """40 kinds of images about one mean, their words about another, and 3 words that are near to all images.

    A kind moves both by half a unit from their mean. The published rule gives every image one of the three.
    """
    rng, kinds = np.random.default_rng(seed), unit(40, seed, 48)
    of_images, of_words, *hubs = unit(5, seed + 100, 48)
    own = rng.integers(0, 40, 1200)
    images = normed(of_images + 0.5 * kinds[own] + 0.4 * unit(1200, seed + 200, 48))
    words = normed(np.vstack([of_words + 0.5 * kinds, of_words + 0.3 * np.array(hubs) + 0.5 * of_images]))
    assert (by_cosine(images, words) == own).mean() < 0.05
    assert (by_cosine(images, words) >= 40).mean() > 0.95
    found = name(images, frame(words, images))
    assert (found.best[:, 0] == own).mean() > 0.98 and (found.chosen == own).mean() > 0.9
    centres = np.stack([images[own == kind].mean(axis=0) for kind in range(40)])
    assert (by_cosine(centres, words) >= 40).all()
    assert (name(centres, frame(words, images)).chosen == np.arange(40)).mean() >= 0.95
    few = np.stack([np.flatnonzero(own == kind)[0] for kind in range(10)])  # ten images alone already help
    assert (name(images[few], frame(words, images[few])).best[:, 0] == own[few]).mean() >= 0.9


def test_the_mean_of_all_images_has_no_name():
    images = cone(400)
    within = frame(unit(60), images)
    mean = images.mean(axis=0, keepdims=True)
    found = name(np.concatenate([mean, mean + 0.001, images[:1]]), within, level=0.99)
    assert found.chosen[:2].tolist() == [-1, -1] and found.chance[:2].tolist() == [1, 1] and found.chance[2] < 1


def test_no_unique_name_is_worse_than_chance_allows():
    within = frame(unit(40, 3, 16), normed(unit(1, 9, 16) + unit(3000, 8, 16)))
    twins = np.repeat(raw(within, normed(within.words[:1])), 8, axis=0)
    found = name(twins, within, unique=True)
    assert 1 <= (found.chosen >= 0).sum() < 8 and (found.chance[found.chosen >= 0] <= LEVEL).all()


def test_words_that_are_all_alike_name_nothing():
    found = name(unit(5), frame(np.repeat(unit(1), 6, axis=0)))
    assert (found.chosen == -1).all() and np.isfinite(found.scores).all()
