"""What an edit of descriptors does to the answers: for all images, for each class, for each group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from vlmdesc.classification.heads.pooled import fit_pooled
from vlmdesc.classification.score import get_pool
from vlmdesc.descriptors.phrase import get_phrase
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.labelled import Joining, Labelled, only
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import InputError
from vlmdesc.evaluation import html
from vlmdesc.evaluation.proportions import paired_interval
from vlmdesc.evaluation.scored import Scored
from vlmdesc.evaluation.setting import Loader, embed_labelled
from vlmdesc.evaluation.statistics import holm, sign_test
from vlmdesc.evaluation.thumbnails import thumbnails
from vlmdesc.files import write_atomic
from vlmdesc.records import Descriptors, Edit
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.progress import Progress, collect_notes, silent
from vlmdesc.text import counted, p_value

CLAIM, EXAMPLES = 0.05, 24
FEWEST = 6  # changed answers, all one way, that chance seldom gives: 2 / 2**6 < 0.05
LENIENT = Joining(allow_absent=True, ignore_unknown=True)


@dataclass(frozen=True)
class Delta:
    """Right answers of the same `n` images before and after: how many, which came and which went, and p.

    `p` is the exact McNemar test's; `p_holm` has Holm's correction over the classes that changed, or over all groups.
    """

    n: int
    before: int
    fixed: int
    broken: int
    p: float
    p_holm: float

    @property
    def value(self) -> float:
        """Accuracy after less accuracy before."""
        return (self.fixed - self.broken) / self.n if self.n else 0.0

    @cached_property
    def ci95(self) -> tuple[float, float]:
        """The paired 95 % interval of `value`."""
        both = self.before - self.broken
        return paired_interval(both, self.broken, self.fixed, self.n - both - self.broken - self.fixed)

    @property
    def verdict(self) -> str:
        """ "better", "worse", "none" where no answer changed from or to a right one, else "noise"."""
        if not self.fixed + self.broken:
            return "none"
        return ("better" if self.value > 0 else "worse") if self.p_holm < CLAIM else "noise"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        shares = {"before": self.before / self.n, "after": self.before / self.n + self.value} if self.n else {}
        figures = shares | {"delta": self.value, "p": self.p, "p_holm": self.p_holm}
        rounded = {name: round(value, 6) for name, value in figures.items()}
        counts = {"n": self.n, "fixed": self.fixed, "broken": self.broken}
        return counts | rounded | {"ci95": [round(end, 6) for end in self.ci95], "verdict": self.verdict}


@dataclass(frozen=True, repr=False)
class Effect:
    """What a change of descriptors does: the class numbers answered before and after, (N,) each, of the same images.

    `edits` are what was changed, as far as the history of the set says, and `task` what it was measured with.
    """

    images: Labelled
    before: Int[np.ndarray, " n"]
    after: Int[np.ndarray, " n"]
    data: DataSet | None = None
    edits: tuple[Edit, ...] = ()
    task: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def right(self) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Which answers were right before, and which are after: (N,) each."""
        return self.before == self.images.labels, self.after == self.images.labels

    @cached_property
    def overall(self) -> Delta:
        """The change over all images."""
        return deltas([np.ones(len(self.before), bool)], *self.right)[0]

    @cached_property
    def classes(self) -> dict[int, Delta]:
        """The change of each class whose right answers changed, by its number."""
        labels, (was, is_) = self.images.labels, self.right
        changed = np.unique(labels[was != is_]).tolist()
        return dict(zip(changed, deltas([labels == c for c in changed], was, is_), strict=True))

    @cached_property
    def groups(self) -> dict[str, Delta]:
        """The change of each group."""
        names = sorted({group for group in self.images.groups if group is not None})
        group_of = np.array(self.images.groups, object)
        return dict(zip(names, deltas([group_of == name for name in names], *self.right), strict=True))

    @property
    def text(self) -> str:
        """The verdict as a sentence; noise is not called an improvement."""
        all_, moved = self.overall, int((self.before != self.after).sum())
        if all_.verdict == "none":
            wrong = f"{counted(moved, 'answer')} changed, from one wrong class to another"
            return f"no effect: {wrong if moved else 'no answer changed'}"
        flips = f"{all_.fixed:,} fixed, {all_.broken:,} broken of {counted(all_.n, 'image')} (p {p_value(all_.p)})"
        if all_.verdict == "noise":
            few = f"; fewer than {FEWEST} changes can never be told" if all_.fixed + all_.broken < FEWEST else ""
            return f"not to be told from chance: {flips}{few}"
        return f"{all_.verdict}: {flips}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, with the images that changed sides, one of a class first."""
        classes, (was, is_) = self.images.classes, self.right
        return {
            "schema": 1,
            "task": {**self.task},
            "failed": len(self.images.failed),
            "unlabelled": self.images.unlabelled,
            "verdict": {"code": self.overall.verdict, "text": self.text},
            "overall": self.overall.to_dict(),
            "groups": [{"group": name, **delta.to_dict()} for name, delta in self.groups.items()],
            "classes": [
                {"class": classes[c].id, "name": classes[c].name, **delta.to_dict()}
                for c, delta in sorted(self.classes.items(), key=lambda pair: -abs(pair[1].value))
            ],
            "examples": {
                "fixed": [self._example(i) for i in _spread(np.flatnonzero(is_ & ~was), self.images.labels)],
                "broken": [self._example(i) for i in _spread(np.flatnonzero(was & ~is_), self.images.labels)],
            },
        }

    def save(self, page: str | Path) -> None:
        """Write the HTML page, with the images that changed sides. Raises: StoreError when it cannot be written."""
        found = self.to_dict() | {"edits": [str(one) for one in self.edits]}
        rows = [image["row"] for kind in found["examples"].values() for image in kind]
        images = thumbnails(self.data, rows) if self.data else {}
        name = self.data.name if self.data else ""
        write_atomic(Path(page), html.page("effect.html.j2", found, name, self.images.classes, images).encode())

    def __repr__(self) -> str:
        return f"<Effect: {self.text}>"

    def _example(self, i: int) -> dict[str, Any]:
        of = {"truth": self.images.labels, "before": self.before, "after": self.after}
        ids = {name: self.images.classes[int(numbers[i])].id for name, numbers in of.items()}
        return {"image": self.images.keys[i], "row": self.images.rows[i], "group": self.images.groups[i], **ids}


