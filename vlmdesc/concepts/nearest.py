"""The vectors nearest to a query by inner product, by way of FAISS: exact for few, inverted lists for many.

Row i of a set of vectors is row i of its `Nearest`, whatever was added or taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.errors import InputError, ShapeError
from vlmdesc.records.results import Vectors

EXACT_ROWS = 100_000  # up to here every query is held against every vector
RECALL, AT = 0.95, 10
BLOCK = 16_384  # vectors read at a time
PER_LIST, MAX_LISTS, SHARE = 64, 65_536, 8  # vectors that train a list; a query looks into one in 8 at most
HELD = 500  # images the recall is measured with
CODECS = ("SQ8", "SQfp16")  # a quarter and a half of the memory; the second where the first costs too much recall
EXACT = "Flat"
SEED = 0
EXACTLY, NEARLY = 1e-3, 0.05  # how far from 1 a norm may be
MMAP = faiss.IO_FLAG_MMAP_IFC


def _unheard(done: int) -> None:
    pass


@dataclass(frozen=True)
class Nearest:
    """Vectors (N, D) ready to be searched. `recall` is what was measured when its lists were tuned, by kind of query.

    `factory` is FAISS's name for how they are kept, `probes` how many lists a query looks into, 0 for all vectors.
    """

    index: Any
    factory: str = EXACT
    probes: int = 0
    recall: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def dim(self) -> int:
        return int(self.index.d)

    def search(
        self, queries: Float32[np.ndarray, "q d"], k: int, allowed: Bool[np.ndarray, " n"] | None = None
    ) -> tuple[Float32[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """Inner products and rows of the k best vectors for each query, best first; row -1 where there are fewer.

        `allowed` says which rows may be found. Raises: ShapeError for queries of another width; InputError for some
        that are not finite, or for k below 1.
        """
        self._check(queries, k)
        if allowed is not None and allowed.sum() <= EXACT_ROWS and self.probes:
            return self._among(queries, k, np.flatnonzero(allowed))  # few of them may stand in the lists looked into
        options = {} if allowed is None else {"sel": faiss.IDSelectorBatch(np.flatnonzero(allowed).astype(np.int64))}
        kind = faiss.SearchParametersIVF if self.probes else faiss.SearchParameters
        params = kind(**options, **({"nprobe": self.probes} if self.probes else {}))
        scores, rows = self.index.search(np.ascontiguousarray(queries), k, params=params)
        return scores, rows

    def _among(
        self, queries: Float32[np.ndarray, "q d"], k: int, rows: Int[np.ndarray, " a"]
    ) -> tuple[Float32[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        scores, at = nearest(queries, self.vectors(rows), min(k, len(rows)))
        short = ((0, 0), (0, k - at.shape[1]))
        return np.pad(scores, short, constant_values=np.finfo(np.float32).min), np.pad(
            rows[at], short, constant_values=-1
        )

    def _check(self, queries: Float32[np.ndarray, "q d"], k: int) -> None:
        if k < 1:
            raise InputError(f"the {k} nearest", fix="ask for at least one")
        if queries.shape[1] != self.dim:
            what = f"queries have {queries.shape[1]} dimensions, the vectors {self.dim}"
            raise ShapeError(what, fix="use the encoder that the vectors are of")
        if not np.isfinite(queries).all():
            raise InputError("a query is not finite", fix="give unit-norm vectors")

    def vectors(self, rows: Int[np.ndarray, " r"]) -> Float32[np.ndarray, "r d"]:
        """The vectors of some rows, as exact as they are kept."""
        if self.probes and self.index.direct_map.no():
            self.index.make_direct_map(True)
        return self.index.reconstruct_batch(rows.astype(np.int64)) if len(rows) else np.empty((0, self.dim), np.float32)

    def bad(self) -> int:
        """How many vectors are not finite, or not of norm 1 as far as that can be kept."""
        off = (np.abs(np.linalg.norm(block, axis=1) - 1) for block in self.blocks())
        return sum(int((~(norms < (NEARLY if self.probes else EXACTLY))).sum()) for norms in off)

    def blocks(self) -> Iterator[Float32[np.ndarray, "b d"]]:
        """All vectors in order, some thousand at a time."""
        for start in range(0, len(self), BLOCK):
            yield self.vectors(np.arange(start, min(start + BLOCK, len(self))))


def nearest(
    queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"], k: int
) -> tuple[Float32[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Inner products and rows of the k best of some vectors for each query, best first, each held against each."""
    if not len(queries) or not k:
        return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
    both = np.ascontiguousarray(queries), np.ascontiguousarray(vectors)
    scores, rows = faiss.knn(*both, k, metric=faiss.METRIC_INNER_PRODUCT)
    return scores, rows


