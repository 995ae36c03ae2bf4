"""An open_clip model as an Encoder."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import CenterCropOrPad
from PIL import Image
from torchvision.transforms import CenterCrop

from vlmdesc.embeddings.protocol import Prepared, check_texts
from vlmdesc.embeddings.sources import open_images
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

    `geometry` are the steps before the cut: what resizes the whole image, then what crops or pads about its centre.
    `recipe` is everything besides the weights that decides what comes out: architecture and preprocessing.
    """

    model: torch.nn.Module
    tokenizer: Any
    geometry: Sequence[Callable[[Image.Image], Image.Image]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_px: int
    dim: int
    recipe: dict[str, Any]


class OpenClipEncoder:
    """Encoder over an open_clip model; see `vlmdesc.embeddings.protocol.Encoder` for the methods.

    What overflows in half precision is computed again in fp32. Pickled, it is its weights and all: where the model came
    from need not be there. It is not for files: nothing is unpickled from a file.
    Raises: ModelError when the model gives a vector that is not finite.
    """

    engine = "torch"

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
        self.image_px, self.dim = built.image_px, built.dim
        self.context_length = int(built.tokenizer.context_length)
        self._lock = Lock()
        self._twin: torch.nn.Module | None = None

    def __getstate__(self) -> dict[str, Any]:  # locks stay in their process; the copy is made again where it is needed
        return self.__dict__ | {"_lock": None, "_twin": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, architecture, preprocessing, tokens of probe texts and precision, 32 hex digits."""
        recipe = [self._built.recipe, self.precision, self._tokens(list(PROBES)).tolist()]
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode())
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    def prepare(self, image: Image.Image) -> Prepared:
        uncropped = None
        for step in self._built.geometry:
            if isinstance(step, (CenterCrop, CenterCropOrPad)):
                uncropped = image.size
            image = step(image)
        (left, right), (top, bottom) = map(_crop, image.size, uncropped or image.size)
        return Prepared(np.array(image, dtype=np.uint8), (left, top, right, bottom))

    @torch.inference_mode()
    def forward(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        return self._unit("image", "encode_image", self._normalize(pixels))

    def _normalize(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> torch.Tensor:
        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float().div(255)
        return batch.sub(self._mean).div(self._std)

    def images(self, images: object) -> Float32[np.ndarray, "n d"]:
        pixels = [self.prepare(image).pixels for image in open_images(images)]
        return self.forward(np.stack(pixels)) if pixels else np.empty((0, self.dim), np.float32)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "m d"]:
        check_texts(self, texts)
        if not texts:
            return np.empty((0, self.dim), np.float32)
        unique = sorted(dict.fromkeys(texts), key=len)  # batches of like length waste little on padding
        parts = [self._text_batch(unique[i : i + TEXT_BATCH]) for i in range(0, len(unique), TEXT_BATCH)]
        row = {text: i for i, text in enumerate(unique)}
        return np.concatenate(parts)[[row[text] for text in texts]]

    def _text_batch(self, texts: list[str]) -> Float32[np.ndarray, "m d"]:
        tokens = self._tokens(texts)
        tower = getattr(self._model, "text", None)
        if isinstance(tower, HFTextEncoder):  # masks its padding, so padding that no text needs can go
            used = (tokens != tower.config.pad_token_id).any(dim=0).nonzero().max()
            tokens = tokens[:, : int(used) + 1]
        return self._unit("text", "encode_text", tokens.to(self.device))

    def _tokens(self, texts: list[str]) -> torch.Tensor:
        with self._lock:  # tokenizers of the hub keep how they pad and cut between calls
            return self._built.tokenizer(texts)

    def _unit(self, what: str, tower: str, batch: torch.Tensor) -> Float32[np.ndarray, "n d"]:
        """A batch through a tower, at unit norm; rows that overflow in half precision once more in fp32."""
        vectors = self._through(self._model, tower, batch)
        bad = ~_finite(vectors)
        if bad.any() and self._dtype != torch.float32:
            vectors[bad] = self._through(self._in_fp32(), tower, batch[bad])
            bad = ~_finite(vectors)
        if bad.any():
            fix = "use another image or model" if self._dtype == torch.float32 else "use --precision fp32"
            raise ModelError(f"an {what} embedding is not a finite direction", where=self.name, fix=fix)
        return torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()

    def _in_fp32(self) -> torch.nn.Module:
        """A copy of the model in fp32, made the first time something overflows; the model itself never changes."""
        with self._lock:
            if self._twin is None:
                self._twin = copy.deepcopy(self._model).float()
            return self._twin

    def _through(self, model: torch.nn.Module, tower: str, batch: torch.Tensor) -> torch.Tensor:
        dtype = next(model.parameters()).dtype
        found: torch.Tensor = getattr(model, tower)(batch.to(dtype) if batch.is_floating_point() else batch)
        return found.float()

    def n_tokens(self, text: str) -> int:
        tokenizer = self._built.tokenizer
        if isinstance(tokenizer, SimpleTokenizer):
            return len(tokenizer.encode(text)) + 2
        clean = getattr(tokenizer, "clean_fn", str)
        with self._lock:
            return len(tokenizer.tokenizer(clean(text))["input_ids"])


def _crop(n: int, of: int) -> tuple[float, float]:
    """Where `n` pixels about the centre of `of` begin and end, in shares of `of`; as torchvision crops and pads."""
    start = round((of - n) / 2) if n <= of else -((n - of) // 2)
    return start / of, (start + n) / of


def _finite(vectors: torch.Tensor) -> torch.Tensor:
    norms = vectors.norm(dim=-1)
    return torch.isfinite(norms) & (norms > 0)
