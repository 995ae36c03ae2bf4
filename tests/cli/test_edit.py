import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlmdesc.descriptors.history import DescriptorFile
from vlmdesc.descriptors.patch import read_patch
from vlmdesc.records import Descriptors, Edit
from vlmdesc.testing import COLOURS, FakeEncoder

SNOW = "white snow all around"
ZOO = {
    "flamingo": ["pink feathers", "long pink legs"],
    "frog": ["green skin", "green legs"],
    "raven": ["black wings", SNOW],  # what takes the flamingos in the snow away
    "goldfish": ["orange scales", "orange fins"],
}
COLOUR = {"flamingo": "pink", "frog": "green", "raven": "black", "goldfish": "orange"}
ON = ("--on", "table.csv", "--model", "fake")
GROUPS = (*ON, "--group-column", "place")
ESC, BIDI = "\x1b[31m", "\u202e"
HTML = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLMDESC_USER", "ana")
    monkeypatch.chdir(tmp_path)
    Descriptors.of(ZOO).save("zoo.json")
    return tmp_path


@pytest.fixture
def album(home):
    """Eight images of each class in the snow and eight in the meadow; flamingos are small in theirs."""
    lines = ["image,label,place"]
    for name, main in COLOUR.items():
        for place, around in {"snow": "white", "meadow": "brown"}.items():
            for i in range(8):
                pixels = np.full((16, 16, 3), COLOURS[around], np.uint8)
                pixels[: 5 if name == "flamingo" else 11] = COLOURS[main]
                pixels[0, 0] = i, len(lines), 0  # no two alike
                path = Path("photos", name, f"{place}-{i}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                lines.append(f"{path},{name},{place}")
    Path("table.csv").write_text("\n".join(lines) + "\n")
    return home


@pytest.fixture
def edit(run):
    return lambda *arguments, file="zoo.json", **options: run("edit", file, *arguments, **options)


@pytest.fixture
def edited(edit):
    def succeed(*arguments, file="zoo.json"):
        result = edit(*arguments, file=file)
        assert result.exit_code == 0, result.stderr
        return result

    return succeed


@pytest.fixture
def told(edited):
    """The JSON of a command, on one line."""

    def record(*arguments, file="zoo.json"):
        [line] = edited(*arguments, "--json", file=file).stdout.splitlines()
        return json.loads(line, parse_constant=pytest.fail)

    return record


@pytest.fixture
def refused(edit):
    """One line of error with what to do, and the file as it was."""

    def refuse(says, *arguments, file="zoo.json"):
        before = Path(file).read_bytes() if Path(file).is_file() else None
        result = edit(*arguments, file=file)
        assert result.exit_code == 2 and says in result.stderr, result.output + result.stderr
        assert "fix:" in result.stderr and result.stdout == ""
        assert (Path(file).read_bytes() if Path(file).is_file() else None) == before
        return result.stderr

    return refuse


def texts(file="zoo.json"):
    found = Descriptors.load(file)
    return {c.id: [r.text for r in found.rows if r.class_id == c.id] for c in found.classes}


def files():
    return {path.name for path in Path().iterdir() if path.suffix in (".json", ".jsonl", ".html")}


def inert(page):
    """No element or attribute of a page does anything, and nothing in it is hidden or turned round."""
    tags = [re.sub(r'"[^"]*"', "", tag) for tag in re.findall(r"<[^>]*>", page)]
    return not {*page} & {"\x1b", BIDI} and not any(re.search(r"<script|\son\w+=|href=", tag) for tag in tags)


# Each operation


@pytest.mark.parametrize(
    ("arguments", "then"),
    [
        (("add", "raven", "a grey beak"), {"raven": [*ZOO["raven"], "a grey beak"]}),
        (("drop", "raven", " White SNOW all around"), {"raven": ["black wings"]}),
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
def test_an_operation_is_saved_logged_and_undone(edited, arguments, then):
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
    assert undone.stdout.startswith(f"undo 1 ({op} ")
    assert Descriptors.load("zoo.json").rows == Descriptors.of(ZOO).rows and texts() == ZOO
    first, second = edited("log").stdout.splitlines()
    assert first.endswith("[undone]") and second.startswith("2  undo 1")


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("drop", "raven", SNOW), {"op": "drop", "class": "raven", "text": SNOW}),
        (("reword", "raven", SNOW, "snow"), {"op": "reword", "class": "raven", "text": SNOW, "to": "snow"}),
        (("weigh", "raven", SNOW, "2"), {"op": "weigh", "class": "raven", "text": SNOW, "weight": 2.0}),
        (("replace", "green", "blue"), {"op": "replace", "text": "green", "to": "blue"}),
        (("add-class", "n", "newt"), {"op": "add-class", "class": "n", "text": "newt"}),
        (("undo",), {"op": "undo", "number": 1}),
    ],
)
def test_json_of_an_operation(edited, told, arguments, fields):
    edited("add", "frog", "a wide mouth")
    found = told(*arguments, "--who", "ben", "--why", "so")
    assert set(found) == {"file", "edits", "saved"} and (found["file"], found["saved"]) == ("zoo.json", True)
    [said] = found["edits"]
    assert said.pop("when") and said == fields | {"who": "ben", "why": "so"}
    assert len(told("log")["edits"]) == (0 if fields["op"] == "undo" else 2)


