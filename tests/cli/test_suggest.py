import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import vlmdesc as vd
from tests.cli.test_audit import BIASED, BIDI, COLOUR, ESC, FAIR, SNOW, photograph, picture, strict
from tests.cli.test_describe import KEY, class_of, completion, serving
from vlmdesc.descriptors.patch import read_patch
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptors
from vlmdesc.testing import FakeEncoder

RECORD = {"schema", "data", "encoder", "seed", "verdict", "candidates", "tried", "together", "edits", "written"}


@pytest.fixture
def suggested(run):
    """`vlmdesc suggest` on a table, for a descriptor set."""

    def command(*arguments, data="table.csv", descriptors="biased.json"):
        return run("suggest", data, "--descriptors", descriptors, "--model", "fake", *arguments)

    return command


def told(result, code=0):
    assert result.exit_code == code, result.stderr
    return strict(result.stdout)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Sixteen images of each class in the snow and as many in the meadow; flamingos are small in theirs."""
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "VLMDESC_LLM", "VLMDESC_MODEL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("biased.json").write_text(json.dumps(BIASED))
    Path("fair.json").write_text(json.dumps(FAIR))
    photograph(16)
    return tmp_path


def test_a_planted_descriptor_is_dropped_by_a_patch_that_helps_on_other_pictures(home, run, suggested):
    found = told(suggested("--json"))
    assert set(found) == RECORD and (found["data"], found["encoder"], found["written"]) == (
        "table.csv", "fake", "edits.jsonl",
    )  # fmt: skip
    drop = next(tried for tried in found["tried"] if tried["kind"] == "drop")
    assert (drop["edits"][0]["class"], drop["edits"][0]["text"], drop["helps"]) == ("raven", SNOW, True)
    assert drop["target"]["n"] == 64 and drop["target"]["fixed"] > 5 and drop["target"]["broken"] == 0
    assert drop["target"]["verdict"] == "better" and drop["target"]["ci95"][0] > 0
    edits = read_patch("edits.jsonl")
    assert [edit.op for edit in edits] == [edit["op"] for edit in found["edits"]] and edits
    assert all(edit.who == "vlmdesc suggest" and edit.when and "held-out images" in edit.why for edit in edits)
    photograph(12, table="other.csv", folder="other", seed=20_000)
    other = ("--on", "other.csv", "--group-column", "place", "--json", "--yes", "--model", "fake")
    effect = told(run("edit", "biased.json", "apply", "edits.jsonl", *other))
    assert effect["verdict"]["code"] == "better" and (effect["overall"]["fixed"], effect["overall"]["broken"]) == (
        12,
        0,
    )
    assert {row["group"]: row["fixed"] for row in effect["groups"]} == {"meadow": 0, "snow": 12} and effect["saved"]
    history = Descriptors.load("biased.json").history
    assert [done.edit for done in history] == edits  # with who, when and why


def test_what_is_said_to_people(home, suggested):
    result = suggested("--group-column", "place", "--class", "flamingo", "--group", "snow")
    assert result.exit_code == 0
    assert "aimed at (n=8)" in result.stdout and f'drop "raven" "{SNOW}"' in result.stdout
    assert "help; " in result.stdout and "measured on held-out images" in result.stdout
    assert "in edits.jsonl; next: vlmdesc edit FILE apply edits.jsonl" in result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert all("flamingo in snow: +100.0 points on 8 held-out images" in edit.why for edit in read_patch("edits.jsonl"))


def test_the_library_says_what_the_command_says(home, suggested):
    theirs = told(suggested("--group-column", "place", "--class", "flamingo", "--group", "snow", "--json"))
    aim = {"class_": "flamingo", "group": "snow", "group_column": "place"}
    found = vd.suggest("table.csv", BIASED, "fake", **aim)
    assert found.to_dict() | {"written": "edits.jsonl"} == theirs and found.text in repr(found)
    found.save("mine.jsonl")
    assert [edit.text for edit in read_patch("mine.jsonl")] == [edit.text for edit in found.edits]
    nothing = vd.suggest("table.csv", FAIR, "fake")
    with pytest.raises(InputError, match="nothing to save"):
        nothing.save("none.jsonl")


def test_noise_helps_no_edit_and_writes_no_file(home, suggested):
    """Some images show another class's colour, evenly: no descriptor is to blame."""
    for c, name in enumerate(COLOUR):
        for i in range(24):
            shown = [*COLOUR.values()][(c + 1 + i // 4) % 4] if i % 4 == 0 else COLOUR[name]
            picture(home / "noise" / name / f"{i}.png", shown, "white", 30_000 + 100 * c + i, rows=11)
    result = suggested(data="noise", descriptors="fair.json")
    assert result.exit_code == 0 and "aimed at" not in result.stdout and "no edit helps: " in result.stdout
    assert not Path("edits.jsonl").exists() and "next" not in result.stderr
    found = told(suggested("--json", data="noise", descriptors="fair.json"))
    assert found["written"] is None and found["edits"] == [] and found["together"] is None and found["candidates"] > 0
    assert not any(tried["helps"] for tried in found["tried"])


def test_too_few_pictures_to_tell_are_no_proof_that_no_edit_helps(home, suggested):
    photograph(12)
    said = " ".join(suggested("--group-column", "place", "--class", "flamingo", "--group", "snow").stdout.split())
    assert "+100.0" in said and "few" in said


def test_edits_that_help_and_are_not_written_are_explained(home, suggested):
    result = suggested()
    said = result.stdout + result.stderr
    assert "3 of 3" in said and "1 edit in edits.jsonl" in said and ("rest" in said or "others" in said)


def test_a_descriptor_is_borrowed_from_another_set(home, suggested):
    """Nothing is said of a flamingo's colour: what sets it apart is in another set."""
    Path("bare.json").write_text(json.dumps(FAIR | {"flamingo": ["a bird", "a bill"]}))
    Path("lent.json").write_text(json.dumps({"flamingo": ["pink feathers in the light"], "x": ["a red comb"]}))
    assert "no edit helps" in suggested(descriptors="bare.json").stdout
    found = told(suggested("--borrow", "lent.json", "--json", descriptors="bare.json"))
    lent = [tried for tried in found["tried"] if tried["edits"][0]["text"] == "pink feathers in the light"]
    assert [(tried["kind"], tried["edits"][0]["class"], tried["helps"]) for tried in lent] == [
        ("borrow", "flamingo", True)
    ]


def test_an_existing_patch_is_kept_unless_it_is_named(home, suggested):
    Path("edits.jsonl").write_text("mine")
    result = suggested()
    assert result.exit_code == 2 and "there is such a file already (edits.jsonl)" in result.stderr
    assert "--out" in result.stderr and Path("edits.jsonl").read_text() == "mine"
    assert suggested("--out", "edits.jsonl").exit_code == 0 and read_patch("edits.jsonl")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--class", "flamigo"), "did you mean 'flamingo'? classes: flamingo, frog, raven, goldfish"),
        (("--group", "snow"), "--group without --group-column"),
        (("--group-column", "place", "--group", "snwo"), "no image in group 'snwo' (table.csv); fix: groups: "),
        (("--group-column", "palce"), "did you mean 'place'"),
        (("--pool", "max"), "no suggestions under pooling 'max'; fix: use mean or renormalized"),
        (("--phrase", "name"), "phrase 'name' reads no descriptors"),
        (("--phrase", "plian"), "did you mean 'plain'"),
        (("--borrow", "nosuch.json"), "no such file or shipped set (nosuch.json)"),
        (("--out", "no/a.jsonl"), "in a folder that exists"),
        (("--out", "photos"), "cannot be written (photos)"),
        (("--out", "biased.json"), "a patch needs a name ending in .jsonl"),
        (("--ask", "m", "--base-url", "http://example.com/v1"), "unencrypted"),
        (("--ask", "m", "--base-url", "no url"), "the base URL is not a URL"),
    ],
)
def test_wrong_calls_are_exit_2_with_what_to_do(home, monkeypatch, arguments, says, suggested):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    result = suggested(*arguments)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and KEY not in result.stderr and not Path("edits.jsonl").exists()


