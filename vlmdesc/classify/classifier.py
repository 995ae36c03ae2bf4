"""Pictures in, predictions with reasons out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float32
from PIL import Image

from vlmdesc.classify.explain import because, contrast
from vlmdesc.classify.score import Columns, get_pool, ranking
from vlmdesc.describe.phrase import Phrase, completed, get_phrase, texts
from vlmdesc.encode.embed import embed_texts
from vlmdesc.encode.picture import Source
from vlmdesc.encode.pipeline import BATCH_SIZE, Encoded, encode_pictures
from vlmdesc.encode.protocol import Encoder
from vlmdesc.encode.store import Store
from vlmdesc.errors import ImageError, InputError, VlmdescWarning, counted, few
from vlmdesc.records import ClassName, Descriptors, Hit, Prediction
from vlmdesc.records.names import reads_as


class Classifier:
    """Scores pictures by their similarity to each class's descriptors. Menon & Vondrick 2023.

    Construction encodes the descriptors; every call after that encodes pictures only. With a `store` neither is
    encoded that was encoded before; a store that cannot be written is warned of, and the work goes on. Classes without
    descriptors are scored by their name, with a warning that names them; a text longer than the encoder reads is
    warned of as well.

    Raises: InputError for an unknown phrase or pooling, no class, or a class without descriptors under a phrase that
    leaves the name out.
    """

    def __init__(
        self,
        encoder: Encoder,
        descriptors: Descriptors,
        phrase: str = "plain",
        pool: str = "mean",
        store: Store | None = None,
    ) -> None:
        wording = get_phrase(phrase)
        self._pool_name, self._pool = pool, get_pool(pool)
        self.encoder = encoder
        self.descriptors = _complete(descriptors, wording)
        rows = texts(self.descriptors, wording)
        self._said = [row.text or text for row, text in zip(self.descriptors.rows, rows, strict=True)]
        self._shelf = store.images(encoder) if store else None
        vectors = embed_texts(rows, encoder, store.texts(encoder)) if store else encoder.texts(rows)
        self._columns = Columns(
            vectors, self.descriptors.owner, self.descriptors.weights, len(self.descriptors.classes)
        )

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
        for item in encode_pictures(self.encoder, images, batch_size=batch_size, shelf=self._shelf):
            yield item if isinstance(item, ImageError) else self._prediction(item, top_k, reasons, rival)

    def scores(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores of image embeddings: (N, D) -> (N, C)."""
        return self._pool(vectors, self._columns)

    def _prediction(self, item: Encoded, top_k: int, reasons: int, rival: int | None) -> Prediction:
        scores = self.scores(item.vector[None])[0]
        best = ranking(scores[None], max(top_k, 2))[0].tolist()
        ranked = tuple(self._hit(c, scores) for c in best)
        why = because(item.vector, best[0], self._columns, self._said)[:reasons] if reasons else ()
        margin = ranked[0].score - ranked[1].score if len(ranked) > 1 else 0.0
        against = None
        if rival is not None and len(best) > 1:
            pair = (best[0], rival if rival != best[0] else best[1])
            hits = (self._hit(pair[0], scores), self._hit(pair[1], scores))
            against = contrast(item.vector, hits, pair, self._pool_name, self._columns, self._said)
        return Prediction(item.key, ranked[:top_k], why, margin, against, item.notes)

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
