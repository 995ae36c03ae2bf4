import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.concepts.test_rows import rows_for
from vlmdesc.concepts.card import Model
from vlmdesc.concepts.collect import Added, add, collect, merged
from vlmdesc.concepts.index import create, open_index
from vlmdesc.concepts.rows import Origin
from vlmdesc.embeddings.pipeline import Encoded
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import ImageError, InputError, ModelError
from vlmdesc.testing import COLOURS, FakeEncoder


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))


class Counting(FakeEncoder):
    """A fake that notes how many images it has seen."""

    def __init__(self, fingerprint="fake-1"):
        self.seen, self.fingerprint = 0, fingerprint

    def forward(self, pixels):
        self.seen += len(pixels)
        return super().forward(pixels)


def paint(path, colour, size=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), COLOURS[colour]).save(path)
    return path


def paint_all(folder, *colours):
    for colour in colours:
        paint(folder / colour / "a.png", colour)
    return folder


def gather(source, encoder=None, **options):
    return collect(Origin.of([str(source)]), encoder or FakeEncoder(), workers=1, **options)


def index_of(folder, collected):
    model = Model("fake", "fp32", collected.encoder.fingerprint)
    return create(folder, collected.vectors(), collected.rows, model, np.empty((0, 16), np.float32))


def labelled(found):
    return dict(zip(found.rows.column("id"), found.rows.column("label"), strict=True))


def seen_in(found, encoder=None):
    """What colour each vector is of, by the id of its row."""
    texts = (encoder or FakeEncoder()).texts([*COLOURS])
    best = (found.nearest.vectors(np.arange(len(found))) @ texts.T).argmax(axis=1)
    return dict(zip(found.rows.column("id"), [[*COLOURS][i] for i in best], strict=True))


def test_a_folder_becomes_rows_with_their_vectors(tmp_path):
    folder = paint_all(tmp_path / "p", "red", "green", "blue")
    found = index_of(tmp_path / "i", gather(folder))
    names = {str(folder / colour / "a.png"): colour for colour in ("blue", "green", "red")}
    assert labelled(found) == seen_in(found) == names
    assert found.rows.origins == (Origin((str(folder),)),)
    assert found.rows.column("file") == [True] * 3 and found.rows.column("number") == [0, 1, 2]


def test_each_content_is_encoded_once_in_its_life(tmp_path):
    folder, encoder = paint_all(tmp_path / "p", "red", "green"), Counting()
    gather(folder, encoder)
    assert encoder.seen == 2
    paint(folder / "blue" / "a.png", "blue")
    paint(folder / "blue" / "b.png", "red")  # as one that is there
    collected = gather(folder, encoder)
    assert encoder.seen == 3 and len(collected.rows) == 4
    gather(folder, encoder, store=Store(tmp_path / "another"))
    assert encoder.seen == 6
    gather(folder, other := Counting("fake-2"))
    assert other.seen == 3


def test_vectors_of_some_rows(tmp_path):
    collected = gather(paint_all(tmp_path / "p", "red", "green", "blue"))
    some = collected.rows.keep(np.array([True, False, True]))
    assert np.array_equal(np.asarray(collected.vectors(some)), np.asarray(collected.vectors())[[0, 2]])


def test_pictures_that_cannot_be_used_are_heard_of_and_left_out(tmp_path):
    folder, heard = paint_all(tmp_path / "p", "red", "green"), []
    (folder / "green" / "b.png").write_bytes(b"")
    (folder / "red" / "b.png").write_text("<html>")
    collected = gather(folder, seen=lambda item, found: heard.append((item.source.name, found)))
    assert len(collected.rows) == 2 and [name for name, _ in heard] == ["a.png", "b.png"] * 2
    assert [type(found) for _, found in heard] == [Encoded, ImageError] * 2
    assert [found.code for _, found in heard[1::2]] == ["empty", "not-an-image"]
    assert collected.rows.column("number") == [0, 2]
    assert heard[0][1].stored is False
    heard.clear()
    gather(folder, seen=lambda item, found: heard.append(found))
    assert heard[0].stored and heard[2].stored


def test_nothing_to_use_is_refused(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"no image that can be used.*see the errors above") as error:
        gather(tmp_path / "p")
    assert error.value.where == str(tmp_path / "p")
    with pytest.raises(InputError, match="no such file"):
        gather(tmp_path / "nowhere.csv")


def test_a_table_of_paths_is_of_files(tmp_path):
    red, blue = paint(tmp_path / "red.png", "red"), paint(tmp_path / "sub" / "blue.png", "blue")
    (tmp_path / "t.csv").write_text(f"image,label\nred.png,r\ngone.png,g\nsub/blue.png,b\n{red},again\n")
    found = index_of(tmp_path / "i", gather(tmp_path / "t.csv"))
    assert labelled(found) == {str(red): "r", str(blue): "b"}
    assert found.rows.column("number") == [0, 2] and found.rows.column("file") == [True, True]
    assert add(tmp_path / "i", gather(red))[1] == Added(0, 0, 1)  # which says no label, and takes none away


