import base64
import hashlib
import multiprocessing
import os
import pickle
import threading
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from vlmdesc.embeddings import segment as segments
from vlmdesc.embeddings.collection import FAN, Collection
from vlmdesc.embeddings.embed import embed, text_key, text_vectors
from vlmdesc.embeddings.kind import IMAGES, Kind
from vlmdesc.embeddings.store import Store
from vlmdesc.embeddings.upkeep import Cache
from vlmdesc.embeddings.vectors import StoredVectors
from vlmdesc.errors import InputError, ShapeError, StoreError, VlmdescWarning
from vlmdesc.testing import FakeEncoder

DIM = 16


def key(text):
    return hashlib.sha256(str(text).encode()).digest()


def vectors(n, seed=0, dim=DIM):
    found = np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def collection(tmp_path):
    return Store(tmp_path).images(FakeEncoder())


def again(collection):
    """The collection as another process would open it."""
    return Store(collection.folder.parents[2]).images(FakeEncoder())


def files(collection):
    return sorted(collection.folder.glob("*.safetensors"))


def test_what_is_put_comes_back_bit_for_bit_in_any_order(collection):
    keys, kept = [key(i) for i in range(100)], vectors(100)
    collection.put(keys[:60], kept[:60], range(60))
    collection.put(keys[60:], kept[60:])
    order = np.random.default_rng(1).permutation(100)
    found = again(collection).get([keys[i] for i in order] + [key("other")])
    assert found.good.tolist() == [True] * 100 + [False]
    assert np.array_equal(found.vectors[:100], kept[order])
    assert found.notes[:100].tolist() == [i if i < 60 else 0 for i in order]


def test_an_empty_collection_has_nothing_and_writes_nothing(collection, tmp_path):
    assert not collection.get([key("a")]).good.any()
    assert collection.get([]).vectors.shape == (0, 0)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=12))
@settings(max_examples=25, deadline=None)
def test_each_content_is_stored_once_whatever_is_put_how_often(tmp_path_factory, puts):
    collection, kept = Store(tmp_path_factory.mktemp("store")).images(FakeEncoder()), vectors(31)
    for numbers in puts:
        collection.put([key(i) for i in numbers], kept[numbers])
    wanted = sorted({i for numbers in puts for i in numbers})
    found = again(collection)
    assert sum(map(len, found.segments)) == len(wanted)
    assert np.array_equal(found.get([key(i) for i in wanted]).vectors.reshape(-1, DIM), kept[wanted])


@given(st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=40, unique=True), st.data())
@settings(max_examples=50, deadline=None)
def test_keys_that_differ_only_late_are_told_apart(tmp_path_factory, ends, data):
    """The search goes by the first eight bytes; these keys share them, and most share all but the last two."""
    keys = [b"\x07" * 30 + end for end in ends] + [b"\x07" * 8 + end + b"\0" * 22 for end in ends]
    keys = list(dict.fromkeys(keys))
    collection, kept = Store(tmp_path_factory.mktemp("store")).images(FakeEncoder()), vectors(len(keys))
    half = data.draw(st.integers(0, len(keys)))
    collection.put(keys[:half], kept[:half])
    assert again(collection).get(keys).good.tolist() == [True] * half + [False] * (len(keys) - half)
    collection.put(keys, kept)
    assert np.array_equal(again(collection).get(keys).vectors, kept)


def test_many_small_segments_become_few_and_replaced_files_go(collection):
    keys, kept = [key(i) for i in range(40 * FAN)], vectors(40 * FAN)
    for i in range(0, len(keys), 4):
        collection.put(keys[i : i + 4], kept[i : i + 4])
    assert len(files(collection)) <= 3 * FAN
    assert {path.name for path in files(collection)} == {segment.path.name for segment in collection.segments}
    assert np.array_equal(again(collection).get(keys).vectors, kept)


def test_a_merge_that_died_before_it_deleted_leaves_nothing_twice(collection, monkeypatch):
    keys, kept = [key(i) for i in range(FAN)], vectors(FAN)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
        for i in range(FAN):
            collection.put(keys[i : i + 1], kept[i : i + 1])
    assert len(files(collection)) == FAN + 1
    reopened = again(collection)
    assert sum(map(len, reopened.segments)) == FAN
    assert np.array_equal(reopened.get(keys).vectors, kept)
    reopened.put([key("new")], vectors(1, seed=1))
    assert len(files(collection)) == 2


