import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc import Descriptors, Plan
from vlmdesc.classification.heads import HEADS
from vlmdesc.classification.score import POOLS
from vlmdesc.errors import InputError
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.methods import METHODS, learners
from vlmdesc.evaluation.outcomes import outcome, scores_of
from vlmdesc.evaluation.specs import Spec, build, curve, every, parse
from vlmdesc.testing import FakeEncoder, given_of, label_vectors

ZOO = Descriptors.of(
    {"flamingo": ["pink feathers", "long pink legs"], "frog": ["green skin"], "raven": ["black wings"]}
)


ALL, ABOUT = every(reference=False), [name for name, entry in METHODS.items() if entry.learns]


def made(*specs, sets=None, plan=None, reference=False):
    return {m.name: m for m in build(specs, sets or {"zoo": ZOO}, plan or Plan(), reference)[0]}


def prompts(method):
    return method.entry.prompts(method, method.seeds[0])


def test_the_texts_of_each_method_are_what_they_say():
    methods = made("all")
    assert list(methods) == every(reference=False)
    found = {name: prompts(method) for name, method in methods.items()}
    assert found["name"].texts == ("flamingo", "frog", "raven")
    assert found["photo"].texts[1] == "a photo of a frog."
    assert len(found["templates"].texts) == 3 * 80 and methods["templates"].pool == "renormalized"
    assert found["describe"].texts[0] == "flamingo, which has pink feathers"
    assert found["describe:dclip"].texts[2] == "frog, which has green skin"
    assert found["describe:waffleclip"].texts[2] == "A photo of a frog, which has green skin."
    assert found["free"].texts == ("pink feathers", "long pink legs", "green skin", "black wings")
    assert found["waffle"].texts[0].startswith("flamingo, which has ") and len(found["waffle"].texts) == 3 * 30
    assert methods["waffle"].seeds == tuple(range(7)) and methods["describe"].seeds == (None,)
    assert {name for name, m in methods.items() if m.entry.kind == "control"} == {
        "waffle", "random", "shared", "swapped", "scrambled",
    }  # fmt: skip


def test_wording_and_pooling_are_those_of_the_spec_else_of_the_call():
    plan = Plan("dclip", "max", seeds=3)
    methods = made("describe", "describe:plain/mean", "waffle", "swapped:free", "free/max", plan=plan)
    assert [m.base for m in methods.values()] == ["describe", "describe", "waffle", "swapped", "free"]
    assert [(m.phrase, m.pool) for m in methods.values()] == [
        ("dclip", "max"), ("plain", "mean"), ("dclip", "max"), ("free", "max"), ("free", "max"),
    ]  # fmt: skip
    assert methods["waffle"].seeds == (0, 1, 2)
    assert prompts(made("name:{c}.")["name:{c}."]).texts[0] == "flamingo."


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
        ("few-shot-0", "no reference images.*use few-shot-1 or more"),
        ("neighborhood-free-5", "unknown method.*did you mean 'neighborhood-free'"),
        ("few-shot--1", "unknown method"),
        ("few-shot-1.5", "unknown method"),
        ("photo-5", "unknown method"),
        ("neighborhood-5/mean", "has its own pooling"),
        ("few-shot:name/mean", "has its own pooling"),
        ("few-shot:dclip", "few-shot reads names, no descriptors"),
        ("few-shot:name:a photo", 'needs one "{c}"'),
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
    methods, left_out = build(["describe", "free", "name+describe", "waffle"], {"half": half}, Plan())
    assert [m.name for m in methods] == ["describe", "waffle"]
    assert set(left_out) == {"free", "name+describe"} and "1 class without a descriptor" in left_out["free"]
    assert "raven" in left_out["free"]
    with pytest.raises(InputError, match="no method can be run"):
        build(["free"], {"half": half}, Plan())


