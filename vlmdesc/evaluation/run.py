"""One call: a labelled data set, descriptors and an encoder to a report."""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

import vlmdesc
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError, VlmdescWarning
from vlmdesc.evaluation.caveats import caveats, curve_caveats, reference_caveats
from vlmdesc.evaluation.measure import Measured, measure
from vlmdesc.evaluation.methods import Method, Run, Wording, build, encoded
from vlmdesc.evaluation.photos import Joining, Photos, aligned, class_numbers, distinct, gather, without
from vlmdesc.evaluation.specs import DEFAULT
from vlmdesc.evaluation.taught import Lesson
from vlmdesc.records import Descriptors, Report

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
    """A report, and what its views are drawn from: the data set, its pictures, and every answer."""

    report: Report
    data: DataSet
    photos: Photos
    descriptors: Descriptors
    measured: Measured


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
    `reference`, else by cross-validation; methods that pictures teach learn from it. `stage(name, total)` is told what
    begins and gives what to call as it goes.

    Raises: InputError where labels and classes do not fit, or a method is unknown; StoreError.
    """
    plan, store, began = plan or Plan(), store or Store(), time.time()
    data, reference = _opened(data), None if reference is None else _opened(reference)
    given = {"descriptors": descriptors} if isinstance(descriptors, Descriptors) else descriptors
    if not given:
        raise InputError("no descriptors", fix="give a descriptor set")
    name, *others = given
    first, numbers = class_numbers(data, given[name], plan.joining)
    sets = {name: first} | {other: aligned(given[other], first.classes, plan.joining) for other in others}
    methods, left_out = build(plan.methods, sets, plan.wording, reference is not None)
    of_reference = _reference_numbers(reference, first, plan.joining) if reference else None
    tick = stage("images", int((numbers >= 0).sum()))
    photos = gather(data, numbers, encoder, store, lambda: tick(1))
    known, of_it = _known(reference, of_reference, photos, encoder, store)
    known_limits = [*caveats(photos, sets), *of_it, *curve_caveats(methods, known)]
    for sentence in known_limits:
        warnings.warn(sentence, VlmdescWarning, stacklevel=2)
    lesson = Lesson(known.vectors if known else None, known.labels if known else None, photos.vectors, photos.labels)
    runs = _encoded(methods, encoder, store, lesson, stage)
    tick = stage("scoring", len(photos.labels))
    measured = measure(
        photos, runs, first.classes, reference=known, resamples=plan.resamples, seed=plan.seed, tick=tick
    )
    report = Report(
        task=_task(data, photos, sets, plan) | {"reference": _about(reference, known, first), "caveats": known_limits},
        encoder=_encoder(encoder),
        left_out=left_out,
        environment=environment(),
        times=_times(began),
        **measured.parts,
    )
    return Evaluation(report, data, photos, first, measured)


def _opened(data: DataSet | str | Path) -> DataSet:
    return data if isinstance(data, DataSet) else load_data(data)


def _reference_numbers(data: DataSet, descriptors: Descriptors, joining: Joining) -> Int[np.ndarray, " rows"]:
    """Class numbers of the reference, -1 for none: some classes may have no picture, others are passed over."""
    lenient = Joining(joining.aliases, joining.loose, allow_absent=True, ignore_unknown=True)
    return class_numbers(data, descriptors, lenient)[1]


def _known(
    data: DataSet | None, numbers: Int[np.ndarray, " rows"] | None, photos: Photos, encoder: Encoder, store: Store
) -> tuple[Photos | None, list[str]]:
    """The reference, if there is one, without what is evaluated on and without copies, and what to know about it.

    Raises: InputError when none is left.
    """
    if data is None or numbers is None:
        return None, []
    found = gather(data, numbers, encoder, store)
    fresh = without(found, photos)
    if not len(fresh.labels):
        what = "the reference has no picture that is not evaluated on"
        raise InputError(what, where=data.name, fix="give other pictures, or none")
    return distinct(fresh), [*reference_caveats(found, photos, data.labels())]


def _encoded(methods: Sequence[Method], encoder: Encoder, store: Store, lesson: Lesson, stage: Stage) -> list[Run]:
    pairs = [(method, seed) for method in methods for seed in method.seeds]
    tick = stage("texts", len(pairs))
    runs = []
    for method, seed in pairs:
        runs.append(encoded(method, seed, encoder, store, lesson))
        tick(1)
    return runs


def _task(data: DataSet, photos: Photos, sets: Mapping[str, Descriptors], plan: Plan) -> dict[str, Any]:
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


def _about(reference: DataSet | None, photos: Photos | None, descriptors: Descriptors) -> dict[str, Any] | None:
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
