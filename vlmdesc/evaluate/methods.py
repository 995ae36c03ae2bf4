"""Methods by name: each is a way of making columns of the one similarity matrix, and of reading them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classify.score import Columns, Scorer, get_pool, scorer
from vlmdesc.describe.controls import CONTROLS
from vlmdesc.describe.phrase import completed, get_phrase, name_phrase, texts
from vlmdesc.describe.templates import EIGHTY, SEVEN
from vlmdesc.encode.embed import embed_texts
from vlmdesc.encode.protocol import Encoder
from vlmdesc.encode.store import Store
from vlmdesc.errors import InputError, did_you_mean
from vlmdesc.records import Descriptors

PHOTO = "name:a photo of a {c}."
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
}


@dataclass(frozen=True)
class Sheet:
    """Columns that are not encoded yet: (M,) texts, what each says to a person, class and weight."""

    texts: Sequence[str]
    said: Sequence[str]
    owner: Int[np.ndarray, " m"]
    weights: Float32[np.ndarray, " m"]
    n_classes: int


@dataclass(frozen=True)
class Method:
    """One way to classify. `sheet(seed)` makes its columns; `seeds` are those of a control, (None,) for the others.

    `name_sheet` is the name's part of a method that mixes. `of` names the descriptor set where there are several.
    """

    name: str
    base: str
    kind: str  # "name", "descriptors", "mix" or "control"
    phrase: str
    pool: str
    sheet: Callable[[int | None], Sheet]
    seeds: tuple[int | None, ...] = (None,)
    name_sheet: Sheet | None = None
    of: str = ""


@dataclass(frozen=True)
class Run:
    """A method with one seed, encoded. `columns` and `said` stay where reasons are wanted."""

    method: Method
    seed: int | None
    score: Scorer
    form: str
    n_texts: int
    n_classes: int
    name_score: Scorer | None = None
    columns: Columns | None = None
    said: Sequence[str] = ()

    @property
    def primary(self) -> bool:
        """Whether this is the first of its method's seeds, of which more is kept."""
        return self.seed == self.method.seeds[0]

    def scores(
        self, images: Float32[np.ndarray, "n d"], weights: Float32[np.ndarray, " n"] | None
    ) -> Float32[np.ndarray, "n c"]:
        """Class scores (N, C); `weights` are those of the name, one for each image, where the method mixes."""
        scores = self.score(images)
        if self.name_score is None or weights is None:
            return scores
        return weights[:, None] * self.name_score(images) + (1 - weights[:, None]) * scores


@dataclass(frozen=True)
class Wording:
    """How "describe" and its controls are worded and pooled where a method does not say, and the seeds of controls."""

    phrase: str = "plain"
    pool: str = "mean"
    seeds: tuple[int, ...] = tuple(range(7))


def build(
    specs: Sequence[str], sets: Mapping[str, Descriptors], wording: Wording
) -> tuple[list[Method], dict[str, str]]:
    """The methods of these names, and why some had to be left out.

    A spec is BASE[:PHRASE][/POOL]; "all" stands for every base. A control that does not say is worded and pooled as the
    first "describe" is, so that the two differ in their words alone. What reads descriptors is made for each of the
    `sets`, which are over the same classes. A method that one set cannot serve, such as "free" where a class has no
    descriptor, is left out with the reason.
    Raises: InputError for an unknown base, phrase or pooling.
    """
    listed = [spec for given in specs for spec in (ALL if given == "all" else (given,))]
    parsed = {spec: parse(spec) for spec in listed}
    described = (_worded(wording, phrase, pool) for base, phrase, pool in parsed.values() if base == "describe")
    as_main = next(described, wording)
    methods: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    for spec, (base, phrase, pool) in parsed.items():
        reads = base not in ("name", "photo", "templates", "templates-7")
        for of, descriptors in sets.items() if reads else [*sets.items()][:1]:
            name = f"{spec}@{of}" if reads and len(sets) > 1 else spec
            parts = _worded(as_main if base in CONTROLS else wording, phrase, pool)
            try:
                method = replace(_make(base, phrase, descriptors, parts), name=name, of=of if reads else "")
                method.sheet(method.seeds[0])  # what cannot be worded shows here
                methods[name] = method
            except InputError as error:
                left_out[name] = f"{error.what}{f' ({error.where})' if error.where else ''}"
    if not methods:
        raise InputError("no method can be run", where="; ".join(left_out.values()), fix="describe the classes")
    return [*methods.values()], left_out


def _worded(wording: Wording, phrase: str, pool: str) -> Wording:
    return replace(wording, phrase=phrase or wording.phrase, pool=pool or wording.pool)


