"""Labelled embeddings: the images of a data set, embedded once and joined to classes by id, name or alias."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int
from numpy.typing import ArrayLike

from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.embed import embedding
from vlmdesc.embeddings.kind import IMAGES
from vlmdesc.embeddings.load import encoder_of
from vlmdesc.embeddings.pipeline import Encoded
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import ImageError, InputError, ShapeError
from vlmdesc.records import ClassName, Descriptors
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.join import Lookup, join
from vlmdesc.records.names import reads_as
from vlmdesc.records.progress import Progress, collect_notes, counter, note, silent
from vlmdesc.text import counted, few

T = TypeVar("T")


@dataclass(frozen=True)
class Joining:
    """How labels find their classes: strictly by default.

    `aliases` are labels of the data set that stand for a class; with `loose` a label may differ in case, blanks,
    hyphens and underscores. `only_present` scores among the classes that have an image, `allow_absent` among all;
    with `ignore_unknown` images of no class are left out.
    """

    aliases: Mapping[str, str] | None = None
    loose: bool = False
    only_present: bool = False
    allow_absent: bool = False
    ignore_unknown: bool = False


@dataclass(frozen=True)
class Labelled:
    """Labelled images: embeddings (N, D), class numbers (N,), and for each its key, row, content hash and group.

    `classes` are those that the numbers count, `encoder` is the fingerprint of what made the embeddings; nothing where
    that is not known. `failed` are the images that could not be used, `notes` what a person should know.
    """

    vectors: Float32[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    keys: tuple[str, ...]
    rows: tuple[int, ...]
    contents: tuple[str, ...]
    groups: tuple[str | None, ...]
    failed: tuple[ImageError, ...] = ()
    failed_labels: tuple[str | None, ...] = ()
    unlabelled: int = 0
    classes: tuple[ClassName, ...] = ()
    encoder: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        data: object,
        descriptors: DescriptorSource,
        encoder: Encoder | str,
        *,
        joining: Joining = Joining(),
        store: Store | bool = True,
        once: bool = True,
        stage: str = "images",
        progress: Progress = silent,
    ) -> Labelled:
        """The images of a labelled data set, embedded and joined to classes.

        `data` is what `load_data` takes, or labelled already; `descriptors` has the classes. With `once`, of several
        images of one content, label and group the first is kept. What cannot be used is among `failed`. What is wrong
        with labels and classes is told before an encoder of that name is loaded.
        Raises: InputError when labels and classes do not fit, or no image is left; StoreError.
        """
        if isinstance(data, Labelled):
            if data.classes != (classes := Descriptors.load(descriptors).classes):
                fix = f"give descriptors of its classes: {few(class_.name for class_ in data.classes)}"
                raise InputError(f"images of other classes than {few(c.name for c in classes)}", fix=fix)
            return data
        data = load_data(data)
        with collect_notes() as notes:
            given, numbers = class_numbers(data, Descriptors.load(descriptors), joining)
            encoder, tick = encoder_of(encoder), counter(progress, stage, int((numbers >= 0).sum()))
            found = gather(data, numbers, encoder, store_of(store), lambda: tick(1))
            kept = drop_copies(found) if once else found
            if copies := len(found.labels) - len(kept.labels):
                note(f"{counted(copies, 'copy')} of other images left out")
        return replace(kept, classes=given.classes, notes=tuple(notes))

    @classmethod
    def from_arrays(
        cls, embeddings: ArrayLike, labels: ArrayLike, *, classes: DescriptorSource = (), encoder: str = ""
    ) -> Labelled:
        """Embeddings (N, D) of norm 1 that were made elsewhere, and the class of each: its number, or its name.

        `classes` are those that are meant, by default as many as the numbers say. `encoder` is its fingerprint.
        Raises: ShapeError for embeddings that are not finite or not of norm 1, and for labels that do not fit them;
        InputError for a label of no class.
        """
        try:
            vectors, given = _array(embeddings).astype(np.float32), _array(labels)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"not an array: {error}", fix="give embeddings (N, D) and labels (N,)") from error
        if vectors.ndim != 2 or not vectors.size or not IMAGES.sound(vectors).all():
            what = f"embeddings of shape {vectors.shape}, empty, not finite or not of norm 1"
            raise ShapeError(what, fix="give what an encoder gives, (N, D)")
        if given.dtype.kind == "O" and all(isinstance(label, str) for label in given):  # as pandas holds text
            given = given.astype(str)
        if given.shape != vectors.shape[:1] or given.dtype.kind not in "iuU":
            what = f"labels of {given.dtype} and shape {given.shape} for {len(vectors)} embeddings"
            raise ShapeError(what, fix="give each embedding the number or the name of its class")
        known = Descriptors.load(classes).classes if classes else ()
        numbers = join(_as_ids([*map(str, given.tolist())], known), known, allow_absent=True) if known else given
        if numbers.dtype.kind == "U" or (numbers < 0).any():
            raise InputError("labels without their classes", fix="give classes=, or numbers from 0")
        n, contents = len(vectors), tuple(hashlib.sha256(row.tobytes()).hexdigest() for row in vectors)
        keys, groups = tuple(f"row {row}" for row in range(n)), (None,) * n
        numbers = numbers.astype(np.intp)
        return cls(vectors, numbers, keys, tuple(range(n)), contents, groups, classes=known, encoder=encoder)

    def fingerprint(self, classes: Sequence[ClassName]) -> str:
        """SHA-256 over contents and labels, in no order: the same images with the same labels, the same hash."""
        pairs = sorted(f"{content} {classes[c].id}" for content, c in zip(self.contents, self.labels, strict=True))
        return hashlib.sha256("\n".join(pairs).encode("utf-8", "surrogatepass")).hexdigest()


def class_numbers(
    data: DataSet, descriptors: Descriptors, joining: Joining
) -> tuple[Descriptors, Int[np.ndarray, " rows"]]:
    """The descriptors of the classes that are scored among, and the class number of each row, -1 for none.

    Raises: InputError whose details are a table of what does not fit.
    """
    labels: Sequence[str | None] = data.labels()
    if data.table.numbered and (ids := _as_ids(labels, descriptors.classes)) != labels:
        read = sorted({(number, id_) for number, id_ in zip(labels, ids, strict=True) if number and id_})
        note(f"labels are numbers, read in the order of the classes: {few(f'{a} is {b}' for a, b in read)}")
        labels = ids
    given = _relabel(labels, descriptors, joining)
    absent_ok = joining.allow_absent or joining.only_present
    numbers = join(given, descriptors.classes, ignore_unknown=joining.ignore_unknown, allow_absent=absent_ok)
    if not (numbers >= 0).any():
        known, found = (few(dict.fromkeys(x)) for x in ((c.name for c in descriptors.classes), filter(None, labels)))
        fix = f"rename labels to classes; labels: {found}; classes: {known}"
        raise InputError("no image has a label of a class", where=data.name, fix=fix)
    if not joining.only_present:
        return descriptors, numbers
    present = np.unique(numbers[numbers >= 0])
    new = np.full(len(descriptors.classes) + 1, -1)  # the last is for -1
    new[present] = np.arange(len(present))
    return only(descriptors, [descriptors.classes[c].id for c in present]), new[numbers]


def only(descriptors: Descriptors, ids: Sequence[str]) -> Descriptors:
    """The classes of these ids, in this order, with their rows."""
    wanted = set(ids)
    classes = tuple(descriptors.classes[descriptors.position[id_]] for id_ in ids)
    return replace(descriptors, classes=classes, rows=tuple(r for r in descriptors.rows if r.class_id in wanted))


def align(descriptors: Descriptors, classes: Sequence[ClassName], joining: Joining) -> Descriptors:
    """Another set's descriptors for these classes, found there by id, name or alias. Raises: InputError."""
    wanted = [class_.id if class_.id in descriptors.position else class_.name for class_ in classes]
    found = join(_relabel(wanted, descriptors, replace(joining, aliases=None)), descriptors.classes, allow_absent=True)
    own = [descriptors.classes[i].id for i in found]
    if len(set(own)) < len(own):
        raise InputError("two classes are one in another descriptor set", fix="give both sets the same ids")
    new = dict(zip(own, (class_.id for class_ in classes), strict=True))
    rows = (replace(row, class_id=new[row.class_id]) for row in descriptors.rows if row.class_id in new)
    return Descriptors(tuple(classes), tuple(rows), descriptors.meta)


