"""Text and JSON files in and out: strict when reading, atomic when writing."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from vlmdesc.errors import InputError, StoreError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Raises: InputError when the file is missing, unreadable or in another encoding.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 text (byte {error.start})", where=path, fix="save it as UTF-8, for example with iconv -t utf-8"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot read: {error.strerror}", where=path, fix="check the path and its permissions"
        ) from error


def read_json(path: Path) -> Any:
    """The JSON value in a file. A key given twice, NaN and Infinity are refused: each would lose something in silence.

    Raises: InputError naming the file and, where known, the line.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not JSON: {error.msg}",
            where=f"{path}:{error.lineno}",
            fix="correct that line; see the forms in the README",
        ) from error
    except RecursionError as error:
        raise InputError("JSON nested too deeply", where=path, fix="use one of the documented forms") from error
    except ValueError as error:
        raise InputError(f"not usable JSON: {error}", where=path, fix="correct or remove it") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits} is too large")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that a reader, now or after a crash, sees the old file or the new one and never a part.

    Raises: StoreError when the folder is missing, read-only or full.
    """
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        fix = "free some space or choose another place"
        raise StoreError(f"cannot write: {error.strerror}", where=path, fix=fix) from error
    finally:
        with suppress(OSError):  # gone already, unless the write failed or was interrupted
            part.unlink()
