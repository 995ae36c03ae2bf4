"""Models by name: open_clip tags, hub ids, local folders and local checkpoints.

    ViT-B-32/laion2b_s34b_b79k         an architecture and a pretrained tag (from the hub, or its cache)
    hf-hub:ORG/REPO                    a hub repository with an open_clip_config.json
    local-dir:/path/to/folder          the same, in a folder
    ViT-B-32/@/path/to/ckpt.safetensors  an architecture and a local checkpoint

What goes wrong in silence elsewhere is an error here: an activation (GELU or QuickGELU) or an image preprocessing that
is not what the weights were trained with, and weights that are code.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from threading import Lock
from typing import Any

import open_clip
from huggingface_hub import hf_hub_download
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transform import PreprocessCfg, image_transform_v2

from vlmdesc.embeddings.encoder import Built
from vlmdesc.embeddings.load import ENCODERS
from vlmdesc.embeddings.model_folder import check_config, check_text_files, code_off
from vlmdesc.errors import EndpointError, ModelError, StoreError, VlmdescError, check_proxies, without_secrets
from vlmdesc.text import did_you_mean, few

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
CONFIG = "open_clip_config.json"
_LOGGING = Lock()
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Recipe:
    """What to hand to open_clip, and the preprocessing and activation that go with the weights."""

    model: str
    pretrained: str | None = None
    quick_gelu: bool = False
    preprocessing: dict[str, Any] | None = None


def build(name: str) -> Built:
    """The parts of the open_clip model `name`.

    Raises: ModelError when the name, folder or checkpoint is no good; EndpointError when a hub does not answer.
    """
    spec = parse(name)
    remote = not (_folder(spec.model) or (spec.pretrained and Path(spec.pretrained).is_file()))
    if remote:
        check_proxies("HF_ENDPOINT")
    try:
        with _quiet(), code_off():
            model_config = _model_config(spec.model)
            text = model_config.get("text_cfg") or {}
            check_text_files(text, _folder(spec.model))
            model = open_clip.create_model(
                spec.model,
                spec.pretrained,
                force_quick_gelu=spec.quick_gelu,
                force_preprocess_cfg=spec.preprocessing,
                require_pretrained=True,
                pretrained_text=False,
                weights_only=True,
            )
            off = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
            tokenizer = open_clip.get_tokenizer(spec.model, **off)
    except VlmdescError:
        raise
    except Exception as error:  # hub clients, unpicklers and torch raise many types
        raise (_unreachable(name, error) if remote else _unloadable(name, error)) from error
    config = dict(open_clip.get_model_preprocess_cfg(model))
    steps = image_transform_v2(PreprocessCfg(**config), is_train=False).transforms
    size = config["size"]
    recipe = {"config": model_config, "quick_gelu": spec.quick_gelu, "preprocess": config}
    # The last two steps are to-tensor and normalize; before them there are pixels.
    return Built(
        model,
        tokenizer,
        steps[:-2],
        tuple(config["mean"]),
        tuple(config["std"]),
        max(size) if isinstance(size, (tuple, list)) else size,
        int(model_config["embed_dim"]),
        recipe,
    )


def parse(name: str) -> Recipe:
    """The recipe of a model name. Raises: ModelError with what is known here."""
    if name.startswith("hf-hub:"):
        return Recipe(name)
    if folder := _folder(name):
        _model_config(name)
        if not any(path.suffix in SUFFIXES for path in folder.iterdir()):
            raise ModelError("no weights", where=folder, fix=f"put one of *{', *'.join(SUFFIXES)} there")
        return Recipe(name)
    architecture, _, weights = name.partition("/")
    if open_clip.get_model_config(architecture) is None:
        hint = did_you_mean(architecture, [*ENCODERS, *open_clip.list_models()])
        forms = f"use {', '.join(ENCODERS)}, ARCHITECTURE/TAG, ARCHITECTURE/@FILE, local-dir:FOLDER or hf-hub:ORG/REPO"
        raise ModelError(f"unknown model '{name}'", fix=hint + forms)
    local = weights.startswith("@")
    return _local_file(architecture, Path(weights[1:])) if local else _from_tag(architecture, weights)


def _from_tag(architecture: str, tag: str) -> Recipe:
    tags = list_pretrained_tags_by_model(architecture)
    config = get_pretrained_cfg(architecture, tag) if tag else None
    if not config:
        known = few(get_close_matches(tag, tags, 3) or tags, 8) or "none; give a checkpoint as ARCHITECTURE/@FILE"
        raise ModelError(f"{architecture} has no weights '{tag}'", fix=f"name one of its tags: {known}")
    quick = bool(config.get("quick_gelu", False))
    if _has_quick_gelu(architecture) and not quick:
        what = f"{architecture} is built with QuickGELU but '{tag}' was trained with GELU"
        raise ModelError(what, fix=f"use {architecture.removesuffix('-quickgelu')}/{tag}")
    return Recipe(architecture, tag, quick_gelu=quick)


def _local_file(architecture: str, path: Path) -> Recipe:
    """A checkpoint tells neither its preprocessing nor its activation: take what the architecture's tags agree on."""
    if not path.is_file():
        raise ModelError("checkpoint not found", where=path, fix="check the path after @")
    if path.suffix not in SUFFIXES:
        raise ModelError(
            f"cannot load a checkpoint of kind '{path.suffix}'", where=path, fix="convert it to safetensors"
        )
    configs = [get_pretrained_cfg(architecture, tag) for tag in list_pretrained_tags_by_model(architecture)]
    kinds = [{key: config.get(key) for key in PREPROCESSING} for config in configs]
    if not kinds or any(kind != kinds[0] for kind in kinds):
        what = f"the preprocessing of {architecture} weights is not known"
        fix = 'put it beside an open_clip_config.json with "model_cfg" and "preprocess_cfg"; use local-dir:FOLDER'
        raise ModelError(what, where=path, fix=fix)
    if "openai" in path.name.lower() and not _has_quick_gelu(architecture):
        raise ModelError("OpenAI weights need QuickGELU", where=path, fix=f"use {architecture}-quickgelu/@{path}")
    return Recipe(architecture, str(path), preprocessing=kinds[0])


