import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vlmdesc as vd
from vlmdesc import Descriptors, save_head
from vlmdesc.classification.heads.pooled import fit_pooled
from vlmdesc.errors import InputError
from vlmdesc.testing import COLOURS, FakeEncoder

COLOUR = {"flamingo": "pink", "frog": "green", "raven": "black", "goldfish": "orange"}
BIASED = {
    "flamingo": ["pink feathers", "long pink legs"],
    "frog": ["green skin", "green legs"],
    "raven": ["black wings", "white snow all around"],  # what takes the flamingos in the snow away
    "goldfish": ["orange scales", "orange fins"],
}
FAIR = BIASED | {"raven": ["black wings", "a black bill"]}
SNOW = "white snow all around"
PLACES = {"snow": "white", "meadow": "brown"}
ESC, BIDI = "\x1b[31m", "\u202e"
HTML = "<script>alert(1)</script>"


@pytest.fixture
def audited(run):
    """`vlmdesc audit` of a table, and of a descriptor set."""

    def command(*arguments, data="table.csv", descriptors="biased.json"):
        return run("audit", data, "--descriptors", descriptors, "--model", "fake", *arguments)

    return command


@pytest.fixture
def by_place(audited):
    return partial(audited, "--group-column", "place")


def picture(path, main, around, seed, rows=5):
    """A few rows of a class's colour, and what is around it."""
    pixels = np.full((16, 16, 3), COLOURS[around], np.uint8)
    pixels[:rows] = COLOURS[main]
    pixels[0, 0] = seed % 256, seed // 256, 0  # no two alike
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photograph(n, *, table="table.csv", folder="photos", places=PLACES, small=("flamingo",), seed=0):
    """So many images of each class in each place, `small` classes mostly of what is around them; a table of all."""
    lines = ["image,label,place"]
    for c, name in enumerate(COLOUR):
        for p, (place, around) in enumerate(places.items()):
            for i in range(n):
                path = Path(folder, name, f"{place}-{i}.png")
                picture(path, COLOUR[name], around, seed + 1000 * c + 200 * p + i, 5 if name in small else 11)
                lines.append(f"{path},{name},{place}")
    Path(table).write_text("\n".join(lines) + "\n", encoding="utf-8")


def strict(text):
    def never(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=never)


