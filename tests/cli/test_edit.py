import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_audit import BIDI, ESC, HTML, inert, invoke, photograph, strict
from vlmdesc.descriptors.patch import read_patch
from vlmdesc.descriptors.revision import commit, read_revision
from vlmdesc.records import Descriptors, Edit
from vlmdesc.testing import FakeEncoder

SNOW = "white snow all around"
ZOO = {
    "flamingo": ["pink feathers", "long pink legs"],
    "frog": ["green skin", "green legs"],
    "raven": ["black wings", SNOW],
    "goldfish": ["orange scales", "orange fins"],
}
ON = ("--on", "table.csv", "--model", "fake")
GROUPS = (*ON, "--group-column", "place")


def edit(*arguments, file="zoo.json", input=None):
    return invoke("edit", file, *arguments, input=input)


def edited(*arguments, file="zoo.json"):
    result = edit(*arguments, file=file)
    assert result.exit_code == 0, result.stderr
    return result


def told(*arguments, file="zoo.json"):
    result = edited(*arguments, "--json", file=file)
    assert len(result.stdout.splitlines()) == 1
    return strict(result.stdout)


def refused(says, *arguments, file="zoo.json", code=2):
    """One line of error with what to do, and the file as it was."""
    before = Path(file).read_bytes() if Path(file).is_file() else None
    result = edit(*arguments, file=file)
    assert result.exit_code == code and says in result.stderr, result.output + result.stderr
    assert "fix:" in result.stderr and "Traceback" not in result.stderr and result.stdout == ""
    assert (Path(file).read_bytes() if Path(file).is_file() else None) == before
    return result.stderr


def texts(file="zoo.json"):
    found = Descriptors.load(file)
    return {c.id: [r.text for r in found.rows if r.class_id == c.id] for c in found.classes}


def row(class_, text, file="zoo.json"):
    [found] = [r for r in Descriptors.load(file).rows if (r.class_id, r.text) == (class_, text)]
    return found


