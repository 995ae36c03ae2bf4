"""What is measured, and how: names of methods, BASE[-N][:PHRASE][/POOL], and the plan they are run by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from vlmdesc.classification.score import get_pool
from vlmdesc.descriptors.phrase import get_phrase, name_phrase
from vlmdesc.embeddings.labelled import Joining
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

    Raises: InputError when that is not a list of numbers, or none of the methods so learns.

    >>> curve(["photo", "few-shot:name"], "1,all")
    ('photo', 'few-shot-1:name', 'few-shot:name')
    """
    sizes = [*dict.fromkeys(size.strip() for size in f"{per_class},all".split(","))]
    if not all(size == "all" or re.fullmatch(r"[1-9][0-9]{0,8}", size) for size in sizes):
        raise InputError(f"'{per_class}' is not a list of numbers", where="--per-class", fix='for example "1,5,20,all"')
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
class Plan:
    """How it is measured: how "describe" and its controls are worded and pooled where a method does not say, how labels
    find classes, how many seeds controls have, bootstrap resamples, and the seed of folds and resamples.

    Raises: InputError for a phrase or pooling that is not known, and numbers that are too small.
    """

    phrase: str = "plain"
    pool: str = "mean"
    joining: Joining = field(default_factory=Joining)
    seeds: int = 7
    resamples: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        get_phrase(self.phrase), get_pool(self.pool)
        if self.seeds < 1 or self.resamples < 100 or self.seed < 0:
            what = f"{self.seeds} seeds, {self.resamples} resamples, seed {self.seed}"
            raise InputError(what, fix="use at least 1, 100 and 0")


def check(specs: Sequence[str], reference: bool) -> dict[str, Spec]:
    """The parts of each of these names. "all" stands for every base, of those that learn from labels only with a
    `reference`.

    Raises: InputError for an unknown base, phrase or pooling, and where a reference is missing.
    """
    if isinstance(specs, str):
        raise InputError(f"a string, '{specs}', where a list of methods is meant", fix=f"give ['{specs}']")
    parsed = {name: parse(name) for spec in specs for name in (every(reference) if spec == "all" else (spec,))}
    for name, spec in parsed.items():
        if spec.base in learners() and not reference:
            fix = "give them with --reference, or leave it out"
            raise InputError(f"'{name}' learns from labelled images", fix=fix)
    return parsed


def build(
    specs: Sequence[str], sets: Mapping[str, Descriptors], plan: Plan, reference: bool = False
) -> tuple[list[Method], dict[str, str]]:
    """The methods of these names, and why some had to be left out.

    A control that does not say is worded and pooled as the first "describe" is, so that the two differ in their words
    alone. What reads descriptors is made for each of the `sets`, which are over the same classes. A method that one set
    cannot serve, such as "free" where a class has no descriptor, is left out with the reason.
    Raises: InputError as `check`.
    """
    parsed = check(specs, reference)
    described = next((spec for spec in parsed.values() if spec.base == "describe"), Spec("describe"))
    as_main = replace(plan, phrase=described.phrase or plan.phrase, pool=described.pool or plan.pool)
    methods: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    for given, spec in parsed.items():
        entry = METHODS[spec.base]
        for of, descriptors in sets.items() if entry.reads else [*sets.items()][:1]:
            name = f"{given}@{of}" if entry.reads and len(sets) > 1 else given
            method = replace(_method(spec, descriptors, plan, as_main), name=name, of=of if entry.reads else "")
            try:
                entry.prompts(method, method.seeds[0])  # what cannot be worded shows here
                methods[name] = method
            except InputError as error:
                left_out[name] = f"{error.what}{f' ({error.where})' if error.where else ''}"
    if not methods:
        raise InputError("no method can be run", where="; ".join(left_out.values()), fix="describe the classes")
    return [*methods.values()], left_out


def _method(spec: Spec, descriptors: Descriptors, plan: Plan, as_main: Plan) -> Method:
    """A method but for its name."""
    base, entry = spec.base, METHODS[spec.base]
    default = as_main if entry.kind == "control" and not entry.learns else plan
    phrase = spec.phrase or entry.phrase or default.phrase
    if spec.phrase and "template" in entry.takes:
        phrase = f"name:{phrase}"
    pool = (spec.pool or default.pool) if "pool" in entry.takes else entry.pool
    seeds = tuple(range(plan.seeds)) if entry.drawn or spec.per_class is not None else (None,)
    return Method(base, base, phrase, pool, descriptors, seeds, per_class=spec.per_class)
