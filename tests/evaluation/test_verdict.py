import pytest

from vlmdesc import Descriptors, Plan
from vlmdesc.evaluation.specs import build, curve
from vlmdesc.evaluation.verdict import SENTENCES, base_and_main, families, judge, pairs, state
from vlmdesc.records.report import Difference

ZOO = Descriptors.of({"frog": ["green skin"], "raven": ["black wings"]})
RULES = [  # against the name, against random words, code: of descriptors, of a selection
    (None, "better", "no-baseline", "no-baseline"),
    ("worse", "better", "harm", "harm"),
    ("same", "better", "no-gain", "no-gain"),
    ("unclear", "better", "unclear", "unclear"),
    ("better", None, "no-control", "no-control"),
    ("better", "better", "meaning", "meaning"),
    ("better", "same", "ensembling", "any-words"),
    ("better", "worse", "ensembling", "any-words"),
    ("better", "unclear", "unexplained", "unexplained"),
]
DELTA = {"better": 0.1, "worse": -0.1, "same": 0.0, "unclear": 0.02}


def methods(*specs, sets=("zoo",)):
    return build(specs, dict.fromkeys(sets, ZOO), Plan(seeds=2), reference=True)[0]


def differ(a, b, state_, p=0.0001):
    delta = DELTA[state_]
    return Difference(a, b, delta, (delta - 0.01, delta + 0.01), p, p, state_)


def judged(*specs, rows=(), accuracy=None, sets=("zoo",), n=5_000):
    return judge(methods(*specs, sets=sets), rows, accuracy or {}, n, 2)


def cast(*specs):
    return [{"main": f.main.name} | {role: m.name for role, m in f.others.items()} for f in families(methods(*specs))]


@pytest.mark.parametrize(
    ("low", "high", "p", "n", "expected"),
    [
        (0.029, 0.053, 0.0001, 5_050, "better"),
        (-0.04, -0.02, 0.001, 5_050, "worse"),
        (-0.006, 0.0099, 0.4, 5_050, "same"),
        (-0.01, 0.05, 0.2, 5_050, "unclear"),
        (0.01, 0.05, 0.08, 5_050, "unclear"),  # the interval says so, the corrected test does not
        (-0.001, 0.05, 0.01, 5_050, "unclear"),  # the reverse
        (0.001, 0.007, 0.08, 5_050, "same"),
        (-0.01, 0.01, 1.0, 5_050, "unclear"),  # a whole point either way is not the same
        (0.0, 0.0, 1.0, 299, "unclear"),  # of six images that all agree nothing follows
        (0.0, 0.0, 1.0, 300, "same"),
    ],
)
def test_what_a_difference_says(low, high, p, n, expected):
    assert state((low, high), p, n) == expected


@pytest.mark.parametrize(
    ("specs", "parts"),
    [
        ("name describe waffle", {"main": "describe", "name": "name", "waffle": "waffle"}),
        ("templates describe", {"main": "describe", "templates": "templates"}),
        ("photo free describe", {"main": "describe", "name": "photo"}),
        ("photo name describe", {"main": "describe", "name": "name"}),
        ("name:{c}. describe:dclip waffle", {"main": "describe:dclip", "name": "name:{c}.", "waffle": "waffle"}),
        ("describe:dclip waffle:plain", {"main": "describe:dclip"}),  # another wording is no control
        ("describe waffle/max swapped", {"main": "describe", "swapped": "swapped"}),
        ("describe:waffleclip waffle:waffleclip", {"main": "describe:waffleclip", "waffle": "waffle:waffleclip"}),
        ("free waffle", {"main": "free"}),
        ("free waffle:free", {"main": "free", "waffle": "waffle:free"}),
        ("name+describe name", {"main": "name+describe", "name": "name"}),
        ("name photo neighborhood few-shot", {"main": "neighborhood", "name": "photo", "few-shot": "few-shot"}),
        ("name photo neighborhood:name few-shot", {"main": "neighborhood:name", "name": "name"}),
        (
            "photo neighborhood neighborhood-free neighborhood-own-3 neighborhood-random",
            {
                "main": "neighborhood",
                "name": "photo",
                "neighborhood-random": "neighborhood-random",
                "neighborhood-free": "neighborhood-free",
            },
        ),
        ("name waffle", None),
        ("photo neighborhood-5 neighborhood-free few-shot", None),
    ],
)
def test_who_is_judged_and_by_what(specs, parts):
    assert cast(*specs.split()) == ([parts] if parts else [])


@pytest.mark.parametrize(
    ("specs", "base", "main"),
    [
        ("name describe waffle", "name", "describe"),
        ("waffle describe", "waffle", "describe"),
        ("waffle name", "waffle", "name"),
        ("waffle photo name", "name", "photo"),
        ("waffle", "waffle", "waffle"),
        ("name photo neighborhood few-shot", "name", "neighborhood"),
        ("photo describe neighborhood", "photo", "describe"),
    ],
)
def test_main_is_what_is_judged_and_a_control_only_where_there_is_nothing_else(specs, base, main):
    assert base_and_main(methods(*specs.split())) == (base, main)
    assert base_and_main(methods("photo", *curve(["neighborhood"], "1,all"))) == ("photo", "neighborhood")


