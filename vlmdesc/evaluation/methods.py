"""Methods by name: each is a way of making columns of the one similarity matrix, and of reading them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.explain import reasons
from vlmdesc.classification.score import Columns, Scorer, scorer
from vlmdesc.classification.texts import pool_of
from vlmdesc.descriptors.controls import CONTROLS
from vlmdesc.descriptors.phrase import PHOTO, completed, get_phrase, name_phrase, texts
from vlmdesc.descriptors.templates import EIGHTY, SEVEN
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError
from vlmdesc.evaluation import taught
from vlmdesc.evaluation.specs import ALL, TAUGHT, Spec, parse
from vlmdesc.evaluation.taught import Lesson, Pupil, Reasons
from vlmdesc.records import Descriptors


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
    A method that pictures teach has the captions for its sheet, the `descriptors` it picks from, and may be taught by
    so many reference pictures `per_class` only, drawn anew for each seed.
    """

    name: str
    base: str
    kind: str  # "name", "descriptors", "mix", "taught" or "control"
    phrase: str
    pool: str
    sheet: Callable[[int | None], Sheet]
    seeds: tuple[int | None, ...] = (None,)
    name_sheet: Sheet | None = None
    of: str = ""
    descriptors: Descriptors | None = None
    per_class: int | None = None


@dataclass(frozen=True)
class Run:
    """A method with one seed, encoded; `learned` is a record of what it was taught.

    `reasons` gives, for images and a class of each, numbers of texts in `said` and their similarities, as
    `classify.explain.reasons` does, where reasons are wanted; `columns` stay where these are each class's own.
    """

    method: Method
    seed: int | None
    score: Scorer
    form: str
    n_texts: int
    n_classes: int
    name_score: Scorer | None = None
    columns: Columns | None = None
    reasons: Reasons | None = None
    said: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

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
    specs: Sequence[str], sets: Mapping[str, Descriptors], wording: Wording, reference: bool = False
) -> tuple[list[Method], dict[str, str]]:
    """The methods of these names, and why some had to be left out.

    A spec is BASE[-N][:PHRASE][/POOL], -N for methods that N reference pictures of a class teach; "all" stands for
    every base, of those that pictures teach only with a `reference`. A control that does not say is worded and pooled
    as the first "describe" is, so that the two differ in their words alone. What reads descriptors is made for each of
    the `sets`, which are over the same classes. A method that one set cannot serve, such as "free" where a class has no
    descriptor, is left out with the reason.
    Raises: InputError for an unknown base, phrase or pooling.
    """
    every = (*ALL, *TAUGHT) if reference else ALL
    listed = [spec for given in specs for spec in (every if given == "all" else (given,))]
    parsed = {spec: parse(spec) for spec in listed}
    described = (_worded(wording, spec) for spec in parsed.values() if spec.base == "describe")
    as_main = next(described, wording)
    methods: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    for given, spec in parsed.items():
        base = spec.base
        if base in TAUGHT and base != "neighborhood-free" and not reference:
            raise InputError(
                f"'{given}' learns from labelled pictures", fix="give them with --reference, or leave it out"
            )
        reads = base not in ("name", "photo", "templates", "templates-7", "few-shot")
        for of, descriptors in sets.items() if reads else [*sets.items()][:1]:
            name = f"{given}@{of}" if reads and len(sets) > 1 else given
            parts = _worded(as_main if base in CONTROLS else wording, spec)
            try:
                method = replace(_make(spec, descriptors, parts), name=name, of=of if reads else "")
                method.sheet(method.seeds[0])  # what cannot be worded shows here
                methods[name] = method
            except InputError as error:
                left_out[name] = f"{error.what}{f' ({error.where})' if error.where else ''}"
    if not methods:
        raise InputError("no method can be run", where="; ".join(left_out.values()), fix="describe the classes")
    return [*methods.values()], left_out


def _worded(wording: Wording, spec: Spec) -> Wording:
    return replace(wording, phrase=spec.phrase or wording.phrase, pool=spec.pool or wording.pool)


def _make(spec: Spec, descriptors: Descriptors, wording: Wording) -> Method:
    """A method but for its name."""
    base, phrase = spec.base, spec.phrase
    if base in TAUGHT:
        return _taught(spec, descriptors, wording)
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


def _taught(spec: Spec, descriptors: Descriptors, wording: Wording) -> Method:
    """A method that pictures teach; its captions are worded as the phrase says, "photo" where it does not."""
    base, form = spec.base, spec.phrase or PHOTO
    if base != "few-shot":
        pool_of(descriptors)  # there is something to pick from
    drawn = spec.per_class is not None or base in taught.DRAWN
    return Method(
        base,
        base,
        "control" if TAUGHT[base].startswith("control") else "taught",
        form,
        "mean",
        lambda _: worded(descriptors, form),
        seeds=wording.seeds if drawn else (None,),
        descriptors=descriptors,
        per_class=spec.per_class,
    )


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


def encoded(
    method: Method, seed: int | None, encoder: Encoder, store: Store | None, lesson: Lesson | None = None
) -> Run:
    """A method's columns through the encoder, or from the store; one that pictures teach, taught by the lesson."""
    encode = partial(text_vectors, encoder=encoder, store=store)
    sheet = method.sheet(seed)
    columns = Columns(encode(sheet.texts), sheet.owner, sheet.weights, sheet.n_classes)
    form = sheet.texts[int(np.argmax(sheet.weights > 0))]
    n_texts = int((sheet.weights > 0).sum())
    if method.descriptors is not None and lesson is not None:
        names = [sheet.texts[columns.rows_of(c)[0]] for c in range(sheet.n_classes)]
        pupil = Pupil(method.base, method.per_class, columns.means, names, method.descriptors)
        found = taught.teach(pupil, seed, lesson, encode)
        n_texts += found.record["texts"]
        run = Run(method, seed, found.score, form, n_texts, sheet.n_classes, learned=found.record)
        return replace(run, reasons=found.reasons, said=found.said) if run.primary else run
    name = method.name_sheet
    keep = seed == method.seeds[0] and method.kind != "name"
    return Run(
        method,
        seed,
        scorer(method.pool, columns),
        form=form,
        n_texts=n_texts,
        n_classes=sheet.n_classes,
        name_score=scorer("mean", Columns(encode(name.texts), name.owner, name.weights, name.n_classes))
        if name
        else None,
        columns=columns if keep else None,
        reasons=partial(reasons, columns=columns) if keep else None,
        said=sheet.said if keep else (),
    )
