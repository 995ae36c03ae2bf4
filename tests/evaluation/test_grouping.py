from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.test_scored import unit
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.errors import InputError
from vlmdesc.evaluation.candidates import halves
from vlmdesc.evaluation.disparity import compare_groups
from vlmdesc.evaluation.grouping import EACH, group_by_concepts

AXES = np.eye(64)
WORDS = ["fog", "snow", *(f"word {i}" for i in range(40))]


def planted(seed=0, n=480, wrong=(22, 22), copies=1):
    """Three classes in six kinds of weather, so many answers wrong in fog and in snow of each half; weather; words."""
    rng = np.random.default_rng(seed)
    labels, context = rng.integers(0, 3, n), rng.integers(0, 6, n)
    vectors = unit(2 * AXES[labels] + AXES[8 + context] + 0.1 * rng.standard_normal((n, 64)))
    vectors, labels, context = (np.repeat(x, copies, axis=0) for x in (vectors, labels, context))
    keys = tuple(f"{i}.jpg" for i in range(n * copies))
    contents = tuple(str(i // copies) for i in range(n * copies))
    photos = Labelled(vectors, labels, keys, tuple(range(n * copies)), contents, (None,) * (n * copies))
    half, answers = halves(labels, contents, (), 0), labels.copy()
    for side in (0, 1):
        for c, k in enumerate(wrong):
            answers[rng.choice(np.flatnonzero((half == side) & (context == c)), k, replace=False)] += 1
    words = np.concatenate([AXES[[8, 9]] + 0.05 * rng.standard_normal((2, 64)), rng.standard_normal((40, 64))])
    return photos, answers % 3, context, unit(words)


@pytest.mark.parametrize("seed", range(3))
def test_planted_contexts_are_found_and_named(seed):
    photos, answers, context, words = planted(seed)
    found = group_by_concepts(photos, answers, WORDS, words)
    assert set(found.words) == {"images like fog", "images like snow"} == set(found.sizes)
    assert found.words["images like fog"][0] == "fog" and len(found.words["images like fog"]) == 3
    planted_ = [i for i, group in enumerate(found.groups) if group is not None and context[i] < 2]
    assert len(planted_) > 50
    assert np.mean([found.groups[i] == f"images like {WORDS[context[i]]}" for i in planted_]) > 0.95
    half = halves(photos.labels, photos.contents, (), 0)
    assert [group is None for group in found.groups] == (half == 0).tolist()  # that half is not audited
    assert sum(found.sizes.values()) == ((answers != photos.labels) & (half == 0)).sum()
    other = np.where(half == 1, (answers + 1) % 3, answers)  # answers to the audited half have no part in its groups
    assert found == group_by_concepts(photos, other, WORDS, words)
    assert {photos.labels[i] for i in planted_ if context[i] == 0} == {0, 1, 2}  # across classes


def test_copies_of_a_picture_are_not_on_both_sides():
    photos, answers, _, words = planted(n=300, copies=2)
    found = group_by_concepts(photos, answers, WORDS, words)
    sides = {}
    for content, group in zip(photos.contents, found.groups, strict=True):
        sides.setdefault(content, set()).add(group)
    assert all(len(groups) == 1 for groups in sides.values())


def test_groups_that_chance_made_fail_no_more_often_than_chance():
    """Groups made of errors hold too many of them on their own half, and not on the other."""
    claims = 0
    for seed in range(8):
        photos, answers, _, words = planted(seed, wrong=(8,) * 6)
        found = group_by_concepts(photos, answers, WORDS, words)
        claims += bool(compare_groups(answers, photos.labels, found.groups, range(3)).failed)
    assert claims <= 2


def test_a_context_that_is_failed_is_found_by_the_audit():
    photos, answers, _, words = planted(n=600, wrong=(36, 8))
    groups = group_by_concepts(photos, answers, WORDS, words).groups
    found = compare_groups(answers, photos.labels, groups, range(3))
    assert found.worst_group == "images like fog" and found.groups["images like fog"].differs


def test_a_context_without_a_name_has_a_question_mark_and_no_two_have_one_title():
    photos, answers, _, _ = planted()
    words = np.stack([AXES[60], AXES[60] + 0.01 * AXES[61]])  # nothing that the images have
    found = group_by_concepts(photos, answers, ["ice", "ice"], unit(words))
    assert len(found.words) == 2 and all(title.startswith("images like ice?") for title in found.words)


@pytest.mark.parametrize("wrong", [(0, 0), (20, 19)])
def test_too_few_errors_are_an_error(wrong):
    photos, answers, _, words = planted(wrong=wrong)
    with pytest.raises(InputError, match="among the half of the images that groups are made of") as raised:
        group_by_concepts(photos, answers, WORDS, words)
    assert f"{2 * EACH} errors at least" in str(raised.value)


def test_a_class_of_one_picture_is_in_no_group():
    photos, answers, _, words = planted(0)
    labels = photos.labels.copy()
    labels[:2] = [3, 4]
    found = group_by_concepts(replace(photos, labels=labels), answers, WORDS, words)
    assert found.groups[:2] == (None, None)
