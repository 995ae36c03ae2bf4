"""Images that can be searched: a folder with their vectors, and beside them what each one is.

    IDX/index.json                   the card: what is here, whose vectors they are, the size and SHA-256 of both files
    IDX/vectors-SHA256.safetensors   the vectors, or lists of them
    IDX/rows-SHA256.arrow            row i says what vector i is

Files are written whole under names of their content, and the card last: until it is there the index is the old one,
so that a crash leaves one or the other. Who made an index matters not: all that is read is checked first.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from vlmdesc.cache import turn
from vlmdesc.concepts import nearest
from vlmdesc.concepts.card import (
    AGAIN,
    CARD,
    KINDS,
    Card,
    File,
    Model,
    check_file,
    damaged,
    parse,
    read_card,
    to_bytes,
)
from vlmdesc.concepts.nearest import Nearest
from vlmdesc.concepts.rows import Rows
from vlmdesc.errors import InputError, ModelError, ShapeError, StoreError
from vlmdesc.files import cannot_write, sync_folder, write_atomic
from vlmdesc.records.results import Vectors
from vlmdesc.text import few

# Vectors were .faiss in schema 1.
OURS = re.compile(
    r"(vectors-[0-9a-f]{32}\.(safetensors|faiss)|rows-[0-9a-f]{32}\.arrow|\.[0-9a-f]{16}\.part)"
)  # .faiss: until schema 2


@dataclass(frozen=True)
class Index:
    """An index as it was when it was opened: vector i of `nearest` is what row i of `rows` says."""

    folder: Path
    card: Card
    nearest: Nearest = field(repr=False)
    rows: Rows = field(repr=False)

    def __len__(self) -> int:
        return self.card.n

    def check(self, fingerprint: str) -> None:
        """Raises: ModelError when vectors of an encoder with this fingerprint cannot meet those of the index."""
        if fingerprint != self.card.model.fingerprint:
            what = "the index holds the embeddings of another model, or of other weights"
            fix = f"use its model, '{self.card.model.name}' in {self.card.model.precision}, or build it again"
            raise ModelError(what, where=self.folder, fix=fix)


def is_index(folder: Path) -> bool:
    """Whether a folder is an index, whole or not: a card, and files beside it that are named as an index's."""
    return os.path.isfile(folder / CARD) and any(map(OURS.fullmatch, _names(folder)))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=folder, fix="check its permissions") from error


def open_index(folder: Path) -> Index:
    """Open an index, of whoever it is; both files are read once, to check them.

    Raises: InputError when there is none; StoreError naming the file that is damaged, missing or of another version.
    """
    while True:
        raw = read_card(folder)
        try:
            return _load(folder, raw)
        except FileNotFoundError as error:
            if read_card(folder) == raw:  # else it was replaced since the card was read
                raise StoreError("a file of the index is missing", where=error.filename, fix=AGAIN) from error


def _load(folder: Path, raw: bytes) -> Index:
    card = parse(raw, folder / CARD)
    paths = {kind: folder / card.files[kind].name for kind in KINDS}
    for kind, path in paths.items():
        check_file(path, card.files[kind])
    with damaged(paths["vectors"]):
        vectors = nearest.read(paths["vectors"], card.n, card.dim, card.factory, card.probes, card.recall)
    with damaged(paths["rows"]):
        rows = Rows.read(paths["rows"], card.origins)
        if len(rows) != card.n:
            raise ValueError(f"{len(rows)} rows beside {card.n} vectors")
    return Index(folder, card, vectors, rows)


def create(
    folder: Path,
    vectors: Vectors | Float32[np.ndarray, "n d"],
    rows: Rows,
    model: Model,
    texts: Float32[np.ndarray, "t d"],
    *,
    recall: float = nearest.RECALL,
    replace: bool = False,
    tick: Callable[[int], object] = lambda done: None,
) -> Index:
    """Make an index of vectors (N, D) and the rows that say what they are; see `nearest.build` for the rest.

    With `replace` one that is there is used until the new one is whole.
    Raises: InputError when something is there that must not be replaced; StoreError when it cannot be written.
    """
    check_place(folder, replace)
    built = nearest.build(vectors, texts, recall, tick)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with _turn(folder):
        check_place(folder, replace)
        return _commit(folder, built, rows, model, len(rows))


