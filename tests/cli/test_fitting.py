import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlmdesc.records import Report
from vlmdesc.testing import COLOURS, FakeEncoder

ZOO = {
    "flamingo": ["pink feathers", "long pink legs"],
    "frog": ["green skin", "brown water"],
    "raven": ["black wings", "a black bill"],
    "goldfish": ["orange scales", "blue water"],
}
NEWT = "yellow newt"  # a class that no text tells of; its name fits its images a little
COLOUR = {"flamingo": "pink", "frog": "green", "raven": "black", "goldfish": "orange"}


@pytest.fixture
def fake(run):
    return lambda command, *arguments: run(command, *arguments, "--model", "fake")


@pytest.fixture
def classified(fake):
    return lambda *arguments, images="frog.png": fake("classify", images, *arguments)


def lines(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def scores(line):
    return {hit["class"]: hit["score"] for hit in line["ranked"]}


def picture(path, main, other, seed, little=""):
    """Mostly of one colour, with a patch of another, and a little of a third."""
    pixels = np.full((16, 16, 3), COLOURS[main], np.uint8)
    pixels[4:10, 4:10] = COLOURS[other]
    pixels[15, :8] = COLOURS[little or main]
    pixels[0, 0] = seed % 256, seed // 256, 0  # no two alike
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An image to classify, and labelled ones: many of the four classes, and two of a new one."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.json").write_text(json.dumps(ZOO))
    picture(tmp_path / "frog.png", "green", "purple", 9000)
    picture(tmp_path / "newt.png", "purple", "green", 9001, "yellow")
    for c, (name, colour) in enumerate(COLOUR.items()):
        for i in range(4):
            picture(tmp_path / "known" / name / f"{i}.png", colour, ("white", "red")[i % 2], 100 * c + i)
    for i in range(2):
        picture(tmp_path / "shots" / NEWT / f"{i}.png", "purple", "green", 8000 + i, "yellow")
    return tmp_path


DESCRIBED = ("--descriptors", "zoo.json")


# --reference


def test_a_reference_selects_and_says_what_was_chosen(home, classified):
    [line] = lines(classified(*DESCRIBED, "--reference", "known", "--json"))
    assert line["ranked"][0]["class"] == "frog" and line["because"][0]["descriptor"] == "green skin"
    against = line["against"]
    assert against["ahead"]["class"] == "frog" and against["class"] == line["ranked"][1]["class"]
    assert against["margin"] == pytest.approx(line["margin"], abs=1e-6)
    assert sum(d["contribution"] for d in against["descriptors"]) == pytest.approx(against["margin"], abs=1e-5)
    assert {d["class"] for d in against["descriptors"]} == {"frog", against["class"]}
    assert "a photo of a frog." in [d["descriptor"] for d in against["descriptors"]]
    table = classified(*DESCRIBED, "--reference", "known")
    assert "note: selection: " in table.stderr and "on 16 images of the reference" in table.stderr
    assert "by what it shows of frog" in table.stdout and "by what it lacks of" in table.stdout


def test_against_a_candidate_and_against_a_class_that_is_none(home, classified):
    """Of one image a class k is 3: no caption tells a colour, so goldfish, the last, is no candidate; what puts it
    behind the candidates is told as the rest.
    """
    for name in ZOO:
        (home / "one" / name).mkdir(parents=True)
        shutil.copy(home / "known" / name / "0.png", home / "one" / name)
    [line] = lines(classified(*DESCRIBED, "--reference", "one", "--json"))
    ranked = [hit["class"] for hit in line["ranked"]]
    second = line["against"]["class"]
    assert ranked[0] == "frog" and ranked[1] == second and ranked[3] == "goldfish"
    for asked, told in (("raven", "raven"), ("flamingo", "flamingo"), ("frog", second), ("goldfish", "goldfish")):
        [line] = lines(classified(*DESCRIBED, "--reference", "one", "--against", asked, "--json"))
        assert (line["against"]["ahead"]["class"], line["against"]["class"]) == ("frog", told)
        said = {part["descriptor"] for part in line["against"]["descriptors"]}
        assert ("(no candidate of this image)" in said) == (told == "goldfish")
        assert sum(part["contribution"] for part in line["against"]["descriptors"]) == pytest.approx(
            line["against"]["margin"], abs=1e-4
        )


