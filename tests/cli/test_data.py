import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from vlmdesc.embeddings.montage import draw_montage
from vlmdesc.errors import StoreError
from vlmdesc.testing import COLOURS


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with an album: two photographs of cat and coffee each."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def album(here, photos):
    for i, (name, label) in enumerate([("cat", "cat"), ("flower", "cat"), ("coffee", "coffee"), ("temple", "coffee")]):
        (here / "album" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(photos[name], here / "album" / label / f"{i}{photos[name].suffix}")
    return here / "album"


@pytest.fixture
def data(run):
    """`vlmdesc data` with these arguments."""
    return lambda *arguments: run("data", *arguments)


def classes(path, *names):
    path.write_text(json.dumps({name: [f"what {name} has"] for name in names}))
    return path


def lines_of(result):
    """The lines on stdout, with one blank between words."""
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def montage_of(path="vlmdesc-data.png"):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image


def test_the_table_tells_form_columns_classes_and_problems(album, data):
    result = data(album)
    assert result.exit_code == 0
    assert f"{album}: image folder, 4 rows\n" in result.stdout
    columns = {"image path image", "id path in the folder id", "label folder name label"}
    assert columns <= set(lines_of(result))
    assert "2 classes: cat 2, coffee 2\n" in result.stdout
    assert "no problems found (every image opened)" in result.stdout
    assert result.stderr == "4 images drawn to vlmdesc-data.png\n"


def test_json_is_one_object_on_stdout(album, data):
    shutil.copy(next((album / "cat").iterdir()), album / "coffee" / "twin.png")
    (album / "notes.txt").write_text("hello")
    result = data(album, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["form"] == "image folder" and found["rows"] == 5 and found["labels"] == {"cat": 2, "coffee": 3}
    assert found["roles"] == {"image": "image", "label": "label", "group": "", "id": "id"}
    assert found["columns"] == {"image": "path", "id": "path in the folder", "label": "folder name"}
    assert found["broken"] == [] and found["checked"] is True and found["montage"] == "vlmdesc-data.png"
    assert len(found["problems"]) == 3  # passed over, twice, under two labels
    assert {"data", "splits", "split", "groups"} <= found.keys()


def test_the_montage_shows_pictures_of_each_class(album, data):
    data(album, "--montage", "sheet.png")
    sheet = montage_of("sheet.png")
    assert sheet.width == 948 and sheet.height == 186
    assert len(sheet.crop((12, 12, 156, 156)).getcolors(99_999)) > 500  # a photograph
    assert sheet.crop((636, 12, 948, 186)).getcolors() == [(312 * 174, (255, 255, 255))]  # beyond the fourth


@pytest.mark.parametrize("montage", ["sheet.jpg", "nowhere/sheet.png", "sheet"])
def test_a_montage_that_cannot_be_is_refused_before_the_work(album, montage, data):
    result = data(album, "--montage", montage)
    assert result.exit_code == 2 and "ending in .png, in a folder that exists" in result.stderr and not result.stdout


def test_a_broken_picture_is_exit_1(album, data):
    whole = album / "cat" / "1.jpg"
    whole.write_bytes(whole.read_bytes()[:5000])
    result = data(album)
    assert result.exit_code == 1
    assert "problems (every image opened):\n  1 image cannot be used: truncated image (cat" in result.stdout
    result = data(album, "--json")
    assert result.exit_code == 1
    (broken,) = json.loads(result.stdout)["broken"]
    assert broken == {"path": "cat/1.jpg", "code": "truncated", "message": "truncated image"}
    montage_of()


def test_labels_that_fit_the_descriptors(album, here, data):
    result = data(album, "--descriptors", classes(here / "set.json", "coffee", "cat"))
    assert result.exit_code == 0 and f"labels fit the 2 classes of {here / 'set.json'}" in result.stderr


def test_labels_that_do_not_fit_are_exit_2_with_the_table(album, here, data):
    given = classes(here / "set.json", "Cats", "coffee", "dog")
    for json_ in ((), ("--json",)):
        result = data(album, "--descriptors", given, *json_)
        assert result.exit_code == 2
        assert "error: 1 label of no class, 2 classes without an image; fix: rename labels" in result.stderr
        assert "\n  label 'cat' (2 rows): no class; closest: Cats\n  class 'Cats': no image has it\n" in result.stderr
        assert "coffee" in result.stdout  # the survey comes all the same
    assert json.loads(result.stdout)["rows"] == 4
    assert data(album, "--descriptors", given, "--ignore-unknown").exit_code == 2
    assert data(album, "--descriptors", given, "--ignore-unknown", "--allow-absent").exit_code == 0


def test_a_wrong_descriptor_file_is_told_before_the_work(album, data):
    result = data(album, "--descriptors", "nowhere.json")
    assert result.exit_code == 2 and "no such file or shipped set" in result.stderr and not result.stdout


def test_columns_groups_ids_and_splits_by_option(album, here, data):
    (here / "set").mkdir()
    for split in ("train", "test"):
        with open(here / "set" / f"{split}.csv", "w", newline="") as file:
            rows = [("pic", "kind", "site", "key"), (f"{album}/cat/1.jpg", "007", "north", split)]
            csv.writer(file).writerows(rows)
    options = ("--image-column", "pic", "--label-column", "kind", "--group-column", "site", "--id-column", "key")
    result = data(here / "set" / "train.csv", *options)
    assert result.exit_code == 0
    assert "1 classes: 007 1\n1 groups: north 1\n" in result.stdout
    assert {"pic text image", "kind text label", "site text group", "key text id"} <= set(lines_of(result))
    result = data(here / "set" / "train.csv", "--image-column", "pick")
    assert result.exit_code == 2 and "did you mean 'pic'?" in result.stderr


def test_splits_are_listed(album, here, data):
    for split in ("train", "test"):
        shutil.copytree(album, here / "set" / split)
    result = data(here / "set", "--split", "train")
    assert "image folder, 4 rows, split train of test, train\n" in result.stdout
    result = data(here / "set")
    assert result.exit_code == 2 and "2 splits" in result.stderr and "test, train" in result.stderr


def test_many_classes_are_cut_in_the_table_and_whole_in_json(album, here, data):
    rows = "".join(f"{album}/cat/1.jpg,class {i:02d}\n" for i in range(30))
    (here / "t.csv").write_text("image,label\n" + rows)
    result = data(here / "t.csv")
    assert "30 classes: class 00 1, " in result.stdout and "class 19 1, ...\n" in result.stdout
    assert "class 20" not in result.stdout.split("problems")[0]
    assert len(json.loads(data(here / "t.csv", "--json").stdout)["labels"]) == 30


def test_hostile_names_are_printed_inert(here, data):
    hostile = ["\x1b[31mred", "[bold]", "two\nlines", "<script>", "\u202etxt", os.fsdecode(b"caf\xe9"), "x" * 200]
    for name in hostile:
        (here / "album" / name).mkdir(parents=True)
        Image.new("RGB", (9, 9), COLOURS["red"]).save(here / "album" / name / "0.png")
    command = [sys.executable, "-m", "vlmdesc", "data", "album"]
    shown = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "utf-8"})
    assert shown.returncode == 0 and b"Traceback" not in shown.stderr
    assert b"\x1b" not in shown.stdout + shown.stderr and "\u202e".encode() not in shown.stdout
    for text in (rb"\x1b[31mred 1", b"[bold] 1", rb"two\nlines 1", b"<script> 1", rb"\u202etxt 1", rb"caf\udce9 1"):
        assert text in shown.stdout
    assert set(json.loads(data("album", "--json").stdout)["labels"]) == set(hostile)
    assert montage_of().height == 360


