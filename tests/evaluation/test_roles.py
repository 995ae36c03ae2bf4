import pytest

from vlmdesc import Descriptors
from vlmdesc.evaluation.roles import drawn, pairs, roles, verdicts
from vlmdesc.evaluation.specs import Wording, build
from vlmdesc.evaluation.verdict import Difference

ZOO = Descriptors.of({"frog": ["green skin"], "raven": ["black wings"]})


def methods(*specs, sets=("zoo",)):
    return build(specs, dict.fromkeys(sets, ZOO), Wording())[0]


def cast(*specs, of="zoo"):
    return {role: method.name for role, method in roles(methods(*specs), of).items()}


@pytest.mark.parametrize(
    ("specs", "parts"),
    [
        ("name describe waffle", {"main": "describe", "name": "name", "waffle": "waffle"}),
        ("waffle describe", {"main": "describe", "waffle": "waffle"}),
        ("templates describe", {"main": "describe", "templates": "templates"}),
        ("photo free describe", {"main": "describe", "name": "photo", "free": "free"}),
        ("photo name describe", {"main": "describe", "name": "name"}),
        ("name:{c}. describe:dclip waffle", {"main": "describe:dclip", "name": "name:{c}.", "waffle": "waffle"}),
        ("describe:dclip waffle:plain", {"main": "describe:dclip"}),  # another wording is no control
        ("describe waffle/max swapped", {"main": "describe", "swapped": "swapped"}),
        ("describe:waffleclip waffle:waffleclip", {"main": "describe:waffleclip", "waffle": "waffle:waffleclip"}),
        ("free waffle", {"main": "free"}),
        ("free waffle:free", {"main": "free", "waffle": "waffle:free"}),
        ("name+describe name", {"main": "name+describe", "name": "name"}),
        ("name waffle", {}),
    ],
)
def test_who_plays_which_part(specs, parts):
    assert cast(*specs.split()) == parts


@pytest.mark.parametrize(
    ("specs", "pair"),
    [
        ("name describe waffle", ("name", "describe")),
        ("waffle describe", ("waffle", "describe")),
        ("waffle name", ("name", "name")),
        ("waffle photo name", ("photo", "photo")),
        ("waffle", ("waffle", "waffle")),
        ("describe", ("describe", "describe")),
    ],
)
def test_what_is_drawn_never_is_a_control_where_there_is_anything_else(specs, pair):
    found = methods(*specs.split())
    base, main = drawn(found)
    if specs in ("waffle name", "waffle photo name"):
        assert main == pair[1] and base != main
    else:
        assert (base, main) == pair


def test_each_comparison_is_made_once_and_a_control_is_never_the_first():
    found = pairs(methods("name+describe", "photo", "waffle"))
    assert found == [("name+describe", "photo"), ("name+describe", "waffle")]
    assert pairs(methods("waffle", "swapped")) == []
    assert pairs(methods("describe")) == []
    two = pairs(methods("name", "describe", "waffle", sets=("a", "b")))
    assert ("describe@a", "describe@b") in two and len(set(two)) == len(two)
    assert {("describe@b", "name"), ("describe@b", "waffle@b")} <= set(two)


def differ(a, b, delta):
    return Difference(a, b, delta, (delta - 0.01, delta + 0.01), 0.0001, 0.0001, 5_000)


def test_a_verdict_for_each_set_that_names_it():
    found = methods("name", "describe", "waffle", sets=("a", "b"))
    rows = [
        differ("describe@a", "name", 0.1), differ("describe@a", "waffle@a", 0.1),
        differ("describe@b", "name", -0.1), differ("describe@b", "waffle@b", 0.1),
    ]  # fmt: skip
    a, b = verdicts(found, rows, {}, 0.5).values()
    assert (a.code, b.code) == ("meaning", "harm")
    assert a.text.startswith("Descriptors of a beat the name alone") and b.text.startswith("Descriptors of b do harm")


def test_what_was_not_measured_is_not_claimed():
    def judged(*specs, rows=()):
        [verdict] = verdicts(methods(*specs), rows, {}, 0.5).values()
        return verdict

    assert judged("name", "photo").code == judged("name", "waffle").code == "no-descriptors"
    rows = [differ("describe", "waffle", 0.6), differ("describe", "templates", 0.6)]
    assert judged("waffle", "describe", rows=rows).code == "no-baseline"
    assert judged("templates", "describe", "waffle", rows=rows).code == "no-baseline"
    photo = judged("photo", "describe", "waffle", rows=[differ("describe", "photo", 0.1), rows[0]])
    assert photo.code == "meaning" and 'beat the name in "a photo of a ..." by 10.0 points' in photo.text
