"""Which images files, folders and glob patterns stand for."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmdesc.errors import InputError

SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .mpo .png .webp .gif .bmp .dib .tif .tiff .avif .apng".split())
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True)
class ImagePaths:
    """Paths to open, each once; and what inside folders is no image: other files, linked folders.

    Folders that cannot be read, `closed`, are among the paths, to fail by their name when they are opened.
    """

    paths: tuple[Path, ...]
    passed_over: tuple[Path, ...] = ()
    closed: tuple[Path, ...] = ()


def find_images(arguments: Iterable[str | Path]) -> ImagePaths:
    """Expand files, folders (at any depth, hidden files left out, links to folders not followed) and glob patterns.

    A file named outright is always kept: opening it will tell what it is. So is a path that does not exist.
    Raises: InputError for one path where a list is meant, and an empty one, which would be the whole current folder.
    """
    if isinstance(arguments, (str, os.PathLike)):
        raise InputError(f"one path, '{arguments}', where a list of them is meant", fix=f"give ['{arguments}']")
    paths: dict[Path, None] = {}
    passed_over: list[Path] = []
    closed: dict[Path, None] = {}
    for argument in arguments:
        if not str(argument):
            raise InputError("an empty path", fix="name an image, a folder or a pattern")
        for path in _expand(Path(argument)):
            if not os.path.isdir(path):  # never raises, unlike Path.is_dir
                paths[path] = None
                continue
            for file in _walk(path):
                is_folder = os.path.isdir(file)
                if is_folder and not file.is_symlink():
                    closed[file] = None
                elif not is_folder and (file.suffix.lower() in SUFFIXES or _begins_like_an_image(file)):
                    paths[file] = None
                else:
                    passed_over.append(file)
    return ImagePaths((*paths, *closed), tuple(passed_over), tuple(closed))


def _expand(path: Path) -> list[Path]:
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return [path]
    return [Path(match) for match in sorted(glob.glob(str(path), recursive=True))] or [path]


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, and the folders in it that are not entered: links, and those that cannot be read."""
    closed: list[Path] = []
    for root, folders, files in os.walk(folder, onerror=lambda error: closed.append(Path(error.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in folders if Path(root, name).is_symlink())
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))
    yield from closed


def _begins_like_an_image(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return head.startswith(_MAGIC) or head[8:12] in (b"WEBP", b"avif")
