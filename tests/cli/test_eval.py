import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlmdesc.evaluation.specs import every
from vlmdesc.records import Report
from vlmdesc.testing import COLOURS, FakeEncoder

ZOO = {
    "flamingo": ["pink feathers", "long pink legs"],
    "frog": ["green skin", "brown water"],
    "raven": ["black wings", "a black bill"],
    "goldfish": ["orange scales", "blue water"],
}


@pytest.fixture
def evaluated(run):
    return lambda *arguments, out="out": run("eval", *arguments, "--model", "fake", "--out", out)


@pytest.fixture
def figures(evaluated):
    """What the JSON of an evaluation has."""

    def read(*arguments, **options):
        result = evaluated(*arguments, "--json", **options)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return read


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.json").write_text(json.dumps(ZOO))
    return tmp_path


def picture(path, main, other, seed):
    """Mostly of one colour, with a patch of another."""
    pixels = np.full((16, 16, 3), COLOURS[main], np.uint8)
    rng = np.random.default_rng(seed)
    top, left = rng.integers(0, 10, 2)
    pixels[top : top + 6, left : left + 6] = COLOURS[other]
    pixels[0, 0] = seed % 256, seed // 256, 0  # no two alike
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def zoo(home):
    """Twelve images a class; three of each show little of it."""
    colours = {"flamingo": "pink", "frog": "green", "raven": "black", "goldfish": "orange"}
    for c, (name, colour) in enumerate(colours.items()):
        for i in range(12):
            main, other = (colour, "white") if i % 4 else ("purple", colour if i % 8 else "black")
            picture(home / "zoo" / name / f"{i}.png", main, other, 100 * c + i)
    return home / "zoo"


