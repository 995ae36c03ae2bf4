"""Arrays of pixels as images: numpy (H, W, 3) or (H, W), torch (3, H, W), uint8 or floats from 0 to 1."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import Image

from vlmdesc.errors import ImageError

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
WANTED = "give (H, W, 3), (3, H, W) or (H, W), uint8 or floats from 0 to 1"


def is_tensor(thing: object) -> bool:
    """Whether it is a torch tensor; torch is not loaded to tell."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.Tensor)


def image_of(array: Any, where: object = "") -> Image.Image:
    """An image of pixels in a numpy array, channels last if they may be, or a torch tensor, channels first if so.

    Floats are rounded to 256 levels. Raises: ImageError for another shape or type, or values outside 0 to 1.
    """
    first = is_tensor(array)
    if first:
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    if array.ndim == 3:
        axes = (0, 2) if first else (2, 0)
        axis = next((axis for axis in axes if array.shape[axis] in CHANNELS), None)
        array = None if axis is None else np.moveaxis(array, axis, 2)
    if array is None or array.ndim not in (2, 3) or not array.size:
        raise ImageError("array", "an array without the shape of an image", where=where, fix=WANTED)
    levels = np.ascontiguousarray(_levels(array, where))
    return Image.fromarray(levels[..., 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels)


def _levels(array: np.ndarray, where: object) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "bf":
        raise ImageError("array", f"an array of {array.dtype}", where=where, fix=WANTED)
    if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
        what = f"floats from {array.min():.4g} to {array.max():.4g} where 0 to 1 is meant"
        fix = "divide by 255, or give the image before it is normalized"
        raise ImageError("array", what, where=where, fix=fix)
    return (array.astype(np.float32) * 255).round().astype(np.uint8)
