"""Pictures in, predictions with reasons out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float32, Int
from PIL import Image

from vlmdesc.classification import fewshot
from vlmdesc.classification.explain import set_against
from vlmdesc.classification.neighborhood import check_labels
from vlmdesc.classification.reading import ByDescriptors, BySelection, ByShots, Reading
from vlmdesc.classification.reference import Neighborhood
from vlmdesc.classification.score import Columns, get_pool, ranking
from vlmdesc.descriptors.phrase import Phrase, completed, get_phrase, texts
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.picture import Source
from vlmdesc.embeddings.pipeline import BATCH_SIZE, Encoded, encode_pictures
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import ImageError, InputError, ShapeError, VlmdescWarning, counted, few
from vlmdesc.records import ClassName, Descriptors, Hit, Prediction
from vlmdesc.records.names import reads_as


class Classifier:
    """Scores pictures by their similarity to each class's descriptors. Menon & Vondrick 2023.

    Construction encodes the descriptors; every call after that encodes pictures only. With a `store` neither is
    encoded that was encoded before; a store that cannot be written is warned of, and the work goes on. Classes without
    descriptors are scored by their name, with a warning that names them; a text longer than the encoder reads is
    warned of as well. With a `selection`, taught for the same classes, the descriptors that tell an image's few
    candidates apart decide; phrase and pooling are its own then.

    Raises: InputError for an unknown phrase or pooling, no class, or a class without descriptors under a phrase that
    leaves the name out; ShapeError for a selection of another number of classes.
    """

    def __init__(
        self,
        encoder: Encoder,
        descriptors: Descriptors,
        phrase: str = "plain",
        pool: str = "mean",
        store: Store | None = None,
        selection: Neighborhood | None = None,
    ) -> None:
        wording = get_phrase(phrase)
        get_pool(pool)
        self.encoder = encoder
        self._reading: Reading
        self._collection = store.images(encoder) if store else None
        if selection:
            if len(selection.texts.captions) != len(descriptors.classes):
                what = f"a selection among {len(selection.texts.captions)} classes, {len(descriptors.classes)} classes"
                raise ShapeError(what, fix="teach it with these descriptors")
            self.descriptors, self._reading = descriptors, BySelection(selection)
            return
        self.descriptors = _complete(descriptors, wording)
        rows = texts(self.descriptors, wording)
        said = [row.text or text for row, text in zip(self.descriptors.rows, rows, strict=True)]
        vectors = text_vectors(rows, encoder, store)
        columns = Columns(vectors, self.descriptors.owner, self.descriptors.weights, len(self.descriptors.classes))
        self._reading = ByDescriptors(columns, pool, said)

    def learn(self, photos: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"], n_new: int = 0) -> Classifier:
        """Another classifier that knows classes by photographs too: embeddings (R, D) and class numbers (R,).

        Prototypes count on top of the texts, as much as serves best on photographs of the classes that are not new; the
        last `n_new` classes, known by few photographs, are calibrated by the others. Classes without photographs keep
        their scores exactly. See `classify.fewshot`.
        Raises: InputError without a photograph, and for a classifier that selects; ShapeError when labels do not fit.
        """
        if not isinstance(self._reading, ByDescriptors):
            raise InputError(
                "prototypes beside a selection, or twice", fix="give all photographs to a plain classifier"
            )
        n_base = len(self.descriptors.classes) - n_new
        if not 0 <= n_new <= len(self.descriptors.classes):
            raise InputError(f"{n_new} new of {len(self.descriptors.classes)} classes", fix="the last ones are the new")
        check_labels(len(photos), labels, len(self.descriptors.classes))
        base = labels < n_base
        if n_new and base.any():
            scores = self._reading.scores(photos[base])[:, :n_base]
            shots = fewshot.fit(photos[base], labels[base], scores).add(photos[~base], labels[~base] - n_base, n_new)
        else:
            shots = fewshot.fit(photos, labels, self._reading.scores(photos))
        taught = copy(self)
        taught._reading = ByShots(self._reading, shots)
        return taught

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

        Raises: ImageError for the first picture that cannot be used; `stream` goes on past it.
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
        against: str | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Prediction | ImageError]:
        """A Prediction or the ImageError that says why there is none, for each picture in turn, as they are ready.

        `top_k` classes and `reasons` descriptors are kept. `against` names a class to set the winner against; where it
        is the winner itself, the runner-up is what it is set against.
        """
        rival = None if against is None else self.descriptors.find(against)
        if top_k < 1 or reasons < 0:
            raise InputError(f"top_k={top_k}, reasons={reasons}", fix="use at least 1 class and 0 reasons")
        for item in encode_pictures(self.encoder, images, batch_size=batch_size, collection=self._collection):
            yield item if isinstance(item, ImageError) else self._prediction(item, top_k, reasons, rival)

    def scores(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores of image embeddings: (N, D) -> (N, C)."""
        return self._reading.scores(vectors)

    def _prediction(self, item: Encoded, top_k: int, reasons: int, rival: int | None) -> Prediction:
        scores = self.scores(item.vector[None])[0]
        best = ranking(scores[None], max(top_k, 2))[0].tolist()
        ranked = tuple(self._hit(c, scores) for c in best)
        why = self._reading.because(item.vector, best[0])[:reasons] if reasons else ()
        margin = ranked[0].score - ranked[1].score if len(ranked) > 1 else 0.0
        asked = None
        if rival is not None and len(best) > 1:
            asked = (best[0], rival if rival != best[0] else best[1])
        pair, against, notes = self._reading.rivals(item.vector, asked), None, item.notes
        if pair:
            a, b = pair
            sides = (self._reading.side(item.vector, a), self._reading.side(item.vector, b))
            against = set_against((self._hit(a, scores), self._hit(b, scores)), sides)
        if asked and pair != asked:
            asked_for = self.descriptors.classes[asked[1]].name
            against_it = "another is" if pair else "nothing is"
            notes = (*notes, f"{asked_for} is no candidate of this picture: {against_it} set against")
        return Prediction(item.key, ranked[:top_k], why, margin, against, notes)

    def _hit(self, class_: int, scores: Float32[np.ndarray, " c"]) -> Hit:
        found = self.descriptors.classes[class_]
        return Hit(found.id, float(scores[class_]), found.name)


def _complete(descriptors: Descriptors, phrase: Phrase) -> Descriptors:
    """`completed`, with a warning of what its user should know."""
    if not descriptors.classes:
        raise InputError("no classes", fix="give at least two")
    if len(descriptors.classes) == 1:
        warnings.warn("one class only: every picture will be it", VlmdescWarning, stacklevel=3)
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
