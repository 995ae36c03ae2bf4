"""What every encoder can do. Torch-free, so that classifiers and fakes need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image


@runtime_checkable
class Encoder(Protocol):
    """Images and texts to unit-norm float32 vectors in one space.

    `fingerprint` covers weights, architecture, preprocessing and precision: two encoders agree on it exactly when
    their embeddings may be mixed. `prepare` and `forward` are the two halves of `images`: the first is cheap, safe in
    threads and needs no model; the second is the model.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def image_px(self) -> int:
        """Longest side the model sees, in pixels; pictures need not be decoded at more than twice this."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens the text tower reads; what is beyond is cut off."""
        ...

    def prepare(self, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
        """One upright RGB image, resized and cropped as the model wants it."""
        ...

    def forward(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Embeddings of prepared images."""
        ...

    def images(self, images: Sequence[Image.Image]) -> Float32[np.ndarray, "n d"]:
        """Embeddings of upright RGB images: `forward` of each one's `prepare`."""
        ...

    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "m d"]:
        """Embeddings of texts."""
        ...

    def n_tokens(self, text: str) -> int:
        """Tokens of `text`, begin and end marks included, before anything is cut."""
        ...
