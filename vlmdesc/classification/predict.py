"""Scores and parts of a head as predictions with reasons, and these as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmdesc.classification.explain import because, contrast
from vlmdesc.classification.heads import Head
from vlmdesc.classification.score import ranking
from vlmdesc.embeddings.pipeline import Encoded
from vlmdesc.errors import InputError
from vlmdesc.records import Contrast, Hit, Hits, Prediction

if TYPE_CHECKING:
    import pandas as pd


def predict(
    head: Head, items: Sequence[Encoded], top_k: int, reasons: int, rival: int | None, model: str
) -> list[Prediction]:
    """The best `top_k` classes of each image, and as many `reasons`.

    `rival` is the number of the class that the winner is set against, the second class where it is the winner itself,
    or -1; None for nothing.
    """
    if not items:
        return []
    vectors, n = np.stack([item.vector for item in items]), len(items)
    scores = head.scores(vectors)
    best = ranking(scores, max(top_k, 2))
    lead = best[:, 0]
    why, against = [Hits()] * n, list[Contrast | None]([None] * n)

    def hit(class_: int, i: int) -> Hit:
        found = head.card.classes[class_]
        return Hit(found.id, float(scores[i, class_]), found.name)

    if rival is not None and best.shape[1] > 1:
        other = np.where((lead == rival) | (rival < 0), best[:, 1], rival)
        both, twice = np.concatenate([lead, other]), np.concatenate
        parts = head.parts(twice([vectors, vectors]), both, twice([scores, scores]))  # a head selects once for both
        sides = parts.take(slice(n)), parts.take(slice(n, None))
        pairs = enumerate(zip(lead.tolist(), other.tolist(), strict=True))
        against = [contrast((hit(a, i), hit(b, i)), sides, i) for i, (a, b) in pairs]
        why = because(sides[0], reasons)
    elif reasons:
        why = because(head.parts(vectors, lead, scores), reasons)
    ranked = [tuple(hit(class_, i) for class_ in classes) for i, classes in enumerate(best.tolist())]
    margins = [hits[0].score - hits[1].score if len(hits) > 1 else 0.0 for hits in ranked]
    return [
        Prediction(item.key, hits[:top_k], because_, margin, against_, item.notes, model)
        for item, hits, because_, margin, against_ in zip(items, ranked, why, margins, against, strict=True)
    ]


def to_frame(predictions: Any) -> pd.DataFrame:
    """Predictions as a pandas DataFrame, a row an image: its class by name and id, the score of it and the margin to
    the second, the reasons, the scores of all classes that are kept, and notes.
    """
    import pandas as pd

    columns = ["image", "class", "id", "score", "margin", "because", "ranked", "notes"]
    several = [predictions] if isinstance(predictions, Prediction) else predictions
    rows = []
    for found in several if isinstance(several, Iterable) else [several]:
        if not isinstance(found, Prediction):
            what = f"{type(found).__name__} where a prediction is meant"
            raise InputError(what, fix="give what a classifier gives")
        best, reasons = found.ranked[0], "; ".join(hit.text for hit in found.because)
        ranked = {hit.text: hit.score for hit in found.ranked}
        row = (found.key, best.text, best.key, best.score, found.margin, reasons, ranked, "; ".join(found.notes))
        rows.append(row)
    return pd.DataFrame(rows, columns=columns)
