"""Edits that help, chosen on one half of the pictures and measured on the other: or the word that none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.classification.columns import Columns, columns_of
from vlmdesc.descriptors.edit import edited
from vlmdesc.embeddings.labelled import first_of_each
from vlmdesc.errors import InputError, counted
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.candidates import (
    Candidate,
    Ground,
    Wording,
    additions,
    drops,
    reweighing,
    separating,
)
from vlmdesc.evaluation.credit import Best
from vlmdesc.evaluation.effect import CLAIM, Delta, answers, deltas, leaders
from vlmdesc.evaluation.pulls import RIVALS
from vlmdesc.evaluation.statistics import holm, sign_test
from vlmdesc.records import Edit

Ask = Callable[[Mapping[int, Sequence[int]]], Mapping[int, Sequence[str]]]
COST = 0.01  # of overall accuracy, that an edit may lose on either half
TESTED = 6  # edits that are measured on the other half: each one more makes it harder for all to stand out
EACH = 2  # of these, of one class and kind
CLASSES = 20  # that are looked at for edits


@dataclass(frozen=True)
class Tried:
    """Edits of one class with what they did to the pictures aimed at, and to all: on the half they were chosen on, as
    differences of accuracy, and on the other half.
    """

    kind: str
    edits: tuple[Edit, ...]
    chosen: tuple[float, float]
    target: Delta
    overall: Delta

    @property
    def helps(self) -> bool:
        """Whether the pictures aimed at gain by more than chance, all tests counted, at next to no cost for all."""
        return self.target.verdict == "better" and self.overall.value >= -COST

    def sides(self) -> dict[str, Delta]:
        """What it did to the pictures aimed at, and to all, on the held-out half."""
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
    """What was tried on held-out pictures, best first; the edits that helped together, where more than one did."""

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
            return "no edit helps: no picture that is aimed at goes wrong, or none can be chosen by"
        if not self.tried:
            return f"no edit helps: {looked}, and none gains on the pictures they are chosen on"
        few, changed = "", self.tried[0].target.fixed + self.tried[0].target.broken
        if changed > 0 and len(self.tried) * sign_test(changed, 0) >= CLAIM:
            few = f"; {changed} changed answers are too few to tell, more pictures might"
        of = f"{counted(len(self.tried), 'edit')} measured on held-out pictures"
        if any(tried.target.verdict == "better" for tried in self.tried) and not self.helping:
            return f"no edit helps: {looked}; of {of} those that gain cost more than a point over all"
        if not self.helping:
            return f"no edit helps: {looked}, and none of {of} is better than chance{few}"
        n = len(self.helping)
        left = n > 1 and self.together is None and "; the patch has the best, to which the others add nothing"
        return f"{n} of {of} {'helps' if n == 1 else 'help'}; {looked}{left or ''}"


def ground(
    images: Float32[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    target: Bool[np.ndarray, " n"],
    columns: Columns,
    pool: str,
) -> Ground:
    """Pictures with the two classes that are best for each now. Raises: InputError for fewer than two classes."""
    if columns.n_classes < 2:
        raise InputError("one class only", fix="give at least two")
    best = leaders(images, columns, pool, 2)
    return Ground(images, labels, target, best.classes, best.scores)


def suggest(
    wording: Wording,
    images: Float32[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    target: Bool[np.ndarray, " n"],
    contents: Sequence[str],
    strata: Sequence[str | None] = (),
    *,
    borrowed: Sequence[str] = (),
    ask: Ask | None = None,
    seed: int = 0,
    tick: Callable[[int], object] = bool,
) -> Suggestions:
    """Edits that help the pictures aimed at: chosen on half of all pictures, measured on the other half.

    Classes, and groups (`strata`) within them, are halved evenly; copies of a picture count once. `borrowed`
    are texts of a pool beside the set's own; `ask` is given classes with their rivals and gives texts for some of them.
    `tick` is told when a class is done.
    Raises: InputError where nothing is aimed at.
    """
    once = first_of_each(contents, labels, strata)
    images, labels, target = images[once], labels[once], target[once]
    contents, strata = [contents[i] for i in once], [strata[i] for i in once] if strata else ()
    choosing = halves(labels, contents, strata, seed) == 0
    if not (target & choosing).any() or not (target & ~choosing).any():
        raise InputError("fewer than two pictures are aimed at", fix="give more pictures, or another class and group")
    seen, held = (
        ground(images[half], labels[half], target[half], wording.columns, wording.pool)
        for half in (choosing, ~choosing)
    )
    pool = [*dict.fromkeys([*(row.text for row in wording.descriptors.rows if row.text and row.enabled), *borrowed])]
    vectors = wording.encode(pool) if (seen.target & seen.wrong).any() else np.empty((0, images.shape[1]), np.float32)
    fold = calibrate.folds(seen.labels, [content for content, c in zip(contents, choosing, strict=True) if c], seed)
    found, classes = list[Candidate](), involved(seen)
    asked = ask({class_: rivals_of(seen, class_) for class_ in classes}) if ask else {}
    for class_ in classes:
        found += _candidates(wording, class_, seen, fold, pool, vectors, asked.get(class_, ()))
        tick(1)
    chosen = choose(seen, found)
    tried = _measured(wording, chosen, held)
    together = _together(wording, [t for t in tried if t.helps], seen, held)
    return Suggestions(len(found), tuple(tried), together)


def halves(
    labels: Int[np.ndarray, " n"], contents: Sequence[str], strata: Sequence[str | None], seed: int
) -> Int[np.ndarray, " n"]:
    """0 or 1 for each picture: each class, and each group in it, evenly divided; equal contents in one half: (N,)."""
    names = {name: i for i, name in enumerate(dict.fromkeys(strata))}
    group = np.array([names[name] for name in strata], np.intp) if strata else np.zeros(len(labels), np.intp)
    _, stratum = np.unique(labels * (len(names) + 1) + group, return_inverse=True)
    return calibrate.folds(stratum, contents, seed, 2)


def involved(seen: Ground) -> list[int]:
    """The classes that the pictures aimed at belong to or are taken for where they go wrong, most often first."""
    lost = seen.target & seen.wrong
    counts = Counter(seen.labels[lost].tolist())
    counts.update(seen.best[lost, 0].tolist())
    return [class_ for class_, _ in counts.most_common(CLASSES)]


def rivals_of(seen: Ground, class_: int) -> list[int]:
    """The three classes that a class's pictures are mostly taken for, or that are taken for it."""
    lost, answers = seen.target & seen.wrong, seen.best[:, 0]
    counts = Counter(answers[lost & (seen.labels == class_)].tolist())
    counts.update(seen.labels[lost & (answers == class_)].tolist())
    return [rival for rival, _ in counts.most_common(RIVALS)]


