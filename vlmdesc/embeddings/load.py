"""One way to get an encoder."""

from __future__ import annotations

import warnings

import torch

from vlmdesc.embeddings import openclip, starter
from vlmdesc.embeddings.encoder import PRECISIONS, OpenClipEncoder
from vlmdesc.errors import InputError, VlmdescWarning


def load_encoder(model: str = "starter", *, device: str = "auto", precision: str = "fp32") -> OpenClipEncoder:
    """The encoder `model` names: "starter", or what `vlmdesc.embeddings.openclip` can load.

    `device` is "auto" (the first of cuda, mps, cpu that is here) or one of them. `precision` is fp32, bf16 or fp16.

    Raises: InputError for an unknown device or precision; ModelError when the model cannot be loaded; EndpointError
    when a hub is needed and does not answer. Warns when a local checkpoint's activation cannot be known.
    """
    if precision not in PRECISIONS:
        gone = "leave it out for fp32, or " if precision == "auto" else ""
        raise InputError(f"unknown precision '{precision}'", fix=f"{gone}use one of {', '.join(PRECISIONS)}")
    device = pick_device(device)
    built = starter.build() if model == "starter" else openclip.build(model)
    if openclip.activation_is_a_guess(model):
        architecture = model.partition("/")[0]
        warnings.warn(
            f"{model}: built with {'QuickGELU' if 'quickgelu' in architecture else 'GELU'}; a checkpoint does not tell "
            "which its weights were trained with. OpenAI, MetaCLIP and DFN weights want the -quickgelu architecture",
            VlmdescWarning,
            stacklevel=2,
        )
    return OpenClipEncoder(model, built, device, precision)


def pick_device(device: str) -> str:
    """ "auto" resolved; a device that is not here is refused. Raises: InputError."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, is_here in here.items() if is_here)
    kind, _, number = device.partition(":")
    if not here.get(kind, False) or (number and not number.isdecimal()):
        raise InputError(
            f"no device '{device}' here", fix=f"use one of auto, {', '.join(d for d, h in here.items() if h)}"
        )
    return device