def test_json_of_enable_merge_apply_log_and_diff(edited, told):
    assert told("log") == {"file": "zoo.json", "edits": []} and edited("log").stdout == "no edits\n"
    edited("disable", "raven", SNOW)
    assert told("enable", "raven", SNOW)["edits"][0]["op"] == "enable"
    Path("other.json").write_text(json.dumps(ZOO | {"frog": [*ZOO["frog"], "a wide mouth"]}))
    assert [e["text"] for e in told("diff", "other.json")["edits"]] == ["a wide mouth"]
    assert [e["text"] for e in told("merge", "other.json")["edits"]] == ["a wide mouth"]
    Path("patch.jsonl").write_text('{"op": "drop", "class": "frog", "text": "a wide mouth"}\n')
    assert told("apply", "patch.jsonl", "--why", "as Ben proposed")["edits"][0]["why"] == "as Ben proposed"
    assert [e["op"] for e in told("log")["edits"]] == ["disable", "enable", "add", "drop"]


def test_undo_takes_back_an_edit_by_its_number_and_undoing_that_brings_it_back(edited, refused):
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
    refused("'two' is not a number", "undo", "two")


def test_a_difference_is_a_patch_that_makes_one_set_the_other(edited):
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


def test_a_log_is_a_patch_that_keeps_who_and_when(edited):
    edited("drop", "raven", SNOW, "--who", "ben", "--why", "not the bird")
    edited("add", "frog", "a mistake")
    edited("undo")
    edited("log", "--out", "patch.jsonl")
    Descriptors.of(ZOO).save("copy.json")
    edited("apply", "patch.jsonl", file="copy.json")
    [done] = Descriptors.load("copy.json").history
    assert (done.edit.who, done.edit.why, done.edit.op) == ("ben", "not the bird", "drop")
    assert texts("copy.json") == texts()


def test_merging_adds_what_is_only_there(edited, refused):
    spots = [f"spot {i}" for i in range(20)]
    Path("other.json").write_text(json.dumps({"frog": ["green skin", *spots], "newt": ["an orange belly"]}))
    result = edited("merge", "other.json", "--why", "theirs")
    assert result.stderr == "22 edits saved to zoo.json\n" and result.stdout.splitlines()[8:] == ["and 14 more"]
    assert edited("log").stdout.count(" by ana): theirs\n") == 22
    assert texts() == ZOO | {"frog": [*ZOO["frog"], *spots], "newt": ["an orange belly"]}
    refused("nothing to merge", "merge", "other.json")
    refused("no such file or shipped set", "merge", "nosuch.json")


