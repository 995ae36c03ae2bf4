"""Edits that help, chosen on one half of the images and measured on the other: or the word that none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from vlmdesc.embeddings.labelled import Labelled, first_of_each, take
from vlmdesc.errors import InputError
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.candidates import (
    Aim,
    Candidate,
    Draft,
    additions,
    drops,
    reweighing,
    separating,
)
from vlmdesc.evaluation.effect import CLAIM, Delta, deltas
from vlmdesc.evaluation.lift import RIVALS
from vlmdesc.evaluation.scored import Scored
from vlmdesc.evaluation.statistics import holm, sign_test
from vlmdesc.records import Edit
from vlmdesc.text import counted

Ask = Callable[[Mapping[int, Sequence[int]]], Mapping[int, Sequence[str]]]
COST = 0.01  # of overall accuracy, that an edit may lose on either half
TESTED = 6  # edits that are measured on the other half: each one more makes it harder for all to stand out
EACH = 2  # of these, of one class and kind
CLASSES = 20  # that are looked at for edits


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

    def sides(self) -> dict[str, Delta]:
        """What it did to the images aimed at, and to all, on the held-out half."""
        return {"aimed at": self.target, "all": self.overall}

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "kind": self.kind,
            "edits": [edit.record() for edit in self.edits],
            "helps": self.helps,
            "chosen": {"target": round(self.chosen[0], 6), "overall": round(self.chosen[1], 6)},
            "target": self.target.record(),
            "overall": self.overall.record(),
        }


@dataclass(frozen=True)
class Suggestions:
    """What was tried on held-out images, best first; the edits that helped together, where more than one did."""

    candidates: int
    tried: tuple[Tried, ...]
    together: Tried | None

    @property
    def helping(self) -> list[Tried]:
        return [tried for tried in self.tried if tried.helps]

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What to accept: the edits together, else the best one that helps, or none."""
        if self.together is not None:
            return self.together.edits
        return self.helping[0].edits if self.helping else ()

    @property
    def text(self) -> str:
        """The verdict as a sentence."""
        looked = f"{counted(self.candidates, 'edit')} looked at"
        if not self.candidates:
            return "no edit helps: no image that is aimed at goes wrong, or none can be chosen by"
        if not self.tried:
            return f"no edit helps: {looked}, and none gains on the images they are chosen on"
        few, changed = "", self.tried[0].target.fixed + self.tried[0].target.broken
        if changed > 0 and len(self.tried) * sign_test(changed, 0) >= CLAIM:
            few = f"; {changed} changed answers are too few to tell, more images might"
        of = f"{counted(len(self.tried), 'edit')} measured on held-out images"
        if any(tried.target.verdict == "better" for tried in self.tried) and not self.helping:
            return f"no edit helps: {looked}; of {of} those that gain cost more than a point over all"
        if not self.helping:
            return f"no edit helps: {looked}, and none of {of} is better than chance{few}"
        n = len(self.helping)
        left = n > 1 and self.together is None and "; the patch has the best, to which the others add nothing"
        return f"{n} of {of} {'helps' if n == 1 else 'help'}; {looked}{left or ''}"


def suggest(
    draft: Draft,
    images: Labelled,
    target: Bool[np.ndarray, " n"],
    *,
    borrowed: Sequence[str] = (),
    ask: Ask | None = None,
    seed: int = 0,
    tick: Callable[[int], object] = bool,
) -> Suggestions:
    """Edits that help the images aimed at: chosen on half of all images, measured on the other half.

    Classes, and groups within them, are halved evenly; copies of an image count once. `borrowed` are texts of a pool
    beside the set's own; `ask` is given classes with their rivals and gives texts for some of them. `tick` is told when
    a class is done.
    Raises: InputError where nothing is aimed at, or for one class alone.
    """
    once = first_of_each(images.contents, images.labels, images.groups)
    images, target = take(images, once), target[once]
    choosing = halves(images.labels, images.contents, images.groups, seed) == 0
    if not (target & choosing).any() or not (target & ~choosing).any():
        raise InputError("fewer than two images are aimed at", fix="give more images, or another class and group")
    aim, held = (
        Aim(Scored.of(draft.head, take(images, np.flatnonzero(half).tolist())), target[half])
        for half in (choosing, ~choosing)
    )
    pool = [*dict.fromkeys([*(row.text for row in draft.descriptors.rows if row.text and row.enabled), *borrowed])]
    vectors = draft.encode(pool) if aim.lost.any() else np.empty((0, images.vectors.shape[1]), np.float32)
    fold = calibrate.folds(aim.labels, aim.seen.images.contents, seed)
    found, classes = list[Candidate](), involved(aim)
    asked = ask({class_: rivals_of(aim, class_) for class_ in classes}) if ask else {}
    for class_ in classes:
        found += drops(draft, class_)
        found += filter(None, [reweighing(draft, class_, aim, fold)])
        found += additions(draft, class_, separating(aim, class_, pool, vectors), "borrow")
        found += additions(draft, class_, asked.get(class_, ()), "ask")
        tick(1)
    tried = _measure(draft, choose(aim, found), held)
    together = _together(draft, [t for t in tried if t.helps], aim, held)
    return Suggestions(len(found), tuple(tried), together)


