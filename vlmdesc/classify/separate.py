"""What a selection says of classes: which descriptors tell which from which, and a descriptor set of those alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlmdesc.classify.reference import Neighborhood
from vlmdesc.classify.texts import Texts
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptor, Descriptors, Hit, Hits, Selection


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

    Pairs with a class that no image taught are left out. Raises: InputError for a neighbourhood without a profile.
    """
    if found.profile is None:
        raise InputError("nothing was selected", fix="teach the neighbourhood with reference images")
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
    return tuple(Hit(str(d), float(leads[d]), found.texts.said[d]) for d in order.tolist() if leads[d] > 0)


def pruned(descriptors: Descriptors, texts: Texts, selection: Selection, origin: str) -> Descriptors:
    """Each class with the descriptors that are picked for it most often, as many as a candidate gets.

    They may come from any class's list. A class that was never a candidate, or for which nothing was ever picked, keeps
    its own rows.
    """
    m = selection.picked.shape[2]
    told = ~selection.fallback
    classes = np.broadcast_to(selection.candidates[..., None], selection.picked.shape)[told]
    picked = selection.picked[told]
    pairs = np.stack([classes[picked >= 0], picked[picked >= 0]], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True) if len(pairs) else (pairs, np.zeros(0, np.intp))
    order = np.lexsort((found[:, 1], -counts, found[:, 0]))
    chosen: dict[int, list[int]] = {}
    for class_, text in found[order].tolist():
        chosen.setdefault(class_, []).append(text)
    rows: list[Descriptor] = []
    for c, class_ in enumerate(descriptors.classes):
        if c in chosen:
            rows += [Descriptor(class_.id, texts.said[d], origin=origin) for d in chosen[c][:m]]
        else:
            rows += [row for row in descriptors.rows if row.class_id == class_.id]
    return replace(descriptors, rows=tuple(rows))
