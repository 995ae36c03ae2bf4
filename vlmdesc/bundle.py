"""Folders of files that belong together: under names of their content, listed in a card that is written last.

    FOLDER/index.json                    what this is, the size and SHA-256 of each file, and its own checksum
    FOLDER/vectors-SHA256.safetensors    the file "vectors"

Until the new card is there the old one holds, so that a crash leaves one or the other. Who made a folder matters not:
all that is read is checked first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vlmdesc.cache import checksum, turn
from vlmdesc.errors import InputError, StoreError
from vlmdesc.files import cannot_write, json_lines, sync_folder, write_atomic
from vlmdesc.text import few

MAX_CARD = 1 << 20
T = TypeVar("T")
Put = Callable[[Any], None]  # takes some bytes of a file


@dataclass(frozen=True)
class Bundle:
    """A kind of folder: what it is called, its card and schema, the suffix of each of its files.

    `make` says what to do where there is none, `again` where it is damaged.
    """

    noun: str
    card: str
    schema: int
    suffixes: Mapping[str, str]
    make: str
    again: str

    def is_in(self, folder: Path) -> bool:
        """Whether a folder is such a one, whole or not: a card, and files beside it that are named as its files are."""
        return os.path.isfile(folder / self.card) and any(map(self._owns, _names(folder)))

    def _owns(self, name: str) -> bool:
        """Whether a file is named as these are, by this version or an older one, or was left by a crash."""
        kinds = "|".join(self.suffixes)
        return bool(re.fullmatch(rf"({kinds})-[0-9a-f]{{32}}\.[a-z]+|\.[0-9a-f]{{16}}\.part", name))

    def check_place(self, folder: Path, replace: bool) -> None:
        """Raises: InputError when something is there that must not be replaced; StoreError."""
        mine = self.is_in(folder)
        if mine and not replace:
            fix = "choose another folder, or replace it: --replace, replace=True"
            raise InputError(f"an {self.noun} is there already", where=folder, fix=fix)
        names = _names(folder) if os.path.isdir(folder) else [folder.name] if os.path.lexists(folder) else []
        names = [name for name in names if not name.startswith(".") and not self._owns(name)]
        if others := [name for name in names if not mine or name != self.card]:
            raise InputError(f"something else is there: {few(others)}", where=folder, fix="choose another folder")
        above = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        if not os.path.isdir(above) or not os.access(above, os.W_OK):
            raise StoreError("cannot write here", where=above, fix="choose another folder")

    def read(self, folder: Path, load: Callable[[dict[str, Any], dict[str, Path]], T]) -> T:
        """What `load` makes of what the card says and of the paths of the files, all of which have been checked.

        Raises: InputError when there is none; StoreError naming the file that is damaged, missing or of another
        version.
        """
        while True:
            raw = self.read_card(folder)
            try:
                with self.guard(folder / self.card):
                    values = json.loads(raw)
                    if values.pop("check") != checksum(values):
                        raise ValueError("its checksum is another")
                    self._check_schema(values["schema"], folder / self.card)
                    files, paths = values["files"], dict[str, Path]()
                    for kind, suffix in self.suffixes.items():
                        if not re.fullmatch(rf"{kind}-[0-9a-f]{{32}}{re.escape(suffix)}", files[kind]["name"]):
                            raise ValueError(f"not the name of a {kind} file")  # it might lead out of the folder
                        paths[kind] = folder / files[kind]["name"]
                        self._check_file(paths[kind], **files[kind])
                    return load(values, paths)
            except FileNotFoundError as error:
                if self.read_card(folder) == raw:  # else it was replaced since
                    what = f"a file of the {self.noun} is missing"
                    raise StoreError(what, where=error.filename, fix=self.again) from error

    def read_card(self, folder: Path) -> bytes:
        """The bytes of its card. Raises: InputError when there is none; StoreError."""
        path = folder / self.card
        if os.path.exists(path) and not path.is_file():  # to open a pipe would wait for ever
            raise StoreError("not a regular file", where=path, fix=self.again)
        try:
            with open(path, "rb") as file:
                return file.read(MAX_CARD + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"no {self.noun}", where=folder, fix=self.make) from error
        except OSError as error:
            raise StoreError(f"cannot read: {error.strerror}", where=path, fix="check its permissions") from error

    def _check_schema(self, schema: int, card: Path) -> None:
        if schema > self.schema:
            raise StoreError("written by a newer vlmdesc", where=card, fix="upgrade vlmdesc")
        if schema < self.schema:
            raise StoreError("made by an older vlmdesc", where=card, fix=self.again)

    def _check_file(self, path: Path, name: str, bytes: int, sha256: str) -> None:
        with self.guard(path):
            if os.path.exists(path) and not path.is_file():
                raise ValueError("not a regular file")
        with self.guard(path), open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != bytes:
                raise ValueError(f"{size:,} bytes where {bytes:,} were written")
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ValueError("not what was written")

    @contextmanager
    def guard(self, path: Path) -> Iterator[None]:
        """What goes wrong while a file is read, as a StoreError that names it."""
        try:
            yield
        except FileNotFoundError:  # `read` looks whether it was replaced
            raise
        except PermissionError as error:
            raise StoreError(f"cannot read: {error.strerror}", where=path, fix="check its permissions") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise StoreError(f"damaged: {error}", where=path, fix=self.again) from error

    @contextmanager
    def turn(self, folder: Path) -> Iterator[None]:
        """Nobody else writes to the folder meanwhile. Raises: StoreError."""
        with turn(folder) as got:
            if not got:
                what = f"another vlmdesc has been writing to this {self.noun} for a minute"
                raise StoreError(what, where=folder, fix="try again when it is done")
            yield

    def create(
        self, folder: Path, values: Mapping[str, Any], files: Mapping[str, Callable[[Put], None]], replace: bool = False
    ) -> dict[str, Any]:
        """Make the folder; with `replace` one that is there is used until the new one is whole. Otherwise as `write`.

        Raises: InputError when something is there that must not be replaced; StoreError.
        """
        self.check_place(folder, replace)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        with self.turn(folder):
            self.check_place(folder, replace)
            return self.write(folder, values, files)

    def write(
        self, folder: Path, values: Mapping[str, Any], files: Mapping[str, Callable[[Put], None]]
    ) -> dict[str, Any]:
        """Write files, then the card, then tidy up, in one's `turn`; what the card says of the files.

        Each of `files` hands its bytes to what it is called with. Raises: InputError for a card of over 1 MiB;
        StoreError.
        """
        written = {kind: self._write_file(folder, kind, fill) for kind, fill in files.items()}
        card = json.loads(json.dumps({**values, "files": written, "schema": self.schema}))  # as it will be read
        raw = json_lines(card | {"check": checksum(card)}).encode()
        if len(raw) > MAX_CARD:
            fix = "name fewer data sets: a folder, or a table that lists the images"
            raise InputError(f"a card of {len(raw):,} bytes", where=folder, fix=fix)
        write_atomic(folder / self.card, raw)
        self.tidy(folder, written)
        return written

    def _write_file(self, folder: Path, kind: str, fill: Callable[[Put], None]) -> dict[str, Any]:
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
            name = f"{kind}-{digest.hexdigest()[:32]}{self.suffixes[kind]}"
            os.replace(part, folder / name)
            sync_folder(folder)
        except BaseException as error:
            with suppress(OSError):
                part.unlink()
            if isinstance(error, OSError):
                raise cannot_write(folder, error) from error
            raise
        return {"name": name, "bytes": size, "sha256": digest.hexdigest()}

    def tidy(self, folder: Path, files: Mapping[str, Any]) -> None:
        """Delete what earlier cards named, and what crashes left, but for these files; to be called in one's `turn`."""
        named = {file["name"] for file in files.values()}
        for name in _names(folder):
            if self._owns(name) and name not in named:
                with suppress(OSError):
                    (folder / name).unlink()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=folder, fix="check its permissions") from error