def test_a_segment_that_holds_all_rows_of_a_merge_does_not_replace_itself(collection):
    keys, kept = [key(i) for i in range(7)], vectors(7)
    collection.put(keys, kept)
    records, space = collection.segments[0].records, collection.segments[0].space
    for i in range(5):  # as processes without locks might leave them
        segments.write_segment(collection.folder, records.take(slice(i, i + 2)), space, "numpy")
    messy = again(collection)
    messy.tidy()
    assert len(files(collection)) == 1
    assert np.array_equal(again(collection).get(keys).vectors, kept)


def test_segments_are_plain_safetensors(collection):
    collection.put([key(i) for i in range(5)], vectors(5))
    [path] = files(collection)
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
def test_what_is_no_unit_vector_is_refused_by_its_number(collection, bad):
    kept = vectors(3)
    kept[1] *= bad
    with pytest.raises(InputError, match="vector 1 is not finite or not of norm 1"):
        collection.put([key(i) for i in range(3)], kept)
    assert not files(collection)


def test_another_width_or_number_is_refused(collection):
    collection.put([key(0)], vectors(1))
    with pytest.raises(ShapeError, match="rows of 8 numbers, those stored of 16"):
        collection.put([key(1)], vectors(1, dim=8))
    with pytest.raises(ShapeError, match="2 vectors, 1 keys"):
        collection.put([key(1)], vectors(2))


def test_nan_that_carries_a_right_checksum_is_refused_when_read(collection):
    broken = vectors(3)
    broken[1, 2] = np.nan
    keys = np.frombuffer(b"".join(sorted(key(i) for i in range(3))), np.uint8).reshape(3, 32)
    collection.folder.mkdir(parents=True)
    records = segments.Records(keys, np.zeros(3, np.uint8), broken)
    segments.write_segment(collection.folder, records, "fake-1/1/images", "torch")
    assert again(collection).get([row.tobytes() for row in keys]).good.tolist() == [True, False, True]


class Other(FakeEncoder):
    def __init__(self, **changes):
        self.__dict__ |= changes


def test_kinds_and_encoders_never_mix(collection, tmp_path, monkeypatch):
    collection.put([key(0)], vectors(1))
    store = Store(tmp_path)
    assert not store.texts(FakeEncoder()).get([key(0)]).good.any()
    assert not store.images(Other(fingerprint="fake-2")).get([key(0)]).good.any()
    assert store.images(Other(name="an alias")).get([key(0)]).good.all()
    monkeypatch.setattr("vlmdesc.embeddings.store.READING", 2)
    assert not store.images(FakeEncoder()).get([key(0)]).good.any()


def test_a_segment_moved_to_another_encoder_is_set_aside(collection, tmp_path):
    collection.put([key(0)], vectors(1))
    other = Store(tmp_path).images(Other(fingerprint="fake-2"))
    other.put([key(1)], vectors(1, seed=1))
    files(collection)[0].rename(other.folder / files(collection)[0].name)
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
    collection = Store(tmp_path).images(FakeEncoder())
    collection.put(keys[:12], kept[:12], [1] * 12)
    collection.put(keys[12:], kept[12:], [1] * 8)
    whole = {path: path.read_bytes() for path in (*files(collection), collection.folder.parent / "encoder.json")}
    bits = [(path, bit) for path, data in whole.items() for bit in range(8 * len(data))]
    chosen = np.random.default_rng(0).choice(len(bits), 2000, replace=False)
    found_out = 0
    for path, bit in (bits[i] for i in chosen):
        flip(path, bit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VlmdescWarning)
            try:
                found = again(collection).get(keys)
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
def test_truncated_segments_are_set_aside(collection, kept_bytes):
    keys, kept = [key(i) for i in range(20)], vectors(20)
    collection.put(keys[:10], kept[:10])
    collection.put(keys[10:], kept[10:])
    path = files(collection)[0]
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.warns(VlmdescWarning, match="damaged: not a whole safetensors file.*set aside as"):
        assert again(collection).get(keys).good.sum() == 10
    assert not path.exists() and len(list(collection.folder.glob("*.bad-*"))) == 1


@pytest.mark.parametrize("data", [b"\0" * 4096, pickle.dumps({"vectors": 1}), b"{}", (2**60).to_bytes(8, "little") * 9])
def test_what_is_no_segment_is_set_aside(collection, data):
    collection.put([key(0)], vectors(1))
    (collection.folder / "9-foreign.safetensors").write_bytes(data)
    with pytest.warns(VlmdescWarning, match="set aside"):
        assert again(collection).get([key(0)]).good.all()


