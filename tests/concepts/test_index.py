import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save

from tests.concepts.test_nearest import unit
from tests.concepts.test_rows import rows_for
from vlmdesc.cache import checksum
from vlmdesc.concepts import index, nearest
from vlmdesc.concepts.arrays import header
from vlmdesc.concepts.collect import Changes
from vlmdesc.concepts.index import FORMAT, Index, Model
from vlmdesc.concepts.rows import SCHEMA
from vlmdesc.errors import InputError, ModelError, StoreError
from vlmdesc.testing import FakeEncoder

MODEL = Model("fake", "fp32", "fake-1")
NAMES = ("index.json", "vectors", "rows")


@pytest.fixture(autouse=True)
def no_faiss_files(monkeypatch):
    """FAISS reads no file."""
    readers = [name for name in dir(faiss) if re.match("read_|deserialize_|load_", name)]
    assert {"read_index", "read_index_binary", "deserialize_index", "read_VectorTransform"} <= {*readers}
    for name in readers:
        monkeypatch.setattr(faiss, name, lambda *_: pytest.fail("FAISS reads a file"))


def create(folder, vectors, rows, recall=nearest.RECALL, tick=nearest.no_tick, replace=False):
    """An index of any vectors and rows."""
    made = Index(nearest.build(vectors, vectors[:0], recall, tick), rows, MODEL, len(rows))
    return made.save(folder, replace=replace)


def make(folder, n=6, seed=0, **options):
    return create(folder, unit(n, seed), rows_for(f"/{seed}/{i}.png" for i in range(n)), **options)


def more(n, seed, keep=lambda old: np.ones(len(old), bool)):
    """A plan: keep some rows, and put n behind them."""
    return lambda old: (keep(old), unit(n, seed), rows_for(f"/{seed}/{i}.png" for i in range(n)), Changes(new=n))


def none(old):
    return np.zeros(len(old), bool)


def said(found):
    """What an index finds, to be compared."""
    scores, rows = found.nearest.search(unit(5, 77), min(4, len(found)))
    return scores.tolist(), rows.tolist(), found.rows.table.to_pylist(), found.rows.origins


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def edit(folder, **changes):
    """Write into a card, and its checksum anew."""
    card = json.loads((folder / "index.json").read_bytes()) | changes
    del card["check"]
    (folder / "index.json").write_text(json.dumps(card | {"check": checksum(card)}))
    return card


def file_of(folder, kind):
    [path] = folder.glob(f"{kind}-*")
    return path


def test_what_is_made_opens_the_same(tmp_path):
    made = make(tmp_path / "new" / "index", 20)
    again = Index.open(tmp_path / "new" / "index")
    assert said(made) == said(again) and made.to_dict() == again.to_dict()
    assert (len(again), again.nearest.dim, again.model, again.built_for) == (20, 8, MODEL, 20)
    assert np.array_equal(again.nearest.vectors(np.arange(20)), unit(20))
    assert Index.is_in(again.folder) and not Index.is_in(tmp_path)


def test_lists_open_as_they_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr(nearest, "EXACT_ROWS", 500)
    made = make(tmp_path / "i", 1500, recall=0.5)
    again = Index.open(tmp_path / "i")
    assert made.nearest.probes and made.nearest.recall and made.nearest.factory.startswith("IVF")
    assert (again.nearest.probes, again.nearest.recall) == (made.nearest.probes, made.nearest.recall)
    assert said(again) == said(made)
    after = Index.open(tmp_path / "i").change(more(50, 1, lambda old: np.arange(len(old)) % 3 > 0))
    assert (len(after), after.built_for, after.nearest.factory) == (1050, 1500, made.nearest.factory)
    assert said(Index.open(tmp_path / "i")) == said(after)


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.timeout(30)
def test_pipes_and_devices_in_its_folder_are_not_read(tmp_path, put):
    make(tmp_path / "i")
    for name in (name for name in names(tmp_path / "i") if not name.startswith(".")):
        shutil.copytree(tmp_path / "i", tmp_path / f"of {name}")
        (tmp_path / f"of {name}" / name).unlink()
        put(tmp_path / f"of {name}" / name)
        with pytest.raises(StoreError, match="not a regular file"):
            Index.open(tmp_path / f"of {name}")