def inert(page):
    """No element or attribute of a page does anything, and nothing is hidden or turned round."""
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.extend([tag, *(name for name, _ in attributes)])
    found = []
    parser.feed(page)
    return (
        "script" not in found
        and not any(name.startswith("on") for name in found)
        and not {*page} & {"\x1b", BIDI}
        and "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    )


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Twelve images of each class in the snow and twelve in the meadow; flamingos are small in theirs."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VLMDESC_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("biased.json").write_text(json.dumps(BIASED))
    Path("fair.json").write_text(json.dumps(FAIR))
    photograph(12)
    return tmp_path


def test_a_planted_bias_is_found_with_its_class_its_group_and_its_descriptor(home, by_place):
    result = by_place("--json")
    assert result.exit_code == 0, result.stderr
    found = strict(result.stdout)
    assert found == strict(Path("vlmdesc-audit/audit.json").read_text()) and found["schema"] == 1
    assert (found["n"], found["ungrouped"], found["worst_group"]) == (96, 0, "snow")
    assert found["accuracy"]["value"] == pytest.approx(84 / 96, abs=1e-6)
    worst = found["worst_class_in_group"]
    assert (worst["class"], worst["group"], worst["accuracy"]["value"]) == ("flamingo", "snow", 0)
    lost, crowded = found["failed"]
    assert (lost["class"], lost["group"], lost["how"]) == ("flamingo", "snow", "not found")
    assert (crowded["class"], crowded["group"], crowded["how"]) == ("raven", "snow", "others taken for it")
    assert found["failed_in_all"] == 2 and lost["tpr"]["gap"] == -1 and lost["tpr"]["p_holm"] < 0.001
    assert lost["taken_for"] == [{"class": "raven", "name": "raven", "n": 12}]
    [pull] = lost["pulls"]
    assert (pull["class"], pull["descriptor"], pull["net"]) == ("raven", SNOW, -12)
    assert pull["here"] < 0 < pull["ci95"][0] and pull["right_only_without"] == {"here": 12, "others": 0}
    assert {(i["truth"], i["answer"]) for i in lost["images"]} == {("flamingo", "raven")} and len(lost["images"]) == 8
    assert all("snow" in image["image"] for image in lost["images"])
    assert found["equal_opportunity"]["largest"] == 1
    assert found["equal_opportunity"]["classes"][0]["least"]["group"] == "snow"
    assert found["task"]["pool"] == "mean" and found["task"]["columns"]["group"] == "place"


def test_the_figures_are_what_counting_gives(home, by_place):
    """By hand: every image through the fake encoder, and the mean of its similarities to each class's texts."""
    found, fake = strict(by_place("--json").stdout), FakeEncoder()
    right = {}
    texts = {c: fake.texts([f"{c}, which has {d}" for d in list_]) for c, list_ in BIASED.items()}
    for line in Path("table.csv").read_text().splitlines()[1:]:
        path, label, place = line.split(",")
        image = fake.images([Image.open(path)])[0]
        answer = max(BIASED, key=lambda c: (texts[c] @ image).mean())
        right.setdefault((label, place), []).append(answer == label)
    for cell in found["cells"]:
        assert cell["tpr"]["value"] == np.mean(right[cell["class"], cell["group"]])
    for row in found["groups"]:
        share = np.mean([r for (_, place), list_ in right.items() if place == row["group"] for r in list_])
        assert row["value"] == pytest.approx(share, abs=1e-6) and row["ci95"][0] <= share <= row["ci95"][1]


def test_the_report_for_people_and_the_page(home, by_place):
    result = by_place()
    assert result.exit_code == 0
    assert "96 images in 2 groups, 87.5 (" in result.stdout and "worst: flamingo in snow, 0.0 (" in result.stdout
    assert "flamingo in snow: found 0.0 (" in result.stdout and "taken for raven 12" in result.stdout
    said = " ".join(result.stdout.split())
    assert re.search(rf"-12 images here, \+0 elsewhere, lead -0\.\d{{4}} here, .0\.00.. elsewhere raven: {SNOW}", said)
    assert "see photos/flamingo/snow-0.png" in said and max(map(len, result.stdout.splitlines())) <= 100
    assert "audit in vlmdesc-audit/audit.json and vlmdesc-audit/audit.html" in result.stderr
    page = Path("vlmdesc-audit/audit.html").read_text()
    assert "uneven" in page and SNOW in page and "data:image/jpeg;base64," in page and inert(page)
    assert sorted(path.name for path in Path("vlmdesc-audit").iterdir()) == ["audit.html", "audit.json"]


def test_no_bias_says_so_and_that_it_is_no_proof(home, by_place):
    result = by_place(descriptors="fair.json")
    assert result.exit_code == 0
    assert "no class fares worse in one group than in the others by more than chance" in result.stdout
    found = strict(Path("vlmdesc-audit/audit.json").read_text())
    assert found["failed"] == [] and found["accuracy"]["value"] == 1 and found["equal_opportunity"]["largest"] == 0
    page = Path("vlmdesc-audit/audit.html").read_text()
    assert "no difference found" in page and "no proof" in page


def test_groups_too_small_to_judge_are_named_and_not_judged(home, by_place):
    kept = [line for line in Path("table.csv").read_text().splitlines() if "frog/snow" not in line]
    Path("table.csv").write_text("\n".join([*kept, "photos/frog/snow-0.png,frog,snow", "photos/frog/snow-1.png,frog,"]))
    result = by_place("--json")
    found = strict(result.stdout)
    assert found["ungrouped"] == 1 and found["n"] == 85
    assert found["too_small"] == [{"class": "frog", "name": "frog", "group": "snow", "n": 1}]
    cell = next(cell for cell in found["cells"] if (cell["class"], cell["group"]) == ("frog", "snow"))
    assert cell["tpr"]["judged"] is False and "p" not in cell["tpr"] and cell["tpr"]["ci95"] != [1, 1]
    people = by_place().stdout
    assert "1 too small to judge, under 10 images: frog in snow (1)" in people
    assert "1 image without a group left out" in people


def test_class_looks_at_these_classes_only(home, by_place):
    found = strict(by_place("--class", "flamingo", "--class", "frog", "--json").stdout)
    assert {cell["class"] for cell in found["cells"]} == {"flamingo", "frog"} and found["n"] == 96
    assert [failure["class"] for failure in found["failed"]] == ["flamingo"]  # though raven is what it is taken for
    assert found["failed"][0]["taken_for"][0]["class"] == "raven"
    skews = {row["class"]: row for row in found["max_skew"]["classes"]}
    assert set(skews) == {"flamingo", "frog"} and skews["frog"]["k"] == 24


def test_k_is_how_many_pictures_the_skew_looks_at(home, by_place):
    found = strict(by_place("--k", 8, "--json").stdout)
    skews = {row["class"]: row for row in found["max_skew"]["classes"]}
    assert {row["k"] for row in skews.values()} == {8}
    assert skews["raven"]["group"] == "snow" and skews["raven"]["value"] == pytest.approx(np.log(2), abs=1e-6)
    assert by_place("--k", 0).exit_code == 2


def test_max_pooling_lists_no_descriptors_and_audits_all_the_same(home, by_place):
    result = by_place("--pool", "max", "--json")
    assert result.exit_code == 0, result.stderr
    found = strict(result.stdout)
    assert found["failed"][0]["class"] == "flamingo" and all(failure["pulls"] == [] for failure in found["failed"])
    assert by_place("--pool", "max").exit_code == 0
    assert "No descriptor does worse here" not in Path("vlmdesc-audit/audit.html").read_text()


def test_a_saved_head_is_audited_as_its_descriptors_are(home, run, by_place):
    save_head(fit_pooled(FakeEncoder(), Descriptors.load("biased.json")), "head")
    arguments = ("audit", "table.csv", "--head", "head", "--group-column", "place", "--json")
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    ours, theirs = strict(result.stdout), strict(by_place("--json").stdout)
    assert ours["task"].pop("descriptors") == "mean" and theirs["task"].pop("descriptors") == "biased.json"
    assert ours == theirs and ours["failed"][0]["pulls"][0]["descriptor"] == SNOW
    for more, says in ((("--pool", "max"), "--head with"), (("--descriptors", "fair.json"), "either --descriptors or")):
        result = run(*arguments, *more)
        assert result.exit_code == 2 and says in result.stderr


def test_the_library_says_what_the_command_says(home, by_place):
    data, encoder, said = vd.load_data("table.csv"), FakeEncoder(), []
    theirs = strict(by_place("--json").stdout)
    for given in (data, Path("table.csv"), vd.load_data("table.csv", group_column="place")):
        found = vd.audit(given, BIASED, encoder, group="place", progress=lambda *stage: said.append(stage))
        ours = found.to_dict()
        assert ours | {"task": 0} == theirs | {"task": 0} and ("images", 96, 96) in said
        assert ours["task"] | {"descriptors": 0} == theirs["task"] | {"descriptors": 0} and "96 images" in repr(found)
    images = found.seen.images
    again = vd.audit(images, BIASED, encoder)
    assert again.disparity == found.disparity and again.failures == found.failures
    again.save(home / "of-arrays")
    assert "No image of" in (home / "of-arrays/audit.html").read_text()
    with pytest.raises(InputError, match=r"no column 'palce'.*did you mean 'place'"):
        vd.audit(data, BIASED, encoder, group="palce")
    with pytest.raises(InputError, match="no groups"):
        vd.audit(data, BIASED, "no such model")  # told before a model is loaded
    with pytest.raises(InputError, match="made for other classes"):
        vd.audit(replace(images, classes=images.classes[::-1]), BIASED, encoder)


def test_copies_are_left_out_with_a_note(home, by_place):
    table = Path("table.csv")
    table.write_text(table.read_text() + table.read_text().splitlines()[1] + "\n")
    result = by_place("--json")
    assert "note: 1 copy of other images left out" in result.stderr and strict(result.stdout)["n"] == 96
    found = vd.audit("table.csv", BIASED, "fake", group="place")
    assert found.notes == ("1 copy of other images left out",)


def test_a_head_s_model_of_the_hub_is_fetched_only_where_it_is_named(home, run):
    head = fit_pooled(FakeEncoder(), Descriptors.load("biased.json"))
    save_head(replace(head, card=replace(head.card, model="hf-hub:stranger/model")), "head")
    result = run("audit", "table.csv", "--head", "head", "--group-column", "place")
    assert result.exit_code == 2 and "where you trust it, add --model hf-hub:stranger/model" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no groups; fix: give group (--group-column)"),
        (("--group-column", "place", "--group-by-concepts"), "both --group-column and --group-by-concepts"),
        (("--group-column", "palce"), "did you mean 'place'"),
        (("--group-column", "place", "--class", "flamigo"), "did you mean 'flamingo'"),
        (("--group-column", "place", "--phrase", "plian"), "did you mean 'plain'"),
        (("--group-column", "place", "--pool", "maen"), "did you mean 'mean'"),
        (("--group-column", "place", "--out", "biased.json"), "not a folder"),
        (("--group-column", "place", "--label-column", "lable"), "did you mean 'label'"),
        (("--group-column", "one"), "one group only: here"),
        (("--group-column", "none"), "no image has a group"),
        (("--group-by-concepts",), "errors among the half of the images that groups are made of"),
    ],
)
def test_wrong_calls_are_exit_2_with_what_to_do(home, arguments, says, audited):
    head, *lines = Path("table.csv").read_text().splitlines()
    Path("table.csv").write_text("\n".join([f"{head},one,none", *(f"{line},here," for line in lines)]))
    Path("words.txt").write_text("white\nbrown\nred\n")
    result = audited(*arguments, *(("--vocabulary", "words.txt") if "--group-by-concepts" in arguments else ()))
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""
    assert not Path("vlmdesc-audit/audit.json").exists()


