"""The texts of a neighbourhood: a caption of each class, and the descriptors of all of them to pick from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.score import Columns
from vlmdesc.descriptors.phrase import PHOTO, completed, get_phrase, texts
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptors

OWN = 15  # most descriptors that a candidate may get


@dataclass(frozen=True)
class Texts:
    """What can be said of C classes: a caption of each (C, D), and M texts to pick from, of any class, each once.

    `own` (C, R) are numbers of each class's own texts, -1 padded. `names` and `said` are captions and texts as a
    person reads them.
    """

    captions: Float32[np.ndarray, "c d"]
    texts: Float32[np.ndarray, "m d"]
    own: Int[np.ndarray, "c r"]
    names: Sequence[str]
    said: Sequence[str]


def texts_of(encoder: Encoder, descriptors: Descriptors, phrase: str = PHOTO, store: Store | None = None) -> Texts:
    """Captions in that phrase and the descriptors of all classes, encoded, or from the store."""
    said, own = pool_of(descriptors)
    whole, _ = completed(descriptors, get_phrase(phrase))
    rows = texts(whole, get_phrase(phrase))
    vectors = text_vectors([*rows, *said], encoder, store)
    columns = Columns(vectors[: len(rows)], whole.owner, whole.weights, len(whole.classes))
    names = [rows[columns.rows_of(c)[0]] for c in range(len(whole.classes))]
    return Texts(columns.means, vectors[len(rows) :], own, names, said)


def pool_of(descriptors: Descriptors) -> tuple[list[str], Int[np.ndarray, "c r"]]:
    """The descriptors of all classes that count, each text once, in row order; and the numbers of each class's own, the
    first 15 in that order.

    Raises: InputError when there is none.
    """
    number: dict[str, int] = {}
    lists: list[set[int]] = [set() for _ in descriptors.classes]
    for row, owner, weight in zip(descriptors.rows, descriptors.owner, descriptors.weights, strict=True):
        if row.text and weight > 0:
            lists[owner].add(number.setdefault(row.text, len(number)))
    if not number:
        raise InputError("no descriptors to pick from", fix="give a descriptor set with texts, not names alone")
    own = np.full((len(lists), OWN), -1, np.intp)
    for c, list_ in enumerate(lists):
        own[c, : min(OWN, len(list_))] = sorted(list_)[:OWN]
    return [*number], own
