"""Whom a classifier fails, and what misleads it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlmdesc.cache import make_folder
from vlmdesc.classification.heads import Head
from vlmdesc.classification.heads.pooled import fit_pooled
from vlmdesc.classification.score import get_pool
from vlmdesc.concepts.vocabulary import open_vocabulary
from vlmdesc.descriptors.phrase import get_phrase
from vlmdesc.embeddings.data import DataSet
from vlmdesc.embeddings.embed import save_failures, text_vectors
from vlmdesc.embeddings.labelled import Joining
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import ImageError, InputError
from vlmdesc.evaluation.disparity import Cell, Disparity, Record, compare_groups, round_all, share_record
from vlmdesc.evaluation.failure import Failure, explain
from vlmdesc.evaluation.grouping import group_by_concepts
from vlmdesc.evaluation.html import data_name, page
from vlmdesc.evaluation.predictions import ERRORS
from vlmdesc.evaluation.proportions import difference
from vlmdesc.evaluation.run import make_writable
from vlmdesc.evaluation.scored import Scored
from vlmdesc.evaluation.setting import STRICT, Loader, Source, check_images, embed_labelled, open_labelled
from vlmdesc.evaluation.thumbnails import thumbnails
from vlmdesc.files import json_lines, write_atomic
from vlmdesc.records import Descriptors
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.progress import Progress, collect_notes, silent
from vlmdesc.text import counted

MOST = 20  # failed classes that are explained


@dataclass(frozen=True, repr=False)
class Audit:
    """Whom a head fails: `disparity` has the figures, `failures` what misleads in the groups that fare worse.

    `grouping` says how groups were made where no column has them, `task` what was audited with what.
    """

    seen: Scored
    disparity: Disparity
    failures: tuple[Failure, ...]
    grouping: str = ""
    task: Mapping[str, Any] = field(default_factory=dict)
    data: DataSet | None = None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[ImageError, ...]:
        """The images that could not be used."""
        return self.seen.images.failed

    def to_dict(self) -> Record:
        """As JSON has it: figures, and for each class that fails a group the descriptors and images that show it."""
        found, worst = self.disparity, self.disparity.worst_cell
        return {
            "schema": 1,
            "n": found.overall.n,
            "unusable": len(self.failed),
            "unlabelled": self.seen.images.unlabelled,
            "pulls_defined": self.seen.head.card.kind != "max",
            "ungrouped": found.ungrouped,
            "accuracy": share_record(found.overall),
            "groups": [{"group": name, **gap.to_dict()} for name, gap in found.groups.items()],
            "worst_group": found.worst_group,
            "worst_class_in_group": worst and {**self._cell(worst), "accuracy": share_record(worst.tpr.here)},
            "equal_opportunity": self._opportunity(),
            "max_skew": self._skew(),
            "failed": [self._failure(failure) for failure in self.failures],
            "failed_in_all": len(found.failed),
            "judged": sum(cell.tpr.judged for cell in found.cells),
            "cells": [{**self._cell(cell), **cell.rates()} for cell in found.cells],
            "too_small": [{**self._cell(cell), "n": cell.tpr.here.n} for cell in found.small],
            "grouping": self.grouping,
            "task": {**self.task},
        }

    def save(self, folder: str | Path) -> None:
        """Write audit.json, audit.html, and errors.jsonl where images could not be used. Raises: StoreError."""
        folder, record = Path(folder), self.to_dict()
        make_folder(folder)
        write_atomic(folder / "audit.json", json_lines(record).encode())
        rows = [image["row"] for failure in record["failed"] for image in failure["images"]]
        images = {} if self.data is None else thumbnails(self.data, rows)
        html = page("audit.html.j2", record, data_name(self.task), self.seen.head.card.classes, images)
        write_atomic(folder / "audit.html", html.encode())
        save_failures(folder / ERRORS, self.failed, self.seen.images.failed_labels)

    def __repr__(self) -> str:
        return f"<Audit: {self.text}>"

    @property
    def text(self) -> str:
        """How many are right in the groups that fare worst and best, in words."""
        found = self.disparity
        size = f"{counted(found.overall.n, 'image')} in {counted(len(found.groups), 'group')}"
        ends = sorted(found.groups.items(), key=lambda item: item[1].here.value)
        shares = [f"{name} {100 * gap.here.value:.1f} % right" for name, gap in (*ends[:1], *ends[1:][-1:])]
        return f"{size}; {', '.join(shares)}; {counted(len(found.failed), 'class')} in a group fare worse"

    def _cell(self, cell: Cell) -> Record:
        return {**self._class(cell.class_), "group": cell.group}

    def _class(self, c: int) -> Record:
        class_ = self.seen.head.card.classes[c]
        return {"class": class_.id, "name": class_.name}

    def _opportunity(self) -> Record:
        """For each class how far the group that is found least is behind the one that is found most, largest first."""
        rows = []
        for class_, cells in self.disparity.equal_opportunity().items():
            most, least = cells[-1].tpr.here, cells[0].tpr.here
            rows.append(
                {
                    **self._class(class_),
                    "gap": round(most.value - least.value, 6),
                    # of the ends of several an interval says nothing
                    "ci95": round_all(difference(most, least)) if len(cells) == 2 else None,
                    "least": {"group": cells[0].group, **share_record(least)},
                    "most": {"group": cells[-1].group, **share_record(most)},
                }
            )
        return _spread(rows, "gap")

    def _skew(self) -> Record:
        skews = self.disparity.skews
        rows = [{**self._class(s.class_), "k": s.k, "group": s.group, "value": round(s.value, 6)} for s in skews]
        return _spread(rows, "value")

    def _failure(self, failure: Failure) -> Record:
        cell = failure.cell
        return {
            **self._cell(cell),
            "how": "not found" if cell.failed else "others taken for it",
            **cell.rates(),
            "taken_for": [{**self._class(rival), "n": n} for rival, n in failure.rivals],
            "pulls": [{**self._class(lift.class_), **lift.to_dict()} for lift in failure.lifts],
            "images": [self._image(i) for i in failure.images],
        }

    def _image(self, i: int) -> Record:
        images, classes = self.seen.images, self.seen.head.card.classes
        truth, answer = classes[int(images.labels[i])].id, classes[int(self.seen.answers[i])].id
        return {"image": images.keys[i], "row": images.rows[i], "truth": truth, "answer": answer}


def audit(
    data: Source,
    descriptors: DescriptorSource | Head,
    encoder: Loader,
    *,
    group: str = "",
    by_concepts: bool = False,
    classes: Sequence[str] = (),
    phrase: str = "plain",
    pool: str = "mean",
    k: int | None = None,
    vocabulary: str = "",
    joining: Joining = STRICT,
    store: Store | bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Audit:
    """Find whom a descriptor set, or a head, fails, and which descriptors do it.

    `group` is the column of the data set that divides the images, by default the one that it was loaded with;
    `by_concepts` divides them by clusters of errors instead, named by a `vocabulary` (a file of words, or a set). Only
    `classes` are looked at, by default all; `k` best images of a class are those that MaxSkew is about. `phrase` and
    `pool` are for descriptors: a head has its own. With `out`, a folder, it is saved there.
    Raises: InputError for groups, classes or data that do not fit; ModelError for a head of another encoder;
    StoreError.
    """
    fitted = descriptors if isinstance(descriptors, Head) else None
    given = _descriptors_of(descriptors)
    for wanted in classes:
        given.find(wanted)
    get_pool(pool), get_phrase(phrase)
    if out is not None:
        make_writable(Path(out))
    words, data = open_vocabulary(vocabulary) if by_concepts else (), open_labelled(data, group)
    opened = data if isinstance(data, DataSet) else None
    if (group and by_concepts) or (opened is not None and not opened.roles.group and not by_concepts):
        what = "both --group-column and --group-by-concepts" if group else "no groups"
        raise InputError(
            what,
            fix="give group (--group-column) with a column of the data set, or else by_concepts (--group-by-concepts)",
        )
    with collect_notes() as notes:
        images, encoder, given = embed_labelled(data, given, encoder, joining, store, progress)
        head = fitted or fit_pooled(encoder, given, phrase, pool, store_of(store))
        check_images(head.card, images)
        seen, grouping = Scored.of(head, images), ""
        if by_concepts:
            vectors = text_vectors(words, encoder, store_of(store), progress)
            made = group_by_concepts(images, seen.answers, words, vectors, seed)
            seen, grouping = replace(seen, images=replace(images, groups=made.groups)), made.text
    at = [*dict.fromkeys(given.find(name) for name in classes)] or [*range(len(given.classes))]
    found = compare_groups(seen.answers, images.labels, seen.images.groups, at, seen.scores[:, at], k)
    failures = tuple(explain(seen, cell) for cell in found.failed[:MOST])
    name = str(descriptors) if isinstance(descriptors, (str, Path)) else head.card.name
    audited = Audit(seen, found, failures, grouping, _task(seen, opened, name), opened, tuple(notes))
    if out is not None:
        audited.save(out)
    return audited


def _descriptors_of(source: DescriptorSource | Head) -> Descriptors:
    """What `source` stands for; of a head its classes alone."""
    return Descriptors(source.card.classes, ()) if isinstance(source, Head) else Descriptors.load(source)


def _task(seen: Scored, data: DataSet | None, descriptors: str) -> Record:
    card = seen.head.card
    return {
        "data": "" if data is None else data.name,
        "columns": {} if data is None else {**vars(data.roles)},
        "data_hash": seen.images.fingerprint(card.classes),
        "descriptors": descriptors,
        "encoder": {"name": card.model, "fingerprint": card.encoder},
        "phrase": card.settings.get("phrase", ""),
        "pool": card.kind,
    }


def _spread(rows: list[Record], name: str) -> Record:
    """Rows, largest first, with the largest and the mean of one of their figures."""
    values = [row[name] for row in rows]
    largest, mean = (max(values), round(sum(values) / len(values), 6)) if values else (None, None)
    return {"largest": largest, "mean": mean, "classes": sorted(rows, key=lambda row: -row[name])}