def test_other_tensors_are_no_segment(collection):
    keys, kept = [key(i) for i in range(9)], vectors(9)
    collection.put(keys, kept)
    tensors = {name: tensor[:1] for name, tensor in load_file(files(collection)[0]).items()}
    wrong = [
        tensors | {"more": np.zeros(1)},
        {name: tensor for name, tensor in tensors.items() if name != "checks"},
        tensors | {"vectors": tensors["vectors"].astype(np.float64)},
        tensors | {"keys": np.zeros((2, 32), np.uint8)},
        tensors | {"vectors": vectors(1, dim=8)},
    ]
    for number, changed in enumerate(wrong):
        meta = {"format": "1", "space": "fake-1/1/images", "replaces": ""}
        save_file(changed, collection.folder / f"1-{number}.safetensors", meta)
    with pytest.warns(VlmdescWarning) as warned:
        assert again(collection).get(keys).good.all()
    assert len(warned) == len(wrong)


def test_another_format_is_set_aside(collection):
    collection.put([key(0)], vectors(1))
    tensors = load_file(files(collection)[0])
    save_file(tensors, collection.folder / "1-new.safetensors", {"format": "2", "space": "fake-1/1/images"})
    with pytest.warns(VlmdescWarning, match="of another encoder, kind or format"):
        assert again(collection).get([key(0)]).good.all()


def test_a_link_to_nowhere_is_passed_over_and_a_closed_file_is_said(collection, monkeypatch):
    collection.put([key(0)], vectors(1))
    (collection.folder / "1-link.safetensors").symlink_to(collection.folder / "nowhere")
    assert again(collection).get([key(0)]).good.all()

    def closed(path, space, kind):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vlmdesc.embeddings.collection.open_segment", closed)
    with pytest.raises(StoreError, match="cannot read: Permission denied"):
        again(collection)


def test_a_merge_never_gives_a_damaged_row_a_fresh_checksum(collection):
    keys, kept = [key(i) for i in range(FAN)], vectors(FAN)
    for i in range(FAN - 1):
        collection.put(keys[i : i + 1], kept[i : i + 1])
    path = files(collection)[0]
    flip(path, 8 * (path.stat().st_size - 120))
    with pytest.warns(VlmdescWarning, match="1 of 1 embeddings fail their check"):
        for _ in range(2):
            again(collection).put(keys[-1:], kept[-1:])
            again(collection).tidy()
    found = again(collection).get(keys)
    assert found.good.sum() == FAN - 1 and np.array_equal(found.vectors[found.good], kept[found.good])


def test_threads_may_put_and_look_at_once(collection):
    keys, kept = [key(i) for i in range(300)], vectors(300)
    done = threading.Event()

    def look():
        while not done.is_set():
            collection.refresh()

    looker = threading.Thread(target=look)
    looker.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: collection.put(keys[i : i + 3], kept[i : i + 3]), range(0, 300, 3)))
    done.set()
    looker.join()
    assert np.array_equal(again(collection).get(keys).vectors, kept)


def test_a_damaged_row_is_set_aside_with_its_file_and_the_others_are_kept(collection):
    keys, kept = [key(i) for i in range(10)], vectors(10)
    collection.put(keys, kept)
    [path] = files(collection)
    flip(path, 8 * (path.stat().st_size - 10 * (32 + 16 + 1) - 16 - 5))  # in the last vector
    damaged = again(collection)
    good = damaged.get(keys).good
    assert good.sum() == 9
    lost = int(np.flatnonzero(~good)[0])
    with pytest.warns(VlmdescWarning, match="1 of 10 embeddings fail their check.*set aside as"):
        damaged.put([keys[lost]], kept[lost : lost + 1])
    assert np.array_equal(again(collection).get(keys).vectors, kept)
    assert len(list(collection.folder.glob("*.bad-*"))) == 1


def test_lazy_vectors_index_as_arrays_do(collection):
    keys, kept = [key(i) for i in range(50)], vectors(50)
    collection.put(keys, kept)
    lazy = StoredVectors(collection, keys)
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


def test_lazy_vectors_say_so_when_one_is_damaged(collection):
    keys = [key(i) for i in range(10)]
    collection.put(keys, vectors(10))
    flip(files(collection)[0], 8 * (files(collection)[0].stat().st_size - 600))
    lazy = StoredVectors(again(collection), keys)
    with pytest.raises(StoreError, match=r"1 of 10 embeddings are damaged.*embed the data set again"):
        lazy[:]


