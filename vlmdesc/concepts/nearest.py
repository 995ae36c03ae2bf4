"""The vectors nearest to a query by inner product, by way of FAISS: exact for few, inverted lists for many.

Row i of a set of vectors is row i of its `Nearest`, whatever was added or taken away. FAISS reads no
file: what an index holds is plain arrays, checked before FAISS gets them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from vlmdesc.concepts.arrays import BLOCK, Layout, check_numbers, header, map_arrays
from vlmdesc.errors import InputError, ShapeError
from vlmdesc.records.results import Vectors

EXACT_ROWS = 100_000  # up to here every query is held against every vector
RECALL, AT = 0.95, 10
PER_LIST, MAX_LISTS, SHARE = 64, 65_536, 8  # vectors that train a list; a query looks into one in 8 at most
HELD = 500  # images the recall is measured with
EXACT = "Flat"
LISTS = re.compile("IVF([1-9][0-9]{0,4})_HNSW32,(SQ8|SQfp16)")
CODECS = {  # a quarter and a half of the memory; the second where the first costs too much recall
    "SQ8": faiss.ScalarQuantizer.QT_8bit,
    "SQfp16": faiss.ScalarQuantizer.QT_fp16,
}
SEED = 0
EXACTLY, NEARLY = 1e-3, 0.05  # how far from 1 a norm may be

Some = Vectors | Float32[np.ndarray, "n d"]
Tick = Callable[[int], object]  # called with how many more are done


def no_tick(done: int) -> None:
    pass


@dataclass(frozen=True)
class Nearest:
    """Vectors (N, D) ready to be searched. `recall` is what was measured when its lists were tuned, by kind of query.

    `factory` is FAISS's name for how they are kept, `probes` how many lists a query looks into, 0 for all vectors;
    `index` is then the vectors themselves, and FAISS's lists of them otherwise.
    """

    index: Any
    factory: str = EXACT
    probes: int = 0
    recall: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.index.ntotal) if self.probes else len(self.index)

    @property
    def dim(self) -> int:
        return int(self.index.d if self.probes else self.index.shape[1])

    def search(
        self, queries: Float32[np.ndarray, "q d"], k: int, allowed: Bool[np.ndarray, " n"] | None = None
    ) -> tuple[Float32[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """Inner products and rows of the k best vectors for each query, best first; row -1 where there are fewer.

        `allowed` says which rows may be found. Raises: ShapeError for queries of another width; InputError for some
        that are not finite, or for k below 1.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            what = f"queries have shape {queries.shape}, the vectors {self.dim} dimensions"
            raise ShapeError(what, fix="give rows (Q, D) of the encoder that the vectors are of")
        if k < 1:
            raise InputError(f"the {k} nearest", fix="ask for at least one")
        if not np.isfinite(queries).all():
            raise InputError("a query is not finite", fix="give unit-norm vectors")
        rows = None if allowed is None else np.flatnonzero(allowed)
        if (
            self.probes and rows is not None and len(rows) <= EXACT_ROWS
        ):  # few of them may stand in the lists looked into
            scores, at = nearest(queries, self.vectors(rows), min(k, len(rows)))
            short = ((0, 0), (0, k - at.shape[1]))
            scores = np.pad(scores, short, constant_values=np.finfo(np.float32).min)
            return scores, np.pad(rows[at], short, constant_values=-1)
        chosen = None if rows is None else faiss.IDSelectorBatch(rows.astype(np.int64))
        if not self.probes:
            return nearest(queries, self.index, k, chosen)
        params = faiss.SearchParametersIVF(nprobe=self.probes, sel=chosen)
        scores, found = self.index.search(np.ascontiguousarray(queries), k, params=params)
        return scores, found

    def vectors(self, rows: Int[np.ndarray, " r"]) -> Float32[np.ndarray, "r d"]:
        """The vectors of some rows, as exact as they are kept."""
        if not self.probes:
            return self.index[rows]
        if self.index.direct_map.no():
            self.index.make_direct_map(True)
        return self.index.reconstruct_batch(rows.astype(np.int64)) if len(rows) else np.empty((0, self.dim), np.float32)

    def bad(self) -> int:
        """How many vectors are not finite, or not of norm 1 as far as that can be kept."""
        tolerance = NEARLY if self.probes else EXACTLY
        return sum(int((~_sound(block, tolerance)).sum()) for block in self.blocks())

    def blocks(self) -> Iterator[Float32[np.ndarray, "b d"]]:
        """All vectors in order, some thousand at a time."""
        for start in range(0, len(self), BLOCK):
            yield self.vectors(np.arange(start, min(start + BLOCK, len(self))))