def build(
    vectors: Vectors | Float32[np.ndarray, "n d"],
    texts: Float32[np.ndarray, "t d"],
    recall: float = RECALL,
    tick: Callable[[int], object] = _unheard,
) -> Nearest:
    """Vectors (N, D), read some thousand at a time, ready to be searched.

    More than 100,000 go into inverted lists, unless `recall` is 1. How many lists a query looks into is then chosen
    such that of the exact 10 nearest images at least this share is found, for held images and for `texts`, whose
    vectors lie apart from images'. Raises: InputError for a recall that is no share, or no vectors.
    """
    if not 0 < recall <= 1:
        raise InputError(f"recall {recall}", fix="give a share above 0, 1 for exact search")
    if not len(vectors):
        raise InputError("no vectors", fix="give at least one")
    if len(vectors) <= EXACT_ROWS or recall == 1:
        index = faiss.IndexFlatIP(vectors.shape[1])
        return _filled(Nearest(index), vectors, tick)
    held = _sample(len(vectors), HELD, SEED)
    probes = {"images": (np.asarray(vectors[held]), held), "texts": (texts, np.full(len(texts), -1))}
    queries, own = (np.concatenate(parts) for parts in zip(*probes.values(), strict=True))
    truth = np.split(_exact(vectors, queries, own), [len(held)])
    trials = [_Trial(kind, *probes[kind], right) for kind, right in zip(probes, truth, strict=True)]
    sample = np.asarray(vectors[_sample(len(vectors), PER_LIST * lists_for(len(vectors)), SEED + 1)])
    for codec in CODECS:
        filled = _filled(_empty(sample, lists_for(len(vectors)), codec), vectors, tick)
        tick = _unheard  # each vector once
        if tuned := _tuned(filled, trials, recall):
            return tuned
    return build(vectors, texts, 1.0)  # no lists are as good


def lists_for(n: int) -> int:
    """How many inverted lists n vectors get: the power of two next to 4 sqrt(n)."""
    return min(MAX_LISTS, 2 ** round(np.log2(4 * np.sqrt(n))))


@dataclass(frozen=True)
class _Trial:
    """Queries (Q, D), for each the row that it is itself or -1, and the rows (Q, 10) that an exact search gives."""

    kind: str
    queries: Float32[np.ndarray, "q d"]
    own: Int[np.ndarray, " q"]
    truth: Int[np.ndarray, "q k"]

    def recall(self, trial: Nearest) -> float:
        found = others(trial.search(self.queries, AT + 1)[1], self.own)
        return float(np.mean([len({*a} & {*b}) / AT for a, b in zip(found, self.truth, strict=True)]))


def _exact(
    vectors: Vectors | Float32[np.ndarray, "n d"], queries: Float32[np.ndarray, "q d"], own: Int[np.ndarray, " q"]
) -> Int[np.ndarray, "q k"]:
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


def _tuned(filled: Nearest, trials: list[_Trial], recall: float) -> Nearest | None:
    """With as few lists looked into as the recall allows, None where even one list in 8 is not enough."""
    probes = 1
    while probes <= filled.index.nlist // SHARE:
        tried = replace(filled, probes=probes)
        reached = {trial.kind: trial.recall(tried) for trial in trials if len(trial.queries)}
        if min(reached.values()) >= recall:
            return replace(tried, recall=reached)
        probes *= 2
    return None


