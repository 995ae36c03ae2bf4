import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_fitting import COLOUR, ZOO, picture
from vlmdesc.records import Descriptors
from vlmdesc.testing import FakeEncoder


@pytest.fixture
def selected(run):
    def select(*arguments, data="zoo", descriptors="zoo.json"):
        return run("select", data, "--descriptors", descriptors, *arguments, "--model", "fake")

    return select


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Four images a class, of which no caption tells a colour, and three labelled ones."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.json").write_text(json.dumps(ZOO))
    for c, (name, colour) in enumerate(COLOUR.items()):
        for i in range(4):
            picture(tmp_path / "zoo" / name / f"{i}.png", colour, ("white", "red")[i % 2], 100 * c + i)
        for i in range(3):
            picture(tmp_path / "known" / name / f"{i}.png", colour, ("white", "red")[i % 2], 1000 + 100 * c + i)
    return tmp_path


def words(text):
    return " ".join(text.split())


def texts(path):
    descriptors = Descriptors.load(path)
    return {c.id: [r.text for r in descriptors.rows if r.class_id == c.id] for c in descriptors.classes}


def test_the_file_the_pairs_and_what_is_said(home, selected):
    result = selected("--reference", "known", "--out", "some.json", "--json")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1, result.stderr
    assert "descriptors in some.json, pairs in some.pairs.json" in result.stderr
    found = Descriptors.load("some.json")
    assert [c.id for c in found.classes] == [*ZOO]
    record = found.meta["selection"]
    assert record["labels"] == "reference" and record["pictures"] == 12 and record["ceiling"] == 1
    assert (record["model"], record["phrase"]) == ("fake", "name:a photo of a {c}.")
    for name, kept in texts("some.json").items():
        assert kept and {*kept} <= {*ZOO[name]} and COLOUR[name] in kept[0]
    pairs = json.loads(Path("some.pairs.json").read_text())
    assert list(pairs) == ["schema", "pairs"] and pairs["schema"] == 1
    [pair] = pairs["pairs"]  # every caption is as far from every image: the first two classes are the candidates
    assert (pair["a"], pair["b"], pair["pictures"]) == ("flamingo", "frog", 16)
    assert all(row["lead"] > 0 for side in ("of_a", "of_b") for row in pair[side])
    assert "pink" in pair["of_a"][0]["descriptor"] and pair["of_b"][0]["descriptor"] == "green skin"
    shown = json.loads(result.stdout)
    assert (shown["schema"], shown["out"], shown["pairs"]) == (1, "some.json", pairs["pairs"])
    assert record == shown["selection"] | {"model": "fake", "phrase": record["phrase"]} and shown["pictures"] == 16
    assert set(record) >= {"k", "m", "name_weight", "texts", "fallback"}


def test_the_file_has_what_counting_gives(home, selected):
    """By hand: each image's own descriptor of widest lead, from the mean images of the reference."""
    selected("--reference", "known", "--json")
    record, fake = Descriptors.load("selected.json").meta["selection"], FakeEncoder()
    said = [text for list_ in ZOO.values() for text in list_]
    means = np.stack([fake.images([Image.open(f) for f in sorted(Path("known", n).iterdir())]).mean(0) for n in ZOO])
    profile, k, m = means @ fake.texts(said).T, record["k"], record["m"]
    assert k == 4  # so that the candidates of each image are all classes
    for c, name in enumerate(ZOO):
        lead = np.delete(profile[c] - profile, c, axis=0)
        best = [d for d in np.argsort(-lead.mean(0), kind="stable") if (lead[:, d] >= 0).all()][:m]
        assert texts("selected.json")[name] == [text for text in ZOO[name] if text in [said[d] for d in best]]


def test_the_table_is_for_people(home, selected):
    result = selected("--reference", "known")
    said, rows = words(result.stdout), len(Descriptors.load("selected.json").rows)
    assert "on 12 images of the reference" in said and "fallback on the images 0.0 %" in said
    assert f"{rows} of 8 descriptors kept" in said
    assert "class, by what it shows" in said and "and the one it is confused with" in said
    assert "green skin" in said and max(map(len, result.stdout.splitlines())) <= 100


