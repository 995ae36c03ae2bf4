"""What every encoder can do. Torch-free, so that classifiers and fakes need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from vlmdesc.errors import InputError
from vlmdesc.records.progress import note


@dataclass(frozen=True)
class Prepared:
    """What the model sees of an image, and which part of the image that is.

    `box` is (left, top, right, bottom) in shares of the upright image's width and height, so that it holds whatever the
    scale the image was decoded at: where `pixels` has (x, y), in shares of its own sides, the image has
    (left + x * (right - left), top + y * (bottom - top)). Below 0 and above 1 there is padding.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    box: tuple[float, float, float, float]


@runtime_checkable
class Encoder(Protocol):
    """Images and texts to unit-norm float32 vectors in one space.

    `fingerprint` covers weights, architecture, preprocessing and precision: two encoders agree on it exactly when
    their embeddings may be mixed. `prepare` and `forward` are the two halves of `images`: the first is cheap and needs
    no model; the second is the model. All of it may be called from several threads at once.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def precision(self) -> str:
        """The number format of the weights: fp32, bf16 or fp16."""
        ...

    @property
    def engine(self) -> str:
        """What runs the towers, such as "torch": bit for bit the same within an engine, to 1e-5 across."""
        ...

    @property
    def dim(self) -> int:
        """Width D of an embedding."""
        ...

    @property
    def image_px(self) -> int:
        """Longest side the model sees, in pixels; images need not be decoded at more than twice this."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens the text tower reads; what is beyond is cut off."""
        ...

    def prepare(self, image: Image.Image) -> Prepared:
        """One upright RGB image, resized and cropped as the model wants it."""
        ...

    def forward(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Embeddings of prepared images."""
        ...

    def images(self, images: object) -> Float32[np.ndarray, "n d"]:
        """Embeddings of images, whatever `sources_of` takes for them: `forward` of each one's `prepare`."""
        ...

    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "m d"]:
        """Embeddings of texts. Raises: InputError for what is no list of strings."""
        ...

    def n_tokens(self, text: str) -> int:
        """Tokens of `text`, begin and end marks included, before anything is cut."""
        ...


@runtime_checkable
class PatchEncoder(Protocol):
    """An encoder that also tells what it sees where."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; the patches of an image are in reading order."""
        ...

    def patches(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n p d"]:
        """Unit-norm embeddings of each patch of prepared images, in the space of the texts."""
        ...


def check_texts(encoder: Encoder, texts: Sequence[str]) -> None:
    """Note each text that has more tokens than the encoder reads: its end would be lost without a word.

    Raises: InputError for what is no list of texts.
    """
    if isinstance(texts, (str, bytes)):
        raise InputError("one text where a list of texts is meant", fix="put it in a list: [text]")
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise InputError("not a list of texts", fix='give a list of strings, such as ["a red comb"]')
    limit = encoder.context_length
    for text in dict.fromkeys(texts):
        # A token has one byte at the least, and begin and end are two: most texts need no count.
        if len(text.encode("utf-8", "replace")) + 2 > limit and (n := encoder.n_tokens(text)) > limit:
            note(f"{encoder.name} reads {limit} of the {n} tokens of '{text}'; the rest is lost: shorten it")
