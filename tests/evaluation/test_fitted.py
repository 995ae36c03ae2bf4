import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.evaluation.test_report import HOSTILE, TAGS, Parsed, method, whole
from vlmdesc import Descriptors, Report, Store
from vlmdesc.classification.heads.learned import sentence
from vlmdesc.embeddings.labelled import Joining
from vlmdesc.errors import InputError
from vlmdesc.evaluation.methods import METHODS, learners
from vlmdesc.evaluation.report import page
from vlmdesc.evaluation.roles import drawn, pairs, selection_verdicts, selections
from vlmdesc.evaluation.run import Plan, evaluate
from vlmdesc.evaluation.specs import Spec, Wording, build, curve, every, parse
from vlmdesc.evaluation.verdict import Difference, judge_selection
from vlmdesc.testing import COLOURS, FakeEncoder, given_of, labelled
from vlmdesc.text import shown

ZOO = Descriptors.of(
    {
        "pink bird": ["pink feathers", "long white legs"],
        "pink pig": ["pink skin", "brown mud"],
        "green frog": ["green skin", "blue water"],
        "black bird": ["black wings", "a yellow bill"],
        "black cat": ["black fur", "green eyes"],
    }
)
# What each shows most, and beside it: the captions find the first, the descriptors tell of the second.
SHOWS = {
    "pink bird": ("pink", "white"),
    "pink pig": ("pink", "brown"),
    "green frog": ("green", "blue"),
    "black bird": ("black", "yellow"),
    "black cat": ("black", "green"),
}
ALL = every(reference=False)
ABOUT = {name: entry.about for name, entry in METHODS.items() if entry.learns}
DRAWN = tuple(name for name, entry in METHODS.items() if entry.learns and entry.drawn)
NEIGHBORHOODS = tuple(name for name in ABOUT if name.startswith("neighborhood"))


# Names of methods


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("neighborhood", Spec("neighborhood")),
        ("neighborhood-5:name", Spec("neighborhood", "name", "", 5)),
        ("few-shot-1", Spec("few-shot", "", "", 1)),
        ("few-shot:name:a/b {c}", Spec("few-shot", "name:a/b {c}")),
        ("neighborhood-waffle-12", Spec("neighborhood-waffle", "", "", 12)),
        ("neighborhood-own", Spec("neighborhood-own")),
        ("neighborhood-free:dclip", Spec("neighborhood-free", "dclip")),
    ],
)
def test_a_name_says_base_wording_and_pictures_a_class(spec, parts):
    assert parse(spec) == parts


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("few-shot-0", "no reference images.*use few-shot-1 or more"),
        ("neighborhood-free-5", "unknown method.*did you mean 'neighborhood-free'"),
        ("neighborhod", "did you mean 'neighborhood'"),
        ("few-shots", "did you mean 'few-shot'"),
        ("few-shot--1", "unknown method"),
        ("few-shot-1.5", "unknown method"),
        ("photo-5", "unknown method"),
        ("neighborhood/max", "has its own pooling"),
        ("few-shot:name/mean", "has its own pooling"),
        ("neighborhood-5/mean", "has its own pooling"),
        ("few-shot:dclip", "few-shot reads names, no descriptors"),
        ("few-shot:nmae", "did you mean 'name'"),
        ("few-shot:name:a photo", 'needs one "{c}"'),
    ],
)
def test_what_is_no_method_is_refused(spec, says):
    with pytest.raises(InputError) as refused:
        parse(spec)
    assert re.search(says, str(refused.value))


def test_without_a_reference_what_needs_one_is_refused_and_all_does_not_ask_for_it():
    for spec in (*learners(), "few-shot-3"):
        with pytest.raises(InputError, match=f"'{spec}' learns from labelled images; fix: .* --reference"):
            build(["photo", spec], {"zoo": ZOO}, Wording())
    methods, left_out = build(["photo", "neighborhood-free"], {"zoo": ZOO}, Wording())
    assert [m.name for m in methods] == ["photo", "neighborhood-free"] and left_out == {}
    methods, left_out = build(["all"], {"zoo": ZOO}, Wording())
    assert [m.name for m in methods] == ALL and left_out == {}


