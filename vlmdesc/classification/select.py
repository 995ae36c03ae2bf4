"""The descriptors that tell apart the classes that images are confused between, and a set of those alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vlmdesc.classification.classifier import JOINING
from vlmdesc.classification.fit import open_reference
from vlmdesc.classification.heads import HeadCard
from vlmdesc.classification.heads.learned import sentence, summarize
from vlmdesc.classification.heads.neighborhood import (
    Neighborhood,
    Texts,
    fit_neighborhood,
    fit_unlabelled,
    pool_of,
    texts_of,
)
from vlmdesc.descriptors.phrase import PHOTO, get_phrase
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.embed import embedding, text_vectors
from vlmdesc.embeddings.labelled import Joining, Labelled, class_numbers
from vlmdesc.embeddings.load import encoder_of
from vlmdesc.embeddings.pipeline import Encoded
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import ImageError, InputError
from vlmdesc.files import json_lines, write_atomic
from vlmdesc.records import Descriptors, Hit, Hits, Selection
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.progress import Progress, collect_notes, counter, note, silent
from vlmdesc.text import counted

SCHEMA = 1
PAIRS = ".pairs.json"  # of the file beside the descriptors


@dataclass(frozen=True)
class Pair:
    """Two classes that are the first candidates of `images` images, and the descriptors that tell them apart.

    Scores are differences of mean similarity between the reference images of the two, widest first.
    """

    a: str
    b: str
    images: int
    of_a: Hits
    of_b: Hits

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        sides = {"of_a": self.of_a, "of_b": self.of_b}
        leads = {
            side: [{"descriptor": hit.text, "lead": round(hit.score, 6)} for hit in hits]
            for side, hits in sides.items()
        }
        return {"a": self.a, "b": self.b, "pictures": self.images} | leads


@dataclass(frozen=True, repr=False)
class Selected:
    """What tells classes apart on `images` images: the descriptors that do, and the pairs of classes they do it for.

    `fallback` is the share of candidates that no descriptor told from the others, `failed` the images, and those of the
    reference, that could not be used.
    """

    descriptors: Descriptors
    pairs: tuple[Pair, ...]
    head: Neighborhood
    images: int
    fallback: float
    failed: tuple[ImageError, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        pairs = counted(len(self.pairs), "pair")
        return f"<Selected {counted(len(self.descriptors.rows), 'descriptor')}, {pairs}>"

    @property
    def sentence(self) -> str:
        """What was learned, as a sentence."""
        return sentence(summarize(self.head) or {})

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        figures = {"pictures": self.images, "fallback": round(self.fallback, 6)}
        pairs = [pair.to_dict() for pair in self.pairs]
        return {"schema": SCHEMA, "selection": summarize(self.head), **figures, "pairs": pairs}

    def save(self, path: str | Path) -> None:
        """Write the descriptors, and beside them, in NAME.pairs.json, the pairs. Raises: StoreError."""
        self.descriptors.save(path)
        pairs = {"schema": SCHEMA, "pairs": [pair.to_dict() for pair in self.pairs]}
        write_atomic(Path(path).with_suffix(PAIRS), json_lines(pairs).encode())


def select(
    data: DataSet | str | Path,
    descriptors: DescriptorSource,
    encoder: Encoder | str | Callable[[], Encoder] = "starter",
    reference: DataSet | str | Path | None = None,
    *,
    phrase: str = PHOTO,
    only_present: bool = False,
    store: Store | bool = True,
    progress: Progress = silent,
) -> Selected:
    """Find the descriptors that tell apart the classes that images are confused between. Ma et al. 2025.

    `data` needs no labels: for each image the descriptors are picked that tell its few candidate classes apart. Which
    do, `reference` says, labelled images, of whose classes alone with `only_present`; without it the images themselves
    do, under pseudo-labels. Those of a class's own descriptors that are never picked for it are left out. `phrase`
    words the captions that find candidates.

    What is wrong with any of these is told before an encoder is loaded that is given by name or by a function.
    Raises: InputError, also where no image can be used; ModelError; StoreError.
    """
    get_phrase(phrase)
    given = Descriptors.load(descriptors)
    with collect_notes() as notes:
        data = data if isinstance(data, DataSet) else load_data(data)
        if reference is not None:
            reference = open_reference(reference, given)
            if only_present:
                given = class_numbers(reference, given, Joining(only_present=True, ignore_unknown=True))[0]
        elif only_present:
            raise InputError("only classes that are present, without a reference", fix="give labelled images")
        pool_of(given)
        encoder, kept = encoder_of(encoder), store_of(store)
        images, failed = _embed(data, encoder, kept, progress)
        known = None
        if reference is not None:
            options = {"joining": JOINING, "store": store, "stage": "reference", "progress": progress}
            known = Labelled.of(reference, given, encoder, **options)  # type: ignore[arg-type]
            failed = failed + known.failed
        texts = texts_of(given, partial(text_vectors, encoder=encoder, store=kept, progress=progress), phrase)
        card = HeadCard.of("neighborhood", encoder, given, phrase=phrase)
        head = (
            fit_neighborhood(card, texts, known.vectors, known.labels) if known else fit_unlabelled(card, texts, images)
        )
        if known and not only_present and len(head.bare) > len(given.classes) / 2:
            note("most classes have no reference images; --only-present, only_present=True, leaves these out")
        selection = head.select(images)
        pairs = tell_apart(head, selection)
        told = sum(pair.images for pair in pairs)
        if told < len(images) and head.choice.k > 1:
            why = "for want of reference images of one of its first two classes"
            note(f"in no pair: {counted(len(images) - told, 'image')}, {why}")
    meta = dict(given.meta) | {"selection": (summarize(head) or {}) | {"model": encoder.name, "phrase": phrase}}
    pruned = replace(prune(given, texts, selection), meta=meta)
    return Selected(pruned, pairs, head, len(images), float(selection.fallback.mean()), failed, tuple(notes))


def _embed(
    data: DataSet, encoder: Encoder, store: Store | None, progress: Progress
) -> tuple[Float32[np.ndarray, "n d"], tuple[ImageError, ...]]:
    """The embeddings (N, D) of a data set's images, and those that could not be used. Raises: InputError for all."""
    vectors, failed, more = [], [], counter(progress, "images", data.n)
    for _, found in embedding(data, encoder, store.images(encoder) if store else None):
        if isinstance(found, Encoded):
            vectors.append(found.vector)
        else:
            failed.append(found)
        more(1)
    if not vectors:
        details = tuple(map(str, failed[:1]))
        raise InputError("no image can be used", where=data.name, fix="give other images", details=details)
    return np.stack(vectors), tuple(failed)