def test_without_a_reference_no_labels_are_used_and_that_is_said(home, selected):
    """The same images without folders give the same, so labels taught nothing."""
    result = selected("--out", "a.json")
    said = words(result.stdout)
    assert result.exit_code == 0 and "no labels: " in said and "under pseudo-labels" in said
    assert "reference" not in said + result.stderr and "training-free" not in said + result.stderr
    record = Descriptors.load("a.json").meta["selection"]
    assert record["labels"] == "none" and record["ceiling"] is None and "left_out" not in record
    for name in ZOO:
        for i in range(4):
            (home / "flat").mkdir(exist_ok=True)
            (home / "zoo" / name / f"{i}.png").rename(home / "flat" / f"{name}-{i}.png")
    assert selected("--out", "b.json", data="flat").exit_code == 0
    assert texts("b.json") == texts("a.json")


def test_a_class_that_no_picture_is_taken_for_keeps_its_own(home, selected):
    (home / "more.json").write_text(json.dumps(ZOO | {"hen": ["a red comb", "brown eggs"]}))
    result = selected("--reference", "known", descriptors="more.json")
    assert result.exit_code == 0 and texts("selected.json")["hen"] == ["a red comb", "brown eggs"]
    assert "1 class without any: hen" in words(result.stdout)


def test_only_classes_of_the_reference_are_looked_at_where_that_is_wanted(home, selected):
    (home / "more.json").write_text(json.dumps(ZOO | {"hen": ["a red comb", "brown eggs"]}))
    result = selected("--reference", "known", "--only-present", descriptors="more.json")
    assert result.exit_code == 0 and [*texts("selected.json")] == [*ZOO] and "without any" not in result.stdout
    result = selected("--only-present")
    assert result.exit_code == 2 and "--only-present without --reference" in result.stderr


def test_images_of_which_none_can_be_used_are_refused_and_counted(home, selected):
    (home / "bad").mkdir()
    for i in range(30):
        (home / "bad" / f"page-{i}.png").write_text("<!doctype html>")
    result = selected(data="bad")
    assert result.exit_code == 2 and "no image can be used" in result.stderr and "page-0.png" in result.stderr
    assert not Path("selected.json").exists()
    shutil.copytree(home / "bad", home / "zoo" / "bad")
    result = selected()
    assert result.exit_code == 1 and "30 images could not be used" in result.stderr
    assert len(result.stderr.splitlines()) < 20


def test_an_unreadable_picture_is_named_and_the_rest_is_selected_on(home, selected):
    selected("--reference", "known", "--out", "whole.json")
    (home / "zoo" / "frog" / "page.png").write_text("<!doctype html>")
    (home / "known" / "frog" / "empty.png").touch()
    result = selected("--reference", "known")
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "page.png" in errors[0] and "HTML" in errors[0] and "empty.png" in errors[1]
    assert texts("selected.json") == texts("whole.json")


@pytest.mark.parametrize(
    ("descriptors", "arguments", "says"),
    [
        ("none.json", (), "no descriptors to pick from"),
        ("broken.json", (), "not JSON"),
        ("zo.json", (), "no such file or shipped set"),
        ("zoo.json", ("--phrase", "plian"), "did you mean 'plain'"),
        ("zoo.json", ("--reference", "knwon"), "did you mean 'known'"),
        ("zoo.json", ("--reference", "known/frog/0.png"), "no label column"),
        ("zoo.json", ("--reference", "farm"), "no image has a label of a class"),
        ("bare.json", ("--reference", "known", "--only-present"), "no descriptors to pick from"),
        ("zoo.json", ("--label-column", "label"), "--label-column without --reference"),
    ],
)
def test_wrong_calls_are_told_before_the_model_is_loaded(home, monkeypatch, descriptors, arguments, says, selected):
    monkeypatch.setattr("vlmdesc.cli.select.open_encoder", lambda *_: pytest.fail("loaded"))
    picture(home / "farm" / "cow" / "0.png", "black", "white", 7000)
    (home / "none.json").write_text(json.dumps({name: [] for name in ZOO}))
    (home / "bare.json").write_text(json.dumps({name: [] for name in ZOO} | {"hen": ["a red comb"]}))
    (home / "broken.json").write_text("{")
    result = selected(*arguments, descriptors=descriptors)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and not Path("selected.json").exists()


@pytest.mark.parametrize("out", ["zoo", "nowhere/some.json", "zoo.json/some.json", ".", "some.json"])
def test_an_output_that_cannot_be_written_is_told_before_the_work(home, out, monkeypatch, selected):
    (home / "some.pairs.json").mkdir()  # the pairs too must be writable
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    result = selected("--out", out)
    assert result.exit_code == 2 and "fix: choose another" in result.stderr
    assert not {*home.glob("s*.json")} - {home / "some.pairs.json"}


