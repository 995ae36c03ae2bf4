"""Classifiers fitted to labelled images: many of the classes that are described, or a few of new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace as with_
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vlmdesc.classification.classifier import JOINING, Classifier
from vlmdesc.classification.heads import HEADS, Fitting, Head, HeadCard
from vlmdesc.classification.heads.folder import check_place, get_fit
from vlmdesc.classification.heads.learned import sentence, summarize
from vlmdesc.classification.heads.neighborhood import Neighborhood, pool_of
from vlmdesc.classification.inputs import check_labelled
from vlmdesc.classification.score import get_pool
from vlmdesc.descriptors.phrase import get_phrase
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.labelled import Labelled, class_numbers, without
from vlmdesc.embeddings.load import encoder_of
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptors
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.join import Lookup
from vlmdesc.records.names import reads_as
from vlmdesc.records.progress import Progress, collect_notes, note, silent
from vlmdesc.text import counted, few


def fit(
    data: Any,
    descriptors: DescriptorSource,
    encoder: Encoder | str | Callable[[], Encoder] = "starter",
    head: str = "prototypes",
    *,
    shots: Any = None,
    phrase: str = "",
    pool: str = "mean",
    split: str = "",
    out: str | Path | None = None,
    replace: bool = False,
    store: Store | bool = True,
    progress: Progress = silent,
) -> Classifier:
    """A classifier whose head learns from labelled images of classes that are described.

    `data` is a data set or what `load_data` takes for one, of that `split`, or labelled embeddings; images of no class
    are passed over. `head` is an entry of `HEADS` that says how it is fitted, such as "prototypes" or "neighborhood",
    and `phrase` and `pool` how its texts are worded and pooled. `shots` are 1 to 16 photographs of each class to learn,
    labelled; labels of no class make new ones, which count by their photographs, calibrated by the others. The head is
    saved in the folder `out`, where a head that is there is kept unless `replace`.

    What is wrong with any of these is told before an encoder is loaded that is given by name or by a function.
    Raises: InputError, also where nothing is given to learn from; ModelError; StoreError.
    """
    make, phrase = get_fit(head), phrase or HEADS[head].phrase
    get_phrase(phrase), get_pool(pool)
    if out is not None:
        check_place(Path(out), replace)
    with collect_notes() as notes:
        described = Descriptors.load(descriptors)
        sources = _open(data, described, shots, split)
        if HEADS[head].picks:
            pool_of(described)
        encoder = encoder_of(encoder)
        given, images, n_new = _embed(*sources, len(described.classes), encoder, store, progress)
        card = HeadCard.of(head, encoder, given, phrase=phrase)
        encode = partial(text_vectors, encoder=encoder, store=store_of(store), progress=progress)

        def base() -> Head:
            return Classifier(encoder, given, pool, phrase=phrase, store=store, progress=progress).head

        found = make(Fitting(card, base, given, encode, images.vectors, images.labels, n_new))
        name = next((source.name for source in sources if isinstance(source, DataSet)), "")
        about = {"data": name, "split": split, "data_hash": images.fingerprint(given.classes)}
        classifier = Classifier(encoder, given, _tell(found, about), store=store)
        if out is not None:
            classifier.save(out, replace=replace)
    classifier.notes, classifier.failed = tuple(notes), images.failed
    return classifier


def _tell(head: Head, about: Mapping[str, str]) -> Head:
    """A head whose card says what it was fitted on; of a selection it is noted what was chosen."""
    if isinstance(head, Neighborhood):
        note(f"selection: {sentence(summarize(head) or {})}")
    card = with_(head.card, fitted_on={**(head.card.fitted_on or {}), **about})
    return with_(head, card=card)  # type: ignore[type-var]


def open_reference(data: Any, descriptors: Descriptors, split: str = "") -> DataSet:
    """A labelled data set; what of it belongs to no class is noted. Raises: InputError when all of it does."""
    if not isinstance(data, DataSet):
        data = load_data(data, split=split)
    numbers, labels = class_numbers(data, descriptors, JOINING)[1], data.labels()
    strange = [label for label, number in zip(labels, numbers, strict=True) if label is not None and number < 0]
    if strange:
        note(f"passed over: {counted(len(strange), 'reference image')} of no class: {few(dict.fromkeys(strange))}")
    return data


def _open(
    data: Any, descriptors: Descriptors, shots: Any, split: str
) -> tuple[Descriptors, DataSet | Labelled | None, DataSet | None]:
    """The images and photographs to fit to, joined to the classes, to which photographs may add some at the end."""
    few_shots, whole = None, descriptors
    if shots is not None:
        few_shots = shots if isinstance(shots, DataSet) else load_data(shots)
        whole = with_(descriptors, classes=(*descriptors.classes, *_new_classes(few_shots, descriptors)))
        class_numbers(few_shots, whole, JOINING)
    elif data is None:
        raise InputError("no images to fit to", fix="give labelled images, or shots")
    known = data if data is None or isinstance(data, Labelled) else open_reference(data, whole, split)
    return whole, known, few_shots


def _new_classes(shots: DataSet, descriptors: Descriptors) -> list[ClassName]:
    """Those that photographs add. Raises: InputError when they have no labels, or one that reads like a class."""
    labels = dict.fromkeys(label for label in shots.labels() if label) if shots.roles.label else {}
    if not labels:
        fix = "put the photographs of each class into a folder of it"
        raise InputError("no class folders", where=shots.name, fix=fix)
    lookup = Lookup(descriptors.classes)
    new = [ClassName(label, label) for label in labels if not lookup(label)]
    read_as = {reads_as(class_.name): class_.name for class_ in descriptors.classes}
    for class_ in new:
        if (twin := read_as.get(reads_as(class_.name))) is not None:
            fix = f"name the folder '{twin}', or choose a name that reads differently"
            raise InputError(f"'{class_.name}' is no class, but reads like '{twin}'", where=shots.name, fix=fix)
    return new


def _embed(
    descriptors: Descriptors,
    known: DataSet | Labelled | None,
    few_shots: DataSet | None,
    n_base: int,
    encoder: Encoder,
    store: Store | bool,
    progress: Progress,
) -> tuple[Descriptors, Labelled, int]:
    """The images and the photographs as one, with the descriptors of their classes, of which so many are new: those
    without a photograph that can be used are left out.
    """
    embed = partial(
        Labelled.of, descriptors=descriptors, encoder=encoder, joining=JOINING, store=store, progress=progress
    )
    if isinstance(known, Labelled):
        card = HeadCard.of("new", encoder, with_(descriptors, classes=descriptors.classes[:n_base]))
        check_labelled(known, card, encoder.name)
    images = embed(known, stage="reference") if isinstance(known, DataSet) else known
    if few_shots is None:
        assert images is not None  # noqa: S101 - one of both is given
        return descriptors, images, 0
    shots = embed(few_shots, stage="photographs")
    images = _join(images, shots)
    seen = {*images.labels.tolist()}
    kept = [c for c in range(len(descriptors.classes)) if c < n_base or c in seen]
    if gone := [class_.name for c, class_ in enumerate(descriptors.classes) if c not in kept]:
        note(f"left out, no photograph can be used: {few(gone)}")  # they would compete by their names alone
    names = few(
        f"{descriptors.classes[c].name}{' (new)' if c >= n_base else ''} from {n}"
        for c, n in zip(*np.unique(shots.labels, return_counts=True), strict=True)
    )
    note(f"learned from {counted(len(shots.labels), 'photograph')}: {names}")
    fewer = with_(descriptors, classes=tuple(descriptors.classes[c] for c in kept))
    return fewer, with_(images, labels=np.searchsorted(kept, images.labels)), len(kept) - n_base


def _join(known: Labelled | None, shots: Labelled) -> Labelled:
    """The images of both, of which each teaches once: one that is left out to be judged has no copy."""
    if known is None:
        return shots
    rest = without(known, shots)
    if n := len(known.labels) - len(rest.labels):
        note(f"{counted(n, 'image')} of the reference left out: among the photographs too")
    return with_(
        shots,
        vectors=np.concatenate([rest.vectors, shots.vectors]),
        labels=np.concatenate([rest.labels, shots.labels]),
        keys=rest.keys + shots.keys,
        rows=rest.rows + shots.rows,
        contents=rest.contents + shots.contents,
        groups=rest.groups + shots.groups,
        failed=rest.failed + shots.failed,
    )
