"""What a model folder or hub repository may ask for. Its files are strangers' data: nothing in them runs.

open_clip hands parts of a model's configuration on to timm and transformers, and these would import Python that lies
beside the weights (`trust_remote_code`, `auto_map`), fetch it (kernels, `hf-hub:` names), or build whatever class is
named. So every key, and every name of a class, is held against the lists of `embeddings.model_keys` before anything
is built, and code is switched off besides. Files that no configuration leads to (a `.py` or `.pkl` beside the weights)
are never opened, and a chat template is never filled in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from vlmdesc.embeddings import model_keys as keys
from vlmdesc.errors import ModelError, check_proxies
from vlmdesc.text import did_you_mean, few

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_LOADING = RLock()


@dataclass(frozen=True)
class _Demand:
    """Something a file asks for that it may not."""

    key: str
    what: str
    file: str
    hint: str = ""


def check_config(found: dict[str, Any], file: Path, folder: Path | None = None) -> None:
    """Hold an open_clip_config.json, and the tokenizer in its `folder`, against the lists.

    Raises: ModelError that names what is not on them, and says whether it would run code.
    """
    model = found["model_cfg"]
    asked = [
        *_strange(found, ("model_cfg", "preprocess_cfg"), {}, file, other=keys.a_dict),
        *_strange(model, keys.MODEL, keys.MODEL_VALUES, file, "model_cfg"),
        *_strange(found["preprocess_cfg"], keys.PREPROCESS, {}, file, "preprocess_cfg"),
    ]
    for part, known in keys.PARTS.items():
        of_part = _inner(model, part)
        asked += _strange(of_part, known, keys.MODEL_VALUES, file, part)
        for inner, of_inner in keys.INNER.items():
            asked += _strange(_inner(of_part, inner), of_inner, keys.MODEL_VALUES, file, f"{part}.{inner}")
    if folder and _inner(model, "text_cfg").get("hf_tokenizer_name"):  # whatever name: open_clip takes the folder's
        asked += _tokenizer(str(folder))
    _refuse(asked)


def check_text_files(text: dict[str, Any], folder: Path | None = None) -> None:
    """Hold what transformers would read elsewhere, for a text_cfg, against the lists. `folder` is the model's own.

    Raises: ModelError as `check_config` does; InputError for a proxy; what the hub client raises.
    """
    tower, tokenizer = text.get("hf_model_name"), text.get("hf_tokenizer_name")
    asked = [*_config_json(_source(tower, folder), keys.TOWERS)] if tower else []
    if tokenizer and not folder:
        asked += _tokenizer(_source(tokenizer, None))
    _refuse(asked)


@contextmanager
def code_off() -> Iterator[None]:
    """While it lasts, transformers does not ask at the terminal whether the code of a text tower may run.

    Silence counts as no: open_clip has no way to say so for a tower, as there is for a tokenizer.
    """
    try:
        from transformers import dynamic_module_utils
    except ImportError:  # an extra: then there is nothing to switch off
        yield
        return
    with _LOADING:
        before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
        try:
            yield
        finally:
            dynamic_module_utils.TIME_OUT_REMOTE_CODE = before


def _refuse(asked: Iterable[_Demand]) -> None:
    found = list(dict.fromkeys(asked))
    code = [ask for ask in found if ask.key in keys.CODE]
    if code:
        what, fix = "would run code of its own", "use a model without code of its own, or remove it"
    else:
        what, fix = "asks for what is not known to be safe", "remove it, or use another model"
    if found:
        first = (code or found)[0]
        raise ModelError(
            f"the model {what}: {few([ask.what for ask in code or found])}", where=first.file, fix=first.hint + fix
        )


def _strange(
    found: dict[str, Any],
    known: Iterable[str],
    values: dict[str, keys.Check],
    file: object,
    within: str = "",
    *,
    other: keys.Check = keys.plain,
) -> Iterator[_Demand]:
    """What of `found` is not `known`, or fails the check of its value: its own, or `other`."""
    known = frozenset(known)
    for key, value in found.items():
        if key not in known:
            yield _demand(key, value, file, within, did_you_mean(key, known))
        elif not values.get(key, other)(value):
            yield _demand(key, value, file, within)


def _demand(key: str, value: object, file: object, within: str = "", hint: str = "") -> _Demand:
    text = json.dumps(value)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    place = f" in {within}" if within else ""
    return _Demand(key, f'"{key[:80]}": {text}{place} of {Path(str(file)).name}', str(file), hint)


def _inner(found: dict[str, Any], key: str) -> dict[str, Any]:
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def _tokenizer(source: str) -> Iterator[_Demand]:
    """What is strange in the files that a tokenizer of transformers is made by."""
    yield from _config_json(source, keys.KINDS)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        found, file = _read(source, name)
        yield from _strange(found, keys.TOKENIZER_KEYS, keys.TOKENIZER_VALUES, file, other=keys.tokens)


def _config_json(source: str, kinds: frozenset[str]) -> Iterator[_Demand]:
    """What is strange in a config.json of transformers. Its class's own parameters are known too."""
    found, file = _read(source, "config.json")
    kind = found.get("model_type")
    known = {"": keys.CONFIG_KEYS}
    if kind is not None and not (isinstance(kind, str) and kind in kinds):
        yield _demand("model_type", kind, file, "", did_you_mean(str(kind), kinds))
    elif kind is not None:
        try:
            from transformers import CONFIG_MAPPING
        except ImportError as error:
            raise ModelError("needs transformers", where=source, fix="pip install 'vlmdesc[starter]'") from error
        own = CONFIG_MAPPING[kind]
        known[""] |= _parameters(own)
        for part, its_class in getattr(own, "sub_configs", {}).items():
            known[part] = known[f"{part}_dict"] = keys.CONFIG_KEYS | _parameters(its_class)
    for part, of_part in known.items():
        of_found = _inner(found, part) if part else found
        yield from _strange(of_found, of_part, keys.CONFIG_VALUES, file, part, other=keys.anything)


def _parameters(config_class: Any) -> set[str]:
    named = keys.parameters(config_class) | set(getattr(config_class, "attribute_map", {}))
    return named - {"kwargs", "quantization_config"}


def _source(name: str, folder: Path | None) -> str:
    """`name` when it is a hub id, or the model's own folder. Raises: ModelError."""
    own = folder is not None and Path(name).resolve() == folder.resolve()
    if not own and (not HUB_ID.fullmatch(name) or ".." in name or Path(name).is_file()):
        raise ModelError(
            f"the model takes its text tower or tokenizer from '{name[:200]}'",
            where=folder or "",
            fix="name a hub repository (ORG/REPO), or put the files into the model's folder",
        )
    return name


def _read(source: str, name: str) -> tuple[dict[str, Any], object]:
    """A JSON file of a folder or hub repository, and where it is; {} when there is none, as transformers has it."""
    local = Path(source).is_dir()
    if not local:
        check_proxies("HF_ENDPOINT")
    try:
        path = Path(source, name) if local else Path(hf_hub_download(source, name))
    except EntryNotFoundError:
        return {}, source
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, source
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"no readable {name}: {error}", where=source, fix="get the model again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{name} is no JSON object", where=source, fix="get the model again")
    return found, path
