"""Images, embeddings and labels as users hold them, as arrays that fit together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.heads import HeadCard
from vlmdesc.classification.heads.head import check_classes, check_encoder
from vlmdesc.embeddings.collection import Collection
from vlmdesc.embeddings.data import DataSet
from vlmdesc.embeddings.image import is_image
from vlmdesc.embeddings.kind import IMAGES
from vlmdesc.embeddings.labelled import Labelled, first_of_each
from vlmdesc.embeddings.pipeline import Encoded, encode_images
from vlmdesc.embeddings.pixels import is_tensor
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.errors import ImageError, InputError, ModelError, ShapeError
from vlmdesc.records import ClassName, Embeddings
from vlmdesc.records.join import join
from vlmdesc.text import counted


def is_single(images: Any) -> bool:
    """Whether it is one image: a folder or a pattern is none, nor an array of several."""
    if isinstance(images, (str, Path)):
        return os.path.isfile(images) or not (os.path.isdir(images) or has_magic(str(images)))
    return is_image(images)


def is_embedded(data: Any) -> bool:
    """Whether it is meant for embeddings: these, an array (R, D) of floats, or lists of numbers."""
    if isinstance(data, np.ndarray) or is_tensor(data):
        return data.ndim <= 2 and "float" in str(data.dtype)
    first = data
    while isinstance(first, (list, tuple)) and len(first):
        first = first[0]
    return isinstance(data, Embeddings) or isinstance(first, (int, float)) or len(getattr(first, "shape", ())) == 1


def vectors_of(images: Any, encoder: Encoder, collection: Collection | None) -> Float32[np.ndarray, "n d"]:
    """Embeddings (N, D) of images, or those given.

    Raises: ImageError for the first that cannot be used; ShapeError for what are no embeddings of this width;
    ModelError for those of another encoder.
    """
    if isinstance(images, Embeddings) and images.encoder != encoder.fingerprint:
        what = f"embeddings of another model ({images.encoder}), not of {encoder.name} ({encoder.fingerprint})"
        raise ModelError(what, fix="embed the images with this model")
    if is_embedded(images):
        return _check(images.vectors if isinstance(images, Embeddings) else images, encoder.dim)
    vectors = []
    for found in encode_images(encoder, [images] if is_single(images) else images, collection=collection):
        if isinstance(found, ImageError):
            raise found
        vectors.append(found.vector)
    return np.stack(vectors) if vectors else np.empty((0, encoder.dim), np.float32)


def labelled_vectors(
    data: Any, labels: Any, card: HeadCard, encoder: Encoder, collection: Collection | None
) -> tuple[Float32[np.ndarray, "r d"], Int[np.ndarray, " _r"], tuple[ImageError, ...]]:
    """Embeddings (R, D) and class numbers (R,) of labelled embeddings, or of images or embeddings and their labels, and
    what could not be used. Of images of one content and label the first is kept.
    """
    if isinstance(data, (DataSet, Labelled)) and labels is not None:
        raise InputError("labels beside what has its own", fix="leave them out, or give embeddings")
    if isinstance(data, Labelled):
        check_labelled(data, card, encoder.name)
        return _check(data.vectors, encoder.dim), data.labels, data.failed
    if labels is None:
        raise InputError("embeddings without labels", fix="give the name or number of each one's class")
    numbers = numbers_of(labels, card.classes)
    if is_embedded(data):
        return vectors_of(data, encoder, collection), numbers, ()
    found = [*encode_images(encoder, data, collection=collection)]
    if len(found) != len(numbers):
        raise ShapeError(f"{len(found)} images, {len(numbers)} labels", fix="give each image its label")
    encoded = [item for item in found if isinstance(item, Encoded)]
    if not encoded:
        raise InputError(f"none of {counted(len(found), 'image')} can be used", fix="give other images")
    numbers = numbers[[isinstance(item, Encoded) for item in found]]
    once = first_of_each([item.content.hex() for item in encoded], numbers)
    failed = tuple(item for item in found if isinstance(item, ImageError))
    return np.stack([encoded[i].vector for i in once]), numbers[once], failed


def numbers_of(labels: Any, classes: Sequence[ClassName]) -> Int[np.ndarray, " r"]:
    """Class numbers (R,) of labels that are ids, names or aliases of classes, or their numbers from 0.

    Raises: InputError for labels of no class, or of several; ShapeError for anything else.
    """
    try:
        found = np.asarray(labels)
    except ValueError as error:  # lists of several lengths
        raise ShapeError(f"not a list of labels: {error}", fix="give each image one label") from error
    if found.ndim == 1 and (found.dtype.kind in "iu" or not len(found)):
        return found.astype(np.intp)
    if found.ndim == 1 and all(isinstance(label, str) for label in found.tolist()):
        return join(found.tolist(), classes, allow_absent=True)
    what = f"labels of {found.dtype} and shape {found.shape}"
    raise ShapeError(what, fix="give each image the name of its class, or its number from 0")


def check_labelled(data: Labelled, card: HeadCard, name: str = "") -> None:
    """Raises: ModelError for embeddings of another encoder than a head's, InputError for other classes; both only where
    it is known whose they are.
    """
    if data.encoder:
        check_encoder(card, data.encoder, name)
    if data.classes:
        check_classes(card, data.classes)


def _check(data: Any, dim: int) -> Float32[np.ndarray, "r d"]:
    """Unit-norm embeddings as an array (R, D). Raises: ShapeError for what are not."""
    try:
        found = np.asarray(data, np.float32)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"not an array of embeddings: {error}", fix=f"give an array (R, {dim})") from error
    if found.ndim != 2 or found.shape[1] != dim or not IMAGES.sound(found).all():
        what = f"embeddings of shape {found.shape}, or not of norm 1"
        raise ShapeError(what, fix=f"give what the encoder gives, (R, {dim})")
    return found
