"""A head's scores on labelled embeddings, kept: what edits, audits and suggestions read.

Of another version of the head only the classes whose columns changed are scored, and an image's answer follows from
these and from its best class among the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.classification.heads import Head
from vlmdesc.classification.heads.head import check_classes, check_encoder
from vlmdesc.classification.heads.pooled import rescore
from vlmdesc.classification.score import ranking
from vlmdesc.classification.selection import check_labels
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.errors import InputError

BLOCK = 2_048  # images at a time
SAME = 5e-7  # scores nearer than this are equal: one class's may differ so much between two products
Best = tuple[Int[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]


@dataclass(frozen=True, eq=False, repr=False)
class HeadScores:
    """A head's scores (N, C), not to be written to, its answers (N,), and the score of each (N,)."""

    head: Head
    scores: Float32[np.ndarray, "n c"]
    answers: Int[np.ndarray, " n"]
    top: Float32[np.ndarray, " n"]


@dataclass(frozen=True, eq=False, repr=False)
class Scored:
    """A head, labelled embeddings, and the class that each is given, `answers` (N,): of equals the lower number.

    All versions share the table of the first head, N x C numbers of 4 bytes: 200 MB for 50,000 images and 1,000
    classes. A version has besides the scores `new` (N, K) of the classes `changed` (K,), that differ from that head's.
    Scores of two products that are within 5e-7 count as equal.
    """

    head: Head
    images: Labelled
    answers: Int[np.ndarray, " n"]
    table: HeadScores
    changed: Int[np.ndarray, " k"]
    new: Float32[np.ndarray, "n k"]

    @classmethod
    def of(cls, head: Head, images: Labelled) -> Scored:
        """All classes scored.

        Raises: InputError for one class alone; ShapeError for an image whose label is the number of no class.
        """
        n, n_classes = len(images.labels), len(head.card.classes)
        if n_classes < 2:
            raise InputError("one class only", fix="give at least two")
        check_labels(len(images.vectors), images.labels, n_classes)
        scores = np.empty((n, n_classes), np.float32)
        answers, top = np.empty(n, np.intp), np.empty(n, np.float32)
        for block in _blocks(n):
            scores[block] = head.scores(images.vectors[block])
            answers[block], top[block] = scores[block].argmax(axis=1), scores[block].max(axis=1)
        scores.flags.writeable = False
        table = HeadScores(head, scores, answers, top)
        return cls(head, images, answers, table, np.empty(0, np.intp), np.empty((n, 0), np.float32))

    def rescored(self, head: Head) -> Scored:
        """The same images under another head; under another version of a pooled one only what changed is scored.

        Raises: ModelError for a head of another encoder; InputError for one of other classes.
        """
        check_encoder(self.head.card, head.card.encoder, head.card.model)
        check_classes(self.head.card, head.card.classes)
        table, images = self.table, self.images
        found = rescore(table.head, head, images.vectors)
        if found is None:
            return Scored.of(head, images)
        changed, new = found
        if not len(changed):
            return Scored(head, images, table.answers, table, changed, new)
        rival, bar = changed[new.argmax(axis=1)], new.max(axis=1)
        rest, top = table.answers.copy(), table.top.copy()
        lost = np.flatnonzero(np.isin(rest, changed))
        others = table.scores[lost]
        others[:, changed] = -np.inf
        rest[lost], top[lost] = others.argmax(axis=1), others.max(axis=1)
        return Scored(head, images, np.where(ahead(bar, top, rival, rest), rival, rest), table, changed, new)

    @property
    def scores(self) -> Float32[np.ndarray, "n c"]:
        """All of them (N, C), for the first head without a copy."""
        return self._rows(slice(None))

    def best(self, k: int) -> Best:
        """The k best classes of each image, best first, and their scores: (N, k) each."""
        k = min(k, len(self.head.card.classes))
        classes, scores = (np.empty((len(self.answers), k), kind) for kind in (np.intp, np.float32))
        for block in _blocks(len(classes)):
            found = self._rows(block)
            classes[block] = ranking(found, k)
            scores[block] = np.take_along_axis(found, classes[block], axis=1)
        return classes, scores

    @cached_property
    def two(self) -> Best:
        """The two best."""
        return self.best(2)

    @property
    def wrong(self) -> Bool[np.ndarray, " n"]:
        """Which answers are not the label: (N,)."""
        return self.answers != self.images.labels

    def right_with(self, class_: int, scores: Float32[np.ndarray, "n k"]) -> Bool[np.ndarray, "n k"]:
        """Whether each image is right where one class has these scores instead: (N, K)."""
        best, of_best = self.two
        other = np.where(best[:, 0] == class_, 1, 0)[:, None]
        rest, bar = (np.take_along_axis(both, other, axis=1) for both in (best, of_best))
        labels = self.images.labels[:, None]
        return np.where(ahead(scores, bar, np.array(class_), rest), labels == class_, labels == rest)

    def _rows(self, block: slice) -> Float32[np.ndarray, "b c"]:
        """The scores of some images. That of the answer is the highest where another product's is equal to it."""
        found = self.table.scores[block]
        if not len(self.changed):
            return found
        found = found.copy()
        found[:, self.changed] = self.new[block]
        found[np.arange(len(found)), self.answers[block]] = found.max(axis=1)
        return found


def ahead(score: np.ndarray, other: np.ndarray, class_: np.ndarray, other_class: np.ndarray) -> np.ndarray:
    """Whether classes' scores come before others' from another product; of equal ones the lower class number does."""
    return (score > other + SAME) | ((abs(score - other) <= SAME) & (class_ < other_class))


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))
