"""Embeddings and labels as users hold them, as arrays that fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.embeddings.kind import IMAGES
from vlmdesc.errors import ShapeError
from vlmdesc.records import ClassName
from vlmdesc.records.join import join


def looks_embedded(data: Any) -> bool:
    """Whether an array, or a list of lists of numbers, is meant for embeddings: images have three axes, or pixels."""
    if isinstance(data, np.ndarray):
        return data.ndim <= 2 or data.dtype.kind != "u"
    if (shape := getattr(data, "shape", None)) is not None:
        return len(shape) <= 2
    first = data[0] if isinstance(data, (list, tuple)) and data else None
    return isinstance(first, (list, tuple, float, int)) or len(getattr(first, "shape", ())) == 1


def embeddings_of(data: Any, dim: int) -> Float32[np.ndarray, "r d"]:
    """Unit-norm embeddings as an array (R, D). Raises: ShapeError for what are not."""
    try:
        found = np.asarray(data, np.float32)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"not an array of embeddings: {error}", fix=f"give an array (R, {dim})") from error
    if found.ndim != 2 or found.shape[1] != dim or not IMAGES.sound(found).all():
        what = f"embeddings of shape {found.shape}, or not of norm 1"
        raise ShapeError(what, fix=f"give what the encoder gives, (R, {dim})")
    return found


def numbers_of(labels: Any, classes: Sequence[ClassName]) -> Int[np.ndarray, " r"]:
    """Class numbers (R,) of labels that are ids, names or aliases of classes, or their numbers from 0.

    Raises: InputError for labels of no class, or of several; ShapeError for anything else.
    """
    found = np.asarray(labels)
    if found.ndim == 1 and (found.dtype.kind in "iu" or not len(found)):
        return found.astype(np.intp)
    if found.ndim == 1 and all(isinstance(label, str) for label in found.tolist()):
        return join(found.tolist(), classes, allow_absent=True)
    what = f"labels of {found.dtype} and shape {found.shape}"
    raise ShapeError(what, fix="give each image the name of its class, or its number from 0")