def put_all(folder, order, kept, without_locks):
    warnings.simplefilter("ignore", VlmdescWarning)  # of waiting, on a busy machine
    if without_locks:
        import fcntl

        fcntl.flock = lambda *_: None
    collection = Store(folder).images(FakeEncoder())
    for start in range(0, len(order), 5):
        some = order[start : start + 5]
        collection.put([key(i) for i in some], kept[some])


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
    collection = Store(tmp_path).images(FakeEncoder())
    assert np.array_equal(collection.get([key(i) for i in wanted]).vectors, kept[wanted])
    stored = sum(map(len, collection.segments))
    assert stored == len(wanted) if not without_locks else stored >= len(wanted)


def hold(folder, ready, seconds):
    import time

    from vlmdesc.cache import turn

    with turn(folder):
        ready.set()
        time.sleep(seconds)


def test_waiting_for_another_process_is_announced(collection, monkeypatch):
    collection.put([key(0)], vectors(1))
    monkeypatch.setattr("vlmdesc.cache.ANNOUNCE_AFTER_S", 0.1)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(collection.folder, ready, 0.5))
    process.start()
    assert ready.wait(10)
    with pytest.warns(VlmdescWarning, match="waiting for another vlmdesc"):
        collection.put([key(1)], vectors(1, seed=1))
    process.join()
    assert again(collection).get([key(0), key(1)]).good.all()


def test_a_lock_that_is_never_given_back_does_not_block_for_ever(collection, monkeypatch):
    collection.put([key(0)], vectors(1))
    monkeypatch.setattr("vlmdesc.cache.ANNOUNCE_AFTER_S", 0.1)
    monkeypatch.setattr(collection, "_wait_s", 0.1)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(collection.folder, ready, 60))
    process.start()
    assert ready.wait(10)
    with pytest.warns(VlmdescWarning, match="waiting"):
        collection.put([key(1)], vectors(1, seed=1))
    process.kill()
    process.join()
    assert again(collection).get([key(0), key(1)]).good.all()


def test_folders_are_for_their_owner_alone_and_links_are_not_followed(tmp_path):
    before = os.umask(0o022)
    collection = Store(tmp_path / "cache").images(FakeEncoder())
    collection.put([key(0)], vectors(1))
    os.umask(before)
    assert all(
        (folder.stat().st_mode & 0o777) == 0o700 for folder in (collection.folder, *collection.folder.parents[:3])
    )
    [path] = files(collection)
    name, target = path.name, tmp_path / "victim"
    target.write_text("precious")
    path.unlink()
    path.symlink_to(target)
    with pytest.warns(VlmdescWarning, match="set aside"):
        fresh = again(collection)
    fresh.put([key(0)], vectors(1))
    assert (collection.folder / name).is_file() and target.read_text() == "precious"


# What vlmdesc wrote before segments named their engine: two images, red and blue, and a text; packed.
OLD = {
    "b70947aca5e86b9ed59c92a6524a6a25/encoder.json": (
        "c-l3LK@P$&3<U3aMU^v1I5sKfH?HkKRS{6i4e@tUq#k!>cRyi>tKR(~@jAevC$IW6Z#~8$i^q+Xx!%0J+Fai|Kf>QM7wd8#_a|MpN=}5"
        "DAuAvmyOt~$F_ywAgy}r0k^-TRL@5bRa57|J%T`jxDTZ(O0bKDa-~"
    ),
    "b70947aca5e86b9ed59c92a6524a6a25/images/2-d2ad791953fb8a7060f6c25536b13444.safetensors": (
        "c-m`VWB`L|rTF;V)RM%M#FE7LcqOZ9rL_E_+{6+kD<wlE9i`%e#N<>UJ1sFgRo778P(L#_F+H^yC{vVLkOPz}21+W`>L`_^CYR(F6@v^"
        "&DXA;~>2WhQ0-2DJ2;xN>=@^>D>L`Kj$xllwPAvf{jyBLSG_r^V>QBx{P0mKq9%?~QH&8E7+yJCMJGBy@Zet@Xy3Gu9jEqb`y7Tf&Qt@"
        "cV)C<%H)N2OPTU?rpTdN^fcLR0m7?~Kw*48R8pnwK@2C4w!%@I(TAmlE@{DS)~-$daRx^2(7Bs_Rltr0lo{@~(-E#W&Ff}1!G<*w$e*|"
        "z=Y)s&ot5*Jsw%xCL<u!c$BY16ZaQ{E?1@4E3l=dP0sIse_Ld~(azX%{n71H{%dmEOp!JpY1$L7_8dzhoUd>w?zH_Y^l|Z3X~M#;kt"
    ),
    "b70947aca5e86b9ed59c92a6524a6a25/texts/1-3eb376edcf9424ecef517124d80926d7.safetensors": (
        "c-m`VWB`L|rTF;V)RM%M#FE7LcqOZ9rJ~e=oW$hRVkIjjB^{--{G!~%5+K_U$SE!WN&wkuiP@>ThWdv3C8-r9#Y(k0N@c0ZCHY0gApI#"
        "Nl?5P0ZpKC+Eg6X*UbLZ(p;@es64;vjw6x+>pgyZ;106GySfKXgjMU_86y2c~1T~wP=vWwlbZ4hl;?rwvgsIoUK*!L~2&6eLza$lpZcM"
        "E}eL%g&Aic$<xuiN8s8h$#$TGIJRsjqckiY}OdV2;uU_(RO?%nNLdwsU@+8zrK-z&e@)YdjqJmzJ0x>mS@Ob*Yh?bX}wuWnqRS|O(OPQ"
        "9n0^l}i}^x_()RnxC3yKVl%Y5u^30bK(C(UzSy"
    ),
}


