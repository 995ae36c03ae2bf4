"""What a selection says of classes: which descriptors tell which from which, and a descriptor set of those alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlmdesc.classification.heads.neighborhood import Neighborhood, Texts
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptors, Hit, Hits, Selection


@dataclass(frozen=True)
class Apart:
    """Two classes that are the first candidates of `images` images, and the descriptors that tell them apart.

    Scores are differences of mean similarity between the reference images of the two, widest first.
    """

    a: str
    b: str
    images: int
    of_a: Hits
    of_b: Hits


def apart(found: Neighborhood, selection: Selection, class_ids: Sequence[str]) -> list[Apart]:
    """The pairs of classes that images have for their first two candidates, the most frequent first.

    Pairs with a class of which the reference has no image are left out. Raises: InputError without a profile.
    """
    if found.profile is None:
        raise InputError("nothing was selected", fix="fit the neighbourhood to reference images")
    if selection.candidates.shape[1] < 2:
        return []
    bare = set(found.bare.tolist())
    counts = Counter((min(a, b), max(a, b)) for a, b in selection.candidates[:, :2].tolist())
    pairs = [pair for pair in sorted(counts, key=lambda pair: (-counts[pair], pair)) if not bare & {*pair}]
    return [Apart(class_ids[a], class_ids[b], counts[a, b], _leads(found, a, b), _leads(found, b, a)) for a, b in pairs]


def _leads(found: Neighborhood, a: int, b: int) -> Hits:
    """The descriptors whose profile is higher at a than at b, as many as a candidate gets."""
    assert found.profile is not None  # noqa: S101 - checked by the caller
    leads = found.profile[a] - found.profile[b]
    order = np.argsort(-leads, kind="stable")[: found.choice.m]
    return tuple(Hit(str(d), float(leads[d]), found.texts.descriptors[d]) for d in order.tolist() if leads[d] > 0)


def prune(descriptors: Descriptors, texts: Texts, selection: Selection) -> Descriptors:
    """Each class with those of its own descriptors that are picked for it for some image: what tells it from a rival.

    A class that was never a candidate, or for which none of its own was picked, keeps all; rows that do not count stay.
    """
    told = ~selection.fallback
    classes = np.broadcast_to(selection.candidates[..., None], selection.picked.shape)[told].ravel()
    picked = selection.picked[told].ravel()
    pairs = {*zip(classes[picked >= 0].tolist(), picked[picked >= 0].tolist(), strict=True)}
    number = {text: d for d, text in enumerate(texts.descriptors)}
    rows = [*zip(descriptors.rows, descriptors.owner.tolist(), strict=True)]
    tells = [(c, number.get(row.text)) in pairs for row, c in rows]
    some = {c for (_, c), tell in zip(rows, tells, strict=True) if tell}
    kept = (row for (row, c), tell in zip(rows, tells, strict=True) if tell or c not in some or row.text not in number)
    return replace(descriptors, rows=tuple(kept), history=())
