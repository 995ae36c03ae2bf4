import json
from dataclasses import replace

import numpy as np
import pytest

import vlmdesc as vd
from tests.evaluation.test_html import HOSTILE, Parsed, jpeg
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.errors import InputError
from vlmdesc.evaluation.effect import EXAMPLES, Effect, deltas
from vlmdesc.records import ClassName, Edit
from vlmdesc.text import shown

CLASSES = tuple(ClassName(name, name) for name in ("hen", "owl", "frog"))


def effect(before, after, labels, groups=None):
    """The effect of answers changing from before to after, on images with these labels and groups."""
    n = len(labels)
    keys, of = tuple(f"{i}.jpg" for i in range(n)), tuple(groups or [None] * n)
    rows = tuple(range(10, 10 + n))
    images = Labelled(np.ones((n, 2), np.float32), np.array(labels, np.intp), keys, rows, keys, of, classes=CLASSES)
    return Effect(images, np.array(before, np.intp), np.array(after, np.intp))


def of(right, labels):
    """Answers: the label where right, else the next of three classes."""
    labels = np.array(labels)
    return np.where(np.array(right, bool), labels, (labels + 1) % 3)


def flips(fixed, broken, same=10):
    """The effect on images of class 0, of which some are fixed and some broken."""
    before = [0] * fixed + [1] * broken + [1] * same
    after = [1] * fixed + [0] * broken + [1] * same
    labels = np.zeros(len(before), np.intp)
    return effect(of(before, labels), of(after, labels), labels)


def record(found):
    return json.loads(json.dumps(found.to_dict(), allow_nan=False))


def test_deltas_by_hand():
    was, is_ = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool), np.array([1, 1, 0, 1, 1, 1, 0, 0], bool)
    [all_, half] = deltas([np.ones(8, bool), np.arange(8) < 4], was, is_)
    assert (all_.n, all_.before, all_.fixed, all_.broken, all_.value) == (8, 3, 3, 1, 0.25)
    assert all_.p == pytest.approx(10 / 16) and all_.p_holm == 1  # twice (1 + 4) / 16; times 2
    assert (half.n, half.before, half.fixed, half.broken, half.value, half.p) == (4, 3, 1, 1, 0, 1)
    low, high = all_.ci95
    assert -1 < low < 0.25 < high < 1


@pytest.mark.parametrize(
    ("fixed", "broken", "verdict"),
    [
        (5, 0, "noise"),  # 2 / 32
        (6, 0, "better"),  # 2 / 64
        (0, 5, "noise"),
        (0, 6, "worse"),
        (7, 1, "noise"),  # 2 * 9 / 256 = 0.07
        (8, 1, "better"),  # 2 * 10 / 512 = 0.04
        (0, 0, "none"),
        (50, 50, "noise"),
    ],
)
def test_noise_is_never_called_better(fixed, broken, verdict):
    found = flips(fixed, broken)
    assert found.overall.verdict == verdict
    starts = {"noise": "not to be told from chance", "none": "no effect"}
    assert found.text.startswith(starts.get(verdict, verdict)) and repr(found) == f"<Effect: {found.text}>"
    assert ("can never be told" in found.text) == (0 < fixed + broken < 6)


def test_chance_is_called_an_improvement_no_more_often_than_it_says():
    drawn = np.random.default_rng(0).binomial(30, 0.5, 2000)
    better = [fixed for fixed in set(drawn.tolist()) if flips(fixed, 30 - fixed).overall.verdict == "better"]
    assert 0 < np.isin(drawn, better).mean() <= 0.03  # 2.5 % one way


def test_holm_is_over_the_parts():
    """Six fixed of each of two classes: for sure of both, but of neither alone, since two were asked."""
    labels = [0] * 6 + [1] * 6
    found = effect(of([0] * 12, labels), of([1] * 12, labels), labels, ["day"] * 6 + ["night"] * 6)
    assert found.overall.verdict == "better" and found.overall.p_holm == found.overall.p
    for parts in (found.classes, found.groups):
        assert [part.p for part in parts.values()] == pytest.approx([2 / 64] * 2)
        assert [part.p_holm for part in parts.values()] == pytest.approx([4 / 64] * 2)
        assert {part.verdict for part in parts.values()} == {"noise"}