def test_an_unknown_class_or_group_says_what_there_is(home, suggested):
    said = suggested("--group-column", "place", "--class", "frog", "--group", "snwo").stderr
    assert "no image of class 'frog' in group 'snwo'" in said and "snow" in said and "meadow" in said
    Path("more.json").write_text(json.dumps(BIASED | {"hen": ["red"]}))
    said = suggested("--allow-absent", "--class", "hen", descriptors="more.json").stderr
    assert "no image of class 'hen'" in said and "fix:" in said


def test_what_is_wrong_is_told_before_anything_is_encoded(home, monkeypatch, suggested):
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    Path("edits.jsonl").touch()
    for arguments in ((), ("--class", "hen"), ("--pool", "max"), ("--borrow", "x.json"), ("--out", "no/x.jsonl")):
        assert suggested(*arguments).exit_code == 2


def test_two_runs_say_the_same_and_the_second_encodes_no_picture(home, monkeypatch, suggested):
    first = suggested("--json").stdout
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    monkeypatch.setattr(FakeEncoder, "texts", lambda *_: pytest.fail("encoded"))
    Path("edits.jsonl").unlink()
    assert suggested("--json").stdout == first


def test_broken_pictures_are_named_and_the_rest_is_used(home, suggested):
    Path("photos/frog/snow-0.png").write_text("<!doctype html>")
    result = suggested("--json")
    found = told(result, code=1)
    assert "snow-0.png" in result.stderr and found["written"] == "edits.jsonl" and found["tried"][0]["helps"]