def gather(
    data: DataSet,
    numbers: Int[np.ndarray, " rows"],
    encoder: Encoder,
    store: Store | None,
    tick: Callable[[], object] = bool,
) -> Labelled:
    """The images of a data set that have a class, embedded; those that cannot be used are among `failed`.

    Raises: InputError when none is left; StoreError.
    """
    kept: list[tuple[Encoded, str, int, str | None]] = []
    failed: list[tuple[ImageError, str | None]] = []
    wanted = (item for number, item in zip(numbers, data, strict=False) if number >= 0)
    results = embedding(wanted, encoder, store.images(encoder) if store else None)
    for row, (item, found) in zip(np.flatnonzero(numbers >= 0).tolist(), results, strict=False):
        if isinstance(found, Encoded):
            kept.append((found, item.id, row, item.group))
        else:
            failed.append((found, item.label))
        tick()
    if not kept:
        what, first = f"none of {counted(len(failed), 'image')} can be used", str(failed[0][0])
        raise InputError(what, where=data.name, fix="give other images", details=(f"the first: {first}",))
    encoded, keys, rows, groups = zip(*kept, strict=True)
    return Labelled(
        np.stack([item.vector for item in encoded]),
        numbers[list(rows)],
        keys,
        rows,
        tuple(item.content.hex() for item in encoded),
        groups,
        tuple(error for error, _ in failed),
        tuple(label for _, label in failed),
        unlabelled=int((numbers < 0).sum()),
        encoder=encoder.fingerprint,
    )