def test_all_methods_and_the_stable_part_of_the_json(zoo, evaluated):
    result = evaluated("zoo", "--descriptors", "zoo.json", "--methods", "all", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == Path("out/results.json").read_text()
    found = json.loads(result.stdout)
    assert found["schema"] == 1 and found["task"]["n"] == 48 and found["task"]["classes"] == 4
    assert found["encoder"] == {"name": "fake", "fingerprint": "fake-1", "precision": "fp32"}
    assert list(found["methods"]) == list(every(reference=False)) and found["left_out"] == {}
    for record in found["methods"].values():
        assert 0 <= record["ci95"][0] <= record["top1"] <= record["ci95"][1] <= 1
        assert record["top1"] <= record["top5"] == 1 and record["prompt_form"]
        assert record["mean_per_class"] == pytest.approx(record["top1"], abs=1e-5)  # classes are of one size
    assert found["methods"]["waffle"]["seeds"]["seed"] == [0, 1, 2, 3, 4, 5, 6]
    assert {(row["a"], row["b"]) for row in found["comparisons"]} >= {("describe", "name"), ("describe", "waffle")}
    assert all(set(row) == {"a", "b", "delta", "ci95", "p", "p_holm", "state"} for row in found["comparisons"])
    assert found["verdict"]["code"] == "meaning" and "n=48" in found["verdict"]["text"]
    assert len(found["methods"]["name+describe"]["weight"]["curve"]) == 21


def test_a_figure_is_what_counting_gives(zoo, evaluated):
    """describe, by hand: every image through the fake encoder and the mean of similarities."""
    evaluated("zoo", "--descriptors", "zoo.json", "--methods", "name,describe,waffle")
    report, fake = Report.load("out/results.json"), FakeEncoder()
    right = broken = 0
    for name in ZOO:
        for path in sorted((zoo / name).iterdir()):
            image = fake.images([Image.open(path)])[0]
            means = {
                c: np.mean([fake.texts([f"{c}, which has {d}"])[0] @ image for d in texts]) for c, texts in ZOO.items()
            }
            answer = max(means, key=means.get)
            right += answer == name
            names = {c: fake.texts([c])[0] @ image for c in ZOO}
            broken += max(names, key=names.get) == name != answer
    assert report.methods["describe"].top1 == pytest.approx(right / 48, abs=1e-6)
    assert report.changes.broken == broken
    credit = {row.descriptor: row for row in report.credit}
    assert credit["pink feathers"].only_with >= 0 and len(credit) == 8


def test_the_table_and_the_verdict_are_for_people(zoo, monkeypatch, evaluated):
    monkeypatch.setenv("COLUMNS", "80")
    result = evaluated("zoo", "--descriptors", "zoo.json")
    assert result.stdout.startswith("zoo: 48 images, 4 classes, fake\n")
    for words in ("waffle (control)", "flamingo, which has", "verdict (meaning): Descriptors beat the name alone by"):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "results, predictions and report in out" in result.stderr


def test_a_second_evaluation_encodes_no_picture_and_no_text_and_gives_the_same(zoo, monkeypatch, figures):
    first = figures("zoo", "--descriptors", "zoo.json", "--methods", "all")
    for encode in ("forward", "texts"):
        monkeypatch.setattr(FakeEncoder, encode, lambda *_: pytest.fail("this was encoded before"))
    second = figures("zoo", "--descriptors", "zoo.json", "--methods", "all")
    assert first.pop("times") and second.pop("times") and first == second


def test_predictions_tell_what_was_answered_and_why(zoo, evaluated):
    evaluated("zoo", "--descriptors", "zoo.json", "--methods", "name,describe,waffle")
    rows = pq.read_table("out/predictions.parquet", page_checksum_verification=True).to_pylist()
    assert len(rows) == 3 * 48
    row = next(r for r in rows if r["method"] == "describe" and r["image"] == "flamingo/1.png")
    assert row["truth"] == row["ranked"][0] == "flamingo" and row["right"]
    assert sorted(row["scores"], reverse=True) == row["scores"] and len(row["ranked"]) == 4
    assert sorted(row["reasons"]) == ["long pink legs", "pink feathers"]
    report = Report.load("out/results.json")
    for name, record in report.methods.items():
        right = [r["right"] for r in rows if r["method"] == name]
        if name != "waffle":
            assert np.mean(right) == pytest.approx(record.top1, abs=1e-6)
    assert {r["seed"] for r in rows if r["method"] == "waffle"} == {0}


def test_broken_pictures_are_named_and_the_rest_is_scored(zoo, evaluated):
    (zoo / "frog" / "page.png").write_text("<!doctype html>")
    (zoo / "frog" / os.fsdecode(b"caf\xe9.png")).write_bytes((zoo / "frog" / "1.png").read_bytes())
    result = evaluated("zoo", "--descriptors", "zoo.json", "--json")
    assert result.exit_code == 1 and "page.png" in result.stderr
    assert "1 image could not be used, listed in out/errors.jsonl" in result.stderr
    assert json.loads(result.stdout)["task"]["failed"] == 1 and json.loads(result.stdout)["task"]["n"] == 49
    listed = json.loads(Path("out/errors.jsonl").read_text())
    assert listed["code"] == "not-an-image" and (listed["class"], listed["stage"]) == ("frog", "read")
    images = pq.read_table("out/predictions.parquet")["image"].to_pylist()
    assert "frog/caf\\xe9.png" in images
    (zoo / "frog" / "page.png").unlink()
    assert evaluated("zoo", "--descriptors", "zoo.json").exit_code == 0 and not Path("out/errors.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("zoo",), "no descriptors"),
        (("zoo", "--descriptors", "zo.json"), "no such file or shipped set"),
        (("zoo", "--descriptors", "zoo.json", "--methods", "descibe"), "did you mean 'describe'"),
        (("zoo", "--descriptors", "zoo.json", "--phrase", "plian"), "did you mean 'plain'"),
        (("zoo", "--descriptors", "zoo.json", "--pool", "median"), "unknown pooling"),
        (("zo", "--descriptors", "zoo.json"), "did you mean 'zoo'"),
        (("zoo", "--descriptors", "short.json"), "2 labels of no class"),
        (("zoo", "--descriptors", "more.json"), "1 class without an image"),
        (("zoo/frog/0.png", "--descriptors", "zoo.json"), "no label column"),
        (("zoo", "--descriptors", "zoo.json", "--descriptors", "copy/zoo.json"), "two descriptor files of one name"),
        (("zoo", "--descriptors", "zoo.json", "--out", "zoo.json"), "not a folder"),
        (("zoo", "--descriptors", "zoo.json", "--reference-split", "train"), "a reference split without a reference"),
        (("whole.toml", "--phrase", "dclip"), "a task file and --phrase"),
        (("whole.toml", "--descriptors", "zoo.json"), "a task file and --descriptors"),
        (("task.toml",), "unknown key 'descriptor'"),
    ],
)
def test_wrong_calls_are_exit_2_with_what_to_do(zoo, home, arguments, says, run):
    (home / "short.json").write_text(json.dumps({name: ZOO[name] for name in ("frog", "raven")}))
    (home / "more.json").write_text(json.dumps(ZOO | {"hen": ["red"]}))
    (home / "copy").mkdir()
    (home / "copy" / "zoo.json").write_text(json.dumps(ZOO))
    (home / "task.toml").write_text('data = "zoo"\ndescriptor = ["zoo.json"]')
    (home / "whole.toml").write_text('data = "zoo"\ndescriptors = ["zoo.json"]')
    out = () if "--out" in arguments else ("--out", "out")
    result = run("eval", *arguments, "--model", "fake", *out)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr, result.stderr
    assert not Path("out/results.json").exists()


