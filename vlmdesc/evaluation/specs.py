"""Names of methods: BASE[-N][:PHRASE][/POOL], -N for methods that N reference pictures of a class teach."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from vlmdesc.classification.score import get_pool
from vlmdesc.descriptors.controls import CONTROLS
from vlmdesc.descriptors.phrase import get_phrase, name_phrase
from vlmdesc.errors import InputError, did_you_mean

TAUGHT = {
    "neighborhood": "the name, and the descriptors that tell its few candidates apart on the reference",
    "neighborhood-free": "the same without labels: taught by the pictures themselves, under pseudo-labels",
    "neighborhood-own": "control: the same score, every candidate with its own descriptors, none selected",
    "neighborhood-waffle": "control: selected from as many random words and characters",
    "neighborhood-random": "control: the same score, descriptors drawn at random from those of all classes",
    "few-shot": "the name, and prototypes of the reference pictures, no descriptors",
}
DEFAULT = ("name", "photo", "templates", "describe", "waffle")
ALL = (
    *("name", "photo", "templates", "templates-7"),
    *("describe", "describe/max", "describe/renormalized"),
    *("describe:dclip", "describe:dclip-imagenet", "describe:waffleclip", "describe:disclip"),
    *("free", "name+describe"),
    *CONTROLS,
)
ABOUT = {
    "name": "the bare name; name:TEMPLATE for a sentence with {c} in it",
    "photo": "a photo of a NAME.",
    "templates": "80 sentences with the name, averaged",
    "templates-7": "7 sentences with the name, averaged",
    "describe": "name and descriptor; describe:PHRASE for another wording, describe/POOL for another pooling",
    "free": "the descriptors without the name",
    "name+describe": "w of photo and 1 - w of free, w chosen on other images",
    "waffle": "control: random words and characters (WaffleCLIP)",
    "random": "control: descriptors drawn from those of all classes",
    "shared": "control: the same random descriptors for every class",
    "swapped": "control: whole lists change classes",
    "scrambled": "control: words of a class's descriptors in random order",
    **TAUGHT,
}


class Spec(NamedTuple):
    """The parts of a method's name, "" and None where it does not say."""

    base: str
    phrase: str = ""
    pool: str = ""
    per_class: int | None = None


def parse(spec: str) -> Spec:
    """The parts of a method's name. Raises: InputError with the closest known name.

    >>> parse("describe:dclip/max"), parse("name:a photo of a {c}.")[:2], parse("few-shot-5").per_class
    (Spec(base='describe', phrase='dclip', pool='max', per_class=None), ('name', 'a photo of a {c}.'), 5)
    """
    base, _, phrase = spec.partition(":")
    pool, per_class = "", None
    if base != "name":
        base, _, pool = base.partition("/")
        if (few := re.fullmatch(r"(.+)-([0-9]{1,9})", base)) and few[1] in TAUGHT and few[1] != "neighborhood-free":
            base, per_class = few[1], int(few[2])
            if not per_class:
                raise InputError("no reference pictures", where=spec, fix=f"use {base}-1 or more")
        if not (base in TAUGHT and phrase.startswith("name:")):  # a template may hold a slash
            phrase, _, pool = phrase.partition("/") if phrase else ("", "", pool)
    if base not in ABOUT:
        fix = f"{did_you_mean(base, ABOUT)}known: {', '.join(ABOUT)}, all"
        raise InputError(f"unknown method '{spec}'", fix=fix)
    if (phrase or pool) and base in ("photo", "templates", "templates-7", "free") and (phrase or base != "free"):
        raise InputError(f"method '{base}' has its own wording", where=spec, fix=f"use {base} alone")
    if pool and base in TAUGHT:
        raise InputError(f"method '{base}' has its own pooling", where=spec, fix="leave the pooling out")
    if phrase and base == "name":
        name_phrase(phrase)
    elif phrase and get_phrase(phrase).reads_descriptor and base == "few-shot":
        raise InputError("few-shot reads names, no descriptors", where=spec, fix="use few-shot:name, or alone")
    if pool:
        get_pool(pool)
    return Spec(base, phrase, pool, per_class)


def curve(specs: Sequence[str], per_class: str) -> tuple[str, ...]:
    """The methods, those that reference pictures teach also once for each number of pictures a class: "1,5".

    Raises: InputError when that is no list of numbers, or none of the methods is so taught.

    >>> curve(["photo", "few-shot:name"], "1,all")
    ('photo', 'few-shot-1:name', 'few-shot:name')
    """
    sizes = [*dict.fromkeys(size.strip() for size in f"{per_class},all".split(","))]
    if not all(size == "all" or re.fullmatch(r"[1-9][0-9]{0,8}", size) for size in sizes):
        raise InputError(f"'{per_class}' is no list of numbers", where="--per-class", fix='for example "1,5,20,all"')
    learners = [base for base in TAUGHT if base != "neighborhood-free"]
    found: list[str] = []
    for spec in [name for given in specs for name in ((*ALL, *TAUGHT) if given == "all" else (given,))]:
        base, rest = re.fullmatch(r"([^:/]*)(.*)", spec, re.DOTALL).groups()  # type: ignore[union-attr]
        found += [base + (f"-{size}" if size != "all" else "") + rest for size in sizes] if base in learners else [spec]
    if not any(parse(spec).base in learners for spec in found):
        fix = f"add --methods with one of {', '.join(learners)}"
        raise InputError("no method that learns from reference pictures", where="--per-class", fix=fix)
    return tuple(found)