def test_only_classes_whose_right_answers_changed_are_listed_but_all_groups_are():
    labels = np.array([0, 0, 1, 2])
    found = effect(of([1, 0, 1, 0], labels), [0, 0, 1, 1], labels, ["x", "x", "y", None])
    assert list(found.classes) == [0] and list(found.groups) == ["x", "y"]
    assert found.groups["y"].verdict == "none" and found.groups["y"].n == 1
    examples = record(found)["examples"]
    assert ([e["image"] for e in examples["fixed"]], examples["broken"]) == (["1.jpg"], [])


@pytest.mark.parametrize("groups", [[None] * 3, ["one"] * 3])
def test_groups_may_be_none_or_one(groups):
    labels = np.array([0, 1, 2])
    found = effect(of([0, 1, 1], labels), of([1, 1, 0], labels), labels, groups)
    assert list(found.groups) == (["one"] if groups[0] else [])
    assert all(delta.n == 3 and delta.value == 0 for delta in found.groups.values())


@pytest.mark.parametrize(
    ("after", "text"),
    [([1, 0, 0], "no effect: no answer changed"), ([2, 0, 0], "no effect: 1 answer changed, from one wrong class")],
)
def test_no_flips(after, text):
    found = effect([1, 0, 0], after, [0, 0, 0])
    assert found.text.startswith(text)
    told = record(found)
    assert told["verdict"]["code"] == "none" and told["classes"] == told["groups"] == []
    assert told["examples"] == {"fixed": [], "broken": []}
    assert record(effect([], [], []))["overall"]["n"] == 0


def test_a_record_has_it_all_and_is_strict_json():
    labels = np.array([0] * 8 + [1] * 4)
    groups = ["day"] * 6 + ["night"] * 5 + [None]
    before, after = of([0] * 7 + [1] * 5, labels), of([1] * 8 + [1, 1, 1, 0], labels)
    told = record(effect(before, after, labels, groups))
    assert told["overall"]["n"] == 12 and told["overall"]["fixed"] == 7 and told["overall"]["broken"] == 1
    assert told["overall"]["before"] == pytest.approx(5 / 12, abs=1e-6)
    assert told["overall"]["after"] == pytest.approx(11 / 12, abs=1e-6)
    assert told["overall"]["delta"] == 0.5 and told["overall"]["verdict"] == told["verdict"]["code"] == "noise"
    assert [(row["class"], row["delta"]) for row in told["classes"]] == [("hen", 0.875), ("owl", -0.25)]
    assert [(row["group"], row["n"]) for row in told["groups"]] == [("day", 6), ("night", 5)]
    assert [len(told["examples"][kind]) for kind in ("fixed", "broken")] == [7, 1]
    assert told["examples"]["broken"] == [
        {"image": "11.jpg", "row": 21, "group": None, "truth": "owl", "before": "owl", "after": "frog"}
    ]


def test_examples_are_some_of_each_class_first():
    labels = np.array([0] * 40 + [1] * 2 + [2])
    rows = record(effect(of([0] * 43, labels), of([1] * 43, labels), labels))["examples"]["fixed"]
    assert len(rows) == EXAMPLES
    assert [row["truth"] for row in rows[:5]] == ["hen", "owl", "frog", "hen", "owl"]
    assert {row["truth"] for row in rows[5:]} == {"hen"}


# The public function


@pytest.fixture
def album(photos, tmp_path):
    lines = [f"{path},{name}" for name, path in photos.items()]
    (tmp_path / "table.csv").write_text("\n".join(["image,label", *lines, f"{photos['cat']},cat", "gone.jpg,cat"]))
    return tmp_path / "table.csv", {name: [f"a {name}"] for name in photos}