def activation_is_a_guess(name: str) -> bool:
    """Whether `name` is a local checkpoint of an architecture whose known weights differ in GELU and QuickGELU."""
    architecture, _, weights = name.partition("/")
    tags = list_pretrained_tags_by_model(architecture)
    return (
        weights.startswith("@") and len({bool(get_pretrained_cfg(architecture, t).get("quick_gelu")) for t in tags}) > 1
    )


def _folder(model: str) -> Path | None:
    return Path(model.removeprefix("local-dir:")) if model.startswith("local-dir:") else None


def _model_config(model: str) -> dict[str, Any]:
    """What a model is made of: a copy. A folder's or a hub's own word for it is checked first. Raises: ModelError."""
    if model.startswith("hf-hub:"):
        return _check(Path(hf_hub_download(model.removeprefix("hf-hub:"), CONFIG)))
    folder = _folder(model)
    return _check(folder / CONFIG, folder) if folder else open_clip.get_model_config(model)


def _check(config: Path, folder: Path | None = None) -> dict[str, Any]:
    """The model_cfg of a file that says what the model is and what images it was trained with, and asks for no more.

    Raises: ModelError.
    """
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        what = f"no readable {CONFIG}: {error}"
        raise ModelError(what, where=config.parent, fix="use one saved by open_clip") from error
    for key in ("model_cfg", "preprocess_cfg"):
        if not isinstance(found, dict) or not isinstance(found.get(key), dict):
            raise ModelError(f'no "{key}"', where=config, fix="add it; without it the model would see wrong images")
    check_config(found, config, folder)
    return found["model_cfg"]


def _has_quick_gelu(architecture: str) -> bool:
    return bool((open_clip.get_model_config(architecture) or {}).get("quick_gelu", False))


def _unloadable(name: str, error: Exception) -> ModelError:
    text = without_secrets(error).strip() or type(error).__name__
    if isinstance(error, UnpicklingError) or "weights_only" in text or "TorchScript" in text:
        what = "the checkpoint holds code, not only weights: refused"
        return ModelError(what, where=name, fix="convert it to safetensors")
    fix = "check that the weights belong to this architecture and are whole"
    return ModelError(f"cannot load: {' '.join(text.split())[:200]}", where=name, fix=fix)


def _unreachable(name: str, error: Exception) -> VlmdescError:
    text = " ".join(without_secrets(error).split())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return StoreError(f"cannot keep the weights: {error.strerror}", where=name, fix="free space, or set HF_HOME")
    if isinstance(error, (ImportError, MemoryError)) or "Error(s) in loading" in text or "weights_only" in text:
        return _unloadable(name, error)
    fix = "go online, or use --model starter, a local checkpoint (ARCHITECTURE/@FILE) or local-dir:FOLDER"
    return EndpointError(f"the model hub did not give the weights: {text[:200]}", where=name, fix=fix)


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip narrates on the root logger; what matters comes back as an error."""
    with _LOGGING:  # two loads at once would restore each other's silence
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