def test_the_captions_are_worded_as_the_phrase_says(home, classified):
    [line] = lines(classified(*DESCRIBED, "--reference", "known", "--phrase", "name", "--json"))
    assert {"frog"} <= {d["descriptor"] for d in line["against"]["descriptors"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*DESCRIBED, "--reference", "farm"), "no image has a label of a class (farm)"),
        ((*DESCRIBED, "--reference", "knwon"), "did you mean 'known'"),
        ((*DESCRIBED, "--reference", "frog.png"), "no label column"),
        (("--classes", "frog,raven", "--reference", "known"), "no descriptors to pick from"),
        ((*DESCRIBED, "--reference", "known", "--against", "hen"), "no class 'hen'"),
        ((*DESCRIBED, "--shots", "shots", "--against", "hen"), "no class 'hen'; fix: classes: flamingo"),
        ((*DESCRIBED, "--shots", "nowhere"), "nowhere"),
        ((*DESCRIBED, "--shots", "empty"), "empty"),
        ((*DESCRIBED, "--shots", "flat"), "fix:"),
        ((*DESCRIBED, "--shots", "hollow"), "hollow"),
    ],
)
def test_a_wrong_call_is_told_before_the_model_is_loaded(home, monkeypatch, arguments, says, classified):
    monkeypatch.setattr("vlmdesc.cli.classify.open_encoder", lambda *_: pytest.fail("loaded"))
    picture(home / "farm" / "cow" / "0.png", "black", "white", 7000)
    (home / "empty").mkdir()
    (home / "hollow" / "newt").mkdir(parents=True)
    picture(home / "flat" / "newt.png", "purple", "white", 7001)
    result = classified(*arguments)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr, result.stderr
    assert result.stdout == "" and "Traceback" not in result.stderr and "this is a bug" not in result.stderr


@pytest.fixture
def cranes(home):
    """Two classes of one name, and photographs under that name."""
    picture(home / "cranes" / "crane" / "0.png", "red", "white", 7002)
    data = {"index_to_classname": {"1": "crane", "2": "crane"}, "index_to_descriptions": {"1": ["red"], "2": ["blue"]}}
    (home / "cranes.json").write_text(json.dumps(data))
    return ("--descriptors", "cranes.json", "--shots", "cranes")


def test_photographs_of_a_name_that_two_classes_have_are_refused_early(cranes, monkeypatch, classified):
    monkeypatch.setattr("vlmdesc.cli.classify.open_encoder", lambda *_: pytest.fail("loaded"))
    result = classified(*cranes)
    assert result.exit_code == 2 and "1 label of several classes" in result.stderr and "ids 1, 2" in result.stderr


def test_labels_of_other_classes_are_passed_over_and_classes_may_be_absent(home, classified):
    picture(home / "known" / "unicorn" / "0.png", "white", "pink", 5000)
    shutil.rmtree(home / "known" / "raven")
    result = classified(*DESCRIBED, "--reference", "known", "--json")
    assert lines(result)[0]["ranked"][0]["class"] == "frog"
    assert "12 images of the reference" in result.stderr and "1 class without any: raven" in result.stderr


# --shots


def test_photographs_add_a_class_and_leave_the_scores_of_the_others(home, classified):
    before = lines(classified(*DESCRIBED, "--json", images="*.png"))
    result = classified(*DESCRIBED, "--shots", "shots", "--json", images="*.png")
    after = lines(result)
    assert [line["ranked"][0]["class"] for line in after] == ["frog", NEWT]
    for old, new in zip(before, after, strict=True):
        assert {name: score for name, score in scores(new).items() if name != NEWT} == scores(old)
    assert f"learned from 2 photographs: {NEWT} (new) from 2" in result.stderr
    assert "against" not in after[0]
    [line] = lines(classified(*DESCRIBED, "--shots", "shots", "--against", NEWT, "--json"))
    assert line["against"]["class"] == NEWT
    assert "(its photographs)" in [d["descriptor"] for d in line["against"]["descriptors"]]
    assert "(its photographs)" in [reason["descriptor"] for reason in after[1]["because"]]