def test_what_is_there_is_not_made_over(tmp_path):
    make(tmp_path / "i")
    before = names(tmp_path / "i")
    with pytest.raises(InputError, match=r"an index is there already.*or replace it: --replace"):
        make(tmp_path / "i", seed=1)
    assert names(tmp_path / "i") == before and said(Index.open(tmp_path / "i")) == said(make(tmp_path / "again"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name, what in (("photos", "a.png"), ("file", "file"), ("link", "link")):
        for replace in (False, True):
            with pytest.raises(InputError, match=rf"something else is there: {what}.*choose another folder"):
                make(tmp_path / name, replace=replace)
    assert (tmp_path / "file").read_text() == (tmp_path / "photos" / "a.png").read_text() == "mine"
    assert names(tmp_path / "photos") == ["a.png"]


def test_an_empty_folder_or_one_with_hidden_files_becomes_an_index(tmp_path):
    (tmp_path / ".DS_Store").write_text("")
    assert len(make(tmp_path)) == 6 and (tmp_path / ".DS_Store").exists()


def test_a_replacement_is_there_when_it_is_whole_and_not_before(tmp_path):
    old = make(tmp_path / "i")

    def fails(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "i", 9, 1, replace=True, tick=fails)
    assert said(Index.open(tmp_path / "i")) == said(old)
    new = make(tmp_path / "i", 9, 1, replace=True)
    assert len(new) == 9 and said(Index.open(tmp_path / "i")) == said(new)
    assert len(names(tmp_path / "i")) == 4


def test_rows_go_and_come(tmp_path):
    make(tmp_path / "i")
    after = Index.open(tmp_path / "i").change(more(3, 5, lambda old: np.arange(6) % 2 > 0))
    assert len(after) == 6 and after.changes.new == 3
    assert after.rows.column("id") == [f"/0/{i}.png" for i in (1, 3, 5)] + [f"/5/{i}.png" for i in range(3)]
    assert np.array_equal(after.nearest.vectors(np.arange(6)), np.vstack([unit(6)[1::2], unit(3, 5)]))
    assert said(Index.open(tmp_path / "i")) == said(after)


def test_a_change_of_nothing_writes_nothing(tmp_path):
    make(tmp_path / "i")
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "i").iterdir() if path.name != ".lock"}
    assert len(Index.open(tmp_path / "i").change(more(0, 1))) == 6
    assert {n: (tmp_path / "i" / n).stat().st_mtime_ns for n in stamps} == stamps


def test_a_commit_leaves_the_card_and_what_it_names(tmp_path):
    folder = tmp_path / "i"
    make(folder)
    (folder / f"vectors-{'0' * 32}.safetensors").write_text("left by a crash")
    (folder / f"vectors-{'0' * 32}.faiss").write_text("left by an older version")
    (folder / f".{'0' * 16}.part").write_text("left by a crash")
    for seed in (1, 2):
        after = Index.open(folder).change(more(2, seed))
        assert names(folder) == sorted([".lock", "index.json", *(file["name"] for file in after.files.values())])
    for kind in ("vectors", "rows"):
        data = file_of(folder, kind).read_bytes()
        assert hashlib.sha256(data).hexdigest() == after.files[kind]["sha256"]
        assert after.files[kind]["sha256"][:32] in after.files[kind]["name"]
        assert after.files[kind]["bytes"] == len(data)


def test_who_opened_it_before_a_change_searches_what_was(tmp_path):
    make(tmp_path / "i")
    old = Index.open(tmp_path / "i")
    before = said(old)
    Index.open(tmp_path / "i").change(more(4, 9, none))
    assert said(old) == before != said(Index.open(tmp_path / "i"))