def test_labels_that_do_not_fit_are_told_before_anything_is_encoded(home, monkeypatch, by_place):
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    Path("short.json").write_text(json.dumps({"frog": ["green"], "ravens": ["black"]}))
    result = by_place(descriptors="short.json")
    assert result.exit_code == 2 and "label 'raven' (24 rows): no class; closest: ravens" in result.stderr
    assert "did you mean 'mean'" in by_place("--pool", "maen").stderr


def test_broken_pictures_are_named_and_the_rest_is_audited(home, by_place):
    Path("photos/frog/snow-0.png").write_text("<!doctype html>")
    Path("photos/frog/snow-1.png").unlink()
    result = by_place("--json")
    assert result.exit_code == 1 and "snow-0.png" in result.stderr and "snow-1.png" in result.stderr
    assert "Traceback" not in result.stderr
    found = strict(result.stdout)
    assert found["n"] == 94 and found["failed"][0]["class"] == "flamingo"
    assert Path("vlmdesc-audit/audit.html").exists()
    listed = [json.loads(line) for line in Path("vlmdesc-audit/errors.jsonl").read_text().splitlines()]
    assert [(row["class"], row["stage"]) for row in listed] == [("frog", "read")] * 2
    assert listed[0]["code"] == "not-an-image"


def test_all_pictures_broken_is_exit_2_and_no_audit(home, by_place):
    for path in Path("photos").rglob("*.png"):
        path.write_text("<!doctype html>")
    result = by_place()
    assert result.exit_code == 2 and "none of 96 images can be used" in result.stderr
    assert not Path("vlmdesc-audit/audit.json").exists()