def effect(
    before: DescriptorSource,
    after: DescriptorSource,
    data: DataSet | str | Path,
    encoder: Loader,
    *,
    phrase: str = "plain",
    pool: str = "mean",
    joining: Joining = LENIENT,
    store: Store | bool = True,
    progress: Progress = silent,
) -> Effect:
    """What going from one descriptor set to another does to the answers on labelled images.

    Both are scored on the same embeddings, so that differences are paired. By default classes may go without an image,
    and images of no class are left out.
    Raises: InputError for sets of other classes, an unknown phrase or pool, or data that does not fit; StoreError.
    """
    get_pool(pool), get_phrase(phrase)
    old, new = Descriptors.load(before), Descriptors.load(after)
    if old.position.keys() != new.position.keys():
        raise InputError("the edit changes which classes there are", fix="save it without --on, then use vlmdesc eval")
    data = load_data(data) if isinstance(data, (str, Path)) else data
    with collect_notes() as notes:
        images, encoder, _ = embed_labelled(data, old, encoder, joining, store, progress)
        ids, kept = [class_.id for class_ in images.classes], store_of(store)
        was, is_ = (fit_pooled(encoder, only(set_, ids), phrase, pool, kept) for set_ in (old, new))
        seen = Scored.of(was, images)
        answers = seen.answers, seen.rescored(is_).answers
    n = len(old.history)
    edits = tuple(done.edit for done in new.history[n:]) if new.history[:n] == old.history else ()
    task = {"data": data.name, "encoder": encoder.name, "phrase": phrase, "pool": pool}
    return Effect(images, *answers, data, edits, task, tuple(notes))


def deltas(
    parts: Sequence[Bool[np.ndarray, " n"]], was: Bool[np.ndarray, " n"], is_: Bool[np.ndarray, " n"]
) -> list[Delta]:
    """How right answers (N,) changed in some parts of the images, (N,) each; Holm's correction is over the parts."""
    counts = []
    for part in parts:
        fixed, broken = int((part & is_ & ~was).sum()), int((part & was & ~is_).sum())
        counts.append((int(part.sum()), int((part & was).sum()), fixed, broken, sign_test(fixed, broken)))
    adjusted = holm([count[-1] for count in counts])
    return [Delta(*count, p_holm) for count, p_holm in zip(counts, adjusted, strict=True)]


def _spread(rows: Int[np.ndarray, " f"], labels: Int[np.ndarray, " n"]) -> list[int]:
    """Some of these images: the first of each class, then the second of each, and so on."""
    seen = Counter[int]()

    def turn(row: int) -> int:
        seen[int(labels[row])] += 1
        return seen[int(labels[row])]

    return sorted(rows.tolist(), key=turn)[:EXAMPLES]
