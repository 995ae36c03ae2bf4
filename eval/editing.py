"""The part of `make bench` about edits: what one does to the answers on many images, and where suggestions come from.

python -m eval.editing [N]      prints one line of JSON
"""

from __future__ import annotations

import json
import statistics
import sys

import numpy as np

from eval.evaluating import CLASSES, DESCRIPTORS, DIM, seconds, unit
from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import mean
from vlmdesc.evaluation.effect import answers, effect, leaders
from vlmdesc.evaluation.suggest import ground

GROUPS, WORDS = 10, 64


def main(n: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, DIM), dtype=np.float32)
    labels = np.arange(n) % CLASSES
    images = unit(centres[labels] + 3.5 * rng.standard_normal((n, DIM), dtype=np.float32))
    owner = np.sort(np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, DESCRIPTORS - CLASSES)]))
    texts = unit(centres[owner] + 2 * rng.standard_normal((DESCRIPTORS, DIM), dtype=np.float32))
    weights = np.ones(DESCRIPTORS, np.float32)
    before = Columns(texts, owner, weights, CLASSES)
    changed = texts.copy()
    changed[:5] = unit(rng.standard_normal((5, DIM), dtype=np.float32))
    groups = [f"group {g}" for g in rng.integers(0, GROUPS, n)]

    best = leaders(images, before, "mean")

    def ours() -> object:
        after = Columns(changed, owner, weights, CLASSES)
        return effect(best.classes[:, 0], answers(images, best, before, after, "mean"), labels, groups)

    def twice() -> object:
        """Everything scored before, and everything after."""
        after = Columns(changed, owner, weights, CLASSES)
        return [mean(images, columns).argmax(axis=1) for columns in (before, after)]

    seen = ground(images, labels, np.ones(n, bool), before, "mean")
    drops = unit(rng.standard_normal((WORDS, DIM), dtype=np.float32))

    def one_by_one() -> object:
        return [seen.right_with(0, drops[[i]]) for i in range(WORDS)]

    ours()
    first = lambda: leaders(images, before, "mean")  # noqa: E731
    jobs = {
        "ours": ours,
        "first": first,
        "twice": twice,
        "at_once": lambda: seen.right_with(0, drops),
        "one_by_one": one_by_one,
    }
    times = {name: [seconds(job) for _ in range(3)] for name, job in jobs.items()}
    print(json.dumps({name: statistics.median(found) for name, found in times.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