def test_two_sets_have_two_of_each_method_that_reads_them():
    other = Descriptors.of({"flamingo": ["pink"], "frog": ["green"], "raven": ["black"]})
    methods = made("name", "describe", "waffle", sets={"zoo": ZOO, "short": other})
    assert list(methods) == ["name", "describe@zoo", "describe@short", "waffle@zoo", "waffle@short"]
    assert prompts(methods["describe@short"]).descriptors == ("pink", "green", "black")


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("neighborhood-5:name", Spec("neighborhood", "name", "", 5)),
        ("few-shot-1", Spec("few-shot", "", "", 1)),
        ("few-shot-2:name:a/b {c}", Spec("few-shot", "name:a/b {c}", "", 2)),
        ("neighborhood-waffle-12", Spec("neighborhood-waffle", "", "", 12)),
        ("neighborhood-own", Spec("neighborhood-own")),
        ("neighborhood-free:dclip", Spec("neighborhood-free", "dclip")),
    ],
)
def test_a_name_says_base_wording_and_images_a_class(spec, parts):
    assert parse(spec) == parts


def test_without_a_reference_what_needs_one_is_refused_and_all_does_not_ask_for_it():
    for spec in (*learners(), "few-shot-3"):
        with pytest.raises(InputError, match=f"'{spec}' learns from labelled images; fix: .* --reference"):
            made("photo", spec)
    assert [*made("all")] == ALL
    methods = made("all", plan=Plan(seeds=2), reference=True)
    assert [*methods] == [*ALL, *ABOUT]
    drawn = {name for name, m in methods.items() if m.seeds == (0, 1) and m.entry.learns}
    assert drawn == {"neighborhood-waffle", "neighborhood-random"}
    few = made("few-shot-3", "neighborhood-2:name", plan=Plan(seeds=2), reference=True).values()
    assert [(m.per_class, m.seeds, m.phrase) for m in few] == [
        (3, (0, 1), "name:a photo of a {c}."), (2, (0, 1), "name"),
    ]  # fmt: skip


def test_nothing_is_selected_where_nothing_is_described_but_prototypes_can_be_learned():
    bare = Descriptors.of({"frog": [], "raven": []})
    methods, left_out = build([*ABOUT], {"bare": bare}, Plan(), reference=True)
    assert [m.name for m in methods] == ["few-shot"]
    assert {*left_out} == {*ABOUT} - {"few-shot"} and "no descriptors" in left_out["neighborhood"]


@pytest.mark.parametrize(
    ("specs", "per_class", "expected"),
    [
        (("few-shot",), "1,5,all", ("few-shot-1", "few-shot-5", "few-shot")),
        (("photo", "neighborhood:name"), " 2 , all", ("photo", "neighborhood-2:name", "neighborhood:name")),
        (("neighborhood-free", "few-shot"), "3", ("neighborhood-free", "few-shot-3", "few-shot")),
        (("few-shot-4", "few-shot"), "1", ("few-shot-4", "few-shot-1", "few-shot")),
    ],
)
def test_a_learning_curve_has_each_learner_once_for_each_number(specs, per_class, expected):
    assert curve(specs, per_class) == expected
    whole = curve(("all",), "1,all,1")
    assert [spec for spec in whole if parse(spec).per_class is None] == [*ALL, *ABOUT]
    assert [spec for spec in whole if parse(spec).per_class == 1] == [f"{name}-1" for name in learners()]


@pytest.mark.parametrize(
    "per_class", ["0", "01", "1,,2", "a", "-1", "\N{ARABIC-INDIC DIGIT FIVE}", "9" * 5000 + "x", ""]
)
def test_what_is_not_a_list_of_numbers_is_refused(per_class):
    with pytest.raises(InputError, match="not a list of numbers"):
        curve(["few-shot"], per_class)
    with pytest.raises(InputError, match="no method that learns from reference images"):
        curve(("photo", "neighborhood-free"), "1,5")


def test_a_string_is_not_a_list_of_methods_and_small_numbers_are_refused():
    with pytest.raises(InputError, match="a list of methods is meant"):
        build("name", {"zoo": ZOO}, Plan())
    for odd in ({"seeds": 0}, {"resamples": 10}, {"seed": -1}):
        with pytest.raises(InputError, match="at least 1, 100 and 0"):
            Plan(**odd)


