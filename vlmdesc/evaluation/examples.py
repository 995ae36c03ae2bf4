"""What a report shows of single images and texts: what changed sides, what is confused, what each text is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from vlmdesc.classification.explain import because
from vlmdesc.classification.heads.pooled import Pooled
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation.credit import leave_one_out
from vlmdesc.evaluation.outcomes import REASONS, Outcome
from vlmdesc.records import ClassName
from vlmdesc.records.report import Confusion, Examples, Flip, Flips, Reason, Worth

EXAMPLES = 12  # images shown of those fixed, and of those broken
PAIRS_SHOWN = 50  # confusions kept


def flips(images: Labelled, before: Outcome, after: Outcome, classes: Sequence[ClassName]) -> Flips:
    """Images that are right after and were wrong before, and the reverse: how many, and the clearest of them."""
    was, is_ = before.right(images.labels), after.right(images.labels)
    margin = after.scores[:, 0] - after.scores[:, :2][:, -1]  # of one class alone there is no margin
    order = np.argsort(-margin, kind="stable")

    def clearest(changed: Bool[np.ndarray, " n"]) -> tuple[Flip, ...]:
        """Those of widest margin, one of each class."""
        first = dict[int, int]()
        for i in order[changed[order]].tolist():
            first.setdefault(int(images.labels[i]), i)
        return tuple(_flip(i, images, before, after, classes) for i in [*first.values()][:EXAMPLES])

    fixed, broken = is_ & ~was, was & ~is_
    return Flips(int(fixed.sum()), int(broken.sum()), Examples(clearest(fixed), clearest(broken)))


def _flip(i: int, images: Labelled, before: Outcome, after: Outcome, classes: Sequence[ClassName]) -> Flip:
    """One image, with the descriptors of the second answer, of the true class and of the first answer."""
    truth, was, is_ = int(images.labels[i]), int(before.ranked[i, 0]), int(after.ranked[i, 0])
    reasons = list[Reason]()
    for c in dict.fromkeys((is_, truth, was)) if after.reasons.shape[1] else ():
        [hits] = because(after.fit.heads[0].parts(images.vectors[i : i + 1], np.array([c])), REASONS)
        reasons += [Reason(classes[c].id, h.text, round(h.score, 4)) for h in hits if not np.isnan(h.score)]
    ids = classes[truth].id, classes[was].id, classes[is_].id
    return Flip(images.keys[i], images.rows[i], *ids, tuple(reasons))


def confusions(
    images: Labelled, before: Outcome, after: Outcome, classes: Sequence[ClassName]
) -> tuple[Confusion, ...]:
    """The pairs of true and answered class that are confused most after, how often before, and the first image."""
    now, was = (_count_confusions(images.labels, outcome.ranked[:, 0]) for outcome in (after, before))
    first = dict[tuple[int, int], int]()
    for i, pair in enumerate(zip(images.labels.tolist(), after.ranked[:, 0].tolist(), strict=True)):
        first.setdefault(pair, i)
    order = sorted(now, key=lambda pair: (-now[pair], pair))[:PAIRS_SHOWN]
    return tuple(
        Confusion(
            classes[pair[0]].id,
            classes[pair[1]].id,
            now[pair],
            was[pair],
            images.keys[first[pair]],
            images.rows[first[pair]],
        )
        for pair in order
    )


def _count_confusions(labels: Int[np.ndarray, " n"], answers: Int[np.ndarray, " n"]) -> Counter[tuple[int, int]]:
    wrong = answers != labels
    return Counter(zip(labels[wrong].tolist(), answers[wrong].tolist(), strict=True))


def credit(images: Labelled, outcome: Outcome, classes: Sequence[ClassName]) -> tuple[Worth, ...]:
    """Each descriptor's worth; empty for a head that it is not defined for, and for names."""
    [head, *others] = outcome.fit.heads
    if others or not isinstance(head, Pooled) or not head.folds or len(classes) < 2:
        return ()
    if outcome.method.entry.kind == "name":
        return ()
    found = leave_one_out(head, images, (outcome.ranked[:, :2], outcome.scores[:, :2]))
    worth = (found.only_with - found.only_without) / len(images.labels)
    return tuple(
        Worth(
            classes[found.owner[k]].id,
            outcome.texts[found.columns[k]],
            round(float(worth[k]), 6),
            int(found.only_with[k]),
            int(found.only_without[k]),
        )
        for k in np.argsort(found.columns).tolist()
        if found.defined[k]
    )
