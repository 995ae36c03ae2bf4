"""An encoder without weights, for tests and trials."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from vlmdesc.embeddings.protocol import Prepared, check_texts
from vlmdesc.embeddings.sources import open_images

# The basic colour terms of English (Berlin & Kay 1969).
COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (220, 20, 20),
    "green": (20, 160, 20),
    "blue": (20, 40, 220),
    "yellow": (250, 230, 20),
    "orange": (250, 140, 20),
    "brown": (120, 70, 30),
    "pink": (250, 160, 200),
    "purple": (130, 30, 160),
}
_ALIASES = {"gray": "grey"}
_HASH_DIMS = 5


class FakeEncoder:
    """An encoder without weights that truly sees, but only colours.

    An image is the histogram of its nearest basic colours; a text is the colour words in it, plus a little of its own
    hash so that different texts differ. Its patches are a grid of 4 x 4. Deterministic and instant.

    >>> fake = FakeEncoder()
    >>> image = Image.new("RGB", (40, 30), (225, 15, 25))
    >>> (fake.images([image]) @ fake.texts(["a red comb", "a blue door"]).T).round(1).tolist()
    [[1.0, 0.0]]
    """

    name = "fake"
    fingerprint = "fake-1"
    precision = "fp32"
    engine = "numpy"
    dim = 16
    image_px = 16
    context_length = 77
    grid = (4, 4)

    def prepare(self, image: Image.Image) -> Prepared:
        small = image.resize((self.image_px, self.image_px), Image.Resampling.BILINEAR)
        return Prepared(np.array(small), (0.0, 0.0, 1.0, 1.0))

    def forward(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        palette = np.array(list(COLOURS.values()), np.float32)
        flat = pixels.reshape(len(pixels), -1, 3).astype(np.float32)
        nearest = ((flat[:, :, None] - palette) ** 2).sum(-1).argmin(-1)
        counts = np.stack([np.bincount(row, minlength=len(palette)) for row in nearest])
        return _unit(np.pad(counts, ((0, 0), (0, _HASH_DIMS))))

    def images(self, images: object) -> Float32[np.ndarray, "n d"]:
        pixels = [self.prepare(image).pixels for image in open_images(images)]
        return self.forward(np.stack(pixels)) if pixels else np.empty((0, self.dim), np.float32)

    def patches(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n p d"]:
        rows, columns = self.grid
        bands = (band for image in pixels for band in np.split(image, rows))
        blocks = np.stack([block for band in bands for block in np.split(band, columns, axis=1)])
        return self.forward(blocks).reshape(len(pixels), rows * columns, self.dim)

    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "m d"]:
        check_texts(self, texts)
        return _unit(np.array([self._text(text) for text in texts]).reshape(len(texts), self.dim))

    def n_tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def _text(self, text: str) -> list[float]:
        words = [_ALIASES.get(word, word) for word in re.findall(r"[a-z]+", text.lower())]
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        own = [0.1 * (byte / 255 - 0.5) for byte in digest[:_HASH_DIMS]]
        return [float(words.count(colour)) for colour in COLOURS] + own


def _unit(vectors: np.ndarray) -> Float32[np.ndarray, "n d"]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
