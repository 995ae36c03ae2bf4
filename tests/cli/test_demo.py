import json

from PIL import Image
from typer.testing import CliRunner

from vlmdesc.assets import shipped
from vlmdesc.cli import demo
from vlmdesc.cli.app import app


def test_the_demo_gets_most_photographs_right_and_draws_them(tmp_path):
    out = tmp_path / "figure.png"
    result = CliRunner().invoke(app, ["demo", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["n"] == 6 and report["right_by_description"] >= 4
    answers = [photo["by_description"]["ranked"][0]["class"] == photo["shows"] for photo in report["photos"]]
    assert sum(answers) == report["right_by_description"]
    with Image.open(out) as figure:
        assert figure.format == "PNG" and min(figure.size) > 800


def test_the_table_and_a_place_that_cannot_be_written(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "figure.png")])
    assert result.exit_code == 0 and "by description" in result.stdout and "of 6" in result.stdout
    for out in (tmp_path / "no" / "figure.png", tmp_path / "figure.jpg"):
        result = CliRunner().invoke(app, ["demo", "--model", "fake", "--out", str(out)])
        assert result.exit_code == 2 and "ending in .png" in result.stderr


def test_missing_photographs_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "PHOTOS", (demo.Photo("no_such_package", "x.png", "cat"),))
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "figure.png")])
    assert result.exit_code == 2 and "pip install 'vlmdesc[starter]'" in result.stderr


def test_the_truths_are_everyday_classes():
    names = {c["name"] for c in json.loads(shipped("descriptors/everyday.json").read_text())["classes"]}
    assert len(names) >= 40 and {photo.shows for photo in demo.PHOTOS} <= names
