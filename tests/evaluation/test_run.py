"""Evaluations of methods that learn from images, and what the public function takes and gives."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vlmdesc as vd
from tests.evaluation.test_html import TAGS, Parsed
from vlmdesc.classification.heads.learned import sentence
from vlmdesc.classification.heads.pooled import fit_pooled
from vlmdesc.embeddings.labelled import Joining
from vlmdesc.errors import InputError, ModelError
from vlmdesc.evaluation.html import report_page
from vlmdesc.evaluation.methods import METHODS
from vlmdesc.testing import COLOURS, FakeEncoder

ZOO = vd.Descriptors.of(
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
ABOUT = {name: entry.about for name, entry in METHODS.items() if entry.learns}
NEIGHBORHOODS = tuple(name for name in ABOUT if name.startswith("neighborhood"))


def draw(path, main, other, seed):
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
            draw(folder / "test" / name / f"{i}.png", main, other, 100 * c + i)
            if name != "green frog":
                draw(folder / "known" / name / f"{i}.png", main, other, 1000 + 100 * c + i)
    return folder


def evaluate(farm, methods, descriptors=ZOO, seeds=2, joining=None, **options):
    plan = vd.Plan(seeds=seeds, joining=joining or Joining(), resamples=200)
    options = {"reference": farm / "known", "store": vd.Store(farm / "store")} | options
    return vd.evaluate(farm / "test", descriptors, FakeEncoder(), methods=methods, plan=plan, **options)


@pytest.fixture(scope="module")
def found(farm):
    methods = ("photo", *ABOUT, "neighborhood-2", "neighborhood-own-2", "few-shot-1", "few-shot-3")
    return evaluate(farm, methods, seeds=3).report


@pytest.fixture(scope="module")
def nameless(farm):
    """The same under names that show no colour, so that the first classes are the candidates of every image."""
    names = dict(zip(SHOWS, ("ara", "boar", "newt", "rook", "puma"), strict=True))
    rows = {new: [r.text for r in ZOO.rows if r.class_id == old] for old, new in names.items()}
    methods = ("photo", *NEIGHBORHOODS, "neighborhood-1", "neighborhood-own-1")
    return evaluate(farm, methods, rows, joining=Joining(names)).report


def learned(report):
    return {name: of.learned for name, of in report.methods.items() if of.learned is not None}


def test_every_fitted_method_says_what_it_learned_and_no_other(found):
    records = learned(found)
    assert set(records) == set(found.methods) - {"photo"} and found.left_out == {}
    assert {name: record["pictures"] for name, record in records.items() if record["labels"] == "reference"} == {
        **dict.fromkeys(("neighborhood", "neighborhood-own", "neighborhood-waffle", "neighborhood-random"), 48),
        **{"few-shot": 48, "neighborhood-2": 8, "neighborhood-own-2": 8, "few-shot-1": 4, "few-shot-3": 12},
    }
    without = {name: record["classes_without"] for name, record in records.items() if "classes_without" in record}
    assert without["few-shot"] == without["neighborhood"] == ["green frog"]
    assert without["neighborhood-own"] == []  # it needs none
    assert {name for name, r in records.items() if "k" in r and r["fallback"] is None} == {
        "neighborhood-own",
        "neighborhood-own-2",
        "neighborhood-random",
    }  # fmt: skip - only what selects can fall back
    assert 0 < records["neighborhood"]["fallback"] < 1  # no image taught what a green frog looks like


def test_where_captions_say_nothing_the_first_three_of_five_classes_are_the_ceiling(nameless):
    records = learned(nameless)
    for name in ("neighborhood-free", "neighborhood-1", "neighborhood-own-1"):  # none chooses its k
        assert records[name]["k"] == 3 and records[name]["ceiling"] == 0.6
        assert nameless.methods[name].top1 <= 0.6
    assert (records["neighborhood"]["k"], records["neighborhood"]["ceiling"]) == (5, 1)


def test_the_ceiling_is_the_share_of_images_whose_class_is_a_candidate(found, farm):
    """By hand: a caption is as similar as its colour is frequent; of equals the earlier class."""
    record, fake = learned(found)["neighborhood-free"], FakeEncoder()
    captions, hits = fake.texts([f"a photo of a {name}." for name in SHOWS]), []
    for c, name in enumerate(SHOWS):
        for file in sorted((farm / "test" / name).iterdir()):
            scores = captions @ fake.images([Image.open(file)])[0]
            hits.append(c in np.argsort(-scores, kind="stable")[: record["k"]])
    assert record["ceiling"] == pytest.approx(np.mean(hits), abs=1e-6)


def test_what_learns_without_labels_says_so_and_nothing_else_does(found):
    record = learned(found)["neighborhood-free"]
    assert record["labels"] == "none" and not {"left_out", "left_out_by_name", "classes_without"} & set(record)
    assert "no labels" in sentence(record) and "reference" not in sentence(record)
    for name, other in learned(found).items():
        if name != "neighborhood-free":
            assert other["labels"] == "reference" and "no labels" not in sentence(other)
    html, sentences = report_page(found, {}), map(sentence, learned(found).values())
    everything = " ".join([html, found.to_json(), *sentences, *ABOUT.values()])
    assert not re.search("training.free", everything, re.IGNORECASE)
    assert "right when left out" in sentence(learned(found)["neighborhood"])
    bare = learned(found)["neighborhood"] | {"left_out": None}
    assert "too few to choose by: k and m as published" in sentence(bare)


def test_label_free_learning_is_blind_to_the_reference(farm, found):
    alone = evaluate(farm, ("photo", "neighborhood-free"), reference=None).report
    assert learned(alone)["neighborhood-free"] == learned(found)["neighborhood-free"]
    assert alone.methods["neighborhood-free"].top1 == found.methods["neighborhood-free"].top1


def test_what_is_drawn_has_a_figure_for_each_seed_and_is_never_first(found):
    several = {name for name, of in found.methods.items() if of.seeds}
    assert several == {
        "neighborhood-waffle", "neighborhood-random", "neighborhood-2", "neighborhood-own-2",
        "few-shot-1", "few-shot-3",
    }  # fmt: skip
    for name in several:
        of = found.methods[name]
        assert of.seeds.seed == (0, 1, 2) and of.top1 == pytest.approx(np.mean(of.seeds.top1), abs=1e-5)
    firsts = {row.a for row in found.comparisons}
    assert "neighborhood" in firsts and not firsts & several
    assert not any(found.methods[name].kind == "control" for name in firsts)


def test_selection_helps_here_and_is_set_against_its_parts(found):
    pairs = {(row.a, row.b) for row in found.comparisons}
    others = ("photo", "neighborhood-own", "neighborhood-waffle", "neighborhood-random", "few-shot")
    assert {("neighborhood", other) for other in others} <= pairs and ("neighborhood-free", "photo") in pairs
    assert (found.base, found.main) == ("photo", "neighborhood")
    assert found.methods["neighborhood"].top1 > found.methods["photo"].top1
    assert [v.text for v in found.verdict.selection] == [found.verdict.text]
    assert "selected in the neighbourhood" in found.verdict.text and "without labels" in found.verdict.text


def test_results_come_back_as_they_were_saved_and_the_page_tells_what_was_learned(found, tmp_path):
    found.save(tmp_path / "results.json")
    again = vd.Report.load(tmp_path / "results.json")
    assert again == found and again.to_json() == found.to_json() and report_page(again, {}) == report_page(found, {})
    parsed = Parsed(report_page(found, {}))
    assert {tag for tag, _ in parsed.tags} <= TAGS and not parsed.inside
    assert [sentence(r) for r in learned(found).values() if sentence(r) not in parsed.text] == []
    assert found.verdict.text in " ".join(parsed.text.split())


def test_an_evaluation_is_one_call_that_gives_a_report_notes_and_files(farm, tmp_path):
    half = {name: [r.text for r in ZOO.rows if r.class_id == name] for name in SHOWS} | {"green frog": []}
    stages = []
    found = vd.evaluate(
        str(farm / "test"), half, "fake", methods=["name", "describe", "free"], store=False,
        progress=lambda stage, done, total: stages.append((stage, done, total)),
    )  # fmt: skip
    assert [*found.report.methods] == ["name", "describe"] and found.to_dict()["schema"] == 1
    assert found.notes[0] in found.report.task.caveats and found.notes[-1].startswith("left out: free: ")
    assert ("images", 60, 60) in stages and ("methods", 2, 2) in stages
    assert repr(found) == f"Evaluation({found.report!r})" and len(repr(found)) < 100
    assert "<td>describe</td>" in found._repr_html_() and "<b>no-control</b>" in found._repr_html_()
    found.save(tmp_path / "new" / "out")
    assert {file.name for file in (tmp_path / "new" / "out").iterdir()} == {
        "results.json", "predictions.parquet", "report.html",
    }  # fmt: skip
    assert json.loads((tmp_path / "new" / "out" / "results.json").read_text()) == json.loads(found.report.to_json())
    same = vd.compare(found, tmp_path / "new" / "out")
    assert repr(same).startswith("<Comparison of ") and repr(same).endswith(" methods on 60 images>")
    assert same.n == 60 and all(row.delta == 0 and row.p_holm == 1 for row in same.methods)


def test_a_head_of_another_encoder_or_other_classes_is_refused(farm):
    head = fit_pooled(FakeEncoder(), ZOO, "plain", "mean")
    found = evaluate(farm, ["describe"], heads=[head, head], reference=None).report.methods
    assert [*found] == ["describe", "mean", "mean (head)"] and found["mean"].top1 == found["describe"].top1
    for change, error in ({"encoder": "another"}, ModelError), ({"classes": ZOO.classes[::-1]}, InputError):
        with pytest.raises(error, match="the head"):
            evaluate(farm, ["describe"], heads=[replace(head, card=replace(head.card, **change))])


def test_what_is_wrong_is_told_before_an_encoder_is_opened(farm):
    def never():
        raise AssertionError("opened")

    for wrong, says in (
        ({"methods": ["descibe"]}, "did you mean 'describe'"),
        ({"methods": ["few-shot"], "reference": None}, "learns from labelled images"),
        ({"descriptors": {"hen": ["red"]}}, "labels of no class"),
        ({"reference": farm / "nowhere"}, "nowhere"),
    ):
        options = {"descriptors": ZOO, "methods": ["name"], "reference": None} | wrong
        with pytest.raises(InputError, match=says):
            vd.evaluate(farm / "test", encoder=never, **options)


@pytest.mark.parametrize("name", ["tiny-imagenet", "imagenet-sample", "imagenet-sample-selection"])
def test_results_that_ship_are_read_and_written_byte_for_byte(name):
    path = Path(__file__).parents[2] / "eval" / "results" / f"{name}.json"
    report = vd.Report.load(path)
    assert report.to_json() == path.read_text() and report_page(report, {})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(schema=2), "not the results of an evaluation by this version"),
        (lambda d: d.pop("credit"), "missing required field `credit`"),
        (lambda d: d.update(more=1), "unknown field `more`"),
        (
            lambda d: d["methods"]["name"].update(top1="0.5"),
            r"Expected `float`, got `str` - at `\$.methods\[...\].top1`",
        ),
        (lambda d: d["comparisons"][0].pop("p"), r"missing required field `p` - at `\$.comparisons\[0\]`"),
        (lambda d: d["task"].update(n=True), "at `\\$.task.n`"),
    ],
)
def test_results_that_are_not_whole_are_refused_with_the_field(tmp_path, change, says):
    path = Path(__file__).parents[2] / "eval" / "results" / "imagenet-sample.json"
    data = json.loads(path.read_text())
    change(data)
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=says) as refused:
        vd.Report.load(tmp_path / "results.json")
    assert str(tmp_path) in str(refused.value.where)