def test_hostile_columns_and_errors_are_printed_inert(here, data):
    (here / "t.csv").write_text("image,la\x1b[31mbel\nno\x1b[31m.jpg,cat\n")
    result = data(here / "t.csv")
    assert result.exit_code == 1 and "\x1b" not in result.output and r"la\x1b[31mbel" in result.stdout
    result = data(here / "t.csv", "--label-column", "x")
    assert result.exit_code == 2 and "\x1b" not in result.output and r"la\x1b[31mbel" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("albun",), 2, "did you mean 'album'?"),
        (("org/name",), 3, "from the hub"),
        (("empty",), 2, "no images in this folder"),
        (("album", "--split", "train"), 2, "no split 'train'"),
        (("bad.csv",), 2, "bad.csv:2"),
        (("",), 2, "an empty path"),
        ((), 2, "Missing argument"),
    ],
)
def test_a_wrong_call_is_one_message(album, here, arguments, code, says, data):
    (here / "empty").mkdir()
    (here / "bad.csv").write_text("image,label\na\n")
    result = data(*arguments)
    assert result.exit_code == code and says in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == "" and not (here / "vlmdesc-data.png").exists()


def test_a_montage_of_nothing_and_of_odd_pictures(here):
    draw_montage(here / "none.png", [])
    assert montage_of("none.png").width == 948
    thin, tiny = Image.new("RGB", (144, 2), "red"), Image.new("RGB", (1, 1), "blue")
    draw_montage(here / "odd.png", [(thin, ""), (tiny, "\x1b[31m\n日本\u0301"), (None, "x" * 200_000)] * 3)
    sheet = montage_of("odd.png")
    assert sheet.size == (948, 360) and sheet.getpixel((252, 80)) == (0, 0, 255)
    assert sheet.getpixel((324, 12)) == (178, 34, 34)  # the crossed box


def test_a_montage_that_cannot_be_written_is_a_store_error(here):
    (here / "sheet.png").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        draw_montage(here / "sheet.png", [])


def test_the_montage_is_not_drawn_into_the_data_set(album, monkeypatch, data):
    monkeypatch.chdir(album)
    result = data(".")
    assert result.exit_code == 0 and "not drawn: it would lie in the data set" in result.stderr
    assert not (album / "vlmdesc-data.png").exists() and "4 rows" in data(".").stdout


def test_json_tells_what_does_not_fit(album, data):
    classes(album.parent / "classes.json", "cat", "tea")
    result = data(album, "--json", "--descriptors", album.parent / "classes.json")
    found = json.loads(result.stdout)
    assert result.exit_code == 2 and found["problems"] == ["1 label of no class, 1 class without an image"]
    assert found["misfits"] == ["label 'coffee' (2 rows): no class", "class 'tea': no image has it"]
