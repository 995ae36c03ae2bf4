"""What a head learned from images: as JSON has it, and as a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.heads.head import Head
from vlmdesc.classification.heads.neighborhood import Neighborhood
from vlmdesc.classification.heads.prototypes import Prototypes
from vlmdesc.text import counted, few

Record = dict[str, Any]


def summarize(head: Head) -> Record | None:
    """What a head learned, from how many images, and which classes had none; None for one that learned nothing."""
    fitted, classes = head.card.fitted_on, head.card.classes
    if fitted is None:
        return None
    if isinstance(head, Prototypes):
        without = [classes[c].name for c in np.flatnonzero(np.isnan(head.prototypes[:, 0]))]
        numbers = {"weight": round(head.weight, 6), "texts": 0, "pictures": fitted["images"], "labels": "reference"}
        return numbers | {"classes_without": without}
    if not isinstance(head, Neighborhood):
        return None
    choice, selects = head.choice, head.profile is not None
    record: Record = {
        "k": choice.k,
        "m": choice.m,
        "name_weight": round(choice.name_weight, 6),
        "texts": len(head.texts.descriptors),
        "pictures": fitted["images"],
        "labels": fitted["labels"],
        "ceiling": _round(choice.ceiling),
        "fallback": _round(choice.fallback) if selects else None,
    }
    if fitted["labels"] == "none":
        return record | {"rounds": fitted["rounds"], "settled": fitted["settled"]}
    return record | {
        "left_out": _round(choice.accuracy),
        "left_out_by_name": _round(choice.by_name),
        "classes_without": [classes[c].name for c in head.bare] if selects else [],
    }


def measure(head: Head, images: Float32[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> Record | None:
    """`summarize`, with the ceiling and the fallback of a selection on these images, whose labels teach it nothing."""
    record = summarize(head)
    if record is not None and isinstance(head, Neighborhood):
        selection = head.select(images)
        record["ceiling"] = _round(float((selection.candidates == labels[:, None]).any(axis=1).mean()))
        if head.profile is not None:
            record["fallback"] = _round(float(selection.fallback.mean()))
    return record


def _round(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def sentence(record: Mapping[str, Any]) -> str:
    """What a head learned, from its record, as a sentence."""
    images = counted(record["pictures"], "image")
    without = record.get("classes_without") or []
    bare = f"; {counted(len(without), 'class')} without any: {few(without)}" if without else ""
    if "k" not in record:
        return f"prototypes of {images} of the reference, weight {record['weight']:.2g}{bare}"
    size = f"{counted(record['k'], 'candidate')}, {counted(record['m'], 'descriptor')} each at most"
    size += f", name weight {round(record['name_weight'], 2):g}"
    if record["labels"] == "none":
        rest = "settled" if record["settled"] else "not settled"
        how = f"no labels: {images} under pseudo-labels, {rest} after {counted(record['rounds'], 'round')}"
    elif record["left_out"] is None:
        how = f"{images} of the reference, too few to choose by: k and m as published"
    else:
        right = f"{_percent(record['left_out'])} right when left out, {_percent(record['left_out_by_name'])} by name"
        how = f"the best of many choices on {images} of the reference ({right})"
    limits = {"ceiling": record["ceiling"], "fallback": record["fallback"]}
    told = ", ".join(f"{name} {_percent(share)}" for name, share in limits.items() if share is not None)
    return f"{size}; {how}{'; ' + told if told else ''}{bare}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
