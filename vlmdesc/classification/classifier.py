"""Images in, predictions with reasons out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from vlmdesc.classification.estimator import Estimator
from vlmdesc.classification.heads import HEADS, Fitting, Head, HeadCard, load_head, save_head
from vlmdesc.classification.heads.folder import get_fit
from vlmdesc.classification.heads.head import check_classes, check_encoder, check_width, show, show_html
from vlmdesc.classification.heads.pooled import fit_pooled
from vlmdesc.classification.inputs import (
    check_labelled,
    is_embedded,
    is_single,
    labelled_vectors,
    numbers_of,
    vectors_of,
)
from vlmdesc.classification.predict import predict
from vlmdesc.classification.score import get_pool
from vlmdesc.descriptors.phrase import fill_in, get_phrase
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.labelled import Joining, Labelled
from vlmdesc.embeddings.load import encoder_of, load_named
from vlmdesc.embeddings.pipeline import BATCH_SIZE, Encoded, encode_images
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import ImageError, InputError, ShapeError
from vlmdesc.records import ClassName, Descriptors, Prediction
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.names import reads_as
from vlmdesc.records.progress import Progress, collect_notes, note, silent
from vlmdesc.text import counted, few

TEMPERATURE = 0.01  # of a softmax over similarities, as CLIP was trained
JOINING = Joining(allow_absent=True, ignore_unknown=True)  # of what is fitted to: some images of some classes


class Classifier:
    """An encoder and a head: images in, predictions with reasons out.

    `encoder` is an encoder, the name of one, or a function that loads it. `head` is a pooling ("mean", "max",
    "renormalized"), under which images are scored by their similarity to each class's descriptors (Menon & Vondrick
    2023), or a head that was fitted. Construction encodes the descriptors; every call after that encodes images only,
    and none of what is in the `store`. `notes` say what a person should know, such as which classes have no
    descriptors and are scored by their name; `failed` are the images of `fit` that could not be used.

    Raises: InputError for an unknown phrase or pooling, no class, a class without descriptors under a phrase that
    leaves the name out, or a head that was made for other classes; ModelError for a head of another encoder.
    """

    def __init__(
        self,
        encoder: Encoder | str | Callable[[], Encoder],
        descriptors: DescriptorSource | None = None,
        head: str | Head = "mean",
        *,
        phrase: str = "plain",
        store: Store | bool = True,
        progress: Progress = silent,
    ) -> None:
        if not isinstance(head, (str, Head)):
            raise InputError(f"a head of type {type(head).__name__}", fix="give the name of a pooling, or a head")
        if descriptors is None and isinstance(head, str):
            raise InputError("no descriptors", fix="give a descriptor set, or a head that was fitted")
        given = Descriptors(head.card.classes, ()) if descriptors is None else Descriptors.load(descriptors)  # type: ignore[union-attr]
        self.descriptors, self.failed, self._store = given, tuple[ImageError, ...](), store_of(store)
        with collect_notes() as notes:
            if isinstance(head, str):
                get_pool(head)
                _note_classes(given, phrase)
                self.encoder = encoder_of(encoder)
                self.head: Head = fit_pooled(self.encoder, given, phrase, head, self._store, progress)
            else:
                check_classes(head.card, given.classes)
                self.encoder, self.head = encoder_of(encoder), head
                check_encoder(head.card, self.encoder.fingerprint, self.encoder.name)
                check_width(head, self.encoder.dim)
        self.notes = tuple(notes)
        self._collection = self._store.images(self.encoder) if self._store else None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        encoder: Encoder | str | Callable[[], Encoder] | None = None,
        *,
        device: str = "auto",
        precision: str = "",
        store: Store | bool = True,
    ) -> Classifier:
        """With the head in a folder; without an encoder, with the model that the head was made for, on a `device`.

        Raises: as `load_head`; InputError where its model is a repository of the hub, which is fetched only when it is
        named; ModelError where the head is of another encoder.
        """
        head = load_head(folder)
        named = partial(load_named, head.card.model, device=device, precision=precision or head.card.precision)
        return cls(partial(named, where=folder) if encoder is None else encoder, head=head, store=store)

    def save(self, folder: str | Path, *, replace: bool = False) -> None:
        """Save the head in a folder. Raises: as `save_head`."""
        save_head(self.head, folder, replace=replace)

    def fit(
        self, data: Any, labels: Any = None, head: str = "prototypes", *, n_new: int = 0, phrase: str = ""
    ) -> Classifier:
        """Another classifier, whose head learns from labelled images.

        `data` is a data set or what `load_data` takes for one, whose labels name classes; labelled embeddings; or, with
        `labels` that are names or numbers of classes, images or their embeddings (R, D). Images of no class, or that
        cannot be used, and copies are passed over.

        "prototypes" count on top of the texts, as much as serves best on these images; the last `n_new` classes, known
        by few images, are calibrated by the others, and classes without images keep their scores exactly.
        "neighborhood" decides by the descriptors that tell an image's few candidates apart; `phrase` words captions. So
        does every entry of `HEADS` that says how it is fitted.
        Raises: InputError without an image, for labels of no class, labelled embeddings of other classes, an unknown
        kind or phrase, or prototypes on a head that was fitted; ShapeError when embeddings or labels do not fit;
        ModelError for embeddings of another encoder.
        """
        get_fit(head)
        get_phrase(phrase := phrase or HEADS[head].phrase)
        other = copy(self)
        with collect_notes() as notes:
            if labels is None and not isinstance(data, Labelled) and not is_embedded(data):
                data = Labelled.of(data, self.descriptors, self.encoder, joining=JOINING, store=self._store or False)
            found = labelled_vectors(data, labels, self.head.card, self.encoder, self._collection)
            encode = partial(text_vectors, encoder=self.encoder, store=self._store)
            card = HeadCard.of(head, self.encoder, self.descriptors, phrase=phrase)
            given = Fitting(card, lambda: self.head, self.descriptors, encode, *found[:2], n_new)
            other.head = get_fit(head)(given)
        other.notes, other.failed = (*self.notes, *notes), found[2]
        return other

    def __call__(self, images: Any, *, top_k: int = 5, reasons: int = 3, against: str | bool | None = None) -> Any:
        """A Prediction for one image (a path, bytes, an open file, a PIL image, an array); for several a list of them.

        Raises: ImageError for the first image that cannot be used; `stream` goes on past it.
        """
        single = is_single(images)
        sources = [images] if single else images
        predictions = []
        for found in self.stream(sources, top_k=top_k, reasons=reasons, against=against):
            if isinstance(found, ImageError):
                raise found
            predictions.append(found)
        return predictions[0] if single else predictions

    def stream(
        self,
        images: Iterable[Any],
        *,
        top_k: int = 5,
        reasons: int = 3,
        against: str | bool | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Prediction | ImageError]:
        """A Prediction or the ImageError that says why there is none, for each image in turn, batch by batch.

        `top_k` classes and `reasons` descriptors are kept. `against` names a class to set the winner against; where
        it is the winner itself, or True, that is the second class.
        """
        rival = self.descriptors.find(against) if isinstance(against, str) else -1 if against else None
        if top_k < 1 or reasons < 0 or batch_size < 1:
            what = f"top_k={top_k}, reasons={reasons}, batch_size={batch_size}"
            raise InputError(what, fix="use at least 1 class, 0 reasons and 1 image at a time")
        found = encode_images(self.encoder, images, batch_size=batch_size, collection=self._collection)
        while batch := [*islice(found, batch_size)]:
            good = [item for item in batch if isinstance(item, Encoded)]
            predictions = iter(predict(self.head, good, top_k, reasons, rival, self.encoder.name))
            yield from (item if isinstance(item, ImageError) else next(predictions) for item in batch)

    @property
    def classes_(self) -> np.ndarray:
        """Ids of the classes, in the order of the columns of `predict_proba`: (C,)."""
        return np.array([class_.id for class_ in self.descriptors.classes])

    def predict(self, images: object) -> np.ndarray:
        """The id of each one's class: (N,). Images, or embeddings (N, D). Raises: as a call; ShapeError."""
        return self.classes_[self.scores(self._vectors(images)).argmax(axis=1)]

    def predict_proba(self, images: object) -> Float[np.ndarray, "n c"]:
        """Softmax of the scores at the head's temperature, for images or embeddings: (N, C), each row adding up to 1.

        Where none was fitted, at CLIP's own, 0.01, with a note. Raises: as `predict`.
        """
        temperature = self.head.card.temperature
        if temperature is None:
            temperature = TEMPERATURE
            note(f"no temperature was fitted: probabilities are at {TEMPERATURE}, and may be far off")
        scaled = self.scores(self._vectors(images)).astype(np.float64) / temperature
        odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def score(self, images: Any, labels: object = None) -> float:
        """Accuracy on images or embeddings whose labels are names or numbers of classes, or on a labelled data set.

        Raises: as `predict`; InputError for labels of no class.
        """
        if labels is None:
            given = images
            if not isinstance(given, Labelled):
                given = Labelled.of(images, self.descriptors, self.encoder, joining=JOINING, store=self._store or False)
            check_labelled(given, self.head.card, self.encoder.name)
            images, labels = given.vectors, given.labels
        vectors, numbers = self._vectors(images), numbers_of(labels, self.descriptors.classes)
        if len(vectors) != len(numbers) or not len(numbers):
            raise ShapeError(f"{len(vectors)} images, {len(numbers)} labels", fix="give each image its label")
        n_classes = len(self.descriptors.classes)
        if numbers.min() < 0 or numbers.max() >= n_classes:
            raise InputError("labels that number no class", fix=f"number the {counted(n_classes, 'class')} from 0")
        return float((self.scores(vectors).argmax(axis=1) == numbers).mean())

    def scores(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores of image embeddings: (N, D) -> (N, C)."""
        return self.head.scores(vectors)

    def estimator(self, head: str = "prototypes") -> Estimator:
        """The same for pipelines of scikit-learn that are fitted, which keep nothing but what learns in place."""
        return Estimator(self, head)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Nothing that scikit-learn could set anew."""
        return {}

    def __sklearn_tags__(self) -> object:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=False), None, ClassifierTags())

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> Classifier:
        raise InputError("a classifier is not fitted in place", fix="give scikit-learn clf.estimator(), which is")

    def __repr__(self) -> str:
        return show(self.head).replace("<Head", "<Classifier")

    def _repr_html_(self) -> str:
        return show_html(self.head)

    def _vectors(self, images: object) -> Float32[np.ndarray, "n d"]:
        return vectors_of(images, self.encoder, self._collection)


def _note_classes(descriptors: Descriptors, phrase: str) -> None:
    """Note what the user of a set should know. Raises: InputError without classes; as `fill_in`."""
    classes, form = descriptors.classes, get_phrase(phrase)
    if not classes:
        raise InputError("no classes", fix="give at least two")
    if len(classes) == 1:
        note("one class only: every image will be it")
    _, bare = fill_in(descriptors, form)
    seen: dict[str, ClassName] = {}
    for class_ in classes:  # they may share a name, but not if it is all there is; what differs to the eye is a slip
        twin = seen.setdefault(reads_as(class_.name), class_)
        if twin is not class_ and (twin.name != class_.name or twin in bare or class_ in bare):
            note(f"two classes read the same to the model: '{twin.name}' and '{class_.name}' (id '{class_.id}')")
    if form.reads_descriptor and 0 < len(bare) < len(classes):
        note(f"{counted(len(bare), 'class')} without a descriptor, scored by name: {few(c.name for c in bare)}")