def test_photographs_of_a_known_class_count_for_it_alone(home, classified):
    (home / "shots" / NEWT).rename(home / "shots" / "raven")
    [before], [after] = (lines(classified(*DESCRIBED, *more, "--json")) for more in ((), ("--shots", "shots")))
    changed = {name for name, score in scores(after).items() if score != scores(before)[name]}
    assert changed == {"raven"}
    result = classified(*DESCRIBED, "--shots", "shots", "--against", "raven", "--json")
    assert "learned from 2 photographs: raven from 2\n" in result.stderr
    against = lines(result)[0]["against"]
    assert sum(d["contribution"] for d in against["descriptors"]) == pytest.approx(against["margin"], abs=1e-5)
    assert "(its photographs)" in [d["descriptor"] for d in against["descriptors"]]


def test_beside_photographs_a_reference_teaches_the_others_and_nothing_is_selected(home, classified):
    result = classified(*DESCRIBED, "--shots", "shots", "--reference", "known", "--json")
    [line], [alone], [plain] = (lines(found) for found in (
        result, classified(*DESCRIBED, "--shots", "shots", "--json"), classified(*DESCRIBED, "--json")
    ))  # fmt: skip
    assert line["ranked"][0]["class"] == "frog" and "against" not in line
    assert "selection:" not in result.stderr and f"learned from 2 photographs: {NEWT} (new) from 2" in result.stderr
    assert scores(line)["frog"] > scores(alone)["frog"] == scores(plain)["frog"]  # it has photographs now
    assert scores(line)[NEWT] > 0


def test_classes_without_descriptors_can_learn(home, fake):
    [line] = lines(fake("classify", "newt.png", "--classes", "frog,raven", "--shots", "shots", "--json"))
    assert line["ranked"][0]["class"] == NEWT and len(line["ranked"]) == 3


def test_a_new_class_without_a_photograph_that_can_be_used_does_not_compete(home, classified):
    (home / "shots" / "axolotl").mkdir()
    (home / "shots" / "axolotl" / "page.png").write_text("<!doctype html>")
    result = classified(*DESCRIBED, "--shots", "shots", "--json", "--top-k", 9)
    [line] = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 1 and "left out, no photograph can be used: axolotl" in result.stderr
    assert "page.png" in result.stderr
    assert [hit["class"] for hit in line["ranked"] if hit["class"] not in ZOO] == [NEWT]
    assert f"learned from 2 photographs: {NEWT} (new) from 2" in result.stderr


def test_pictures_of_a_new_class_in_the_reference_stay_its_own(home, classified):
    """Axolotl has no photograph that can be used and comes before newt; newt and owl have theirs in the reference."""
    for name in ("axolotl", "owl"):
        (home / "shots" / name).mkdir()
        (home / "shots" / name / "page.png").write_text("<!doctype html>")
    shutil.copytree(home / "shots" / NEWT, home / "known" / "owl")
    picture(home / "known" / NEWT / "9.png", "purple", "green", 9000, "yellow")
    picture(home / "known" / "owl" / "9.png", "white", "white", 9001, "white")
    picture(home / "owl.png", "white", "white", 9002, "white")
    given = (*DESCRIBED, "--shots", "shots", "--reference", "known", "--json", "--top-k", 9)
    result = classified(*given, images="owl.png")
    [line] = map(json.loads, result.stdout.splitlines())
    assert "left out, no photograph can be used: axolotl" in result.stderr
    assert f"{NEWT} (new) from 2" in result.stderr and line["ranked"][0]["class"] == "owl"


def test_a_photograph_that_is_in_the_reference_too_teaches_once(home, classified):
    alone = classified(*DESCRIBED, "--shots", "shots", "--reference", "known", "--json", "--top-k", 9)
    (home / "shots" / "frog").mkdir()
    for photo in (home / "known" / "frog").iterdir():
        shutil.copy(photo, home / "shots" / "frog")
    result = classified(*DESCRIBED, "--shots", "shots", "--reference", "known", "--json", "--top-k", 9)
    assert "4 images of the reference left out: among the photographs too" in result.stderr
    [once], [twice] = lines(alone), lines(result)
    assert scores(twice) == pytest.approx(scores(once), abs=1e-5)


