import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.albums import paint
from tests.concepts.test_rows import rows_for
from vlmdesc.concepts.collect import merge_rows
from vlmdesc.concepts.index import Index
from vlmdesc.concepts.rows import Origin
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import ImageError, InputError, ModelError
from vlmdesc.testing import COLOURS, FakeEncoder


class Counting(FakeEncoder):
    """A fake that notes how many images it has seen."""

    def __init__(self, fingerprint="fake-1"):
        self.seen, self.fingerprint = 0, fingerprint

    def forward(self, pixels):
        self.seen += len(pixels)
        return super().forward(pixels)


def paint_all(folder, *colours):
    for colour in colours:
        paint(folder / colour / "a.png", colour)
    return folder


def build(source, folder=None, encoder=None, **options):
    return Index.build(source, encoder or FakeEncoder(), folder, workers=1, **options)


def rows_of(source):
    return build(source).rows


def add(folder, source, encoder=None, **options):
    """The index after it, and what was new, changed and the same."""
    after = Index.open(folder, encoder or FakeEncoder()).add(source, workers=1, **options)
    return after, (after.changes.new, after.changes.changed, after.changes.same)


def labelled(found):
    return dict(zip(found.rows.column("id"), found.rows.column("label"), strict=True))


def seen_in(found, encoder=None):
    """What colour each vector is of, by the id of its row."""
    texts = (encoder or FakeEncoder()).texts([*COLOURS])
    best = (found.nearest.vectors(np.arange(len(found))) @ texts.T).argmax(axis=1)
    return dict(zip(found.rows.column("id"), [[*COLOURS][i] for i in best], strict=True))


def test_a_folder_becomes_rows_with_their_vectors(tmp_path):
    folder = paint_all(tmp_path / "p", "red", "green", "blue")
    found = build(folder, tmp_path / "i")
    names = {str(folder / colour / "a.png"): colour for colour in ("blue", "green", "red")}
    assert labelled(found) == seen_in(found) == names
    assert found.rows.origins == (Origin((str(folder),)),)
    assert found.rows.column("file") == [True] * 3 and found.rows.column("number") == [0, 1, 2]


def test_each_content_is_encoded_once_in_its_life(tmp_path):
    folder, encoder = paint_all(tmp_path / "p", "red", "green"), Counting()
    build(folder, encoder=encoder)
    assert encoder.seen == 2
    paint(folder / "blue" / "a.png", "blue")
    paint(folder / "blue" / "b.png", "red")  # as one that is there
    index = build(folder, encoder=encoder)
    assert encoder.seen == 3 and len(index) == 4 and index.changes.encoded == 1
    build(folder, encoder=encoder, store=Store(tmp_path / "another"))
    assert encoder.seen == 6
    build(folder, encoder=(other := Counting("fake-2")))
    assert other.seen == 3


@pytest.mark.parametrize("store", [True, False])
def test_an_index_in_memory_is_as_one_in_a_folder(tmp_path, store):
    folder = paint_all(tmp_path / "p", "red", "green", "blue")
    kept, light = build(folder, tmp_path / "i"), build(folder, store=store)
    assert (light.folder, light.to_dict()["bytes"], kept.folder) == (None, 0, tmp_path / "i")
    ids = {"search": lambda index: [hit.id for hit in index.search("red")], "gone": Index.verify}
    assert all(ids[way](kept) == ids[way](light) for way in ids) and "in memory" in repr(light)
    paint(folder / "pink" / "a.png", "pink")
    for index in (kept.add(folder, store=store), light.add(folder, store=store)):
        assert (index.changes.new, index.changes.same) == (1, 3) and index.search("pink")[0].label == "pink"
        fewer = index.remove("*/red/*", filters="label=blue")
        assert (fewer.changes.removed, fewer.rows.labels(), len(index)) == (2, ["green", "pink"], 4)
    assert len(light) == 3 and seen_in(light.save(tmp_path / "saved")) == seen_in(Index.open(tmp_path / "saved"))


def test_progress_is_told_by_stages(tmp_path):
    told = []
    build(paint_all(tmp_path / "p", "red", "green"), progress=lambda *how_far: told.append(how_far))
    assert told == [("embedding", n, 2) for n in range(3)] + [("indexing", n, 2) for n in (0, 2)]