def check_place(folder: Path, replace: bool) -> None:
    """Raises: InputError when an index cannot be made in a folder, since something else is there; StoreError."""
    if is_index(folder) and not replace:
        raise InputError("there is an index", where=folder, fix="add to it with vlmdesc index add, or use --replace")
    others = _others(folder)
    if others:
        raise InputError(f"something else is there: {few(others)}", where=folder, fix="choose another --out")
    above = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not os.path.isdir(above) or not os.access(above, os.W_OK):
        raise StoreError("cannot write here", where=above, fix="choose another --out")


def _others(folder: Path) -> list[str]:
    """What is in a folder, or in its place, that is not an index's."""
    if not os.path.isdir(folder):
        return [folder.name] if os.path.lexists(folder) else []
    card = {CARD} if is_index(folder) else set()
    return [
        name for name in _names(folder) if name not in card and not name.startswith(".") and not OURS.fullmatch(name)
    ]


Plan = tuple[Bool[np.ndarray, " n"], Vectors | Float32[np.ndarray, "m d"], Rows]


def change(
    folder: Path, plan: Callable[[Index], Plan], tick: Callable[[int], object] = lambda done: None
) -> tuple[Index, Index]:
    """The index as it was, and with what `plan` makes of it: which rows to keep, and vectors and rows to put behind.

    Nobody else writes meanwhile, so that the plan fits. Raises: InputError when nothing would be left; StoreError.
    """
    read_card(folder)  # else a lock would be left where there is no index
    with _turn(folder):
        old = open_index(folder)
        keep, vectors, rows = plan(old)
        if keep.all() and not len(rows):
            _tidy(folder, old.card)
            return old, old
        if not keep.any() and not len(rows):
            raise InputError("nothing would be left", where=folder, fix="delete the folder instead")
        changed = nearest.changed(old.nearest, keep, vectors, tick)
        return old, _commit(folder, changed, old.rows.keep(keep).plus(rows), old.card.model, old.card.built_for)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    with turn(folder) as got:
        if not got:
            what = "another vlmdesc has been writing to this index for a minute"
            raise StoreError(what, where=folder, fix="try again when it is done")
        yield


def _commit(folder: Path, vectors: Nearest, rows: Rows, model: Model, built_for: int) -> Index:
    if vectors.dim < 1 or len(vectors) != len(rows):
        raise ShapeError(f"{len(vectors)} vectors but {len(rows)} rows", fix="pass one row per vector")
    rows = rows.tidy()
    files = {
        "vectors": _write(folder, "vectors", lambda put: nearest.write(vectors, put)),
        "rows": _write(folder, "rows", lambda put: put(rows.to_bytes())),
    }
    about = (len(rows), vectors.dim, vectors.factory, vectors.probes, vectors.recall, built_for)
    card = Card(model, *about, [{**asdict(origin), "data": [*origin.data]} for origin in rows.origins], files)
    write_atomic(folder / CARD, to_bytes(card))
    _tidy(folder, card)
    return Index(folder, card, vectors, rows)


def _write(folder: Path, kind: str, fill: Callable[[Callable[[Any], None]], object]) -> File:
    """A file under the name of its content, durable when this returns: its name, size and SHA-256."""
    part, digest, size = folder / f".{secrets.token_hex(8)}.part", hashlib.sha256(), 0

    def put(data: Any) -> None:
        nonlocal size
        file.write(data)
        digest.update(data)
        size += len(data)

    try:
        with open(part, "xb") as file:
            fill(put)
            file.flush()
            os.fsync(file.fileno())
        name = f"{kind}-{digest.hexdigest()[:32]}{KINDS[kind]}"
        os.replace(part, folder / name)
        sync_folder(folder)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise cannot_write(folder, error) from error
        raise
    return File(name, size, digest.hexdigest())


def _tidy(folder: Path, card: Card) -> None:
    """Delete what earlier cards named, and what crashes left; nobody else writes now."""
    named = {file.name for file in card.files.values()}
    for path in folder.iterdir():
        if OURS.fullmatch(path.name) and path.name not in named:
            with suppress(OSError):
                path.unlink()