def test_with_a_reference_all_is_every_method():
    methods, left_out = build(["all"], {"zoo": ZOO}, Wording(seeds=(4, 5)), reference=True)
    assert [m.name for m in methods] == [*ALL, *ABOUT] and left_out == {}
    fitted = {m.name: m for m in methods if m.name in ABOUT}
    assert {name for name, m in fitted.items() if m.kind == "control"} == {
        "neighborhood-own", "neighborhood-waffle", "neighborhood-random",
    }  # fmt: skip
    assert {name for name, m in fitted.items() if m.seeds == (4, 5)} == {*DRAWN}
    assert all(m.descriptors == ZOO and m.phrase == "name:a photo of a {c}." for m in fitted.values())


def test_so_many_pictures_a_class_are_drawn_for_each_seed():
    methods, _ = build(["few-shot-3", "neighborhood-2:name"], {"zoo": ZOO}, Wording(seeds=(0, 7)), reference=True)
    assert [(m.name, m.per_class, m.seeds, m.phrase) for m in methods] == [
        ("few-shot-3", 3, (0, 7), "name:a photo of a {c}."), ("neighborhood-2:name", 2, (0, 7), "name"),
    ]  # fmt: skip


def test_nothing_is_selected_where_nothing_is_described_but_prototypes_can_be_learned():
    bare = Descriptors.of({"frog": [], "raven": []})
    methods, left_out = build([*ABOUT], {"bare": bare}, Wording(), reference=True)
    assert [m.name for m in methods] == ["few-shot"]
    assert set(left_out) == {*NEIGHBORHOODS} and "no descriptors" in left_out["neighborhood"]


def test_two_sets_select_each_its_own_and_share_prototypes():
    sets = {"a": ZOO, "b": ZOO}
    methods, _ = build(["neighborhood", "few-shot"], sets, Wording(), reference=True)
    assert [m.name for m in methods] == ["neighborhood@a", "neighborhood@b", "few-shot"]


@pytest.mark.parametrize(
    ("specs", "per_class", "expected"),
    [
        (("few-shot",), "1,5,all", ("few-shot-1", "few-shot-5", "few-shot")),
        (("photo", "neighborhood:name"), " 2 , all", ("photo", "neighborhood-2:name", "neighborhood:name")),
        (
            ("neighborhood-own", "neighborhood-free"),
            "3",
            ("neighborhood-own-3", "neighborhood-own", "neighborhood-free"),
        ),
        (("few-shot-4", "few-shot"), "1", ("few-shot-4", "few-shot-1", "few-shot")),
    ],
)
def test_a_learning_curve_has_each_learner_once_for_each_number(specs, per_class, expected):
    assert curve(specs, per_class) == expected


@pytest.mark.parametrize(
    "per_class", ["0", "01", "1,,2", "a", "-1", "1.5", "1;2", "\N{ARABIC-INDIC DIGIT FIVE}", "9" * 5000 + "x", ""]
)
def test_what_is_no_list_of_numbers_is_refused(per_class):
    with pytest.raises(InputError, match="is no list of numbers"):
        curve(["few-shot"], per_class)


@pytest.mark.parametrize("specs", [(), ("photo", "describe"), ("neighborhood-free",)])
def test_a_curve_of_nothing_that_learns_is_refused(specs):
    with pytest.raises(InputError, match="no method that learns from reference images"):
        curve(specs, "1,5")


def test_a_template_may_hold_a_slash_beside_a_number():
    assert parse("few-shot-2:name:a/b {c}") == Spec("few-shot", "name:a/b {c}", "", 2)


def test_a_curve_of_all_is_every_method_with_its_numbers():
    found = curve(("all",), "1,all,1")
    assert [spec for spec in found if parse(spec).per_class is None] == [*ALL, *ABOUT]
    assert [spec for spec in found if parse(spec).per_class == 1] == [f"{name}-1" for name in learners()]


# What is drawn


def given_with(labels):
    """What methods are fitted with, of images that can be told apart: image i is (i, i)."""
    images = np.repeat(np.arange(len(labels), dtype=np.float32), 2).reshape(-1, 2)
    known = labelled(images, labels)
    return given_of(FakeEncoder(), ZOO, known, reference=known)


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 6), st.integers(0, 2**32))
def test_of_each_class_so_many_are_drawn_or_all_it_has(labels, n, seed):
    images, drawn_ = given_with(labels).drawn(n, seed)
    rows = images[:, 0].astype(int).tolist()
    assert rows == sorted({*rows}) and drawn_.tolist() == [labels[i] for i in rows]
    assert [drawn_.tolist().count(c) for c in range(5)] == [min(n, labels.count(c)) for c in range(5)]
    assert np.array_equal(given_with(labels).drawn(n, seed)[0], images)