def files():
    return {path.name for path in Path().iterdir() if path.suffix in (".json", ".jsonl", ".html")}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLMDESC_USER", "ana")
    monkeypatch.delenv("VLMDESC_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    Descriptors.of(ZOO).save("zoo.json")
    return tmp_path


@pytest.fixture
def album(home):
    """Eight images of each class in the snow and eight in the meadow; flamingos are small in theirs."""
    photograph(8)
    return home


# Each operation


@pytest.mark.parametrize(
    ("arguments", "then"),
    [
        (("add", "raven", "a grey beak"), {"raven": [*ZOO["raven"], "a grey beak"]}),
        (("drop", "raven", SNOW), {"raven": ["black wings"]}),
        (("reword", "frog", "green skin", "wet green skin"), {"frog": ["wet green skin", "green legs"]}),
        (("move", "frog", "green legs", "raven"), {"frog": ["green skin"], "raven": [*ZOO["raven"], "green legs"]}),
        (("replace", "green", "blue"), {"frog": ["blue skin", "blue legs"]}),
        (("replace", "long ", ""), {"flamingo": ["pink feathers", "pink legs"]}),
        (("add-class", "newt", "smooth newt"), {"newt": []}),
        (("disable", "raven", SNOW), {}),
        (("weigh", "raven", SNOW, "0.5"), {}),
        (("weigh", "raven", SNOW, "0"), {}),
    ],
)
def test_an_operation_is_saved_logged_and_undone(arguments, then):
    result = edited(*arguments, "--why", "see image 7")
    op = arguments[0]
    assert result.stdout.startswith(f'{op} "') and len(result.stdout.splitlines()) == 1
    assert result.stderr == "1 edit saved to zoo.json\n" and files() == {"zoo.json"}
    assert texts() == ZOO | then
    [done] = Descriptors.load("zoo.json").history
    assert (done.edit.op, done.edit.who, done.edit.why) == (op, "ana", "see image 7") and done.edit.when.endswith("Z")
    log = edited("log").stdout
    assert log.startswith(f"1  {result.stdout.rstrip()} (") and log.endswith(" by ana): see image 7\n")
    undone = edited("undo")
    assert undone.stdout.startswith("undo 1") and texts() == ZOO
    assert Descriptors.load("zoo.json").rows == Descriptors.of(ZOO).rows
    first, second = edited("log").stdout.splitlines()
    assert first.endswith("[undone]") and second.startswith("2  undo 1")


def test_weights_and_being_enabled_are_of_the_row():
    edited("weigh", "raven", SNOW, "0.5")
    edited("disable", "raven", "black wings")
    assert row("raven", SNOW).weight == 0.5 and not row("raven", "black wings").enabled
    edited("enable", "raven", "black wings")
    assert row("raven", "black wings").enabled and [e["op"] for e in told("log")["edits"]] == [
        "weigh", "disable", "enable",
    ]  # fmt: skip


def test_classes_are_found_by_id_or_name_and_texts_by_what_they_read_as():
    edited("add-class", "n07", "smooth newt")
    edited("add", "smooth newt", "an orange belly")
    assert texts()["n07"] == ["an orange belly"]
    edited("drop", "n07", "An orange belly")
    assert texts()["n07"] == []


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("add", "raven", "a beak"), {"op": "add", "class": "raven", "text": "a beak"}),
        (("drop", "raven", SNOW), {"op": "drop", "class": "raven", "text": SNOW}),
        (("reword", "raven", SNOW, "snow"), {"op": "reword", "class": "raven", "text": SNOW, "to": "snow"}),
        (("weigh", "raven", SNOW, "2"), {"op": "weigh", "class": "raven", "text": SNOW, "weight": 2.0}),
        (("disable", "raven", SNOW), {"op": "disable", "class": "raven", "text": SNOW}),
        (("move", "raven", SNOW, "frog"), {"op": "move", "class": "raven", "text": SNOW, "to": "frog"}),
        (("replace", "green", "blue"), {"op": "replace", "text": "green", "to": "blue"}),
        (("add-class", "n", "newt"), {"op": "add-class", "class": "n", "text": "newt"}),
        (("undo",), {"op": "undo", "number": 1}),
    ],
)
def test_json_of_an_operation(arguments, fields):
    edited("add", "frog", "a wide mouth")
    found = told(*arguments, "--who", "ben", "--why", "so")
    assert set(found) == {"file", "edits", "saved"} and (found["file"], found["saved"]) == ("zoo.json", True)
    [said] = found["edits"]
    assert said.pop("when") and said == fields | {"who": "ben", "why": "so"}
    enabled = told("log")["edits"]
    assert len(enabled) == (0 if fields["op"] == "undo" else 2)


def test_json_of_enable_merge_apply_log_and_diff():
    edited("disable", "raven", SNOW)
    assert told("enable", "raven", SNOW)["edits"][0]["op"] == "enable"
    Path("other.json").write_text(json.dumps(ZOO | {"frog": [*ZOO["frog"], "a wide mouth"]}))
    assert [e["text"] for e in told("diff", "other.json")["edits"]] == ["a wide mouth"]
    assert [e["text"] for e in told("merge", "other.json")["edits"]] == ["a wide mouth"]
    Path("patch.jsonl").write_text('{"op": "drop", "class": "frog", "text": "a wide mouth"}\n')
    assert told("apply", "patch.jsonl")["edits"][0]["op"] == "drop"
    assert [e["op"] for e in told("log")["edits"]] == ["disable", "enable", "add", "drop"]


def test_undo_takes_back_an_edit_by_its_number_and_undoing_that_brings_it_back():
    edited("drop", "raven", SNOW)
    edited("add", "frog", "a wide mouth")
    edited("undo", 1)
    assert texts()["frog"] == [*ZOO["frog"], "a wide mouth"] and sorted(texts()["raven"]) == sorted(ZOO["raven"])
    edited("undo", 3)
    assert texts()["raven"] == ["black wings"]
    edited("undo")
    edited("undo")
    assert texts() == ZOO
    refused("nothing to undo", "undo")
    refused("no edit 99; there are 6", "undo", 99)
    refused("edit 2 is undone", "undo", 2)
    refused("NUMBER is 'two'", "undo", "two")


