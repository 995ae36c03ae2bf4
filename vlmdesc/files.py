"""Text and JSON files in and out: strict when reading, atomic when writing."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Mapping
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
    return strict_json(read_text(path), str(path))


def strict_json(text: str, file: str, line: int = 0) -> Any:
    """The JSON value of a text from a file, or from one line of it, by the rules of `read_json`. Raises: InputError."""
    where = f"{file}:{line}" if line else file
    try:
        return json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not JSON: {error.msg}",
            where=f"{file}:{line or error.lineno}",
            fix="correct that line; see the forms in the README",
        ) from error
    except RecursionError as error:
        raise InputError("JSON nested too deeply", where=where, fix="use one of the documented forms") from error
    except ValueError as error:
        raise InputError(f"not usable JSON: {error}", where=where, fix="correct or remove it") from error


def json_lines(fields: Mapping[str, Any]) -> str:
    """A JSON object that reads and diffs well: each part of a field that is a list or an object on a line of its own.

    By hand, since `indent` is ten times slower. Raises: ValueError for NaN and Infinity.
    """
    return "{\n" + ",\n".join(f"{_line(name)}: {_lines(value)}" for name, value in fields.items()) + "\n}\n"


def _lines(value: Any) -> str:
    """A value with the parts of its outermost list or object one on a line."""
    if isinstance(value, Mapping) and value:
        return "{\n" + ",\n".join(f" {_line(key)}: {_line(part)}" for key, part in value.items()) + "\n}"
    if isinstance(value, (list, tuple)) and value:
        return "[\n" + ",\n".join(f" {_line(part)}" for part in value) + "\n]"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


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


def cannot_write(path: Path, error: OSError) -> StoreError:
    """The error for a write that failed: the path, the reason, and how much space is left there."""
    place = next((p for p in (path, *path.parents) if os.path.isdir(p)), Path("/"))
    free = ""
    with suppress(OSError):
        free = f", {shutil.disk_usage(place).free / 2**20:,.0f} MiB free there"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    fix = ("free some space, or " if full else "") + "choose another place; for the cache, set VLMDESC_CACHE"
    return StoreError(f"cannot write: {error.strerror or error}{free}", where=path, fix=fix)


def write_atomic(path: Path, data: bytes, *, checked: bool = False, mode: int | None = None) -> None:
    """Write `data` so that a reader, now or after a crash, sees the old file or the new one and never a part.

    Durable when it returns. Where readers check what they read, `checked` halves the time: only a power cut before it
    returns may then leave a part. `mode` are its permissions, by default those of a new file.
    Raises: StoreError when the folder is missing, read-only or full.
    """
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        try:
            with open(part, "xb") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                if not checked:
                    os.fsync(file.fileno())
                os.replace(part, path)
                if checked:  # after the name, so that the disk is waited for once
                    os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
