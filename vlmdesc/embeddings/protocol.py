"""What every encoder can do. Torch-free, so that classifiers and fakes need no torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from vlmdesc.errors import VlmdescWarning


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


def warn_of_long(encoder: Encoder, texts: Sequence[str]) -> None:
    """Warn of each text that has more tokens than the encoder reads: its end would be lost without a word."""
    limit = encoder.context_length
    for text in dict.fromkeys(texts):
        # A token has one byte at the least, and begin and end are two: most texts need no count.
        if len(text.encode("utf-8", "replace")) + 2 > limit and (n := encoder.n_tokens(text)) > limit:
            message = f"{encoder.name} reads {limit} of the {n} tokens of '{text}'; the rest is lost: shorten it"
            warnings.warn(message, VlmdescWarning, stacklevel=3)