def test_the_log_of_a_file_without_edits_says_so():
    assert edited("log").stdout == "no edits\n" and told("log") == {"file": "zoo.json", "edits": []}
    refused("nothing to undo", "undo")


def test_undo_says_what_it_takes_back():
    edited("drop", "raven", SNOW)
    assert SNOW in edited("undo").stdout


def test_a_difference_is_a_patch_that_makes_one_set_the_other():
    edited("reword", "frog", "green skin", "wet skin", "--out", "other.json")
    edited("weigh", "raven", SNOW, "0.5", file="other.json")
    assert edited("diff", "other.json").stdout.splitlines() == [
        'drop "frog" "green skin"', 'add "frog" "wet skin"', f'weigh "raven" "{SNOW}" 0.5',
    ]  # fmt: skip
    said = edited("diff", "other.json", "--out", "patch.jsonl")
    assert said.stderr == "3 edits in patch.jsonl\n" and len(read_patch("patch.jsonl")) == 3
    assert len(edited("apply", "patch.jsonl").stdout.splitlines()) == 3
    assert edited("diff", "other.json").stdout == "no difference\n"
    assert Descriptors.load("zoo.json").history[0].edit.who == "ana"  # a difference is nobody's yet


def test_a_log_is_a_patch_that_keeps_who_and_when():
    edited("drop", "raven", SNOW, "--who", "ben", "--why", "not the bird")
    edited("add", "frog", "a mistake")
    edited("undo")
    edited("log", "--out", "patch.jsonl")
    Descriptors.of(ZOO).save("copy.json")
    edited("apply", "patch.jsonl", file="copy.json")
    [done] = Descriptors.load("copy.json").history
    assert (done.edit.who, done.edit.why, done.edit.op) == ("ben", "not the bird", "drop")
    assert texts("copy.json") == texts()


def test_apply_says_why_where_the_patch_does_not():
    Path("patch.jsonl").write_text(json.dumps({"op": "drop", "class": "raven", "text": SNOW}))
    edited("apply", "patch.jsonl", "--why", "as Ben proposed")
    assert Descriptors.load("zoo.json").history[0].edit.why == "as Ben proposed"


def test_merging_adds_what_is_only_there():
    Path("other.json").write_text(json.dumps({"frog": ["green skin", "a wide mouth"], "newt": ["an orange belly"]}))
    result = edited("merge", "other.json", "--why", "theirs")
    assert result.stderr == "3 edits saved to zoo.json\n" and len(result.stdout.splitlines()) == 3
    assert edited("log").stdout.count(" by ana): theirs\n") == 3
    assert texts() == ZOO | {"frog": [*ZOO["frog"], "a wide mouth"], "newt": ["an orange belly"]}
    refused("nothing to merge", "merge", "other.json")
    refused("no such file or shipped set", "merge", "nosuch.json")


def test_many_edits_are_said_in_few_lines():
    Path("other.json").write_text(json.dumps({"frog": [f"spot {i}" for i in range(20)]}))
    assert edited("merge", "other.json").stdout.splitlines()[8:] == ["and 12 more"]


