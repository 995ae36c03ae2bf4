import hashlib
import multiprocessing
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from vlmdesc.embeddings import part as parts
from vlmdesc.embeddings.places import StoredVectors
from vlmdesc.embeddings.shelf import FAN
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError, ShapeError, StoreError, VlmdescWarning
from vlmdesc.testing import FakeEncoder

DIM = 16


def key(text):
    return hashlib.sha256(str(text).encode()).digest()


def vectors(n, seed=0, dim=DIM):
    found = np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def shelf(tmp_path):
    return Store(tmp_path).images(FakeEncoder())


def again(shelf):
    """The shelf as another process would open it."""
    return Store(shelf.folder.parents[2]).images(FakeEncoder())


def files(shelf):
    return sorted(shelf.folder.glob("*.safetensors"))


def test_what_is_put_comes_back_bit_for_bit_in_any_order(shelf):
    keys, kept = [key(i) for i in range(100)], vectors(100)
    shelf.put(keys[:60], kept[:60], range(60))
    shelf.put(keys[60:], kept[60:])
    order = np.random.default_rng(1).permutation(100)
    found = again(shelf).get([keys[i] for i in order] + [key("other")])
    assert found.good.tolist() == [True] * 100 + [False]
    assert np.array_equal(found.vectors[:100], kept[order])
    assert found.notes[:100].tolist() == [i if i < 60 else 0 for i in order]


def test_an_empty_shelf_has_nothing_and_writes_nothing(shelf, tmp_path):
    assert not shelf.get([key("a")]).good.any()
    assert shelf.get([]).vectors.shape == (0, 0)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=12))
@settings(max_examples=25, deadline=None)
def test_each_content_is_stored_once_whatever_is_put_how_often(tmp_path_factory, puts):
    shelf, kept = Store(tmp_path_factory.mktemp("store")).images(FakeEncoder()), vectors(31)
    for numbers in puts:
        shelf.put([key(i) for i in numbers], kept[numbers])
    wanted = sorted({i for numbers in puts for i in numbers})
    found = again(shelf)
    assert sum(map(len, found.parts)) == len(wanted)
    assert np.array_equal(found.get([key(i) for i in wanted]).vectors[:, :DIM], kept[wanted][:, : found.places([]).dim])


@given(st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=40, unique=True), st.data())
@settings(max_examples=50, deadline=None)
def test_keys_that_differ_only_late_are_told_apart(tmp_path_factory, ends, data):
    """The search goes by the first eight bytes; these keys share them, and most share all but the last two."""
    keys = [b"\x07" * 30 + end for end in ends] + [b"\x07" * 8 + end + b"\0" * 22 for end in ends]
    keys = list(dict.fromkeys(keys))
    shelf, kept = Store(tmp_path_factory.mktemp("store")).images(FakeEncoder()), vectors(len(keys))
    half = data.draw(st.integers(0, len(keys)))
    shelf.put(keys[:half], kept[:half])
    assert again(shelf).get(keys).good.tolist() == [True] * half + [False] * (len(keys) - half)
    shelf.put(keys, kept)
    assert np.array_equal(again(shelf).get(keys).vectors, kept)


def test_many_small_parts_become_few_and_replaced_files_go(shelf):
    keys, kept = [key(i) for i in range(40 * FAN)], vectors(40 * FAN)
    for i in range(0, len(keys), 4):
        shelf.put(keys[i : i + 4], kept[i : i + 4])
    assert len(files(shelf)) <= 3 * FAN
    assert {path.name for path in files(shelf)} == {part.path.name for part in shelf.parts}
    assert np.array_equal(again(shelf).get(keys).vectors, kept)


def test_a_merge_that_died_before_it_deleted_leaves_nothing_twice(shelf, monkeypatch):
    keys, kept = [key(i) for i in range(FAN)], vectors(FAN)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
        for i in range(FAN):
            shelf.put(keys[i : i + 1], kept[i : i + 1])
    assert len(files(shelf)) == FAN + 1
    reopened = again(shelf)
    assert sum(map(len, reopened.parts)) == FAN
    assert np.array_equal(reopened.get(keys).vectors, kept)
    reopened.put([key("new")], vectors(1, seed=1))
    assert len(files(shelf)) == 2