def test_a_reader_that_a_commit_overtakes_gets_the_new_one(tmp_path, monkeypatch):
    make(tmp_path / "i")
    load, overtaken = index._load, []

    def slowly(values, paths):
        if not overtaken:
            overtaken.append(values)
            Index.open(tmp_path / "i").change(more(4, 9, none))
        return load(values, paths)

    monkeypatch.setattr(index, "_load", slowly)
    found = Index.open(tmp_path / "i")
    assert overtaken and len(found) == 4 and found.rows.column("id")[0] == "/9/0.png"


@pytest.mark.parametrize("kind", ["vectors", "rows"])
def test_a_missing_file_is_named(tmp_path, kind):
    make(tmp_path / "i")
    path = file_of(tmp_path / "i", kind)
    path.unlink()
    with pytest.raises(StoreError, match=r"a file of the index is missing.*make it again") as error:
        Index.open(tmp_path / "i")
    assert error.value.where == str(path)


def test_another_models_vectors_do_not_meet_these(tmp_path):
    make(tmp_path / "i")
    other = FakeEncoder()
    assert Index.open(tmp_path / "i", other).encoder is other
    other.fingerprint = "fake-2"
    for given in (other, lambda: other):
        with pytest.raises(ModelError, match=r"another model.*use its model, 'fake' in fp32, or build it again"):
            Index.open(tmp_path / "i", given).search("red")


def test_what_an_older_version_made_is_built_again(tmp_path):
    """Schema 1 kept a file of FAISS's."""
    folder = tmp_path / "i"
    make(folder)
    make(tmp_path / "newer")
    file, old = file_of(folder, "vectors"), f"vectors-{'a' * 32}.faiss"
    file.rename(folder / old)
    files = json.loads((folder / "index.json").read_bytes())["files"]
    edit(folder, schema=1, files=files | {"vectors": files["vectors"] | {"name": old}})
    old_one = Index(nearest.build(unit(3), unit(0)), rows_for("abc"), MODEL, 3, folder)
    edit(tmp_path / "newer", schema=3, more={"new": 1})
    with pytest.raises(StoreError, match=r"written by a newer vlmdesc.*upgrade"):
        Index.open(tmp_path / "newer")
    for way in (Index.open, lambda folder: old_one.change(more(1, 1))):
        with pytest.raises(StoreError, match=r"made by an older vlmdesc.*vlmdesc index build DATASET --out IDX --repl"):
            way(folder)
    assert Index.is_in(folder)
    with pytest.raises(InputError, match="an index is there already"):
        make(folder, 7, 1)
    assert said(make(folder, 7, 1, replace=True)) == said(Index.open(folder))
    assert len(names(folder)) == 4 and old not in names(folder)


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    make(tmp_path / "i")
    files = json.loads((tmp_path / "i" / "index.json").read_bytes())["files"]
    right = files["vectors"]["name"]
    shutil.copy(tmp_path / "i" / right, tmp_path / "x")
    for name in ("../x", str(tmp_path / "x"), "x", f"../i/{right}", f"./{right}", f"{right}\n", ".", "", "index.json"):
        edit(tmp_path / "i", files=files | {"vectors": files["vectors"] | {"name": name}})
        with pytest.raises(StoreError, match="damaged: not the name of a vectors file"):
            Index.open(tmp_path / "i")


def many(folder, monkeypatch, n=1500):
    """An index with lists."""
    monkeypatch.setattr(nearest, "EXACT_ROWS", 500)
    return make(folder, n, recall=0.5)


OPEN = """
import json, sys, numpy as np
from pathlib import Path
from vlmdesc.concepts.index import Index
found = Index.open(Path(sys.argv[1]))
scores, rows = found.nearest.search(np.load(sys.argv[2]), 4)
print(json.dumps([scores.tolist(), rows.tolist(), found.rows.column("id")]))
"""