def test_the_split_of_a_reference_is_named(home, classified):
    (home / "split").mkdir()
    (home / "known").rename(home / "split" / "train")
    (home / "split" / "test").mkdir()
    result = classified(*DESCRIBED, "--reference", "split")
    assert result.exit_code == 2 and "--reference-split" in result.stderr
    result = classified(*DESCRIBED, "--reference", "split", "--reference-split", "train")
    assert result.exit_code == 0 and "on 16 images of the reference" in result.stderr
    result = classified(*DESCRIBED, "--reference-split", "train")
    assert result.exit_code == 2 and "--reference-split without --reference" in result.stderr


@pytest.mark.parametrize("option", ["--shots", "--reference"])
def test_unreadable_photographs_alone_are_refused(home, option, classified):
    folder = home / "bad" / "frog"
    folder.mkdir(parents=True)
    (folder / "page.png").write_text("<!doctype html>")
    (folder / "empty.png").touch()
    result = classified(*DESCRIBED, option, "bad")
    assert result.exit_code == 2 and result.stdout == "" and "Traceback" not in result.stderr
    assert "none of 2 images can be used" in result.stderr and "fix:" in result.stderr


def test_hostile_folder_names_are_shown_as_escapes_or_refused(home, classified):
    hostile = "newt \u202e[bold]"
    (home / "shots" / NEWT).rename(home / "shots" / hostile)
    result = classified(*DESCRIBED, "--shots", "shots", images="newt.png")
    assert result.exit_code == 0 and "\u202e" not in result.stdout + result.stderr
    assert r"newt \u202e[bold]" in result.stdout and r"newt \u202e[bold] (new) from 2" in result.stderr
    (home / "shots" / hostile).rename(home / "shots" / "newt\x1b[31m")
    result = classified(*DESCRIBED, "--shots", "shots", images="newt.png")
    assert result.exit_code == 2 and "U+001B" in result.stderr and "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "more", [("--reference", "known"), ("--shots", "shots"), ("--reference", "known", "--shots", "shots")]
)
def test_no_store_leaves_the_cache_untouched_and_the_store_spares_a_second_run(home, monkeypatch, more, classified):
    first = classified(*DESCRIBED, *more, "--json", "--no-store")
    assert lines(first) and not (home / "cache").exists()
    assert classified(*DESCRIBED, *more, "--json").stdout == first.stdout and (home / "cache").exists()
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    monkeypatch.setattr(FakeEncoder, "texts", lambda *_: pytest.fail("encoded"))
    assert classified(*DESCRIBED, *more, "--json").stdout == first.stdout


@pytest.fixture
def real(monkeypatch, starter):
    """The real model, loaded once."""
    monkeypatch.setattr("vlmdesc.cli.classify.open_encoder", lambda *_: starter)


@pytest.mark.slow
@pytest.mark.usefixtures("real")
def test_a_real_reference_selects(home, photos, fake):
    """What two cuts of each photograph taught tells the whole ones, with reasons that add up."""
    for name in ("cat", "rocket", "flower"):
        for i, box in enumerate(((0, 0, 300, 280), (40, 30, 330, 290))):
            path = home / "cuts" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.open(photos[name]).convert("RGB").resize((340, 300)).crop(box).save(path)
    told = {"cat": ["whiskers", "pointed ears"], "rocket": ["a plume of smoke", "a launch tower"], "flower": ["petals"]}
    (home / "told.json").write_text(json.dumps(told))
    pictures = [photos[name] for name in told]
    result = fake("classify", *pictures, "--descriptors", "told.json", "--reference", "cuts", "--json")
    for name, line in zip(told, lines(result), strict=True):
        assert line["ranked"][0]["class"] == name
        total = sum(d["contribution"] for d in line["against"]["descriptors"])
        assert total == pytest.approx(line["margin"], abs=1e-4)


# eval


@pytest.fixture
def evaluated(fake):
    options = (*DESCRIBED, "--seeds", 2, "--resamples", 100, "--out", "out")
    return lambda *arguments: fake("eval", "known", *options, *arguments)


@pytest.fixture
def others(home):
    for c, (name, colour) in enumerate(COLOUR.items()):
        for i in range(3):
            picture(home / "others" / name / f"{i}.png", colour, ("white", "red")[i % 2], 2000 + 100 * c + i)
    return "others"


