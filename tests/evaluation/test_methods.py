import numpy as np
import pytest

from vlmdesc import Descriptors
from vlmdesc.errors import InputError
from vlmdesc.evaluation.methods import Wording, build, encoded
from vlmdesc.evaluation.specs import ABOUT, ALL, TAUGHT, parse
from vlmdesc.testing import FakeEncoder

ZOO = Descriptors.of(
    {"flamingo": ["pink feathers", "long pink legs"], "frog": ["green skin"], "raven": ["black wings"]}
)


def made(*specs, sets=None, wording=None):
    return {m.name: m for m in build(specs, sets or {"zoo": ZOO}, wording or Wording())[0]}


def test_the_texts_of_each_method_are_what_they_say():
    methods = made("all")
    assert list(methods) == list(ALL)
    sheets = {name: method.sheet(method.seeds[0]) for name, method in methods.items()}
    assert sheets["name"].texts == ["flamingo", "frog", "raven"]
    assert sheets["photo"].texts[1] == "a photo of a frog."
    assert len(sheets["templates"].texts) == 3 * 80 and methods["templates"].pool == "renormalized"
    assert sheets["describe"].texts[0] == "flamingo, which has pink feathers"
    assert sheets["describe:dclip"].texts[2] == "frog, which has green skin"
    assert sheets["describe:waffleclip"].texts[2] == "A photo of a frog, which has green skin."
    assert sheets["free"].texts == ["pink feathers", "long pink legs", "green skin", "black wings"]
    assert sheets["waffle"].texts[0].startswith("flamingo, which has ") and len(sheets["waffle"].texts) == 3 * 30
    assert methods["waffle"].seeds == tuple(range(7)) and methods["describe"].seeds == (None,)
    assert methods["name+describe"].name_sheet.texts == sheets["photo"].texts
    assert {name for name, m in methods.items() if m.kind == "control"} == {
        "waffle",
        "random",
        "shared",
        "swapped",
        "scrambled",
    }


def test_wording_and_pooling_are_those_of_the_spec_else_of_the_call():
    wording = Wording("dclip", "max", (3,))
    methods = made("describe", "describe:plain/mean", "waffle", "swapped:free", "free/max", wording=wording)
    assert [m.base for m in methods.values()] == ["describe", "describe", "waffle", "swapped", "free"]
    assert [(m.phrase, m.pool) for m in methods.values()] == [
        ("dclip", "max"), ("plain", "mean"), ("dclip", "max"), ("free", "max"), ("free", "max"),
    ]  # fmt: skip
    assert methods["waffle"].seeds == (3,)
    assert made("name:{c}.")["name:{c}."].sheet(None).texts[0] == "flamingo."


def test_a_control_is_worded_as_the_first_describe_is():
    methods = made("waffle", "describe:dclip/max", "describe", "swapped/mean", "name+describe")
    assert (methods["waffle"].phrase, methods["waffle"].pool) == ("dclip", "max")
    assert (methods["swapped/mean"].phrase, methods["swapped/mean"].pool) == ("dclip", "mean")
    assert methods["describe"].phrase == "plain" and methods["name+describe"].phrase == "free"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("descibe", "did you mean 'describe'"),
        ("describe:dlcip", "did you mean 'dclip'"),
        ("describe/maen", "did you mean 'mean'"),
        ("photo:dclip", "has its own wording"),
        ("templates/max", "has its own wording"),
        ("free:dclip", "has its own wording"),
        ("name:a photo", 'needs one "{c}"'),
        ("", "unknown method"),
    ],
)
def test_unknown_methods_are_refused_with_the_closest(spec, says):
    with pytest.raises(InputError, match=says):
        parse(spec)


def test_every_base_can_be_parsed_and_is_explained():
    assert {parse(spec).base for spec in (*ALL, *TAUGHT)} == set(ABOUT)


def test_what_a_set_cannot_serve_is_left_out_and_said():
    half = Descriptors.of({"frog": ["green skin"], "raven": []})
    methods, left_out = build(["describe", "free", "name+describe", "waffle"], {"half": half}, Wording())
    assert [m.name for m in methods] == ["describe", "waffle"]
    assert set(left_out) == {"free", "name+describe"} and "1 class without a descriptor" in left_out["free"]
    assert "raven" in left_out["free"]
    with pytest.raises(InputError, match="no method can be run"):
        build(["free"], {"half": half}, Wording())


def test_two_sets_have_two_of_each_method_that_reads_them():
    other = Descriptors.of({"flamingo": ["pink"], "frog": ["green"], "raven": ["black"]})
    methods = made("name", "describe", "waffle", sets={"zoo": ZOO, "short": other})
    assert list(methods) == ["name", "describe@zoo", "describe@short", "waffle@zoo", "waffle@short"]
    assert methods["describe@short"].sheet(None).said == ["pink", "green", "black"]


def test_a_run_keeps_columns_only_where_reasons_are_wanted():
    methods = made("name", "describe", "waffle", "name+describe")
    runs = {name: [encoded(m, seed, FakeEncoder(), None) for seed in m.seeds] for name, m in methods.items()}
    assert [run.columns is not None for run in runs["waffle"]] == [True] + [False] * 6
    assert runs["name"][0].columns is None and runs["describe"][0].columns is not None
    assert runs["describe"][0].form == "flamingo, which has pink feathers"
    images = FakeEncoder().texts(["pink", "green"])
    [mix] = runs["name+describe"]
    for w in (0.0, 0.3, 1.0):
        scores = mix.scores(images, np.full(2, w, np.float32))
        assert scores == pytest.approx(w * mix.name_score(images) + (1 - w) * mix.score(images), abs=1e-6)