def test_a_patch_that_does_not_fit_changes_nothing():
    lines = [{"op": "drop", "class": "raven", "text": SNOW}, {"op": "drop", "class": "raven", "text": "blak wings"}]
    Path("patch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = refused("did you mean 'black wings'?", "apply", "patch.jsonl")
    assert "edit 2 of 2" in said and texts() == ZOO
    Path("patch.jsonl").write_text('{"op": "drop", "class": "raven"}')
    refused("(patch.jsonl:1)", "apply", "patch.jsonl")
    refused("cannot read", "apply", "nosuch.jsonl")


# What is wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("drpo", "raven", SNOW), "unknown operation 'drpo'; fix: did you mean 'drop'? known: add, drop, "),
        (("drop", "raven"), "drop takes CLASS TEXT, and 1 argument came; fix: vlmdesc edit FILE drop CLASS TEXT"),
        (("add", "raven", "a", "beak"), "add takes CLASS TEXT, and 3 arguments came"),
        (("weigh", "raven", SNOW), "weigh takes CLASS TEXT WEIGHT"),
        (("undo", "1", "2"), "undo takes [NUMBER], and 2 arguments came"),
        (("log", "1"), "log takes nothing, and 1 argument came"),
        (("diff",), "diff takes OTHER, and 0 arguments came"),
        (("drop", "ravn", SNOW), "did you mean 'raven'"),
        (("drop", "raven", "white snow"), 'no descriptor "white snow" (class "raven"'),
        (("drop", "raven", "blak wings"), "did you mean 'black wings'? it has"),
        (("add", "raven", SNOW), "already"),
        (("weigh", "raven", SNOW, "much"), "WEIGHT is 'much'; fix: give a number"),
        (("weigh", "raven", SNOW, "nan"), "a weight is nan"),
        (("weigh", "raven", SNOW, "1e400"), "a weight is inf"),
        (("weigh", "raven", SNOW, "1"), "weigh changes nothing"),
        (("enable", "raven", SNOW), "enable changes nothing"),
        (("move", "raven", SNOW, "raven"), "move changes nothing"),
        (("move", "raven", SNOW, "hen"), "no class 'hen'"),
        (("replace", "purple", "red"), 'no descriptor has "purple"'),
        (("replace", "", "red"), "replace changes nothing"),
        (("add-class", "frog2", "Frog"), "there is a class 'frog'"),
        (("add-class", "frog", "toad"), "there is a class 'frog' with the id 'frog'"),
        (("add", "raven", "x" * 5000), "text"),
        (("add", "raven", "a\nbeak"), "holds the character U+000A"),
        (("add", "raven", "a beak", "--who", f"ben{ESC}"), "holds the character U+001B"),
        (("add", "raven", "a beak", "--why", "two\nlines"), "holds the character U+000A"),
        (("merge", "table.csv"), "not JSON"),
    ],
)
def test_wrong_calls_are_exit_2_with_what_to_do_and_change_nothing(arguments, says):
    Path("table.csv").write_text("image,label\n")
    refused(says, *arguments)
    assert files() == {"zoo.json"}


def test_a_file_that_is_none_is_told():
    refused("no such file or shipped set (zo.json)", "log", file="zo.json")
    refused("no such file or shipped set (zo.json)", "add", "frog", "x", file="zo.json")
    Path("bad.json").write_text('{"frog": ["green"')
    refused("(bad.json:1", "add", "frog", "x", file="bad.json")
    assert edit("log", file=".").exit_code == 2
    assert invoke("edit", "zoo.json").exit_code == 2


def test_a_file_of_a_close_name_is_offered():
    assert "did you mean 'zoo.json'" in edit("log", file="zoo.jsno").stderr


def test_what_begins_with_a_dash_comes_after_two():
    edited("add", "raven", "--", "-shaped like a wedge")
    assert texts()["raven"][-1] == "-shaped like a wedge"
    edited("--why", "odd", "--", "drop", "raven", "-shaped like a wedge")
    assert texts() == ZOO
    refused("a weight is -2.0", "--", "weigh", "raven", SNOW, "-2")
    result = edit("add", "raven", "-shaped like a wedge")
    assert result.exit_code == 2 and "Traceback" not in result.stderr and texts() == ZOO


def test_what_begins_with_a_dash_is_told_to_come_after_two():
    assert "put -- before it" in " ".join(invoke("edit", "--help").stdout.replace("│", " ").split())


# Where it goes