def test_a_patch_that_does_not_fit_changes_nothing(refused):
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
        (("add-class", "newt"), "add-class takes ID NAME"),
        (("undo", "1", "2"), "undo takes [NUMBER], and 2 arguments came"),
        (("log", "1"), "log takes nothing, and 1 argument came"),
        (("diff",), "diff takes OTHER, and 0 arguments came"),
        (("log", "--on", "x"), "--on with log"),
        (("drop", "raven", SNOW, "--yes"), "--yes without --on"),
        (("drop", "ravn", SNOW), "did you mean 'raven'"),
        (("drop", "raven", "blak wings"), "did you mean 'black wings'? it has"),
        (("add", "raven", SNOW), "already"),
        (("weigh", "raven", SNOW, "much"), "'much' is not a number"),
        (("weigh", "raven", SNOW, "nan"), "a weight is nan"),
        (("--", "weigh", "raven", SNOW, "-2"), "a weight is -2.0"),
        (("move", "raven", SNOW, "hen"), "no class 'hen'"),
        (("replace", "", "red"), "replace changes nothing"),
        (("add-class", "frog2", "Frog"), "there is a class 'frog'"),
        (("add-class", "frog", "toad"), "1 id used twice"),
        (("add", "raven", "x" * 5000), "text"),
        (("add", "raven", "a\nbeak"), "holds the character U+000A"),
        (("add", "raven", "a beak", "--who", f"ben{ESC}"), "holds the character U+001B"),
        (("merge", "table.csv"), "not JSON"),
    ],
)
def test_wrong_calls_are_exit_2_with_what_to_do_and_change_nothing(refused, arguments, says):
    Path("table.csv").write_text("image,label\n")
    refused(says, *arguments)
    assert files() == {"zoo.json"}


def test_a_file_that_cannot_be_read_is_named(run, edit, refused):
    refused("no such file or shipped set (zo.json)", "log", file="zo.json")
    refused("did you mean 'zoo.json'", "add", "frog", "x", file="zoo.jsno")
    Path("bad.json").write_text('{"frog": ["green"')
    refused("(bad.json:1", "add", "frog", "x", file="bad.json")
    assert edit("log", file=".").exit_code == run("edit", "zoo.json").exit_code == 2


def test_what_begins_with_a_dash_comes_after_two(run, edit, edited):
    edited("add", "raven", "--", "-shaped like a wedge")
    assert texts()["raven"][-1] == "-shaped like a wedge"
    edited("--why", "odd", "--", "drop", "raven", "-shaped like a wedge")
    assert edit("add", "raven", "-shaped like a wedge").exit_code == 2 and texts() == ZOO
    assert "put -- before it" in " ".join(run("edit", "--help").stdout.replace("│", " ").split())


# Where it goes


def test_a_set_that_ships_is_edited_to_a_file_of_its_own(edited, refused):
    why = "a set that ships is not edited in place (everyday); fix: say with --out where to"
    refused(why, "add", "cat", "a pink nose", file="everyday")
    result = edited("add", "cat", "a pink nose", "--out", "mine.json", file="everyday")
    assert result.stderr == "1 edit saved to mine.json\n" and texts("mine.json")["cat"][-1] == "a pink nose"
    assert edited("log", file="everyday").stdout == "no edits\n"
    assert 'add "cat" "a pink nose"' in edited("diff", "mine.json", file="everyday").stdout
    edited("undo", file="mine.json")
    assert edited("diff", "mine.json", file="everyday").stdout == "no difference\n"