def test_a_part_that_holds_all_rows_of_a_merge_does_not_replace_itself(shelf):
    keys, kept = [key(i) for i in range(7)], vectors(7)
    shelf.put(keys, kept)
    records, space = shelf.parts[0].records, shelf.parts[0].space
    for i in range(5):  # as processes without locks might leave them
        parts.write_part(shelf.folder, records.take(slice(i, i + 2)), space)
    messy = again(shelf)
    messy.tidy()
    assert len(files(shelf)) == 1
    assert np.array_equal(again(shelf).get(keys).vectors, kept)


def test_parts_are_plain_safetensors(shelf):
    shelf.put([key(i) for i in range(5)], vectors(5))
    [path] = files(shelf)
    assert {name: tensor.shape for name, tensor in load_file(path).items()} == {
        "vectors": (5, DIM), "keys": (5, 32), "notes": (5,), "checks": (5, 16), "sums": (1, 16),
    }  # fmt: skip
    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["space"] == "fake-1/1/images"


def test_float16_takes_half_the_disk_and_reads_as_unit_float32(tmp_path):
    kept = vectors(500, dim=256)
    for dtype in ("float32", "float16"):
        Store(tmp_path / dtype, dtype=dtype).texts(FakeEncoder()).put([key(i) for i in range(500)], kept)
    found = Store(tmp_path / "float16").texts(FakeEncoder()).get([key(i) for i in range(500)])
    assert found.vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(found.vectors, axis=1) - 1).max() < 1e-6
    assert np.abs(found.vectors - kept).max() < 5e-4
    sizes = [sum(p.stat().st_size for p in (tmp_path / d).rglob("*.safetensors")) for d in ("float32", "float16")]
    assert 0.5 < sizes[1] / sizes[0] < 0.6
    with pytest.raises(InputError, match="unknown dtype 'float8'"):
        Store(tmp_path, dtype="float8")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, 2.0])
def test_what_is_no_unit_vector_is_refused_by_its_number(shelf, bad):
    kept = vectors(3)
    kept[1] *= bad
    with pytest.raises(InputError, match="vector 1 is not finite or not of norm 1"):
        shelf.put([key(i) for i in range(3)], kept)
    assert not files(shelf)


def test_another_width_or_number_is_refused(shelf):
    shelf.put([key(0)], vectors(1))
    with pytest.raises(ShapeError, match="8 dimensions, those stored 16"):
        shelf.put([key(1)], vectors(1, dim=8))
    with pytest.raises(ShapeError, match="2 vectors, 1 keys"):
        shelf.put([key(1)], vectors(2))


def test_nan_that_carries_a_right_checksum_is_refused_when_read(shelf):
    broken = vectors(3)
    broken[1, 2] = np.nan
    keys = np.frombuffer(b"".join(sorted(key(i) for i in range(3))), np.uint8).reshape(3, 32)
    shelf.folder.mkdir(parents=True)
    parts.write_part(shelf.folder, parts.Records(keys, np.zeros(3, np.uint8), broken), "fake-1/1/images")
    assert again(shelf).get([row.tobytes() for row in keys]).good.tolist() == [True, False, True]


class Other(FakeEncoder):
    def __init__(self, **changes):
        self.__dict__ |= changes


def test_kinds_and_encoders_never_mix(shelf, tmp_path, monkeypatch):
    shelf.put([key(0)], vectors(1))
    store = Store(tmp_path)
    assert not store.texts(FakeEncoder()).get([key(0)]).good.any()
    assert not store.images(Other(fingerprint="fake-2")).get([key(0)]).good.any()
    assert store.images(Other(name="an alias")).get([key(0)]).good.all()
    monkeypatch.setattr("vlmdesc.embeddings.store.READING", 2)
    assert not store.images(FakeEncoder()).get([key(0)]).good.any()