def test_another_seed_draws_others_and_none_all():
    found = given_with([0, 1] * 20)
    draws = {tuple(found.drawn(3, seed)[0][:, 0].tolist()) for seed in range(10)}
    assert len(draws) > 5
    assert len({i for draw in draws for i in draw}) > 20  # of 40: not the first ones again and again
    assert np.array_equal(found.drawn(None, 3)[0], found.reference.vectors)


def test_random_words_are_no_class_s_own():
    """A class without reference images has its caption alone, once as the name and once for what is not picked."""
    fake = FakeEncoder()
    zoo = Descriptors.of({"pink bird": ["pink feathers"], "green frog": ["green skin"], "black bird": ["black wings"]})
    images = fake.texts(["pink", "green", "black"])
    [method], _ = build(["neighborhood-waffle:name"], {"zoo": zoo}, Wording(), reference=True)
    known = labelled(images[:2], [0, 1])
    [head] = method.fit(given_of(fake, zoo, labelled(images, [0, 1, 2]), reference=known), 0).heads
    expected = (head.choice.name_weight + 1) * (images @ fake.texts(["pink bird", "green frog", "black bird"]).T)[:, 2]
    assert head.choice.k == 3 and head.scores(images)[:, 2] == pytest.approx(expected, abs=1e-4)


# What is measured


def picture(path, main, other, seed):
    """One colour above, some of another below, a speck of a third."""
    rng = np.random.default_rng(seed)
    pixels = np.full((16, 16, 3), COLOURS[main], np.uint8)
    pixels[int(rng.integers(8, 15)) :] = COLOURS[other]
    pixels[: rng.integers(0, 9), :8] = COLOURS[str(rng.choice([*COLOURS]))]
    pixels[0, 0] = seed % 256, seed // 256, 0  # no two alike
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    """Images of five classes to measure on; a reference of four of them."""
    folder = tmp_path_factory.mktemp("farm")
    for c, (name, (main, other)) in enumerate(SHOWS.items()):
        for i in range(12):
            picture(folder / "test" / name / f"{i}.png", main, other, 100 * c + i)
            if name != "green frog":
                picture(folder / "known" / name / f"{i}.png", main, other, 1000 + 100 * c + i)
    return folder


@pytest.fixture(scope="module")
def found(farm):
    methods = ("photo", *ABOUT, "neighborhood-2", "neighborhood-own-2", "few-shot-1", "few-shot-3")
    plan = Plan(methods, Wording(seeds=(0, 1, 2)), resamples=200)
    store = Store(farm / "store")
    return evaluate(farm / "test", ZOO, FakeEncoder(), store, plan=plan, reference=farm / "known").report


def learned(report):
    return {name: record["learned"] for name, record in report.methods.items() if "learned" in record}


def test_every_fitted_method_says_what_it_learned_and_no_other(found):
    records = learned(found)
    assert set(records) == set(found.methods) - {"photo"} and found.left_out == {}
    for name, record in records.items():
        if name.startswith("few-shot"):
            assert set(record) == {"weight", "texts", "pictures", "labels", "classes_without"}
            assert record["labels"] == "reference" and record["classes_without"] == ["green frog"]
            continue
        assert {"k", "m", "name_weight", "texts", "pictures", "labels", "ceiling", "fallback"} <= set(record)
        assert 1 <= record["k"] <= 5 and record["m"] >= 1 and record["name_weight"] >= 0
    assert {name: record["pictures"] for name, record in records.items() if record["labels"] == "reference"} == {
        **dict.fromkeys(("neighborhood", "neighborhood-own", "neighborhood-waffle", "neighborhood-random"), 48),
        **{"few-shot": 48, "neighborhood-2": 8, "neighborhood-own-2": 8, "few-shot-1": 4, "few-shot-3": 12},
    }
    assert records["neighborhood"]["classes_without"] == ["green frog"]
    assert records["neighborhood-own"]["classes_without"] == []  # it needs none


@pytest.fixture(scope="module")
def nameless(farm):
    """The same under names that show no colour, so that the first classes are the candidates of every image."""
    names = dict(zip(SHOWS, ("ara", "boar", "newt", "rook", "puma"), strict=True))
    rows = {new: [r.text for r in ZOO.rows if r.class_id == old] for old, new in names.items()}
    methods = ("photo", *NEIGHBORHOODS, "neighborhood-1", "neighborhood-own-1")
    plan = Plan(methods, Wording(seeds=(0, 1)), Joining(names), resamples=200)
    store = Store(farm / "store")
    reference = farm / "known"
    return evaluate(farm / "test", Descriptors.of(rows), FakeEncoder(), store, plan=plan, reference=reference).report


