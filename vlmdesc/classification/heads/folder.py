"""Heads as folders: a card that a person can read, and their arrays.

HEAD/head.json                 kind, classes, encoder, what it was fitted on, size and SHA-256 of the arrays; last
HEAD/arrays-SHA256.safetensors text embeddings, prototypes, profiles: numbers only, nothing that could run
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vlmdesc.cache import checksum, turn
from vlmdesc.classification.heads.head import Arrays, Fitting, Head, HeadCard, HeadKind, number
from vlmdesc.classification.heads.learned import sentence, summarize
from vlmdesc.classification.heads.neighborhood import Neighborhood, of_texts
from vlmdesc.classification.heads.pooled import Mixed, Pooled
from vlmdesc.classification.heads.prototypes import Prototypes, beside_texts
from vlmdesc.classification.score import POOLS
from vlmdesc.descriptors.phrase import PHOTO
from vlmdesc.errors import InputError, StoreError, VlmdescError
from vlmdesc.files import cannot_write, json_lines, read_json, write_atomic
from vlmdesc.records import ClassName, Descriptors
from vlmdesc.text import did_you_mean, few

SCHEMA, CARD = 1, "head.json"
ARRAYS = re.compile(r"arrays-[0-9a-f]{32}\.safetensors")
LEFT = re.compile(rf"{ARRAYS.pattern}|\.[0-9a-f]{{16}}\.part")  # by the head before, or by a crash
HEADS: dict[str, HeadKind] = {
    "mixed": HeadKind(Mixed.restore),
    "prototypes": HeadKind(Prototypes.restore, beside_texts, "class means of the images on top of the descriptors"),
    "neighborhood": HeadKind(
        Neighborhood.restore, of_texts, "the descriptors that tell an image's few candidate classes apart", PHOTO, True
    ),
}
AGAIN = "make it again, with vlmdesc fit"


def save_head(head: Head, folder: str | Path, *, replace: bool = False) -> None:
    """Write a head's folder; until the card is there, the head in it is the old one, whole.

    Raises: InputError where something else is there, or a head and not `replace`; StoreError when it cannot be written.
    """
    folder = Path(folder)
    check_place(folder, replace)
    _, values, raw = _serialize(head)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with turn(folder) as alone:
        check_place(folder, replace)
        write_atomic(folder / values["arrays"]["name"], raw)
        write_atomic(folder / CARD, json_lines(values | {"check": checksum(values)}).encode())
        for name in os.listdir(folder) if alone else ():
            if LEFT.fullmatch(name) and name != values["arrays"]["name"]:
                with suppress(OSError):
                    (folder / name).unlink()


def get_fit(name: str) -> Callable[[Fitting], Head]:
    """How a head of this kind is fitted to labelled images. Raises: InputError for one that is not, or unknown."""
    fits = {kind: entry.fit for kind, entry in HEADS.items() if entry.fit}
    if not isinstance(name, str) or name not in fits:
        fix = f"{did_you_mean(str(name), fits)}known: {', '.join(fits)}"
        raise InputError(f"no head '{name}' that images are fitted to", fix=fix)
    return fits[name]


def head_id(head: Head) -> str:
    """What tells a head from every other: a hash of all that it is, 16 hex digits."""
    return _serialize(head)[0]


def load_head(folder: str | Path) -> Head:
    """Read a head's folder; nothing in it can run.

    Raises: InputError when there is none; StoreError naming the file that is damaged, missing or of a newer version.
    """
    folder = Path(folder)
    card, inner, file = _read_card(folder)
    path = folder / file["name"]
    raw = _read(path, file["bytes"]) if path.exists() or _read_card(folder)[2] == file else None
    if raw is None:  # another head came meanwhile
        return load_head(folder)
    if hashlib.sha256(raw).hexdigest() != file["sha256"]:
        raise _damage(path)
    try:
        arrays = load(raw)
        _check_arrays(arrays)
        head = (Pooled if card.kind in POOLS else HEADS[card.kind]).restore(card, inner, arrays)
        if learned := summarize(head):
            sentence(learned)  # it can be told
        return head
    except (VlmdescError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise StoreError(f"no whole head: {error}", where=folder, fix=AGAIN) from error


def head_record(head: Head) -> dict[str, Any]:
    """A head's card as JSON has it, with what it learned, as figures and as a sentence."""
    about = summarize(head)
    more = {"learned": about, "text": sentence(about)} if about else {}
    return {"schema": SCHEMA, "id": head_id(head), **asdict(head.card), **more}


def is_head(folder: str | Path) -> bool:
    """Whether a folder holds a head's card."""
    return os.path.isfile(Path(folder) / CARD)