def test_images_that_cannot_be_used_are_told_of_and_left_out(tmp_path):
    folder = paint_all(tmp_path / "p", "red", "green")
    (folder / "green" / "b.png").write_bytes(b"")
    (folder / "red" / "b.png").write_text("<html>")
    index = build(folder)
    assert index.rows.column("number") == [0, 2] and index.changes.encoded == 2
    assert [error.code for error in index.changes.failed] == ["empty", "not-an-image"]
    assert index.changes.failed_labels == ("green", "red") and build(folder).changes.encoded == 0
    with pytest.raises(ImageError, match="empty"):
        build(folder, tmp_path / "i", strict=True)
    assert not (tmp_path / "i").exists()


def test_nothing_to_use_is_refused(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="no image that can be used of 1 image") as error:
        build(tmp_path / "p")
    assert error.value.where == str(tmp_path / "p") and "a.png" in error.value.details[0]
    with pytest.raises(InputError, match="no such file"):
        build(tmp_path / "nowhere.csv")


def test_data_that_cannot_be_opened_again_is_known_by_its_content(tmp_path):
    table = load_data(paint_of_bytes(tmp_path, "red", "blue"))
    made = DataSet("mine", table.table, table.roles)
    index = build(made, tmp_path / "i")
    other = load_data(paint_of_bytes(tmp_path, "pink", "blue"))
    assert index.search("red").montage(tmp_path / "sheet.png") == 2
    assert add(tmp_path / "i", made)[1] == (0, 0, 2)
    assert add(tmp_path / "i", DataSet("mine", other.table, other.roles))[1] == (2, 0, 0)


def paint_of_bytes(tmp_path, *colours):
    raw = [paint(tmp_path / "x.png", colour).read_bytes() for colour in colours]
    parquet.write_table(pa.table({"image": raw}), tmp_path / f"{colours[0]}.parquet")
    return tmp_path / f"{colours[0]}.parquet"


def test_a_table_of_paths_is_of_files(tmp_path):
    red, blue = paint(tmp_path / "red.png", "red"), paint(tmp_path / "sub" / "blue.png", "blue")
    (tmp_path / "t.csv").write_text(f"image,label\nred.png,r\ngone.png,g\nsub/blue.png,b\n{red},again\n")
    found = build(tmp_path / "t.csv", tmp_path / "i")
    assert labelled(found) == {str(red): "r", str(blue): "b"}
    assert found.rows.column("number") == [0, 2] and found.rows.column("file") == [True, True]
    assert add(tmp_path / "i", red)[1] == (0, 0, 1)  # which says no label, and takes none away