@pytest.mark.parametrize("kind", ["exact", "lists"])
def test_an_index_is_the_same_for_everybody(tmp_path, monkeypatch, kind):
    made = many(tmp_path / "i", monkeypatch) if kind == "lists" else make(tmp_path / "i", 20)
    right = said(made)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert said(Index.open(tmp_path / "i")) == right
    shutil.copytree(tmp_path / "i", tmp_path / "copy", ignore=shutil.ignore_patterns(".lock"))
    np.save(tmp_path / "queries.npy", unit(5, 77))
    theirs = os.environ | {"HOME": str(tmp_path / "home"), "VLMDESC_CACHE": str(tmp_path / "theirs")}
    command = [sys.executable, "-c", OPEN, tmp_path / "copy", tmp_path / "queries.npy"]
    done = subprocess.run(command, env=theirs, capture_output=True, check=True, text=True)
    scores, rows, ids = json.loads(done.stdout)
    assert (scores, rows, ids) == (*right[:2], made.rows.column("id"))
    assert not (tmp_path / "theirs").exists()


def forge(folder, kind, data, **changes):
    """Put another file into an index, and say in its card that it is right."""
    file_of(folder, kind).unlink()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{kind}-{digest[:32]}{FORMAT.suffixes[kind]}"
    (folder / name).write_bytes(data)
    files = json.loads((folder / "index.json").read_bytes())["files"]
    edit(folder, files=files | {kind: {"name": name, "bytes": len(data), "sha256": digest}}, **changes)


def refused(folder, what="damaged: "):
    with pytest.raises(StoreError, match=what) as error:
        Index.open(folder)
    assert Path(error.value.where).parent == folder and error.value.fix


def without(array, at, value):
    array = array.copy()
    array.flat[at] = value
    return array


HOSTILE = {
    "a row twice": lambda held: {"rows": without(held["rows"], 0, held["rows"][1])},
    "a row beyond": lambda held: {"rows": without(held["rows"], 5, len(held["rows"]))},
    "a row below": lambda held: {"rows": without(held["rows"], 5, -1)},
    "a huge row": lambda held: {"rows": without(held["rows"], 5, 2**62)},
    "a size below": lambda held: {"sizes": without(held["sizes"], [0, 1], [-3, sum(held["sizes"][:2]) + 3])},
    "sizes that wrap": lambda held: {"sizes": without(0 * held["sizes"], range(4), [2**62] * 4)},
    "one too few": lambda held: {"sizes": without(held["sizes"], 0, held["sizes"][0] - 1)},
    "one too many": lambda held: {"sizes": without(held["sizes"], 0, held["sizes"][0] + 1)},
    "NaN": lambda held: {"centroids": without(held["centroids"], 9, np.nan)},
    "infinite": lambda held: {"centroids": without(held["centroids"], 9, -np.inf)},
    "huge": lambda held: {"centroids": without(held["centroids"], 9, 3e38)},
    "NaN trained": lambda held: {"trained": without(held["trained"], 3, np.nan)},
    "huge trained": lambda held: {"trained": without(held["trained"], 12, 3e38)},
    "another type": lambda held: {"centroids": held["centroids"].view(np.int32)},
    "float64": lambda held: {"centroids": held["centroids"].reshape(-1, 2).copy().view(np.float64)},
    "a shape transposed": lambda held: {"centroids": held["centroids"].reshape(8, -1)},
    "codes wider": lambda held: {"codes": np.hstack([held["codes"], held["codes"]])},
    "one code fewer": lambda held: {"codes": held["codes"][1:]},
    "an array more": lambda held: {"more": np.zeros(1, np.uint8)},
}