class Blind(FakeEncoder):
    """Must be asked nothing."""

    def forward(self, pixels):
        raise AssertionError("an image is encoded again")

    def texts(self, texts):
        raise AssertionError("a text is encoded again")


def test_an_old_store_opens_and_nothing_is_embedded_again(tmp_path):
    for name, packed in OLD.items():
        path = tmp_path / "embeddings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zlib.decompress(base64.b85decode(packed)))
    images, store = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")], Store(tmp_path)
    assert np.array_equal(embed(images, Blind(), store).vectors, FakeEncoder().images(images))
    texts = store.texts(Blind())
    assert np.array_equal(text_vectors(["a red comb"], Blind(), store), FakeEncoder().texts(["a red comb"]))
    assert [segment.engine for segment in texts.segments] == ["torch"]
    texts.put([key(0)], vectors(1))
    assert store.texts(Blind()).get([text_key("a red comb"), key(0)]).good.all()
    assert (tmp_path / "embeddings" / next(iter(OLD))).read_bytes() == zlib.decompress(
        base64.b85decode(next(iter(OLD.values())))
    )


PATCHES, CODES = Kind("patches", (4, 8)), Kind("codes", (30,), unit=False)


def rows_of(kind, n, seed=0):
    found = 3 * np.random.default_rng(seed).standard_normal((n, *kind.shape), dtype=np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True) if kind.unit else found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", [PATCHES, CODES])
def test_other_kinds_come_back_as_they_were_put_and_when_damaged_are_found_out(tmp_path, kind, dtype):
    keys, kept = [key(i) for i in range(40)], rows_of(kind, 40)
    collection = Store(tmp_path, dtype=dtype).collection(FakeEncoder(), kind)
    assert collection.get(keys).vectors.shape == (40, *kind.shape)  # known before anything is there
    collection.put(keys[:30], kept[:30])
    collection.put(keys[30:], kept[30:])
    lazy = StoredVectors(Store(tmp_path).collection(FakeEncoder(), kind), keys)
    assert lazy.shape == kept.shape and lazy[3].shape == kind.shape
    if dtype == "float32":
        assert np.array_equal(lazy, kept)
    else:
        assert np.abs(lazy[:] - kept).max() < 1e-3 * np.abs(kept).max()
    path = max(files(collection), key=lambda path: path.stat().st_size)
    flip(path, 8 * (path.stat().st_size - 30 * 49 - 32 - 5))  # in the last row
    assert Store(tmp_path).collection(FakeEncoder(), kind).get(keys).good.sum() == 39
    [item] = Cache(tmp_path).items()
    assert (item.kind, item.entries) == (kind.key, 40)
    with pytest.warns(VlmdescWarning, match="1 of 30 embeddings fail their check"):
        assert Cache(tmp_path).verify(item) == 1


