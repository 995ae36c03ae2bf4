"""One call: a labelled data set, descriptors and an encoder to a report."""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

import vlmdesc
from vlmdesc.classification.heads import HeadCard
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.labelled import Joining, Labelled, aligned, class_numbers, distinct, gather, without
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError, VlmdescWarning
from vlmdesc.evaluation import calibrate, examples
from vlmdesc.evaluation.caveats import caveats, curve_caveats, reference_caveats
from vlmdesc.evaluation.methods import Given, Method
from vlmdesc.evaluation.metrics import Summary
from vlmdesc.evaluation.outcomes import Outcome, outcome
from vlmdesc.evaluation.roles import drawn, pairs, selection_verdicts, verdicts
from vlmdesc.evaluation.specs import DEFAULT, Wording, build
from vlmdesc.evaluation.verdict import NO_DESCRIPTORS, Difference
from vlmdesc.records import ClassName, Descriptors, Report

Tick = Callable[[int], object]
Stage = Callable[[str, int | None], Tick]


@dataclass(frozen=True)
class Plan:
    """What is measured, and how: method specs, wording, how labels find classes, bootstrap resamples and the seed."""

    methods: Sequence[str] = DEFAULT
    wording: Wording = field(default_factory=Wording)
    joining: Joining = field(default_factory=Joining)
    resamples: int = 2_000
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """A report, and what its views are drawn from: the data set, its images, and the outcomes of each method."""

    report: Report
    data: DataSet
    photos: Labelled
    descriptors: Descriptors
    outcomes: Mapping[str, Sequence[Outcome]]


def evaluate(
    data: DataSet | str | Path,
    descriptors: Descriptors | Mapping[str, Descriptors],
    encoder: Encoder,
    store: Store | None = None,
    *,
    plan: Plan | None = None,
    reference: DataSet | str | Path | None = None,
    stage: Stage = lambda name, total: bool,
) -> Evaluation:
    """Do descriptors help over the name, over templates, over random words? Every method on the same images.

    `descriptors` is a set, or several by name over the same classes. Embeddings come from the store, by default the
    user's, and are kept there: a second evaluation encodes nothing. Weights and temperatures are chosen on the
    `reference`, else by cross-validation; some methods learn from it. `stage(name, total)` is told what
    begins and gives what to call as it goes.

    Raises: InputError where labels and classes do not fit, or a method is unknown; StoreError.
    """
    plan, store, began = plan or Plan(), store or Store(), time.time()
    data, reference = _opened(data), None if reference is None else _opened(reference)
    named = {"descriptors": descriptors} if isinstance(descriptors, Descriptors) else descriptors
    if not named:
        raise InputError("no descriptors", fix="give a descriptor set")
    name, *others = named
    first, numbers = class_numbers(data, named[name], plan.joining)
    sets = {name: first} | {other: aligned(named[other], first.classes, plan.joining) for other in others}
    methods, left_out = build(plan.methods, sets, plan.wording, reference is not None)
    of_reference = _reference_numbers(reference, first, plan.joining) if reference else None
    tick = stage("images", int((numbers >= 0).sum()))
    photos = gather(data, numbers, encoder, store, lambda: tick(1))
    known, of_it = _known(reference, of_reference, photos, encoder, store)
    known_limits = [*caveats(photos, sets), *of_it, *curve_caveats(methods, known)]
    for sentence in known_limits:
        warnings.warn(sentence, VlmdescWarning, stacklevel=2)
    given = _given(photos, known, first, encoder, store, plan.seed)
    found = measure(methods, given, photos, plan.seed, stage)
    report = Report(
        task=_task(data, photos, sets, plan) | {"reference": _about(reference, known, first), "caveats": known_limits},
        encoder=_encoder(encoder),
        left_out=left_out,
        environment=environment(),
        times=_times(began),
        **figures(found, photos, first.classes, plan.resamples, plan.seed),
    )
    return Evaluation(report, data, photos, first, found)


def _given(
    images: Labelled, reference: Labelled | None, descriptors: Descriptors, encoder: Encoder, store: Store, seed: int
) -> Given:
    """What heads are fitted with. Weights and temperatures are chosen on the reference, else by cross-validation."""
    on = reference or images
    some = calibrate.sample(on.labels, seed)
    folds = None if reference else calibrate.folds(images.labels, images.contents, seed)[some]
    return Given(
        HeadCard.of("", encoder, descriptors),
        partial(text_vectors, encoder=encoder, store=store),
        images.vectors,
        on.vectors[some],
        on.labels[some],
        folds,
        reference,
        seed,
    )


def measure(
    methods: Sequence[Method], given: Given, images: Labelled, seed: int = 0, stage: Stage = lambda name, total: bool
) -> dict[str, list[Outcome]]:
    """The answers of each method, one outcome for each of its seeds: a list of heads on the same images.

    One head at a time: of all but a method's first seed only the answers are kept.
    """
    fold = calibrate.folds(images.labels, images.contents, seed)
    each = [(method, seed_) for method in methods for seed_ in method.seeds]
    tick = stage("methods", len(each))
    found: dict[str, list[Outcome]] = {}
    for method, seed_ in each:
        found.setdefault(method.name, []).append(outcome(method, seed_, given, images, fold))
        tick(1)
    return found