def rewritten(held):
    """Arrays as our own writer would put them, so that only what they are is wrong."""
    kinds = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64", np.dtype(np.uint8): "U8"}
    layout = {name: (kinds.get(array.dtype, "I32"), array.shape) for name, array in held.items()}
    if any(kind == "I32" for kind, _ in layout.values()):
        return save(held)
    return header(layout) + b"".join(array.tobytes() for array in held.values())


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_lists_are_refused(tmp_path, monkeypatch, what):
    many(tmp_path / "i", monkeypatch, 600)
    held = load_file(file_of(tmp_path / "i", "vectors"))
    held = {name: held[name] for name in ("rows", "sizes", "centroids", "trained", "codes")}
    right = Index.open(tmp_path / "i").nearest
    forge(tmp_path / "i", "vectors", rewritten(held))  # this one is the same
    assert np.array_equal(Index.open(tmp_path / "i").nearest.vectors(np.arange(9)), right.vectors(np.arange(9)))
    forge(tmp_path / "i", "vectors", rewritten(held | HOSTILE[what](held)))
    refused(tmp_path / "i")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_hostile_vectors_are_refused(tmp_path, monkeypatch, value):
    make(tmp_path / "i")
    forge(tmp_path / "i", "vectors", rewritten({"vectors": without(unit(6), 11, value)}))
    refused(tmp_path / "i", "damaged: numbers that no vector has")
    monkeypatch.setattr(nearest, "CODECS", {"SQfp16": nearest.CODECS["SQfp16"]})
    many(tmp_path / "l", monkeypatch)
    whole = file_of(tmp_path / "l", "vectors").read_bytes()
    with np.errstate(over="ignore"):
        forge(tmp_path / "l", "vectors", whole[:-2] + np.float16(value).tobytes())
    refused(tmp_path / "l", "damaged: numbers that no vector has")


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 2**62}, {"n": 7}, {"n": 5}, {"dim": 2**40}, {"dim": 4}, {"n": 12, "dim": 4}, {"probes": 1},
        {"factory": "IVF4_HNSW32,SQ8", "probes": 1}, {"factory": "IVF99999_HNSW32,SQ8", "probes": 1},
        {"factory": "IVF0_HNSW32,SQ8", "probes": 1}, {"factory": "PQ64"}, {"factory": "Flat\n"}, {"factory": ""},
    ],
)  # fmt: skip
def test_cards_that_say_something_else_are_refused(tmp_path, changes):
    make(tmp_path / "i")
    edit(tmp_path / "i", **changes)
    refused(tmp_path / "i")


@pytest.mark.parametrize("changes", [{"probes": 0}, {"probes": 129}, {"probes": 2**62}, {"factory": "Flat"}])
def test_cards_that_say_something_else_of_lists_are_refused(tmp_path, monkeypatch, changes):
    found = many(tmp_path / "i", monkeypatch, 600)
    assert found.nearest.factory.startswith("IVF128_")
    edit(tmp_path / "i", **changes)
    refused(tmp_path / "i")


def test_lists_of_equal_centroids_and_of_all_rows_in_one_do_no_harm(tmp_path, monkeypatch):
    many(tmp_path / "i", monkeypatch, 600)
    held = load_file(file_of(tmp_path / "i", "vectors"))
    same = {"centroids": np.zeros_like(held["centroids"]), "sizes": without(0 * held["sizes"], 0, 600)}
    held = {name: (held | same)[name] for name in ("rows", "sizes", "centroids", "trained", "codes")}
    forge(tmp_path / "i", "vectors", rewritten(held))
    scores, rows = Index.open(tmp_path / "i").nearest.search(unit(5), 3)
    assert rows.max() < 600 and np.isfinite(scores).all()


