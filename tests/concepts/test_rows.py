import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmdesc.concepts.rows import SCHEMA, Origin, Rows, rows_of
from vlmdesc.embeddings.data import DataSet, Item, load_data
from vlmdesc.errors import InputError

ORIGIN = Origin(("org/name",))


def key(text):
    return hashlib.sha256(str(text).encode()).digest()


def rows_for(ids, labels=None, contents=None, origin=ORIGIN, file=True):
    """Rows of files, or of a table; their contents are those of their ids."""
    ids = [*ids]
    contents = [key(id_) for id_ in ids] if contents is None else [key(content) for content in contents]
    columns = [ids, labels or [None] * len(ids), contents, [file] * len(ids), [0] * len(ids), [*range(len(ids))]]
    return Rows(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), SCHEMA), (origin,))


CATS = rows_for(
    ["/a/1.png", "/a/2.png", "/a[1]/1.png", "/b/x?.png", "/b/xy.png"], ["tabby", "tabby cat", "hen", None, "Tabby"]
)


def fitting(*filters):
    return np.flatnonzero(CATS.where(filters)).tolist()


def test_local_paths_of_an_origin_are_absolute_and_options_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("pic,kind,name\na.png,hen,x\nb.png,owl,y\n")
    data = load_data("t.csv", image_column="pic", label_column="kind", group_column="name")
    made = Origin.of(data)
    assert made == Origin((f"{tmp_path}/t.csv",), image_column="pic", label_column="kind")
    monkeypatch.chdir("/")
    assert made == Origin.of(made.open())
    assert Origin.of(DataSet("mine", data.table, data.roles)) == Origin(("mine",))
    assert Origin.of(load_data([tmp_path / "b.png", "a*.png"])).data == (f"{tmp_path}/b.png", "/a*.png")


def test_filters_by_hand():
    assert fitting("label=tabby") == [0]
    assert fitting("label=tabby*") == [0, 1]
    assert fitting("label=*abby") == [0, 4]
    assert fitting("label=*") == [0, 1, 2, 4]  # not those without a label
    assert fitting("id=/a/*") == [0, 1]
    assert fitting("id=/a[1]/1.png") == fitting("id=*[1]*") == [2]  # only * is special
    assert fitting() == [0, 1, 2, 3, 4]


def test_filters_of_one_column_are_or_and_of_two_are_and():
    assert fitting("label=tabby", "label=hen") == [0, 2]
    assert fitting("label=tabby*", "id=*/1.png") == [0]
    assert fitting("label=hen", "id=/a/*", "label=tabby", "id=/b/*") == [0]
    assert fitting("label=hen", "id=/b/*") == []


@pytest.mark.parametrize(
    "filter_, what",
    [
        ("lable=x", "unknown filter 'lable=x'; fix: did you mean 'label'. write label=PATTERN or id=PATTERN"),
        ("content=x", "unknown filter 'content=x'; fix: write label=PATTERN or id=PATTERN"),
        ("label", "unknown filter 'label'"),
        ("", "unknown filter ''"),
        ("label=taby", "no row has label=taby; fix: did you mean 'tabby'. see vlmdesc index info"),
        ("id=/z", "no row has id=/z; fix: see vlmdesc index info"),
        ("label=", "no row has label="),
    ],
)
def test_a_filter_that_fits_nothing_is_refused(filter_, what):
    with pytest.raises(InputError, match=what.replace("?", "[?]")):
        CATS.where(["label=hen", filter_])


def test_what_a_row_is_the_same_by():
    other = Origin(("org/other",))
    assert rows_for(["/a", "/b"]).keys() == [("/a",), ("/b",)]
    table = rows_for(["same", "same"], file=False).plus(rows_for(["same"], file=False, origin=other))
    assert table.keys() == [(ORIGIN, 0), (ORIGIN, 1), (other, 0)]
    assert table.plus(rows_for(["/a"], origin=other)).keys()[-1] == ("/a",)