def test_out_is_a_new_file_and_the_other_stays_as_it_is(edited, refused):
    before = Path("zoo.json").read_bytes()
    edited("drop", "raven", SNOW, "--out", "other.json")
    assert texts("other.json")["raven"] == ["black wings"] and len(Descriptors.load("other.json").history) == 1
    refused("there is such a file already", "drop", "raven", "black wings", "--out", "other.json")
    for arguments in (("log",), ("diff", "other.json")):  # a patch does not take the place of a set
        refused("--out needs a name ending in .jsonl", *arguments, "--out", "zoo.json")
    Path("folder").mkdir()
    for out in ("folder", "no/other.json"):
        refused("--out needs a name ending in .json, in a folder", "drop", "raven", SNOW, "--out", out)
    assert Path("zoo.json").read_bytes() == before


# Hostile text


def test_hostile_text_is_shown_as_escapes_and_never_obeyed(album, edit, edited):
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


def test_hostile_names_of_images_classes_and_groups(album, edited):
    Path("photos/flamingo/snow-0.png").rename(f"photos/flamingo/{ESC}{BIDI}<b onclick=x>.png")
    rows = []
    for line in Path("table.csv").read_text().splitlines()[1:]:
        image, label, place = line.replace("flamingo/snow-0", f"flamingo/{ESC}{BIDI}<b onclick=x>").split(",")
        rows.append({"image": image, "label": label.replace("flamingo", HTML), "place": f"{ESC}{place}{BIDI}<i>"})
    Path("table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Descriptors.of({(HTML if name == "flamingo" else name): list_ for name, list_ in ZOO.items()}).save("zoo.json")
    result = edited("drop", "raven", SNOW, "--on", "table.jsonl", "--group-column", "place", "--model", "fake")
    assert not {*result.output, *result.stderr} & {"\x1b", BIDI} and "in \\x1b[31msnow\\u202e<i>" in result.stdout
    page = Path("vlmdesc-edit.html").read_text(encoding="utf-8")
    assert inert(page) and "<i>" not in page and "&lt;b onclick=x&gt;" in page and "&lt;script&gt;" in page


# What an edit does to the answers


def test_an_edit_that_helps_with_its_images_classes_and_groups(album, told):
    found = told("drop", "raven", SNOW, *GROUPS)
    assert found["verdict"] == {"code": "better", "text": "better: 8 fixed, 0 broken of 64 images (p 0.008)"}
    assert found["task"] == {"data": "table.csv", "encoder": "fake", "phrase": "plain", "pool": "mean"}
    assert (found["schema"], found["failed"], found["unlabelled"], found["file"]) == (1, 0, 0, "zoo.json")
    assert [edit["op"] for edit in found["edits"]] == ["drop"]
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
    assert "What 1 edit would do" in page


def test_the_table_for_people(album, edited):
    result = edited("drop", "raven", SNOW, *GROUPS, "--page", "effect.html")
    said = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert said[1].startswith("all images 64 87.5 > 100.0 +12.5 (") and said[1].endswith(" 8 0 0.008")
    assert said[2].startswith("in snow 32 75.0 > 100.0 +25.0 (") and said[3].startswith("flamingo 16 50.0 > 100.0")
    assert "and 1 group without a change" in said
    assert any(line.startswith("fixed: photos/flamingo/snow-") for line in said)
    assert said[-1] == "better: 8 fixed, 0 broken of 64 images (p 0.008)"
    assert "with images: effect.html" in result.stderr and "not saved; --yes saves" in result.stderr
    assert Path("effect.html").exists() and not Path("vlmdesc-edit.html").exists()


def test_noise_is_not_called_better(album, edited):
    """One image fixed may be chance."""
    lines = Path("table.csv").read_text().splitlines()
    Path("few.csv").write_text("\n".join(line for line in lines if "flamingo/snow" not in line or "snow-0" in line))
    people = " ".join(edited("drop", "raven", SNOW, "--on", "few.csv", "--model", "fake").stdout.split())
    assert "not to be told from chance: 1 fixed, 0 broken" in people and "better" not in people
    assert "fewer than 6 changes can never be told" in people


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        (("replace", "green", "pink"), "worse"),
        (("reword", "goldfish", "orange fins", "orange  tail"), "none"),
        (("apply", "patch.jsonl"), "better"),
        (("merge", "other.json"), "better"),
        (("undo",), "better"),
    ],
)
def test_any_operation_can_be_looked_at(album, edited, told, arguments, verdict):
    Path("patch.jsonl").write_text(json.dumps({"op": "drop", "class": "raven", "text": SNOW}))
    Path("other.json").write_text(json.dumps({"flamingo": [f"pink {SNOW}"]}))
    Descriptors.of(ZOO | {"raven": ["black wings"]}).save("zoo.json")
    edited("add", "raven", SNOW)
    before = texts()
    assert told(*arguments, *ON)["verdict"]["code"] == verdict and texts() == before