def test_a_learning_curve(others, evaluated):
    result = evaluated("--methods", "photo,few-shot", "--per-class", "1,all", "--reference", others, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and list(found["methods"]) == ["photo", "few-shot-1", "few-shot"]
    pictures = {name: record["learned"]["pictures"] for name, record in found["methods"].items() if "learned" in record}
    assert pictures == {"few-shot-1": 4, "few-shot": 12}
    assert found["methods"]["few-shot-1"]["seeds"]["seed"] == [0, 1]
    assert json.loads(Report.load("out/results.json").to_json())["methods"] == found["methods"]
    assert "weight" in Path("out/report.html").read_text()
    result = evaluated("--methods", "photo,few-shot", "--per-class", "1", "--reference", others, "--json")
    assert list(json.loads(result.stdout)["methods"]) == ["photo", "few-shot-1", "few-shot"]
    result = evaluated("--methods", "photo,few-shot", "--per-class", "3,4", "--reference", others, "--json")
    told = "few-shot-4 learns from all of the reference: no class has more than 3 images"
    assert [said for said in json.loads(result.stdout)["task"]["caveats"] if "few-shot" in said] == [told]


def test_a_reference_picture_under_two_labels_is_told(home, others, evaluated):
    (home / others / "frog" / "twin.png").write_bytes((home / others / "raven" / "0.png").read_bytes())
    result = evaluated("--methods", "photo,few-shot", "--reference", others, "--json")
    caveats = json.loads(result.stdout)["task"]["caveats"]
    assert any(said.startswith("1 image of the reference under a second label") for said in caveats)


def test_without_a_reference_what_learns_from_one_is_refused(home, evaluated):
    result = evaluated("--methods", "photo,few-shot,neighborhood-free", "--per-class", "1,all")
    assert result.exit_code == 2 and "'few-shot-1' learns from labelled images" in result.stderr
    result = evaluated("--methods", "photo,neighborhood-free", "--json")
    assert result.exit_code == 0 and list(json.loads(result.stdout)["methods"]) == ["photo", "neighborhood-free"]


def test_what_is_wrong_with_a_reference_is_said_and_kept(home, others, evaluated):
    (Path(others) / "hen").mkdir()
    for name in ("frog", "hen"):
        (Path(others) / name / "broken.png").write_text("no image")
    result = evaluated("--methods", "photo,few-shot", "--reference", others, "--json")
    found = json.loads(result.stdout)["task"]["caveats"]
    assert any(
        "1 image of the reference could not be used; the first: " in said and "broken.png" in said for said in found
    )
    assert any("passed over, whose labels are no class: hen" in said for said in found)
    assert all(said in result.stderr for said in found)


def test_a_folder_that_reads_like_a_class_and_is_none_is_refused(home, classified):
    (home / "shots" / NEWT).rename(home / "shots" / "Raven")
    result = classified(*DESCRIBED, "--shots", "shots")
    assert result.exit_code == 2 and "'Raven' is no class, but reads like 'raven'" in result.stderr


def test_what_was_learned_is_printed(others, monkeypatch, evaluated):
    monkeypatch.setenv("COLUMNS", "200")
    result = evaluated("--methods", "photo,neighborhood,neighborhood-free,few-shot", "--reference", others)
    told = {line.partition(": ")[0]: line for line in result.stdout.splitlines() if ": " in line}
    assert result.exit_code == 0 and "on 12 images of the reference" in told["neighborhood"]
    assert "no labels" in told["neighborhood-free"] and "reference" not in told["neighborhood-free"]
    assert "prototypes of 12 images of the reference" in told["few-shot"]
    assert result.stdout.count("verdict (") == 1 and "selected in the neighbourhood" in result.stdout


def test_pictures_that_are_measured_on_teach_nothing(others, home, evaluated):
    shutil.copytree(home / "known", home / "both")
    shutil.copytree(
        home / others, home / "both", dirs_exist_ok=True, copy_function=lambda a, b: shutil.copy(a, b[:-4] + "x.png")
    )
    result = evaluated("--methods", "photo,few-shot", "--reference", "both", "--json")
    assert json.loads(result.stdout)["methods"]["few-shot"]["learned"]["pictures"] == 12
    assert "16 images of the reference left out: evaluated on" in result.stderr


@pytest.mark.parametrize(
    ("methods", "per_class", "says"),
    [
        ("few-shot", "0", "'0' is not a list of numbers (--per-class)"),
        ("few-shot", "1,,5", "is not a list of numbers"),
        ("few-shot", "one", "is not a list of numbers"),
        ("few-shot", "-1", "is not a list of numbers"),
        ("photo,describe", "1", "no method that learns from reference images (--per-class)"),
        ("", "1,all", "no method that learns from reference images (--per-class)"),
        ("few-shto", "1", "did you mean 'few-shot'"),
    ],
)
def test_a_curve_that_is_none_is_refused(others, methods, per_class, says, evaluated):
    chosen = ("--methods", methods) if methods else ()
    result = evaluated(*chosen, "--per-class", per_class, "--reference", others)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr, result.stderr
    assert not Path("out").exists()


def test_a_learning_curve_of_a_task(others, home, fake):
    (home / "task.toml").write_text(
        'data = "known"\ndescriptors = ["zoo.json"]\nreference = "others"\nmethods = ["photo", "few-shot"]\n'
    )
    result = fake("eval", "task.toml", "--per-class", "1,all", "--json")
    assert result.exit_code == 0, result.stderr
    assert list(json.loads(result.stdout)["methods"]) == ["photo", "few-shot-1", "few-shot"]


# Heads that are kept


@pytest.fixture
def fitted(fake):
    return lambda *arguments, out="zoo.head": fake("fit", "known", *DESCRIBED, "--out", out, *arguments)


@pytest.mark.parametrize("kind", ["prototypes", "neighborhood"])
def test_a_head_that_is_kept_decides_as_the_one_that_was_fitted(home, kind, fake, classified, fitted):
    found = fitted("--kind", kind, "--json")
    card = json.loads(found.stdout)
    assert found.exit_code == 0 and card["kind"] == kind and card["fitted_on"]["images"] == 16
    assert card["model"] == "fake" and [c["name"] for c in card["classes"]] == [*ZOO]
    assert "next: vlmdesc classify PICTURES --head zoo.head" in found.stderr
    [by_head] = lines(fake("classify", "frog.png", "--head", "zoo.head", "--json"))
    option = "--reference" if kind == "neighborhood" else "--shots"
    [by_option] = lines(classified(*DESCRIBED, option, "known", "--json"))
    assert by_head["ranked"] == by_option["ranked"] and by_head["because"] == by_option["because"]
    shutil.move(home / "zoo.head", home / "moved")  # a folder that goes anywhere
    shutil.rmtree(home / "cache")
    [again] = lines(fake("classify", "frog.png", "--head", "moved", "--json"))
    assert again["ranked"] == by_head["ranked"]


def test_the_card_of_a_head_is_read_as_text_and_as_json(home, run, fitted):
    fitted("--kind", "neighborhood")
    shown = run("head", "show", "zoo.head")
    assert shown.exit_code == 0 and "neighborhood" in shown.stdout and "4 classes: flamingo, frog" in shown.stdout
    assert "16 images of known" in shown.stdout and "fake in fp32 (fake-1)" in shown.stdout
    as_json = json.loads(run("head", "show", "zoo.head", "--json").stdout)
    assert as_json["id"] in shown.stdout and as_json["learned"]["pictures"] == 16


def test_the_model_of_a_head_is_its_own(home, monkeypatch, run, fitted):
    fitted()
    monkeypatch.setenv("VLMDESC_MODEL", "starter")
    found = run("classify", "frog.png", "--head", "zoo.head", "--json")
    assert found.exit_code == 0 and json.loads(found.stdout)["model"] == "fake"


def test_what_a_head_answers_is_not_given_beside_it(home, fake, fitted):
    fitted()
    for more in (DESCRIBED, ("--phrase", "name"), ("--pool", "max"), ("--reference", "known"), ("--classes", "a,b"),
                 ("--label-column", "label"), ("--reference-split", "train")):  # fmt: skip
        refused = fake("classify", "frog.png", "--head", "zoo.head", *more)
        assert refused.exit_code == 2 and f"--head and {more[0]}" in refused.stderr
    for folder, says in (("nothing", "no head"), ("known", "no head")):
        refused = fake("classify", "frog.png", "--head", folder)
        assert refused.exit_code == 2 and says in refused.stderr


def test_a_damaged_head_is_named_and_so_is_one_of_another_model(home, fake, fitted):
    fitted()
    card = home / "zoo.head" / "head.json"
    values = json.loads(card.read_text())
    card.write_text(card.read_text().replace("flamingo", "flamingi"))
    refused = fake("classify", "frog.png", "--head", "zoo.head")
    assert refused.exit_code == 4 and "head.json" in refused.stderr and "make it again" in refused.stderr
    values["encoder"] = "other"
    card.write_text(json.dumps(signed(values)))
    refused = fake("classify", "frog.png", "--head", "zoo.head")
    assert refused.exit_code == 2 and "these are of fake (fake-1)" in refused.stderr


def test_a_head_that_asks_for_a_model_of_the_hub_gets_it_only_when_that_is_given(home, monkeypatch, run, fitted):
    fitted()
    by_head = ["classify", "frog.png", "--head", "zoo.head"]
    said = run(*by_head)
    assert "model: fake, as the head says" in said.stderr
    card = home / "zoo.head" / "head.json"
    card.write_text(json.dumps(signed(json.loads(card.read_text()) | {"model": "hf-hub:stranger/model"})))
    loaded = []
    monkeypatch.setattr("vlmdesc.cli.classify.open_encoder", lambda model, *_: loaded.append(model) or FakeEncoder())
    refused = run(*by_head)
    assert refused.exit_code == 2 and "--model hf-hub:stranger/model" in refused.stderr and not loaded
    for environment in ("", "hf-hub:stranger/model"):
        monkeypatch.setenv("VLMDESC_MODEL", environment)
        assert run(*by_head, "--model", "hf-hub:stranger/model").exit_code == 0
    assert loaded == ["hf-hub:stranger/model"] * 2


def test_settings_of_a_card_hide_nothing_and_are_shown_as_escapes(home, run, fitted):
    fitted()
    card = home / "zoo.head" / "head.json"
    odd = {"kind": "other", "temperature": "9", "\x1b[31mred": "\x1b[0m"}
    card.write_text(json.dumps(signed(json.loads(card.read_text()) | {"settings": odd})))
    shown = run("head", "show", "zoo.head")
    assert shown.exit_code == 0 and "\x1b" not in shown.stdout and "\\x1b[31mred" in shown.stdout
    found = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert found["kind"] == "prototypes" and found["temperature"] == "none"


def signed(values):
    from vlmdesc.cache import checksum

    values = {key: value for key, value in values.items() if key != "check"}
    return values | {"check": checksum(values)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--kind", "prototype"), "did you mean 'prototypes'"),
        (("--phrase", "dclp"), "did you mean 'dclip'"),
        (("--pool", "sum"), "unknown pooling"),
    ],
)
def test_what_cannot_be_fitted_is_told_before_anything_is_done(home, arguments, says, fitted):
    refused = fitted(*arguments)
    assert refused.exit_code == 2 and says in refused.stderr and not (home / "zoo.head").exists()


