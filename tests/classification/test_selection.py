from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.classification.test_score import unit
from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import mean
from vlmdesc.classification.selection import (
    candidates,
    distinct_rows,
    first_texts,
    on_threads,
    parts,
    profile,
    running_means,
    score,
    select,
)
from vlmdesc.errors import InputError, ShapeError
from vlmdesc.records import Selection

GOLDEN = sorted((Path(__file__).parents[2].parent / "shared" / "reference").glob("neighborhood-selection*.npz"))


@pytest.fixture(params=GOLDEN or [None], ids=lambda path: path.stem if path else "absent")
def golden(request):
    """Inputs and outputs of the released code."""
    if request.param is None:
        pytest.skip("no ../shared/reference beside this checkout")
    with np.load(request.param, allow_pickle=False) as file:
        return dict(file)


def selection_of(golden):
    captions, texts = golden["caption_embeddings"], golden["description_embeddings"]
    known = profile(golden["reference_embeddings"], golden["reference_labels"], texts, len(captions))
    found = candidates(golden["image_embeddings"], captions, int(golden["k"]))
    return select(known, found, golden["description_owner"], int(golden["m"]))


def test_the_released_code_selects_the_same(golden):
    selection = selection_of(golden)
    assert selection.candidates.tolist() == golden["candidates"].tolist()
    chosen = [[set(np.flatnonzero(row)) for row in rows] for rows in golden["selected"]]
    before = [[set(np.flatnonzero(row)) for row in rows] for rows in golden["selected_before_fallback"]]
    ours = [[set(row[row >= 0]) for row in rows] for rows in selection.picked]
    assert ours == chosen
    assert (selection.picked >= 0).sum() == golden["selected"].sum()  # each once
    told = [
        [set() if alone else row for row, alone in zip(*pair, strict=True)]
        for pair in zip(ours, selection.fallback, strict=True)
    ]
    assert told == before


def test_the_released_code_is_as_often_right_at_every_name_weight(golden):
    images, labels = golden["image_embeddings"], golden["image_labels"]
    captions, texts = golden["caption_embeddings"], golden["description_embeddings"]
    selection, everyone = selection_of(golden), np.arange(len(images))
    columns = Columns(texts, golden["description_owner"], np.ones(len(texts), np.float32), len(captions))
    for weight, selected, assigned in zip(
        golden["name_weights"].tolist(), golden["accuracy_selected"], golden["accuracy_llm_assignment"], strict=True
    ):
        best = score(images, captions, texts, selection, weight).argmax(axis=1)
        right = (selection.candidates[everyone, best] == labels).sum()
        assert abs(right - selected / 100 * len(images)) < 1.01  # one image, and what float32 leaves of percents
        right = ((weight * images @ captions.T + mean(images, columns)).argmax(axis=1) == labels).sum()
        assert abs(right - assigned / 100 * len(images)) < 1.01


@st.composite
def problems(draw):
    """A profile (M, C) full of ties, NaN for some classes; candidates (N, K); owners (M,); how many to pick.

    The values are multiples of 60 / 128, so that sums and means over 1 to 6 classes are exact.
    """
    m, c = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    known = draw(hnp.arrays(np.float32, (m, c), elements=st.sampled_from([-60 / 128, 0, 60 / 128, 120 / 128])))
    known[:, draw(hnp.arrays(bool, c, elements=st.sampled_from([False, False, False, True])))] = np.nan
    k = draw(st.integers(1, c))
    found = draw(st.lists(st.permutations(range(c)), max_size=4))
    owner = draw(hnp.arrays(np.intp, m, elements=st.integers(0, c - 1)))
    return known, np.array([row[:k] for row in found], np.int32).reshape(-1, k), owner, draw(st.integers(1, 4))


def by_loop(known, among, owner, m):
    """One image, as published: the texts picked for each candidate, and whether they are only its own first."""
    rivals = [c for c in among if not np.isnan(known[0, c])]
    picked, fallback = [], []
    for c in among:
        lead = {}
        if c in rivals and len(rivals) > 1:
            for d in range(len(known)):
                over = [float(known[d, c]) - float(known[d, rival]) for rival in rivals]
                if all(difference >= 0 for difference in over):
                    lead[d] = sum(over) / len(over)
        fallback.append(not lead)
        rows = sorted(lead, key=lambda d: (-lead[d], d)) or np.flatnonzero(owner == c).tolist()
        picked.append([*rows, *[-1] * m][:m])
    return picked, fallback