def test_where_captions_say_nothing_the_first_three_of_five_classes_are_the_ceiling(nameless):
    records = learned(nameless)
    assert {records[name]["k"] for name in ("neighborhood-free", "neighborhood-1", "neighborhood-own-1")} == {3}
    for name in ("neighborhood-free", "neighborhood-1", "neighborhood-own-1"):  # none chooses its k
        assert records[name]["ceiling"] == 0.6 and "ceiling 60.0 %" in sentence(records[name])
        assert nameless.methods[name]["top1"] <= 0.6
    assert (records["neighborhood"]["k"], records["neighborhood"]["ceiling"]) == (5, 1)


def test_nothing_is_right_beyond_the_ceiling(found, nameless):
    for report in (found, nameless):
        for name, record in learned(report).items():
            figures = report.methods[name]
            first = figures["seeds"]["top1"][0] if "seeds" in figures else figures["top1"]  # it is told of this draw
            assert name.startswith("few-shot") or first <= record["ceiling"] <= 1


def test_the_ceiling_is_the_share_of_pictures_whose_class_is_a_candidate(found, farm):
    """By hand: a caption is as similar as its colour is frequent; of equals the earlier class."""
    record, fake = learned(found)["neighborhood-free"], FakeEncoder()
    captions, hits = fake.texts([f"a photo of a {name}." for name in SHOWS]), []
    for c, name in enumerate(SHOWS):
        for file in sorted((farm / "test" / name).iterdir()):
            scores = captions @ fake.images([Image.open(file)])[0]
            hits.append(c in np.argsort(-scores, kind="stable")[: record["k"]])
    assert record["ceiling"] == pytest.approx(np.mean(hits), abs=1e-6)


def test_only_what_selects_can_fall_back(found):
    records = learned(found)
    assert {name for name, r in records.items() if "k" in r and r["fallback"] is None} == {
        "neighborhood-own", "neighborhood-own-2", "neighborhood-random",
    }  # fmt: skip
    assert 0 < records["neighborhood"]["fallback"] < 1  # no image taught what a green frog looks like
    assert "fallback" not in sentence(records["neighborhood-own"]) and "ceiling" in sentence(
        records["neighborhood-own"]
    )


def test_what_learns_without_labels_is_told_so_and_never_called_otherwise(found):
    record = learned(found)["neighborhood-free"]
    assert record["labels"] == "none" and record["rounds"] >= 1 and isinstance(record["settled"], bool)
    assert not {"left_out", "left_out_by_name", "classes_without"} & set(record)
    said = sentence(record)
    assert "no labels" in said and "pseudo-labels" in said
    assert "reference" not in said and "without labels" in ABOUT["neighborhood-free"]
    everything = " ".join([page(found, {}), found.to_json(), *map(sentence, learned(found).values()), *ABOUT.values()])
    assert not re.search("training.free", everything, re.IGNORECASE)


def test_what_learns_from_labels_never_says_it_has_none(found):
    for name, record in learned(found).items():
        if name != "neighborhood-free":
            assert record["labels"] == "reference" and "reference" in sentence(record)
            assert "no labels" not in sentence(record) and "pseudo" not in sentence(record)


def test_what_was_too_few_to_choose_by_is_told(found):
    assert "right when left out" in sentence(learned(found)["neighborhood"])
    bare = learned(found)["neighborhood"] | {"left_out": None}
    assert "too few to choose by: k and m as published" in sentence(bare)
    free = learned(found)["neighborhood-free"]
    assert "not settled after 10 rounds" in sentence(free | {"settled": False, "rounds": 10})


def test_label_free_learning_is_blind_to_the_reference(farm, found):
    plan = Plan(("photo", "neighborhood-free"), resamples=200)
    alone = evaluate(farm / "test", ZOO, FakeEncoder(), Store(farm / "store"), plan=plan).report
    assert learned(alone)["neighborhood-free"] == learned(found)["neighborhood-free"]
    assert alone.methods["neighborhood-free"]["top1"] == found.methods["neighborhood-free"]["top1"]


def test_what_is_drawn_has_a_figure_for_each_seed_and_is_never_first(found):
    several = {name for name, record in found.methods.items() if "seeds" in record}
    assert several == {*DRAWN, "neighborhood-2", "neighborhood-own-2", "few-shot-1", "few-shot-3"}
    for name in several:
        record = found.methods[name]
        assert record["seeds"]["seed"] == [0, 1, 2] and len(record["seeds"]["top1"]) == 3
        assert record["top1"] == pytest.approx(np.mean(record["seeds"]["top1"]), abs=1e-5)
    firsts = {row["a"] for row in found.comparisons}
    assert "neighborhood" in firsts and not firsts & several
    assert not any(found.methods[name]["kind"] == "control" for name in firsts)