def halves(
    labels: Int[np.ndarray, " n"], contents: Sequence[str], strata: Sequence[str | None], seed: int
) -> Int[np.ndarray, " n"]:
    """0 or 1 for each image: each class, and each group in it, evenly divided; equal contents in one half: (N,)."""
    names = {name: i for i, name in enumerate(dict.fromkeys(strata))}
    group = np.array([names[name] for name in strata], np.intp) if strata else np.zeros(len(labels), np.intp)
    _, stratum = np.unique(labels * (len(names) + 1) + group, return_inverse=True)
    return calibrate.folds(stratum, contents, seed, 2)


def involved(aim: Aim) -> list[int]:
    """The classes that the images aimed at belong to or are taken for where they go wrong, most often first."""
    counts = Counter(aim.labels[aim.lost].tolist())
    counts.update(aim.seen.answers[aim.lost].tolist())
    return [class_ for class_, _ in counts.most_common(CLASSES)]


def rivals_of(aim: Aim, class_: int) -> list[int]:
    """The three classes that a class's images are mostly taken for, or that are taken for it."""
    answers = aim.seen.answers
    counts = Counter(answers[aim.lost & (aim.labels == class_)].tolist())
    counts.update(aim.labels[aim.lost & (answers == class_)].tolist())
    return [rival for rival, _ in counts.most_common(RIVALS)]


def choose(aim: Aim, candidates: Sequence[Candidate]) -> list[tuple[Candidate, float, float]]:
    """The candidates to be measured, with their gain on the images aimed at and on all.

    Those that gain most of the ones that cost no more than a point, and of one class and kind two at most.
    """
    now, rated = ~aim.seen.wrong, []
    for class_ in dict.fromkeys(candidate.class_ for candidate in candidates):
        of_class = [candidate for candidate in candidates if candidate.class_ == class_]
        vectors = np.stack([candidate.vector for candidate in of_class])
        gain = aim.seen.right_with(class_, aim.images @ vectors.T).astype(np.int8) - now[:, None]
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


def _measure(draft: Draft, chosen: Sequence[tuple[Candidate, float, float]], held: Aim) -> list[Tried]:
    """The chosen edits on held-out images, best first, with Holm's correction over them."""
    found = [
        _try(draft, candidate.kind, candidate.edits, (aimed, overall), held) for candidate, aimed, overall in chosen
    ]
    aimed_at, all_ = (holm([getattr(tried, part).p for tried in found]) for part in ("target", "overall"))
    found = [
        replace(tried, target=replace(tried.target, p_holm=p), overall=replace(tried.overall, p_holm=q))
        for tried, p, q in zip(found, aimed_at, all_, strict=True)
    ]
    return sorted(found, key=lambda tried: (not tried.helps, -tried.target.value, -tried.overall.value))


def _try(draft: Draft, kind: str, edits: tuple[Edit, ...], chosen: tuple[float, float], held: Aim) -> Tried:
    was, is_ = ~held.seen.wrong, _right(draft, edits, held)
    target, overall = (deltas([part], was, is_)[0] for part in (held.target, np.ones_like(held.target)))
    return Tried(kind, edits, chosen, target, overall)


def _right(draft: Draft, edits: Sequence[Edit], aim: Aim) -> Bool[np.ndarray, " n"]:
    """Which images are right after some edits: (N,)."""
    return ~aim.seen.rescored(draft.edit(edits)).wrong


def _together(draft: Draft, helping: Sequence[Tried], aim: Aim, held: Aim) -> Tried | None:
    """The edits that help, one after the other as long as each adds to the gain on the half they are chosen on.

    None where that leaves those of one suggestion, or does not help on the other half.
    """
    kept, gain, n, was = tuple[Edit, ...](), (0.0, 0.0), 0, ~aim.seen.wrong
    for tried in sorted(helping, key=lambda tried: -tried.chosen[0]):
        new = _joined(kept, tried.edits)
        try:
            is_ = _right(draft, new, aim)
        except InputError:  # they leave a class with nothing to be scored by
            continue
        aimed = float(is_[aim.target].mean() - was[aim.target].mean())
        overall = float(is_.mean() - was.mean())
        if aimed > gain[0] and overall >= -COST:
            kept, gain, n = new, (aimed, overall), n + 1
    if n < 2:
        return None
    found = _try(draft, "together", kept, gain, held)
    return found if found.helps else None


def _joined(kept: tuple[Edit, ...], new: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """Edits of two suggestions, without those of the second that are about the same descriptor of a class."""
    about = {(edit.class_, edit.text) for edit in kept}
    return kept + tuple(edit for edit in new if (edit.class_, edit.text) not in about)
