"""What the cache folder holds, and looking after it: list, verify, prune, remove."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlmdesc.cache import Answers, cache_folder
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
class CacheItem:
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

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"folder": str(self.folder)}

    def details(self) -> dict[str, Any]:
        """The same and what is known beyond: the encoder's fingerprint, how images were read, its files."""
        names = sorted(entry.name for entry in os.scandir(self.folder) if not entry.name.startswith("."))
        whose = (read_card(self.folder.parent) or {}) if self.kind != "answers" else {}
        aside = " ".join(name for name in names if ".bad-" in name) or "none"
        known = {key: whose[key] for key in ("fingerprint", "reading") if key in whose}
        return self.to_dict() | known | {"files": len(names), "set aside": aside}


class Cache:
    """Everything that is kept in a cache folder, by default the user's ($VLMDESC_CACHE). Opening it writes nothing."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else cache_folder()

    def __repr__(self) -> str:
        return f"<Cache: {self.folder}>"

    def items(self, id_: str = "") -> list[CacheItem]:
        """What is there; with `id_` what has an id that begins so.

        Raises: InputError where nothing has, or the beginning fits several ids; StoreError for what a newer version
        wrote.
        """
        found = [*self._embeddings(), *self._answers()]
        if not id_:
            return found
        fits = [item for item in found if item.id.startswith(id_)]
        if not fits:
            raise InputError(f"nothing in the cache has the id '{id_}'", fix="see vlmdesc cache ls")
        if len({item.id for item in fits}) > 1:
            raise InputError(f"several ids begin with '{id_}'", fix="write more of it")
        return fits

    def answer(self, key: str) -> Path | None:
        """The file of a language model's answer whose key begins so, None where there is no such one, or several."""
        fits = [*(self.folder / "llm").glob(f"{key}*.json")] if re.fullmatch("[0-9a-f]{8,64}", key) else []
        return fits[0] if len(fits) == 1 else None

    def read_answer(self, file: Path) -> dict[str, Any] | None:
        """The question and answer in a file, None where it is damaged, which is noted, and it is set aside."""
        return Answers(file.parent).read(file)

    def verify(self, item: CacheItem) -> int:
        """Read every entry and check it; how many are damaged. They are set aside, and made again when next needed.

        Raises: StoreError when the folder cannot be read, or cannot be written and something is damaged.
        """
        if item.kind != "answers":
            return Store(self.folder).reopen(item.folder).verify()
        answers = Answers(item.folder)
        return sum(answers.read(path) is None for path in sorted(item.folder.glob("*.json")))

    def prune(self, item: CacheItem) -> int:
        """Delete what was set aside and what interrupted writes left, and merge small files; bytes that it freed.

        Raises: StoreError.
        """
        if item.kind != "answers":
            Store(self.folder).reopen(item.folder).tidy()
        for path in item.folder.glob("*.bad-*"):
            path.unlink(missing_ok=True)
        return item.bytes - _item(item.id, item.kind, item.about, item.entries, item.folder).bytes

    def remove(self, item: CacheItem) -> None:
        """Delete it. Raises: StoreError when that is not possible."""
        try:
            shutil.rmtree(item.folder)
            if item.kind != "answers" and not _kinds(item.folder.parent):
                shutil.rmtree(item.folder.parent)
        except OSError as error:
            raise cannot_write(item.folder, error) from error

    def _embeddings(self) -> list[CacheItem]:
        folders = _folders(Store(self.folder).folder)
        cards = [str((read_card(folder) or {"encoder": "unknown"})["encoder"]) for folder in folders]
        return [
            _item(folder.name, kind.name, encoder, _rows(kind), kind)
            for folder, encoder in zip(folders, cards, strict=True)
            for kind in _kinds(folder)
        ]

    def _answers(self) -> list[CacheItem]:
        folders = [(self.folder / name, about) for name, about in ANSWERS.items() if (self.folder / name).is_dir()]
        return [_item(f.name, "answers", about, len([*f.glob("*.json")]), f) for f, about in folders]


def _rows(folder: Path) -> int:
    """Embeddings in a folder, by the names of its segments."""
    counts = (name.partition("-")[0] for name in os.listdir(folder) if name.endswith(SUFFIX))
    return sum(int(count) for count in counts if count.isdecimal())


def _item(id_: str, kind: str, about: str, entries: int, folder: Path) -> CacheItem:
    files = [entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    stats = [entry.stat(follow_symlinks=False) for entry in files]
    aside = sum(".bad-" in entry.name for entry in files)
    written = max((stat.st_mtime for stat in stats), default=None)
    return CacheItem(id_, kind, about, entries, sum(stat.st_size for stat in stats), aside, written, folder)


def _kinds(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if Kind.of(path.name)]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
