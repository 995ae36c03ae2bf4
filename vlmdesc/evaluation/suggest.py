"""Edits that help, chosen on one half of the images and measured on the other: or the word that none does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from vlmdesc.classification.heads.pooled import fit_pooled
from vlmdesc.classification.score import get_fold
from vlmdesc.descriptors.patch import write_patch
from vlmdesc.descriptors.phrase import get_phrase
from vlmdesc.embeddings.data import DataSet
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.labelled import Joining, Labelled, first_of_each, take
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import ImageError, InputError
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.candidates import Aim, Candidate, Draft, add, drop, halves, reweigh, separate
from vlmdesc.evaluation.effect import CLAIM
from vlmdesc.evaluation.failure import RIVALS
from vlmdesc.evaluation.scored import Scored
from vlmdesc.evaluation.setting import STRICT, Loader, Source, check_images, embed_labelled, open_labelled
from vlmdesc.evaluation.statistics import sign_test
from vlmdesc.evaluation.trial import Tried, choose, join, measure
from vlmdesc.records import Descriptors, Edit
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.names import MAX_TEXT
from vlmdesc.records.progress import Progress, collect_notes, counter, silent
from vlmdesc.text import counted, few, shown

Ask = Callable[[Mapping[int, Sequence[int]]], Mapping[int, Sequence[str]]]
CLASSES = 20  # that are looked at for edits
AUTHOR = "vlmdesc suggest"


@dataclass(frozen=True, repr=False)
class Suggestions:
    """What was tried on held-out images, best first; the edits that helped together, where more than one did.

    `aim` says in words what was aimed at, `task` what it was measured with; `failed` are images that could not be used.
    """

    candidates: int
    tried: tuple[Tried, ...]
    together: Tried | None
    aim: str = "all images"
    task: Mapping[str, Any] = field(default_factory=dict)
    failed: tuple[ImageError, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def helping(self) -> list[Tried]:
        return [tried for tried in self.tried if tried.helps]

    @property
    def best(self) -> Tried | None:
        """What to accept: the edits together, else the best one that helps, or none."""
        return self.together or next(iter(self.helping), None)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits to accept."""
        return self.best.edits if self.best else ()

    @property
    def text(self) -> str:
        """The verdict as a sentence."""
        looked = f"{counted(self.candidates, 'edit')} looked at"
        if not self.candidates:
            return "no edit helps: no image that is aimed at goes wrong, or none can be chosen by"
        if not self.tried:
            return f"no edit helps: {looked}, and none gains on the images they are chosen on"
        too_few, changed = "", self.tried[0].target.fixed + self.tried[0].target.broken
        if changed > 0 and len(self.tried) * sign_test(changed, 0) >= CLAIM:
            too_few = f"; {changed} changed answers are too few to tell, more images might"
        of, n = f"{counted(len(self.tried), 'edit')} measured on held-out images", len(self.helping)
        if n:
            left = n > 1 and self.together is None and "; the patch has the best, to which the others add nothing"
            return f"{n} of {of} {'helps' if n == 1 else 'help'}; {looked}{left or ''}"
        if any(tried.target.verdict == "better" for tried in self.tried):
            return f"no edit helps: {looked}; of {of} those that gain cost more than a point over all"
        return f"no edit helps: {looked}, and none of {of} is better than chance{too_few}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "schema": 1,
            **self.task,
            "verdict": self.text,
            "candidates": self.candidates,
            "tried": [tried.to_dict() for tried in self.tried],
            "together": self.together and self.together.to_dict(),
            "edits": [edit.to_dict() for edit in self.edits],
        }

    def save(self, path: str | Path) -> None:
        """Write the edits as a patch, each with who suggests it, when and why. Raises: StoreError."""
        if self.best is None:
            raise InputError("no edit helps: there is nothing to save", fix="look at `edits` first")
        when, target = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), self.best.target
        gain = f"{100 * target.value:+.1f} points on {target.n} held-out images"
        why = shown(f"{self.aim}: {gain}" + (", with the others, picked by these too" if self.together else ""))
        signed = (replace(edit, who=AUTHOR, when=when, why=why[:MAX_TEXT]) for edit in self.edits)
        edits = [replace(edit, origin=AUTHOR) if edit.op == "add" else edit for edit in signed]
        write_patch(path, edits)

    def __repr__(self) -> str:
        return f"<Suggestions: {self.text}>"