def test_nothing_that_is_there_is_lost(home, fitted):
    assert fitted(out="known").exit_code == 2 and (home / "known" / "frog" / "0.png").exists()
    assert fitted().exit_code == 0
    before = (home / "zoo.head" / "head.json").read_bytes()
    refused = fitted("--kind", "neighborhood")
    assert refused.exit_code == 2 and "there is a head" in refused.stderr
    assert (home / "zoo.head" / "head.json").read_bytes() == before
    assert fitted("--kind", "neighborhood", "--replace").exit_code == 0
    assert len(list((home / "zoo.head").glob("[!.]*"))) == 2


def test_a_picture_that_cannot_be_used_is_named_and_the_rest_teaches(home, fitted):
    (home / "known" / "frog" / "9.png").write_bytes(b"no image")
    found = fitted("--json")
    assert found.exit_code == 1 and "9.png" in found.stderr and json.loads(found.stdout)["fitted_on"]["images"] == 16


@pytest.mark.slow
def test_kill_9_at_any_call_leaves_the_old_head_or_the_new_one():
    """A slice of `python -m eval.killpoints --operation head`, which goes through all of them."""
    command = [sys.executable, "-m", "eval.killpoints", "--operation", "head", "--every", "4", "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout
    found = json.loads(said)
    assert found.pop("kill points") > 12 and found.pop("seconds")
    assert found == {"unreadable": 0, "mixed": 0, "stuck": 0, "other": 0, "left": 0}
