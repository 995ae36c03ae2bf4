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
from vlmdesc.classification.heads import HeadCard
from vlmdesc.classification.heads.pooled import Pooled
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation.effect import Effect
from vlmdesc.evaluation.scored import Scored
from vlmdesc.records import ClassName

GROUPS, WORDS = 10, 64


def main(n: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, DIM), dtype=np.float32)
    labels = np.arange(n) % CLASSES
    images = unit(centres[labels] + 3.5 * rng.standard_normal((n, DIM), dtype=np.float32))
    owner = np.sort(np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, DESCRIPTORS - CLASSES)]))
    texts = unit(centres[owner] + 2 * rng.standard_normal((DESCRIPTORS, DIM), dtype=np.float32))
    weights = np.ones(DESCRIPTORS, np.float32)
    classes = tuple(ClassName(str(c), str(c)) for c in range(CLASSES))
    card = HeadCard("mean", classes, "random")
    before = Pooled(card, Columns(texts, owner, weights, CLASSES))
    changed = texts.copy()
    changed[:5] = unit(rng.standard_normal((5, DIM), dtype=np.float32))
    keys = tuple(map(str, range(n)))
    groups = tuple(f"group {g}" for g in rng.integers(0, GROUPS, n))
    photos = Labelled(images, labels, keys, tuple(range(n)), keys, groups)
    seen = Scored.of(before, photos)

    def ours() -> object:
        after = Pooled(card, Columns(changed, owner, weights, CLASSES))
        found = Effect(photos, seen.answers, seen.rescored(after).answers)
        return found.overall, found.classes, found.groups

    def twice() -> object:
        """Everything scored before, and everything after."""
        after = Pooled(card, Columns(changed, owner, weights, CLASSES))
        return [head.scores(images).argmax(axis=1) for head in (before, after)]

    assert seen.two
    drops = unit(rng.standard_normal((WORDS, DIM), dtype=np.float32))

    def one_by_one() -> object:
        return [seen.right_with(0, images @ drops[[i]].T) for i in range(WORDS)]

    ours()
    jobs = {
        "ours": ours,
        "first": lambda: Scored.of(before, photos),
        "twice": twice,
        "at_once": lambda: seen.right_with(0, images @ drops.T),
        "one_by_one": one_by_one,
    }
    times = {name: [seconds(job) for _ in range(3)] for name, job in jobs.items()}
    print(json.dumps({name: statistics.median(found) for name, found in times.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
