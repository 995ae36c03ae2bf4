import errno
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.concepts.test_nearest import unit
from tests.concepts.test_rows import key, rows_for
from vlmdesc.cache import checksum
from vlmdesc.concepts import index, nearest
from vlmdesc.concepts.card import Model, to_bytes
from vlmdesc.concepts.index import change, create, is_index, open_index, trust
from vlmdesc.errors import InputError, ModelError, ShapeError, StoreError

MODEL = Model("fake", "fp32", "fake-1")
NAMES = ("index.json", "vectors", "rows")


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    """A cache folder of this test's own: what it has not made it does not trust."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))


def make(folder, n=6, seed=0, **options):
    vectors = unit(n, seed)
    return create(folder, vectors, rows_for(f"/{seed}/{i}.png" for i in range(n)), MODEL, vectors[:0], **options)


def more(n, seed, keep=lambda old: np.ones(len(old), bool)):
    """A plan: keep some rows, and put n behind them."""
    return lambda old: (keep(old), unit(n, seed), rows_for(f"/{seed}/{i}.png" for i in range(n)))


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


def another_user(monkeypatch, tmp_path):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "another"))


def test_what_is_made_opens_the_same(tmp_path):
    made = make(tmp_path / "new" / "index", 20)
    again = open_index(tmp_path / "new" / "index")
    assert said(made) == said(again) and to_bytes(made.card) == to_bytes(again.card)
    assert (len(again), again.nearest.dim, again.card.model, again.card.built_for) == (20, 8, MODEL, 20)
    assert np.array_equal(again.nearest.vectors(np.arange(20)), unit(20))
    assert is_index(again.folder) and not is_index(tmp_path)


def test_lists_open_as_they_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr(nearest, "EXACT_ROWS", 500)
    made = make(tmp_path / "i", 1500, recall=0.5)
    again = open_index(tmp_path / "i")
    assert made.nearest.probes and made.nearest.recall and made.nearest.factory.startswith("IVF")
    assert (again.nearest.probes, again.nearest.recall) == (made.nearest.probes, made.nearest.recall)
    assert said(again) == said(made)
    after = change(tmp_path / "i", more(50, 1, lambda old: np.arange(len(old)) % 3 > 0))[1]
    assert (len(after), after.card.built_for, after.card.factory) == (1050, 1500, made.card.factory)
    assert said(open_index(tmp_path / "i")) == said(after)


def test_what_is_there_is_not_made_over(tmp_path):
    make(tmp_path / "i")
    before = names(tmp_path / "i")
    with pytest.raises(InputError, match=r"there is an index.*add to it with vlmdesc index add, or use --replace"):
        make(tmp_path / "i", seed=1)
    assert names(tmp_path / "i") == before and said(open_index(tmp_path / "i")) == said(make(tmp_path / "again"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name, what in (("photos", "a.png"), ("file", "file"), ("link", "link")):
        for replace in (False, True):
            with pytest.raises(InputError, match=rf"something else is there: {what}.*choose another --out"):
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
    assert said(open_index(tmp_path / "i")) == said(old)
    new = make(tmp_path / "i", 9, 1, replace=True)
    assert len(new) == 9 and said(open_index(tmp_path / "i")) == said(new)
    assert len(names(tmp_path / "i")) == 4


def test_as_many_rows_as_vectors(tmp_path):
    with pytest.raises(ShapeError, match="3 vectors but 2 rows"):
        create(tmp_path / "i", unit(3), rows_for("ab"), MODEL, unit(0))
    make(tmp_path / "i")
    with pytest.raises(ShapeError, match="9 vectors but 8 rows"):
        change(tmp_path / "i", lambda old: (~none(old), unit(3), rows_for("ab")))
    assert len(open_index(tmp_path / "i")) == 6


def test_rows_go_and_come(tmp_path):
    make(tmp_path / "i")
    before, after = change(tmp_path / "i", more(3, 5, lambda old: np.arange(6) % 2 > 0))
    assert (len(before), len(after)) == (6, 6)
    assert after.rows.column("id") == [f"/0/{i}.png" for i in (1, 3, 5)] + [f"/5/{i}.png" for i in range(3)]
    assert np.array_equal(after.nearest.vectors(np.arange(6)), np.vstack([unit(6)[1::2], unit(3, 5)]))
    assert said(open_index(tmp_path / "i")) == said(after)


def test_a_change_of_nothing_writes_nothing(tmp_path):
    make(tmp_path / "i")
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "i").iterdir() if path.name != ".lock"}
    before, after = change(tmp_path / "i", more(0, 1))
    assert before is after
    assert {n: (tmp_path / "i" / n).stat().st_mtime_ns for n in stamps} == stamps


def test_an_index_of_nothing_is_refused(tmp_path):
    make(tmp_path / "i")
    with pytest.raises(InputError, match=r"nothing would be left.*delete the folder"):
        change(tmp_path / "i", more(0, 1, none))
    assert len(open_index(tmp_path / "i")) == 6


def test_a_commit_leaves_the_card_and_what_it_names(tmp_path):
    folder = tmp_path / "i"
    make(folder)
    (folder / f"vectors-{'0' * 32}.faiss").write_text("left by a crash")
    (folder / f".{'0' * 16}.part").write_text("left by a crash")
    for seed in (1, 2):
        after = change(folder, more(2, seed))[1]
        assert names(folder) == sorted([".lock", "index.json", *(file.name for file in after.card.files.values())])
    for kind in ("vectors", "rows"):
        data = file_of(folder, kind).read_bytes()
        assert hashlib.sha256(data).hexdigest() == after.card.files[kind].sha256
        assert after.card.files[kind].sha256[:32] in after.card.files[kind].name
        assert after.card.files[kind].bytes == len(data)


def test_who_opened_it_before_a_change_searches_what_was(tmp_path):
    make(tmp_path / "i")
    old = open_index(tmp_path / "i")
    before = said(old)
    change(tmp_path / "i", more(4, 9, none))
    assert said(old) == before != said(open_index(tmp_path / "i"))


def test_a_reader_that_a_commit_overtakes_gets_the_new_one(tmp_path, monkeypatch):
    make(tmp_path / "i")
    load, overtaken = index._load, []

    def slowly(folder, raw, allow):
        if not overtaken:
            overtaken.append(raw)
            change(folder, more(4, 9, none))
        return load(folder, raw, allow)

    monkeypatch.setattr(index, "_load", slowly)
    found = open_index(tmp_path / "i")
    assert overtaken and len(found) == 4 and found.rows.column("id")[0] == "/9/0.png"


@pytest.mark.parametrize("kind", ["vectors", "rows"])
def test_a_missing_file_is_named(tmp_path, kind):
    make(tmp_path / "i")
    path = file_of(tmp_path / "i", kind)
    path.unlink()
    with pytest.raises(StoreError, match=r"a file of the index is missing.*make it again") as error:
        open_index(tmp_path / "i")
    assert error.value.where == str(path)


def test_what_is_no_index_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("nowhere", ".", "file"):
        with pytest.raises(InputError, match=r"no index.*vlmdesc index build DATASET"):
            open_index(tmp_path / name)
    (tmp_path / "index.json").mkdir()
    with pytest.raises(StoreError, match="cannot read: Is a directory"):
        open_index(tmp_path)


def test_another_models_vectors_do_not_meet_these(tmp_path):
    made = make(tmp_path / "i")
    made.check("fake-1")
    with pytest.raises(ModelError, match=r"another model.*use its model, 'fake' in fp32, or build it again"):
        made.check("fake-2")


def test_what_a_newer_version_wrote_is_left_to_it(tmp_path):
    make(tmp_path / "i")
    edit(tmp_path / "i", schema=2, more={"new": 1})
    for opens in (open_index, trust):
        with pytest.raises(StoreError, match=r"written by a newer vlmdesc.*upgrade"):
            opens(tmp_path / "i")


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    make(tmp_path / "i")
    files = json.loads((tmp_path / "i" / "index.json").read_bytes())["files"]
    right = files["vectors"]["name"]
    shutil.copy(tmp_path / "i" / right, tmp_path / "x")
    for name in ("../x", str(tmp_path / "x"), "x", f"../i/{right}", f"./{right}", f"{right}\n", ".", "", "index.json"):
        edit(tmp_path / "i", files=files | {"vectors": files["vectors"] | {"name": name}})
        for opens in (open_index, trust):
            with pytest.raises(StoreError, match="damaged: no name of a vectors file"):
                opens(tmp_path / "i")


def test_an_index_made_elsewhere_opens_when_it_is_trusted(tmp_path, monkeypatch):
    made = make(tmp_path / "i")
    another_user(monkeypatch, tmp_path)
    with pytest.raises(StoreError, match=r"made by another user.*vlmdesc index verify .*/i --trust-index") as error:
        open_index(tmp_path / "i")
    assert error.value.where == str(tmp_path / "i")
    assert said(trust(tmp_path / "i")) == said(made) == said(open_index(tmp_path / "i"))
    (tmp_path / "i").rename(tmp_path / "moved")
    assert said(open_index(tmp_path / "moved")) == said(made)
    edit(tmp_path / "moved", built_for=7)  # another card, though of the same files
    with pytest.raises(StoreError, match="made by another user"):
        open_index(tmp_path / "moved")
    with pytest.raises(StoreError, match="made by another user"):
        change(tmp_path / "moved", more(1, 1))


def forge(folder, data):
    """Put other vectors into an index, and say in its card that they are right."""
    file_of(folder, "vectors").unlink()
    digest = hashlib.sha256(data).hexdigest()
    name = f"vectors-{digest[:32]}.faiss"
    (folder / name).write_bytes(data)
    files = json.loads((folder / "index.json").read_bytes())["files"]
    edit(folder, files=files | {"vectors": {"name": name, "bytes": len(data), "sha256": digest}})


def refused(folder, what="it cannot be read without failing.*do not use it"):
    with pytest.raises(StoreError, match=what) as error:
        trust(folder)
    assert error.value.where == str(folder)
    with pytest.raises(StoreError, match="made by another user"):  # it is not remembered
        open_index(folder)


def test_garbage_that_a_card_vouches_for_is_refused(tmp_path):
    make(tmp_path / "i")
    forge(tmp_path / "i", b"IxFI" + np.random.default_rng(0).bytes(600))
    refused(tmp_path / "i")


@pytest.mark.parametrize("end", ["kill -SEGV $$", "kill -KILL $$", "exit 1", "sleep 30"])
def test_what_makes_faiss_crash_or_hang_does_not_end_this_process(tmp_path, monkeypatch, end):
    make(tmp_path / "i")
    another_user(monkeypatch, tmp_path)
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec 2>/dev/null\n{end.replace('sleep', 'exec sleep')}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(index, "CHILD_S", 0.2)
    refused(tmp_path / "i")


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
        for module in ("vlmdesc.concepts.index", "vlmdesc.files"):
            patch.setattr(f"{module}.open", on_a_full_disk, raising=False)
        for way in (lambda: change(folder, more(9, 1)), lambda: make(folder, 9, 1, replace=True)):
            opened.clear()
            with pytest.raises(StoreError, match=r"No space left.*MiB free there.*free some space") as error:
                way()
            assert len(opened) == number + 1 and error.value.where.startswith(str(folder))
    assert not [name for name in names(folder) if name.endswith(".part")]
    assert said(open_index(folder)) == said(old)
    assert len(change(folder, more(9, 1))[1]) == 15 and len(names(folder)) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    make(tmp_path / "i")
    (tmp_path / "i").chmod(0o500)
    try:
        assert len(open_index(tmp_path / "i")) == 6
        with pytest.raises(StoreError, match="cannot write: Permission denied"):
            change(tmp_path / "i", more(1, 1))
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
    right, there = said(made), {name: made.card.files[name].name for name in NAMES[1:]} | {NAMES[0]: NAMES[0]}
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
            found = open_index(damaged)
        except (StoreError, InputError) as error:
            n_refused += 1
            assert error.fix and damaged in (Path(error.where), Path(error.where).parent)
        else:
            assert said(found) == right
        (damaged / there[name]).write_bytes(whole[name])
    assert said(open_index(damaged)) == right
    assert n_refused >= 950
    assert said(open_index(tmp_path / "a")) == right != said(other)


def test_equal_files_may_be_in_two_indexes(tmp_path):
    make(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    change(tmp_path / "b", more(2, 1, none))
    assert len(open_index(tmp_path / "a")) == 6 and len(open_index(tmp_path / "b")) == 2
    assert open_index(tmp_path / "a").rows.with_content([key("/0/3.png")]).tolist() == [3]