def test_a_second_audit_encodes_nothing_and_says_the_same(home, monkeypatch, by_place):
    first = by_place("--json").stdout
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    monkeypatch.setattr(FakeEncoder, "texts", lambda *_: pytest.fail("encoded"))
    assert by_place("--json").stdout == first


def test_groups_by_concepts_find_a_planted_context(home, audited):
    """Small frogs and flamingos are lost in snow and in mud; the groups of the one half have their names by these."""
    texts = FAIR | {"raven": ["black wings", "white snow"], "goldfish": ["orange scales", "brown mud"]}
    Path("context.json").write_text(json.dumps(texts))
    places = {"snow": "white", "mud": "brown", "night": "purple"}
    photograph(22, table="context.csv", folder="context", places=places, small=("flamingo", "frog"))
    Path("words.txt").write_text("white snow\nbrown mud\npurple night\nyellow sun\n# a remark\nblue sea\nred rose\n")
    arguments = ("--group-by-concepts", "--vocabulary", "words.txt")
    options = {"data": "context.csv", "descriptors": "context.json"}
    result = audited(*arguments, "--json", **options)
    assert result.exit_code == 0, result.stderr
    found = strict(result.stdout)
    assert found["n"] == found["ungrouped"] == 132
    names = {row["group"] for row in found["groups"]}
    assert names == {"images like white snow", "images like brown mud"}
    failed = {(f["class"], f["group"]): f for f in found["failed"]}
    for class_, said in (("raven", "white snow"), ("goldfish", "brown mud")):
        failure = failed[class_, f"images like {said}"]
        assert failure["how"] == "others taken for it"
        assert failure["pulls"][0]["descriptor"] == said and failure["pulls"][0]["net"] < 0
    assert "clusters of the errors among one half" in found["grouping"] and "errors)" in found["grouping"]
    people = audited(*arguments, **options).stdout
    assert "images like white snow" in people and "132 images without a group left out" in people