def test_selection_helps_here_and_is_set_against_its_parts(found):
    pairs_ = {(row["a"], row["b"]) for row in found.comparisons}
    others = ("photo", "neighborhood-own", "neighborhood-waffle", "neighborhood-random", "few-shot")
    assert {("neighborhood", other) for other in others} <= pairs_ and ("neighborhood-free", "photo") in pairs_
    assert found.main == "neighborhood" and found.base == "photo"
    assert found.methods["neighborhood"]["top1"] > found.methods["photo"]["top1"]
    [verdict] = found.verdict["selection"]
    assert verdict["code"] == found.verdict["code"] and verdict["text"] == found.verdict["text"]
    assert "selected in the neighbourhood" in verdict["text"] and "without labels" in verdict["text"]


def test_descriptors_are_judged_first_where_both_are_measured(farm):
    plan = Plan(("photo", "describe", "neighborhood"), resamples=200)
    verdict = evaluate(
        farm / "test", ZOO, FakeEncoder(), Store(farm / "store"), plan=plan, reference=farm / "known"
    ).report.verdict
    assert "selected" not in verdict["text"]
    [selected] = verdict["selection"]
    assert "selected in the neighbourhood" in selected["text"]


def test_results_come_back_as_they_were_saved(found, tmp_path):
    found.save(tmp_path / "results.json")
    again = Report.load(tmp_path / "results.json")
    assert again.to_json() == found.to_json() and again.verdict == found.verdict
    assert learned(again) == learned(found)
    assert page(again, {}) == page(found, {})


def test_the_page_tells_what_was_learned(found):
    parsed = Parsed(page(found, {}))
    assert {tag for tag, _ in parsed.tags} <= TAGS and not parsed.inside
    assert [sentence(r) for r in learned(found).values() if sentence(r) not in parsed.text] == []
    assert found.verdict["text"] in " ".join(parsed.text.split())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_class_in_what_was_learned_is_shown_as_text(text):
    shots = {"weight": 0.5, "texts": 0, "pictures": 3, "labels": "reference", "classes_without": [text + "hen"]}
    report = whole(lambda word: word)
    methods = dict(report.methods) | {"few-shot": method(0.5, "fitted", text + "owl", learned=shots)}
    html = page(whole(methods=methods), {})
    parsed = Parsed(html)
    assert {tag for tag, _ in parsed.tags} <= TAGS and not parsed.inside
    assert html.isascii() or all(c.isprintable() or c == "\n" for c in html)
    assert shown(f"weight 0.5; 1 class without any: {text}hen") in parsed.text and shown(text + "owl") in parsed.text


def test_hostile_names_and_descriptors_go_through_an_evaluation(farm):
    tag, bidi = "<script>alert(1)</script>", "\u202egreen</td><img src=x onerror=alert(1)>"
    names = {"green frog": f"frog {tag}"}
    rows = {name: [r.text for r in ZOO.rows if r.class_id == name] for name in SHOWS}
    hostile = Descriptors.of({names.get(name, name): list_ for name, list_ in rows.items()} | {tag: [bidi]})
    methods = ("photo", "neighborhood", "few-shot", "neighborhood-free")
    plan = Plan(methods, joining=Joining(names, allow_absent=True), resamples=200)
    store = Store(farm / "store")
    report = evaluate(farm / "test", hostile, FakeEncoder(), store, plan=plan, reference=farm / "known").report
    html = page(report, {})
    assert "<script" not in html and "<img src=x" not in html and "\u202e" not in html
    parsed = Parsed(html)
    assert f"2 classes without any: frog {tag}, {tag}" in parsed.text and {t for t, _ in parsed.tags} <= TAGS


# Parts and verdicts


def methods_of(*specs, seeds=(0, 1), sets=("zoo",)):
    return build(specs, dict.fromkeys(sets, ZOO), Wording(seeds=seeds), reference=True)[0]


