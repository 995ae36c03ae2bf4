import numpy as np
import pytest

from vlmdesc import Descriptors
from vlmdesc.classification.heads import HEADS
from vlmdesc.classification.score import POOLS
from vlmdesc.errors import InputError
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.methods import METHODS
from vlmdesc.evaluation.outcomes import outcome, scores_of
from vlmdesc.evaluation.specs import Wording, build, every, parse
from vlmdesc.testing import FakeEncoder, given_of, labelled

ZOO = Descriptors.of(
    {"flamingo": ["pink feathers", "long pink legs"], "frog": ["green skin"], "raven": ["black wings"]}
)


def made(*specs, sets=None, wording=None):
    return {m.name: m for m in build(specs, sets or {"zoo": ZOO}, wording or Wording())[0]}


def test_the_texts_of_each_method_are_what_they_say():
    methods = made("all")
    assert list(methods) == every(reference=False)
    prompts = {name: method.prompts(method.seeds[0]) for name, method in methods.items()}
    assert prompts["name"].texts == ("flamingo", "frog", "raven")
    assert prompts["photo"].texts[1] == "a photo of a frog."
    assert len(prompts["templates"].texts) == 3 * 80 and methods["templates"].pool == "renormalized"
    assert prompts["describe"].texts[0] == "flamingo, which has pink feathers"
    assert prompts["describe:dclip"].texts[2] == "frog, which has green skin"
    assert prompts["describe:waffleclip"].texts[2] == "A photo of a frog, which has green skin."
    assert prompts["free"].texts == ("pink feathers", "long pink legs", "green skin", "black wings")
    assert prompts["waffle"].texts[0].startswith("flamingo, which has ") and len(prompts["waffle"].texts) == 3 * 30
    assert methods["waffle"].seeds == tuple(range(7)) and methods["describe"].seeds == (None,)
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
    assert made("name:{c}.")["name:{c}."].prompts().texts[0] == "flamingo."


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
        ("templates/max", "has its own pooling"),
        ("free:dclip", "has its own wording"),
        ("name:a photo", 'needs one "{c}"'),
        ("", "unknown method"),
    ],
)
def test_unknown_methods_are_refused_with_the_closest(spec, says):
    with pytest.raises(InputError, match=says):
        parse(spec)


def test_every_base_can_be_parsed_and_is_explained():
    assert {parse(spec).base for spec in every(reference=True)} == set(METHODS)
    assert all(entry.about for entry in METHODS.values())


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
    assert methods["describe@short"].prompts().descriptors == ("pink", "green", "black")


def few(n=40):
    """Images of what the classes show, and some of something else."""
    fake = FakeEncoder()
    texts = [f"{colour} {i}" for i, colour in zip(range(n), ("pink", "green", "black", "red") * n, strict=False)]
    return labelled(fake.texts(texts), [min(i % 4, 2) for i in range(n)])


@pytest.mark.parametrize("spec", every(reference=True))
def test_every_method_fits_heads_of_a_kind_that_there_is(spec):
    images = few()
    [method], _ = build([spec], {"zoo": ZOO}, Wording(seeds=(0, 1)), reference=True)
    given = given_of(FakeEncoder(), ZOO, images, reference=images)
    fit = method.fit(given, method.seeds[0])
    assert {head.card.kind for head in fit.heads} <= {*POOLS, *HEADS} and fit.n_texts >= 3 and fit.form
    assert all(head.card.classes == ZOO.classes and head.card.encoder == "fake-1" for head in fit.heads)
    found = outcome(method, method.seeds[0], given, images, calibrate.folds(images.labels, images.contents, 0))
    assert found.ranked.shape == (40, 3) and (found.confidence > 0).all()
    assert bool(found.reasons.shape[1]) == (method.kind != "name") == bool(found.texts)
    other = outcome(method, 1, given, images, np.zeros(40, np.intp))
    assert other.fit.heads == () and other.learned is None  # of other seeds answers alone are kept


def test_a_mixture_has_a_head_for_each_fold_whose_weight_its_images_have_no_part_in():
    images = few()
    fold = calibrate.folds(images.labels, images.contents, 0)
    [method], _ = build(["name+describe"], {"zoo": ZOO}, Wording())
    given = given_of(FakeEncoder(), ZOO, images)
    fit = method.fit(given)
    assert len(fit.heads) == len(fit.weights) == 5
    scores = scores_of(fit.heads, images.vectors, fold)
    for i in range(40):
        assert np.array_equal(scores[i], fit.heads[fold[i]].scores(images.vectors)[i])
    changed = labelled(images.vectors, np.where(fold == 2, 0, images.labels).tolist())
    again = method.fit(given_of(FakeEncoder(), ZOO, changed, fold))
    assert again.weights[2] == fit.weights[2]
    assert len(method.fit(given_of(FakeEncoder(), ZOO, images, reference=images)).heads) == 1