def choose(seen: Ground, candidates: Sequence[Candidate]) -> list[tuple[Candidate, float, float]]:
    """The candidates to be measured, with their gain on the pictures aimed at and on all.

    Those that gain most of the ones that cost no more than a point, and of one class and kind two at most.
    """
    now, rated = ~seen.wrong, []
    for class_ in dict.fromkeys(candidate.class_ for candidate in candidates):
        of_class = [candidate for candidate in candidates if candidate.class_ == class_]
        right = seen.right_with(class_, np.stack([candidate.vector for candidate in of_class]))
        gain = right.astype(np.int8) - now[:, None]
        overall, aimed = gain.mean(axis=0), gain[seen.target].mean(axis=0)
        rated += [*zip(of_class, aimed.tolist(), overall.tolist(), strict=True)]
    rated.sort(key=lambda found: (-found[1], -found[2]))
    kept, taken = list[tuple[Candidate, float, float]](), Counter[tuple[int, str]]()
    for candidate, aimed, overall in rated:
        key = candidate.class_, candidate.kind
        if aimed > 0 and overall >= -COST and taken[key] < EACH and len(kept) < TESTED:
            taken[key] += 1
            kept.append((candidate, aimed, overall))
    return kept


def _candidates(
    wording: Wording,
    class_: int,
    seen: Ground,
    fold: Int[np.ndarray, " n"],
    pool: Sequence[str],
    vectors: Float32[np.ndarray, "m d"],
    asked: Sequence[str],
) -> Iterator[Candidate]:
    yield from drops(wording, class_)
    if reweighed := reweighing(wording, class_, seen, fold):
        yield reweighed
    yield from additions(wording, class_, separating(seen, class_, pool, vectors), "borrow")
    yield from additions(wording, class_, asked, "ask")


def _measured(wording: Wording, chosen: Sequence[tuple[Candidate, float, float]], held: Ground) -> list[Tried]:
    """The chosen edits on held-out pictures, best first, with Holm's correction over them."""
    found = [
        _try(wording, candidate.kind, candidate.edits, (aimed, overall), held) for candidate, aimed, overall in chosen
    ]
    aimed_at, all_ = (holm([getattr(tried, part).p for tried in found]) for part in ("target", "overall"))
    found = [
        replace(tried, target=replace(tried.target, p_holm=p), overall=replace(tried.overall, p_holm=q))
        for tried, p, q in zip(found, aimed_at, all_, strict=True)
    ]
    return sorted(found, key=lambda tried: (not tried.helps, -tried.target.value, -tried.overall.value))


def _try(wording: Wording, kind: str, edits: tuple[Edit, ...], chosen: tuple[float, float], held: Ground) -> Tried:
    was, is_ = ~held.wrong, _right(wording, edits, held)
    target, overall = (deltas([part], was, is_)[0] for part in (held.target, np.ones_like(held.target)))
    return Tried(kind, edits, chosen, target, overall)


def _right(wording: Wording, edits: Sequence[Edit], seen: Ground) -> Bool[np.ndarray, " n"]:
    """Which pictures are right after some edits: (N,)."""
    after = columns_of(edited(wording.descriptors, edits), wording.encode, wording.phrase)
    best = Best(seen.best, seen.scores)
    return answers(seen.images, best, wording.columns, after, wording.pool) == seen.labels


def _together(wording: Wording, helping: Sequence[Tried], seen: Ground, held: Ground) -> Tried | None:
    """The edits that help, one after the other as long as each adds to the gain on the half they are chosen on.

    None where that leaves those of one suggestion, or does not help on the other half.
    """
    kept, gain, n, was = tuple[Edit, ...](), (0.0, 0.0), 0, ~seen.wrong
    for tried in sorted(helping, key=lambda tried: -tried.chosen[0]):
        new = _joined(kept, tried.edits)
        try:
            is_ = _right(wording, new, seen)
        except InputError:  # they leave a class with nothing to be scored by
            continue
        aimed = float(is_[seen.target].mean() - was[seen.target].mean())
        overall = float(is_.mean() - was.mean())
        if aimed > gain[0] and overall >= -COST:
            kept, gain, n = new, (aimed, overall), n + 1
    if n < 2:
        return None
    found = _try(wording, "together", kept, gain, held)
    return found if found.helps else None


def _joined(kept: tuple[Edit, ...], new: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """Edits of two suggestions, without those of the second that are about the same descriptor of a class."""
    about = {(edit.class_, edit.text) for edit in kept}
    return kept + tuple(edit for edit in new if (edit.class_, edit.text) not in about)
