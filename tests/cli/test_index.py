import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.albums import colours_of, paint
from vlmdesc.cache import checksum
from vlmdesc.testing import FakeEncoder

SUMMARY = {
    "index", "pictures", "labels", "dimensions", "model", "precision", "fingerprint", "search", "probes", "recall",
    "data", "bytes",
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache and a working folder for each test."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def build(run):
    return lambda data, out, *more: run("index", "build", data, "--out", out, "--model", "fake", *more)


@pytest.fixture
def found(run):
    """What --json says of a command on indexes."""

    def json_of(*arguments):
        result = run("index", *arguments, "--json")
        assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1, result.output
        return json.loads(result.stdout)

    return json_of


@pytest.fixture
def ids(run):
    """The images in an index, as they are named from here."""

    def listed(folder="album.idx"):
        hits = json.loads(run("search", folder, "red", "--top", "999", "--json").stdout)["hits"]
        return sorted(os.path.relpath(hit["id"]) for hit in hits)

    return listed


@pytest.fixture
def album(home):
    for colour in ("red", "blue", "green"):
        for side in (10, 20):
            paint(home / "album" / colour / f"{side}.png", colour, side=side)
    return home / "album"


@pytest.fixture
def idx(album, build):
    assert build("album", "album.idx").exit_code == 0
    return Path("album.idx")


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != ".lock"}


def forge(idx, **changes):
    """Write into a card, and its checksum anew."""
    card = json.loads((idx / "index.json").read_bytes()) | changes
    del card["check"]
    (idx / "index.json").write_text(json.dumps(card | {"check": checksum(card)}))


def test_what_a_build_and_info_say(album, build, found, run):
    assert run("embed", "album/red", "--model", "fake").exit_code == 0
    said = json.loads(build("album", "album.idx", "--json").stdout)
    assert set(said) == SUMMARY | {"new", "failed"} and (said["new"], said["failed"]) == (4, 0)  # two were embedded
    assert (said["index"], said["pictures"], len(said["labels"]), said["dimensions"]) == ("album.idx", 6, 3, 16)
    assert (said["model"], said["precision"], said["fingerprint"]) == ("fake", "fp32", FakeEncoder.fingerprint)
    assert (said["search"], said["probes"], said["recall"], said["data"]) == ("Flat", 0, {}, [str(album)])
    assert said["bytes"] == sum(len(raw) for name, raw in files("album.idx").items() if name != "index.json")
    assert found("info", "album.idx") == {name: said[name] for name in SUMMARY}
    people = run("index", "info", "album.idx").stdout
    assert people.startswith("album.idx: 6 images, 3 labels") and "of album\nby fake in fp32, 16 dimensions" in people
    assert people == build("album", "album.idx", "--replace").stdout and "search: exact" in people


def test_an_index_that_is_there_is_kept_unless_it_is_to_be_replaced(idx, album, build, ids):
    before = files(idx)
    shutil.rmtree(album / "green")
    refused = build("album", idx)
    assert (
        refused.exit_code == 2
        and "an index is there already (album.idx)" in refused.stderr
        and "--replace" in refused.stderr
    )
    assert files(idx) == before
    assert build("album", idx, "--replace").exit_code == 0
    assert len(ids()) == 4 and len(files(idx)) == 3 and not files(idx).keys() & (before.keys() - {"index.json"})


