"""Classifiers for the command line: from descriptors alone, or fitted to labelled images."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlmdesc.cli.border import say
from vlmdesc.cli.failures import NAMED
from vlmdesc.cli.options import open_data, open_encoder
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, few, shown

if TYPE_CHECKING:
    import numpy as np

    from vlmdesc.classification.classifier import Classifier
    from vlmdesc.classification.heads.neighborhood import Neighborhood
    from vlmdesc.embeddings.data import DataSet
    from vlmdesc.embeddings.labelled import Labelled
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.embeddings.store import Store
    from vlmdesc.records import Descriptors


@dataclass(frozen=True)
class FitData:
    """Descriptors, with the classes that photographs add at the end, and the labelled data sets to fit to."""

    descriptors: Descriptors
    reference: DataSet | None = None
    shots: DataSet | None = None
    n_new: int = 0


def open_fit_data(given: Descriptors, reference: str, shots: str, label_column: str = "", split: str = "") -> FitData:
    """What --reference and --shots name, joined to the classes before a model is loaded.

    Raises: InputError when labels are no classes, or --shots has none.
    """
    from vlmdesc.classification.heads.neighborhood import pool_of
    from vlmdesc.records import ClassName
    from vlmdesc.records.join import Lookup
    from vlmdesc.records.names import reads_as

    if (label_column or split) and not reference:
        option = "--label-column" if label_column else "--reference-split"
        raise InputError(f"{option} without --reference", fix="leave it out")
    known = open_reference(reference, given, label_column, split) if reference else None
    if not shots:
        if known:
            pool_of(given)  # there is something to select from
        return FitData(given, known)
    photos = open_data([shots])
    labels = dict.fromkeys(label for label in photos.labels() if label) if photos.roles.label else {}
    if not labels:
        raise InputError("no class folders", where=shots, fix="put the photographs of each class into a folder of it")
    lookup = Lookup(given.classes)
    new = tuple(ClassName(label, label) for label in labels if not lookup(label))
    read_as = {reads_as(class_.name): class_.name for class_ in given.classes}
    for class_ in new:
        if (twin := read_as.get(reads_as(class_.name))) is not None:
            fix = f"name the folder '{twin}', or choose a name that reads differently"
            raise InputError(f"'{class_.name}' is no class, but reads like '{twin}'", where=shots, fix=fix)
    whole = replace(given, classes=(*given.classes, *new))
    _numbers(photos, whole)
    return FitData(whole, known, photos, len(new))


def open_reference(name: str, given: Descriptors, label_column: str = "", split: str = "") -> DataSet:
    """A labelled data set; what of it belongs to no class is told. Raises: InputError when all of it does."""
    data = open_data([name], label_column=label_column, split=split)
    numbers, labels = _numbers(data, given), data.labels()
    strange = [label for label, number in zip(labels, numbers, strict=True) if label is not None and number < 0]
    if strange:
        of = few(dict.fromkeys(strange))
        say(f"passed over: {counted(len(strange), 'reference image')} of no class: {shown(of)}")
    return data


def fitted(
    wanted: FitData, encoder: Encoder, phrase: str, pool: str, select: bool, stored: bool = True
) -> tuple[Classifier, bool]:
    """The classifier, with what it was fitted to said on stderr, and whether all images for that could be used.

    Raises: InputError, StoreError.
    """
    import numpy as np

    from vlmdesc.classification.classifier import Classifier
    from vlmdesc.cli.progress import encoding_texts
    from vlmdesc.embeddings.store import Store

    descriptors, store = wanted.descriptors, Store() if stored else None
    with tempfile.TemporaryDirectory() as away:
        pictures = store or Store(Path(away))
        known = labelled(wanted.reference, descriptors, encoder, pictures, "reference") if wanted.reference else None
        shots = labelled(wanted.shots, descriptors, encoder, pictures, "photographs") if wanted.shots else None
        if shots:
            known = _without(known, shots) if known else None
            wanted, shots, known = _with_photographs(wanted, shots, known)
            descriptors = wanted.descriptors
        with encoding_texts(encoder, max(len(descriptors.rows), len(descriptors.classes))) as watched:
            if select and known:
                head = select_on(watched, descriptors, known, phrase, store)
                return Classifier(watched, descriptors, head, store=store), not known.failed
            classifier = Classifier(watched, descriptors, pool, phrase=phrase, store=store)
    if shots is None:
        return classifier, True
    vectors, labels = shots.vectors, shots.labels
    if known:
        vectors, labels = np.concatenate([known.vectors, vectors]), np.concatenate([known.labels, labels])
    n_base = len(descriptors.classes) - wanted.n_new
    names = few(
        f"{descriptors.classes[c].name}{' (new)' if c >= n_base else ''} from {n}"
        for c, n in zip(*np.unique(shots.labels, return_counts=True), strict=True)
    )
    say(f"learned from {counted(len(shots.labels), 'photograph')}: {shown(names)}")
    whole = not shots.failed and not (known and known.failed)
    return classifier.fit(vectors, labels, n_new=wanted.n_new), whole


def from_head(
    folder: str, model: str, device: str, precision: str, against: str = "", stored: bool = True
) -> Classifier:
    """The classifier of a head's folder, with its own model where none is given.

    Raises: InputError, also where that is a stranger's repository, which is fetched only when asked for; StoreError.
    """
    from vlmdesc.classification.classifier import Classifier
    from vlmdesc.classification.heads import load_head
    from vlmdesc.embeddings.store import Store
    from vlmdesc.records import Descriptors

    head = load_head(folder)
    if against:
        Descriptors(head.card.classes, ()).find(against)
    named = "" if model == os.environ.get("VLMDESC_MODEL") else model  # a head has a model of its own
    own = precision if precision != "fp32" else head.card.precision
    if head.card.model.startswith("hf-hub:") and head.card.model not in (named, model):
        fix = f"where you trust it, add --model {shlex.quote(head.card.model)}"
        raise InputError(f"the head asks for a model of the hub, {head.card.model}", where=folder, fix=fix)
    if not named:
        say(f"model: {shown(head.card.model)}, as the head says")
    encoder = open_encoder(named or head.card.model, device, own)
    return Classifier(encoder, head=head, store=Store() if stored else None)


def _with_photographs(
    wanted: FitData, shots: Labelled, known: Labelled | None
) -> tuple[FitData, Labelled, Labelled | None]:
    """The same without the new classes of which no photograph can be used: they would compete by their names alone."""
    import numpy as np

    classes = wanted.descriptors.classes
    n_base = len(classes) - wanted.n_new
    seen = {*shots.labels.tolist(), *(known.labels.tolist() if known else ())}
    kept = [c for c in range(len(classes)) if c < n_base or c in seen]
    gone = [class_.name for c, class_ in enumerate(classes) if c >= n_base and c not in seen]
    if gone:
        say(f"left out, no photograph can be used: {shown(few(gone))}")
    fewer = replace(wanted.descriptors, classes=tuple(classes[c] for c in kept))
    wanted = replace(wanted, descriptors=fewer, n_new=len(kept) - n_base)

    def numbered(photos: Labelled) -> Labelled:
        return replace(photos, labels=np.searchsorted(kept, photos.labels))

    return wanted, numbered(shots), numbered(known) if known else None


def _without(known: Labelled, shots: Labelled) -> Labelled:
    """The reference less the photographs: each image teaches once, and left out to be judged has no copy."""
    from vlmdesc.embeddings.labelled import without

    rest = without(known, shots)
    if len(rest.labels) < len(known.labels):
        n = len(known.labels) - len(rest.labels)
        say(f"{counted(n, 'image')} of the reference left out: among the photographs too")
    return rest


def labelled(data: DataSet, descriptors: Descriptors, encoder: Encoder, store: Store, what: str) -> Labelled:
    """The embedded images of a data set that have a class; those that cannot be used are named."""
    from vlmdesc.cli.progress import stages
    from vlmdesc.embeddings.labelled import distinct, gather

    numbers = _numbers(data, descriptors)
    with stages() as stage:
        tick = stage(what, int((numbers >= 0).sum()))
        found = gather(data, numbers, encoder, store, lambda: tick(1))
    name_failures(found.failed)
    return distinct(found)


def embedded(data: DataSet, encoder: Encoder, store: Store) -> tuple[np.ndarray, int]:
    """The embeddings (N, D) of a data set's images, and how many could not be used; these are named."""
    import numpy as np

    from vlmdesc.cli.progress import stages
    from vlmdesc.embeddings.embed import embedding

    vectors, failed = [], []
    with stages() as stage:
        tick = stage("images", data.n)
        for _, found in embedding(data, encoder, store.images(encoder)):
            if isinstance(found, ImageError):
                failed.append(found)
            else:
                vectors.append(found.vector)
            tick(1)
    name_failures(failed)
    if not vectors:
        raise InputError("no image can be used", where=data.name, fix="give other images")
    return np.stack(vectors), len(failed)


