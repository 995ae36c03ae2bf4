import json
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.test_scored import head_of, unit
from vlmdesc import Descriptors
from vlmdesc.classification.columns import columns_of
from vlmdesc.classification.heads.pooled import Mixed
from vlmdesc.classification.heads.prototypes import Prototypes
from vlmdesc.embeddings.labelled import Labelled, take
from vlmdesc.evaluation.audit import MOST, Audit
from vlmdesc.evaluation.credit import leave_one_out
from vlmdesc.evaluation.disparity import compare_groups
from vlmdesc.evaluation.failure import EXAMPLES, LIFTS, explain
from vlmdesc.evaluation.scored import Scored

AXES = np.eye(8, dtype=np.float32)
ZOO = Descriptors.of({"hen": ["a red comb", "sunlit grass"], "owl": ["a flat face", "big eyes"], "cat": []})


def encode(texts):
    """What hens are said to have is seen by day only; a cat has its name."""
    book = {"hen, which has a red comb": AXES[0], "hen, which has sunlit grass": AXES[0] + 1.5 * AXES[3]}
    book |= {"owl, which has a flat face": AXES[1], "owl, which has big eyes": AXES[1] + AXES[4], "cat": AXES[2]}
    return unit(np.stack([book[text] for text in texts]))


def audited(pool="mean", n=372, dusk=0, seed=0, classes=(0, 1, 2), change=lambda head: head):
    """Images of three classes by day and by night, twelve of no group, and some hens at dusk."""
    rng = np.random.default_rng(seed)
    labels, day = np.arange(n) % 3, np.arange(n) // 3 % 2 == 0
    groups = [("day" if d else "night") if i < n - 12 else None for i, d in enumerate(day.tolist())]
    labels, groups = np.concatenate([labels, np.zeros(dusk, np.intp)]), [*groups, *["dusk"] * dusk]
    light = np.where(np.concatenate([day, np.zeros(dusk, bool)]), 1, -1)[:, None] * AXES[3]
    images = unit(AXES[labels] + 0.9 * light + 0.25 * rng.standard_normal((n + dusk, 8)))
    head = head_of(columns_of(ZOO, encode, "plain"), pool, classes=ZOO.classes)
    keys = tuple(f"{i}.jpg" for i in range(n + dusk))
    photos = Labelled(images, labels, keys, tuple(range(100, 100 + n + dusk)), keys, tuple(groups))
    seen = Scored.of(change(head), photos)
    found = compare_groups(seen.answers, labels, groups, list(classes), seen.scores[:, list(classes)])
    return Audit(seen, found, tuple(explain(seen, cell) for cell in found.failed[:MOST]))


def credit_of(given, part, text):
    """A descriptor's credit on some images, as all are worked out at once."""
    images, head = take(given.seen.images, np.flatnonzero(part).tolist()), given.seen.head
    found = leave_one_out(head, images, Scored.of(head, images).two)
    k = [head.columns.descriptors[m] for m in found.columns.tolist()].index(text)
    return found.only_with[k], found.only_without[k]


def strict(found):
    return json.loads(json.dumps(found.to_dict(), allow_nan=False))


def test_what_fails_is_explained_by_its_descriptor_and_pictures():
    given = audited()
    [hen] = [row for row in strict(given)["failed"] if row["class"] == "hen" and row["group"] == "night"]
    assert hen["how"] == "not found" and hen["tpr"]["differs"] and hen["tpr"]["gap"] < 0
    labels, answers = given.seen.images.labels, given.seen.answers
    night = np.array([group == "night" for group in given.seen.images.groups])
    lost = night & (labels == 0) & (answers != 0)
    assert all(given.seen.images.groups[i] is not None for failure in given.failures for i in failure.images)
    assert sum(row["n"] for row in hen["taken_for"]) == lost.sum()
    assert {row["class"] for row in hen["taken_for"]} <= {"owl", "cat"}
    first = hen["pulls"][0]
    assert (first["class"], first["descriptor"]) == ("hen", "sunlit grass") and len(hen["pulls"]) <= LIFTS
    assert first["here"] < 0 < first["worse_by"] and first["ci95"][0] > 0 and first["net"] < 0
    right = first["right_only_with"]["here"], first["right_only_without"]["here"]
    assert right == credit_of(given, night, "sunlit grass")
    assert first["net"] == right[0] - right[1]
    assert len(hen["images"]) == EXAMPLES
    ahead = []
    for image in hen["images"]:
        i = given.seen.images.keys.index(image["image"])
        assert lost[i] and image["row"] == given.seen.images.rows[i] == 100 + i
        assert (image["truth"], image["answer"]) == ("hen", ZOO.classes[answers[i]].id)
        ahead.append(given.seen.two[1][i, 0] - given.seen.two[1][i, 1])
    assert ahead == sorted(ahead, reverse=True)


def test_what_others_are_taken_for_is_explained_too():
    """By day, images of owls and cats are taken for hens."""
    given = audited(n=612)
    rows = [row for row in strict(given)["failed"] if row["how"] == "others taken for it"]
    for row in rows:
        assert row["fpr"]["differs"] and row["fpr"]["gap"] > 0 and row["taken_for"] == []
        assert {pull["class"] for pull in row["pulls"]} <= {row["class"]}
        for image in row["images"]:
            assert image["answer"] == row["class"] != image["truth"]
    [hen] = [row for row in rows if row["class"] == "hen"]
    assert hen["group"] == "day" and hen["images"] and hen["pulls"][0]["descriptor"] == "sunlit grass"


def test_where_nothing_can_be_judged_there_is_null_and_no_nan():
    record = strict(audited(n=30))  # eighteen with a group: three of each class and group
    assert record["worst_class_in_group"] is None and record["worst_group"] is None and record["failed"] == []
    assert record["equal_opportunity"] == record["max_skew"] == {"largest": None, "mean": None, "classes": []}
    assert not any(row["judged"] or "p" in row for row in record["groups"])
    assert {row["n"] for row in record["too_small"]} == {3}


HEADS = {
    "prototypes": lambda head: Prototypes(replace(head.card, kind="prototypes"), head, AXES[:3], 0.0),
    "mixed": lambda head: Mixed(replace(head.card, kind="mixed"), head, head, 0.0),
}


@pytest.mark.parametrize("kind", HEADS)
def test_an_audit_of_any_head_says_what_misleads(kind):
    """With prototypes that add nothing, or names that weigh nothing, it says what that of the texts does."""
    record, plain = strict(audited(change=HEADS[kind])), strict(audited())
    assert record["pulls_defined"] and len(record["failed"]) == len(plain["failed"]) > 0
    for ours, theirs in zip(record["failed"], plain["failed"], strict=True):
        assert [pull["descriptor"] for pull in ours["pulls"]] == [pull["descriptor"] for pull in theirs["pulls"]]
        for a, b in zip(ours["pulls"], theirs["pulls"], strict=True):
            assert (a["here"], a["others"]) == pytest.approx((b["here"], b["others"]), abs=2e-6)
            assert [a["right_only_with"], a["right_only_without"]] == [b["right_only_with"], b["right_only_without"]]