def test_rows_put_together_keep_their_origins():
    a, b, c = (Origin((name,)) for name in "abc")
    both = rows_for("12", origin=a).plus(rows_for("34", origin=b))
    more = both.plus(rows_for("5", origin=b)).plus(rows_for("6", origin=c)).plus(both)
    assert more.origins == (a, b, c)
    assert more.column("id") == [*"12345612", *"34"]
    assert [more.origins[at].data[0] for at in more.column("origin")] == [*"aabbbcaabb"]
    none = both.keep(np.zeros(4, bool))
    assert none.plus(both).keys() == both.keys() == both.plus(none).keys() and len(none) == 0
    assert none.plus(more.keep(np.arange(10) == 4)).origins == (b,)  # data sets that no row is from are let go


def test_columns_labels_and_contents():
    assert CATS.labels() == ["Tabby", "hen", "tabby", "tabby cat"]
    assert CATS.column("label", [3, 0]) == [None, "tabby"]
    assert CATS.column("id", np.array([2])) == ["/a[1]/1.png"]
    twice = rows_for("abca", contents="xyzx")
    assert [content.tobytes() for content in twice.contents()] == [key(c) for c in "xyzx"]
    assert twice.with_content([key("x"), key("absent")]).tolist() == [0, 3]
    assert twice.plus(twice).with_content([key("y")]).tolist() == [1, 5]
    kept = twice.keep(np.array([False, True, False, True]))
    assert (kept.column("id"), kept.origins) == (["b", "a"], (ORIGIN,))


TEXTS = st.text(max_size=12)


@given(st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.binary(min_size=32, max_size=32), st.booleans()), max_size=12))
@settings(max_examples=30, deadline=None)
def test_rows_come_back_from_their_file(tmp_path_factory, said):
    numbers = [[0] * len(said), [number * 2**40 for number in range(len(said))]]
    columns = [*map(list, zip(*said, strict=True)), *numbers] if said else [[]] * 6
    rows = Rows(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), SCHEMA), (Origin(("ä", "b"), "train"),))
    path = tmp_path_factory.mktemp("rows") / "rows.arrow"
    path.write_bytes(rows.to_bytes())
    again = Rows.read(path, [asdict(origin) for origin in rows.origins])
    assert again.table.equals(rows.table) and again.origins == rows.origins
    twice = again.plus(rows)
    path.write_bytes(twice.to_bytes())
    assert Rows.read(path, [asdict(ORIGIN)]).table.to_pylist() == 2 * rows.table.to_pylist()


def test_what_are_no_rows_are_not_read(tmp_path):
    path = tmp_path / "rows.arrow"
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema({"id": pa.string()})) as file:
        file.write_table(pa.table({"id": ["a"]}))
    for data in (b"", b"ARROW1\0\0", b"x" * 999, sink.getvalue(), CATS.to_bytes().to_pybytes()[:-9]):
        path.write_bytes(data)
        with pytest.raises((ValueError, OSError)):
            Rows.read(path, [])


def test_of_equal_paths_the_first_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = [
        Item("one", Path("a.png"), "first"),
        Item("two", tmp_path / "a.png", "second"),
        Item("row", b"bytes", "x"),
        Item("three", Path("b.png")),
        Item("row", b"bytes", "x"),
        Item("four", Path("./a.png"), "third"),
    ]
    rows = rows_of(((10 * n, item, key(n)) for n, item in enumerate(said)), ORIGIN)
    assert rows.column("id") == [f"{tmp_path}/a.png", "row", f"{tmp_path}/b.png", "row"]
    assert rows.column("label") == ["first", "x", None, "x"]
    assert rows.column("number") == [0, 20, 30, 40]
    assert rows.column("file") == [True, False, True, False]
    assert rows.column("content") == [key(n) for n in (0, 2, 3, 4)]
    assert all(Path(id_).is_absolute() for id_ in rows.column("id", [0, 2]))
    assert len(rows_of((), ORIGIN)) == 0
