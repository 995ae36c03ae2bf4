import json

import pytest
from typer.testing import CliRunner

from vlmdesc.cli.app import app
from vlmdesc.records import Descriptors

BIRDS = {
    "hen": ["a red comb", "- a red comb", "a loud call", "a hen has brown feathers", "antennae on top"],
    "owl": ["two large round eyes", "brown feathers with bars"],
}


def run(*arguments):
    return CliRunner().invoke(app, ["lint", *map(str, arguments)])


@pytest.fixture
def birds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "birds.json"
    path.write_text(json.dumps(BIRDS))
    return path


def written(path, lists):
    path.write_text(json.dumps(lists))
    return path


def test_a_clean_file_says_so_and_exits_0(birds):
    result = run(written(birds, {"hen": ["a red comb"], "owl": ["two large round eyes"]}))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "no findings in 2 classes, 2 rows\n", "")


def test_findings_exit_1_and_say_where_what_and_what_to_do(birds):
    result = run(birds)
    assert result.exit_code == 1 and "4 findings in 2 classes, 7 rows" in result.stdout
    for words in ("not-visual: ", "or drop it", "a loud call", "tells of a sound", "leave the name out", "dclip"):
        assert words in result.stdout
    assert "more; --json" not in result.stdout and not list(birds.parent.glob("*-fixed*"))