def test_what_is_wrong_is_told_before_anything_is_encoded(zoo, home, monkeypatch, evaluated):
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    (home / "short.json").write_text(json.dumps({"frog": ["green"], "ravens": ["black"]}))
    result = evaluated("zoo", "--descriptors", "short.json")
    assert result.exit_code == 2 and "label 'raven' (12 rows): no class; closest: ravens" in result.stderr
    result = evaluated("zoo", "--descriptors", "zoo.json", out="/proc/nope")
    assert result.exit_code == 4 and "/proc/nope" in result.stderr


def test_groups_have_their_own_figures(zoo, home, figures):
    lines = ["image,label,light"]
    for name in ZOO:
        lines += [f"zoo/{name}/{i}.png,{name},{'night' if i % 4 == 0 else 'day'}" for i in range(12)]
    (home / "table.csv").write_text("\n".join(lines))
    record = figures("table.csv", "--descriptors", "zoo.json", "--group-column", "light")["methods"]["describe"]
    assert {group: found["n"] for group, found in record["groups"].items()} == {"day": 36, "night": 12}
    assert record["worst_group"] == "night" and record["gap"]["best"] == "day"
    whole = (36 * record["groups"]["day"]["top1"] + 12 * record["groups"]["night"]["top1"]) / 48
    assert whole == pytest.approx(record["top1"], abs=1e-5)
    difference = record["groups"]["day"]["top1"] - record["groups"]["night"]["top1"]
    assert record["gap"]["value"] == pytest.approx(difference, abs=1e-5)
    assert record["gap"]["ci95"][0] <= difference <= record["gap"]["ci95"][1]


def test_weights_come_from_the_reference_where_there_is_one(zoo, home, evaluated, figures):
    for c, name in enumerate(("flamingo", "frog")):  # classes may be missing there
        picture(home / "known" / name / "a.png", ("pink", "green")[c], "white", 900 + c)
    arguments = ("zoo", "--descriptors", "zoo.json", "--methods", "photo,describe,name+describe")
    found = figures(*arguments, "--reference", "known")
    assert found["task"]["reference"]["n"] == 2 and found["task"]["reference"]["data"] == "known"
    weights = found["methods"]["name+describe"]["weight"]["of_name"]
    assert len(set(weights)) == 1
    assert figures(*arguments)["task"]["reference"] is None
    (home / "known" / "frog" / "same.png").write_bytes((zoo / "frog" / "1.png").read_bytes())
    leaking = evaluated(*arguments, "--reference", "known")
    assert Report.load("out/results.json").task.reference.n == 2
    assert "1 image of the reference left out: evaluated on" in leaking.stderr
    same = evaluated(*arguments, "--reference", "zoo")
    assert same.exit_code == 2 and "the reference has no image that is not evaluated on" in same.stderr


def test_two_sets_over_the_same_classes(zoo, home, figures):
    (home / "short.json").write_text(json.dumps({name: texts[:1] for name, texts in reversed(ZOO.items())}))
    found = figures("zoo", "--descriptors", "zoo.json", "--descriptors", "short.json")
    assert [*found["methods"]] == [
        "name", "photo", "templates", "describe@zoo", "describe@short", "waffle@zoo", "waffle@short",
    ]  # fmt: skip
    assert found["main"] == "describe@zoo" and found["methods"]["describe@short"]["texts"] == 4
    assert ("describe@zoo", "describe@short") in {(row["a"], row["b"]) for row in found["comparisons"]}
    assert {name: v["code"] for name, v in found["verdict"]["sets"].items()} == {"zoo": "meaning", "short": "meaning"}
    assert found["verdict"]["text"].startswith("Descriptors of zoo beat the name alone")


