"""The card of an index: what is in it, and what its files are."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlmdesc.cache import checksum
from vlmdesc.errors import InputError, StoreError
from vlmdesc.files import json_lines

SCHEMA, CARD, MAX_CARD = 2, "index.json", 1 << 20
KINDS = {"vectors": ".safetensors", "rows": ".arrow"}
AGAIN = "make it again, which is quick since embeddings are kept: vlmdesc index build DATASET --out IDX --replace"


@dataclass(frozen=True)
class Model:
    """The encoder that an index's vectors are of: how it is named on the command line, and its fingerprint."""

    name: str
    precision: str
    fingerprint: str


@dataclass(frozen=True)
class File:
    """What the card says of a file of the index."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """What an index.json says. Vectors are kept as `factory` in FAISS's words, tuned on `built_for` of them."""

    model: Model
    n: int
    dim: int
    factory: str
    probes: int
    recall: dict[str, float]
    built_for: int
    origins: list[dict[str, Any]]
    files: dict[str, File]
    schema: int = SCHEMA


def to_bytes(card: Card) -> bytes:
    """What index.json holds. Raises: InputError when that is too much."""
    values = json.loads(json.dumps(asdict(card)))
    raw = json_lines(values | {"check": checksum(values)}).encode()
    if len(raw) > MAX_CARD:
        what = f"{len(card.origins):,} data sets in one index"
        raise InputError(what, fix="give a folder, or a table that lists the images")
    return raw


def read_card(folder: Path) -> bytes:
    try:
        with open(folder / CARD, "rb") as file:
            return file.read(MAX_CARD + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "make one: vlmdesc index build DATASET --out IDX"
        raise InputError("no index", where=folder, fix=fix) from error
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=folder / CARD, fix="check its permissions") from error


def parse(raw: bytes, path: Path) -> Card:
    with damaged(path):
        values = json.loads(raw)
        if values.pop("check") != checksum(values):
            raise ValueError("its checksum is another")
        if values["schema"] > SCHEMA:
            raise StoreError("written by a newer vlmdesc", where=path, fix="upgrade vlmdesc")
        if values["schema"] < SCHEMA:
            raise StoreError("made by an older vlmdesc", where=path, fix=AGAIN)
        files = {kind: File(**entry) for kind, entry in values["files"].items()}
        card = Card(**{**values, "model": Model(**values["model"]), "files": files})
        _check_types(card)
        for kind, suffix in KINDS.items():
            if not re.fullmatch(f"{kind}-[0-9a-f]{{32}}[.]{suffix[1:]}", files[kind].name):
                raise ValueError(f"no name of a {kind} file")  # it might lead out of the folder
        if min(card.n, card.dim) < 1 or card.probes < 0:
            raise ValueError("no size of an index")
        return card


def _check_types(card: Card) -> None:
    """Raises: TypeError for a value that is not what its field holds."""
    texts = [*asdict(card.model).values(), card.factory, *card.recall]
    texts += [text for file in card.files.values() for text in (file.name, file.sha256)]
    texts += [text for origin in card.origins for text in (*origin["data"], *origin)]
    texts += [value for origin in card.origins for name, value in origin.items() if name != "data"]
    numbers = [card.n, card.dim, card.probes, card.built_for, *(file.bytes for file in card.files.values())]
    shares = [*card.recall.values()]
    if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError("a value of another type")
    if not all(type(share) in (int, float) and 0 <= share <= 1 for share in shares):
        raise TypeError("a recall that is no share")


def check_file(path: Path, written: File) -> None:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            whole = size == written.bytes and hashlib.file_digest(file, "sha256").hexdigest() == written.sha256
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=path, fix="check its permissions") from error
    if not whole:
        what = f"damaged: {size:,} bytes where {written.bytes:,} were written" if size != written.bytes else "damaged"
        raise StoreError(what, where=path, fix=AGAIN)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """What goes wrong while a file's content is read, as an error that names it."""
    try:
        yield
    except FileNotFoundError:  # `open_index` looks whether the index was replaced
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise StoreError(f"damaged: {error}", where=path, fix=AGAIN) from error
