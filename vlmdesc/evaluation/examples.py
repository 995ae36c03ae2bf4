"""What a report shows of single images and texts: what changed sides, what is confused, what each text is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlmdesc.classification.explain import because
from vlmdesc.classification.heads.pooled import Pooled
from vlmdesc.classification.score import POOLS
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation.credit import Best, leave_one_out
from vlmdesc.evaluation.outcomes import REASONS, Outcome
from vlmdesc.records import ClassName

EXAMPLES = 12  # images shown of those fixed, and of those broken


def changes(images: Labelled, before: Outcome, after: Outcome, classes: Sequence[ClassName]) -> dict[str, Any]:
    """Images that are right after and were wrong before, and the reverse: how many, and the clearest of them."""
    was, is_ = before.right(images.labels), after.right(images.labels)
    which = {"fixed": is_ & ~was, "broken": was & ~is_}
    margin = after.scores[:, 0] - after.scores[:, :2][:, -1]  # of one class alone there is no margin
    examples = {
        kind: [_example(int(i), images, before, after, classes) for i in _clearest(changed, margin, images.labels)]
        for kind, changed in which.items()
    }
    return {kind: int(changed.sum()) for kind, changed in which.items()} | {"examples": examples}


def _clearest(changed: np.ndarray, margin: np.ndarray, labels: np.ndarray) -> list[int]:
    """The changed images of widest margin, one of each class."""
    order = [i for i in np.argsort(-margin, kind="stable") if changed[i]]
    first = dict[int, int]()
    for i in order:
        first.setdefault(int(labels[i]), int(i))
    return [*first.values()][:EXAMPLES]


def _example(i: int, images: Labelled, before: Outcome, after: Outcome, classes: Sequence[ClassName]) -> dict[str, Any]:
    """One image: its true class, both answers, and the descriptors of the second answer and of the true class."""
    truth, was, is_ = (int(x) for x in (images.labels[i], before.ranked[i, 0], after.ranked[i, 0]))
    ids = {"truth": truth, "before": was, "after": is_}
    why = [row for class_ in dict.fromkeys((is_, truth, was)) for row in _reasons(i, class_, images, after, classes)]
    about = {"image": images.keys[i], "row": images.rows[i]} | {k: classes[c].id for k, c in ids.items()}
    return about | {"reasons": why}


def _reasons(
    i: int, class_: int, images: Labelled, outcome: Outcome, classes: Sequence[ClassName]
) -> list[dict[str, Any]]:
    if not outcome.reasons.shape[1]:
        return []
    [hits] = because(outcome.fit.heads[0].parts(images.vectors[i : i + 1], np.array([class_])), REASONS)
    return [
        {"class": classes[class_].id, "descriptor": hit.text, "similarity": round(hit.score, 4)}
        for hit in hits
        if not np.isnan(hit.score)
    ]


def with_examples(
    confusions: Sequence[Mapping[str, Any]], images: Labelled, outcome: Outcome, classes: Sequence[ClassName]
) -> list[dict[str, Any]]:
    """Confused pairs, each with the first image of it."""
    place = {class_.id: c for c, class_ in enumerate(classes)}
    first = dict[tuple[int, int], int]()
    for i, pair in enumerate(zip(images.labels.tolist(), outcome.ranked[:, 0].tolist(), strict=True)):
        first.setdefault(pair, i)
    at = [first[place[row["truth"]], place[row["answer"]]] for row in confusions]
    return [{**row, "image": images.keys[i], "row": images.rows[i]} for row, i in zip(confusions, at, strict=True)]


def credit(images: Labelled, outcome: Outcome, classes: Sequence[ClassName]) -> list[dict[str, Any]]:
    """Each descriptor's worth; empty for a head that it is not defined for, and for names."""
    [head, *others] = outcome.fit.heads
    if others or not isinstance(head, Pooled) or not POOLS[head.card.kind].fold or len(classes) < 2:
        return []
    if outcome.method.kind == "name":
        return []
    best = Best(outcome.ranked[:, :2], outcome.scores[:, :2])
    found = leave_one_out(images.vectors, images.labels, best, head.card.kind, head.columns)
    worth = (found.only_with - found.only_without) / len(images.labels)
    return [
        {
            "class": classes[head.columns.owner[m]].id,
            "descriptor": head.columns.descriptors[m],
            "credit": round(float(worth[m]), 6),
            "only_with": int(found.only_with[m]),
            "only_without": int(found.only_without[m]),
        }
        for m in np.flatnonzero(found.defined).tolist()
    ]