@pytest.mark.parametrize("kind", [IMAGES, PATCHES, CODES])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0])
def test_what_is_not_finite_is_refused_in_every_kind_and_another_norm_where_it_must_be_1(tmp_path, kind, bad):
    collection = Store(tmp_path).collection(FakeEncoder(), kind)
    kept = rows_of(Kind(kind.name, kind.shape or (DIM,), kind.unit), 3)
    kept[1, ..., 2] *= bad
    keys = [key(i) for i in range(3)]
    fine = bad == 2.0 and not kind.unit
    if fine:
        collection.put(keys, kept)
    else:
        with pytest.raises(InputError, match="vector 1 is not finite"):
            collection.put(keys, kept)
        collection.folder.mkdir(parents=True)
        array = np.frombuffer(b"".join(keys), np.uint8).reshape(3, 32)
        records = segments.Records(array, np.zeros(3, np.uint8), kept)
        segments.write_segment(collection.folder, records, f"fake-1/1/{kind.key}", "torch")
    found = Store(tmp_path).collection(FakeEncoder(), kind).get(keys)
    assert found.good.tolist() == [True, fine, True]


def test_what_float16_cannot_hold_is_refused(tmp_path):
    with pytest.raises(InputError, match="vector 0 is not finite in float16"):
        Store(tmp_path, dtype="float16").collection(FakeEncoder(), CODES).put([key(0)], np.full((1, 30), 1e5, "f4"))


def test_shape_and_norm_are_part_of_the_key(tmp_path):
    kinds = [IMAGES, Kind("codes", (16,)), Kind("codes", (16,), unit=False), Kind("codes", (4, 4)), Kind("codes")]
    store, unit = Store(tmp_path), vectors(1)
    store.images(FakeEncoder()).put([key(0)], unit)
    store.collection(FakeEncoder(), kinds[1]).put([key(0)], unit)
    others = [store.collection(FakeEncoder(), kind) for kind in kinds[2:]]
    assert not any(collection.get([key(0)]).good.any() for collection in others)
    with pytest.raises(ShapeError, match="rows of 16 numbers, those stored of 4x4"):
        others[1].put([key(0)], unit)
    [moved] = files(store.collection(FakeEncoder(), kinds[1]))
    others[0].folder.mkdir()
    moved.rename(others[0].folder / moved.name)
    with pytest.warns(VlmdescWarning, match="of another encoder, kind or format"):
        assert not store.collection(FakeEncoder(), kinds[2]).get([key(0)]).good.any()


@given(
    st.from_regex("[a-z0-9_]+", fullmatch=True), st.lists(st.integers(1, 9999), max_size=3).map(tuple), st.booleans()
)
def test_a_kind_is_read_back_from_its_key(name, shape, unit):
    assert Kind.of(Kind(name, shape, unit).key) == Kind(name, shape, unit)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a-free", "a-3", "Codes", "a b", "\u0661"])
def test_a_kind_that_is_no_folder_of_its_own_is_refused(name):
    assert Kind.of(name) is None or Kind.of(name).name != name
    with pytest.raises(InputError, match="no kind"):
        Kind(name)


def test_what_another_engine_made_is_used_and_never_merged_with_ours(collection, tmp_path):
    keys, kept = [key(i) for i in range(4 * FAN)], vectors(4 * FAN)
    other = Store(tmp_path).images(Other(engine="openvino"))
    for i in range(len(keys)):
        (other if i % 2 else collection).put(keys[i : i + 1], kept[i : i + 1])
    again(collection).tidy()
    assert {segment.engine: len(segment) for segment in again(collection).segments} == {
        "numpy": 2 * FAN, "openvino": 2 * FAN,
    }  # fmt: skip
    for reader in (collection, other):
        reader.refresh()
        assert np.array_equal(reader.get(keys).vectors, kept)


def test_a_store_and_what_lies_in_it_go_to_another_process(collection, tmp_path):
    """Pickled, vectors stay on the disk; what was merged away meanwhile is found in what took its place."""
    keys, kept = [key(i) for i in range(2000)], vectors(2000)
    collection.put(keys[:1000], kept[:1000])
    collection.put(keys[1000:], kept[1000:])
    lazy = StoredVectors(collection, keys[::-1])
    assert len(pickle.dumps(lazy)) < 100_000 < kept.nbytes
    again(collection).tidy()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(Collection.get, collection, keys[2:3]).result().vectors, kept[2:3])
        assert np.array_equal(pool.submit(np.asarray, lazy).result(), kept[::-1])
    store = pickle.loads(pickle.dumps(Store(tmp_path, dtype="float16")))
    store.images(FakeEncoder()).put([key("new")], kept[:1])
    assert again(collection).get([key("new")]).good.all()
