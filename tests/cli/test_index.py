import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from vlmdesc.cache import checksum
from vlmdesc.cli.app import app
from vlmdesc.testing import COLOURS, FakeEncoder

SUMMARY = {
    "index", "pictures", "labels", "dimensions", "model", "precision", "fingerprint", "search", "probes", "recall",
    "data", "bytes",
}  # fmt: skip


def run(*arguments):
    result = CliRunner().invoke(app, ["index", *map(str, arguments)])
    assert "Traceback" not in result.output and "this is a bug" not in result.output
    return result


def build(*arguments):
    return run("build", *arguments, "--model", "fake")


def found(*arguments):
    """What --json says."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1
    return json.loads(result.stdout)


def ids(folder="album.idx"):
    """The images in an index, as they are named from here."""
    result = CliRunner().invoke(app, ["search", str(folder), "red", "--top", "999", "--json"])
    assert result.exit_code == 0, result.output
    return sorted(os.path.relpath(hit["id"]) for hit in json.loads(result.stdout)["hits"])


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != ".lock"}


def paint(path, *colours, side=16):
    """Stripes of colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (side, side))
    for i, colour in enumerate(colours):
        image.paste(COLOURS[colour], (i * side // len(colours), 0, side, side))
    image.save(path)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache and a working folder for each test."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def album(home):
    for colour in ("red", "blue", "green"):
        for side in (10, 20):
            paint(home / "album" / colour / f"{side}.png", colour, side=side)
    return home / "album"


@pytest.fixture
def idx(album):
    assert build("album", "--out", "album.idx").exit_code == 0
    return Path("album.idx")


def test_what_a_build_says(album):
    result = build("album", "--out", "album.idx", "--json")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1 and "embedding" not in result.stderr
    said = json.loads(result.stdout)
    assert set(said) == SUMMARY | {"new", "failed"}
    assert (said["index"], said["pictures"], len(said["labels"]), said["dimensions"]) == ("album.idx", 6, 3, 16)
    assert (said["model"], said["precision"], said["fingerprint"]) == ("fake", "fp32", FakeEncoder.fingerprint)
    assert (said["search"], said["probes"], said["recall"]) == ("Flat", 0, {})
    assert said["data"] == [str(album)] and (said["new"], said["failed"]) == (6, 0)
    assert said["bytes"] == sum(len(raw) for name, raw in files("album.idx").items() if name != "index.json")
    people = build("album", "--out", "other.idx").stdout
    assert "other.idx: 6 images, 3 labels" in people and "of album\n" in people
    assert "by fake in fp32, 16 dimensions" in people and "search: exact" in people


def test_pictures_that_were_embedded_are_not_encoded_again(album, monkeypatch):
    assert CliRunner().invoke(app, ["embed", "album", "--model", "fake"]).exit_code == 0
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    assert json.loads(build("album", "--out", "album.idx", "--json").stdout)["new"] == 0


def test_an_index_that_is_there_is_kept_unless_it_is_to_be_replaced(idx, album):
    before = files(idx)
    shutil.rmtree(album / "green")
    refused = build("album", "--out", idx)
    assert (
        refused.exit_code == 2 and "there is an index (album.idx)" in refused.stderr and "--replace" in refused.stderr
    )
    assert files(idx) == before
    assert build("album", "--out", idx, "--replace").exit_code == 0
    assert len(ids()) == 4 and len(files(idx)) == 3 and not files(idx).keys() & (before.keys() - {"index.json"})


@pytest.mark.parametrize("out", ["album", "album/red/10.png", "album/red/10.png/below.idx"])
def test_an_out_that_cannot_be_is_told_and_nothing_is_lost(album, out):
    result = build("album", "--out", out, "--replace")
    assert (
        result.exit_code in (2, 4)
        and (out in result.stderr or "album/red/10.png" in result.stderr)
        and "fix: choose another" in result.stderr
    )
    assert sorted(path.name for path in album.iterdir()) == ["blue", "green", "red"]
    Image.open(album / "red" / "10.png").load()


def test_wrong_calls_are_exit_2(idx):
    for arguments, says in [
        (("build", "nowhere", "--out", "x.idx", "--model", "fake"), "no such file or folder (nowhere)"),
        (("build", "album", "--out", "x.idx", "--model", "fake", "--errors", "no/e.jsonl"), "no such folder (no)"),
        (("build", "album", "--out", "x.idx", "--model", "fake", "--label-column", "lable"), "did you mean 'label'?"),
        (("add", "nowhere.idx", "album"), "no index (nowhere.idx)"),
        (("rm", "nowhere.idx", "--missing"), "no index (nowhere.idx)"),
        (("info", "album"), "no index (album)"),
        (("verify", "album/red/10.png"), "no index (album/red/10.png)"),
        (("dups", "nowhere.idx"), "no index (nowhere.idx)"),
        (("add", "album.idx", "nowhere"), "no such file or folder (nowhere)"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr, result.output
    assert not Path("x.idx").exists()


def test_a_broken_picture_is_named_and_listed_and_the_others_make_the_index(album):
    (album / "red" / "page.png").write_text("<!doctype html>")
    (album / "blue" / "empty.png").touch()
    result = build("album", "--out", "album.idx", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["failed"] == 2 and len(ids()) == 6
    assert "page.png" in result.stderr and "empty.png" in result.stderr
    assert "2 images could not be used, listed in errors.jsonl" in result.stderr
    listed = [json.loads(line) for line in Path("errors.jsonl").read_text().splitlines()]
    assert [(os.path.relpath(row["path"]), row["class"], row["code"]) for row in listed] == [
        ("album/blue/empty.png", "blue", "empty"),
        ("album/red/page.png", "red", "not-an-image"),
    ]
    strict = build("album", "--out", "strict.idx", "--strict")
    assert strict.exit_code == 1 and "empty.png" in strict.stderr and not Path("strict.idx").exists()
    assert run("add", "album.idx", "album", "--errors", "more.jsonl").exit_code == 1 and Path("more.jsonl").exists()


def test_pictures_of_which_none_can_be_used_make_no_index(home):
    (home / "bad").mkdir()
    (home / "bad" / "page.png").write_text("<!doctype html>")
    result = build("bad", "--out", "bad.idx")
    assert result.exit_code == 2 and "no image that can be used" in result.stderr and "page.png" in result.stderr
    assert not Path("bad.idx").exists()


def test_add_tells_new_and_changed_from_what_is_there(idx, album):
    paint(album / "red" / "30.png", "red", side=30)
    paint(album / "blue" / "10.png", "yellow")
    said = found("add", idx, "album")
    assert set(said) == SUMMARY | {"new", "changed", "same", "failed"}
    assert (said["new"], said["changed"], said["same"], said["failed"]) == (1, 1, 5, 0) and said["pictures"] == 7
    before = files(idx)
    people = run("add", idx, "album")
    assert "0 new, 0 changed, 7 there already" in people.stdout and "7 images, 3 labels" in people.stdout
    assert files(idx) == before
    yellow = CliRunner().invoke(app, ["search", str(idx), "yellow", "--top", "1"]).stdout
    assert "album/blue/10.png" in yellow


def test_add_of_a_second_data_set(idx, home):
    paint(home / "more" / "1.png", "pink")
    assert found("add", idx, "more")["data"] == [str(home / "album"), str(home / "more")]
    assert run("verify", idx).exit_code == 0 and "more/1.png" in ids()


def test_the_same_pictures_by_another_road_are_there_already(idx, album, monkeypatch):
    monkeypatch.chdir(album)
    assert found("add", "../album.idx", "../album")["same"] == 6


def test_a_table_of_bytes_can_be_indexed_and_drawn(album):
    import datasets

    rows = [(album / colour / "10.png").read_bytes() for colour in ("red", "blue")]
    images = datasets.Features({"image": datasets.Value("binary"), "name": datasets.Value("string")})
    datasets.Dataset.from_dict({"image": rows, "name": ["a", "b"]}, features=images).to_parquet("two.parquet")
    assert build("two.parquet", "--out", "two.idx", "--id-column", "name").exit_code == 0
    assert found("add", "two.idx", "two.parquet", "--id-column", "name")["same"] == 2
    result = CliRunner().invoke(app, ["search", "two.idx", "blue", "--json", "--montage", "two.png"])
    assert [hit["id"] for hit in json.loads(result.stdout)["hits"]] == ["b", "a"]
    with Image.open("two.png") as sheet:
        assert COLOURS["blue"] in {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20)}
    assert run("verify", "two.idx").exit_code == 0  # rows of a table are not files that can be gone


def test_rm_by_path_by_pattern_and_by_label(idx, album):
    assert run("rm", idx, album / "red" / "10.png").stdout == "1 image taken out\n"
    assert run("rm", idx, "album/red/20.png").exit_code == 0
    assert ids() == ["album/blue/10.png", "album/blue/20.png", "album/green/10.png", "album/green/20.png"]
    said = found("rm", idx, "album/*/20.png")
    assert set(said) == SUMMARY | {"removed"} and (said["removed"], said["pictures"], len(said["labels"])) == (2, 2, 2)
    assert found("rm", idx, "--filter", "label=gr*")["removed"] == 1
    assert ids() == ["album/blue/10.png"] and len(list(album.rglob("*.png"))) == 6
    assert run("rm", idx, "*").exit_code == 2 and ids() == ["album/blue/10.png"]
    assert found("add", idx, "album")["new"] == 5


def test_rm_where_two_filters_meet(idx):
    assert found("rm", idx, "--filter", "label=red", "--filter", "id=*/20.png")["removed"] == 1
    assert "album/red/10.png" in ids() and "album/red/20.png" not in ids()


def test_rm_of_what_is_missing(idx, album):
    assert run("rm", idx, "--missing").stdout == "0 images taken out\n"
    shutil.rmtree(album / "green")
    assert found("rm", idx, "--missing")["removed"] == 2
    assert run("verify", idx).exit_code == 0 and len(ids()) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to take out"),
        (("nope.png",), "no image 'nope.png'"),
        (("album/red/10.png", "nope.png"), "no image 'nope.png'"),
        (("--filter", "label=rde"), "did you mean 'red'?"),
        (("--filter", "lable=red"), "did you mean 'label'?"),
        (("*",), "nothing would be left"),
    ],
)
def test_rm_that_cannot_be_leaves_all_as_it_was(idx, arguments, says):
    before = files(idx)
    result = run("rm", idx, *arguments)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr
    assert files(idx) == before


def test_info(idx, album):
    said = found("info", idx)
    assert set(said) == SUMMARY and (said["pictures"], len(said["labels"]), said["model"]) == (6, 3, "fake")
    people = run("info", idx).stdout
    assert "album.idx: 6 images, 3 labels" in people and "of album\nby fake in fp32" in people


def test_verify_of_a_whole_index(idx):
    result = run("verify", idx)
    assert (result.exit_code, result.stdout) == (0, "album.idx: 6 vectors whole, all images there\n")
    said = found("verify", idx)
    assert set(said) == SUMMARY | {"gone"} and said["gone"] == []


def test_verify_where_pictures_are_gone(idx, album):
    (album / "red" / "10.png").unlink()
    people, machine = run("verify", idx), run("verify", idx, "--json")
    assert people.exit_code == machine.exit_code == 1
    assert "6 vectors whole, 1 image gone" in people.stdout and "index rm album.idx --missing" in people.stderr
    assert json.loads(machine.stdout)["gone"] == [str(album / "red" / "10.png")]


@pytest.mark.parametrize("pattern", ["vectors-*.safetensors", "rows-*.arrow", "index.json"])
@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_damaged_file_is_named(idx, pattern, damage):
    [file] = idx.glob(pattern)
    raw = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        at = len(raw) // 2
        file.write_bytes(raw[:at] if damage == "cut" else raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    for result in (run("verify", idx), run("info", idx), CliRunner().invoke(app, ["search", str(idx), "red"])):
        if (pattern, damage) == ("index.json", "gone"):  # then there is no index
            assert result.exit_code == 2 and "no index" in result.stderr
        else:
            assert result.exit_code == 4 and str(file) in result.stderr and "Traceback" not in result.output
    assert build("album", "--out", idx, "--replace").exit_code == 0
    assert run("verify", idx).exit_code == 0 and len(files(idx)) == 3


def test_an_index_made_elsewhere_is_used_as_ones_own(idx, home, monkeypatch):
    before = ids()
    monkeypatch.setenv("VLMDESC_CACHE", str(home / "other"))
    assert run("verify", idx).exit_code == 0 and ids() == before
    assert run("add", idx, "album").exit_code == 0 and ids() == before


def test_an_index_of_an_older_version_is_built_again(idx):
    card = json.loads((idx / "index.json").read_bytes()) | {"schema": 1}
    del card["check"]
    (idx / "index.json").write_text(json.dumps(card | {"check": checksum(card)}))
    result = run("info", idx)
    assert result.exit_code == 4 and "made by an older vlmdesc" in result.stderr and "--replace" in result.stderr
    assert build("album", "--out", idx, "--replace").exit_code == 0 and len(ids()) == 6


def test_a_moved_index_is_the_same(idx, home):
    idx.rename(home / "moved.idx")
    assert run("verify", "moved.idx").exit_code == 0 and len(ids("moved.idx")) == 6


def test_dups_above_a_threshold(idx, album):
    paint(album / "both.png", "red", "blue")  # cosine of 0.7 to either
    shutil.copy(album / "both.png", album / "copy.png")
    assert run("add", idx, "album").exit_code == 0
    groups = found("dups", idx)
    assert sorted(len(group["ids"]) for group in groups) == [2, 2, 2, 2]
    assert all(set(group) == {"similarity", "ids"} and group["similarity"] == pytest.approx(1) for group in groups)
    assert [str(album / "both.png"), str(album / "copy.png")] in [sorted(group["ids"]) for group in groups]
    loose = found("dups", idx, "--threshold", "0.6")
    assert [len(group["ids"]) for group in loose] == [6, 2]
    result = run("dups", idx, "--montage", "copies.png")
    assert "2 images, similarity 1.000\n  album/" in result.stdout
    assert "4 groups, 4 images more than needed" in result.stderr
    assert "8 images, drawn to copies.png" in result.stderr
    with Image.open("copies.png") as sheet:
        seen = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20)}
    assert {COLOURS[name] for name in ("red", "green", "blue")} <= seen


def test_dups_where_there_are_none(idx):
    assert found("rm", idx, "*/20.png")["pictures"] == 3
    assert found("dups", idx) == [] and "0 groups" in run("dups", idx).stderr


def test_an_index_of_one_picture(home):
    paint(home / "one.png", "red")
    assert build("one.png", "--out", "one.idx").exit_code == 0
    assert found("dups", "one.idx") == [] and ids("one.idx") == ["one.png"]


def test_an_index_in_the_folder_of_its_pictures_is_not_in_itself(album):
    assert build("album", "--out", "album/.idx").exit_code == 0
    assert build("album", "--out", "album/idx").exit_code == 0
    assert run("dups", "album/idx", "--json").exit_code == 0
    assert found("add", "album/idx", "album")["same"] == 6
    again = build("album", "--out", "album/idx", "--replace", "--json")
    assert again.exit_code == 0 and json.loads(again.stdout)["pictures"] == 6


def test_hostile_names_are_shown_as_escapes(home):
    for i, name in enumerate(("a\x1b[31m.png", "b\u202egnp.png", "c\nerror: none.png")):
        paint(home / "odd" / "la\x1b[1m\u202e\nbel" / name, "red", side=10 + i)
    (home / "odd" / "la\x1b[1m\u202e\nbel" / "page\x1b[2m.png").write_text("<!doctype html>")
    out = "id\x1b[7m\u202e.idx"
    built = build("odd", "--out", out)
    paint(home / "plain" / "1.png", "red", side=9)
    assert built.exit_code == 1 and len(built.stdout.splitlines()) == 4
    results = [built, run("info", out), run("dups", out, "--montage", "d\x1b[1m.png"), run("add", out, "plain")]
    shutil.rmtree("odd")
    results += [run("verify", out), run("rm", out, "x\x1b[1m"), run("rm", out, "--missing"), run("info", f"{out}\n")]
    for result in results:
        assert not {"\x1b", "\u202e"} & {*result.output} and "\nerror: none" not in result.output
    assert r"odd/la\x1b[1m\u202e\nbel/c\nerror: none.png" in results[2].stdout
    assert [result.exit_code for result in results] == [1, 0, 0, 0, 1, 2, 0, 2]
    Image.open("d\x1b[1m.png").load()


def test_vlmdesc_model_makes_the_index_but_does_not_disturb_it(album, monkeypatch):
    monkeypatch.setenv("VLMDESC_MODEL", "fake")
    assert run("build", "album", "--out", "album.idx").exit_code == 0
    monkeypatch.setenv("VLMDESC_MODEL", "ViT-Z-99/nothing")
    assert found("add", "album.idx", "album")["same"] == 6


def test_an_index_that_asks_for_a_model_of_the_hub_gets_it_only_when_that_is_given(idx, monkeypatch):
    card = json.loads((idx / "index.json").read_bytes())
    card["model"]["name"] = "hf-hub:stranger/model"
    del card["check"]
    (idx / "index.json").write_text(json.dumps(card | {"check": checksum(card)}))
    loaded = []
    monkeypatch.setattr("vlmdesc.embeddings.load.load_encoder", lambda name, **_: loaded.append(name) or FakeEncoder())
    for command in (["search", idx, "red"], ["name", idx], ["index", "add", idx, "album"]):
        refused = CliRunner().invoke(app, [*map(str, command)])
        assert refused.exit_code == 2 and "--model hf-hub:stranger/model" in refused.stderr and not loaded
        assert CliRunner().invoke(app, [*map(str, command), "--model", "hf-hub:stranger/model"]).exit_code == 0
        assert [loaded.pop()] == ["hf-hub:stranger/model"] and not loaded


def test_an_index_of_another_model_is_not_added_to(idx, album, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "fingerprint", "fake-2")
    before = files(idx)
    result = run("add", idx, "album")
    assert result.exit_code == 2 and "embeddings of another model, or of other weights" in result.stderr
    assert files(idx) == before


def test_what_needs_no_model_loads_no_torch(idx):
    code = (
        "import sys; from vlmdesc.cli.app import app\n"
        "for words in (['info'], ['verify'], ['dups'], ['rm', '--missing']):\n"
        "    try: app(['index', words[0], 'album.idx', *words[1:]])\n"
        "    except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'datasets'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_real_photographs_and_their_copies_by_the_real_model(photos, home, starter, monkeypatch):
    monkeypatch.setattr("vlmdesc.cli.index.open_encoder", lambda *_: starter)
    for name in ("cat", "coffee", "rocket"):
        with Image.open(photos[name]) as image:
            (home / "real" / name).mkdir(parents=True)
            image.convert("RGB").save(home / "real" / name / "1.png")
    with Image.open(photos["cat"]) as image:
        image.convert("RGB").resize((image.width // 2, image.height // 2)).save("real/cat/2.jpg", quality=80)
    assert run("build", "real", "--out", "real.idx", "--precision", "fp32").exit_code == 0
    [group] = found("dups", "real.idx", "--threshold", "0.7")
    assert {Path(id_).parent.name for id_ in group["ids"]} == {"cat"} and 0.7 < group["similarity"] < 0.95
    assert found("rm", "real.idx", "real/cat/2.jpg")["pictures"] == 3
    assert found("dups", "real.idx") == [] and found("add", "real.idx", "real")["new"] == 1


@pytest.mark.slow
@pytest.mark.slow
def test_kill_9_at_any_call_leaves_the_old_index_or_the_new_one():
    """A slice of `python -m eval.killpoints --operation add`, and so on, which go through all of them."""
    code = (
        "import json; from eval.killpoints import kill_all\n"
        "for operation in ('build', 'replace', 'add'): print(json.dumps(kill_all(operation, 15, 2, 0, False)))"
    )
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    for counts in map(json.loads, said.splitlines()):
        assert counts.pop("kill points") > 12 and counts.pop("seconds")
        assert counts == {"unreadable": 0, "mixed": 0, "stuck": 0, "other": 0, "left": 0}
