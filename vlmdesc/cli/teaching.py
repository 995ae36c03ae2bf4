"""A classifier for the command line: from descriptors alone, or taught by labelled pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlmdesc.cli.border import say
from vlmdesc.cli.failures import NAMED
from vlmdesc.cli.options import open_data
from vlmdesc.errors import ImageError, InputError, counted, few, shown

if TYPE_CHECKING:
    import numpy as np

    from vlmdesc.classification.classifier import Classifier
    from vlmdesc.classification.reference import Neighborhood
    from vlmdesc.embeddings.data import DataSet
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.embeddings.store import Store
    from vlmdesc.evaluation.photos import Photos
    from vlmdesc.records import Descriptors


@dataclass(frozen=True)
class Lessons:
    """Descriptors, with the classes that photographs add at the end, and the labelled data sets to learn from."""

    descriptors: Descriptors
    reference: DataSet | None = None
    shots: DataSet | None = None
    n_new: int = 0


def open_lessons(given: Descriptors, reference: str, shots: str, label_column: str = "", split: str = "") -> Lessons:
    """What --reference and --shots name, joined to the classes before a model is loaded.

    Raises: InputError when labels are no classes, or --shots has none.
    """
    from vlmdesc.classification.texts import pool_of
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
        return Lessons(given, known)
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
    return Lessons(whole, known, photos, len(new))


def open_reference(name: str, given: Descriptors, label_column: str = "", split: str = "") -> DataSet:
    """A labelled data set; what of it belongs to no class is told. Raises: InputError when all of it does."""
    data = open_data([name], label_column=label_column, split=split)
    numbers, labels = _numbers(data, given), data.labels()
    strange = [label for label, number in zip(labels, numbers, strict=True) if label is not None and number < 0]
    if strange:
        of = few(dict.fromkeys(strange))
        say(f"passed over: {counted(len(strange), 'reference picture')} of no class: {shown(of)}")
    return data


def taught(
    lessons: Lessons, encoder: Encoder, phrase: str, pool: str, select: bool, stored: bool = True
) -> tuple[Classifier, bool]:
    """The classifier, with what it has learned said on stderr, and whether all pictures for that could be used.

    Raises: InputError, StoreError.
    """
    import numpy as np

    from vlmdesc.classification.classifier import Classifier
    from vlmdesc.cli.progress import encoding_texts
    from vlmdesc.embeddings.store import Store

    descriptors, store = lessons.descriptors, Store() if stored else None
    with tempfile.TemporaryDirectory() as away:
        pictures = store or Store(Path(away))
        known = learned(lessons.reference, descriptors, encoder, pictures, "reference") if lessons.reference else None
        shots = learned(lessons.shots, descriptors, encoder, pictures, "photographs") if lessons.shots else None
        if shots:
            known = _without(known, shots) if known else None
            lessons, shots, known = _with_photographs(lessons, shots, known)
            descriptors = lessons.descriptors
        with encoding_texts(encoder, max(len(descriptors.rows), len(descriptors.classes))) as watched:
            if select and known:
                found = selecting(watched, descriptors, known, phrase, store)
                return Classifier(watched, descriptors, store=store, selection=found), not known.failed
            classifier = Classifier(watched, descriptors, phrase=phrase, pool=pool, store=store)
    if shots is None:
        return classifier, True
    vectors, labels = shots.vectors, shots.labels
    if known:
        vectors, labels = np.concatenate([known.vectors, vectors]), np.concatenate([known.labels, labels])
    n_base = len(descriptors.classes) - lessons.n_new
    names = few(
        f"{descriptors.classes[c].name}{' (new)' if c >= n_base else ''} from {n}"
        for c, n in zip(*np.unique(shots.labels, return_counts=True), strict=True)
    )
    say(f"learned from {counted(len(shots.labels), 'photograph')}: {shown(names)}")
    whole = not shots.failed and not (known and known.failed)
    return classifier.learn(vectors, labels, lessons.n_new), whole


def _with_photographs(lessons: Lessons, shots: Photos, known: Photos | None) -> tuple[Lessons, Photos, Photos | None]:
    """The same without the new classes of which no photograph can be used: they would compete by their names alone."""
    import numpy as np

    classes = lessons.descriptors.classes
    n_base = len(classes) - lessons.n_new
    seen = {*shots.labels.tolist(), *(known.labels.tolist() if known else ())}
    kept = [c for c in range(len(classes)) if c < n_base or c in seen]
    gone = [class_.name for c, class_ in enumerate(classes) if c >= n_base and c not in seen]
    if gone:
        say(f"left out, no photograph can be used: {shown(few(gone))}")
    fewer = replace(lessons.descriptors, classes=tuple(classes[c] for c in kept))
    lessons = replace(lessons, descriptors=fewer, n_new=len(kept) - n_base)

    def numbered(photos: Photos) -> Photos:
        return replace(photos, labels=np.searchsorted(kept, photos.labels))

    return lessons, numbered(shots), numbered(known) if known else None


def _without(known: Photos, shots: Photos) -> Photos:
    """The reference less the photographs: each picture teaches once, and left out to be judged has no copy."""
    from vlmdesc.evaluation.photos import without

    rest = without(known, shots)
    if len(rest.labels) < len(known.labels):
        n = len(known.labels) - len(rest.labels)
        say(f"{counted(n, 'picture')} of the reference left out: among the photographs too")
    return rest


def learned(data: DataSet, descriptors: Descriptors, encoder: Encoder, store: Store, what: str) -> Photos:
    """The embedded pictures of a data set that have a class; those that cannot be used are named."""
    from vlmdesc.cli.progress import stages
    from vlmdesc.evaluation.photos import distinct, gather

    numbers = _numbers(data, descriptors)
    with stages() as stage:
        tick = stage(what, int((numbers >= 0).sum()))
        found = gather(data, numbers, encoder, store, lambda: tick(1))
    name_failures(found.failed)
    return distinct(found)


def embedded(data: DataSet, encoder: Encoder, store: Store) -> tuple[np.ndarray, int]:
    """The embeddings (N, D) of a data set's pictures, and how many could not be used; these are named."""
    import numpy as np

    from vlmdesc.cli.progress import stages
    from vlmdesc.embeddings.embed import embedding

    vectors, failed = [], []
    with stages() as stage:
        tick = stage("pictures", data.n)
        for _, found in embedding(data, encoder, store.images(encoder)):
            if isinstance(found, ImageError):
                failed.append(found)
            else:
                vectors.append(found.vector)
            tick(1)
    name_failures(failed)
    if not vectors:
        raise InputError("no picture can be used", where=data.name, fix="give other pictures")
    return np.stack(vectors), len(failed)


def name_failures(failed: Sequence[ImageError]) -> None:
    """The first of the pictures that could not be used, on stderr, and how many there were."""
    for error in failed[:NAMED]:
        say(f"error: {error}")
    if len(failed) > NAMED:
        say(f"{counted(len(failed), 'picture')} could not be used")


def selecting(
    encoder: Encoder, descriptors: Descriptors, reference: Photos, phrase: str, store: Store | None
) -> Neighborhood:
    """The neighbourhood that a reference teaches, with a line on stderr of what was chosen."""
    from vlmdesc.classification.reference import neighborhood
    from vlmdesc.evaluation.taught import about, sentence

    found = neighborhood(encoder, descriptors, reference.vectors, reference.labels, phrase, store)
    say(f"selection: {shown(sentence(about(found, descriptors.classes)))}")
    return found


def _numbers(data: DataSet, descriptors: Descriptors) -> np.ndarray:
    """Class numbers of a data set's rows; classes may be absent, and labels of no class are passed over."""
    from vlmdesc.evaluation.photos import Joining, class_numbers

    return class_numbers(data, descriptors, Joining(allow_absent=True, ignore_unknown=True))[1]