def nearest(
    queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"], k: int, chosen: Any = None
) -> tuple[Float32[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Inner products and rows of the k best of some vectors for each query, best first, each held against each.

    `chosen` is FAISS's selector of those that may be found.
    """
    scores, rows = np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
    if len(queries) and k:
        both = np.ascontiguousarray(queries), np.ascontiguousarray(vectors)
        given, made = map(faiss.swig_ptr, both), map(faiss.swig_ptr, (scores, rows))
        faiss.knn_inner_product(*given, vectors.shape[1], len(queries), len(vectors), k, *made, chosen)
    return scores, rows


def build(vectors: Some, texts: Float32[np.ndarray, "t d"], recall: float = RECALL, tick: Tick = no_tick) -> Nearest:
    """Vectors (N, D), read some thousand at a time, ready to be searched.

    More than 100,000 go into inverted lists, unless `recall` is 1. How many lists a query looks into is then chosen
    such that of the exact 10 nearest images at least this share is found, for held images and for `texts`, whose
    vectors lie apart from images'. Raises: InputError for a recall that is no share, no vectors, or one that is not
    of norm 1.
    """
    if not 0 < recall <= 1:
        raise InputError(f"recall {recall}", fix="give a share above 0, 1 for exact search")
    if not len(vectors):
        raise InputError("no vectors", fix="give at least one")
    if len(vectors.shape) != 2:
        raise ShapeError(f"vectors of shape {vectors.shape}", fix="give rows (N, D)")
    if len(vectors) <= EXACT_ROWS or recall == 1:
        nothing = Nearest(np.empty((0, vectors.shape[1]), np.float32))
        return revise(nothing, np.empty(0, bool), vectors, tick)
    held, n_lists = _sample(len(vectors), HELD, SEED), lists_for(len(vectors))
    images = np.asarray(vectors[held])
    queries, own = np.concatenate([images, texts]), np.concatenate([held, np.full(len(texts), -1)])
    truth = _exact(vectors, queries, own)
    sample = np.asarray(vectors[_sample(len(vectors), PER_LIST * n_lists, SEED + 1)])
    for codec in CODECS:
        factory = f"IVF{n_lists}_HNSW32,{codec}"
        index = faiss.index_factory(sample.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.min_points_per_centroid = SEED, 1
        index.train(sample)
        lists = Nearest(_lists(*_learnt(index), codec), factory, 1)
        for block in _blocks(vectors, tick):
            lists.index.add(block)
        tick = no_tick  # each vector once
        for probes in (2**i for i in range(int(np.log2(n_lists // SHARE)) + 1)):
            tried = replace(lists, probes=probes)
            found = others(tried.search(queries, AT + 1)[1], own)
            shares = np.array([len({*a} & {*b}) / AT for a, b in zip(found, truth, strict=True)])
            kinds = {"images": shares[: len(held)], "texts": shares[len(held) :]}
            reached = {kind: float(of.mean()) for kind, of in kinds.items() if len(of)}
            if min(reached.values()) >= recall:
                return replace(tried, recall=reached)
    return build(vectors, texts, 1.0)  # no lists are as good


def lists_for(n: int) -> int:
    """How many inverted lists n vectors get: the power of two next to 4 sqrt(n)."""
    return min(MAX_LISTS, 2 ** round(np.log2(4 * np.sqrt(n))))


def _sample(n: int, size: int, seed: int) -> Int[np.ndarray, " s"]:
    return np.sort(np.random.default_rng(seed).choice(n, min(n, size), replace=False))


def _exact(vectors: Some, queries: Float32[np.ndarray, "q d"], own: Int[np.ndarray, " q"]) -> Int[np.ndarray, "q k"]:
    """The rows of the 10 best vectors for each query, other than itself."""
    scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), BLOCK):
        found, at = nearest(queries, np.asarray(vectors[start : start + BLOCK]), AT + 1)
        scores, rows = np.hstack([scores, found]), np.hstack([rows, at + start])
        best = np.argsort(-scores, axis=1, kind="stable")[:, : AT + 1]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return others(rows, own)


def others(rows: Int[np.ndarray, "q k1"], own: Int[np.ndarray, " q"]) -> Int[np.ndarray, "q k"]:
    """What each query found, less itself, or less the last where it is not there: finding oneself is no merit."""
    last = np.argsort(rows == own[:, None], axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(rows, last, 1)


def _learnt(index: Any) -> tuple[Float32[np.ndarray, "l d"], Float32[np.ndarray, " t"]]:
    """The centroids of lists, and what their codec was trained to."""
    return index.quantizer.reconstruct_n(0, index.nlist), faiss.vector_to_array(index.sq.trained)


def _lists(centroids: Float32[np.ndarray, "l d"], trained: Float32[np.ndarray, " t"], codec: str) -> Any:
    """Empty lists. One thread makes the graph over their centroids, so that it is the same each time."""
    n, dim = centroids.shape
    graph, threads = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT), faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        graph.add(centroids)
    finally:
        faiss.omp_set_num_threads(threads)
    index = faiss.IndexIVFScalarQuantizer(graph, dim, n, CODECS[codec], faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(trained, index.sq.trained)
    index.is_trained = True
    return index


def _blocks(vectors: Some, tick: Tick) -> Iterator[Float32[np.ndarray, "b d"]]:
    """Vectors, some thousand at a time. Raises: InputError for one that is not of norm 1."""
    for start in range(0, len(vectors), BLOCK):
        block = np.ascontiguousarray(vectors[start : start + BLOCK])
        off = np.flatnonzero(~_sound(block, NEARLY))
        if len(off):
            raise InputError(f"vector {start + off[0]} is not of norm 1", fix="give unit-norm vectors")
        yield block
        tick(len(block))


def _sound(vectors: Float32[np.ndarray, "b d"], tolerance: float) -> Bool[np.ndarray, " b"]:
    return np.abs(np.linalg.norm(vectors, axis=1) - 1) < tolerance  # NaN is not


def revise(old: Nearest, keep: Bool[np.ndarray, " n"], more: Some, tick: Tick = no_tick) -> Nearest:
    """A new one with the rows of `old` that are kept, in their order, and more vectors behind them.

    Lists stay as they were trained. Raises: ShapeError for vectors of another width; InputError for one that is not of
    norm 1.
    """
    if len(more) and more.shape[1:] != (old.dim,):
        what = f"vectors of shape {more.shape} beside some of {old.dim} dimensions"
        raise ShapeError(what, fix="use the encoder that the others are of")
    if not old.probes:
        kept = np.flatnonzero(keep)
        whole, end = np.empty((len(kept) + len(more), old.dim), np.float32), len(kept)
        np.take(old.index, kept, 0, out=whole[:end], mode="clip")  # other modes make a copy first
        for block in _blocks(more, tick):
            whole[end : end + len(block)] = block
            end += len(block)
        return Nearest(whole)
    index, number = _lists(*_learnt(old.index), _codec(old.factory)[1]), np.cumsum(keep) - 1
    for at in range(index.nlist):
        rows, codes = _list(old.index, at)
        _put(index, at, number[rows[keep[rows]]], codes[keep[rows]])
    for block in _blocks(more, tick):
        index.add(block)
    return replace(old, index=index)


def _list(index: Any, at: int) -> tuple[Int[np.ndarray, " r"], UInt8[np.ndarray, "r w"]]:
    """The rows in a list, and their codes."""
    lists, size, width = index.invlists, index.invlists.list_size(at), index.code_size
    if not size:
        return np.empty(0, np.int64), np.empty((0, width), np.uint8)
    rows = faiss.rev_swig_ptr(lists.get_ids(at), size).copy()
    return rows, faiss.rev_swig_ptr(lists.get_codes(at), size * width).reshape(size, width).copy()


def _put(index: Any, at: int, rows: Int[np.ndarray, " r"], codes: UInt8[np.ndarray, "r w"]) -> None:
    both = np.ascontiguousarray(rows), np.ascontiguousarray(codes)
    index.invlists.add_entries(at, len(rows), *map(faiss.swig_ptr, both))
    index.ntotal += len(rows)


def _codec(factory: str) -> tuple[int, str]:
    """How many lists there are, and how vectors are kept in them. Raises: ValueError for another factory."""
    found = LISTS.fullmatch(factory)
    if not found or int(found[1]) > MAX_LISTS:
        raise ValueError("unknown index type")
    return int(found[1]), found[2]


def write(found: Nearest, put: Callable[[bytes], None]) -> None:
    """Hand a file of it to `put`, some bytes at a time."""
    put(header(_layout(len(found), found.dim, found.factory)))
    if not found.probes:
        for block in found.blocks():
            put(block.tobytes())
        return
    lists = range(found.index.nlist)
    for at in lists:
        put(_list(found.index, at)[0].tobytes())
    put(np.array([found.index.invlists.list_size(at) for at in lists]).tobytes())
    for learnt in _learnt(found.index):
        put(learnt.tobytes())
    for at in lists:
        put(_list(found.index, at)[1].tobytes())


def _layout(n: int, dim: int, factory: str) -> Layout:
    """The arrays in a file, in their order, each with its type and shape. Raises: ValueError for another factory."""
    if factory == EXACT:
        return {"vectors": ("F32", (n, dim))}
    lists, codec = _codec(factory)
    trained, width = {"SQ8": (2 * dim, dim), "SQfp16": (0, 2 * dim)}[codec]
    learnt: Layout = {"centroids": ("F32", (lists, dim)), "trained": ("F32", (trained,))}
    return {"rows": ("I64", (n,)), "sizes": ("I64", (lists,)), **learnt, "codes": ("U8", (n, width))}


def read(path: Path, n: int, dim: int, factory: str, probes: int, recall: dict[str, float]) -> Nearest:
    """Open a file as `write` makes them, whoever made it; exact vectors are mapped, lists are in memory.

    Raises: FileNotFoundError; ValueError when it holds something else than was said.
    """
    arrays = map_arrays(path, _layout(n, dim, factory))
    if factory == EXACT and not probes:
        check_numbers(arrays["vectors"])
        return Nearest(arrays["vectors"], factory, probes, recall)
    lists, codec = _codec(factory)
    if not 0 < probes <= lists:
        raise ValueError(f"{probes} of {lists} lists to look into")
    rows, sizes, centroids, trained = (arrays.pop(name).copy() for name in [*arrays][:-1])  # nobody changes these
    _check_rows(rows, sizes, n)
    codes = arrays["codes"]
    for floats in (centroids, trained[None], *([codes.view(np.float16)] if codec == "SQfp16" else [])):
        check_numbers(floats)
    index, ends = _lists(centroids, trained, codec), np.cumsum(sizes)
    for at, (size, end) in enumerate(zip(sizes.tolist(), ends.tolist(), strict=True)):
        _put(index, at, rows[end - size : end], codes[end - size : end])
    return Nearest(index, factory, probes, recall)


def _check_rows(rows: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " l"], n: int) -> None:
    """Raises: ValueError unless each row stands in the lists once."""
    if sizes.min() < 0 or sizes.max() > n or sizes.sum() != n or rows.min() < 0 or rows.max() >= n:
        raise ValueError("lists of other rows")
    seen = np.zeros(n, bool)
    seen[rows] = True
    if not seen.all():
        raise ValueError("a row that stands in lists twice")