def suggest(
    data: Source,
    descriptors: DescriptorSource,
    encoder: Loader,
    *,
    class_: str = "",
    group: str = "",
    group_column: str = "",
    borrow: Sequence[DescriptorSource] = (),
    ask: Ask | None = None,
    phrase: str = "plain",
    pool: str = "mean",
    joining: Joining = STRICT,
    store: Store | bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Suggestions:
    """Edits of descriptors that help the images of a class, of a group, of a class in a group, or all of them.

    They are chosen on half of the images and measured on the other. `group_column` has the groups, by default that
    which the data set was loaded with. Descriptors are borrowed from other classes and from the sets to `borrow`;
    `ask` is given the numbers of classes with those of their rivals, and gives texts for some of them.
    Raises: InputError for what does not fit, or where fewer than two images are aimed at; StoreError.
    """
    given = Descriptors.load(descriptors)
    if class_:
        given.find(class_)
    if not get_phrase(phrase).reads_descriptor:
        raise InputError(f"phrase '{phrase}' reads no descriptors", fix="use another --phrase, such as plain")
    get_fold(pool, "suggestions")
    lent = [row.text for set_ in borrow for row in Descriptors.load(set_).rows if row.text and row.enabled]
    data = open_labelled(data, group_column)
    if group and isinstance(data, DataSet) and not data.roles.group:
        raise InputError("--group without --group-column", fix="say which column of the data set has groups")
    with collect_notes() as notes:
        images, encoder, given = embed_labelled(data, given, encoder, joining, store, progress)
        encode = partial(text_vectors, encoder=encoder, store=store_of(store))
        head = fit_pooled(encoder, given, phrase, pool, store_of(store))
        check_images(head.card, images)
        draft = Draft(given, head, encode)
        name = data.name if isinstance(data, DataSet) else ""
        target = _aim_at(images, given, class_, group, name)
        found = suggest_edits(draft, images, target, borrowed=lent, ask=ask, seed=seed, progress=progress)
    aim = " in ".join(filter(None, (class_, group))) or "all images"
    task = {"data": name, "encoder": encoder.name, "seed": seed}
    return replace(found, aim=aim, task=task, failed=images.failed, notes=tuple(notes))


def _aim_at(images: Labelled, given: Descriptors, class_: str, group: str, where: str) -> Bool[np.ndarray, " n"]:
    """Which images are aimed at: (N,). Raises: InputError where there is none."""
    target = np.ones(len(images.labels), bool)
    if class_:
        target &= images.labels == given.find(class_)
    if group:
        target &= np.array([name == group for name in images.groups])
    if not target.any():
        groups = few(dict.fromkeys(name for name in images.groups if name is not None), 12)
        what = "no image" + (f" of class '{class_}'" if class_ else "") + (f" in group '{group}'" if group else "")
        raise InputError(what, where=where, fix=f"groups: {groups}" if group else "give images of it")
    return target


def suggest_edits(
    draft: Draft,
    images: Labelled,
    target: Bool[np.ndarray, " n"],
    *,
    borrowed: Sequence[str] = (),
    ask: Ask | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Suggestions:
    """Edits that help the images aimed at: chosen on half of all images, measured on the other half.

    Classes, and groups within them, are halved evenly; copies of an image count once. `borrowed` are texts of a pool
    beside the set's own; `ask` is as for `suggest`.
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
    fold = calibrate.folds(aim.seen.images.labels, aim.seen.images.contents, seed)
    found, classes = list[Candidate](), classes_at_stake(aim)
    asked = ask({c: rivals_of(aim, c) for c in classes}) if ask else {}
    done = counter(progress, "classes", len(classes))
    for c in classes:
        found += drop(draft, c)
        found += reweigh(draft, c, aim, fold)
        found += add(draft, c, separate(aim, c, pool, vectors), "borrow")
        found += add(draft, c, asked.get(c, ()), "ask")
        done(1)
    tried = measure(draft, choose(aim, found), held)
    return Suggestions(len(found), tuple(tried), join(draft, [t for t in tried if t.helps], aim, held))


def classes_at_stake(aim: Aim) -> list[int]:
    """The classes that the images aimed at belong to or are taken for where they go wrong, most often first."""
    counts = Counter(aim.seen.images.labels[aim.lost].tolist())
    counts.update(aim.seen.answers[aim.lost].tolist())
    return [class_ for class_, _ in counts.most_common(CLASSES)]


def rivals_of(aim: Aim, class_: int) -> list[int]:
    """The three classes that a class's images are mostly taken for, or that are taken for it."""
    answers = aim.seen.answers
    counts = Counter(answers[aim.lost & (aim.seen.images.labels == class_)].tolist())
    counts.update(aim.seen.images.labels[aim.lost & (answers == class_)].tolist())
    return [rival for rival, _ in counts.most_common(RIVALS)]