def given_with(labels):
    """What methods are fitted with, of images that can be told apart: image i is (i, i)."""
    known = label_vectors(np.repeat(np.arange(len(labels), dtype=np.float32), 2).reshape(-1, 2), labels)
    return given_of(FakeEncoder(), ZOO, known, reference=known)


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 6), st.integers(0, 2**32))
def test_of_each_class_so_many_are_drawn_or_all_it_has(labels, n, seed):
    images, drawn = given_with(labels).draw(n, seed)
    rows = images[:, 0].astype(int).tolist()
    assert rows == sorted({*rows}) and drawn.tolist() == [labels[i] for i in rows]
    assert [drawn.tolist().count(c) for c in range(3)] == [min(n, labels.count(c)) for c in range(3)]
    assert np.array_equal(given_with(labels).draw(n, seed)[0], images)


def test_another_seed_draws_others_and_none_all():
    found = given_with([0, 1] * 20)
    draws = {tuple(found.draw(3, seed)[0][:, 0].tolist()) for seed in range(10)}
    assert len(draws) > 5 and len({i for draw in draws for i in draw}) > 20  # of 40: not the first ones again
    assert np.array_equal(found.draw(None, 3)[0], found.reference.vectors)


def test_random_words_are_no_class_s_own():
    """A class without reference images has its caption alone, once as the name and once for what is not picked."""
    fake = FakeEncoder()
    images = fake.texts(["pink", "green", "black"])
    names = ["pink bird", "green frog", "black bird"]
    zoo = Descriptors.of({name: [f"{name} thing"] for name in names})
    [method] = made("neighborhood-waffle:name", sets={"zoo": zoo}, reference=True).values()
    known = given_of(fake, zoo, label_vectors(images, [0, 1, 2]), reference=label_vectors(images[:2], [0, 1]))
    [head] = method.entry.fit(method, known, 0).heads
    expected = (head.choice.name_weight + 1) * (images @ fake.texts(names).T)[:, 2]
    assert head.choice.k == 3 and head.scores(images)[:, 2] == pytest.approx(expected, abs=1e-4)


def few(n=40):
    """Images of what the classes show, and some of something else."""
    fake = FakeEncoder()
    texts = [f"{colour} {i}" for i, colour in zip(range(n), ("pink", "green", "black", "red") * n, strict=False)]
    return label_vectors(fake.texts(texts), [min(i % 4, 2) for i in range(n)])


@pytest.mark.parametrize("spec", every(reference=True))
def test_every_method_fits_heads_of_a_kind_that_there_is(spec):
    images = few()
    [method], _ = build([spec], {"zoo": ZOO}, Plan(seeds=2), reference=True)
    known = given_of(FakeEncoder(), ZOO, images, reference=images)
    fit = method.entry.fit(method, known, method.seeds[0])
    assert {head.card.kind for head in fit.heads} <= {*POOLS, *HEADS} and fit.n_texts >= 3 and fit.form
    assert all(head.card.classes == ZOO.classes and head.card.encoder == "fake-1" for head in fit.heads)
    found = outcome(method, method.seeds[0], known, images, calibrate.folds(images.labels, images.contents, 0))
    assert found.ranked.shape == (40, 3) and (found.confidence > 0).all()
    assert bool(found.reasons.shape[1]) == (method.entry.kind != "name") == bool(found.texts)
    other = outcome(method, 1, known, images, np.zeros(40, np.intp))
    assert other.fit.heads == () and other.learned is None  # of other seeds answers alone are kept


def test_a_mixture_has_a_head_for_each_fold_whose_weight_its_images_have_no_part_in():
    images = few()
    fold = calibrate.folds(images.labels, images.contents, 0)
    [method], _ = build(["name+describe"], {"zoo": ZOO}, Plan())
    known = given_of(FakeEncoder(), ZOO, images)
    fit = method.entry.fit(method, known, None)
    assert len(fit.heads) == len(fit.weights) == 5
    scores = scores_of(fit.heads, images.vectors, fold)
    for i in range(40):
        assert np.array_equal(scores[i], fit.heads[fold[i]].scores(images.vectors)[i])
    changed = label_vectors(images.vectors, np.where(fold == 2, 0, images.labels).tolist())
    again = method.entry.fit(method, given_of(FakeEncoder(), ZOO, changed, fold), None)
    assert again.weights[2] == fit.weights[2]
    assert len(method.entry.fit(method, given_of(FakeEncoder(), ZOO, images, reference=images), None).heads) == 1
