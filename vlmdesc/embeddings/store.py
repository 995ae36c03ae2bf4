"""Embeddings kept for good: what an encoder has seen once, by content, it need not see again.

    CACHE/embeddings/ENCODER/encoder.json            whose they are
    CACHE/embeddings/ENCODER/{images,texts,...}/*    see `embeddings.collection` and `embeddings.segment`

Keys are SHA-256 of content: where a file lay or what it was called plays no part. Another model, other weights,
another preprocessing or precision, other rules of reading images are another ENCODER. Other engines are not.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vlmdesc.cache import cache_folder, checksum, set_aside
from vlmdesc.embeddings.collection import Collection
from vlmdesc.embeddings.image import READING
from vlmdesc.embeddings.kind import IMAGES, TEXTS, Kind
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.segment import ENGINE
from vlmdesc.errors import InputError, StoreError
from vlmdesc.files import write_atomic

SCHEMA = 1
CARD = "encoder.json"
DTYPES = {"float32": np.float32, "float16": np.float16}


class Store:
    """All embeddings in a cache folder, by default the user's. Opening it writes nothing.

    `dtype` is how vectors are written, "float32" or "float16" (half the disk); both read as float32.
    """

    def __init__(self, folder: Path | None = None, *, dtype: str = "float32") -> None:
        if dtype not in DTYPES:
            raise InputError(f"unknown dtype '{dtype}'", fix=f"use one of {', '.join(DTYPES)}")
        self.folder = (folder or cache_folder()) / "embeddings"
        self._dtype = dtype

    def images(self, encoder: Encoder) -> Collection:
        """An encoder's image embeddings. Raises: StoreError when a newer version wrote them."""
        return self.collection(encoder, IMAGES)

    def texts(self, encoder: Encoder) -> Collection:
        """An encoder's text embeddings. Raises: StoreError when a newer version wrote them."""
        return self.collection(encoder, TEXTS)

    def reopen(self, folder: Path) -> Collection:
        """What is in a folder of this store, by its name and card. Raises: StoreError when these are lost or newer."""
        card, kind = read_card(folder.parent), Kind.of(folder.name)
        if card is None or kind is None:
            raise StoreError(
                "whose embeddings these are is not known", where=folder.parent, fix="embed with that model again"
            )
        return self._open(folder.parent, kind, card, ENGINE)

    def collection(self, encoder: Encoder, kind: Kind) -> Collection:
        """What an encoder made of one kind. Raises: StoreError when a newer version wrote it."""
        folder = self.folder / hashlib.sha256(f"{READING} {encoder.fingerprint}".encode()).hexdigest()[:32]
        known = read_card(folder)  # refuses what a newer version wrote
        name = f"{encoder.name} {encoder.precision}"
        card = {"schema": SCHEMA, "encoder": name, "fingerprint": encoder.fingerprint, "reading": READING}
        if known is None and folder.is_dir():  # it was lost
            with suppress(StoreError):
                _show(folder, card)
        return self._open(folder, kind, card, encoder.engine)

    def _open(self, folder: Path, kind: Kind, card: dict[str, Any], engine: str) -> Collection:
        space, dtype = f"{card['fingerprint']}/{card['reading']}/{kind.key}", DTYPES[self._dtype]
        return Collection(folder / kind.key, space, kind, engine, dtype, partial(_show, folder, card))


def store_of(store: Store | bool) -> Store | None:
    """The store itself; the default one for True, none for False."""
    return (Store() if store else None) if isinstance(store, bool) else store


def read_card(folder: Path) -> dict[str, Any] | None:
    """What encoder.json says of an encoder's folder, None where there is none.

    Raises: StoreError when a newer version wrote it.
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_bytes())
        if card.pop("check") != checksum(card):
            raise ValueError("its checksum is another")
        schema = int(card["schema"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=path, fix="check its permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        set_aside(path, f"not a whole card: {error}")
        return None
    if schema > SCHEMA:
        raise StoreError("written by a newer vlmdesc", where=path, fix="upgrade vlmdesc, or use another cache folder")
    return dict(card)


def _show(folder: Path, card: dict[str, Any]) -> None:
    if not (folder / CARD).exists():
        shown = card | {"check": checksum(card)}
        write_atomic(folder / CARD, (json.dumps(shown, indent=1) + "\n").encode())