@settings(max_examples=100)
@given(problems())
def test_select_agrees_with_the_loop(problem):
    known, found, owner, m = problem
    selection = select(known, found, owner, m)
    assert selection.candidates.tolist() == found.tolist()
    assert selection.picked.shape == (*found.shape, m) and selection.fallback.shape == found.shape
    for picked, fallback, among in zip(selection.picked, selection.fallback, found.tolist(), strict=True):
        assert (picked.tolist(), fallback.tolist()) == by_loop(known, among, owner, m)


def test_all_classes_with_one_reference_image_each_on_paper():
    """The profile is the similarity to one image: (1, 0), (0.6, 0.8) and (0, 1) for the classes 0, 1 and 2."""
    reference = np.float32([[0, 1], [1, 0], [0.6, 0.8]])
    texts = np.float32([[1, 0], [0, 1], [0.8, 0.6], [0.6, -0.8]])
    known = profile(reference, np.array([2, 0, 1]), texts, 3)
    assert known == pytest.approx(np.array([[1, 0.6, 0], [0, 0.8, 1], [0.8, 0.96, 0.6], [0.6, -0.28, -0.8]]), abs=1e-6)
    owner = np.array([1, 1, 0, 1])
    # 0 is highest on text 0, by (0 + 0.4 + 1) / 3, and on text 3, by (0 + 0.88 + 1.4) / 3; 1 on text 2; 2 on text 1.
    selection = select(known, np.int32([[1, 0, 2]]), owner, 2)
    assert selection.picked.tolist() == [[[2, -1], [3, 0], [1, -1]]]
    assert not selection.fallback.any()
    # Without text 2 class 1 is highest nowhere, and the first two of its own three stand in.
    selection = select(known[[0, 1, 3]], np.int32([[1, 0, 2]]), owner[[0, 1, 3]], 2)
    assert selection.picked.tolist() == [[[0, 1], [2, 0], [1, -1]]]
    assert selection.fallback.tolist() == [[True, False, False]]


def test_a_class_without_images_is_no_rival_and_keeps_its_own():
    known = np.float32([[0.5, np.nan, 0.25], [0.25, np.nan, 0.5]])
    selection = select(known, np.int32([[0, 1, 2], [1, 0, 2], [2, 0, 1]]), np.array([1, 0]), 1)
    assert selection.picked[..., 0].tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 0]]
    assert selection.fallback.tolist() == [[False, True, False], [True, False, False], [False, False, True]]
    alone = select(known, np.int32([[0, 1]]), np.array([1, 0]), 1)  # 0 has nobody to be told from
    assert alone.picked[..., 0].tolist() == [[1, 0]] and alone.fallback.all()


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    images, captions, texts = (unit(rng.normal(size=(n, 8))) for n in (30, 6, 20))
    known, owner = rng.normal(size=(20, 6)).astype(np.float32), np.arange(20) % 6

    def all_of_it():
        selection = select(known, candidates(images, captions, 3), owner, 2)
        return selection, score(images, captions, texts, selection, 1.5)

    whole, scores = all_of_it()
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    for size in (1, 1_680):  # a row at a time; seven sets of candidates, and then those that are left
        monkeypatch.setattr("vlmdesc.classification.selection.BLOCK_BYTES", size)
        in_parts, again = all_of_it()
        assert whole.candidates.tolist() == in_parts.candidates.tolist()
        assert whole.picked.tolist() == in_parts.picked.tolist()
        assert whole.fallback.tolist() == in_parts.fallback.tolist()
        assert np.allclose(scores, again, atol=1e-6)


@pytest.mark.parametrize("n_blocks", [1, 5])
def test_what_fails_on_a_thread_is_raised(monkeypatch, n_blocks):
    monkeypatch.setattr("vlmdesc.classification.selection.BLOCK_BYTES", 1)
    with pytest.raises(ZeroDivisionError):
        on_threads(lambda mine: 1 // (4 - mine[-1].start) if n_blocks > 1 else 1 // 0, n_blocks, 1)


@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 3)))
def test_distinct_rows_are_those_of_numpy(rows):
    found, place = distinct_rows(rows)
    expected, same = np.unique(rows, axis=0, return_inverse=True)
    assert found.tolist() == expected.tolist() and place.tolist() == same.ravel().tolist()