def _empty(sample: Float32[np.ndarray, "s d"], lists: int, codec: str) -> Nearest:
    factory = f"IVF{lists}_HNSW32,{codec}"
    index = faiss.index_factory(sample.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.min_points_per_centroid = SEED, 1
    index.train(sample)
    return Nearest(index, factory, 1)


def _filled(
    empty: Nearest, vectors: Vectors | Float32[np.ndarray, "n d"], tick: Callable[[int], object] = _unheard
) -> Nearest:
    for start in range(0, len(vectors), BLOCK):
        block = np.ascontiguousarray(vectors[start : start + BLOCK])
        empty.index.add(block)
        tick(len(block))
    return empty


def _sample(n: int, size: int, seed: int) -> Int[np.ndarray, " s"]:
    return np.sort(np.random.default_rng(seed).choice(n, min(n, size), replace=False))


def changed(
    old: Nearest,
    keep: Bool[np.ndarray, " n"],
    more: Vectors | Float32[np.ndarray, "m d"],
    tick: Callable[[int], object] = _unheard,
) -> Nearest:
    """A new one with the rows of `old` that are kept, in their order, and more vectors behind them.

    Lists stay as they were trained. Raises: ShapeError for vectors of another width.
    """
    if len(more) and more.shape[1] != old.dim:
        what = f"vectors of {more.shape[1]} dimensions beside some of {old.dim}"
        raise ShapeError(what, fix="use the encoder that the others are of")
    if not old.probes:
        new = Nearest(faiss.IndexFlatIP(old.dim))
        for rows in np.array_split(np.flatnonzero(keep), -(-int(keep.sum()) // BLOCK) or 1):
            new.index.add(old.vectors(rows))
        return _filled(new, more, tick)
    index = faiss.clone_index(old.index)
    lists = faiss.ArrayInvertedLists(index.nlist, index.code_size)  # those of a mapped file cannot be changed
    index.set_direct_map_type(faiss.DirectMap.NoMap)
    index.replace_invlists(lists, True)
    lists.this.disown()
    number = np.cumsum(keep) - 1
    for at in range(index.nlist):
        rows, codes = _list(old.index.invlists, at, old.index.code_size)
        kept = keep[rows]
        if kept.any():
            ids, left = number[rows[kept]].astype(np.int64), np.ascontiguousarray(codes[kept])
            lists.add_entries(at, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(left))
    index.ntotal = int(keep.sum())
    return _filled(replace(old, index=index), more, tick)


def _list(lists: Any, at: int, width: int) -> tuple[Int[np.ndarray, " r"], np.ndarray]:
    size = lists.list_size(at)
    if not size:
        return np.empty(0, np.int64), np.empty((0, width), np.uint8)
    rows = faiss.rev_swig_ptr(lists.get_ids(at), size).copy()
    return rows, faiss.rev_swig_ptr(lists.get_codes(at), size * width).reshape(size, width).copy()


def write(found: Nearest, file: Callable[[bytes], int]) -> None:
    """Hand FAISS's file of it to a file's `write`, some bytes at a time."""
    faiss.write_index(found.index, faiss.PyCallbackIOWriter(file, 1 << 20))


def limit(n_bytes: int) -> None:
    """Let FAISS's reader, in this whole process, ask for no more memory at once than this."""
    faiss.set_deserialization_vector_byte_limit(n_bytes)


def read(path: Path, n: int, dim: int, factory: str, probes: int, recall: dict[str, float]) -> Nearest:
    """Map a file that `write` made; what is in it must be known to be whole, since FAISS's reader trusts it.

    Raises: FileNotFoundError; ValueError when it is another index than was said.
    """
    try:
        index = faiss.read_index(str(path), MMAP)
    except RuntimeError as error:
        path.stat()  # gone meanwhile is no damage
        raise ValueError(f"FAISS cannot read it: {str(error).splitlines()[0]}") from error
    kind = faiss.IndexIVF if probes else faiss.IndexFlatIP
    if not isinstance(index, kind) or (index.ntotal, index.d) != (n, dim):
        raise ValueError(f"{type(index).__name__} of {index.ntotal} x {index.d} where {factory} of {n} x {dim} is said")
    return Nearest(index, factory, probes, recall)