def parse(spec: str) -> tuple[str, str, str]:
    """Base, phrase and pool of a spec, "" where it does not say. Raises: InputError with the closest known name.

    >>> parse("describe:dclip/max"), parse("name:a photo of a {c}."), parse("waffle")
    (('describe', 'dclip', 'max'), ('name', 'a photo of a {c}.', ''), ('waffle', '', ''))
    """
    base, _, phrase = spec.partition(":")
    pool = ""
    if base != "name":
        base, _, pool = base.partition("/")
        phrase, _, pool = phrase.partition("/") if phrase else ("", "", pool)
    if base not in ABOUT:
        fix = f"{did_you_mean(base, ABOUT)}known: {', '.join(ABOUT)}, all"
        raise InputError(f"unknown method '{spec}'", fix=fix)
    if (phrase or pool) and base in ("photo", "templates", "templates-7", "free") and (phrase or base != "free"):
        raise InputError(f"method '{base}' has its own wording", where=spec, fix=f"use {base} alone")
    if phrase and base == "name":
        name_phrase(phrase)
    elif phrase:
        get_phrase(phrase)
    if pool:
        get_pool(pool)
    return base, phrase, pool


def _make(base: str, phrase: str, descriptors: Descriptors, wording: Wording) -> Method:
    """A method but for its name."""
    if base in ("name", "photo"):
        form = PHOTO if base == "photo" else f"name:{phrase}" if phrase else "name"
        return Method(base, base, "name", form, "mean", lambda _: worded(descriptors, form))
    if base in ("templates", "templates-7"):
        ensemble = EIGHTY if base == "templates" else SEVEN
        about = f"{len(ensemble)} templates"
        return Method(base, base, "name", about, "renormalized", lambda _: in_templates(descriptors, ensemble))
    if base in CONTROLS:
        control = CONTROLS[base]
        sheet = partial(_of_control, descriptors, wording.phrase, control)
        return Method(base, base, "control", wording.phrase, wording.pool, sheet, seeds=wording.seeds)
    form = {"free": "free", "name+describe": phrase or "free"}.get(base, wording.phrase)
    method = Method(base, base, "descriptors", form, wording.pool, lambda _: worded(descriptors, form))
    if base == "name+describe":
        return replace(method, kind="mix", name_sheet=worded(descriptors, PHOTO))
    return method


def _of_control(descriptors: Descriptors, phrase: str, control: Callable[..., Descriptors], seed: int | None) -> Sheet:
    return worded(control(descriptors, seed), phrase)


def worded(descriptors: Descriptors, phrase: str) -> Sheet:
    """The columns of a descriptor set in one phrase; a class without descriptors has its name.

    Raises: InputError for an unknown phrase, or one that leaves out the name of a class that has nothing else.
    """
    form = get_phrase(phrase)
    whole, _ = completed(descriptors, form)
    rows = texts(whole, form)
    said = [row.text or text for row, text in zip(whole.rows, rows, strict=True)]
    return Sheet(rows, said, whole.owner, whole.weights, len(whole.classes))


def in_templates(descriptors: Descriptors, templates: Sequence[str]) -> Sheet:
    """Every class name in every template."""
    says = [name_phrase(template) for template in templates]
    rows = [say(class_.name, "") for class_ in descriptors.classes for say in says]
    owner = np.repeat(np.arange(len(descriptors.classes)), len(templates))
    return Sheet(rows, rows, owner, np.ones(len(rows), np.float32), len(descriptors.classes))


def encoded(method: Method, seed: int | None, encoder: Encoder, store: Store | None) -> Run:
    """A method's columns through the encoder, or from the store."""
    sheet = method.sheet(seed)
    columns = _columns(sheet, encoder, store)
    name_score = scorer("mean", _columns(method.name_sheet, encoder, store)) if method.name_sheet else None
    keep = seed == method.seeds[0] and method.kind != "name"
    return Run(
        method,
        seed,
        scorer(method.pool, columns),
        form=sheet.texts[int(np.argmax(sheet.weights > 0))],
        n_texts=int((sheet.weights > 0).sum()),
        n_classes=sheet.n_classes,
        name_score=name_score,
        columns=columns if keep else None,
        said=sheet.said if keep else (),
    )


def _columns(sheet: Sheet, encoder: Encoder, store: Store | None) -> Columns:
    vectors = embed_texts(sheet.texts, encoder, store.texts(encoder)) if store else encoder.texts(sheet.texts)
    return Columns(vectors, sheet.owner, sheet.weights, sheet.n_classes)
