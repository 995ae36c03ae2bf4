"""Names of methods: BASE[-N][:PHRASE][/POOL], -N for N reference images a class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from vlmdesc.classification.score import get_pool
from vlmdesc.descriptors.phrase import get_phrase, name_phrase
from vlmdesc.errors import InputError
from vlmdesc.evaluation.methods import METHODS, Method, learners
from vlmdesc.records import Descriptors
from vlmdesc.text import did_you_mean

DEFAULT = ("name", "photo", "templates", "describe", "waffle")


def every(reference: bool) -> list[str]:
    """The names that "all" stands for: every base with its variants, of those that learn from labels with a reference.

    >>> every(False)[:3], "few-shot" in every(True)
    (['name', 'photo', 'templates'], True)
    """
    some = [name for name, entry in METHODS.items() if reference or not entry.learns]
    return [name + variant for name in some for variant in ("", *METHODS[name].variants)]


class Spec(NamedTuple):
    """The parts of a method's name, "" and None where it does not say."""

    base: str
    phrase: str = ""
    pool: str = ""
    per_class: int | None = None


def parse(spec: str) -> Spec:
    """The parts of a method's name: BASE[-N][:PHRASE][/POOL], -N for N reference images a class.

    Raises: InputError with the closest known name.

    >>> parse("describe:dclip/max"), parse("name:a photo of a {c}.")[:2], parse("few-shot-5").per_class
    (Spec(base='describe', phrase='dclip', pool='max', per_class=None), ('name', 'a photo of a {c}.'), 5)
    """
    base, _, phrase = spec.partition(":")
    pool, per_class = "", None
    if not (base in METHODS and "template" in METHODS[base].takes):
        base, _, pool = base.partition("/")
        if (few := re.fullmatch(r"(.+)-([0-9]{1,9})", base)) and few[1] in learners():
            base, per_class = few[1], int(few[2])
            if not per_class:
                raise InputError("no reference images", where=spec, fix=f"use {base}-1 or more")
        if not (base in METHODS and METHODS[base].learns and phrase.startswith("name:")):  # a template may hold a slash
            phrase, _, pool = phrase.partition("/") if phrase else ("", "", pool)
    if base not in METHODS:
        fix = f"{did_you_mean(base, METHODS)}known: {', '.join(METHODS)}, all"
        raise InputError(f"unknown method '{spec}'", fix=fix)
    takes = METHODS[base].takes
    for whats, value, noun in ((("phrase", "template"), phrase, "wording"), (("pool",), pool, "pooling")):
        if value and takes.isdisjoint(whats):
            raise InputError(f"method '{base}' has its own {noun}", where=spec, fix=f"leave the {noun} out")
    if phrase and "template" in takes:
        name_phrase(phrase)
    elif phrase and get_phrase(phrase).reads_descriptor and not METHODS[base].reads:
        raise InputError(f"{base} reads names, no descriptors", where=spec, fix=f"use {base}:name, or alone")
    if pool:
        get_pool(pool)
    return Spec(base, phrase, pool, per_class)


def curve(specs: Sequence[str], per_class: str) -> tuple[str, ...]:
    """The methods, those that learn from labels also once for each number of images a class: "1,5".

    Raises: InputError when that is no list of numbers, or none of the methods so learns.

    >>> curve(["photo", "few-shot:name"], "1,all")
    ('photo', 'few-shot-1:name', 'few-shot:name')
    """
    sizes = [*dict.fromkeys(size.strip() for size in f"{per_class},all".split(","))]
    if not all(size == "all" or re.fullmatch(r"[1-9][0-9]{0,8}", size) for size in sizes):
        raise InputError(f"'{per_class}' is no list of numbers", where="--per-class", fix='for example "1,5,20,all"')
    found: list[str] = []
    for spec in [name for given in specs for name in (every(True) if given == "all" else (given,))]:
        base, rest = re.fullmatch(r"([^:/]*)(.*)", spec, re.DOTALL).groups()  # type: ignore[union-attr]
        found += (
            [base + (f"-{size}" if size != "all" else "") + rest for size in sizes] if base in learners() else [spec]
        )
    if not any(parse(spec).base in learners() for spec in found):
        fix = f"add --methods with one of {', '.join(learners())}"
        raise InputError("no method that learns from reference images", where="--per-class", fix=fix)
    return tuple(found)


@dataclass(frozen=True)
class Wording:
    """How "describe" and its controls are worded and pooled where a method does not say, and the seeds of controls."""

    phrase: str = "plain"
    pool: str = "mean"
    seeds: tuple[int, ...] = tuple(range(7))


def build(
    specs: Sequence[str], sets: Mapping[str, Descriptors], wording: Wording, reference: bool = False
) -> tuple[list[Method], dict[str, str]]:
    """The methods of these names, and why some had to be left out.

    "all" stands for every base, of those that learn from labels only with a `reference`. A control that does not say is
    worded and pooled as the first "describe" is, so that the two differ in their words alone. What reads descriptors is
    made for each of the `sets`, which are over the same classes. A method that one set cannot serve, such as "free"
    where a class has no descriptor, is left out with the reason.
    Raises: InputError for an unknown base, phrase or pooling.
    """
    listed = [spec for given in specs for spec in (every(reference) if given == "all" else (given,))]
    parsed = {spec: parse(spec) for spec in listed}
    described = (_with(wording, spec) for spec in parsed.values() if spec.base == "describe")
    as_main = next(described, wording)
    methods: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    for given, spec in parsed.items():
        entry = METHODS[spec.base]
        if spec.base in learners() and not reference:
            fix = "give them with --reference, or leave it out"
            raise InputError(f"'{given}' learns from labelled images", fix=fix)
        for of, descriptors in sets.items() if entry.reads else [*sets.items()][:1]:
            name = f"{given}@{of}" if entry.reads and len(sets) > 1 else given
            method = replace(_method(spec, descriptors, wording, as_main), name=name, of=of if entry.reads else "")
            try:
                method.prompts(method.seeds[0])  # what cannot be worded shows here
                methods[name] = method
            except InputError as error:
                left_out[name] = f"{error.what}{f' ({error.where})' if error.where else ''}"
    if not methods:
        raise InputError("no method can be run", where="; ".join(left_out.values()), fix="describe the classes")
    return [*methods.values()], left_out


def _with(wording: Wording, spec: Spec) -> Wording:
    return replace(wording, phrase=spec.phrase or wording.phrase, pool=spec.pool or wording.pool)


def _method(spec: Spec, descriptors: Descriptors, wording: Wording, as_main: Wording) -> Method:
    """A method but for its name."""
    base, entry = spec.base, METHODS[spec.base]
    parts = _with(as_main if entry.kind == "control" and not entry.learns else wording, spec)
    phrase = spec.phrase or entry.phrase or parts.phrase
    if spec.phrase and "template" in entry.takes:
        phrase = f"name:{phrase}"
    pool = parts.pool if "pool" in entry.takes else entry.pool
    seeds = wording.seeds if entry.drawn or spec.per_class is not None else (None,)
    return Method(base, base, phrase, pool, descriptors, seeds, per_class=spec.per_class)