def rows_file(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
        file.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("column, values", [
    ("origin", [1] * 6), ("origin", [-1] * 6), ("number", [-1] * 6), ("number", [None] * 6), ("id", [None] * 6),
    ("id", [b"\xff"] * 6), ("label", [b"\xc3"] * 6), ("content", [None] * 6), ("file", [None] * 6),
])  # fmt: skip
def test_hostile_rows_are_refused(tmp_path, column, values):
    made = make(tmp_path / "i")
    at = SCHEMA.get_field_index(column)
    table = made.rows.table.set_column(at, SCHEMA.field(at), pa.array(values, SCHEMA.field(at).type))
    forge(tmp_path / "i", "rows", rows_file(table))
    refused(tmp_path / "i")


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_small_file_of_rows_does_not_become_a_large_table(tmp_path, compression):
    made = make(tmp_path / "i")
    at = SCHEMA.get_field_index("label")
    long = pa.array([bytes(10**7)] * 6, SCHEMA.field(at).type)
    forge(
        tmp_path / "i",
        "rows",
        rows_file(made.rows.table.set_column(at, SCHEMA.field(at), long), compression=compression),
    )
    assert file_of(tmp_path / "i", "rows").stat().st_size < 10**6
    before = pa.default_memory_pool().bytes_allocated()
    refused(tmp_path / "i", "damaged: compressed")
    assert pa.default_memory_pool().bytes_allocated() - before < 10**6


class Full:
    """A file on a disk with little room."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)


@pytest.mark.parametrize("number, room", [(0, 0), (0, 200), (1, 0), (1, 500), (2, 10)])
def test_a_full_disk_leaves_the_old_index(tmp_path, monkeypatch, number, room):
    """Vectors are written first, then rows, then the card."""
    folder = tmp_path / "i"
    old, opened = make(folder), []

    def on_a_full_disk(path, mode="r", *rest, **options):
        file = Path(path).open(mode, *rest, **options)  # noqa: SIM115
        if "x" not in mode or Path(path).parent != folder:
            return file
        opened.append(path)
        return Full(file, room if len(opened) == number + 1 else 10**6)

    with monkeypatch.context() as patch:
        for module in ("vlmdesc.bundle", "vlmdesc.files"):
            patch.setattr(f"{module}.open", on_a_full_disk, raising=False)
        for way in (lambda: Index.open(folder).change(more(9, 1)), lambda: make(folder, 9, 1, replace=True)):
            opened.clear()
            with pytest.raises(StoreError, match=r"No space left.*MiB free there.*free some space") as error:
                way()
            assert len(opened) == number + 1 and error.value.where.startswith(str(folder))
    assert not [name for name in names(folder) if name.endswith(".part")]
    assert said(Index.open(folder)) == said(old)
    assert len(Index.open(folder).change(more(9, 1))) == 15 and len(names(folder)) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    make(tmp_path / "i")
    (tmp_path / "i").chmod(0o500)
    try:
        assert len(Index.open(tmp_path / "i")) == 6
        with pytest.raises(StoreError, match="cannot write: Permission denied"):
            Index.open(tmp_path / "i").change(more(1, 1))
    finally:
        (tmp_path / "i").chmod(0o700)


def load_files(folder):
    return {"index.json": (folder / "index.json").read_bytes()} | {
        kind: file_of(folder, kind).read_bytes() for kind in ("vectors", "rows")
    }


def foreign_files():
    flat, lists = faiss.IndexFlatL2(8), faiss.index_factory(8, "IVF2,SQ8", faiss.METRIC_INNER_PRODUCT)
    lists.train(unit(100))
    for found in (flat, lists):
        found.add(unit(6))
    return [faiss.serialize_index(found).tobytes() for found in (flat, lists)]


def flipped(random, data, others):
    data = bytearray(data)
    for bit in random.integers(0, 8 * len(data), random.integers(1, 4)):
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def zeroed(random, data, others):
    start, size = random.integers(0, len(data)), random.integers(1, 200)
    return data[:start] + bytes(len(data[start : start + size])) + data[start + size :]


def moved(random, data, others):
    """A block of it in place of another."""
    a, b = random.integers(0, len(data), 2)
    block = data[a : a + random.integers(1, 64)]
    return data[:b] + block + data[b + len(block) :]


DAMAGE = {
    "flipped": flipped,
    "truncated": lambda random, data, others: data[: random.integers(0, len(data))],
    "longer": lambda random, data, others: data + random.bytes(random.integers(1, 50)),
    "zeroed": zeroed,
    "moved": moved,
    "emptied": lambda random, data, others: b"",
    "another's": lambda random, data, others: others[random.integers(len(others))],
    "random": lambda random, data, others: random.bytes(random.integers(1, 2000)),
    "gone": lambda random, data, others: None,
}
ODD = [0, -1, 1, 7, 2**70, 0.5, "", "x", None, [], {}, [[]], True, "../x"]


def places(value, at=()):
    """Ways to every value in a JSON value."""
    yield at
    for key_, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*at, key_))


def edited(random, data):
    """A card with some value another, or left out; half of the time with the checksum of what came of it."""
    card = json.loads(data)
    ways = [way for way in places(card) if way]
    *way, last = ways[random.integers(len(ways))]
    inner = card
    for step in way:
        inner = inner[step]
    old, new = inner[last], ODD[random.integers(len(ODD))]
    if random.random() < 0.2:
        del inner[last]
    elif random.random() < 0.5:
        inner[last] = new
    elif isinstance(old, str):
        inner[last] = old[::-1] + "x"
    elif isinstance(old, int):
        inner[last] = old + int(random.integers(1, 9))
        card["check"] = checksum({name: value for name, value in card.items() if name != "check"})
    return json.dumps(card).encode()


def test_a_thousand_damaged_indexes_are_refused_by_name_or_harmless(tmp_path):
    made, other = make(tmp_path / "a"), make(tmp_path / "b", 5, 1)
    whole, others = load_files(tmp_path / "a"), [*load_files(tmp_path / "b").values(), *foreign_files()]
    right, there = said(made), {name: made.files[name]["name"] for name in NAMES[1:]} | {NAMES[0]: NAMES[0]}
    damaged, n_refused, random = shutil.copytree(tmp_path / "a", tmp_path / "damaged"), 0, np.random.default_rng(0)
    for number in range(1000):
        if number % 5 == 0:
            name, data = "index.json", edited(random, whole["index.json"])
        else:
            name, way = NAMES[random.integers(3)], [*DAMAGE.values()][random.integers(len(DAMAGE))]
            data = way(random, whole[name], [*others, *(whole[one] for one in NAMES if one != name)])
        if data is None:
            (damaged / there[name]).unlink()
        else:
            (damaged / there[name]).write_bytes(data)
        try:
            found = Index.open(damaged)
        except (StoreError, InputError) as error:
            n_refused += 1
            assert error.fix and damaged in (Path(error.where), Path(error.where).parent)
        else:
            assert said(found) == right
        (damaged / there[name]).write_bytes(whole[name])
    assert said(Index.open(damaged)) == right
    assert n_refused >= 950
    assert said(Index.open(tmp_path / "a")) == right != said(other)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact", "lists"])
def test_a_thousand_damaged_files_that_a_card_vouches_for_do_no_harm(tmp_path, monkeypatch, kind):
    """Nothing but the content can be checked: found is then what the file says, and nothing crashes or grows."""
    many(tmp_path / "a", monkeypatch, 600) if kind == "lists" else make(tmp_path / "a", 20)
    make(tmp_path / "b", 5, 1)
    whole, random, n_refused = load_files(tmp_path / "a"), np.random.default_rng(1), 0
    others, began = [*load_files(tmp_path / "b").values(), *foreign_files()], resident()
    for _ in range(1000):
        name, way = NAMES[random.integers(1, 3)], [*DAMAGE.values()][random.integers(len(DAMAGE) - 1)]
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        shutil.copytree(tmp_path / "a", tmp_path / "d")
        forge(tmp_path / "d", name, way(random, whole[name], others))
        try:
            scores, rows, table, _ = said(Index.open(tmp_path / "d"))
        except StoreError as error:
            n_refused += 1
            assert Path(error.where).parent == tmp_path / "d"
        else:
            assert np.isfinite(scores).all() and np.max(rows) < len(table)
    assert n_refused > 300
    assert resident() - began < 200 * 2**20


def resident():
    """Bytes of this process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