def test_hostile_names_are_shown_and_harm_nobody(home, by_place):
    """Of classes, groups, files and descriptors, in the terminal and in the page; audit.json has them as they are."""
    names = {"flamingo": HTML, "frog": f'fr"og & {BIDI}gnp', "raven": "=cmd|' /C calc'!A0", "goldfish": "fish' x='"}
    groups = {"snow": f"{ESC}snow{BIDI}</td><img src=x onerror=alert(1)>", "meadow": '"><b>meadow</b>'}
    rows = []
    for i, line in enumerate(Path("table.csv").read_text().splitlines()[1:]):
        image, label, place = line.split(",")
        hostile = Path(image).with_name(f"{i}{ESC}{BIDI}<b onclick=x>.png")
        Path(image).rename(hostile)
        rows.append(json.dumps({"image": str(hostile), "label": names[label], "place": groups[place]}))
    Path("table.jsonl").write_text("\n".join(rows))
    texts = {names[name]: [f"{text} <img src=x onerror=alert(1)>" for text in list_] for name, list_ in BIASED.items()}
    Path("odd.json").write_text(json.dumps(texts))
    result = by_place(data="table.jsonl", descriptors="odd.json")
    assert result.exit_code == 0, result.stderr
    assert not {*result.output, *result.stderr} & {"\x1b", BIDI} and "\\x1b[31msnow\\u202e" in result.stdout
    found = strict(Path("vlmdesc-audit/audit.json").read_text())
    assert found["failed"][0]["name"] == HTML and found["failed"][0]["group"] == groups["snow"]
    page = Path("vlmdesc-audit/audit.html").read_text(encoding="utf-8")
    assert inert(page) and "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<img src=x" not in page
    assert "<b>meadow" not in page and "data:image/jpeg;base64," in page
