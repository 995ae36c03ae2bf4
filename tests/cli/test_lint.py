import json

import pytest

from vlmdesc.records import Descriptors

BIRDS = {
    "hen": ["a red comb", "- a red comb", "a loud call", "a hen has brown feathers", "a white hen"],
    "owl": ["two large round eyes", "brown feathers with bars"],
}


@pytest.fixture
def lint(run):
    return lambda *arguments: run("lint", *arguments)


@pytest.fixture
def birds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return written(tmp_path / "birds.json", BIRDS)


def written(path, lists):
    path.write_text(json.dumps(lists))
    return path


def test_a_clean_file_says_so_and_exits_0(lint, birds):
    result = lint(written(birds, {"hen": ["a red comb"], "owl": ["two large round eyes"]}))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "no findings in 2 classes, 2 rows\n", "")


def test_findings_exit_1_and_say_where_what_and_what_to_do(lint, birds):
    result = lint(birds)
    assert result.exit_code == 1 and "4 findings in 2 classes, 7 rows" in result.stdout
    for words in ("not-visual: ", "or drop it", "a loud call", "tells of a sound", "leave the name out"):
        assert words in result.stdout
    assert "more; --json" not in result.stdout and not list(birds.parent.glob("*-fixed*"))


def test_json_is_the_whole_record(lint, birds):
    result = lint(birds, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and [*found] == ["file", "classes", "rows", "findings", "counts"]
    assert (found["file"], found["classes"], found["rows"]) == (str(birds), 2, 7)
    assert found["counts"] == {"class-name": 2, "markup": 1, "not-visual": 1}
    assert [*found["findings"][0]] == ["code", "class_id", "row", "text", "what", "remedy"]
    assert [(f["code"], f["class_id"], f["row"]) for f in found["findings"]] == [
        ("markup", "hen", 1), ("not-visual", "hen", 2), ("class-name", "hen", 3), ("class-name", "hen", 4),
    ]  # fmt: skip


def test_codes_can_be_ignored_and_must_be_known(lint, birds):
    found = json.loads(lint(birds, "--ignore", "class-name", "--ignore", "clause", "--json").stdout)
    assert [*found["counts"]] == ["markup", "not-visual"]  # "clause" was a code once
    wrong = lint(birds, "--ignore", "not-visible")
    assert wrong.exit_code == 2 and "did you mean 'not-visual'?" in wrong.stderr
    assert lint(birds, "--phrase", "plan").exit_code == 2 and lint("bords.json").exit_code == 2


def test_what_is_printed_is_neither_markup_nor_control(lint, birds):
    names = ["[bold]x[/bold]", "\u202egnp.exe", "[/]"]
    texts = ["[link=http://x]a loud call[/link]", "a loud \u2066 call", "[red]used for tea"]
    result = lint(written(birds, {name: [text, "[/b]."] for name, text in zip(names, texts, strict=True)}))
    assert result.exit_code == 1 and "\u202e" not in result.stdout and "\x1b" not in result.stdout
    for words in ("[bold]x[/bold]", "\\u202egnp.exe", "[/b]"):
        assert words in result.stdout
    fixed = lint(birds, "--fix")
    assert "[/b]. -> [/b]" in fixed.stdout and "\u202e" not in fixed.stdout + fixed.stderr


def test_a_long_set_shows_counts_first_and_a_part(lint, birds):
    written(birds, {f"c{i}": [f"a {'red' * i}x call, loud", "feet.", f"used for {'x' * i}"] for i in range(1, 41)})
    lines = lint(birds).stdout.splitlines()
    found = json.loads(lint(birds, "--json").stdout)
    counts, total = found["counts"], len(found["findings"])
    assert lines[0] == f"{total} findings in 40 classes, 120 rows"
    assert [line.split() for line in lines[1 : 1 + len(counts)]] == [[str(n), code] for code, n in counts.items()]
    shown = sum(line.startswith("c") and line.split()[0][1:].isdigit() for line in lines)
    assert 0 < shown <= 50 and f"... and {total - shown} more; --json shows all" in lines


def test_fix_writes_a_new_file_and_says_what_changed_and_what_is_left(lint, birds):
    before = birds.read_bytes()
    result = lint(birds, "--fix")
    assert result.exit_code == 1 and birds.read_bytes() == before
    for line in (
        "row 1 of hen, duplicate: - a red comb -> dropped",
        "row 2 of hen, not-visual: a loud call -> dropped",
        "row 3 of hen, class-name: a hen has brown feathers -> brown feathers",
        "3 changes; then 1 finding in 2 classes, 5 rows",
    ):
        assert line in result.stdout.splitlines()
    fixed = birds.with_name("birds-fixed.json")
    assert str(fixed) in result.stderr
    assert [row.text for row in Descriptors.load(fixed).rows[:3]] == ["a red comb", "brown feathers", "a white hen"]
    assert lint(fixed, "--ignore", "class-name").exit_code == 0


def test_fix_never_writes_over_a_file_unless_it_is_named(lint, birds):
    there = written(birds.with_name("birds-fixed.json"), {"lynx": ["whiskers"]})
    refused = lint(birds, "--fix")
    assert refused.exit_code == 2 and "--out" in refused.stderr and "lynx" in there.read_text()
    found = json.loads(lint(birds, "--fix", "--out", there, "--json").stdout)
    assert found["written"] == str(there) and "lynx" not in there.read_text() and found["rows"] == 5
    assert found["changes"][-1] == {
        "row": 3, "class_id": "hen", "code": "class-name", "before": "a hen has brown feathers",
        "after": "brown feathers",
    }  # fmt: skip
    assert lint(birds, "--out", "new.json").exit_code == 2 and not birds.with_name("new.json").exists()


def test_fix_over_a_file_keeps_its_edits_and_can_be_undone(lint, run, birds):
    assert run("edit", birds, "add", "hen", "A red comb.", "--why", "it shows").exit_code == 0
    before = Descriptors.load(birds)
    assert lint(birds, "--fix", "--out", birds).exit_code == 1
    log = run("edit", birds, "log").stdout
    assert "it shows" in log and log.count("vlmdesc lint") == 4
    for _ in range(4):
        assert run("edit", birds, "undo").exit_code == 0
    assert Descriptors.load(birds).rows == before.rows


def test_fix_with_nothing_to_mend_writes_only_what_is_named(lint, birds):
    result = lint("everyday", "--fix")
    assert result.exit_code == 0 and "nothing to mend" in result.stderr
    found = json.loads(lint("everyday", "--fix", "--json").stdout)
    assert (found["file"], found["written"]) == ("everyday", None)
    assert [p.name for p in birds.parent.iterdir()] == ["birds.json"]
    assert lint("everyday", "--fix", "--out", "same.json").exit_code == 0
    assert Descriptors.load("same.json") == Descriptors.load("everyday")


def test_a_model_finds_what_is_cut_off_and_what_is_nearly_the_same(lint, birds, monkeypatch):
    monkeypatch.setenv("VLMDESC_MODEL", "no-such-model")  # a model is loaded only where it is asked for
    words = " ".join(f"w{i}" for i in range(80))
    written(birds, {"hen": ["a red comb", "a red crest", words], "owl": ["two blue eyes"]})
    assert json.loads(lint(birds, "--json").stdout)["counts"] == {"run-on": 1}
    result = lint(birds, "--model", "fake", "--json")
    found = {f["code"]: f for f in json.loads(result.stdout)["findings"]}
    assert result.stderr == "" and found.keys() == {"run-on", "too-long", "near-duplicate"}
    assert "'w72'" in found["too-long"]["what"] and found["near-duplicate"]["row"] == 1
    assert "too-long" in lint(birds, "--model", "fake", "--phrase", "free").stdout
    assert "too-long" not in lint(birds, "--model", "fake", "--ignore", "run-on", "--phrase", "name").stdout


def test_a_class_without_a_descriptor_needs_no_model_for_its_texts(lint, birds):
    result = lint(written(birds, {"hen": [], "owl": []}), "--model", "fake", "--json")
    assert json.loads(result.stdout)["counts"] == {"empty-class": 2}