def name_failures(failed: Sequence[ImageError]) -> None:
    """The first of the images that could not be used, on stderr, and how many there were."""
    for error in failed[:NAMED]:
        say(f"error: {error}")
    if len(failed) > NAMED:
        say(f"{counted(len(failed), 'image')} could not be used")


def select_on(
    encoder: Encoder, descriptors: Descriptors, reference: Labelled, phrase: str, store: Store | None
) -> Neighborhood:
    """The neighbourhood fitted to a reference, with a line on stderr of what was chosen."""
    from vlmdesc.classification.heads import HeadCard
    from vlmdesc.classification.heads.learned import sentence, summarize
    from vlmdesc.classification.heads.neighborhood import fit_neighborhood, texts_of
    from vlmdesc.embeddings.embed import text_vectors

    texts = texts_of(descriptors, lambda wanted: text_vectors(wanted, encoder, store), phrase)
    card = HeadCard.of("neighborhood", encoder, descriptors, phrase=phrase)
    head = fit_neighborhood(card, texts, reference.vectors, reference.labels)
    say(f"selection: {shown(sentence(summarize(head) or {}))}")
    return head


def _numbers(data: DataSet, descriptors: Descriptors) -> np.ndarray:
    """Class numbers of a data set's rows; classes may be absent, and labels of no class are passed over."""
    from vlmdesc.embeddings.labelled import Joining, class_numbers

    return class_numbers(data, descriptors, Joining(allow_absent=True, ignore_unknown=True))[1]
