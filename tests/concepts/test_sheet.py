import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.albums import paint
from tests.concepts.test_collect import rows_of
from vlmdesc.concepts.sheet import fetch
from vlmdesc.embeddings.data import DataSet
from vlmdesc.testing import COLOURS


def colour_of(image):
    assert image.mode == "RGB"
    pixel = np.array(image)[0, 0].astype(int)
    return min(COLOURS, key=lambda name: np.abs(pixel - COLOURS[name]).sum())


def fetched(rows, wanted):
    return {row: colour_of(image) for row, image in fetch(rows, wanted, 16).items()}


@pytest.fixture
def files(tmp_path):
    """Rows of three files: blue, green, red."""
    for colour in ("blue", "green", "red"):
        paint(tmp_path / "p" / f"{colour}.png", colour)
    return rows_of(tmp_path / "p")


@pytest.fixture
def table(tmp_path):
    """Rows of a table of bytes: red, one that cannot be used, blue, red."""
    raw = {colour: paint(tmp_path / "x.png", colour).read_bytes() for colour in ("red", "blue", "pink")}
    path = tmp_path / "t.parquet"

    def put(*colours):
        parquet.write_table(pa.table({"image": [raw.get(colour, b"") for colour in colours]}), path)

    put("red", "", "blue", "red")
    return rows_of(path), path, put


def test_files_come_as_they_are_wanted(files):
    assert fetched(files, [2, 0]) == {2: "red", 0: "blue"}
    assert fetched(files, [1, 1]) == {1: "green"}
    assert fetched(files, []) == {}


def test_what_is_gone_or_another_is_left_out(files, tmp_path):
    (tmp_path / "p" / "blue.png").unlink()
    paint(tmp_path / "p" / "green.png", "yellow")
    assert fetched(files, [0, 1, 2]) == {2: "red"}
    paint(tmp_path / "p" / "green.png", "green")
    (tmp_path / "p" / "red.png").write_bytes(b"")
    (tmp_path / "p" / "blue.png").mkdir()
    assert fetched(files, [0, 1, 2]) == {1: "green"}
    assert files.gone() == [0]


def test_rows_of_a_table_that_changed_are_left_out(table):
    rows, path, put = table
    put("pink", "", "blue", "red")
    assert fetched(rows, [0, 1, 2]) == {1: "blue", 2: "red"}
    put("red", "red", "")
    assert fetched(rows, [0, 1, 2]) == {0: "red"}
    parquet.write_table(pa.table({"other": [1, 2]}), path)
    assert fetched(rows, [0, 1, 2]) == {}


@pytest.mark.parametrize("cut", [0, 4, 50, -1, -12])
def test_a_data_set_that_is_gone_takes_no_other_with_it(table, files, tmp_path, cut):
    rows, path, _ = table
    other = path.rename(tmp_path / "u.parquet")
    path.write_bytes(other.read_bytes())
    three = rows.plus(files).plus(rows_of(other))
    left = {3: "blue", 4: "green", 5: "red", 6: "red", 7: "blue", 8: "red"}
    path.write_bytes(path.read_bytes()[:cut])
    assert fetched(three, range(9)) == left
    path.unlink()
    assert fetched(three, range(9)) == left
    assert three.gone() == []  # which tells of files alone


def test_only_as_much_of_a_table_is_read_as_is_wanted(table, monkeypatch):
    rows, _, _ = table
    read = []
    data = rows.origins[0].open()

    class Noted(DataSet):
        def __iter__(self):
            for item in super().__iter__():
                read.append(item.id)
                yield item

    monkeypatch.setattr("vlmdesc.concepts.rows.Origin.open", lambda self: Noted(data.name, data.table, data.roles))
    assert fetched(rows, [1]) == {1: "blue"} and read == ["row 0", "row 1", "row 2"]


def test_images_are_upright_and_about_as_large_as_wanted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    (tmp_path / "p").mkdir()
    Image.new("RGB", (640, 320), "white").save(tmp_path / "p" / "a.jpg", exif=exif)
    rows = rows_of(tmp_path / "p")
    [image] = fetch(rows, [0], 40).values()
    assert image.width * 2 == image.height and 40 <= image.width <= 160
    [image] = fetch(rows, [0], 999).values()
    assert image.size == (320, 640)