def test_a_set_that_ships_is_edited_to_a_file_of_its_own():
    refused("a set that ships is not edited in place (everyday); fix: say with --out where to",
            "add", "cat", "a pink nose", file="everyday")  # fmt: skip
    result = edited("add", "cat", "a pink nose", "--out", "mine.json", file="everyday")
    assert result.stderr == "1 edit saved to mine.json\n" and texts("mine.json")["cat"][-1] == "a pink nose"
    assert edited("log", file="everyday").stdout == "no edits\n"
    assert 'add "cat" "a pink nose"' in edited("diff", "mine.json", file="everyday").stdout
    edited("undo", file="mine.json")
    assert edited("diff", "mine.json", file="everyday").stdout == "no difference\n"


def test_out_leaves_the_file_as_it_is():
    before = Path("zoo.json").read_bytes()
    edited("drop", "raven", SNOW, "--out", "other.json")
    assert Path("zoo.json").read_bytes() == before and texts("other.json")["raven"] == ["black wings"]
    assert len(Descriptors.load("other.json").history) == 1


@pytest.mark.parametrize("arguments", [("log",), ("diff", "other.json")])
def test_a_patch_does_not_take_the_place_of_the_descriptors(arguments):
    Path("other.json").write_text(json.dumps(ZOO | {"frog": ["green"]}))
    before = Path("zoo.json").read_bytes()
    edit(*arguments, "--out", "zoo.json")
    assert Path("zoo.json").read_bytes() == before


def test_out_does_not_take_the_place_of_another_set_for_good():
    edited("add", "frog", "hours of work", "--out", "other.json")
    edit("drop", "raven", SNOW, "--out", "other.json")
    assert any("hours of work" in path.read_text() for path in Path().glob("*.json"))


@pytest.mark.parametrize("out", ["folder", "no/other.json"])
def test_an_out_that_cannot_be_is_told(out):
    Path("folder").mkdir()
    result = edit("drop", "raven", SNOW, "--out", out)
    assert result.exit_code in (2, 4) and out in result.stderr and "fix:" in result.stderr
    assert "Traceback" not in result.stderr and texts() == ZOO


def test_a_file_in_plain_form_is_kept_beside():
    Path("plain.json").write_text(json.dumps(ZOO, indent=1))
    before = Path("plain.json").read_bytes()
    edited("drop", "raven", SNOW, file="plain.json")
    edited("add", "frog", "a wide mouth", file="plain.json")
    [kept] = Path().glob("plain.before-*.json")
    assert kept.read_bytes() == before and texts("plain.json")["raven"] == ["black wings"]
    edited("undo", file="plain.json")
    edited("undo", file="plain.json")
    assert texts("plain.json") == ZOO


def test_a_read_only_folder_is_told(home):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    home.chmod(0o500)
    try:
        assert edit("drop", "raven", SNOW).exit_code == 4
    finally:
        home.chmod(0o700)


# Hostile text


def test_hostile_text_is_shown_as_escapes_and_never_obeyed(album):
    hostile = f"{BIDI}{HTML}<img src=x onerror=alert(1)>"
    result = edited("add", "raven", hostile, "--why", f"see {BIDI}exe.gnp", *GROUPS, "--yes")
    log = edited("log")
    assert BIDI not in result.output + result.stderr + log.output and "\\u202e<script>" in log.stdout
    assert texts()["raven"][-1] == hostile
    page = Path("vlmdesc-edit.html").read_text(encoding="utf-8")
    assert inert(page) and "&lt;script&gt;" in page
    for arguments in (("add", "raven", f"{ESC}x"), ("drop", "raven", f"{ESC}x"), ("drop", f"{ESC}x", "x"), (f"{ESC}x",),
                      ("apply", f"{ESC}x"), ("log", "--out", f"no/{ESC}x"), ("undo", f"{ESC}x")):  # fmt: skip
        said = edit(*arguments)
        assert said.exit_code in (2, 4) and "\x1b" not in said.output + said.stderr and "\\x1b[31mx" in said.stderr
    assert f"\\x1b[31m{BIDI}"[:8] in edit("log", file=f"{ESC}x.json").stderr