def test_json_is_the_whole_record(birds):
    result = run(birds, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and [*found] == ["file", "classes", "rows", "findings", "counts"]
    assert (found["file"], found["classes"], found["rows"]) == (str(birds), 2, 7)
    assert found["counts"] == {"markup": 1, "not-visual": 1, "class-name": 1, "clause": 1}
    assert [*found["findings"][0]] == ["code", "class_id", "row", "text", "what", "remedy"]
    assert [(f["code"], f["class_id"], f["row"]) for f in found["findings"]] == [
        ("markup", "hen", 1), ("not-visual", "hen", 2), ("class-name", "hen", 3), ("clause", "hen", 4),
    ]  # fmt: skip


def test_codes_can_be_ignored_and_must_be_known(birds):
    found = json.loads(run(birds, "--ignore", "clause", "--ignore", "markup", "--json").stdout)
    assert [*found["counts"]] == ["not-visual", "class-name"]
    wrong = run(birds, "--ignore", "not-visible")
    assert wrong.exit_code == 2 and "did you mean 'not-visual'?" in wrong.stderr
    assert run(birds, "--phrase", "plan").exit_code == 2 and run("bords.json").exit_code == 2


def test_a_shipped_set_goes_by_its_name(birds):
    assert run("everyday", "--ignore", "clause").exit_code == 0
    assert json.loads(run("everyday", "--json").stdout)["file"] == "everyday"


def test_what_is_printed_is_neither_markup_nor_control(birds):
    names = ["[bold]x[/bold]", "\u202egnp.exe", "[/]"]
    texts = ["[link=http://x]a loud call[/link]", "a loud \u2066 call", "[red]used for tea"]
    result = run(written(birds, {name: [text, "[/b]."] for name, text in zip(names, texts, strict=True)}))
    assert result.exit_code == 1 and "\u202e" not in result.stdout and "\x1b" not in result.stdout
    for words in ("[bold]x[/bold]", "\\u202egnp.exe", "[link=http://x]", "[/b]"):
        assert words in result.stdout
    fixed = run(birds, "--fix")
    assert "[/b]. -> [/b]" in fixed.stdout and "\u202e" not in fixed.stdout + fixed.stderr


def test_a_long_set_shows_counts_first_and_a_part(birds):
    written(birds, {f"c{i}": [f"a {'red' * i}x call, loud", "antennae", f"used for {'x' * i}"] for i in range(1, 41)})
    result = run(birds)
    lines = result.stdout.splitlines()
    found = json.loads(run(birds, "--json").stdout)
    counts, total = found["counts"], len(found["findings"])
    assert lines[0] == f"{total} findings in 40 classes, 120 rows"
    assert [line.split() for line in lines[1 : 1 + len(counts)]] == [[str(n), code] for code, n in counts.items()]
    shown = sum(line.startswith("c") and line.split()[0][1:].isdigit() for line in lines)
    assert 0 < shown <= 50 and f"... and {total - shown} more; --json shows all" in lines


def test_fix_writes_a_new_file_and_says_what_changed_and_what_is_left(birds):
    before = birds.read_bytes()
    result = run(birds, "--fix")
    assert result.exit_code == 1 and birds.read_bytes() == before
    for line in (
        "row 1 of hen, markup: - a red comb -> a red comb",
        "row 1 of hen, duplicate: a red comb -> dropped",
        "row 2 of hen, not-visual: a loud call -> dropped",
        "row 3 of hen, class-name: a hen has brown feathers -> brown feathers",
        "4 changes; then 1 finding in 2 classes, 5 rows",
    ):
        assert line in result.stdout.splitlines()
    fixed = birds.with_name("birds-fixed.json")
    assert str(fixed) in result.stderr
    assert [row.text for row in Descriptors.load(fixed).rows[:3]] == ["a red comb", "brown feathers", "antennae on top"]
    assert run(fixed, "--ignore", "clause").exit_code == 0


def test_fix_never_writes_over_a_file_unless_it_is_named(birds):
    there = written(birds.with_name("birds-fixed.json"), {"cat": ["whiskers"]})
    refused = run(birds, "--fix")
    assert refused.exit_code == 2 and "--out" in refused.stderr and "cat" in there.read_text()
    found = json.loads(run(birds, "--fix", "--out", there, "--json").stdout)
    assert found["written"] == str(there) and "cat" not in there.read_text() and found["rows"] == 5
    assert found["changes"][0] == {
        "row": 1, "class_id": "hen", "code": "markup", "before": "- a red comb", "after": "a red comb",
    }  # fmt: skip
    assert run(birds, "--out", "new.json").exit_code == 2 and not birds.with_name("new.json").exists()


def test_fix_with_nothing_to_mend_writes_only_what_is_named(birds):
    result = run("everyday", "--fix", "--ignore", "clause")
    assert result.exit_code == 0 and "nothing to mend" in result.stderr
    assert json.loads(run("everyday", "--fix", "--json").stdout)["written"] is None
    assert [p.name for p in birds.parent.iterdir()] == ["birds.json"]
    assert run("everyday", "--fix", "--out", "same.json", "--ignore", "clause").exit_code == 0
    assert Descriptors.load("same.json").meta["name"] == "everyday"


def test_a_model_finds_what_is_cut_off_and_what_is_nearly_the_same(birds, monkeypatch):
    monkeypatch.setenv("VLMDESC_MODEL", "no-such-model")  # a model is loaded only where it is asked for
    words = " ".join(f"w{i}" for i in range(80))
    written(birds, {"hen": ["a red comb", "a red crest", words], "owl": ["two blue eyes"]})
    without = json.loads(run(birds, "--json").stdout)
    assert without["counts"] == {"run-on": 1}
    result = run(birds, "--model", "fake", "--json")
    found = {f["code"]: f for f in json.loads(result.stdout)["findings"]}
    assert result.stderr == "" and found.keys() == {"run-on", "too-long", "near-duplicate"}
    assert "'w72'" in found["too-long"]["what"] and found["near-duplicate"]["row"] == 1
    assert "too-long" in run(birds, "--model", "fake", "--phrase", "free").stdout
    assert run(birds, "--model", "fake", "--ignore", "run-on", "--phrase", "name").stdout.count("too-long") == 0


def test_a_class_without_a_descriptor_needs_no_model_for_its_texts(birds):
    result = run(written(birds, {"hen": [], "owl": []}), "--model", "fake", "--json")
    assert json.loads(result.stdout)["counts"] == {"empty-class": 2}