def tell_apart(head: Neighborhood, selection: Selection) -> tuple[Pair, ...]:
    """The pairs of classes that images have for their first two candidates, the most frequent first.

    Pairs with a class of which the reference has no image are left out. Raises: InputError without a profile.
    """
    if head.profile is None:
        raise InputError("nothing was selected", fix="fit the neighbourhood to reference images")
    if selection.candidates.shape[1] < 2:
        return ()
    bare, ids = set(head.bare.tolist()), [class_.id for class_ in head.card.classes]
    counts = Counter((min(a, b), max(a, b)) for a, b in selection.candidates[:, :2].tolist())
    pairs = [pair for pair in sorted(counts, key=lambda pair: (-counts[pair], pair)) if not bare & {*pair}]
    return tuple(Pair(ids[a], ids[b], counts[a, b], _leads(head, a, b), _leads(head, b, a)) for a, b in pairs)


def _leads(head: Neighborhood, a: int, b: int) -> Hits:
    """The descriptors whose profile is higher at a than at b, as many as a candidate gets."""
    assert head.profile is not None  # noqa: S101 - checked by the caller
    leads = head.profile[a] - head.profile[b]
    order = np.argsort(-leads, kind="stable")[: head.choice.m]
    return tuple(Hit(str(d), float(leads[d]), head.texts.descriptors[d]) for d in order.tolist() if leads[d] > 0)


def prune(descriptors: Descriptors, texts: Texts, selection: Selection) -> Descriptors:
    """Each class with those of its own descriptors that are picked for it for some image: what tells it from a rival.

    A class that was never a candidate, or for which none of its own was picked, keeps all; rows that do not count stay.
    """
    picked = np.where(selection.fallback[..., None], -1, selection.picked)
    classes = np.broadcast_to(selection.candidates[..., None], picked.shape)
    pairs = {*zip(classes[picked >= 0].tolist(), picked[picked >= 0].tolist(), strict=True)}
    number = {text: d for d, text in enumerate(texts.descriptors)}
    owner, counts = descriptors.owner.tolist(), (descriptors.weights > 0).tolist()
    rows = [*zip(descriptors.rows, owner, counts, strict=True)]
    tells = [count and (c, number.get(row.text)) in pairs for row, c, count in rows]
    some = {c for c, tell in zip(owner, tells, strict=True) if tell}
    kept = (
        row
        for (row, c, count), tell in zip(rows, tells, strict=True)
        if tell or c not in some or not count or row.text not in number
    )
    return replace(descriptors, rows=tuple(kept), history=())