def test_hostile_names_of_pictures_classes_and_groups(album):
    Path("photos/flamingo/snow-0.png").rename(f"photos/flamingo/{ESC}{BIDI}<b onclick=x>.png")
    lines = Path("table.csv").read_text().splitlines()[1:]
    rows = []
    for line in lines:
        image, label, place = line.replace("flamingo/snow-0", f"flamingo/{ESC}{BIDI}<b onclick=x>").split(",")
        rows.append({"image": image, "label": label.replace("flamingo", HTML), "place": f"{ESC}{place}{BIDI}<i>"})
    Path("table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Descriptors.of({(HTML if name == "flamingo" else name): list_ for name, list_ in ZOO.items()}).save("zoo.json")
    result = edited("drop", "raven", SNOW, "--on", "table.jsonl", "--group-column", "place", "--model", "fake")
    assert not {*result.output, *result.stderr} & {"\x1b", BIDI} and "in \\x1b[31msnow\\u202e<i>" in result.stdout
    page = Path("vlmdesc-edit.html").read_text(encoding="utf-8")
    assert inert(page) and "<i>" not in page and "&lt;b onclick=x&gt;" in page and "&lt;script&gt;" in page


# What an edit does to the answers


def test_an_edit_that_helps_with_its_pictures_classes_and_groups(album):
    found = told("drop", "raven", SNOW, *GROUPS)
    assert found["verdict"] == {"code": "better", "text": "better: 8 fixed, 0 broken of 64 images (p 0.008)"}
    overall = found["overall"]
    assert (overall["n"], overall["before"], overall["after"], overall["delta"]) == (64, 0.875, 1.0, 0.125)
    assert overall["ci95"][0] > 0 and overall["p"] == pytest.approx(2 / 2**8, abs=1e-6)
    assert {g["group"]: (g["n"], g["fixed"], g["verdict"]) for g in found["groups"]} == {
        "meadow": (32, 0, "none"), "snow": (32, 8, "better"),
    }  # fmt: skip
    assert [(c["class"], c["n"], c["fixed"], c["broken"]) for c in found["classes"]] == [("flamingo", 16, 8, 0)]
    assert found["examples"]["broken"] == [] and len(found["examples"]["fixed"]) == 8
    one = found["examples"]["fixed"][0]
    assert (one["truth"], one["before"], one["after"], one["group"]) == ("flamingo", "raven", "flamingo", "snow")
    assert one["image"] == "photos/flamingo/snow-0.png"
    assert found["saved"] is False and texts() == ZOO  # nobody can answer
    page = Path("vlmdesc-edit.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 8 and inert(page) and "better: 8 fixed" in page


def test_an_edit_that_harms(album):
    found = told("replace", "green", "pink", *ON)
    assert found["verdict"]["code"] == "worse" and found["overall"]["broken"] >= 6 and found["overall"]["fixed"] == 0
    one = found["examples"]["broken"][0]
    assert one["before"] == one["truth"] != one["after"] and found["groups"] == []


def test_the_table_for_people(album):
    result = edited("drop", "raven", SNOW, *GROUPS, "--page", "effect.html")
    said = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert said[1].startswith("all images 64 87.5 > 100.0 +12.5 (") and said[1].endswith(" 8 0 0.008")
    assert said[2].startswith("in snow 32 75.0 > 100.0 +25.0 (") and said[3].startswith("flamingo 16 50.0 > 100.0")
    assert "and 1 group without a change" in said
    assert any(line.startswith("fixed: photos/flamingo/snow-") for line in said)
    assert said[-1] == "better: 8 fixed, 0 broken of 64 images (p 0.008)"
    assert "with images: effect.html" in result.stderr and "not saved; --yes saves" in result.stderr
    assert Path("effect.html").exists() and not Path("vlmdesc-edit.html").exists()


def test_noise_is_not_called_better(album):
    """One image fixed may be chance."""
    lines = Path("table.csv").read_text().splitlines()
    Path("few.csv").write_text("\n".join(line for line in lines if "flamingo/snow" not in line or "snow-0" in line))
    found = told("drop", "raven", SNOW, "--on", "few.csv", "--model", "fake")
    assert found["verdict"]["code"] == "noise" and (found["overall"]["fixed"], found["overall"]["broken"]) == (1, 0)
    assert "not to be told from chance" in found["verdict"]["text"] and "better" not in found["verdict"]["text"]
    people = " ".join(edited("drop", "raven", SNOW, "--on", "few.csv", "--model", "fake").stdout.split())
    assert "fewer than 6 changes can never be told" in people and "better" not in people


def test_an_edit_without_an_effect_says_so(album):
    found = told("reword", "goldfish", "orange fins", "orange  tail", *ON)
    assert found["verdict"] == {"code": "none", "text": "no effect: no answer changed"} and found["classes"] == []


@pytest.mark.parametrize(
    ("arguments", "operation"), [(("drop", "raven", SNOW), "drop"), (("apply", "patch.jsonl"), "apply"),
                                 (("undo",), "undo"), (("merge", "other.json"), "merge")],
)  # fmt: skip
def test_any_operation_can_be_looked_at(album, arguments, operation):
    Path("patch.jsonl").write_text(json.dumps({"op": "drop", "class": "raven", "text": SNOW}))
    Path("other.json").write_text(json.dumps({"flamingo": [f"pink {SNOW}"]}))
    if operation == "undo":
        Descriptors.of(ZOO | {"raven": ["black wings"]}).save("zoo.json")
        edited("add", "raven", SNOW)
    before = texts()
    found = told(*arguments, *ON)
    assert found["verdict"]["code"] == "better" and found["overall"]["fixed"] == 8 and texts() == before


def test_new_classes_are_not_looked_at(album):
    refused("the edit changes which classes there are; fix: save it without --on", "add-class", "newt", "newt", *ON)


def test_yes_saves_and_nothing_else_does(album):
    result = edit("drop", "raven", SNOW, *ON, input="y\n")  # not a terminal: nobody was asked
    assert result.exit_code == 0 and "not saved" in result.stderr and texts() == ZOO
    result = edited("drop", "raven", SNOW, *ON, "--yes")
    assert "1 edit saved to zoo.json" in result.stderr and texts()["raven"] == ["black wings"]
    assert told("undo", *ON, "-y")["saved"] is True and texts() == ZOO
    edited("drop", "raven", SNOW, *ON, "--yes", "--out", "other.json")
    assert texts() == ZOO and texts("other.json")["raven"] == ["black wings"]


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "saved"), [("y", True), ("n", False)])
def test_at_a_terminal_one_is_asked(album, answer, saved):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vlmdesc", "edit", "zoo.json", "drop", "raven", SNOW, *ON]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    said, until = b"", time.monotonic() + 60
    try:
        while time.monotonic() < until:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                said += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if said.rstrip().endswith(b"[y/N]:"):
                os.write(ours, answer.encode() + b"\n")
        assert process.wait(10) == 0
    finally:
        process.kill()
        os.close(ours)
    assert b"save?" in said and (b"1 edit saved" in said) == saved and (b"not saved" in said) != saved
    assert texts()["raven"] == (["black wings"] if saved else ZOO["raven"])