def test_hostile_texts_are_shown_as_escapes_and_kept_as_they_are(home, suggested):
    texts = BIASED | {"raven": ["black wings", f"{SNOW} {BIDI}<script>"]}
    Path("odd.json").write_text(json.dumps(texts))
    result = suggested("--borrow", "odd.json", descriptors="odd.json")
    assert result.exit_code == 0 and BIDI not in result.output + result.stderr and "\\u202e" in result.stdout
    assert any(BIDI in edit.text for edit in read_patch("edits.jsonl"))
    result = suggested("--class", f"{ESC}x", "--out", "x.jsonl")
    assert result.exit_code == 2 and "\x1b" not in result.stderr and "\\x1b[31mx" in result.stderr


# A language model


def answering(server, request):
    """Flamingos in the snow are pink and white; of others nothing that helps is known."""
    texts = {"flamingo": ["pink before white snow", "a bent bill"]}.get(class_of(request), ["a shape of its own"])
    return 200, completion(texts), {}


def test_a_language_model_is_asked_and_its_answer_is_kept(home, monkeypatch, suggested):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    aim = ("--group-column", "place", "--class", "flamingo", "--group", "snow", "--json")
    with serving(answering) as server:
        first = suggested("--ask", "m", "--base-url", server.url, *aim)
        found = told(first)
        assert Counter(server.asked()) == {"flamingo": 1, "raven": 1}
        assert server.log[0]["authorization"] == f"Bearer {KEY}" and server.log[0]["model"] == "m"
        [question] = [r["messages"][-1]["content"] for r in server.log if class_of(r) == "flamingo"]
        assert "set apart" in question and '"raven"' in question
        new = [tried for tried in found["tried"] if tried["kind"] == "ask"]
        assert new[0]["edits"][0]["text"] == "pink before white snow" and new[0]["helps"]
        assert new[0]["edits"][0]["class"] == "flamingo"
        Path("edits.jsonl").unlink()
        second = suggested("--ask", "m", "--base-url", server.url, *aim)
        assert len(server.log) == 2 and told(second) == found
    kept = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in data for data in kept) and any(b"pink before white snow" in data for data in kept)
    assert KEY not in first.output + first.stderr + second.output + second.stderr


@pytest.mark.slow
def test_no_key_in_any_output_of_a_run_that_fails(home):
    """Not even under --debug, with a traceback."""
    environment = os.environ | {"OPENAI_API_KEY": KEY, "OPENAI_LOG": "debug"}
    with serving(lambda server, request: (401, {"error": {"message": f"bad key {KEY}"}}, {})) as server:
        options = ["--descriptors", "biased.json", "--model", "fake", "--ask", "m", "--base-url", server.url]
        command = [sys.executable, "-m", "vlmdesc", "--debug", "suggest", "table.csv", *options]
        done = subprocess.run(command, capture_output=True, env=environment)
        assert server.log
    assert done.returncode == 3 and KEY.encode() not in done.stdout + done.stderr
    assert b"OPENAI_API_KEY" in done.stderr and not Path("edits.jsonl").exists()


def test_a_model_without_a_usable_answer_is_named_and_the_rest_is_tried(home, suggested):
    with serving(lambda server, request: (200, completion("I cannot help with that."), {})) as server:
        result = suggested("--ask", "m", "--base-url", server.url, "--json")
    found = told(result, code=result.exit_code)
    assert result.exit_code == 1 and "the model refused" in result.stderr and found["written"] == "edits.jsonl"
    assert '(class "flamingo", refused)' in result.stderr
    assert {tried["kind"] for tried in found["tried"]} <= {"drop", "reweigh", "borrow"}


def test_an_endpoint_that_is_gone_is_named_and_the_rest_is_tried(home, monkeypatch, suggested):
    monkeypatch.setattr("vlmdesc.descriptors.llm.BACKOFF_S", 0.001)
    result = suggested("--ask", "m", "--base-url", "http://127.0.0.1:1/v1")
    assert "no connection" in result.stderr and "Traceback" not in result.stderr and read_patch("edits.jsonl")
    assert result.exit_code in (1, 3)


def test_answers_that_cannot_be_trusted_harm_nobody(home, suggested):
    """Escapes, marks of direction and HTML in an answer: nothing of them is obeyed on the way to the patch."""
    hostile = [f"pink {ESC} before white snow", f"pink{BIDI} and white", "pink and white <script>alert(1)</script>"]
    photograph(24)
    with serving(lambda server, request: (200, completion(hostile), {})) as server:
        result = suggested("--ask", "m", "--base-url", server.url)
    assert result.exit_code == 0, result.stderr
    assert not {*result.output, *result.stderr} & {"\x1b", BIDI}
    assert "\x1b" not in Path("edits.jsonl").read_text()  # what cannot be seen is refused or taken out