def test_nothing_else_that_is_read_is_overwritten_either(home, selected):
    (home / "zoo.pairs.json").write_text(json.dumps(ZOO))
    (home / "photos.csv").write_text("file,label\n" + "".join(f"zoo/{name}/0.png,{name}\n" for name in ZOO))
    before = {path: path.read_bytes() for path in home.iterdir() if path.is_file()}
    for result in (
        selected("--out", "zoo.json", descriptors="zoo.pairs.json"),  # the pairs would be in zoo.pairs.json
        selected("--out", "./zoo.json"),
        selected("--out", "photos.csv", data="photos.csv"),
        selected("--out", "photos.csv", "--reference", "photos.csv"),
        selected("--out", "zoo/frog/0.png"),
    ):
        assert result.exit_code == 2 and "fix: choose another" in result.stderr
    assert {path: path.read_bytes() for path in home.iterdir() if path.is_file()} == before


def test_hostile_names_are_shown_as_escapes(home, selected):
    hostile = "frog \u202e[bold]"
    rows = {hostile if name == "frog" else name: list_ for name, list_ in ZOO.items()}
    rows[hostile] = ["green \u202eskin [link=x]"]
    (home / "odd.json").write_text(json.dumps(rows))
    (home / "known" / "frog").rename(home / "known" / hostile)
    (home / "zoo" / "frog" / os.fsdecode(b"caf\xe9\x1b[31m\n.png")).write_text("<!doctype html>")
    result = selected("--reference", "known", "--out", "odd\x1b[1m.json", descriptors="odd.json")
    assert result.exit_code == 1
    for stream in (result.stdout, result.stderr):
        assert "\x1b" not in stream and "\u202e" not in stream
    assert r"frog \u202e[bold]" in result.stdout and r"green \u202eskin [link=x]" in result.stdout
    assert r"\x1b[31m\n.png" in result.stderr and r"odd\x1b[1m.json" in result.stderr
    assert texts("odd\x1b[1m.json")[hostile][0] == "green \u202eskin [link=x]"


def test_pictures_between_classes_without_a_reference_are_counted(home, selected):
    shutil.rmtree(home / "known" / "flamingo")
    result = selected("--reference", "known", "--json")
    pairs = json.loads(result.stdout)["pairs"]
    n = len([*(home / "zoo").glob("*/*.png")]) - sum(pair["pictures"] for pair in pairs)
    assert n > 0 and not any("flamingo" in (pair["a"], pair["b"]) for pair in pairs)
    assert f"in no pair: {n} images, for want of reference images" in result.stderr


def test_the_split_of_a_reference_is_named(home, selected):
    (home / "split").mkdir()
    (home / "known").rename(home / "split" / "train")
    shutil.copytree(home / "zoo", home / "split" / "test")
    result = selected("--reference", "split")
    assert result.exit_code == 2 and "--reference-split of a reference): test, train" in result.stderr
    result = selected("--reference", "split", "--reference-split", "train", "--json")
    assert json.loads(result.stdout)["selection"]["pictures"] == 12
    result = selected("--reference-split", "train")
    assert result.exit_code == 2 and "--reference-split without --reference" in result.stderr


def test_labels_of_no_class_beside_others_are_passed_over(home, selected):
    picture(home / "known" / "unicorn" / "0.png", "white", "pink", 5000)
    result = selected("--reference", "known", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["selection"]["pictures"] == 12


def test_one_class_has_no_other_to_be_told_from(home, selected):
    (home / "one.json").write_text(json.dumps({"frog": ["green skin"]}))
    result = selected("--json", descriptors="one.json")
    assert result.exit_code == 0 and json.loads(result.stdout)["pairs"] == []
    assert texts("selected.json") == {"frog": ["green skin"]}


def test_a_second_run_encodes_nothing_and_no_store_keeps_nothing(home, monkeypatch, selected):
    first = selected("--reference", "known", "--no-store", "--json")
    assert first.exit_code == 0 and not (home / "cache").exists()
    assert selected("--reference", "known", "--json").stdout == first.stdout and (home / "cache").exists()
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    monkeypatch.setattr(FakeEncoder, "texts", lambda *_: pytest.fail("encoded"))
    assert selected("--reference", "known", "--json").stdout == first.stdout
