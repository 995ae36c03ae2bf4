"""The evaluation of `make bench`: all methods on 50,000 images, in a process of its own so that its memory can be told.

python -m eval.evaluating [N]      prints one line of JSON
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vlmdesc.classification.heads import HeadCard
from vlmdesc.classification.heads.pooled import Pooled
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.credit import leave_one_out
from vlmdesc.evaluation.methods import Given
from vlmdesc.evaluation.outcomes import measure
from vlmdesc.evaluation.run import figures
from vlmdesc.evaluation.specs import Plan, build
from vlmdesc.records import Descriptors
from vlmdesc.testing import FakeEncoder

CLASSES, DESCRIPTORS, DIM = 1_000, 5_800, 512


class RandomTexts(FakeEncoder):
    """Texts to random directions near their class: what they cost to encode is not what is measured here."""

    def __init__(self, centres: np.ndarray) -> None:
        self._centres, self._rng = centres, np.random.default_rng(1)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        classes = [int(re.findall(r"\d+", text)[0]) for text in texts]
        noise = self._rng.standard_normal((len(texts), DIM), dtype=np.float32)
        return unit(self._centres[classes] + 2 * noise)


def main(n: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, DIM), dtype=np.float32)
    labels = np.arange(n) % CLASSES
    images = unit(centres[labels] + 3.5 * rng.standard_normal((n, DIM), dtype=np.float32))
    keys = tuple(map(str, range(n)))
    photos = Labelled(images, labels, keys, tuple(range(n)), keys, (None,) * n)
    each = np.bincount(rng.integers(0, CLASSES, DESCRIPTORS - CLASSES), minlength=CLASSES) + 1
    descriptors = Descriptors.of({f"class {c}": [f"descriptor {c} {i}" for i in range(k)] for c, k in enumerate(each)})
    encoder = RandomTexts(centres)
    methods, _ = build(["all"], {"": descriptors}, Plan())
    some, fold = calibrate.sample(labels, 0), calibrate.folds(labels, keys, 0)
    card = HeadCard.of("", encoder, descriptors)
    given = Given(card, encoder.texts, images, images[some], labels[some], fold[some])
    texts = unit(rng.standard_normal((DESCRIPTORS, DIM), dtype=np.float32))
    product = statistics.median(seconds(lambda: images @ texts.T) for _ in range(3))
    heads = seconds(lambda: [method.entry.fit(method, given, seed) for method in methods for seed in method.seeds])
    began = time.perf_counter()
    outcomes = measure(methods, given, photos)
    figures(outcomes, photos, descriptors.classes, Plan())
    everything = time.perf_counter() - began - heads  # to word, draw and encode texts is another matter
    [described] = outcomes["describe"]
    best = described.ranked[:, :2], described.scores[:, :2]
    [head] = described.fit.heads
    assert isinstance(head, Pooled)
    credit = statistics.median(seconds(lambda: leave_one_out(head, photos, best)) for _ in range(3))
    # Not ru_maxrss, which a process takes over from the one that started it.
    [peak_kib] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    peak = int(peak_kib) / 2**20
    print(
        json.dumps(
            {
                "runs": sum(map(len, outcomes.values())),
                "product": product,
                "all": everything,
                "credit": credit,
                "peak_gib": peak,
                "top1": described.right(labels).mean(),
            }
        )
    )


def seconds(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