def test_a_file_that_changes_between_the_look_and_the_save_is_left_alone(album, monkeypatch):
    from vlmdesc.evaluation import pages

    page = pages.effect_page

    def meanwhile(*arguments):
        commit(read_revision("zoo.json"), [Edit("add", "frog", "a wide mouth", who="ben", why="it is wide")])
        return page(*arguments)

    monkeypatch.setattr(pages, "effect_page", meanwhile)
    result = edit("drop", "raven", SNOW, *ON, "--yes")
    assert result.exit_code == 2 and "changed meanwhile, by 1 edit, and not saved" in result.stderr
    assert 'add "frog" "a wide mouth" (by ben): it is wide' in result.stderr and "run this again" in result.stderr
    assert "Traceback" not in result.stderr
    assert texts() == ZOO | {"frog": [*ZOO["frog"], "a wide mouth"]}


def test_without_a_look_the_edits_of_two_people_are_both_saved(monkeypatch):
    from vlmdesc.descriptors import revision

    really = revision.commit

    def meanwhile(seen, edits, **options):
        really(read_revision("zoo.json"), [Edit("add", "frog", "a wide mouth", who="ben")])
        return really(seen, edits, **options)

    monkeypatch.setattr(revision, "commit", meanwhile)
    edited("drop", "raven", SNOW)
    assert texts() == ZOO | {"raven": ["black wings"], "frog": [*ZOO["frog"], "a wide mouth"]}