def test_the_effect_of_an_edit_on_a_data_set(album, tmp_path):
    data, zoo = album
    seen = []
    zoo2 = vd.edit(zoo, [Edit("add", "cat", "brown fur"), Edit("drop", "cat", "a cat")])
    found = vd.effect(zoo, zoo2, data, "fake", store=False, progress=lambda *told: seen.append(told))
    told = found.to_dict()
    assert told["task"] == {"data": str(data), "encoder": "fake", "phrase": "plain", "pool": "mean"}
    assert (told["overall"]["n"], told["failed"]) == (6, 1) and seen[-1][0] == "images"
    assert [*map(str, found.edits)] == ['add "cat" "brown fur"', 'drop "cat" "a cat"']
    assert any("1 copy of other images" in note for note in found.notes)
    found.save(tmp_path / "effect.html")
    assert "What 2 edits would do to the answers to 6 images" in (tmp_path / "effect.html").read_text()
    assert vd.effect(zoo, zoo, data, "fake", store=False).text == "no effect: no answer changed"


@pytest.mark.parametrize(
    ("after", "options", "says"),
    [
        ({"cat": [], "dog": []}, {}, "changes which classes there are"),
        (None, {"pool": "maen"}, "did you mean 'mean'"),
        (None, {"phrase": "plian"}, "did you mean 'plain'"),
        (None, {"joining": vd.Joining()}, "1 label of no class"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_is_loaded(album, after, options, says, monkeypatch):
    data, zoo = album
    zoo = {name: texts for name, texts in zoo.items() if "joining" not in options or name != "rocket"}
    monkeypatch.setattr("vlmdesc.evaluation.setting.encoder_of", lambda name: pytest.fail("loaded"))
    with pytest.raises(InputError, match=says):
        vd.effect(zoo, after or zoo, data, "starter", **options)


# Its page


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The HTML of an effect, the pictures being all the same."""
    monkeypatch.setattr("vlmdesc.evaluation.effect.thumbnails", lambda data, rows: {10: jpeg()})

    def write(found):
        found.save(tmp_path / "effect.html")
        return (tmp_path / "effect.html").read_text(encoding="utf-8")

    return write


def changed(w=str):
    """An effect with classes, groups and images of both kinds. `w` makes every word."""
    found = effect([1] * 14, [0] * 12 + [1, 0], [0] * 12 + [1] * 2, [w("day")] * 7 + [w("night")] * 6 + [None])
    images = replace(found.images, keys=tuple(map(w, found.images.keys)))
    return replace(found, images=images, edits=(Edit("drop", "hen", "a beak"), *[Edit("add", "hen", "x")] * 60))


@pytest.mark.parametrize("text", HOSTILE)
def test_an_effect_shows_hostile_texts_as_text_and_nothing_else(page, text):
    found = Parsed(page(changed(lambda word: text + word)))
    assert not found.inside and not {"script", "iframe", "svg", "base", "i"} & {tag for tag, _ in found.tags}
    for _, attrs in found.tags:
        assert not [name for name in attrs if name.startswith("on")] and "href" not in attrs and "src" not in attrs
    assert [word for word in ("0.jpg", "13.jpg", "day", "night") if shown(text + word) not in found.text] == []


def test_an_effect_says_what_edits_did(page):
    html = page(changed())
    assert html == page(changed()) and html.startswith("<!DOCTYPE html>")
    assert "https:" not in html and "http:" not in html
    [policy] = [attrs for tag, attrs in Parsed(html).tags if "http-equiv" in attrs]
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    text = " ".join(Parsed(html).text.split())
    for words in (
        "What 61 edits would do to the answers to 14 images.",
        "and 11 more",
        "better: 12 fixed, 1 broken of 14 images (p 0.003)",
        "Fixed: 12 images wrong before, right after",
        "Broken: 1 image right before, wrong after",
        "chance could do it",
        "13.jpg",
    ):
        assert words in text


def test_an_effect_of_nothing(page):
    text = Parsed(page(effect([0] * 3, [0] * 3, [0] * 3))).text
    assert "no effect: no answer changed" in text and "None changed." in text and "other descriptors would do" in text
