"""Contact sheets on the command line."""

from __future__ import annotations

from pathlib import Path

from vlmdesc.errors import InputError


def check_montage(path: Path) -> None:
    """Raises: InputError when a contact sheet cannot have this name."""
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        what = "a contact sheet needs a name ending in .png, in a folder that exists"
        raise InputError(what, where=path, fix="choose another with --montage")