def test_only_texts_that_are_new_are_encoded(album, monkeypatch):
    edited("drop", "raven", SNOW, *ON)
    encoded, really = [], FakeEncoder.texts
    monkeypatch.setattr(FakeEncoder, "texts", lambda self, new: encoded.extend(new) or really(self, new))
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("an image was encoded again"))
    edited("reword", "raven", SNOW, "a black bill", *ON)
    assert len(encoded) == 1 and "a black bill" in encoded[0]
    edited("disable", "raven", SNOW, *ON)
    edited("weigh", "raven", SNOW, "0.25", *ON)
    assert len(encoded) == 1


def test_broken_pictures_are_named_and_the_rest_is_looked_at(album):
    Path("photos/frog/snow-0.png").write_text("<!doctype html>")
    Path("photos/frog/snow-1.png").unlink()
    result = edit("drop", "raven", SNOW, *ON, "--json")
    assert result.exit_code in (0, 1) and "snow-0.png" in result.stderr and "snow-1.png" in result.stderr
    found = strict(result.stdout)
    assert (found["overall"]["n"], found["verdict"]["code"]) == (62, "better") and "Traceback" not in result.stderr


def test_broken_pictures_are_exit_1(album):
    Path("photos/frog/snow-0.png").write_text("<!doctype html>")
    assert edit("drop", "raven", SNOW, *ON).exit_code == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--on", "tabel.csv"), "did you mean 'table.csv'"),
        (("--on", "photos/frog/snow-0.png"), "no labels"),
        (("--on", "table.csv", "--group-column", "palce"), "did you mean 'place'"),
        (("--on", "table.csv", "--pool", "maen"), "did you mean 'mean'"),
        (("--on", "table.csv", "--phrase", "plian"), "did you mean 'plain'"),
        (("--on", "table.csv", "--page", "effect.txt"), "the page needs a name ending in .html"),
        (("--on", "table.csv", "--page", "no/effect.html"), "in a folder that exists"),
    ],
)
def test_wrong_looks_are_exit_2_and_save_nothing(album, options, says):
    refused(says, "drop", "raven", SNOW, *options, "--model", "fake", "--yes")


def test_an_edit_that_does_not_fit_is_told_before_anything_is_encoded(album, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    refused("did you mean 'black wings'", "drop", "raven", "blak wings", *ON)
    refused("the page needs", "drop", "raven", SNOW, *ON, "--page", "x")


@pytest.mark.parametrize(
    "arguments", [("drop", "raven", SNOW, "--pool", "maen"), ("drop", "raven", SNOW, "--phrase", "plian"),
                  ("add-class", "newt", "newt"), ("drop", "raven", SNOW, "--out", "no/other.json", "--yes")],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_told_before_anything_is_encoded(album, monkeypatch, arguments):
    encoded, really = [], FakeEncoder.forward
    monkeypatch.setattr(FakeEncoder, "forward", lambda self, pixels: encoded.append(1) or really(self, pixels))
    assert edit(*arguments, *ON).exit_code in (2, 4)
    assert not encoded