def test_a_part_moved_to_another_encoder_is_set_aside(shelf, tmp_path):
    shelf.put([key(0)], vectors(1))
    other = Store(tmp_path).images(Other(fingerprint="fake-2"))
    other.put([key(1)], vectors(1, seed=1))
    files(shelf)[0].rename(other.folder / files(shelf)[0].name)
    with pytest.warns(VlmdescWarning, match="of another encoder, kind or format.*set aside as"):
        assert Store(tmp_path).images(Other(fingerprint="fake-2")).get([key(0), key(1)]).good.tolist() == [False, True]


def test_a_fingerprint_is_no_path(tmp_path):
    hostile = Other(fingerprint="../../../escape/\x00", name="<script>")
    Store(tmp_path / "cache").images(hostile).put([key(0)], vectors(1))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert Store(tmp_path / "cache").images(hostile).get([key(0)]).good.all()


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.slow
def test_no_flipped_bit_gives_another_vector(tmp_path):
    """2,000 single-bit flips over every file of a store: found, or harmless."""
    keys, kept = [key(i) for i in range(20)], vectors(20)
    shelf = Store(tmp_path).images(FakeEncoder())
    shelf.put(keys[:12], kept[:12], [1] * 12)
    shelf.put(keys[12:], kept[12:], [1] * 8)
    whole = {path: path.read_bytes() for path in (*files(shelf), shelf.folder.parent / "encoder.json")}
    bits = [(path, bit) for path, data in whole.items() for bit in range(8 * len(data))]
    chosen = np.random.default_rng(0).choice(len(bits), 2000, replace=False)
    found_out = 0
    for path, bit in (bits[i] for i in chosen):
        flip(path, bit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VlmdescWarning)
            try:
                found = again(shelf).get(keys)
            except StoreError as error:
                assert "newer vlmdesc" in str(error)
                found_out += 1
            else:
                good = found.good
                assert np.array_equal(found.vectors[good], kept[good]) and (found.notes[good] == 1).all()
                found_out += not good.all()
        for aside in tmp_path.rglob("*.bad-*"):
            aside.unlink()
        path.write_bytes(whole[path])
    assert found_out > 1500  # most bits are vectors


@pytest.mark.parametrize("kept_bytes", [0, 1, 7, 100, 400, 900, -1, -64, -1000])
def test_truncated_parts_are_set_aside(shelf, kept_bytes):
    keys, kept = [key(i) for i in range(20)], vectors(20)
    shelf.put(keys[:10], kept[:10])
    shelf.put(keys[10:], kept[10:])
    path = files(shelf)[0]
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.warns(VlmdescWarning, match="damaged: not a whole safetensors file.*set aside as"):
        assert again(shelf).get(keys).good.sum() == 10
    assert not path.exists() and len(list(shelf.folder.glob("*.bad-*"))) == 1


@pytest.mark.parametrize("data", [b"\0" * 4096, pickle.dumps({"vectors": 1}), b"{}", (2**60).to_bytes(8, "little") * 9])
def test_what_is_no_part_is_set_aside(shelf, data):
    shelf.put([key(0)], vectors(1))
    (shelf.folder / "9-foreign.safetensors").write_bytes(data)
    with pytest.warns(VlmdescWarning, match="set aside"):
        assert again(shelf).get([key(0)]).good.all()


def test_other_tensors_are_no_part(shelf):
    keys, kept = [key(i) for i in range(9)], vectors(9)
    shelf.put(keys, kept)
    tensors = {name: tensor[:1] for name, tensor in load_file(files(shelf)[0]).items()}
    wrong = [
        tensors | {"more": np.zeros(1)},
        {name: tensor for name, tensor in tensors.items() if name != "checks"},
        tensors | {"vectors": tensors["vectors"].astype(np.float64)},
        tensors | {"keys": np.zeros((2, 32), np.uint8)},
        tensors | {"vectors": vectors(1, dim=8)},
    ]
    for number, changed in enumerate(wrong):
        meta = {"format": "1", "space": "fake-1/1/images", "replaces": ""}
        save_file(changed, shelf.folder / f"1-{number}.safetensors", meta)
    with pytest.warns(VlmdescWarning) as warned:
        assert again(shelf).get(keys).good.all()
    assert len(warned) == len(wrong)