def _serialize(head: Head) -> tuple[str, dict[str, Any], bytes]:
    """A head's id, its card as JSON has it, and the bytes of its arrays."""
    inner, arrays = head.state()
    raw = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    digest = hashlib.sha256(raw).hexdigest()
    values = {"schema": SCHEMA, **asdict(head.card), "head": inner}
    values["arrays"] = {"name": f"arrays-{digest[:32]}.safetensors", "bytes": len(raw), "sha256": digest}
    values = json.loads(json.dumps(values))  # as it will be read
    id_ = checksum(values)[:16]
    return id_, {"schema": SCHEMA, "id": id_} | values, raw


def _read_card(folder: Path) -> tuple[HeadCard, Mapping[str, Any], Mapping[str, Any]]:
    path = folder / CARD
    if not path.is_file():
        raise InputError("no head", where=folder, fix="give a folder that vlmdesc fit made")
    values = read_json(path)
    try:
        if values.pop("check") != checksum(values):
            raise ValueError("its checksum is another")
        if values["schema"] > SCHEMA:
            raise StoreError("written by a newer vlmdesc", where=path, fix="upgrade vlmdesc")
        if not isinstance(values["kind"], str) or not (values["kind"] in HEADS or values["kind"] in POOLS):
            kinds = [*POOLS, *HEADS]
            known = f"{did_you_mean(str(values['kind']), kinds)}known: {few(kinds, 20)}"
            raise StoreError(f"a head of kind '{values['kind']}'", where=path, fix=f"upgrade vlmdesc; {known}")
        classes = tuple(ClassName(c["id"], c["name"], tuple(c["aliases"])) for c in values["classes"])
        about = {field.name: values[field.name] for field in fields(HeadCard)} | {"classes": classes}
        _check_card(card := HeadCard(**about))
        file = values["arrays"]
        if not ARRAYS.fullmatch(file["name"]) or type(file["bytes"]) is not int or len(file["sha256"]) != 64:
            raise ValueError("no name of its arrays")  # it might lead out of the folder
        if not isinstance(values["head"], dict):
            raise TypeError("nothing of a head")
        return card, values["head"], file
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, InputError) as error:
        raise StoreError(f"damaged: {error}", where=path, fix=AGAIN) from error


def _check_card(card: HeadCard) -> None:
    """Raises: TypeError or ValueError for what no card says; InputError for two classes of one id."""
    Descriptors(card.classes, ())
    texts = (card.encoder, card.name, card.model, card.precision, card.parent)
    if not all(isinstance(text, str) for text in texts) or not isinstance(card.settings, dict):
        raise TypeError("a name or its settings are none")
    if card.fitted_on is not None and not (isinstance(card.fitted_on, dict) and type(card.fitted_on["images"]) is int):
        raise TypeError("it does not say from how many images")
    if card.temperature is not None and number("a temperature", card.temperature) == 0:
        raise ValueError("a temperature of 0")


def _check_arrays(arrays: Arrays) -> None:
    """Raises: ValueError for numbers that are none, or embeddings of several widths."""
    widths = set()
    for name, array in arrays.items():
        kind = name.rpartition(".")[2]
        blank = kind in ("profile", "prototypes") and np.isnan(array)  # of classes without images
        if not (np.isfinite(array) | blank).all():
            raise ValueError(f"{name} has values that are not finite")
        if kind in ("texts", "captions", "prototypes"):
            widths.add(array.shape[-1])
    if len(widths) > 1:
        raise ValueError(f"embeddings of {len(widths)} widths")


def _read(path: Path, size: int) -> bytes:
    """A file of that size. Anything else is not opened: a pipe would wait for ever, and a device never end."""
    try:
        if not path.is_file() or path.stat().st_size != size:
            raise FileNotFoundError(path) if not path.exists() else _damage(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError("a file of the head is missing", where=path, fix=AGAIN) from error
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=path, fix="check its permissions") from error


def _damage(path: Path) -> StoreError:
    return StoreError("damaged: it is not what was written", where=path, fix=AGAIN)


def check_place(folder: Path, replace: bool) -> None:
    if is_head(folder) and not replace:
        raise InputError(
            "there is a head already", where=folder, fix="choose another folder, or replace it: --replace, replace=True"
        )
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise InputError("not a folder", where=folder, fix="choose another place")
    mine = {CARD} if is_head(folder) else set[str]()
    names = os.listdir(folder) if os.path.isdir(folder) else []
    others = [name for name in names if name not in mine and not ARRAYS.fullmatch(name) and not name.startswith(".")]
    if others:
        raise InputError(f"something else is there: {few(others)}", where=folder, fix="choose another folder")