def test_each_comparison_is_made_once_and_what_is_drawn_is_never_the_first():
    assert pairs(methods("name+describe", "photo", "waffle")) == [
        ("name+describe", "photo"), ("name+describe", "waffle"),
    ]  # fmt: skip
    assert pairs(methods("describe", "photo", "name+describe"))[-1] == ("name+describe", "photo")
    assert pairs(methods("waffle", "swapped")) == pairs(methods("describe")) == pairs(methods("few-shot-1")) == []
    two = pairs(methods("name", "describe", "waffle", sets=("a", "b")))
    assert {("describe@a", "describe@b"), ("describe@b", "name"), ("describe@b", "waffle@b")} <= {*two}
    assert len({*two}) == len(two)
    selected = pairs(methods("photo", "neighborhood", "neighborhood-5", "neighborhood-own", "neighborhood-free"))
    assert ("neighborhood-free", "photo") in selected and ("neighborhood", "neighborhood-5") in selected
    assert {a for a, _ in selected} == {"neighborhood", "neighborhood-free"}
    assert ("neighborhood-free", "photo") not in pairs(methods("photo", "describe", "neighborhood-free"))


@pytest.mark.parametrize(("name", "control", "of_descriptors", "of_selection"), RULES)
def test_every_rule(name, control, of_descriptors, of_selection):
    for main, waffle, code in (
        ("describe", "waffle", of_descriptors),
        ("neighborhood", "neighborhood-waffle", of_selection),
    ):
        rows = [differ(main, other, said) for other, said in (("photo", name), (waffle, control)) if said]
        assert judged("photo", main, waffle, rows=rows).code == code


def test_what_was_not_measured_is_not_claimed():
    assert judged("name", "photo").code == judged("name", "waffle").code == "no-descriptors"
    rows = [differ("describe", other, "better") for other in ("waffle", "templates")]
    assert judged("waffle", "describe", "templates", rows=rows).code == "no-baseline"
    photo = judged("photo", "describe", "waffle", rows=[differ("describe", "photo", "better"), rows[0]])
    assert photo.code == "meaning" and 'beat the name in "a photo of a ..." by 10.0 points' in photo.text


def test_the_sentence_has_n_intervals_and_p_and_more_where_more_was_measured():
    rows = [differ("describe", "name", "better"), differ("describe", "waffle", "same", 0.4)]
    text = (
        "Descriptors beat the name alone by 10.0 points (95 % CI 9.0 to 11.0, p<0.001, n=5000), but not random words "
        "(+0.0, 95 % CI -1.0 to 1.0, p=0.400): the gain is ensembling, not meaning."
    )
    assert judged("name", "describe", "waffle", rows=rows).text == text
    rows += [differ("describe", "templates", "worse", 0.001), differ("describe", "swapped", "better")]
    more = judged("name", "templates", "describe", "waffle", "swapped", "free", rows=rows, accuracy={"free": 0.384})
    assert more.text == (
        f"{text} An ensemble of name templates does better (-10.0, 95 % CI -11.0 to -9.0, p=0.001). "
        "Given to other classes than their own they lose their worth (+10.0, 95 % CI 9.0 to 11.0, p<0.001 for the "
        "right ones). Without the names they reach 38.4 % (chance: 50.0 %)."
    )


@pytest.mark.parametrize("name", [name for name in SENTENCES if name.startswith(("n", "f"))])
@pytest.mark.parametrize("said", [*DELTA])
def test_what_selection_is_set_against_besides_is_said(name, said):
    """Label-free selection is set against the caption itself."""
    rows = [differ("neighborhood", other, "better") for other in ("photo", "neighborhood-waffle")]
    base = judged("photo", "neighborhood", "neighborhood-waffle", rows=rows)
    pair = ("neighborhood-free", "photo") if name == "neighborhood-free" else ("neighborhood", name)
    wrong = [differ("neighborhood", "neighborhood-free", "same")] if name == "neighborhood-free" else []
    more = judged("photo", "neighborhood", "neighborhood-waffle", name, rows=[*rows, *wrong, differ(*pair, said)])
    sentence = SENTENCES[name][[*DELTA].index(said)]
    assert more.text.startswith(f"{base.text} {sentence} ({100 * DELTA[said]:+.1f},") and more.code == base.code


def test_a_verdict_for_each_set_and_each_selection_that_names_it():
    rows = []
    for of, said in (("a", "better"), ("b", "worse")):
        for main, control in (("describe", "waffle"), ("neighborhood", "neighborhood-waffle")):
            rows += [differ(f"{main}@{of}", "photo", said), differ(f"{main}@{of}", f"{control}@{of}", "better")]
    names = ("photo", "describe", "waffle", "neighborhood", "neighborhood-waffle")
    found = judged(*names, rows=rows, sets=("a", "b"))
    assert [verdict.code for verdict in found.sets.values()] == ["meaning", "harm"] and found.code == "meaning"
    assert [verdict.code for verdict in found.selection] == ["meaning", "harm"] and len(found.all) == 4
    starts = ("Descriptors of a beat the name", "Descriptors of b do harm", "Descriptors of a selected in the neigh")
    assert all(verdict.text.startswith(start) for verdict, start in zip(found.all, starts, strict=False))
    alone = judged("photo", "neighborhood", "neighborhood-waffle", rows=[differ("neighborhood", "photo", "worse")])
    assert alone.code == "harm" and alone.selection[0].text == alone.text and len(alone.all) == 1