def test_no_rows_are_distinct():
    found, place = distinct_rows(np.empty((0, 3), np.int32))
    assert (found.shape, place.shape) == ((0, 3), (0,))


@pytest.mark.parametrize("found", [[[0, 3]], [[-1, 0]]])
def test_candidates_that_the_profile_does_not_know_are_refused(found):
    with pytest.raises(ShapeError, match=r"candidates run from .* but the profile has 3 classes"):
        select(np.zeros((4, 3), np.float32), np.array(found), np.array([0, 1, 2, 0]), 2)


def test_a_profile_of_no_texts_is_refused():
    with pytest.raises(ShapeError, match="no texts"):
        select(np.zeros((0, 3), np.float32), np.array([[0, 1]]), np.empty(0, np.intp), 2)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(1, 5))
def test_profile_is_the_mean_similarity_to_a_class(seed, r, c):
    rng = np.random.default_rng(seed)
    reference, labels, texts = unit(rng.normal(size=(r, 4))), rng.integers(0, c, r), unit(rng.normal(size=(3, 4)))
    known = profile(reference, labels, texts, c)
    assert known.shape == (3, c) and known.dtype == np.float32
    for class_ in range(c):
        similarities = [[float(text @ image) for image in reference[labels == class_]] for text in texts]
        if (labels == class_).any():
            assert known[:, class_] == pytest.approx(np.mean(similarities, axis=1), abs=1e-5)
        else:
            assert np.isnan(known[:, class_]).all()


@pytest.mark.parametrize("labels", [[0], [0, 2], [-1, 0], [0, 1, 1]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ShapeError, match=f"2 images, {len(labels)} labels, 2 classes"):
        profile(np.eye(2, dtype=np.float32), np.array(labels), np.eye(2, dtype=np.float32), 2)


def test_of_equal_candidates_the_lower_number_comes_first():
    captions = np.float32([[0, 1], [1, 0], [0, 1], [1, 0]])
    images = np.float32([[1, 0], [0, 1]])
    assert candidates(images, captions, 4).tolist() == [[1, 3, 0, 2], [0, 2, 1, 3]]
    assert candidates(images, captions, 1).tolist() == [[1], [0]]


@pytest.mark.parametrize("k", [-1, 0, 3])
def test_a_number_of_candidates_that_cannot_be_is_refused(k):
    with pytest.raises(InputError, match=f"{k} candidates of 2 classes"):
        candidates(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), k)


def test_score_by_hand():
    """Captions have similarities 0.8 and 0.6, texts 0.8, 0.6 and 0.96."""
    image, captions = np.float32([[0.8, 0.6]]), np.eye(2, dtype=np.float32)
    texts = np.float32([[1, 0], [0, 1], [0.6, 0.8]])
    none = np.zeros((1, 2), bool)
    selection = Selection(np.int32([[1, 0]]), np.int32([[[2, 0], [1, -1]]]), none)
    # 2 * 0.6 + (0.96 + 0.8) / 2 and 2 * 0.8 + 0.6
    assert score(image, captions, texts, selection, 2.0)[0] == pytest.approx([2.08, 2.2])
    named, picked = parts(image, captions, texts, selection)
    assert named[0] == pytest.approx([0.6, 0.8])
    assert picked[0] == pytest.approx(np.array([[0.96, 0.8], [0.6, np.nan]]), nan_ok=True)
    bare = Selection(np.int32([[1, 0]]), np.int32([[[-1, -1], [1, 2]]]), none)
    # 2 * 0.6 + 0.6 by the caption alone, and 2 * 0.8 + (0.6 + 0.96) / 2
    assert score(image, captions, texts, bare, 2.0)[0] == pytest.approx([1.8, 2.38])


def test_running_means_by_hand():
    values = np.float32([[[1, 3, 8], [2, 4, np.nan], [5, np.nan, np.nan]]])
    assert running_means(values).tolist() == [[[1, 2, 4], [2, 3, 3], [5, 5, 5]]]


def test_first_of_each_by_hand():
    assert first_texts(np.array([1, 0, 1, 1, 3]), 4, 2).tolist() == [[1, -1], [0, 2], [-1, -1], [4, -1]]