@pytest.mark.parametrize("out", ["album", "album/red/10.png", "album/red/10.png/below.idx"])
def test_an_out_that_cannot_be_is_told_and_nothing_is_lost(album, build, out):
    result = build("album", out, "--replace")
    assert result.exit_code in (2, 4) and "fix: choose another" in result.stderr
    assert sorted(path.name for path in album.iterdir()) == ["blue", "green", "red"]
    Image.open(album / "red" / "10.png").load()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("build nowhere --out x.idx --model fake", "no such file or folder (nowhere)"),
        ("build album --out x.idx --model fake --errors no/e.jsonl", "no such folder (no)"),
        ("build album --out x.idx --model fake --label-column lable", "did you mean 'label'?"),
        ("add nowhere.idx album", "no index (nowhere.idx)"),
        ("rm nowhere.idx --missing", "no index (nowhere.idx)"),
        ("info album", "no index (album)"),
        ("verify album/red/10.png", "no index (album/red/10.png)"),
        ("dups nowhere.idx", "no index (nowhere.idx)"),
        ("add album.idx nowhere", "no such file or folder (nowhere)"),
        ("rm album.idx", "nothing to take out"),
        ("rm album.idx album/red/10.png nope.png", "no image 'nope.png'"),
        ("rm album.idx --filter label=rde", "did you mean 'red'?"),
        ("rm album.idx --filter lable=red", "did you mean 'label'?"),
        ("rm album.idx *", "nothing would be left"),
    ],
)
def test_wrong_calls_change_nothing(idx, run, arguments, says):
    before = files(idx)
    result = run("index", *arguments.split())
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr, result.output
    assert files(idx) == before and not Path("x.idx").exists()


