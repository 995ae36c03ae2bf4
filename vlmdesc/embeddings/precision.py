"""Which number format is fastest on this machine and still says the same: `--precision auto`."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from vlmdesc.cache import Answers, cache_folder
from vlmdesc.embeddings.encoder import PRECISIONS, Built, OpenClipEncoder
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.errors import StoreError

CANDIDATES = {"cpu": ("bf16",), "cuda": ("fp16", "bf16"), "mps": ("fp16",)}  # fp16 has no fast path on any CPU
LOWEST_COSINE = 0.9995  # median over the probes, to fp32
LEAST_GAIN = 1.2  # below it, noise would decide, and what is stored would change its precision between runs
PROBES, ROUNDS = 8, 3
TEXTS = (
    "a photo of a hen.",
    "hen, which has a red comb",
    "black and white stripes",
    "a wooden door with brass handles",
)


@dataclass(frozen=True)
class Choice:
    """A precision, how many times as fast as fp32 it was, and the median cosine to fp32."""

    precision: str
    gain: float = 1.0
    cosine: float = 1.0


def choose(name: str, built: Built, device: str) -> Choice:
    """The fastest precision whose embeddings keep to those of fp32.

    Measured once per model, device, number of threads and torch, and remembered in the cache folder: a second
    measurement could come out otherwise, and embeddings of two precisions never mix.
    """
    exact = OpenClipEncoder(name, built, device, "fp32")
    answers = Answers(cache_folder() / "precision")
    question = {"model": exact.fingerprint, "torch": torch.__version__, **_machine(device)}
    known = answers.get(question)
    if known is not None:
        return Choice(**known)

    def make(precision: str) -> Encoder:
        return OpenClipEncoder(name, replace(built, model=copy.deepcopy(built.model)), device, precision)

    hopeful = [p for p in CANDIDATES[device.partition(":")[0]] if _product_gain(device, p) >= LEAST_GAIN]
    choice = fastest(exact, {precision: partial(make, precision) for precision in hopeful})
    with suppress(StoreError):  # it is measured again next time
        answers.put(question, asdict(choice))
    return choice


def fastest(
    exact: Encoder, candidates: Mapping[str, Callable[[], Encoder]], clock: Callable[[], float] = time.perf_counter
) -> Choice:
    """The best of the candidates that gain enough and stay close enough to `exact`, else fp32."""
    choices = [Choice("fp32")]
    for precision, make in candidates.items():
        pixels = probes(exact)
        try:
            encoder = make()
            cosine = min(
                float(np.median((encoder.forward(pixels) * exact.forward(pixels)).sum(axis=1))),
                float(np.median((encoder.texts(TEXTS) * exact.texts(TEXTS)).sum(axis=1))),
            )
        except Exception:  # noqa: S112 - a model may lack an operation in this precision, and torch says so anyhow
            continue
        seconds = np.array([[_seconds(e, pixels, clock) for e in (exact, encoder)] for _ in range(ROUNDS)])
        slow, fast = np.median(seconds, axis=0)
        if cosine > LOWEST_COSINE and slow / fast >= LEAST_GAIN:
            choices.append(Choice(precision, round(float(slow / fast), 2), round(cosine, 6)))
    return max(choices, key=lambda choice: choice.gain)


def probes(encoder: Encoder) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures with large shapes, small ones and noise, as `encoder` prepares them; the same every time."""
    rng = np.random.default_rng(0)
    side = max(encoder.image_px, 8)
    pictures = []
    for _ in range(PROBES):
        layers = [rng.uniform(0, 255, (n, n, 3)).astype(np.uint8) for n in (3, 8, 64)]
        sized = [Image.fromarray(layer).resize((side, side), Image.Resampling.BICUBIC) for layer in layers]
        pictures.append(Image.blend(Image.blend(sized[0], sized[1], 0.4), sized[2], 0.2))
    return np.stack([encoder.prepare(picture) for picture in pictures])


def _seconds(encoder: Encoder, pixels: UInt8[np.ndarray, "n h w 3"], clock: Callable[[], float]) -> float:
    began = clock()
    encoder.forward(pixels)
    return clock() - began


def _product_gain(device: str, precision: str) -> float:
    """How much faster one matrix product is than in fp32. Where the hardware lacks the format it is far slower, and
    a model would take minutes to tell.
    """

    def seconds(dtype: torch.dtype) -> float:
        a, b = (torch.ones(256, 768, dtype=dtype, device=device), torch.ones(768, 768, dtype=dtype, device=device))
        times = []
        for _ in range(5):
            began = time.perf_counter()
            (a @ b).sum().item()  # an item waits for the device
            times.append(time.perf_counter() - began)
        return sorted(times)[2]

    return seconds(torch.float32) / seconds(PRECISIONS[precision])


def _machine(device: str) -> dict[str, str | int]:
    if device.startswith("cuda"):
        return {"device": torch.cuda.get_device_name(device)}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"device": f"{device} {platform.machine()} {capability}", "threads": torch.get_num_threads()}