def figures(
    outcomes: Mapping[str, Sequence[Outcome]],
    images: Labelled,
    classes: Sequence[ClassName],
    resamples: int = 2_000,
    seed: int = 0,
) -> dict[str, Any]:
    """The parts of a `Report` that follow from answers: no model, no disk."""
    methods = [found[0].method for found in outcomes.values()]
    base, main = drawn(methods)
    summary = Summary(outcomes, images.labels, images.groups, classes, resamples, seed)
    comparisons = summary.comparisons(pairs(methods))
    before, after = outcomes[base][0], outcomes[main][0]
    return {
        "methods": {name: summary.method(name) for name in outcomes},
        "comparisons": [difference.record() for difference in comparisons],
        "verdict": _verdict(summary, methods, comparisons),
        "base": base,
        "main": main,
        "classes": summary.class_table(base, main),
        "confusions": examples.with_examples(summary.confusions(base, main), images, after, classes),
        "changes": examples.changes(images, before, after, classes),
        "credit": examples.credit(images, after, classes),
    }


def _verdict(summary: Summary, methods: Sequence[Method], comparisons: Sequence[Difference]) -> dict[str, Any]:
    """The verdict on the first descriptor set, and on each where there are several."""
    free = {m.name: summary.figure(m.name, "top1").value for m in methods if m.base == "free"}
    chance = 1 / len(summary.classes)
    found = {of: vars(v) for of, v in verdicts(methods, comparisons, free, chance).items()}
    selected = [vars(verdict) for verdict in selection_verdicts(methods, comparisons)]
    first = next(iter(found.values()))
    if selected and first["code"] == NO_DESCRIPTORS:
        first = selected[0]
    more = ({"sets": found} if len(found) > 1 else {}) | ({"selection": selected} if selected else {})
    return dict(first) | more


def _opened(data: DataSet | str | Path) -> DataSet:
    return data if isinstance(data, DataSet) else load_data(data)


def _reference_numbers(data: DataSet, descriptors: Descriptors, joining: Joining) -> Int[np.ndarray, " rows"]:
    """Class numbers of the reference, -1 for none: some classes may have no image, others are passed over."""
    lenient = Joining(joining.aliases, joining.loose, allow_absent=True, ignore_unknown=True)
    return class_numbers(data, descriptors, lenient)[1]


def _known(
    data: DataSet | None, numbers: Int[np.ndarray, " rows"] | None, photos: Labelled, encoder: Encoder, store: Store
) -> tuple[Labelled | None, list[str]]:
    """The reference, if there is one, without what is evaluated on and without copies, and what to know about it.

    Raises: InputError when none is left.
    """
    if data is None or numbers is None:
        return None, []
    found = gather(data, numbers, encoder, store)
    fresh = without(found, photos)
    if not len(fresh.labels):
        what = "the reference has no image that is not evaluated on"
        raise InputError(what, where=data.name, fix="give other images, or none")
    return distinct(fresh), [*reference_caveats(found, photos, data.labels())]


def _task(data: DataSet, photos: Labelled, sets: Mapping[str, Descriptors], plan: Plan) -> dict[str, Any]:
    classes = next(iter(sets.values())).classes
    return {
        "data": data.name,
        "split": data.table.split,
        "columns": vars(data.roles),
        "n": len(photos.labels),
        "classes": len(classes),
        "class_names": {class_.id: class_.name for class_ in classes},
        "data_hash": photos.fingerprint(classes),
        "failed": len(photos.failed),
        "unlabelled": photos.unlabelled,
        "descriptors": {
            name: {
                "rows": len(set_.rows),
                "sha256": _sha256(replace(set_, history=()).to_json()),
            }
            for name, set_ in sets.items()
        },
        "phrase": plan.wording.phrase,
        "pool": plan.wording.pool,
        "resamples": plan.resamples,
        "seed": plan.seed,
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _about(reference: DataSet | None, photos: Labelled | None, descriptors: Descriptors) -> dict[str, Any] | None:
    if reference is None or photos is None:
        return None
    hash_ = photos.fingerprint(descriptors.classes)
    return {"data": reference.name, "split": reference.table.split, "n": len(photos.labels), "data_hash": hash_}


def _encoder(encoder: Encoder) -> dict[str, str]:
    return {"name": encoder.name, "fingerprint": encoder.fingerprint, "precision": encoder.precision}


def _times(began: float) -> dict[str, Any]:
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))
    return {"started": started, "seconds": round(time.time() - began, 1)}


def environment() -> dict[str, str]:
    """Versions that figures may depend on."""
    found = {"vlmdesc": vlmdesc.__version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in ("numpy", "scipy", "torch", "open_clip_torch", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
