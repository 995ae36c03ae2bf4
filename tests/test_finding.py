"""The figures of eval/finding.py, on numbers that can be worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eval import finding
from eval.starter.corpus import WORDNET, Synset, ancestors, imagenet, offset, wordnet
from vlmdesc.concepts import naming
from vlmdesc.concepts.nearest import others

NAN = np.nan


def synset(*lemmas: str) -> Synset:
    return Synset(lemmas, "", ())


def test_a_name_is_right_by_kind_unless_too_many_classes_are_of_it():
    own = [frozenset({"hen"}), frozenset({"drake"}), *(frozenset({f"thing {i}"}) for i in range(18))]
    above = [[1, 3], [1, 3], *([3] for _ in range(18))]  # 20 classes: 2 are birds, a tenth; all are entities
    kinds = finding.with_kinds(own, above, {1: synset("bird", "fowl"), 3: synset("entity")})
    assert kinds[0] == {"hen", "bird", "fowl"} and kinds[1] == {"drake", "bird", "fowl"}
    assert kinds[2] == {"thing 0"}


def test_a_kind_of_more_than_a_tenth_is_too_general():
    own = [frozenset({f"thing {i}"}) for i in range(20)]
    kinds = finding.with_kinds(own, [[1] if i < 3 else [] for i in range(20)], {1: synset("bird")})
    assert kinds == own  # 3 of 20


def test_right_words_mind_no_case_but_spelling():
    right = finding.right_words(
        [frozenset({"Angora cat", "cat"}), frozenset({"dog"})], ["angora cat", "Cat", "dog", "cats"]
    )
    assert right.tolist() == [[True, True, False, False], [False, False, True, False]]


def test_precision_is_the_share_of_the_found_that_are_of_the_class():
    labels = np.array([0, 0, 1, 1, 1])
    found = np.array([[0, 2, 1, 3], [4, 3, 2, 0]])
    assert finding.precision(found, labels, np.array([0, 1])).tolist() == [0.5, 0.75]


def test_others_leave_out_the_query_and_else_the_last():
    found = np.array([[0, 1, 2], [2, 1, 0], [0, 1, 3]])  # the third did not find itself
    assert others(found, np.arange(3)).tolist() == [[1, 2], [2, 0], [0, 1]]


def test_rates_are_means_of_the_rows_that_count():
    columns = {"all": np.array([1, 0, 1, 1.0]), "some": np.array([1, NAN, 0, NAN]), "none": np.full(4, NAN)}
    found = finding.rates(columns, np.array([5, 5, 7, 9]))
    assert (found["n"], found["resampled"]) == (4, 3)
    found = found["measures"]
    assert (found["all"]["mean"], found["all"]["n"]) == (0.75, 4)
    assert (found["some"]["mean"], found["some"]["n"]) == (0.5, 2)
    assert "none" not in found


def test_the_bootstrap_draws_classes_with_all_their_rows():
    classes = np.repeat([0, 1], 50)
    found = finding.rates({"right": classes.astype(float)}, classes)["measures"]["right"]
    # Of two classes, both draws are the wrong one in a quarter of the resamples, and both the right one in another.
    assert found == {"mean": 0.5, "low": 0.0, "high": 1.0, "n": 100}


def test_the_interval_is_that_of_a_share_of_independent_classes():
    right = np.arange(400) % 4 == 0  # 100 of 400: the standard error is sqrt(.25 * .75 / 400) = 0.0217
    found = finding.rates({"right": right.astype(float)}, np.arange(400))["measures"]["right"]
    assert found["mean"] == 0.25
    assert found["low"] == pytest.approx(0.25 - 1.96 * 0.0217, abs=0.006)
    assert found["high"] == pytest.approx(0.25 + 1.96 * 0.0217, abs=0.006)


def test_differences_are_paired_and_all_is_the_same_again():
    rng = np.random.default_rng(0)
    a = rng.random(300) < 0.5
    columns = {"a": a.astype(float), "b - a": np.full(300, 0.1)}
    found = finding.rates(columns, np.arange(300) // 3)
    assert found["measures"]["b - a"]["low"] == found["measures"]["b - a"]["high"] == 0.1
    assert found == finding.rates(columns, np.arange(300) // 3)


def test_compared_counts_first_words_and_our_names_apart():
    right = {
        "own": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], bool),
        "kind": np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], bool),
    }
    words = {
        "published": np.array([1, 1, 1]),
        "centred": np.array([0, 1, 1]),
        "deviations": np.array([0, 1, 0]),
        "ours": np.array([0, 2, 2]),
        "unique": np.array([0, 2, -1]),
    }
    names = naming.Names(
        best=words["ours"][:, None],
        scores=np.ones((3, 1), np.float32),
        chance=np.zeros(3),
        stability=np.array([0.9, 0.5, 0.1]),
        chosen=np.array([0, -1, 2]),
    )
    columns = finding.compared(right, words, names)
    assert np.isnan(columns["stability, kind wrong"]).all()  # none is wrong
    found = {name: np.nanmean(column) for name, column in columns.items() if not np.isnan(column).all()}
    third = pytest.approx(1 / 3)
    assert found["class has a word"] == found["named"] == found["named, unique"] == pytest.approx(2 / 3)
    assert (found["own, published"], found["own, ours"], found["kind, ours"]) == (third, third, 1)
    assert found["own, ours - published"] == pytest.approx(0)
    assert found["kind, centred - published"] == third
    assert (found["own, ours, named"], found["own, ours, not named"]) == (0.5, 0)
    assert (found["own, unique"], found["kind, unique"]) == (0.5, 1)
    assert (found["stability, own right"], found["stability, own wrong"]) == (0.9, pytest.approx(0.3))


def test_steps_end_at_the_shipped_frame_and_recover_its_spread():
    rng = np.random.default_rng(0)
    words, images = (rng.standard_normal((n, 6)).astype(np.float32) for n in (40, 300))
    steps = finding.steps(words, images)
    shipped = naming.frame(words, images)
    assert list(steps) == [*finding.STEPS[1:]]
    assert np.array_equal(steps["ours"].words, shipped.words)
    centred = words - words.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(steps["centred"].words, centred, atol=1e-6)
    # In the frame without whitening, scores of the images themselves are in their standard deviations.
    trust = len(images) / (len(images) + naming.PRIOR)
    seen = finding.unit(images - images.mean(axis=0))
    spread = trust * seen.T @ seen / len(images) + (1 - trust) * np.eye(6) / 6
    assert np.allclose(steps["deviations"].spread, spread, atol=1e-6)
    scores = steps["deviations"].words
    assert np.allclose(np.einsum("vd,de,ve->v", scores, spread, scores), 1, atol=1e-4)


@pytest.mark.skipif(not WORDNET.is_file(), reason="WordNet's nouns are not here")
def test_right_names_of_a_real_class():
    hen = next(class_ for class_ in imagenet().classes if class_.name == "hen")
    own = frozenset((hen.name, *wordnet()[offset(hen.id)].lemmas))
    above = [ancestors(offset(class_.id)) for class_ in imagenet().classes]
    at = imagenet().position[hen.id]
    kinds = finding.with_kinds([own] * len(above), above, wordnet())[at]
    assert {"hen", "bird"} <= kinds
    assert not {"animal", "entity", "organism"} & kinds


def test_missing_photographs_are_told_of_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["finding", "--data", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^error: no photographs .*; fix: .*$"):
        finding.main()