def test_another_format_is_set_aside(shelf):
    shelf.put([key(0)], vectors(1))
    tensors = load_file(files(shelf)[0])
    save_file(tensors, shelf.folder / "1-new.safetensors", {"format": "2", "space": "fake-1/1/images"})
    with pytest.warns(VlmdescWarning, match="of another encoder, kind or format"):
        assert again(shelf).get([key(0)]).good.all()


def test_a_link_to_nowhere_is_passed_over_and_a_closed_file_is_said(shelf, monkeypatch):
    shelf.put([key(0)], vectors(1))
    (shelf.folder / "1-link.safetensors").symlink_to(shelf.folder / "nowhere")
    assert again(shelf).get([key(0)]).good.all()

    def closed(path, space):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vlmdesc.embeddings.shelf.open_part", closed)
    with pytest.raises(StoreError, match="cannot read: Permission denied"):
        again(shelf)


def test_a_merge_never_gives_a_damaged_row_a_fresh_checksum(shelf):
    keys, kept = [key(i) for i in range(FAN)], vectors(FAN)
    for i in range(FAN - 1):
        shelf.put(keys[i : i + 1], kept[i : i + 1])
    path = files(shelf)[0]
    flip(path, 8 * (path.stat().st_size - 120))
    with pytest.warns(VlmdescWarning, match="1 of 1 embeddings fail their check"):
        for _ in range(2):
            again(shelf).put(keys[-1:], kept[-1:])
            again(shelf).tidy()
    found = again(shelf).get(keys)
    assert found.good.sum() == FAN - 1 and np.array_equal(found.vectors[found.good], kept[found.good])


def test_threads_may_put_and_look_at_once(shelf):
    keys, kept = [key(i) for i in range(300)], vectors(300)
    done = threading.Event()

    def look():
        while not done.is_set():
            shelf.refresh()

    looker = threading.Thread(target=look)
    looker.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: shelf.put(keys[i : i + 3], kept[i : i + 3]), range(0, 300, 3)))
    done.set()
    looker.join()
    assert np.array_equal(again(shelf).get(keys).vectors, kept)


def test_a_damaged_row_is_set_aside_with_its_file_and_the_others_are_kept(shelf):
    keys, kept = [key(i) for i in range(10)], vectors(10)
    shelf.put(keys, kept)
    [path] = files(shelf)
    flip(path, 8 * (path.stat().st_size - 10 * (32 + 16 + 1) - 16 - 5))  # in the last vector
    damaged = again(shelf)
    good = damaged.get(keys).good
    assert good.sum() == 9
    lost = int(np.flatnonzero(~good)[0])
    with pytest.warns(VlmdescWarning, match="1 of 10 embeddings fail their check.*set aside as"):
        damaged.put([keys[lost]], kept[lost : lost + 1])
    assert np.array_equal(again(shelf).get(keys).vectors, kept)
    assert len(list(shelf.folder.glob("*.bad-*"))) == 1


def test_lazy_vectors_index_as_arrays_do(shelf):
    keys, kept = [key(i) for i in range(50)], vectors(50)
    shelf.put(keys, kept)
    lazy = StoredVectors(shelf.places(keys))
    assert lazy.shape == (50, DIM) and len(lazy) == 50 and lazy.dtype == np.float32
    for index in (
        3,
        -1,
        slice(5, 20),
        slice(None, None, -1),
        [4, 4, 1],
        np.array([True] * 5 + [False] * 45),
        slice(0, 0),
    ):
        assert np.array_equal(lazy[index], kept[index])
    assert np.array_equal(np.asarray(lazy), kept) and np.asarray(lazy, dtype=np.float64).dtype == np.float64
    with pytest.raises(IndexError):
        lazy[50]


