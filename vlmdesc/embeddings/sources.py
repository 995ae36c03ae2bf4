"""Images that are in memory already, however a user holds them: one after the other, or as a table with labels."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any

import numpy as np
from PIL import Image

from vlmdesc.embeddings.find import find_images
from vlmdesc.embeddings.image import is_image, open_image
from vlmdesc.embeddings.pixels import is_tensor
from vlmdesc.embeddings.tables import Row, Table
from vlmdesc.errors import ImageError, InputError

COLUMNS = {"image": "image", "label": "label", "id": "number"}
WANTED = "give images: paths, bytes, PIL images or arrays, a list of these, a DataLoader, a data set or a folder"


def sources_of(images: object) -> Iterator[Any]:
    """Each image that `images` stands for, read as it is wanted.

    One image (a path, bytes, an open file, a PIL image, numpy (H, W, 3) or (H, W), torch (3, H, W)), a batch
    (N, H, W, 3) or (N, 3, H, W), an iterable of these, a folder or a pattern, a data set, or a torch DataLoader or
    Dataset of images or (image, label). A single thing among others that is no image comes out as it is, to fail by
    itself when it is opened.
    Raises: InputError for what stands for no images at all, and for a folder without any.
    """
    from vlmdesc.embeddings.data import DataSet, load_data

    if isinstance(images, (str, os.PathLike)):
        found = find_images([os.fspath(images)]).paths
        if not found:
            raise InputError("no images in this folder", where=images, fix="give images, or a folder that has some")
        return iter(found)
    if is_of(images, "datasets", "Dataset", "DatasetDict"):
        images = load_data(images)
    if isinstance(images, DataSet):
        return (item.source for item in images)
    if is_torch_data(images):
        return (image for element in _elements(images) for image, _ in _pairs(element))
    return _each(images)


def open_images(images: object) -> list[Image.Image]:
    """Upright RGB images of all that `images` stands for. Raises: InputError; ImageError for the first that is one."""
    found = []
    for source in sources_of(images):
        if isinstance(source, ImageError):
            raise source
        found.append(open_image(source).image)
    return found


def is_of(thing: object, module: str, *names: str) -> bool:
    """Whether it is of one of these classes; their module is not loaded to tell."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(thing, tuple(getattr(loaded, name) for name in names))


def is_torch_data(thing: object) -> bool:
    """Whether it is a torch DataLoader or Dataset."""
    return is_of(thing, "torch.utils.data", "DataLoader", "Dataset")


def is_pair(thing: object) -> bool:
    """Whether it is images and their labels, and not just two images."""
    return isinstance(thing, tuple) and len(thing) == 2 and not (is_image(thing[1]) or np.isscalar(thing[1]))


def read_pair(images: Any, labels: Any) -> Table:
    """Images and a label for each, a name or the number of a class. Raises: InputError when they do not fit."""
    try:
        pairs = [(image, _plain(label)) for image, label in zip(images, labels, strict=True)]
    except (TypeError, ValueError) as error:
        fix = "give (images, labels), one label an image"
        raise InputError("images and labels do not fit together", fix=fix) from error
    numbered = all(isinstance(label, int) for _, label in pairs)
    rows = partial(_rows, pairs)
    return Table("images and labels", COLUMNS, rows, n=len(pairs), image=("image",), label="label", numbered=numbered)


def read_torch(data: Any) -> Table:
    """What a torch DataLoader or Dataset of (image, label) has, whose `classes` the numbers stand for if it has any.

    It is gone through as often as it is wanted, so its order must not change. Raises: InputError where it shuffles.
    """
    sampler = getattr(data, "sampler", None)
    if "Random" in type(sampler).__name__ or getattr(sampler, "shuffle", False):
        raise InputError("a DataLoader that shuffles", fix="give shuffle=False, or its dataset")
    inner = data
    while (names := getattr(inner, "classes", None)) is None and hasattr(inner, "dataset"):  # of a loader or a Subset
        inner = inner.dataset
    known = {"label": [*map(str, names)]} if isinstance(names, (list, tuple)) else {}
    rows = partial(_torch_rows, data)
    form = f"torch {type(data).__name__}"
    return Table(form, COLUMNS, rows, image=("image",), label="label", class_names=known, numbered=not known)


def read_images(images: object) -> Table:
    """Images without labels. Raises: InputError for what stands for none."""
    pairs = [*zip(_each(images), repeat(None))]
    return Table("images", {"image": "image", "id": "number"}, partial(_rows, pairs), n=len(pairs), image=("image",))


def _each(images: Any) -> Iterator[Any]:
    """The images of one image, a batch, or an iterable of these. Raises: InputError for anything else."""
    if is_image(images):
        return iter([images])
    if _is_batch(images) or (isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "UO"):
        return iter(images.tolist() if images.ndim == 1 else images)
    if _is_array(images) or isinstance(images, Mapping) or not isinstance(images, Iterable):
        shape = f" of shape {tuple(images.shape)}" if hasattr(images, "shape") else ""
        raise InputError(f"{type(images).__name__}{shape} where images are meant", fix=WANTED)
    return (image for thing in images for image in (thing if _is_batch(thing) else [thing]))


def _is_array(thing: object) -> bool:
    return isinstance(thing, np.ndarray) or is_tensor(thing)


def _is_batch(thing: Any) -> bool:
    return _is_array(thing) and thing.ndim == 4


def _rows(pairs: Iterable[tuple[Any, Any]], _: Sequence[str] = ()) -> Iterator[Row]:
    for number, (image, label) in enumerate(pairs):
        key = os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"image {number}"
        yield {"image": image, "label": _plain(label), "id": key}


def _torch_rows(data: Any, _: Sequence[str]) -> Iterator[Row]:
    return _rows(chain.from_iterable(map(_pairs, _elements(data))))


def _elements(data: Any) -> Iterator[Any]:
    """What a DataLoader or Dataset has, in order."""
    by_number = not hasattr(data, "__iter__") and hasattr(data, "__len__")
    return (data[i] for i in range(len(data))) if by_number else iter(data)


def _pairs(element: Any) -> Iterator[tuple[Any, Any]]:
    """An element (image, label), or a batch of these, as pairs."""
    images, label, *_ = (*element, None) if isinstance(element, (tuple, list)) else (element, None)
    if not _is_batch(images) and not isinstance(images, (tuple, list)):
        return iter([(images, label)])
    return zip(images, repeat(None) if label is None else label, strict=label is not None)


def _plain(label: Any) -> Any:
    """A number or a text, also out of an array or a tensor."""
    return label.item() if hasattr(label, "item") and getattr(label, "ndim", 1) == 0 else label
