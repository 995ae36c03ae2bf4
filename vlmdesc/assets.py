"""Files that ship with the package: prompts and descriptor sets."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
# A wheel carries them inside the package; a checkout has them beside it.
_ROOT = _HERE / "_shipped" if (_HERE / "_shipped").is_dir() else _HERE.parent
_FOLDERS = {"prompts": "prompts", "descriptors": "cache/descriptors"}


def shipped(name: str) -> Path:
    """Path of the shipped file `name`, for example "descriptors/everyday.json" or "prompts/dclip.toml"."""
    folder, _, file = name.partition("/")
    return _ROOT / _FOLDERS[folder] / file


def shipped_sets() -> tuple[str, ...]:
    """Names of the descriptor sets that ship, usable wherever a descriptor file is."""
    return tuple(sorted(path.stem for path in (_ROOT / _FOLDERS["descriptors"]).glob("*.json")))