def test_lazy_vectors_say_so_when_one_is_damaged(shelf):
    keys = [key(i) for i in range(10)]
    shelf.put(keys, vectors(10))
    flip(files(shelf)[0], 8 * (files(shelf)[0].stat().st_size - 600))
    lazy = StoredVectors(again(shelf).places(keys))
    with pytest.raises(StoreError, match=r"1 of 10 embeddings are damaged.*embed the data set again"):
        lazy[:]


def put_all(folder, order, kept, without_locks):
    warnings.simplefilter("ignore", VlmdescWarning)  # of waiting, on a busy machine
    if without_locks:
        import fcntl

        fcntl.flock = lambda *_: None
    shelf = Store(folder).images(FakeEncoder())
    for start in range(0, len(order), 5):
        some = order[start : start + 5]
        shelf.put([key(i) for i in some], kept[some])


@pytest.mark.parametrize("without_locks", [False, True])
def test_eight_processes_put_overlapping_parts(tmp_path, without_locks):
    kept, n = vectors(200), 200
    rng = np.random.default_rng(0)
    orders = [rng.permutation(n)[:120] for _ in range(8)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=put_all, args=(tmp_path, o, kept, without_locks)) for o in orders]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 8
    wanted = sorted(set(np.concatenate(orders).tolist()))
    shelf = Store(tmp_path).images(FakeEncoder())
    assert np.array_equal(shelf.get([key(i) for i in wanted]).vectors, kept[wanted])
    stored = sum(map(len, shelf.parts))
    assert stored == len(wanted) if not without_locks else stored >= len(wanted)


def hold(folder, ready, seconds):
    import time

    from vlmdesc.cache import turn

    with turn(folder):
        ready.set()
        time.sleep(seconds)


def test_waiting_for_another_process_is_announced(shelf, monkeypatch):
    shelf.put([key(0)], vectors(1))
    monkeypatch.setattr("vlmdesc.cache.ANNOUNCE_AFTER_S", 0.1)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(shelf.folder, ready, 0.5))
    process.start()
    assert ready.wait(10)
    with pytest.warns(VlmdescWarning, match="waiting for another vlmdesc"):
        shelf.put([key(1)], vectors(1, seed=1))
    process.join()
    assert again(shelf).get([key(0), key(1)]).good.all()


def test_a_lock_that_is_never_given_back_does_not_block_for_ever(shelf, monkeypatch):
    shelf.put([key(0)], vectors(1))
    monkeypatch.setattr("vlmdesc.cache.ANNOUNCE_AFTER_S", 0.1)
    monkeypatch.setattr(shelf, "_wait_s", 0.1)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(shelf.folder, ready, 60))
    process.start()
    assert ready.wait(10)
    with pytest.warns(VlmdescWarning, match="waiting"):
        shelf.put([key(1)], vectors(1, seed=1))
    process.kill()
    process.join()
    assert again(shelf).get([key(0), key(1)]).good.all()


def test_folders_are_for_their_owner_alone_and_links_are_not_followed(tmp_path):
    before = os.umask(0o022)
    shelf = Store(tmp_path / "cache").images(FakeEncoder())
    shelf.put([key(0)], vectors(1))
    os.umask(before)
    assert all((folder.stat().st_mode & 0o777) == 0o700 for folder in (shelf.folder, *shelf.folder.parents[:3]))
    [path] = files(shelf)
    name, target = path.name, tmp_path / "victim"
    target.write_text("precious")
    path.unlink()
    path.symlink_to(target)
    with pytest.warns(VlmdescWarning, match="set aside"):
        fresh = again(shelf)
    fresh.put([key(0)], vectors(1))
    assert (shelf.folder / name).is_file() and target.read_text() == "precious"
