"""Indexing and searching of `make bench`, against exact search; and naming, against one matrix product.

    python -m eval.searching [N]      prints one line of JSON

A process of its own, so that its memory can be told. Vectors are unit, 512-d, in clusters of about 100 around centres
that vary in 64 dimensions, as embeddings of photographs vary in far fewer directions than they have.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from eval.bench import medians
from eval.selecting import kib
from vlmdesc.concepts import naming, nearest
from vlmdesc.concepts.index import Index, Model
from vlmdesc.concepts.rows import SCHEMA, Origin, Rows
from vlmdesc.embeddings.store import Store
from vlmdesc.embeddings.vectors import StoredVectors
from vlmdesc.testing import FakeEncoder

DIM, LATENT, CLUSTER, BLOCK = 512, 64, 100, 8192
QUERIES, ROUNDS = 256, 5
DIRECTIONS, WORDS = 8_192, 20_000


def main(n: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        keys = stored(Path(place), n)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        vectors = StoredVectors(Store(Path(place)).images(FakeEncoder()), keys)
        texts = next(made(QUERIES, seed=2))
        began = time.perf_counter()
        found = nearest.build(vectors, texts)
        Index(found, rows(keys), Model("fake", "fp32", "fake"), n).save(Path(place) / "idx")
        building, peak = time.perf_counter() - began, kib("VmHWM") / 2**20
        began = time.perf_counter()
        opened = Index.open(Path(place) / "idx").nearest
        opening = time.perf_counter() - began
        exact = nearest.build(vectors, texts, 1)
        one, many = searched(opened, exact)
    about = {"n": n, "factory": found.factory, "probes": found.probes, "recall": found.recall}
    seconds = {"build": building, "open": opening, "one": one, "many": many, "naming": named()}
    print(json.dumps(about | {"seconds": seconds, "peak_gib": peak}))


def made(n: int, seed: int) -> Iterator[np.ndarray]:
    """Unit vectors, some thousand at a time."""
    shape = np.random.default_rng(0)
    axes = shape.standard_normal((LATENT, DIM), dtype=np.float32)
    centres = shape.standard_normal((max(1, n // CLUSTER), LATENT), dtype=np.float32)
    rng = np.random.default_rng(seed)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        latent = centres[rng.integers(0, len(centres), size)] + 0.5 * rng.standard_normal((size, LATENT))
        block = latent.astype(np.float32) @ axes + 2 * rng.standard_normal((size, DIM), dtype=np.float32)
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


def stored(place: Path, n: int) -> list[bytes]:
    """The keys of vectors put in a store, a full segment at a time."""
    collection, rng, keys = Store(place).images(FakeEncoder()), np.random.default_rng(1), list[bytes]()
    for block in made(n, seed=1):
        keys += [rng.bytes(32) for _ in block]
        collection.put(keys[-len(block) :], block)
    return keys


def rows(keys: list[bytes]) -> Rows:
    import pyarrow as pa

    n = len(keys)
    columns = ([f"{i}.jpg" for i in range(n)], [None] * n, keys, [True] * n, [0] * n, [*range(n)])
    return Rows(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), SCHEMA), (Origin(("photos",)),))


def searched(lists: nearest.Nearest, exact: nearest.Nearest) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds a query, one at a time and many at once."""
    queries = next(made(QUERIES, seed=3))

    def singly(found: nearest.Nearest, n: int) -> Callable[[], object]:
        return lambda: [found.search(query[None], 10) for query in queries[:n]]

    one = times({"lists": singly(lists, QUERIES), "exact": singly(exact, 8)})
    many = times({"lists": lambda: lists.search(queries, 10), "exact": lambda: exact.search(queries, 10)})
    return (
        {"lists": one["lists"] / QUERIES, "exact": one["exact"] / 8},
        {kind: seconds / QUERIES for kind, seconds in many.items()},
    )


def named() -> dict[str, float]:
    """Seconds to name directions, the frame ready; to make the frame; and of the bare product."""
    words, directions = (np.concatenate([*made(n, seed)]) for n, seed in ((WORDS, 4), (DIRECTIONS, 5)))
    images = next(made(BLOCK, seed=6))
    frame = naming.frame(words, images)
    return times(
        {
            "names": lambda: naming.name(directions, frame),
            "frame": lambda: naming.frame(words, images),
            "product": lambda: directions @ words.T,
        }
    )


def times(jobs: dict[str, Callable[[], object]]) -> dict[str, float]:
    return dict(zip(jobs, medians([*jobs.values()], ROUNDS), strict=True))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