def test_a_table_of_bytes_is_of_numbered_rows(tmp_path):
    raw = [paint(tmp_path / "x.png", colour).read_bytes() for colour in ("red", "blue", "red")]
    table = pa.table({"image": [raw[0], b"", *raw[1:]], "label": [*"abcd"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    found = index_of(tmp_path / "i", gather(tmp_path / "t.parquet"))
    assert found.rows.column("number") == [0, 2, 3] and found.rows.column("file") == [False] * 3
    assert found.rows.column("id") == ["row 0", "row 2", "row 3"] and found.rows.column("label") == [*"acd"]
    contents = found.rows.column("content")
    assert contents[0] == contents[2] != contents[1]
    assert add(tmp_path / "i", gather(tmp_path / "t.parquet"))[1] == Added(0, 0, 3)
    parquet.write_table(table.set_column(0, "image", [[*raw, raw[1]]]), tmp_path / "t.parquet")
    after, added = add(tmp_path / "i", gather(tmp_path / "t.parquet"))
    assert added == Added(1, 2, 1)  # row 0 is as it was, 2 and 3 are others, 1 is there now
    assert sorted(after.rows.column("number")) == [0, 1, 2, 3]
    parquet.write_table(table, tmp_path / "u.parquet")
    assert add(tmp_path / "i", gather(tmp_path / "u.parquet"))[1] == Added(3, 0, 0)  # the same rows elsewhere


def test_adding_is_counted_and_done(tmp_path):
    folder = paint_all(tmp_path / "p", "red", "green", "blue", "pink")
    index_of(tmp_path / "i", gather(folder))
    assert add(tmp_path / "i", gather(folder))[1] == Added(0, 0, 4)
    paint(folder / "red" / "a.png", "yellow")
    (folder / "green").rename(folder / "olive")
    (folder / "blue" / "a.png").unlink()
    paint(folder / "black" / "z.png", "black")
    paint(folder / "black" / "y.png", "black")
    after, added = add(tmp_path / "i", gather(folder))
    assert added == Added(new=3, changed=1, same=1)
    wanted = {"red": "yellow", "green": "green", "olive": "green", "blue": "blue", "pink": "pink"}
    paths = {str(folder / label / "a.png"): colour for label, colour in wanted.items()}
    assert seen_in(after) == paths | {str(folder / "black" / name): "black" for name in ("y.png", "z.png")}
    assert seen_in(open_index(tmp_path / "i")) == seen_in(after)
    assert after.rows.column("label").count("black") == 2
    assert after.rows.origins == (Origin((str(folder),)),)


def test_another_label_is_a_change(tmp_path):
    paint(tmp_path / "red.png", "red")
    paint(tmp_path / "blue.png", "blue")
    for number, labels in enumerate((["a", "b"], ["a", "c"], ["a", ""])):
        rows = [f"{name}.png,{label}" for name, label in zip(("red", "blue"), labels, strict=True)]
        (tmp_path / f"{number}.csv").write_text("\n".join(["image,label", *rows]))
    index_of(tmp_path / "i", gather(tmp_path / "0.csv"))
    for number, counts in ((1, (0, 1, 1)), (2, (0, 0, 2))):  # where none is said, the one that is there stays
        after, added = add(tmp_path / "i", gather(tmp_path / f"{number}.csv"))
        assert added == Added(*counts)
        assert labelled(after) == {str(tmp_path / "red.png"): "a", str(tmp_path / "blue.png"): "c"}


def test_merged_by_hand():
    old = rows_for("abcd", ["1", "2", None, "4"])
    new = rows_for("dbea", ["4", "2", "5", "x"], contents="dBea")
    keep, fresh = merged(old, new)
    assert keep.tolist() == [False, False, True, True]  # a: another label; b: another content; c: not told of
    assert fresh.tolist() == [False, True, True, True]
    assert [mask.tolist() for mask in merged(old, old)] == [[True] * 4, [False] * 4]


def test_another_model_is_refused_and_changes_nothing(tmp_path):
    index_of(tmp_path / "i", gather(paint_all(tmp_path / "p", "red")))
    other = gather(paint_all(tmp_path / "q", "blue"), Counting("fake-2"))
    with pytest.raises(ModelError, match=r"another model.*use its model, 'fake' in fp32"):
        add(tmp_path / "i", other)
    assert len(open_index(tmp_path / "i")) == 1


ADD = """
import sys
from tests.concepts.test_collect import add, gather
from pathlib import Path
for folder in sorted(Path(sys.argv[2]).iterdir()):
    assert add(Path(sys.argv[1]), gather(folder))[1].new == 1
"""


def test_two_processes_that_add_at_once_lose_nothing(tmp_path):
    index_of(tmp_path / "i", gather(paint_all(tmp_path / "p", "red")))
    colours = iter([*COLOURS])
    for name in ("one", "two"):
        for number in range(3):
            paint(tmp_path / name / str(number) / "a.png", next(colours))
    runs = [
        subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path / "i"), str(tmp_path / name)])
        for name in ("one", "two")
    ]
    assert [run.wait(60) for run in runs] == [0, 0]
    found = open_index(tmp_path / "i")
    assert len(found) == 7 and len({*found.rows.column("id")}) == 7
    suffixes = Counter(path.suffix for path in (tmp_path / "i").iterdir())
    assert suffixes == {"": 1, ".json": 1, ".safetensors": 1, ".arrow": 1}
    assert set(seen_in(found).values()) == {*[*COLOURS][:6], "red"}