def without(images: Labelled, others: Labelled) -> Labelled:
    """The images that are not among others, by content: what is chosen on them has not seen the others."""
    seen = set(others.contents)
    return take(images, [i for i, content in enumerate(images.contents) if content not in seen])


def drop_copies(images: Labelled) -> Labelled:
    """Each content under a label once: a copy would stand by when an image is left out to be judged by the rest."""
    return take(images, first_of_each(images.contents, images.labels, images.groups))


def first_of_each(
    contents: Sequence[str], labels: Int[np.ndarray, " n"], groups: Sequence[str | None] = ()
) -> list[int]:
    """Numbers of the images, each content under a label, and in a group, once."""
    first = dict[tuple[str, int, str | None], int]()
    for i, key in enumerate(zip(contents, labels.tolist(), groups or [None] * len(contents), strict=True)):
        first.setdefault(key, i)
    return [*first.values()]


def take(images: Labelled, kept: Sequence[int]) -> Labelled:
    """The images of these numbers."""

    def of(column: Sequence[T]) -> tuple[T, ...]:
        return tuple(column[i] for i in kept)

    return replace(
        images,
        vectors=images.vectors[kept],
        labels=images.labels[kept],
        keys=of(images.keys),
        rows=of(images.rows),
        contents=of(images.contents),
        groups=of(images.groups),
    )


def _array(thing: object) -> np.ndarray:
    """Raises: TypeError for what is no array and no list; numpy would go through others without end."""
    if not hasattr(thing, "__array__") and not isinstance(thing, (list, tuple)):
        raise TypeError(type(thing).__name__)
    return np.asarray(thing)


def _as_ids(labels: Sequence[str | None], classes: Sequence[ClassName]) -> Sequence[str | None]:
    """Numbers of classes, from 0, as ids; as they are where classes are called so. Raises: InputError."""
    known = Lookup(classes)
    numbers = {label for label in labels if label is not None and label.removeprefix("-").isdecimal()}
    if all(label is None or known(label) for label in labels) or not numbers:
        return labels
    if wrong := [number for number in numbers if not 0 <= int(number) < len(classes)]:
        raise InputError(f"class number {wrong[0]} of {len(classes)} classes", fix="count classes from 0")
    ids = {number: classes[int(number)].id for number in numbers}
    return [label and ids.get(label, label) for label in labels]


def _relabel(labels: Sequence[str | None], descriptors: Descriptors, joining: Joining) -> list[str | None]:
    """Labels as the classes call them, by aliases and, where wanted, by what they read as."""
    aliases, known = joining.aliases or {}, Lookup(descriptors.classes)
    renamed = [aliases.get(label, label) if label is not None else None for label in labels]
    if not joining.loose:
        return renamed
    by_fold: dict[str, set[str]] = {}
    for name in known.names():
        by_fold.setdefault(_fold(name), set()).add(name)
    exact = {label: label for label in renamed if label is not None and known(label)}
    return [None if label is None else exact.get(label) or _only(by_fold, label) for label in renamed]


def _fold(name: str) -> str:
    return reads_as(name.replace("_", " ").replace("-", " ").replace("'", ""))


def _only(by_fold: Mapping[str, set[str]], label: str) -> str:
    found = by_fold.get(_fold(label), {label})
    return next(iter(found)) if len(found) == 1 else label