def test_selections_have_the_parts_that_are_worded_alike():
    [parts] = selections(methods_of("name", "photo", "neighborhood", "neighborhood-waffle", "few-shot:name"))
    assert {role: m.name for role, m in parts.items()} == {
        "main": "neighborhood", "name": "photo", "waffle": "neighborhood-waffle",
    }  # fmt: skip
    [parts] = selections(methods_of("photo", "few-shot-1", "neighborhood-own-5", "neighborhood", "few-shot"))
    assert {role: m.name for role, m in parts.items()} == {"main": "neighborhood", "name": "photo", "shots": "few-shot"}
    [parts] = selections(methods_of("name", "photo", "neighborhood:name", "few-shot:name", "neighborhood-own"))
    assert {role: m.name for role, m in parts.items()} == {
        "main": "neighborhood:name", "name": "name", "shots": "few-shot:name",
    }  # fmt: skip
    assert selections(methods_of("photo", "neighborhood-5", "neighborhood-free", "few-shot")) == []


def test_what_learns_from_few_is_compared_but_never_the_first():
    found = pairs(methods_of("photo", "neighborhood", "neighborhood-5", "few-shot-1", "neighborhood-own"))
    assert ("neighborhood", "neighborhood-5") in found and ("neighborhood", "few-shot-1") in found
    assert {a for a, _ in found} == {"neighborhood"}
    assert pairs(methods_of("neighborhood-5", "few-shot-1")) == []


def test_a_learning_curve_is_about_what_learned_from_all():
    found = methods_of("photo", *curve(["neighborhood"], "1,all"))
    assert drawn(found) == ("photo", "neighborhood")


def test_a_selection_verdict_for_each_set_that_names_it():
    found = methods_of("photo", "neighborhood", "neighborhood-waffle", sets=("a", "b"))
    rows = [
        differ(0.1, a="neighborhood@a", b="photo"),
        differ(0.1, a="neighborhood@a", b="neighborhood-waffle@a"),
        differ(-0.1, a="neighborhood@b", b="photo"),
    ]
    a, b = selection_verdicts(found, rows)
    assert (a.code, b.code) == ("meaning", "harm")
    assert a.text.startswith("Descriptors of a selected in the neighbourhood beat their caption alone by 10.0 points")


def differ(delta, half=0.01, p=0.0001, n=5_000, a="neighborhood", b="photo"):
    return Difference(a, b, delta, (delta - half, delta + half), p, p, n)


BETTER, WORSE, SAME, UNCLEAR = differ(0.1), differ(-0.1), differ(0.0, 0.005, 1.0), differ(0.02, 0.03, 0.2)


@pytest.mark.parametrize(
    ("name", "waffle", "code"),
    [
        (None, BETTER, "no-baseline"),
        (WORSE, BETTER, "harm"),
        (SAME, BETTER, "no-gain"),
        (UNCLEAR, BETTER, "unclear"),
        (BETTER, None, "no-control"),
        (BETTER, BETTER, "meaning"),
        (BETTER, SAME, "any-words"),
        (BETTER, WORSE, "any-words"),
        (BETTER, UNCLEAR, "unexplained"),
    ],
)
def test_every_rule_for_selection(name, waffle, code):
    against = {role: d for role, d in (("name", name), ("waffle", waffle)) if d}
    assert judge_selection(against).code == code


def test_where_random_words_do_as_well_it_is_not_what_descriptors_say_that_helps():
    assert judge_selection({"name": BETTER, "waffle": SAME}, " of zoo").text == (
        "Descriptors of zoo selected in the neighbourhood beat their caption alone by 10.0 points "
        "(95 % CI 9.0 to 11.0, p<0.001, n=5000), but not random words (+0.0, 95 % CI -0.5 to 0.5, p=1): "
        "the gain does not come from what they say."
    )


@pytest.mark.parametrize(
    ("part", "found", "says"),
    [
        ("own", BETTER, "The selected beat each class's own (+10.0,"),
        ("own", WORSE, "Each class's own do better (-10.0,"),
        ("random", SAME, "Random draws do as well (+0.0,"),
        ("shots", WORSE, "Prototypes of the same images, without descriptors, do better (-10.0,"),
        ("shots", UNCLEAR, "Whether they beat prototypes of the same images is unclear (+2.0,"),
        ("unlabelled", BETTER, "Selected without labels they beat the caption too (+10.0,"),
        ("unlabelled", WORSE, "Selected without labels they do worse than the caption (-10.0,"),
    ],
)
def test_more_is_said_of_a_selection_where_more_was_measured(part, found, says):
    base = judge_selection({"name": BETTER, "waffle": BETTER})
    more = judge_selection({"name": BETTER, "waffle": BETTER, part: found})
    assert more.code == base.code and more.text.startswith(base.text + " " + says)