def test_a_table_of_bytes_is_of_numbered_rows(tmp_path):
    raw = [paint(tmp_path / "x.png", colour).read_bytes() for colour in ("red", "blue", "red")]
    table = pa.table({"image": [raw[0], b"", *raw[1:]], "label": [*"abcd"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    found = build(tmp_path / "t.parquet", tmp_path / "i")
    assert found.rows.column("number") == [0, 2, 3] and found.rows.column("file") == [False] * 3
    assert found.rows.column("id") == ["row 0", "row 2", "row 3"] and found.rows.column("label") == [*"acd"]
    contents = found.rows.column("content")
    assert contents[0] == contents[2] != contents[1]
    assert add(tmp_path / "i", tmp_path / "t.parquet")[1] == (0, 0, 3)
    parquet.write_table(table.set_column(0, "image", [[*raw, raw[1]]]), tmp_path / "t.parquet")
    after, added = add(tmp_path / "i", tmp_path / "t.parquet")
    assert added == (1, 2, 1)  # row 0 is as it was, 2 and 3 are others, 1 is there now
    assert sorted(after.rows.column("number")) == [0, 1, 2, 3]
    parquet.write_table(table, tmp_path / "u.parquet")
    assert add(tmp_path / "i", tmp_path / "u.parquet")[1] == (3, 0, 0)  # the same rows elsewhere


def test_adding_is_counted_and_done(tmp_path):
    folder = paint_all(tmp_path / "p", "red", "green", "blue", "pink")
    build(folder, tmp_path / "i")
    assert add(tmp_path / "i", folder)[1] == (0, 0, 4)
    paint(folder / "red" / "a.png", "yellow")
    (folder / "green").rename(folder / "olive")
    (folder / "blue" / "a.png").unlink()
    paint(folder / "black" / "z.png", "black")
    paint(folder / "black" / "y.png", "black")
    after, added = add(tmp_path / "i", folder)
    assert added == (3, 1, 1)
    wanted = {"red": "yellow", "green": "green", "olive": "green", "blue": "blue", "pink": "pink"}
    paths = {str(folder / label / "a.png"): colour for label, colour in wanted.items()}
    assert seen_in(after) == paths | {str(folder / "black" / name): "black" for name in ("y.png", "z.png")}
    assert seen_in(Index.open(tmp_path / "i")) == seen_in(after)
    assert after.rows.column("label").count("black") == 2
    assert after.rows.origins == (Origin((str(folder),)),)


def test_another_label_is_a_change(tmp_path):
    paint(tmp_path / "red.png", "red")
    paint(tmp_path / "blue.png", "blue")
    for number, labels in enumerate((["a", "b"], ["a", "c"], ["a", ""])):
        rows = [f"{name}.png,{label}" for name, label in zip(("red", "blue"), labels, strict=True)]
        (tmp_path / f"{number}.csv").write_text("\n".join(["image,label", *rows]))
    build(tmp_path / "0.csv", tmp_path / "i")
    for number, counts in ((1, (0, 1, 1)), (2, (0, 0, 2))):  # where none is said, the one that is there stays
        after, added = add(tmp_path / "i", tmp_path / f"{number}.csv")
        assert added == counts
        assert labelled(after) == {str(tmp_path / "red.png"): "a", str(tmp_path / "blue.png"): "c"}


def test_merged_by_hand():
    old = rows_for("abcd", ["1", "2", None, "4"])
    new = rows_for("dbea", ["4", "2", "5", "x"], contents="dBea")
    keep, fresh = merge_rows(old, new)
    assert keep.tolist() == [False, False, True, True]  # a: another label; b: another content; c: not told of
    assert fresh.tolist() == [False, True, True, True]
    assert [mask.tolist() for mask in merge_rows(old, old)] == [[True] * 4, [False] * 4]


def test_another_model_is_refused_and_changes_nothing(tmp_path):
    build(paint_all(tmp_path / "p", "red"), tmp_path / "i")
    old = Index.open(tmp_path / "i", FakeEncoder())
    with pytest.raises(ModelError, match=r"another model.*use its model, 'fake' in fp32"):
        add(tmp_path / "i", paint_all(tmp_path / "q", "blue"), Counting("fake-2"))
    assert len(Index.open(tmp_path / "i")) == 1
    build(tmp_path / "q", tmp_path / "i", Counting("fake-2"), replace=True)
    with pytest.raises(ModelError, match="another model by now"):
        old.add(tmp_path / "q")


ADD = """
import sys
from tests.concepts.test_collect import add
from pathlib import Path
for folder in sorted(Path(sys.argv[2]).iterdir()):
    assert add(Path(sys.argv[1]), folder)[1] == (1, 0, 0)
"""


def test_two_processes_that_add_at_once_lose_nothing(tmp_path):
    build(paint_all(tmp_path / "p", "red"), tmp_path / "i")
    colours = iter([*COLOURS])
    for name in ("one", "two"):
        for number in range(3):
            paint(tmp_path / name / str(number) / "a.png", next(colours))
    runs = [
        subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path / "i"), str(tmp_path / name)])
        for name in ("one", "two")
    ]
    assert [run.wait(60) for run in runs] == [0, 0]
    found = Index.open(tmp_path / "i")
    assert len(found) == 7 and len({*found.rows.column("id")}) == 7
    suffixes = Counter(path.suffix for path in (tmp_path / "i").iterdir())
    assert suffixes == {"": 1, ".json": 1, ".safetensors": 1, ".arrow": 1}
    assert set(seen_in(found).values()) == {*[*COLOURS][:6], "red"}
