import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.albums import colours_of, paint
from vlmdesc.cli.app import app
from vlmdesc.cli.interactive import HELP
from vlmdesc.embeddings.load import ENCODERS
from vlmdesc.testing import FakeEncoder

REAL = {"cat": "a cat", "coffee": "a cup of coffee", "rocket": "a rocket", "temple": "a temple", "flower": "a flower"}
PAINTED = {"red": ("red", "blue"), "blue": ("blue", "green"), "pink": ("pink", "pink")}  # label: two images' colours


@pytest.fixture
def search(run):
    def asked(*arguments, folder="album.idx", lines=None):
        return run(
            "search", folder, *arguments, input=None if lines is None else "".join(f"{line}\n" for line in lines)
        )

    return asked


@pytest.fixture
def hits(search):
    """The ids that are found, as they are named from here, best first."""

    def found(*arguments, **options):
        result = search(*arguments, "--json", **options)
        assert result.exit_code == 0, result.output
        return [os.path.relpath(hit["id"]) for hit in json.loads(result.stdout)["hits"]]

    return found


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, run):
    """An index of six images, and a cache and a working folder for each test."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for label, (whole, half) in PAINTED.items():
        paint(tmp_path / "album" / label / "whole.png", whole)
        paint(tmp_path / "album" / label / "half.png", label, half, side=20)
    assert run("index", "build", "album", "--out", "album.idx", "--model", "fake").exit_code == 0
    return tmp_path


def test_by_words(home, search):
    result = search("something red", "--top", "2")
    assert result.exit_code == 0 and result.stderr == ""
    first, second = result.stdout.splitlines()
    assert first.split() == ["1", first.split()[1], "red", "album/red/whole.png"] and float(first.split()[1]) > 0.95
    assert second.split() == ["2", second.split()[1], "red", "album/red/half.png"] and float(second.split()[1]) < 0.75
    assert len(search("red").stdout.splitlines()) == 6  # of 20 at most


def test_the_shape_of_the_json(home, search):
    result = search("something red", "album/pink/whole.png", "--not", "blue", "--top", "1", "--json")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1
    said = json.loads(result.stdout)
    [hit] = said.pop("hits")
    assert said == {
        "index": "album.idx",
        "model": "fake",
        "wanted": ["something red", "album/pink/whole.png"],
        "not": ["blue"],
    }
    score = hit.pop("score")
    assert hit == {"id": str(home / "album" / "pink" / "half.png"), "label": "pink"}
    assert isinstance(score, float) and round(score, 6) == score and 0 < score < 1


def test_by_a_image_which_is_itself_left_out(home, hits):
    assert hits("album/red/whole.png", "--top", "1") == ["album/red/half.png"]
    shutil.copy("album/red/whole.png", "elsewhere.png")  # the same content under another name
    assert "album/red/whole.png" not in hits("elsewhere.png")
    paint(home / "other.png", "red", side=9)
    assert hits("other.png", "--top", "1") == ["album/red/whole.png"]


def test_by_several_together_and_without_what_is_not_wanted(hits):
    assert hits("red", "blue", "--top", "1") == ["album/red/half.png"]
    assert hits("blue", "--not", "red")[-1] == "album/red/whole.png"
    assert hits("album/red/half.png", "--not", "red", "--top", "1") == ["album/blue/whole.png"]
    assert hits("red", "blue", "green", "--not", "red", "--not", "album/blue/whole.png", "--top", "1") == [
        "album/blue/half.png"
    ]
    assert "album/blue/whole.png" not in hits("red", "--not", "album/blue/whole.png")


def test_a_contact_sheet(search):
    result = search("red", "--top", "2", "--montage", "found.png")
    assert result.exit_code == 0 and "2 images, drawn to found.png" in result.stderr
    assert colours_of("found.png") >= {"red", "blue"}
    paint(Path("album/red/whole.png"), "orange")  # changed since: not what was found
    assert search("red", "--top", "1", "--montage", "found.png").exit_code == 0
    assert not {"red", "orange"} & colours_of("found.png")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to look for"),
        (("--not", "red"), "nothing to look for"),
        (("red", "--interactive"), "a query and --interactive"),
        (("./album",), "a folder (./album)"),
        (("red", "--not", "album/red"), "a folder (album/red)"),
        (("album/red/whale.png",), "did you mean 'whole.png'?"),
        (("nowhere/some.jpg",), "no such image (nowhere/some.jpg)"),
        (("",), "an empty text"),
        (("red", "--not", " "), "an empty text"),
        (("red", "--filter", "label=bleu"), "did you mean 'blue'?"),
        (("red", "--filter", "id=*.gif"), "no row has id=*.gif"),
        (("red", "--filter", "labl=red"), "did you mean 'label'?"),
        (("red", "--filter", "red"), "unknown filter 'red'"),
    ],
)
def test_wrong_queries_are_told_before_the_model_is_loaded(monkeypatch, arguments, says, search):
    monkeypatch.setitem(ENCODERS, "fake", lambda *_: pytest.fail("loaded"))
    result = search(*arguments)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr and not result.stdout


def test_queries_that_say_nothing_and_no_index(search):
    for arguments, says in [(["red", "--not", "red"], "takes all away"), (["red"], "no index (album)")]:
        result = search(*arguments, folder="album.idx" if "--not" in arguments else "album")
        assert result.exit_code == 2 and says in result.stderr


def test_a_broken_image_is_exit_1(home, search):
    (home / "page.png").write_text("<!doctype html>")
    (home / "empty").touch()
    for name in ("page.png", "empty"):
        result = search(name)
        assert result.exit_code == 1 and f"({name})" in result.stderr and not result.stdout


def test_another_model_cannot_be_asked(monkeypatch, search):
    monkeypatch.setattr(FakeEncoder, "fingerprint", "fake-2")
    result = search("red")
    assert result.exit_code == 2 and "embeddings of another model, or of other weights" in result.stderr


def test_a_image_that_was_asked_with_is_encoded_once(home, monkeypatch, hits):
    paint(home / "other.png", "red", side=9)
    first = hits("other.png")
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    assert hits("other.png") == first and hits("album/pink/half.png", "--top", "1") == ["album/pink/whole.png"]


def test_hostile_names_are_shown_as_escapes(home, search, run):
    label, name = "la\x1b[1m\u202e\nbel", "c\x1b[31m\n  1  1.000  fake.png"
    paint(home / "odd" / label / name, "red")
    paint(home / "odd" / "plain" / "1.png", "blue")
    assert run("index", "build", "odd", "--out", "odd\x1b[7m.idx", "--model", "fake").exit_code == 0
    for arguments in (
        ("red \x1b[1m", "--montage", "m\x1b[1m.png"),
        ("red\x1b[1m\u202e.png",),
        (f"odd/{label}",),
        ("red", "--filter", "label=x\x1b[1m\u202e"),
    ):
        result = search(*arguments, folder="odd\x1b[7m.idx")
        assert not {"\x1b", "\u202e"} & {*result.output} and len(result.output.splitlines()) <= 3
    first = search("red", folder="odd\x1b[7m.idx").stdout.splitlines()[0]
    assert r"la\x1b[1m\u202e\nbel  odd/la\x1b[1m\u202e\nbel/c\x1b[31m\n  1  1.000  fake.png" in first
    assert colours_of("m\x1b[1m.png") >= {"red", "blue"}
    said = json.loads(search("red", "--json", folder="odd\x1b[7m.idx").stdout)
    assert said["hits"][0]["label"] == label and said["hits"][0]["id"].endswith(name)
    answers = search(
        "-i", folder="odd\x1b[7m.idx", lines=[":x\x1b[1m", "#1", "red", ":filter label=\x1b[1m", ":top \x1b"]
    )
    assert not {"\x1b", "\u202e"} & {*answers.output} and answers.exit_code == 0


def ranked(result):
    """The paths in each answer to a person, best first."""
    answers = []
    for line in result.stdout.splitlines():
        rank, _, _, path = line.split()
        if rank == "1":
            answers.append([])
        answers[-1].append(path)
    return answers


def test_interactive_answers_one_query_after_another(search):
    result = search(
        "--interactive", "--top", "1", lines=["red", "", "red + blue - pink", "album/red/whole.png", "- red + blue"]
    )
    assert result.exit_code == 0 and result.stderr == ""
    assert ranked(result) == [
        ["album/red/whole.png"],
        ["album/red/half.png"],
        ["album/red/half.png"],
        ["album/blue/whole.png"],
    ]


def test_interactive_asks_with_what_was_found(search):
    lines = ["#1", "red", "#1", "#2 - red", "#7"]
    result = search("-i", "--top", "2", lines=lines)
    assert result.exit_code == 0 and "nothing found yet" in result.stderr and "no hit 7;" in result.stderr
    answers = ranked(result)
    assert answers[0] == ["album/red/whole.png", "album/red/half.png"]
    assert answers[1][0] == "album/red/half.png" and "album/red/whole.png" not in answers[1]
    assert len(answers) == 3


def test_interactive_commands(search):
    lines = [
        ":top 2",
        "red",
        ":filter label=blue",
        "red",
        ":filter",
        "red",
        ":montage found.png",
        ":help",
        ":quit",
        "pink",
    ]
    result = search("-i", lines=lines)
    assert result.exit_code == 0 and HELP in result.stderr and "2 images, drawn to found.png" in result.stderr
    answers = ranked(result)
    assert [len(answer) for answer in answers] == [2, 2, 2] and answers[0] == answers[2]
    assert {Path(path).parent.name for path in answers[1]} == {"blue"} and colours_of("found.png") >= {"red", "blue"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (":frobnicate", "unknown command ':frobnicate'; fix: see :help"),
        (":top", "unknown command"),
        (":top 0", "unknown command"),
        (":top many", "unknown command"),
        (":filter label=bleu", "did you mean 'blue'?"),
        (":montage found.png", "nothing found yet"),
        (":montage", "unknown command"),
        (":montage nowhere/found.png", "nothing found yet"),
        ("./album", "a folder (./album)"),
        ("nope.png", "no such image (nope.png)"),
        ("page.png", "(page.png)"),
        ("red - red", "takes all away"),
        ("- red", "nothing to look for"),
    ],
)
def test_an_error_does_not_end_the_conversation(home, line, says, search):
    (home / "page.png").write_text("<!doctype html>")
    result = search("-i", "--top", "1", lines=[line, "red"])
    assert result.exit_code == 0 and result.stderr.startswith("error: ") and says in result.stderr
    assert ranked(result) == [["album/red/whole.png"]]


def test_the_commands_begin_with_the_options_given(search):
    found = ranked(search("-i", "--top", "1", "--filter", "label=blue", lines=["red", ":montage nowhere/x.png", "red"]))
    assert len(found) == 2 and found[0] == found[1] and found[0][0].startswith("album/blue/")


def test_interactive_json_lines(search):
    result = search("-i", "--json", "--top", "1", lines=["red - blue", ":nope", "blue"])
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["wanted"], first["not"]) == (["red"], ["blue"]) and second["wanted"] == ["blue"]
    assert set(first) == {"index", "model", "wanted", "not", "hits"} and len(first["hits"]) == 1


def test_interactive_in_a_pipe():
    """Each answer comes as soon as it is asked for."""
    command = [sys.executable, "-m", "vlmdesc", "search", "album.idx", "--interactive", "--top", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1) as process:
        for line, path in (("red", "album/red/whole.png"), ("blue", "album/blue/whole.png")):
            process.stdin.write(f"{line}\n")
            assert process.stdout.readline().split()[-1] == path
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


@pytest.fixture(scope="module")
def real(photos, starter, tmp_path_factory):
    """An index of six real photographs by the starter, and its own cache."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "photos").mkdir()
    for name, path in photos.items():
        shutil.copy(path, folder / "photos" / f"{name}{path.suffix}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLMDESC_CACHE", str(folder / "cache"))
        patch.setitem(ENCODERS, "starter", lambda *_: starter)
        arguments = ["index", "build", str(folder / "photos"), "--out", str(folder / "idx"), "--precision", "fp32"]
        assert CliRunner().invoke(app, arguments).exit_code == 0
    return folder


def test_real_photographs(real, photos, starter, monkeypatch, hits):
    monkeypatch.setenv("VLMDESC_CACHE", str(real / "cache"))
    monkeypatch.setenv("VLMDESC_MODEL", "fake")  # is for what is made
    monkeypatch.setitem(ENCODERS, "starter", lambda *_: starter)

    def found(*words):
        return [Path(id_).stem for id_ in hits(*words, folder=real / "idx")]

    for name, words in REAL.items():
        assert found(words)[0] == name
    assert found("a cat", "a cup of coffee", "--not", "a cat")[0] == "coffee"
    assert found(photos["cat"], "a flower")[0] == "flower" and "cat" not in found(photos["cat"])
