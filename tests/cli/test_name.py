import json
import re
import shutil
from pathlib import Path

import pytest

from tests.albums import colours_of, paint
from vlmdesc.embeddings.load import ENCODERS
from vlmdesc.testing import COLOURS, FakeEncoder

KINDS = {"red": 5, "blue": 4, "pink": 3}  # how many images
CONCEPT = {"density", "named", "names", "chance", "margin", "stability", "examples"}
SPECIAL = "\x1b[1m\u202e"
THINGS = """cat dog horse cow bird fish coffee bread cake pizza apple rocket airplane car bus bicycle boat train man
woman child house bridge castle church flower tree grass mountain river beach snow book chair table guitar computer
clock shoe hat""".split()


@pytest.fixture
def name(run):
    return lambda *arguments, vocabulary="colours.txt": run("name", *arguments, "--vocabulary", vocabulary)


@pytest.fixture
def of_index(name):
    """The clusters of the index."""

    def clusters(*arguments, **options):
        result = name("album.idx", "--clusters", "3", "--json", *arguments, **options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["clusters"]

    return clusters


@pytest.fixture
def of_images(name):
    """What is said of each image, by its name."""

    def images(*arguments, **options):
        result = name(*arguments, "--json", **options)
        assert result.exit_code == 0, result.output
        return {said["image"]: said for said in map(json.loads, result.stdout.splitlines())}

    return images


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, run):
    """Twelve images of three colours, each with a stripe of white, their index, and the names of all colours."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for colour, n in KINDS.items():
        for i in range(n):
            paint(tmp_path / "album" / colour / f"{i}.png", *[colour] * (4 + i), "white", side=20)
    (tmp_path / "colours.txt").write_text("# colours\n" + "\n".join(COLOURS) + "\n")
    assert run("index", "build", "album", "--out", "album.idx", "--model", "fake").exit_code == 0
    return tmp_path


def test_clusters_are_named_largest_first(name):
    result = name("album.idx", "--clusters", "3")
    assert result.exit_code == 0 and "3 clusters of 3 named" in result.stderr
    head, *rows = result.stdout.splitlines()
    assert head.split() == "images name or else images in its middle show".split()
    assert [row.split()[:2] for row in rows] == [["5", "red"], ["4", "blue"], ["3", "pink"]]
    assert [row.split()[-1] for row in rows] == ["red", "blue", "pink"]
    assert all(re.search(r" {2}(\w+ -?\d\.\d, ){3}\w+ -?\d\.\d  ", row) for row in rows)  # 4 others


def test_the_shape_of_the_json(home, name):
    result = name("album.idx", "--clusters", "3", "--json", "--top", "2", "--seed", "7")
    said = json.loads(result.stdout)
    assert result.exit_code == 0 and set(said) == {"index", "seed", "clusters"}
    assert (said["index"], said["seed"], len(said["clusters"])) == ("album.idx", 7, 3)
    for cluster, (colour, n) in zip(said["clusters"], KINDS.items(), strict=True):
        assert set(cluster) == CONCEPT and cluster["density"] == round(n / 12, 6) and cluster["named"] is True
        assert [set(found) for found in cluster["names"]] == [{"name", "score"}] * 2
        assert cluster["names"][0]["name"] == colour and 0 <= cluster["chance"] <= 0.05
        assert cluster["margin"] == pytest.approx(cluster["names"][0]["score"] - cluster["names"][1]["score"], abs=2e-6)
        assert -1 <= cluster["stability"] <= 1
        paths = sorted(str(home / "album" / colour / f"{i}.png") for i in range(n))
        assert sorted(example["id"] for example in cluster["examples"]) == paths
        assert all(example == {"id": example["id"], "label": colour} for example in cluster["examples"])


def test_a_name_twice_or_not(of_index):
    """Five reds in two halves, if each image is a cluster."""
    names = [cluster["names"][0]["name"] for cluster in of_index("--clusters", "9") if cluster["named"]]
    assert {*names} == {*KINDS} and len(names) > 3
    once = [cluster["names"][0]["name"] for cluster in of_index("--clusters", "9", "--unique") if cluster["named"]]
    assert len(once) == len({*once}) and {*KINDS} <= {*once}


def test_a_contact_sheet(home, name):
    result = name("album.idx", "--clusters", "3", "--montage", "sheet.png")
    assert result.exit_code == 0 and "12 images, drawn to sheet.png" in result.stderr
    assert colours_of("sheet.png") >= {*KINDS} and "red" in result.stdout
    shutil.rmtree("album/red")
    assert name("album.idx", "--clusters", "3", "--montage", "sheet.png", "--json").exit_code == 0
    assert "red" not in colours_of("sheet.png") and "blue" in colours_of("sheet.png")


def test_images_with_and_without_an_index(home, name, of_images):
    for more in (["--model", "fake"], ["--index", "album.idx"]):
        result = name("album/red/0.png", "album/pink/2.png", *more)
        assert result.exit_code == 0 and result.stderr == ""
        first, second = (block.splitlines() for block in result.stdout.split("\n\n") if block)
        assert (first[0], second[0]) == ("album/red/0.png", "album/pink/2.png")
        assert first[1].split()[1:] == ["red"] and second[1].split()[1:] == ["pink"] and len(first) == 6
        scores = [float(line.split()[0]) for line in first[1:]]
        assert scores == sorted(scores, reverse=True)
    bare, within = (
        of_images("album/red/0.png", *more)["album/red/0.png"]
        for more in (["--model", "fake"], ["--index", "album.idx"])
    )
    for said in (bare, within):
        assert set(said) == {"image", "model", "named", "names", "chance", "margin", "stability"}
        assert said["model"] == "fake" and said["named"] is True and len(said["names"]) == 5
    assert bare["names"] != within["names"]


def test_a_image_of_nothing_special_has_no_name(name, of_images):
    Path("greens.txt").write_text("green\ngreen grass\n")
    result = name("album/red/0.png", "--model", "fake", vocabulary="greens.txt")
    assert result.exit_code == 0 and "  no name fits; the nearest:" in result.stdout.splitlines()[1]
    assert {line.split(maxsplit=1)[1] for line in result.stdout.splitlines()[2:4]} == {"green", "green grass"}
    [said] = of_images("album/red/0.png", "--model", "fake", vocabulary="greens.txt").values()
    assert said["named"] is False and said["chance"] > 0.05 and len(said["names"]) == 2
    [cluster] = json.loads(name("album.idx", "--clusters", "1", "--json", vocabulary="greens.txt").stdout)["clusters"]
    assert cluster["named"] is False
    result = name("album.idx", "--clusters", "1", vocabulary="greens.txt")
    assert "12  (no name fits)  green" in result.stdout and "0 clusters of 1 named" in result.stderr


def test_broken_images_are_named_and_the_others_go_on(home, name):
    (home / "album" / "red" / "page.png").write_text("<!doctype html>")
    (home / "album" / "red" / "z.png").touch()
    result = name("album/red", "--index", "album.idx", "--json")
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 5
    assert "album/red/page.png" in result.stderr and "album/red/z.png" in result.stderr
    assert "2 of 7 images could not be used" in result.stderr
    result = name("album/red/page.png", "--index", "album.idx")
    assert (result.exit_code, result.stdout) == (1, "") and "1 of 1 image could not be used" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("album.idx", "--index", "album.idx"), "an index and --index"),
        (("album", "--montage", "sheet.png"), "--montage without clusters"),
        (("album.idx", "--montage", "nowhere/sheet.png"), "(nowhere/sheet.png)"),
        (("album.idx", "--montage", "sheet.txt"), "(sheet.txt)"),
        (("nowhere",), "no images found (nowhere)"),
        (("nowhere.png", "--index", "album.idx"), "no images found (nowhere.png)"),
        (("cache",), "no images found (cache)"),
        (("album.idx", "--clusters", "13"), "13 clusters of 12 "),
        (("album/red", "--index", "nowhere.idx"), "no index (nowhere.idx)"),
        (("album/red", "--index", "album"), "no index (album)"),
        (("album.idx", "--vocabulary", "colors.txt"), "no such file or shipped set (colors.txt)"),
        (("album.idx", "--vocabulary", "everday"), "did you mean 'everyday'?"),
        (("album.idx", "--vocabulary", "one.txt"), "1 words (one.txt)"),
        (("album/red", "--vocabulary", "odd.txt"), "characters that cannot be seen (odd.txt:2)"),
    ],
)
def test_wrong_calls_are_told_before_the_model_is_loaded(monkeypatch, arguments, says, run):
    Path("one.txt").write_text("red\nRed\n# blue\n")
    Path("odd.txt").write_text(f"red\nblue{SPECIAL}\n")
    for model in ("fake", "starter"):
        monkeypatch.setitem(ENCODERS, model, lambda *_: pytest.fail("loaded"))
    result = run("name", *arguments)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr and not result.stdout
    assert not {"\x1b", "\u202e"} & {*result.output}


def test_vlmdesc_model_is_for_what_is_made_not_for_what_is_there(monkeypatch, of_index, of_images):
    asked = []
    monkeypatch.setenv("VLMDESC_MODEL", "ViT-Z-99/nothing")
    assert [cluster["names"][0]["name"] for cluster in of_index()] == [*KINDS]
    assert of_images("album/red/0.png", "--index", "album.idx")["album/red/0.png"]["model"] == "fake"
    monkeypatch.setattr("vlmdesc.cli.name.open_encoder", lambda model, *_: asked.append(model) or FakeEncoder())
    assert of_images("album/red/0.png") and asked == ["ViT-Z-99/nothing"]


def test_another_model_cannot_be_asked(monkeypatch, name):
    monkeypatch.setattr(FakeEncoder, "fingerprint", "fake-2")
    for arguments in (["album.idx"], ["album/red/0.png", "--index", "album.idx"]):
        result = name(*arguments)
        assert result.exit_code == 2 and "embeddings of another model, or of other weights" in result.stderr


def test_words_and_images_are_encoded_once(monkeypatch, of_index, of_images):
    first = of_index(), of_images("album/red/0.png", "--index", "album.idx")
    for method in ("forward", "texts"):
        monkeypatch.setattr(FakeEncoder, method, lambda *_: pytest.fail("encoded"))
    assert first == (of_index(), of_images("album/red/0.png", "--index", "album.idx"))


def test_hostile_names_are_shown_as_escapes(home, name, run):
    label, file = f"la{SPECIAL}\nbel", "c\x1b[31m\n    9.9 fake.png"
    paint(home / "odd" / label / file, "red")
    paint(home / "odd" / "plain" / "1.png", "blue")
    idx = f"odd{SPECIAL}.idx"
    assert run("index", "build", "odd", "--out", idx, "--model", "fake").exit_code == 0
    for arguments in (
        (idx, "--clusters", "2", "--montage", f"m{SPECIAL}.png"),
        (f"odd/{label}", "--index", idx),
        (f"nowhere{SPECIAL}",),
        ("odd", "--index", f"nowhere{SPECIAL}"),
        (idx, "--clusters", "3"),
    ):
        result = name(*arguments)
        assert not {"\x1b", "\u202e"} & {*result.output}
    assert r"la\x1b[1m\u202e\nbel" in name(idx, "--clusters", "2").stdout
    shown = name(f"odd/{label}", "--index", idx).stdout.splitlines()
    assert shown[0] == r"odd/la\x1b[1m\u202e\nbel/c\x1b[31m\n    9.9 fake.png" and len(shown) == 7
    said = json.loads(name(idx, "--clusters", "2", "--json").stdout)
    assert label in [example["label"] for cluster in said["clusters"] for example in cluster["examples"]]
    assert said["index"] == idx


def test_words_like_markup_are_shown_for_a_image_as_they_are(name, of_index):
    words = ["[red]red[/red]", "[/]", "[bold]blue", ":cat: pink", "[link=file:///etc]green", r"\[x]"]
    Path("markup.txt").write_text("\n".join(words))
    result = name("album/red/0.png", "--model", "fake", "--top", "6", vocabulary="markup.txt")
    assert sorted(line.split(maxsplit=1)[1] for line in result.stdout.splitlines()[1:7]) == sorted(words)
    assert result.stdout.splitlines()[1].endswith(" [red]red[/red]")
    names = [cluster["names"][0]["name"] for cluster in of_index(vocabulary="markup.txt")]
    assert names == ["[red]red[/red]", "[bold]blue", ":cat: pink"]


def test_real_photographs(photos, starter, cache, monkeypatch, name, of_images, run):
    monkeypatch.setenv("VLMDESC_CACHE", str(cache))
    monkeypatch.setattr("vlmdesc.embeddings.load.load_encoder", lambda *_, **__: starter)
    Path("things.txt").write_text("\n".join(THINGS))
    paths = [str(path) for path in photos.values()]
    fp32 = ("--model", "starter", "--precision", "fp32")
    said = of_images(*paths, *fp32, vocabulary="things.txt")
    best = {kind: said[str(path)]["names"][0]["name"] for kind, path in photos.items() if said[str(path)]["named"]}
    assert best.items() >= {"cat": "cat", "coffee": "coffee", "rocket": "rocket", "flower": "flower"}.items()
    assert run("index", "build", *paths, "--out", "real.idx", *fp32).exit_code == 0
    within = of_images(photos["cat"], photos["coffee"], "--index", "real.idx", vocabulary="things.txt")
    assert [record["names"][0]["name"] for record in within.values()] == ["cat", "coffee"]
    each = json.loads(name("real.idx", "--clusters", "6", "--json", vocabulary="things.txt").stdout)["clusters"]
    shown = {Path(cluster["examples"][0]["id"]).stem: cluster["names"][0]["name"] for cluster in each}
    assert (shown["chelsea"], shown["coffee"]) == ("cat", "coffee")
