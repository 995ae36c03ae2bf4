"""Images in, predictions with reasons out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float32, Int
from numpy.typing import ArrayLike
from PIL import Image

from vlmdesc.classification.columns import prompts_of
from vlmdesc.classification.explain import because, contrast
from vlmdesc.classification.heads import Fitting, Head, HeadCard, load_head, save_head
from vlmdesc.classification.heads.folder import get_fit
from vlmdesc.classification.heads.head import check_classes, check_encoder, check_width
from vlmdesc.classification.heads.pooled import fit_prompts
from vlmdesc.classification.score import get_pool, ranking
from vlmdesc.descriptors.phrase import PHOTO, Phrase, completed, get_phrase
from vlmdesc.embeddings.data import DataSet
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.image import Source
from vlmdesc.embeddings.kind import IMAGES
from vlmdesc.embeddings.labelled import Joining, Labelled, class_numbers, distinct, gather
from vlmdesc.embeddings.pipeline import BATCH_SIZE, Encoded, encode_images
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import ImageError, InputError, ShapeError, VlmdescWarning
from vlmdesc.records import ClassName, Contrast, Descriptors, Hit, Prediction
from vlmdesc.records.names import reads_as
from vlmdesc.text import counted, few

RUNNER_UP = object()  # to set the winner against the second class, whatever it is


class Classifier:
    """An encoder and a head: images in, predictions with reasons out.

    `head` is a pooling ("mean", "max", "renormalized"), under which images are scored by their similarity to each
    class's descriptors (Menon & Vondrick 2023), or a head that was fitted. Construction encodes the descriptors; every
    call after that encodes images only. With a `store` neither is encoded that was encoded before; a store that cannot
    be written is warned of, and the work goes on. Classes without descriptors are scored by their name, with a warning
    that names them; a text longer than the encoder reads is warned of as well.

    Raises: InputError for an unknown phrase or pooling, no class, a class without descriptors under a phrase that
    leaves the name out, or a head that was made for other classes; ModelError for a head of another encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        descriptors: Descriptors | None = None,
        head: str | Head = "mean",
        *,
        phrase: str = "plain",
        store: Store | None = None,
    ) -> None:
        self.encoder, self._store = encoder, store
        self._collection = store.images(encoder) if store else None
        if not isinstance(head, (str, Head)):
            raise InputError(f"a head of type {type(head).__name__}", fix="give the name of a pooling, or a head")
        if not isinstance(head, str):
            check_encoder(head.card, encoder.fingerprint, encoder.name)
            check_width(head, encoder.dim)
            if descriptors is not None:
                check_classes(head.card, descriptors.classes)
            self.head, self.descriptors = head, descriptors or Descriptors(head.card.classes, ())
            self._given = self.descriptors
            return
        if descriptors is None:
            raise InputError("no descriptors", fix="give a descriptor set, or a head that was fitted")
        wording = get_phrase(phrase)
        get_pool(head)
        self.descriptors, self._given = _complete(descriptors, wording), descriptors
        prompts = prompts_of(self.descriptors, phrase)
        self.head = fit_prompts(encoder, self.descriptors, prompts, phrase, head, store)

    @classmethod
    def load(cls, folder: str | Path, encoder: Encoder, store: Store | None = None) -> Classifier:
        """With the head in a folder. Raises: as `load_head`; ModelError where the head is of another encoder."""
        return cls(encoder, head=load_head(folder), store=store)

    def save(self, folder: str | Path, *, replace: bool = False) -> None:
        """Save the head in a folder. Raises: as `save_head`."""
        save_head(self.head, folder, replace=replace)

    def fit(
        self,
        data: DataSet | Labelled | ArrayLike,
        labels: ArrayLike | None = None,
        head: str = "prototypes",
        *,
        n_new: int = 0,
        phrase: str = PHOTO,
    ) -> Classifier:
        """Another classifier, whose head learns from labelled images: a data set, whose labels name classes, labelled
        embeddings, or embeddings (R, D) and class numbers (R,). Images of no class, or that cannot be used, and copies
        are passed over.

        "prototypes" count on top of the texts, as much as serves best on these images; the last `n_new` classes, known
        by few images, are calibrated by the others, and classes without images keep their scores exactly.
        "neighborhood" decides by the descriptors that tell an image's few candidates apart; `phrase` words captions. So
        does every entry of `HEADS` that says how it is fitted.
        Raises: InputError without an image, for what is no data set and no embeddings, for an unknown kind or phrase,
        or for prototypes on a head that was fitted; ShapeError when embeddings or labels do not fit.
        """
        fit, other = get_fit(head), copy(self)
        get_phrase(phrase)
        images, numbers = self._labelled(data, labels)
        encode = partial(text_vectors, encoder=self.encoder, store=self._store)
        card = HeadCard.of(head, self.encoder, self.descriptors, phrase=phrase)
        other.head = fit(Fitting(card, self.head, self._given, encode, images, numbers, n_new))
        return other

    def _labelled(
        self, data: DataSet | Labelled | ArrayLike, labels: ArrayLike | None
    ) -> tuple[Float32[np.ndarray, "r d"], Int[np.ndarray, " _r"]]:
        if isinstance(data, (DataSet, Labelled)) and labels is not None:
            raise InputError("labels beside what has its own", fix="leave them out, or give embeddings")
        if isinstance(data, DataSet):
            numbers = class_numbers(data, self.descriptors, Joining(allow_absent=True, ignore_unknown=True))[1]
            data = distinct(gather(data, numbers, self.encoder, self._store or Store()))
        if isinstance(data, Labelled):
            return _checked(data.vectors, data.labels, self.encoder.dim)
        if isinstance(data, (str, Path)):
            raise InputError("a path to fit to", where=data, fix="give load_data(path)")
        if labels is None:
            raise InputError("embeddings without labels", fix="give the number of each one's class")
        return _checked(data, labels, self.encoder.dim)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a path here, not an iterable
        self, images: Source, *, top_k: int = 5, reasons: int = 3, against: str | None = None
    ) -> Prediction: ...
    @overload
    def __call__(
        self, images: Iterable[Source], *, top_k: int = 5, reasons: int = 3, against: str | None = None
    ) -> list[Prediction]: ...
    def __call__(
        self, images: Source | Iterable[Source], *, top_k: int = 5, reasons: int = 3, against: str | None = None
    ) -> Prediction | list[Prediction]:
        """One prediction for a path, bytes or a PIL image; a list of them for an iterable of these.

        Raises: ImageError for the first image that cannot be used; `stream` goes on past it.
        """
        single = isinstance(images, (str, Path, bytes, Image.Image))
        sources = [images] if single else images
        predictions = []
        for found in self.stream(sources, top_k=top_k, reasons=reasons, against=against):  # type: ignore[arg-type]
            if isinstance(found, ImageError):
                raise found
            predictions.append(found)
        return predictions[0] if single else predictions

    def stream(
        self,
        images: Iterable[Source],
        *,
        top_k: int = 5,
        reasons: int = 3,
        against: str | object | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Prediction | ImageError]:
        """A Prediction or the ImageError that says why there is none, for each image in turn, batch by batch.

        `top_k` classes and `reasons` descriptors are kept. `against` names a class to set the winner against, or is
        RUNNER_UP; where it is the winner itself, the runner-up is what it is set against.
        """
        rival = self.descriptors.find(against) if isinstance(against, str) else -1 if against is RUNNER_UP else None
        if top_k < 1 or reasons < 0 or batch_size < 1:
            what = f"top_k={top_k}, reasons={reasons}, batch_size={batch_size}"
            raise InputError(what, fix="use at least 1 class, 0 reasons and 1 image at a time")
        found = encode_images(self.encoder, images, batch_size=batch_size, collection=self._collection)
        while batch := [*islice(found, batch_size)]:
            good = [item for item in batch if isinstance(item, Encoded)]
            predictions = iter(self._predictions(good, top_k, reasons, rival))
            yield from (item if isinstance(item, ImageError) else next(predictions) for item in batch)

    def scores(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores of image embeddings: (N, D) -> (N, C)."""
        return self.head.scores(vectors)

    def _predictions(self, items: Sequence[Encoded], top_k: int, reasons: int, rival: int | None) -> list[Prediction]:
        if not items:
            return []
        vectors = np.stack([item.vector for item in items])
        scores = self.head.scores(vectors)
        best = ranking(scores, max(top_k, 2))
        lead = best[:, 0]
        of_best = self.head.parts(vectors, lead, scores) if reasons or rival is not None else None
        why = because(of_best, reasons) if of_best is not None and reasons else [()] * len(items)
        against: list[Contrast | None] = [None] * len(items)
        if of_best is not None and rival is not None and best.shape[1] > 1:
            other = np.where((lead == rival) | (rival < 0), best[:, 1], rival)
            of_other = self.head.parts(vectors, other, scores)
            pairs = [
                (self._hit(a, row), self._hit(b, row))
                for a, b, row in zip(lead.tolist(), other.tolist(), scores, strict=True)
            ]
            against = [*(contrast(pair, (of_best, of_other), i) for i, pair in enumerate(pairs))]
        ranked = [tuple(self._hit(c, row) for c in classes) for classes, row in zip(best.tolist(), scores, strict=True)]
        margins = [hits[0].score - hits[1].score if len(hits) > 1 else 0.0 for hits in ranked]
        return [
            Prediction(item.key, hits[:top_k], reason, margin, contrast_, item.notes)
            for item, hits, reason, margin, contrast_ in zip(items, ranked, why, margins, against, strict=True)
        ]

    def _hit(self, class_: int, scores: Float32[np.ndarray, " c"]) -> Hit:
        found = self.descriptors.classes[class_]
        return Hit(found.id, float(scores[class_]), found.name)


def _checked(
    vectors: ArrayLike, labels: ArrayLike, dim: int
) -> tuple[Float32[np.ndarray, "r d"], Int[np.ndarray, " _r"]]:
    """Embeddings and class numbers as arrays. Raises: ShapeError for what is none."""
    try:
        images, numbers = np.asarray(vectors, np.float32), np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"no array of embeddings: {error}", fix=f"give an array (R, {dim})") from error
    if images.ndim != 2 or images.shape[1] != dim or not IMAGES.sound(images).all():
        what = f"embeddings of shape {images.shape}, or not of norm 1"
        raise ShapeError(what, fix=f"give what the encoder gives, (R, {dim})")
    if numbers.ndim != 1 or (numbers.dtype.kind not in "iu" and len(numbers)):
        what = f"labels of {numbers.dtype} and shape {numbers.shape}"
        raise ShapeError(what, fix="give each image the number of its class, from 0")
    return images, numbers.astype(np.intp)


def _complete(descriptors: Descriptors, phrase: Phrase) -> Descriptors:
    """`completed`, with a warning of what its user should know."""
    if not descriptors.classes:
        raise InputError("no classes", fix="give at least two")
    if len(descriptors.classes) == 1:
        warnings.warn("one class only: every image will be it", VlmdescWarning, stacklevel=3)
    complete, bare = completed(descriptors, phrase)
    _warn_of_twins(descriptors.classes, bare)
    if phrase.reads_descriptor and 0 < len(bare) < len(descriptors.classes):
        message = f"{counted(len(bare), 'class')} without a descriptor, scored by name: {few(c.name for c in bare)}"
        warnings.warn(message, VlmdescWarning, stacklevel=3)
    return complete


def _warn_of_twins(classes: Sequence[ClassName], bare: Sequence[ClassName]) -> None:
    """Classes may share a name, but not if it is all there is; names that differ only to the eye are a slip."""
    seen: dict[str, ClassName] = {}
    for class_ in classes:
        twin = seen.setdefault(reads_as(class_.name), class_)
        if twin is not class_ and (twin.name != class_.name or twin in bare or class_ in bare):
            message = f"two classes read the same to the model: '{twin.name}' and '{class_.name}' (id '{class_.id}')"
            warnings.warn(message, VlmdescWarning, stacklevel=4)
