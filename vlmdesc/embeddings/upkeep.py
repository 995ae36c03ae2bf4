"""What the cache folder holds, and looking after it: list, verify, prune, remove."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from vlmdesc.cache import Answers
from vlmdesc.embeddings.kind import Kind
from vlmdesc.embeddings.segment import SUFFIX
from vlmdesc.embeddings.store import Store, read_card
from vlmdesc.errors import InputError
from vlmdesc.files import cannot_write

ANSWERS = {
    "precision": "which precision was fastest (no longer asked)",
    "llm": "what language models answered",
    "indexes": "which indexes were made here, or trusted",
}


@dataclass(frozen=True)
class Kept:
    """One thing in the cache: embeddings of one encoder and kind, or the answers to one kind of question.

    `written` is in seconds since 1970, None where there is nothing; `aside` counts damaged files that were set aside.
    """

    id: str
    kind: str
    about: str
    entries: int
    bytes: int
    aside: int
    written: float | None
    folder: Path


def kept(root: Path) -> list[Kept]:
    """Everything in the cache folder. Raises: StoreError when a newer version wrote some of it."""
    found = []
    store = Store(root)
    for folder in _folders(store.folder):
        card = read_card(folder) or {"encoder": "unknown"}
        for place in _kinds(folder):
            names = (entry.name for entry in os.scandir(place))
            rows = sum(int(name.partition("-")[0]) for name in names if _is_segment(name))
            found.append(_kept(folder.name, place.name, str(card["encoder"]), rows, place))
    for name, about in ANSWERS.items():
        if (root / name).is_dir():
            entries = sum(entry.name.endswith(".json") for entry in os.scandir(root / name))
            found.append(_kept(name, "answers", about, entries, root / name))
    return found


def _is_segment(name: str) -> bool:
    return name.endswith(SUFFIX) and name.partition("-")[0].isdecimal()


def _kept(id_: str, kind: str, about: str, entries: int, folder: Path) -> Kept:
    files = [entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    stats = [entry.stat(follow_symlinks=False) for entry in files]
    aside = sum(".bad-" in entry.name for entry in files)
    written = max((stat.st_mtime for stat in stats), default=None)
    return Kept(id_, kind, about, entries, sum(stat.st_size for stat in stats), aside, written, folder)


def card(item: Kept) -> dict[str, str | int]:
    """What is known of a thing beyond `Kept`: the encoder's fingerprint, how images were read, its files."""
    names = sorted(entry.name for entry in os.scandir(item.folder) if not entry.name.startswith("."))
    whose = (read_card(item.folder.parent) or {}) if item.kind != "answers" else {}
    shown = {key: whose[key] for key in ("fingerprint", "reading") if key in whose}
    return shown | {"files": len(names), "set aside": " ".join(name for name in names if ".bad-" in name) or "none"}


def pick(found: list[Kept], id_: str) -> list[Kept]:
    """The things whose id begins so. Raises: InputError when there is none, or the beginning fits several ids."""
    fits = [item for item in found if item.id.startswith(id_)]
    if not fits or not id_:
        raise InputError(f"nothing in the cache has the id '{id_}'", fix="see vlmdesc cache ls")
    if len({item.id for item in fits}) > 1:
        raise InputError(f"several ids begin with '{id_}'", fix="write more of it")
    return fits


def answer(root: Path, key: str) -> Path | None:
    """The file of a language model's answer whose key begins so, None where there is no such one, or several."""
    fits = [*(root / "llm").glob(f"{key}*.json")] if re.fullmatch("[0-9a-f]{8,64}", key) else []
    return fits[0] if len(fits) == 1 else None


def verify(root: Path, item: Kept) -> int:
    """Read every entry and check it; how many are damaged. They are set aside, and made again when next needed.

    Raises: StoreError when the folder cannot be read, or cannot be written and something is damaged.
    """
    if item.kind == "answers":
        answers = Answers(item.folder)
        return sum(not answers.check(path) for path in sorted(item.folder.glob("*.json")))
    return Store(root).reopen(item.folder).verify()


def prune(root: Path, item: Kept) -> int:
    """Delete what was set aside and what interrupted writes left, and merge small files; how many bytes that freed.

    Raises: StoreError.
    """
    if item.kind == "answers":
        for path in item.folder.glob("*.bad-*"):
            path.unlink(missing_ok=True)
    else:
        Store(root).reopen(item.folder).tidy()
    now = _kept(item.id, item.kind, item.about, item.entries, item.folder)
    return item.bytes - now.bytes


def remove(item: Kept) -> None:
    """Delete it. Raises: StoreError when that is not possible."""
    try:
        shutil.rmtree(item.folder)
        if item.kind != "answers" and not _kinds(item.folder.parent):
            shutil.rmtree(item.folder.parent)
    except OSError as error:
        raise cannot_write(item.folder, error) from error


def _kinds(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if Kind.of(path.name)]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
