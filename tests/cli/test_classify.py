import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from vlmdesc.cli.output import render
from vlmdesc.records import Contrast, Hit, Prediction
from vlmdesc.testing import COLOURS


@pytest.fixture
def classify(run):
    return lambda *arguments: run("classify", *arguments)


def vlmdesc(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "vlmdesc", *map(str, arguments)], capture_output=True, **options)


@pytest.fixture
def album(tmp_path):
    """Four flat images and a broken one."""
    folder = tmp_path / "album"
    folder.mkdir()
    for colour in ("red", "blue", "green", "yellow"):
        Image.new("RGB", (30, 20), COLOURS[colour]).save(folder / f"{colour}.png")
    (folder / "torn.jpg").write_bytes(b"<html>404</html>")
    return folder


def test_fifty_mixed_photographs_three_of_them_broken(photos, tmp_path):
    """The real model through the real command, as a user would run it."""
    folder = tmp_path / "fifty"
    folder.mkdir()
    names, formats = list(photos), ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
    for i in range(47):
        image = Image.open(photos[names[i % 6]]).convert("RGB")
        image.thumbnail((300 + 5 * i, 300 + 5 * i))
        image = image.convert(["RGB", "RGB", "L", "RGBA"][i % 4])
        format_ = "PNG" if i % 4 == 3 else formats[i % 6]
        image.save(folder / f"{i:02d}-{names[i % 6]}.{format_.lower()}", format_)
    (folder / "empty.jpg").touch()
    (folder / "page.png").write_bytes(b"<!doctype html><title>404</title>")
    whole = (folder / "00-cat.jpeg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    result = vlmdesc("classify", folder, "--descriptors", "everyday", "--json", "--against", "dog", text=True)
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 47
    for line in lines:
        assert {"image", "model", "ranked", "because"} <= line.keys() and line["model"] == "starter"
        scores = [entry["score"] for entry in line["ranked"]]
        assert len(scores) == 5 and scores == sorted(scores, reverse=True)
        assert line["because"] and all({"descriptor", "similarity"} == entry.keys() for entry in line["because"])
        against = line["against"]
        assert sum(d["contribution"] for d in against["descriptors"]) == pytest.approx(against["margin"], abs=1e-4)
    for name, why in (("empty.jpg", "empty file"), ("page.png", "HTML"), ("cut.jpg", "truncated")):
        assert any(name in line and why in line for line in result.stderr.splitlines())
    right = sum(line["ranked"][0]["class"] == "cat" for line in lines if "-cat." in line["image"])
    assert right >= 6  # of 8 images of one cat
    assert "Traceback" not in result.stderr


def test_table_for_people(album, classify):
    result = classify(album / "red.png", "--classes", "red,blue", "--model", "fake", "--against", "blue")
    assert result.exit_code == 0
    for text in ("red.png", "━", "because", "a photo of a red.", "by what it lacks of blue"):
        assert text in result.stdout
    assert result.stderr == ""


def test_one_broken_file_is_named_and_the_rest_go_on(album, classify):
    result = classify(album, "--classes", "red,blue,green,yellow", "--model", "fake", "--json")
    assert result.exit_code == 1
    found = {
        Path(line["image"]).name: line["ranked"][0]["class"] for line in map(json.loads, result.stdout.splitlines())
    }
    assert found == {f"{colour}.png": colour for colour in ("red", "blue", "green", "yellow")}
    assert "error: not an image but an HTML page" in result.stderr and "torn.jpg" in result.stderr
    assert "1 of 5 images could not be used" in result.stderr


def test_globs_top_k_reasons_phrase_and_pool(album, tmp_path, classify):
    (tmp_path / "zoo.json").write_text(
        json.dumps({"frog": ["green skin", "a green belly"], "canary": ["yellow wings"]})
    )
    options = ("--descriptors", tmp_path / "zoo.json", "--model", "fake", "--json", "--top-k", 1)
    result = classify(album / "*.png", *options,
                 "--reasons", 1, "--phrase", "free", "--pool", "max", "--batch-size", 2)  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0 and len(lines) == 4
    assert all(len(line["ranked"]) == len(line["because"]) == 1 for line in lines)


def test_two_classes_of_one_name_show_their_ids(album, tmp_path, classify):
    data = {"index_to_classname": {"1": "crane", "2": "crane"}, "index_to_descriptions": {"1": ["red"], "2": ["blue"]}}
    (tmp_path / "cranes.json").write_text(json.dumps(data))
    result = classify(album / "blue.png", "--descriptors", tmp_path / "cranes.json", "--model", "fake", "--json")
    assert json.loads(result.stdout)["ranked"][0] | {"score": 0} == {"class": "crane", "id": "2", "score": 0}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give either --classes or --descriptors"),
        (("--classes", "a,b", "--descriptors", "everyday"), "give either"),
        (("--classes", "cat,,dog"), "class 2 is empty"),
        (("--classes", "cat,dog, Cat "), "'cat' and 'Cat'"),
        (("--descriptors", "evryday"), "did you mean 'everyday'"),
        (("--descriptors", "none.json"), "no such file or shipped set"),
        (("--descriptors", "n" * 300), "no such file or shipped set"),
        (("--classes", "a,b", "--pool", "maen"), "did you mean 'mean'"),
        (("--classes", "a,b", "--phrase", "plian"), "did you mean 'plain'"),
        (("--classes", "a,b", "--against", "c"), "no class 'c'; fix: classes: a, b"),
        (("--classes", "cat,owl", "--against", "CAT"), "did you mean 'cat'"),
        (("--classes", "a,b", "--model", "strater"), "did you mean 'starter'"),
        (("--classes", "a,b", "--top-k", "0"), "greater than or equal to 1"),
        (("--classes", "a,b", "--no-such-option"), "No such option"),
    ],
)
def test_a_wrong_call_is_one_message_and_exit_2(album, arguments, says, classify):
    model = () if "--model" in arguments else ("--model", "fake")
    result = classify(album / "red.png", *model, *arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


def test_no_pictures(tmp_path, classify):
    for nothing in ("", "missing.jpg", "*.jpg"):
        result = classify(tmp_path / nothing, "--classes", "a,b", "--model", "fake")
        assert result.exit_code == 2 and "no images found" in result.stderr and nothing in result.stderr


def test_files_that_are_no_pictures_are_passed_over_inside_folders(album, classify):
    (album / "torn.jpg").unlink()
    (album / "notes.txt").write_text("hello")
    result = classify(album, "--classes", "red,blue", "--model", "fake", "--json")
    assert result.exit_code == 0 and "passed over: " in result.stderr and "notes.txt" in result.stderr


def test_the_model_comes_from_the_environment_and_the_default_is_announced(album, monkeypatch, photos, classify):
    monkeypatch.setenv("VLMDESC_MODEL", "fake")
    result = classify(album / "red.png", "--classes", "red,blue", "--json")
    assert json.loads(result.stdout)["model"] == "fake" and "model:" not in result.stderr
    monkeypatch.delenv("VLMDESC_MODEL")
    result = classify(photos["cat"], "--classes", "cat,dog", "--json")
    assert json.loads(result.stdout)["ranked"][0]["class"] == "cat"
    assert result.stderr.startswith("model: starter") and len(result.stderr.splitlines()) == 1


def test_hostile_names_are_shown_as_escapes_and_survive_in_json(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9\x1b[31m[bold]\n.png")
    out = io.BytesIO()
    Image.new("RGB", (9, 9), COLOURS["red"]).save(out, "PNG")
    with open(name, "wb") as file:
        file.write(out.getvalue())
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    shown = vlmdesc("classify", tmp_path, "--classes", "red,blue [link=x]", "--model", "fake", env=environment)
    assert shown.returncode == 0 and b"\x1b" not in shown.stdout and rb"\x1b[31m[bold]\n.png" in shown.stdout
    line = json.loads(
        vlmdesc("classify", tmp_path, "--classes", "red,blue", "--model", "fake", "--json", env=environment).stdout
    )
    assert os.fsencode(line["image"]) == name


@pytest.mark.parametrize("json_", ["--json", ""])
def test_a_reader_that_stops_early_is_no_error(album, json_):
    (album / "torn.jpg").unlink()
    for i in range(300):
        shutil.copy(album / "red.png", album / f"copy-{i}.png")
    call = f"{sys.executable} -m vlmdesc classify {album} --classes red,blue --model fake {json_}"
    command = f"{call} | head -n 1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert len(result.stdout.splitlines()) == 2 and result.stdout.endswith("\n0\n") and result.stderr == ""


def test_an_output_that_cannot_be_written_is_exit_4(album):
    command = f"{sys.executable} -m vlmdesc classify {album}/red.png --classes red,blue --model fake --json > /dev/full"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 4 and "No space left on device" in result.stderr and "Traceback" not in result.stderr


def test_a_terminal_without_unicode_gets_escapes(album):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = vlmdesc("classify", album / "red.png", "--classes", "red,blue", "--model", "fake", env=environment)
    assert result.returncode == 0 and b"because" in result.stdout


def test_control_c_says_so_and_exits_130(album):
    for i in range(20_000):
        os.link(album / "red.png", album / f"copy-{i}.png")
    command = f"{sys.executable} -m vlmdesc classify {album} --classes red,blue --model fake --json"
    process = subprocess.Popen(command.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline()  # at work
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - began < 5
    assert "interrupted" in errors and "Traceback" not in errors


def test_a_missing_file_among_others_is_one_failure(album, classify):
    result = classify(album / "red.png", album / "missing.jpg", "--classes", "red,blue", "--model", "fake", "--json")
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 1 and "missing.jpg" in result.stderr


def test_a_folder_named_like_a_shipped_set_does_not_hide_it(album, monkeypatch, tmp_path, classify):
    (tmp_path / "everyday").mkdir()
    monkeypatch.chdir(tmp_path)
    assert classify(album / "red.png", "--descriptors", "everyday", "--model", "fake").exit_code == 0


def plain(prediction, width):
    return ["".join(text for text, _ in line) for line in render(prediction, Console(width=width))]


def test_a_low_score_never_has_the_longer_bar():
    hits = (Hit("a", 0.3, "first"), Hit("b", 0.01, "second"), Hit("c", -0.2, "last"))
    lines = plain(Prediction("x.png", hits, (), 0.29), 80)
    assert [line.count("━") for line in lines] == [24, 1, 0]


def test_what_wraps_stays_in_its_column_in_cells_not_letters():
    """深 and its like take two cells."""
    a, b = Hit("hen", 0.3, "hen"), Hit("cock", 0.1, "cock")
    of_a, of_b = (Hit("0", 0.15, "a small red comb 深深 and wattles"),), (Hit("1", 0.05, "arched tail"),)
    found = plain(Prediction("x.png", (a, b), (), 0.2, Contrast(a, b, 0.2, of_a, of_b)), 60)
    assert [line.rstrip() for line in found] == [
        "  0.300 ━━━━━━━━━━━━━━━━━━━━━━━━ hen",
        "  0.100 ━━━━━━━━                 cock",
        "  hen 0.300, cock 0.100: hen is 0.200 ahead",
        "  by what it shows of hen      by what it lacks of cock",
        "  +0.150 ━━━━━━━━ a small red  +0.050 ━━━      arched tail",
        "                  comb 深深",
        "                  and wattles",
    ]