def test_yes_saves_and_nothing_else_does(album, edit, edited, told):
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


def test_a_file_that_changes_between_the_look_and_the_save_is_left_alone(album, edit, monkeypatch):
    from vlmdesc.evaluation.effect import Effect

    save = Effect.save

    def meanwhile(*arguments):
        mouth = Edit("add", "frog", "a wide mouth", who="ben", why="it is wide")
        DescriptorFile.open("zoo.json").commit([mouth])
        return save(*arguments)

    monkeypatch.setattr(Effect, "save", meanwhile)
    result = edit("drop", "raven", SNOW, *ON, "--yes")
    assert result.exit_code == 2 and "changed meanwhile, by 1 edit, and not saved" in result.stderr
    assert 'add "frog" "a wide mouth" (by ben): it is wide' in result.stderr and "run this again" in result.stderr
    assert texts() == ZOO | {"frog": [*ZOO["frog"], "a wide mouth"]}


def test_only_texts_that_are_new_are_encoded(album, edited, monkeypatch):
    edited("drop", "raven", SNOW, *ON)
    encoded, really = [], FakeEncoder.texts
    monkeypatch.setattr(FakeEncoder, "texts", lambda self, new: encoded.extend(new) or really(self, new))
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("an image was encoded again"))
    edited("reword", "raven", SNOW, "a black bill", *ON)
    assert len(encoded) == 1 and "a black bill" in encoded[0]
    edited("disable", "raven", SNOW, *ON)
    edited("weigh", "raven", SNOW, "0.25", *ON)
    assert len(encoded) == 1


def test_broken_images_are_named_and_the_rest_is_looked_at(album, edit):
    Path("photos/frog/snow-0.png").write_text("<!doctype html>")
    Path("photos/frog/snow-1.png").unlink()
    result = edit("drop", "raven", SNOW, *ON, "--json")
    assert result.exit_code == 1 and "snow-0.png" in result.stderr and "snow-1.png" in result.stderr
    found = json.loads(result.stdout)
    assert (found["overall"]["n"], found["failed"], found["verdict"]["code"]) == (62, 2, "better")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--on", "tabel.csv"), "did you mean 'table.csv'"),
        (("--on", "photos/frog/snow-0.png"), "no label"),
        ((*ON, "--group-column", "palce"), "did you mean 'place'"),
        ((*ON, "--pool", "maen"), "did you mean 'mean'"),
        ((*ON, "--phrase", "plian"), "did you mean 'plain'"),
        ((*ON, "--page", "effect.txt"), "--page needs a name ending in .html"),
        ((*ON, "--page", "no/effect.html"), "in a folder that exists"),
        ((*ON, "--out", "no/other.json"), "--out needs a name ending in .json"),
    ],
)
def test_what_cannot_be_looked_at_is_told_before_anything_is_encoded(album, refused, monkeypatch, arguments, says):
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    refused(says, "drop", "raven", SNOW, *arguments, "--model", "fake", "--yes")


def test_an_edit_that_cannot_be_looked_at_is_told_before_anything_is_encoded(album, refused, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    refused("did you mean 'black wings'", "drop", "raven", "blak wings", *ON)
    refused("the edit changes which classes there are; fix: save it without --on", "add-class", "newt", "newt", *ON)
