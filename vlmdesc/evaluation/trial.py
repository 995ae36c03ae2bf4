"""Edits tried: chosen by what they gain on one half of the images, and measured on the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vlmdesc.errors import InputError
from vlmdesc.evaluation.candidates import Aim, Candidate, Draft
from vlmdesc.evaluation.effect import Delta, deltas
from vlmdesc.evaluation.statistics import holm
from vlmdesc.records import Edit

COST = 0.01  # of overall accuracy, that an edit may lose on either half
TESTED = 6  # edits that are measured on the other half: each one more makes it harder for all to stand out
EACH = 2  # of these, of one class and kind


@dataclass(frozen=True)
class Tried:
    """Edits of one class with what they did to the images aimed at, and to all: on the half they were chosen on, as
    differences of accuracy, and on the other half.
    """

    kind: str
    edits: tuple[Edit, ...]
    chosen: tuple[float, float]
    target: Delta
    overall: Delta

    @property
    def helps(self) -> bool:
        """Whether the images aimed at gain by more than chance, all tests counted, at next to no cost for all."""
        return self.target.verdict == "better" and self.overall.value >= -COST

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "kind": self.kind,
            "edits": [edit.to_dict() for edit in self.edits],
            "helps": self.helps,
            "chosen": {"target": round(self.chosen[0], 6), "overall": round(self.chosen[1], 6)},
            "target": self.target.to_dict(),
            "overall": self.overall.to_dict(),
        }


def choose(aim: Aim, candidates: Sequence[Candidate]) -> list[tuple[Candidate, float, float]]:
    """The candidates to be measured, with their gain on the images aimed at and on all.

    Those that gain most of the ones that cost no more than a point, and of one class and kind two at most.
    """
    now, rated = ~aim.seen.wrong, []
    for class_ in dict.fromkeys(candidate.class_ for candidate in candidates):
        of_class = [candidate for candidate in candidates if candidate.class_ == class_]
        vectors = np.stack([candidate.vector for candidate in of_class])
        gain = aim.seen.right_with(class_, aim.seen.images.vectors @ vectors.T).astype(np.int8) - now[:, None]
        overall, aimed = gain.mean(axis=0), gain[aim.target].mean(axis=0)
        rated += [*zip(of_class, aimed.tolist(), overall.tolist(), strict=True)]
    rated.sort(key=lambda found: (-found[1], -found[2]))
    kept, taken = list[tuple[Candidate, float, float]](), Counter[tuple[int, str]]()
    for candidate, aimed, overall in rated:
        key = candidate.class_, candidate.kind
        if aimed > 0 and overall >= -COST and taken[key] < EACH and len(kept) < TESTED:
            taken[key] += 1
            kept.append((candidate, aimed, overall))
    return kept


def measure(draft: Draft, chosen: Sequence[tuple[Candidate, float, float]], held: Aim) -> list[Tried]:
    """The chosen edits on held-out images, best first, with Holm's correction over them."""
    found = [_try(draft, candidate.kind, candidate.edits, gains, held) for candidate, *gains in chosen]
    targets, overalls = holm([tried.target.p for tried in found]), holm([tried.overall.p for tried in found])
    found = [
        replace(tried, target=replace(tried.target, p_holm=p), overall=replace(tried.overall, p_holm=q))
        for tried, p, q in zip(found, targets, overalls, strict=True)
    ]
    return sorted(found, key=lambda tried: (not tried.helps, -tried.target.value, -tried.overall.value))


def _try(draft: Draft, kind: str, edits: tuple[Edit, ...], chosen: Sequence[float], held: Aim) -> Tried:
    was, is_ = ~held.seen.wrong, ~held.seen.rescored(draft.edit(edits)).wrong
    target, overall = (deltas([part], was, is_)[0] for part in (held.target, np.ones_like(held.target)))
    return Tried(kind, edits, (chosen[0], chosen[1]), target, overall)


def join(draft: Draft, helping: Sequence[Tried], aim: Aim, held: Aim) -> Tried | None:
    """The edits that help, one after the other as long as each adds to the gain on the half they are chosen on.

    Of two edits of one descriptor of a class the first is kept. None where that leaves those of one suggestion, or
    does not help on the other half.
    """
    kept, gain, n, was = tuple[Edit, ...](), (0.0, 0.0), 0, ~aim.seen.wrong
    for tried in sorted(helping, key=lambda tried: -tried.chosen[0]):
        about = {(edit.class_, edit.text) for edit in kept}
        new = kept + tuple(edit for edit in tried.edits if (edit.class_, edit.text) not in about)
        try:
            is_ = ~aim.seen.rescored(draft.edit(new)).wrong
        except InputError:  # they leave a class with nothing to be scored by
            continue
        aimed = float(is_[aim.target].mean() - was[aim.target].mean())
        overall = float(is_.mean() - was.mean())
        if aimed > gain[0] and overall >= -COST:
            kept, gain, n = new, (aimed, overall), n + 1
    found = _try(draft, "together", kept, gain, held) if n > 1 else None
    return found if found and found.helps else None
