from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import FEW, POOLS, get_pool, maximum, mean, ranking, renormalized
from vlmdesc.errors import InputError, ShapeError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@st.composite
def problems(draw):
    """Images (N, D) and columns in which every class owns at least one text that counts, in any order."""
    seed = draw(st.integers(0, 2**32 - 1))
    n, c, d = draw(st.integers(0, 6)), draw(st.integers(1, 5)), draw(st.integers(2, 9))
    extra = draw(st.lists(st.integers(0, c - 1), max_size=10))
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.array([*range(c), *extra]))
    weights = rng.uniform(0.1, 3, len(owner)).astype(np.float32)
    first = np.unique(owner, return_index=True)[1]
    weights[(rng.random(len(owner)) < 0.3) & ~np.isin(np.arange(len(owner)), first)] = 0
    return unit(rng.normal(size=(n, d))), Columns(unit(rng.normal(size=(len(owner), d))), owner, weights, c)


def by_loop(images, columns, pool):
    """The published way: class after class over the similarity matrix."""
    out = np.empty((len(images), columns.n_classes))
    for n, image in enumerate(images.astype(float)):
        for c in range(columns.n_classes):
            rows = [m for m in range(len(columns.owner)) if columns.owner[m] == c and columns.weights[m] > 0]
            texts, weights = columns.texts[rows].astype(float), columns.weights[rows].astype(float)
            if pool == "max":
                out[n, c] = (texts @ image).max()
            else:
                vector = (weights[:, None] * texts).sum(0) / weights.sum()
                out[n, c] = vector @ image / (np.linalg.norm(vector) if pool == "renormalized" else 1)
    return out


@given(problems(), st.sampled_from(sorted(POOLS)))
def test_pools_agree_with_the_loop(problem, pool):
    images, columns = problem
    scores = POOLS[pool].score(images, columns)
    assert scores.shape == (len(images), columns.n_classes) and scores.dtype == np.float32
    assert np.allclose(scores, by_loop(images, columns, pool), atol=1e-5)


def test_by_hand():
    """Two classes in the plane: A with (1, 0) and (0, 1), B with (0.6, 0.8) alone; an image at (0.8, 0.6)."""
    texts = np.float32([[1, 0], [0.6, 0.8], [0, 1]])
    columns = Columns(texts, np.array([0, 1, 0]), np.ones(3, np.float32), 2)
    image = np.float32([[0.8, 0.6]])
    assert mean(image, columns)[0] == pytest.approx([0.7, 0.96])  # (0.8 + 0.6) / 2
    assert maximum(image, columns)[0] == pytest.approx([0.8, 0.96])
    assert renormalized(image, columns)[0] == pytest.approx([0.7 * 2**0.5, 0.96])  # |(0.5, 0.5)| = 1 / sqrt 2
    weighted = Columns(texts, columns.owner, np.float32([3, 1, 1]), 2)
    assert mean(image, weighted)[0] == pytest.approx([(3 * 0.8 + 0.6) / 4, 0.96])


def test_maximum_in_blocks_is_maximum(monkeypatch):
    rng = np.random.default_rng(0)
    columns = Columns(unit(rng.normal(size=(9, 4))), np.arange(9) % 3, np.ones(9, np.float32), 3)
    images = unit(rng.normal(size=(50, 4)))
    whole = maximum(images, columns)
    monkeypatch.setattr("vlmdesc.classification.score.BLOCK_BYTES", 4 * 9 * 7)  # seven images at a time
    assert np.allclose(whole, maximum(images, columns), atol=1e-6)


@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.sampled_from([0, 0.25, 0.5, 1])
    ),
    st.integers(1, 9),
    st.sampled_from([2, FEW]),
)
def test_ranking_is_best_first_and_ties_go_to_the_lower_number(scores, k, few):
    with mock.patch("vlmdesc.classification.score.FEW", few):
        order = ranking(scores, k)
    assert order.shape == (len(scores), min(k, scores.shape[1]))
    for row, found in zip(scores, order, strict=True):
        assert found.tolist() == sorted(range(len(row)), key=lambda c: (-row[c], c))[:k]


def test_misfits_are_refused():
    texts = np.eye(3, dtype=np.float32)
    with pytest.raises(ShapeError, match="3 text vectors but 2 owners"):
        Columns(texts, np.array([0, 1]), np.ones(3, np.float32), 2)
    with pytest.raises(ShapeError, match="owners run from 0 to 2 but there are 2 classes"):
        Columns(texts, np.array([0, 1, 2]), np.ones(3, np.float32), 2)
    with pytest.raises(InputError, match="1 classes have no descriptor"):
        Columns(texts, np.array([0, 0, 2]), np.ones(3, np.float32), 3)
    with pytest.raises(InputError, match="did you mean 'mean'"):
        get_pool("maen")
