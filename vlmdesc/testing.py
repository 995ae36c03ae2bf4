"""Fakes that users' tests need as much as ours."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8
from PIL import Image

from vlmdesc.classification.heads import HeadCard
from vlmdesc.descriptors.prompts import KEY
from vlmdesc.descriptors.protocol import Reply, Usage
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.embeddings.protocol import Encoder, Prepared, warn_of_long
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.methods import Given
from vlmdesc.records import Descriptors

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

    def images(self, images: Sequence[Image.Image]) -> Float32[np.ndarray, "n d"]:
        if not images:
            return np.empty((0, self.dim), np.float32)
        return self.forward(np.stack([self.prepare(image).pixels for image in images]))

    def patches(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n p d"]:
        rows, columns = self.grid
        bands = (band for image in pixels for band in np.split(image, rows))
        blocks = np.stack([block for band in bands for block in np.split(band, columns, axis=1)])
        return self.forward(blocks).reshape(len(pixels), rows * columns, self.dim)

    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "m d"]:
        warn_of_long(self, texts)
        return _unit(np.array([self._text(text) for text in texts]).reshape(len(texts), self.dim))

    def n_tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def _text(self, text: str) -> list[float]:
        words = [_ALIASES.get(word, word) for word in re.findall(r"[a-z]+", text.lower())]
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        own = [0.1 * (byte / 255 - 0.5) for byte in digest[:_HASH_DIMS]]
        return [float(words.count(colour)) for colour in COLOURS] + own


class FakeLLM:
    """A language model without weights: it answers by rote, and notes what it was asked.

    `answers` maps class names to descriptors; a class that is not among them is refused.

    >>> import asyncio
    >>> fake = FakeLLM({"hen": ["a red comb"]})
    >>> asyncio.run(fake.answer([{"role": "user", "content": 'What does "hen" look like?'}], {}, {})).text
    '{"descriptors": ["a red comb"]}'
    """

    name = "fake"

    def __init__(self, answers: Mapping[str, Sequence[str]]) -> None:
        self.answers, self.usage = answers, Usage()
        self.asked: list[str] = []

    async def answer(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], sampling: Mapping[str, float]
    ) -> Reply:
        self.usage.calls += 1
        question = next(m["content"] for m in reversed(messages) if '"' in m["content"].partition("{")[0])
        self.asked.append(question)
        name = next((name for name in self.answers if json.dumps(name, ensure_ascii=False) in question), None)
        if name is None:
            return Reply("", "refused")
        return Reply(json.dumps({KEY: [*self.answers[name]]}, ensure_ascii=False))


def labelled(vectors: Float32[np.ndarray, "n d"], labels: Sequence[int] | Int[np.ndarray, " n"]) -> Labelled:
    """Labelled embeddings of images that are all different."""
    keys = tuple(f"{i}.png" for i in range(len(labels)))
    numbers = np.array(labels, np.intp)
    return Labelled(vectors, numbers, keys, tuple(range(len(labels))), keys, (None,) * len(labels))


def given_of(
    encoder: Encoder,
    descriptors: Descriptors,
    images: Labelled,
    folds: Int[np.ndarray, " n"] | None = None,
    reference: Labelled | None = None,
) -> Given:
    """What methods are fitted with: weights are chosen on the reference, else by cross-validation over folds."""
    on = reference or images
    if folds is None:
        folds = calibrate.folds(images.labels, images.contents, 0)
    card = HeadCard.of("", encoder, descriptors)
    return Given(card, encoder.texts, images.vectors, on.vectors, on.labels, None if reference else folds, reference)


def _unit(vectors: np.ndarray) -> Float32[np.ndarray, "n d"]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
