"""The names that there are to choose from, each with a word about it: what help and completion list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from vlmdesc.assets import shipped_sets
from vlmdesc.errors import InputError
from vlmdesc.text import did_you_mean

About = Callable[[Any], str]


def _first_line(entry: Any) -> str:
    return (entry.__doc__ or "").partition("\n")[0].rstrip(".")


def _method(entry: Any) -> str:
    return f"{entry.about}; learns from {entry.learns}" if entry.learns else str(entry.about)


# What is chosen -> the registry that holds it, in its module, and what says a word about an entry.
_REGISTRIES: dict[str, tuple[str, str, About]] = {
    "models": ("vlmdesc.embeddings.load", "ENCODERS", _first_line),
    "phrases": ("vlmdesc.descriptors.phrase", "PHRASES", lambda entry: ""),
    "pools": ("vlmdesc.classification.score", "POOLS", lambda entry: ""),
    "heads": ("vlmdesc.classification.heads", "HEADS", lambda entry: str(entry.about)),
    "methods": ("vlmdesc.evaluation.methods", "METHODS", _method),
    "checks": ("vlmdesc.descriptors.lint", "CHECKS", lambda entry: str(entry.about)),
}


def choices(what: str) -> Mapping[str, str]:
    """The "models", "phrases", "pools", "heads" that can be fitted, "methods", "checks", "prompts" or "sets" there are.

    Each with a word about it, or "". Raises: InputError for anything else.
    """
    if what == "sets":
        return dict.fromkeys(shipped_sets(), "")
    if what == "prompts":
        from vlmdesc.descriptors.prompts import shipped_prompts

        return dict.fromkeys(shipped_prompts(), "")
    if what not in _REGISTRIES:
        known = (*_REGISTRIES, "prompts", "sets")
        raise InputError(f"no choices of '{what}'", fix=f"{did_you_mean(what, known)}known: {', '.join(known)}")
    module, name, about = _REGISTRIES[what]
    entries = getattr(import_module(module), name)
    chosen = {name: entry for name, entry in entries.items() if what != "heads" or entry.fit}
    return {name: about(entry) for name, entry in chosen.items()}
