"""An open_clip model as an Encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from vlmdesc.embeddings.protocol import warn_of_long
from vlmdesc.errors import ModelError

TEXT_BATCH = 256
# Tokenizers that agree on these are taken for the same: ordinary words of this trade, signs, capitals, other scripts.
PROBES = (
    *"hen zebra owl comb stripes feathers beak fur wings tail wheel handle window water grass sky wooden metal".split(),
    "A photo of a Hen, which has a red comb.",
    "black-and-white   STRIPES; 12 ears & it's 3.5 m",
    "caf\u00e9 \u65e5\u672c \U0001f414",
)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Built:
    """The parts of a model: towers, tokenizer, and image preprocessing cut in two at the uint8 pixels.

    `recipe` is everything besides the weights that decides what comes out: architecture and preprocessing.
    """

    model: torch.nn.Module
    tokenizer: Any
    geometry: Callable[[Image.Image], Image.Image]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_px: int
    recipe: dict[str, Any]


class OpenClipEncoder:
    """Encoder over an open_clip model; see `vlmdesc.embeddings.protocol.Encoder` for the methods.

    What overflows in half precision is computed again in fp32.
    Raises: ModelError when the model gives a vector that is not finite.
    """

    def __init__(self, name: str, built: Built, device: str, precision: str) -> None:
        self.name = name
        self.device, self.precision = device, precision
        self._dtype = PRECISIONS[precision]
        self._built = built
        self._model = built.model.eval().requires_grad_(False).to(device=device, dtype=self._dtype)
        if device.startswith("cuda"):  # what its convolutions in half precision are made for
            self._model = self._model.to(memory_format=torch.channels_last)
        self._mean = torch.tensor(built.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(built.std, device=device).view(1, 3, 1, 1)
        self.image_px = built.image_px
        self.context_length = int(built.tokenizer.context_length)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, architecture, preprocessing, tokens of probe texts and precision, 32 hex digits."""
        recipe = [self._built.recipe, self.precision, self._built.tokenizer(list(PROBES)).tolist()]
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode())
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    def prepare(self, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
        return np.array(self._built.geometry(image), dtype=np.uint8)

    @torch.inference_mode()
    def forward(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        return self._unit("image", "encode_image", self._normalized(pixels))

    def _normalized(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> torch.Tensor:
        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float().div(255)
        return batch.sub(self._mean).div(self._std)

    def images(self, images: Sequence[Image.Image]) -> Float32[np.ndarray, "n d"]:
        if not images:
            return np.empty((0, self.texts(["a"]).shape[1]), np.float32)
        return self.forward(np.stack([self.prepare(image) for image in images]))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "m d"]:
        if not texts:
            return self.texts(["a"])[:0]
        warn_of_long(self, texts)
        unique = sorted(dict.fromkeys(texts), key=len)  # batches of like length waste little on padding
        parts = [self._text_batch(unique[i : i + TEXT_BATCH]) for i in range(0, len(unique), TEXT_BATCH)]
        row = {text: i for i, text in enumerate(unique)}
        return np.concatenate(parts)[[row[text] for text in texts]]

    def _text_batch(self, texts: list[str]) -> Float32[np.ndarray, "m d"]:
        tokens = self._built.tokenizer(texts)
        tower = getattr(self._model, "text", None)
        if isinstance(tower, HFTextEncoder):  # masks its padding, so padding that no text needs can go
            used = (tokens != tower.config.pad_token_id).any(dim=0).nonzero().max()
            tokens = tokens[:, : int(used) + 1]
        return self._unit("text", "encode_text", tokens.to(self.device))

    def _unit(self, what: str, tower: str, batch: torch.Tensor) -> Float32[np.ndarray, "n d"]:
        """A batch through a tower, at unit norm; rows that overflow in half precision once more in fp32."""
        vectors = self._through(tower, batch)
        bad = ~_finite(vectors)
        if bad.any() and self._dtype != torch.float32:
            try:
                self._model.float()  # and back: rounding twice is rounding once
                vectors[bad] = self._through(tower, batch[bad], torch.float32)
            finally:
                self._model.to(self._dtype)
            bad = ~_finite(vectors)
        if bad.any():
            fix = "use another picture or model" if self._dtype == torch.float32 else "use --precision fp32"
            raise ModelError(f"an {what} embedding is not a finite direction", where=self.name, fix=fix)
        return torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()

    def _through(self, tower: str, batch: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        inputs = batch.to(dtype or self._dtype) if batch.is_floating_point() else batch
        found: torch.Tensor = getattr(self._model, tower)(inputs)
        return found.float()

    def n_tokens(self, text: str) -> int:
        tokenizer = self._built.tokenizer
        if isinstance(tokenizer, SimpleTokenizer):
            return len(tokenizer.encode(text)) + 2
        clean = getattr(tokenizer, "clean_fn", str)
        return len(tokenizer.tokenizer(clean(text))["input_ids"])


def _finite(vectors: torch.Tensor) -> torch.Tensor:
    norms = vectors.norm(dim=-1)
    return torch.isfinite(norms) & (norms > 0)