def test_broken_images_are_named_and_listed_and_the_others_make_the_index(album, build, run, ids):
    (album / "red" / "page.png").write_text("<!doctype html>")
    (album / "blue" / "empty.png").touch()
    result = build("album", "album.idx", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["failed"] == 2 and len(ids()) == 6
    assert "page.png" in result.stderr and "empty.png" in result.stderr
    assert "2 images could not be used, listed in errors.jsonl" in result.stderr
    listed = [json.loads(line) for line in Path("errors.jsonl").read_text().splitlines()]
    assert [(os.path.relpath(row["path"]), row["class"], row["code"]) for row in listed] == [
        ("album/blue/empty.png", "blue", "empty"),
        ("album/red/page.png", "red", "not-an-image"),
    ]
    strict = build("album", "strict.idx", "--strict")
    assert strict.exit_code == 1 and "empty.png" in strict.stderr and not Path("strict.idx").exists()
    added = run("index", "add", "album.idx", "album", "--errors", "more.jsonl")
    assert added.exit_code == 1 and Path("more.jsonl").exists()
    none = build("album/red/page.png", "bad.idx")
    assert none.exit_code == 2 and "no image that can be used" in none.stderr and "page.png" in none.stderr
    assert not Path("bad.idx").exists()


def test_add_tells_new_and_changed_from_what_is_there(idx, album, found, run, ids, monkeypatch):
    paint(album / "red" / "30.png", "red", side=30)
    paint(album / "blue" / "10.png", "yellow")
    said = found("add", idx, "album")
    assert set(said) == SUMMARY | {"new", "changed", "same", "failed"}
    assert [said[name] for name in ("new", "changed", "same", "failed", "pictures")] == [1, 1, 5, 0, 7]
    before = files(idx)
    people = run("index", "add", idx, "album").stdout
    assert "0 new, 0 changed, 7 there already" in people and "7 images, 3 labels" in people
    assert files(idx) == before
    assert "album/blue/10.png" in run("search", idx, "yellow", "--top", "1").stdout
    paint("more/1.png", "pink")
    assert found("add", idx, "more")["data"] == [str(album), str(album.parent / "more")] and "more/1.png" in ids()
    monkeypatch.chdir(album)  # the same images by another road
    assert found("add", "../album.idx", "../album")["same"] == 7


def test_a_table_of_bytes_can_be_indexed_and_drawn(album, build, found, run):
    import datasets

    rows = [(album / colour / "10.png").read_bytes() for colour in ("red", "blue")]
    images = datasets.Features({"image": datasets.Value("binary"), "name": datasets.Value("string")})
    datasets.Dataset.from_dict({"image": rows, "name": ["a", "b"]}, features=images).to_parquet("two.parquet")
    assert build("two.parquet", "two.idx", "--id-column", "name").exit_code == 0
    assert found("add", "two.idx", "two.parquet", "--id-column", "name")["same"] == 2
    result = run("search", "two.idx", "blue", "--json", "--montage", "two.png")
    assert [hit["id"] for hit in json.loads(result.stdout)["hits"]] == ["b", "a"] and "blue" in colours_of("two.png")
    assert run("index", "verify", "two.idx").exit_code == 0  # rows of a table are not files that can be gone


def test_rm_by_path_by_pattern_by_label_and_of_what_is_missing(idx, album, found, run, ids):
    assert run("index", "rm", idx, "--missing").stdout == "0 images taken out\n"
    assert run("index", "rm", idx, album / "red" / "10.png").stdout == "1 image taken out\n"
    said = found("rm", idx, "album/*/20.png")
    assert set(said) == SUMMARY | {"removed"} and (said["removed"], said["pictures"], len(said["labels"])) == (3, 2, 2)
    assert found("rm", idx, "--filter", "label=gr*")["removed"] == 1
    assert ids() == ["album/blue/10.png"] and len(list(album.rglob("*.png"))) == 6
    assert found("add", idx, "album")["new"] == 5
    assert found("rm", idx, "--filter", "label=red", "--filter", "id=*/20.png")["removed"] == 1
    shutil.rmtree(album / "green")
    assert found("rm", idx, "--missing")["removed"] == 2
    assert run("index", "verify", idx).exit_code == 0 and len(ids()) == 3


def test_verify(idx, album, found, run):
    whole = run("index", "verify", idx)
    assert (whole.exit_code, whole.stdout) == (0, "album.idx: 6 vectors whole, all images there\n")
    said = found("verify", idx)
    assert set(said) == SUMMARY | {"gone"} and said["gone"] == []
    (album / "red" / "10.png").unlink()
    people, machine = run("index", "verify", idx), run("index", "verify", idx, "--json")
    assert people.exit_code == machine.exit_code == 1
    assert "6 vectors whole, 1 image gone" in people.stdout and "index rm album.idx --missing" in people.stderr
    assert json.loads(machine.stdout)["gone"] == [str(album / "red" / "10.png")]


@pytest.mark.parametrize("pattern", ["vectors-*.safetensors", "rows-*.arrow", "index.json"])
@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_damaged_file_is_named(idx, build, run, pattern, damage):
    [file] = idx.glob(pattern)
    raw = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        at = len(raw) // 2
        file.write_bytes(raw[:at] if damage == "cut" else raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    for command in (("index", "verify", idx), ("index", "info", idx), ("search", idx, "red")):
        result = run(*command)
        if (pattern, damage) == ("index.json", "gone"):  # then there is no index
            assert result.exit_code == 2 and "no index" in result.stderr
        else:
            assert result.exit_code == 4 and str(file) in result.stderr
    assert build("album", idx, "--replace").exit_code == 0
    assert run("index", "verify", idx).exit_code == 0 and len(files(idx)) == 3


def test_an_index_made_elsewhere_or_moved_is_used_as_ones_own(idx, home, monkeypatch, run, ids):
    before = ids()
    monkeypatch.setenv("VLMDESC_CACHE", str(home / "other"))
    monkeypatch.setenv("VLMDESC_MODEL", "ViT-Z-99/nothing")  # is for what is made
    idx.rename("moved.idx")
    for words in (["verify", "moved.idx"], ["add", "moved.idx", "album"]):
        assert run("index", *words).exit_code == 0 and ids("moved.idx") == before


def test_dups_above_a_threshold(idx, album, found, run):
    paint(album / "both.png", "red", "blue")  # cosine of 0.7 to either
    shutil.copy(album / "both.png", album / "copy.png")
    assert run("index", "add", idx, "album").exit_code == 0
    groups = found("dups", idx)
    assert sorted(len(group["ids"]) for group in groups) == [2, 2, 2, 2]
    assert all(set(group) == {"similarity", "ids"} and group["similarity"] == pytest.approx(1) for group in groups)
    assert [str(album / "both.png"), str(album / "copy.png")] in [sorted(group["ids"]) for group in groups]
    assert [len(group["ids"]) for group in found("dups", idx, "--threshold", "0.6")] == [6, 2]
    result = run("index", "dups", idx, "--montage", "copies.png")
    assert "2 images, similarity 1.000\n  album/" in result.stdout
    assert "4 groups, 4 images more than needed" in result.stderr
    assert "8 images, drawn to copies.png" in result.stderr and colours_of("copies.png") == {"red", "green", "blue"}
    assert found("rm", idx, "*/20.png", "*/copy.png")["pictures"] == 4
    assert found("dups", idx) == [] and "0 groups" in run("index", "dups", idx, "--montage", "none.png").stderr


def test_an_index_in_the_folder_of_its_images_is_not_in_itself(album, build, found):
    assert build("album", "album/idx").exit_code == 0
    assert found("add", "album/idx", "album")["same"] == 6
    again = build("album", "album/idx", "--replace", "--json")
    assert again.exit_code == 0 and json.loads(again.stdout)["pictures"] == 6


def test_hostile_names_are_shown_as_escapes(home, build, run):
    for i, name in enumerate(("a\x1b[31m.png", "b\u202egnp.png", "c\nerror: none.png")):
        paint(home / "odd" / "la\x1b[1m\u202e\nbel" / name, "red", side=10 + i)
    (home / "odd" / "la\x1b[1m\u202e\nbel" / "page\x1b[2m.png").write_text("<!doctype html>")
    out = "id\x1b[7m\u202e.idx"
    built = build("odd", out)
    paint(home / "plain" / "1.png", "red", side=9)
    assert built.exit_code == 1 and len(built.stdout.splitlines()) == 4
    results = [built, *(run("index", *words) for words in (
        ["info", out], ["dups", out, "--montage", "d\x1b[1m.png"], ["add", out, "plain"]
    ))]  # fmt: skip
    shutil.rmtree("odd")
    last = (["verify", out], ["rm", out, "x\x1b[1m"], ["rm", out, "--missing"], ["info", f"{out}\n"])
    results += [run("index", *words) for words in last]
    for result in results:
        assert not {"\x1b", "\u202e"} & {*result.output} and "\nerror: none" not in result.output
    assert r"odd/la\x1b[1m\u202e\nbel/c\nerror: none.png" in results[2].stdout
    assert [result.exit_code for result in results] == [1, 0, 0, 0, 1, 2, 0, 2]
    Image.open("d\x1b[1m.png").load()


def test_an_index_that_asks_for_a_model_of_the_hub_gets_it_only_when_that_is_given(idx, run, monkeypatch):
    forge(idx, model=json.loads((idx / "index.json").read_bytes())["model"] | {"name": "hf-hub:stranger/model"})
    loaded = []
    monkeypatch.setattr("vlmdesc.embeddings.load.load_encoder", lambda name, **_: loaded.append(name) or FakeEncoder())
    for command in (["search", idx, "red"], ["name", idx], ["index", "add", idx, "album"]):
        refused = run(*command)
        assert refused.exit_code == 2 and "--model hf-hub:stranger/model" in refused.stderr and not loaded
        assert run(*command, "--model", "hf-hub:stranger/model").exit_code == 0
        assert [loaded.pop()] == ["hf-hub:stranger/model"] and not loaded


def test_an_index_of_another_model_is_not_added_to(idx, run, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "fingerprint", "fake-2")
    before = files(idx)
    result = run("index", "add", idx, "album")
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


def test_real_photographs_and_their_copies_by_the_real_model(photos, home, starter, monkeypatch, run, found):
    monkeypatch.setattr("vlmdesc.embeddings.load.load_encoder", lambda *_, **__: starter)
    for name in ("cat", "coffee", "rocket"):
        with Image.open(photos[name]) as image:
            (home / "real" / name).mkdir(parents=True)
            image.convert("RGB").save(home / "real" / name / "1.png")
    with Image.open(photos["cat"]) as image:
        image.convert("RGB").resize((image.width // 2, image.height // 2)).save("real/cat/2.jpg", quality=80)
    assert run("index", "build", "real", "--out", "real.idx").exit_code == 0
    [group] = found("dups", "real.idx", "--threshold", "0.7")
    assert {Path(id_).parent.name for id_ in group["ids"]} == {"cat"} and 0.7 < group["similarity"] < 0.95
    assert found("rm", "real.idx", "real/cat/2.jpg")["pictures"] == 3
    assert found("dups", "real.idx") == [] and found("add", "real.idx", "real")["new"] == 1


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
