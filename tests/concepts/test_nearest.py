from dataclasses import replace
from io import BytesIO

import faiss
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmdesc.concepts import nearest
from vlmdesc.concepts.nearest import Nearest, build, lists_for, read, revise, write
from vlmdesc.errors import InputError, ShapeError

N, DIM, FEW = 5000, 32, 500


def unit(n, seed=0, dim=8):
    found = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def low(n, seed=0):
    """Unit vectors (n, 32) that lie near a subspace of 6 dimensions, as embeddings do."""
    plane, random = unit(6, seed=99, dim=DIM), np.random.default_rng(seed)
    found = random.standard_normal((n, 6)) @ plane + 0.02 * random.standard_normal((n, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def best(queries, vectors, k):
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


def raw(found):
    file = BytesIO()
    write(found, file.write)
    return file.getvalue()


def mapped(found, path):
    path.write_bytes(raw(found))
    return read(path, len(found), found.dim, found.factory, found.probes, found.recall)


def codes(found):
    """What lists hold, by row."""
    held, width = found.index.invlists, found.index.code_size
    return {
        int(row): (at, code.tobytes())
        for at in range(found.index.nlist)
        if (size := held.list_size(at))
        for row, code in zip(
            faiss.rev_swig_ptr(held.get_ids(at), size),
            faiss.rev_swig_ptr(held.get_codes(at), size * width).reshape(size, width),
            strict=True,
        )
    }


@pytest.fixture
def few(monkeypatch):
    """More than 500 vectors are many."""
    monkeypatch.setattr(nearest, "EXACT_ROWS", FEW)


@pytest.fixture(scope="module")
def vectors():
    return low(N)


@pytest.fixture(scope="module")
def texts():
    return low(60, seed=1)


@pytest.fixture(scope="module")
def made(vectors, texts):
    """Lists of all the vectors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "EXACT_ROWS", FEW)
        return build(vectors, texts, 0.95)


@pytest.fixture
def lists(made, few):
    return replace(made, index=faiss.clone_index(made.index))


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=40, deadline=None)
def test_few_vectors_are_searched_exactly(n, dim, seed, data):
    vectors, queries = unit(n, seed, dim), unit(3, seed + 1, dim)
    k = data.draw(st.integers(1, n))
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    found = build(vectors, vectors[:0])
    scores, rows = found.search(queries, k)
    inner = queries @ vectors.T
    assert np.allclose(scores, -np.sort(-inner, axis=1)[:, :k], atol=1e-5)
    assert np.allclose(np.take_along_axis(inner, rows, 1), scores, atol=1e-5)
    assert all(len({*row}) == k for row in rows)
    some, n_some = found.search(queries, k, allowed)[1], min(k, int(allowed.sum()))
    assert (some[:, n_some:] == -1).all()
    wanted = -np.sort(-np.where(allowed, inner, -9), axis=1)[:, :n_some]
    assert allowed[some[:, :n_some]].all()
    assert np.allclose(np.take_along_axis(inner, some[:, :n_some], 1), wanted, atol=1e-5)


def test_by_hand():
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0]], np.float32)
    found = build(vectors, vectors[:0])
    scores, rows = found.search(np.array([[0.8, 0.6]], np.float32), 6)
    assert rows.tolist() == [[1, 0, 2, 3, -1, -1]]
    assert scores[0, :4] == pytest.approx([0.96, 0.8, 0.6, -0.8])
    assert found.search(vectors[:1], 2, np.array([False, False, True, True]))[1].tolist() == [[2, 3]]
    assert found.search(vectors[:1], 2, np.zeros(4, bool))[1].tolist() == [[-1, -1]]
    assert (len(found), found.dim, found.factory, found.probes, found.recall) == (4, 2, "Flat", 0, {})


@pytest.mark.parametrize("queries, k", [(1, 10), (5, 150), (40, 10)])
@pytest.mark.parametrize("share", [1, 0.3])
def test_exact_search_is_that_of_faiss_bit_for_bit(tmp_path, queries, k, share):
    """Those alike among them: which of them comes first is the same too."""
    vectors = np.repeat(unit(300), 3, axis=0)
    flat, found = faiss.IndexFlatIP(8), mapped(build(vectors, vectors[:0]), tmp_path / "v")
    flat.add(vectors)
    allowed = np.random.default_rng(0).random(900) < share if share < 1 else None
    chosen = None if allowed is None else faiss.IDSelectorBatch(np.flatnonzero(allowed))
    right = flat.search(unit(queries, 1), k, params=faiss.SearchParameters(sel=chosen))
    for one, other in zip(found.search(unit(queries, 1), k, allowed), right, strict=True):
        assert np.array_equal(one, other)


def test_what_cannot_be_searched_is_refused(lists):
    for found in (lists, build(low(10), low(0))):
        with pytest.raises(ShapeError, match=r"queries have shape \(2, 8\), the vectors 32 dimensions"):
            found.search(unit(2), 3)
        for wrong in (np.nan, np.inf):
            queries = low(2)
            queries[1, 3] = wrong
            with pytest.raises(InputError, match="a query is not finite"):
                found.search(queries, 3)
        with pytest.raises(ShapeError, match=r"vectors of shape \(2, 8\) beside some of 32 dimensions"):
            revise(found, np.ones(len(found), bool), unit(2))


def test_what_cannot_be_built_is_refused():
    with pytest.raises(InputError, match="no vectors"):
        build(unit(0), unit(0))
    for recall in (0.0, -0.5, 1.01, float("nan")):
        with pytest.raises(InputError, match="recall"):
            build(unit(3), unit(0), recall)


def test_as_many_lists_are_looked_into_as_the_recall_wants(few, vectors, texts):
    cheap, dear = (build(vectors, texts, recall) for recall in (0.6, 0.95))
    assert cheap.factory == dear.factory == "IVF256_HNSW32,SQ8"
    assert 0 < cheap.probes < dear.probes <= 256 // 8
    assert 0.6 <= min(cheap.recall.values()) < 0.95 <= min(dear.recall.values())


@pytest.mark.parametrize("recall", [0.5, 0.95])
def test_the_recall_that_is_said_is_the_recall_there_is(few, vectors, texts, recall):
    found = build(vectors, texts, recall)
    truth, near = best(texts, vectors, 10), found.search(texts, 10)[1]
    shares = [len({*a} & {*b}) / 10 for a, b in zip(truth, near, strict=True)]
    assert np.mean(shares) == pytest.approx(found.recall["texts"], abs=2 / 600)  # but for ties
    held = np.sort(np.random.default_rng(nearest.SEED).choice(N, nearest.HELD, replace=False))
    near, truth = found.search(vectors[held], 11)[1], best(vectors[held], vectors, 11)
    others = [[[*filter(own.__ne__, row)][:10] for own, row in zip(held, rows, strict=True)] for rows in (truth, near)]
    shares = [len({*a} & {*b}) / 10 for a, b in zip(*others, strict=True)]
    assert np.mean(shares) == pytest.approx(found.recall["images"], abs=5 / 5000)
    assert np.mean(shares) > recall - 0.001


def test_the_same_vectors_give_the_same_bytes(few, vectors, texts, made):
    assert raw(build(vectors, texts, 0.95)) == raw(made)
    assert raw(build(vectors[:400], texts)) == raw(build(vectors[:400], texts))


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_exact_ones_change_as_lists_of_rows_do(data):
    there = unit(data.draw(st.integers(1, 30)))
    found = build(there, there[:0])
    for seed in range(1, 4):
        keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(there), max_size=len(there))), bool)
        more = unit(data.draw(st.integers(0, 5)), seed)
        found, there = revise(found, keep, more), np.vstack([there[keep], more])
        assert np.array_equal(found.vectors(np.arange(len(found))), there)
    if len(there):
        assert np.allclose(found.search(unit(3, 9), 1)[0][:, 0], (unit(3, 9) @ there.T).max(axis=1), atol=1e-5)


@pytest.mark.parametrize("way", ["in memory", "mapped", "mapped, with its rows looked up before"])
def test_lists_that_change_keep_what_they_keep_bit_for_bit(lists, vectors, texts, tmp_path, way):
    keep, more = np.random.default_rng(3).random(N) < 0.7, low(300, seed=4)
    old = lists if way == "in memory" else mapped(lists, tmp_path / "a")
    before = codes(old)
    if "looked" in way:
        old.vectors(np.arange(5))
    new = revise(old, keep, more)
    assert len(new) == keep.sum() + 300 and len(old) == N and codes(old) == before
    kept, after = np.flatnonzero(keep), codes(new)
    assert [after[i] for i in range(len(kept))] == [before[i] for i in kept]
    there = np.vstack([vectors[keep], more])
    held = new.vectors(np.arange(len(new)))
    assert np.abs(held - there).max() < 0.05 and np.array_equal(held[: len(kept)], old.vectors(kept))
    assert (new.factory, new.probes, new.recall) == (old.factory, old.probes, old.recall)
    found = new.search(texts, 10)[1]
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, best(texts, there, 10), strict=True)]) > 0.9
    again = mapped(new, tmp_path / "b")
    assert codes(again) == after and again.search(texts, 10)[1].tolist() == found.tolist()
    nothing = revise(again, np.zeros(len(again), bool), low(0))
    assert len(nothing) == 0 and (nothing.search(texts, 3)[1] == -1).all()
    assert revise(nothing, np.zeros(0, bool), more).search(more[:1], 1)[1].tolist() == [[0]]


def test_what_is_written_reads_the_same(lists, tmp_path):
    for number, found in enumerate((lists, build(unit(50), unit(0)))):
        again, queries = mapped(found, tmp_path / str(number)), found.vectors(np.arange(20))
        for one, other in zip(found.search(queries, 5), again.search(queries, 5), strict=True):
            assert np.array_equal(one, other)
        assert np.array_equal(found.vectors(np.arange(50)[::-1]), again.vectors(np.arange(50)[::-1]))
        assert [block.shape for block in again.blocks()] == [(len(found), found.dim)]
        assert raw(again) == raw(found)


def test_lists_open_the_same_on_any_number_of_threads(lists, texts, tmp_path):
    before = faiss.omp_get_max_threads()
    try:
        for threads in (1, 2, 5):
            faiss.omp_set_num_threads(threads)
            again = mapped(lists, tmp_path / str(threads))
            assert faiss.omp_get_max_threads() == threads
            for one, other in zip(again.search(texts, 10), lists.search(texts, 10), strict=True):
                assert np.array_equal(one, other)
    finally:
        faiss.omp_set_num_threads(before)


def test_another_index_than_was_said_is_not_read(lists, tmp_path):
    mapped(build(unit(50), unit(0)), tmp_path / "exact")
    mapped(lists, tmp_path / "lists")
    factory = lists.factory
    for name, *said in [
        ("exact", 49, 8, "Flat", 0),
        ("exact", 50, 9, "Flat", 0),
        ("exact", 100, 4, "Flat", 0),
        ("exact", 50, 8, "Flat", 4),
        ("exact", 50, 8, factory, 4),
        ("lists", N, DIM, "Flat", 0),
        ("lists", N, DIM, factory, 0),
        ("lists", N, DIM, factory.replace("SQ8", "SQfp16"), 4),
        ("lists", N, DIM, factory.replace("256", "128"), 4),
        ("lists", N, DIM, factory, 257),
    ]:
        with pytest.raises(ValueError, match=r"not the arrays|lists to look into|unknown index type"):
            read(tmp_path / name, *said, {})
    faiss.write_index(faiss.IndexFlatIP(8), str(tmp_path / "faiss"))
    for name, data in (("faiss", None), ("empty", b""), ("garbage", b"IxFI" + b"\xff" * 999), ("text", b"hello")):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=r"not the arrays|empty file"):
            read(tmp_path / name, 50, 8, "Flat", 0, {})
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere", 50, 8, "Flat", 0, {})


def test_few_allowed_rows_are_searched_exactly_in_lists_too(lists, texts):
    rows = np.sort(np.random.default_rng(5).choice(N, 300, replace=False))
    allowed = np.isin(np.arange(N), rows)
    scores, found = lists.search(texts, 310, allowed)
    there = lists.vectors(rows)
    assert found[:, :10].tolist() == rows[best(texts, there, 10)].tolist()
    assert (np.sort(found[:, :300]) == rows).all() and (found[:, 300:] == -1).all()
    assert np.allclose(scores[:, 0], (texts @ there.T).max(axis=1), atol=1e-5)
    assert (lists.search(texts, 3, np.zeros(N, bool))[1] == -1).all()


def test_bad_vectors_are_counted(lists):
    vectors = unit(9)
    vectors[1], vectors[3, 2], vectors[4, 0] = 0, np.nan, np.inf
    vectors[5] *= 1.002
    vectors[6] *= 1.0005  # what float16 does
    vectors[7] *= -1
    assert Nearest(vectors).bad() == 4
    assert lists.bad() == 0
    lists.index.add(0.5 * low(3, 7))
    assert lists.bad() == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.9])
def test_vectors_that_are_not_of_norm_1_are_refused(monkeypatch, lists, value):
    monkeypatch.setattr(nearest, "BLOCK", 4)
    vectors = low(9)
    vectors[6, 3] = value
    with pytest.raises(InputError, match="vector 6 is not of norm 1"):
        build(vectors, low(0))
    for found in (lists, build(low(5), low(0))):
        with pytest.raises(InputError, match="vector 6 is not of norm 1"):
            revise(found, np.ones(len(found), bool), vectors)


def test_a_query_that_is_one_vector_is_told(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(ShapeError, match=r"queries have shape \(32,\)"):
        build(low(5), low(0)).search(low(1)[0], 2)
    with pytest.raises(ShapeError, match=r"vectors of shape \(32,\)"):
        build(low(1)[0], low(0))


class Streamed:
    """Vectors that note how many are read at once, and how."""

    def __init__(self, vectors):
        self.held, self.shape, self.slices, self.arrays = vectors, vectors.shape, [], []

    def __len__(self):
        return len(self.held)

    def __getitem__(self, wanted):
        found = self.held[wanted]
        (self.slices if isinstance(wanted, slice) else self.arrays).append(len(found))
        return found

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("all of them at once")


def test_vectors_are_read_some_at_a_time(few, vectors, texts, monkeypatch):
    monkeypatch.setattr(nearest, "BLOCK", 256)
    monkeypatch.setattr(nearest, "PER_LIST", 8)
    monkeypatch.setattr(nearest, "HELD", 100)
    done = []
    streamed = Streamed(vectors)
    found = build(streamed, texts, 0.8, done.append)
    assert found.probes and max(streamed.slices) == 256
    assert sum(streamed.slices) == 2 * N  # for the truth, and into the lists
    assert streamed.arrays == [100, 8 * lists_for(N)]
    assert sum(done) == N
    streamed, done = Streamed(vectors), []
    exact = build(streamed, texts, 1.0, done.append)
    assert (max(streamed.slices), sum(streamed.slices), streamed.arrays, sum(done)) == (256, N, [], N)
    for old in (found, exact):
        streamed, done = Streamed(low(700, 8)), []
        new = revise(old, np.arange(N) % 2 > 0, streamed, done.append)
        assert (max(streamed.slices), sum(streamed.slices), streamed.arrays, sum(done)) == (256, 700, [], 700)
        assert len(new) == N // 2 + 700
        assert [len(block) for block in new.blocks()] == [256] * 12 + [128]