def test_names_are_shown_and_kept_as_they_are_but_harm_nobody(home, evaluated):
    names = ["<script>alert(1)</script>", 'quo"te & co', "\u202egnp.exe", "emoji \U0001f414 hen", "=cmd|' /C calc'!A0"]
    lines = ["image,label"]
    for i, name in enumerate(names):
        picture(home / "images" / f"{i}.png", [*COLOURS][i], "white", i)
        quoted = name.replace('"', '""')
        lines.append(f'images/{i}.png,"{quoted}"')
    (home / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    texts = {name: [f"{[*COLOURS][i]} </td><img src=x onerror=alert(1)>"] for i, name in enumerate(names)}
    (home / "odd.json").write_text(json.dumps(texts))
    result = evaluated("table.csv", "--descriptors", "odd.json", "--methods", "all")
    assert result.exit_code == 0, result.stderr
    assert "\u202e" not in result.stdout + result.stderr
    assert [row.name for row in Report.load("out/results.json").classes] == names
    html = Path("out/report.html").read_text(encoding="utf-8")
    assert "<script" not in html and "<img src=x" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.parametrize("arguments", [("--only-present",), ("--allow-absent",)])
def test_one_class_and_one_picture_are_enough(zoo, home, arguments, figures):
    picture(home / "one" / "frog" / "a.png", "green", "white", 1)
    found = figures("one", "--descriptors", "zoo.json", "--methods", "all", *arguments)
    assert found["task"]["n"] == 1 and found["task"]["classes"] == (1 if "--only-present" in arguments else 4)
    assert found["verdict"]["code"] in ("no-gain", "unclear")


def test_results_that_cannot_be_written_are_exit_4_and_embeddings_are_kept(zoo, home, run, evaluated):
    (home / "shut" / "results.json").mkdir(parents=True)  # a folder where the file should go
    result = evaluated("zoo", "--descriptors", "zoo.json", out="shut")
    assert result.exit_code == 4 and "results.json" in result.stderr
    assert json.loads(run("embed", "zoo", "--model", "fake", "--json").stdout)["new"] == 0


def test_what_makes_figures_mean_less_is_said_and_kept(zoo, home, evaluated):
    lines = ["image,label"] + [f"zoo/{name}/{i}.png,{name}" for name in ZOO for i in range(3)]
    lines += ["zoo/frog/0.png,frog", "zoo/frog/1.png,raven", "zoo/frog/2.png,"]
    (home / "table.csv").write_text("\n".join(lines))
    (home / "half.json").write_text(json.dumps(ZOO | {"frog": []}))
    result = evaluated("table.csv", "--descriptors", "half.json", "--json")
    said = json.loads(result.stdout)["task"]["caveats"]
    assert said == [
        "2 images seen before, byte for byte: intervals are narrower than they should be",
        "1 image under a second label, where one of two answers must be wrong",
        "1 row without a class left out",
        "1 class of half without a descriptor, scored by name: frog",
    ]
    assert all(f"note: {sentence}" in result.stderr for sentence in said)
    assert all(f"</strong> {sentence}." in Path("out/report.html").read_text() for sentence in said)


def test_too_many_groups_are_refused(home, evaluated):
    (home / "many.csv").write_text("image,label,id\n" + "".join(f"a.png,red,{i}\n" for i in range(1_001)))
    picture(home / "a.png", "red", "white", 0)
    (home / "colours.json").write_text(json.dumps({"red": ["red"], "blue": ["blue"]}))
    arguments = ("many.csv", "--descriptors", "colours.json", "--allow-absent", "--methods", "name")
    result = evaluated(*arguments, "--group-column", "id")
    assert result.exit_code == 2 and "1,001 groups, more than 1,000" in result.stderr


def test_files_and_folders_whose_names_are_not_utf8(zoo, home, run, evaluated):
    odd = os.fsdecode(b"n\xff")
    (home / f"{odd}.json").write_text(json.dumps(ZOO))
    for folder in (odd, "plain"):
        result = evaluated("zoo", "--descriptors", f"{odd}.json", "--descriptors", "zoo.json", out=folder)
        assert result.exit_code == 0, result.stderr
    assert "describe@n\\udcff" in result.stdout and "\udcff" not in result.stdout
    assert run("compare", odd, "plain").exit_code == 0
    assert run("compare", f"{odd}/results.json", "plain", "--json").exit_code == 0


def test_an_interrupt_keeps_the_embeddings(home, run):
    for i in range(1500):
        picture(home / "many" / ("red" if i % 2 else "blue") / f"{i}.png", "red" if i % 2 else "blue", "white", i)
    (home / "colours.json").write_text(json.dumps({"red": ["red"], "blue": ["blue"]}))
    command = [sys.executable, "-m", "vlmdesc", "eval", "many", "--descriptors", "colours.json", "--model", "fake"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((home / "cache").rglob("*.safetensors")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors and not list(Path("vlmdesc-eval").iterdir())
    assert "the same command goes on from there" in errors
    assert json.loads(run("embed", "many", "--model", "fake", "--json").stdout)["stored"] > 0


def test_a_task_file_says_it_all(zoo, home, run):
    (home / "tasks").mkdir()
    (home / "tasks" / "zoo.toml").write_text(
        'name = "small zoo"\ndata = "../zoo"\ndescriptors = ["../zoo.json"]\nmethods = ["name", "describe", "waffle"]\n'
        'phrase = "dclip"\nseeds = 2\nmodel = "fake"\n[aliases]\n"frog" = "frog"\n'
    )
    result = run("eval", "tasks/zoo.toml", "--out", "out", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["task"]["name"] == "small zoo" and [*found["methods"]] == ["name", "describe", "waffle"]
    assert found["methods"]["waffle"]["seeds"]["seed"] == [0, 1]
    assert found["methods"]["describe"]["phrase"] == "dclip"
    run("eval", "tasks/zoo.toml", "--out", "out", "--methods", "name")
    assert Report.load("out/results.json").main == "name"


def test_a_saved_head_is_one_method_more_and_refused_where_it_does_not_fit(zoo, home, run, evaluated, figures):
    (home / "two.json").write_text(json.dumps({"frog": ["green"], "raven": ["black"]}))
    for c, name in enumerate(("frog", "raven")):
        picture(home / "two" / name / "a.png", ("green", "black")[c], "white", 9_000 + c)
    for data, file, out in (("zoo", "zoo.json", "few"), ("two", "two.json", "other")):
        assert run("fit", data, "--descriptors", file, "--model", "fake", "--out", out).exit_code == 0
    arguments = ("zoo", "--descriptors", "zoo.json", "--methods", "photo,few-shot,describe", "--reference", "ref")
    for c, name in enumerate(ZOO):
        picture(home / "ref" / name / "a.png", "red", "white", 8_000 + c)
    methods = figures(*arguments, "--head", "few")["methods"]
    assert [*methods][:3] == ["photo", "few-shot", "describe"] and len(methods) == 4
    saved = [*methods.values()][3]
    assert saved["kind"] == "fitted" and saved["learned"]["pictures"] == 48
    predicted = [row for row in pq.read_table("out/predictions.parquet").to_pylist() if row["method"] == [*methods][3]]
    classified = run("classify", "zoo/frog/1.png", "--head", "few", "--model", "fake", "--json")
    wanted = json.loads(classified.stdout)["ranked"][0]
    assert next(row["ranked"][0] for row in predicted if row["image"] == "frog/1.png") in str(wanted)
    refused = evaluated(*arguments, "--head", "other")
    assert refused.exit_code == 2 and "other classes" in refused.stderr


def test_compare_pairs_two_runs_by_content(zoo, home, run, evaluated):
    evaluated("zoo", "--descriptors", "zoo.json", out="a")
    (home / "worse.json").write_text(json.dumps(ZOO | {"flamingo": ["green feathers"]}))
    (zoo / "frog" / "1.png").rename(zoo / "frog" / "renamed.png")
    (zoo / "raven" / "2.png").unlink()
    evaluated("zoo", "--descriptors", "worse.json", out="b")
    found = json.loads(run("compare", "a", "b", "--json").stdout)
    assert found["n"] == 47 and (found["a"]["unpaired"], found["b"]["unpaired"]) == (1, 0)
    rows = {row["method"]: row for row in found["methods"]}
    assert rows["name"]["delta"] == 0 and rows["name"]["p"] == 1
    row = rows["describe"]
    assert row["delta"] == pytest.approx((row["fixed"] - row["broken"]) / 47, abs=1e-6)
    assert row["ci95"][0] <= row["delta"] < 0
    people = run("compare", "a", "b", "--methods", "describe")
    assert "47 images in both" in people.stdout and "photo" not in people.stdout
    for colour in ("pink", "green"):
        assert f"flamingo, which has {colour} feathers" in people.stdout
    assert run("compare", "a", "nowhere").exit_code == 2
    assert "not in both: free" in run("compare", "a", "b", "--methods", "free").stderr
    Path("b/predictions.parquet").write_bytes(b"PAR1 broken")
    broken = run("compare", "a", "b")
    assert broken.exit_code == 2 and "no predictions can be read" in broken.stderr


def test_compare_refuses_other_labels_and_other_pictures(zoo, home, run, evaluated):
    evaluated("zoo", "--descriptors", "zoo.json", out="a")
    (zoo / "frog" / "1.png").rename(zoo / "raven" / "frog.png")
    evaluated("zoo", "--descriptors", "zoo.json", out="b")
    refused = run("compare", "a", "b")
    assert refused.exit_code == 2 and "1 image under another label in the second ('frog' in" in refused.stderr
    for c, name in enumerate(ZOO):
        picture(home / "other" / name / "a.png", "red", "blue", 7_000 + c)
    evaluated("other", "--descriptors", "zoo.json", out="c")
    assert "no image in common" in run("compare", "a", "c").stderr


def test_reproduce_shows_measured_beside_expected(zoo, home, run):
    rows = (("describe", 0.75, 'note = "unverified"\n'), ("waffle", 0.3, "std = 0.01\n"), ("free", 0.5, ""))
    expected = "".join(
        f'[[expected]]\nmodel = "fake"\nmethod = "{method}"\ntop1 = {top1}\nsource = "a paper"\n{more}'
        for method, top1, more in rows
    )
    (home / "published").mkdir()
    (home / "published" / "half.json").write_text(json.dumps(ZOO | {"frog": []}))
    (home / "zoo.toml").write_text(f'data = "zoo"\ndescriptors = ["half.json"]\nmethods = ["name"]\n{expected}')
    lost = run("reproduce", "zoo.toml")
    assert lost.exit_code == 2 and "no descriptor file 'half.json'" in lost.stderr and "--published" in lost.stderr
    result = run("reproduce", "zoo.toml", "--published", "published", "--json")
    assert result.exit_code == 0, result.stderr
    describe, waffle, free = json.loads(result.stdout)["figures"]
    assert describe["difference"] == pytest.approx(describe["measured"] - 0.75, abs=1e-6) and describe["n"] == 48
    assert waffle["std"] == 0.01 and free["measured"] is None and "without a descriptor" in free["left_out"]
    people = run("reproduce", "zoo.toml", "--published", "published", "--model", "fake")
    assert "75.00" in people.stdout and "a paper" in people.stdout
    odd = run("reproduce", "zoo.toml", "--published", "published", "--model", "fak")
    assert "nothing is expected of 'fak'" in odd.stderr
    assert Path("vlmdesc-reproduce/zoo-0/report.html").exists()
    (zoo / "frog" / "bad.png").write_text("no image")
    assert run("reproduce", "zoo.toml", "--published", "published").exit_code == 1


@pytest.mark.slow
def test_real_photographs_with_the_real_model(photos, home, run):
    """The six photographs of the demo: what classify gets right, eval does."""
    shows = {"cat": "cat", "coffee": "cup of coffee", "rocket": "rocket", "astronaut": "astronaut", "temple": "temple"}
    for key, name in (shows | {"flower": "flower"}).items():
        (home / "real" / name).mkdir(parents=True)
        (home / "real" / name / photos[key].name).write_bytes(photos[key].read_bytes())
    arguments = ("real", "--descriptors", "everyday", "--allow-absent", "--methods", "name,describe", "--json")
    result = run("eval", *arguments, "--model", "starter", "--precision", "fp32", "--out", "out")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["methods"]["name"]["top1"] == found["methods"]["describe"]["top1"] == pytest.approx(4 / 6, abs=1e-6)
    assert found["verdict"]["code"] == "unclear" and found["task"]["n"] == 6
    rows = pq.read_table("out/predictions.parquet").to_pylist()
    cat = next(r for r in rows if r["method"] == "describe" and r["truth"] == "cat")
    assert cat["right"] and "pointed upright triangular ears" in cat["reasons"]
