"""One call: a labelled data set, descriptors and an encoder to a report."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

import vlmdesc
from vlmdesc.cache import make_folder
from vlmdesc.classification.heads import Head, HeadCard
from vlmdesc.classification.heads.head import check_encoder, check_width
from vlmdesc.classification.heads.learned import sentence
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.embed import save_failures, text_vectors
from vlmdesc.embeddings.labelled import Joining, Labelled, align, class_numbers, drop_copies, gather, without
from vlmdesc.embeddings.load import encoder_of
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import ImageError, InputError
from vlmdesc.evaluation import calibrate, examples
from vlmdesc.evaluation.caveats import caveats, curve_caveats, reference_caveats
from vlmdesc.evaluation.methods import Given, with_heads
from vlmdesc.evaluation.metrics import Summary
from vlmdesc.evaluation.outcomes import Outcome, measure
from vlmdesc.evaluation.predictions import ERRORS, PREDICTIONS, RESULTS, write_predictions
from vlmdesc.evaluation.specs import DEFAULT, Plan, build, check
from vlmdesc.evaluation.verdict import base_and_main, judge, pairs
from vlmdesc.files import cannot_write, write_atomic
from vlmdesc.records import ClassName, Descriptors, Report
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.progress import Progress, collect_notes, counter, note, silent
from vlmdesc.records.report import DescriptorSet, EncoderFacts, Reference, Setting, Times

Opener = Callable[[], Encoder]


@dataclass(frozen=True, repr=False)
class Evaluation:
    """A report, and what its views are drawn from: the data set, its images, and the outcomes of each method.

    `notes` are what a person should know, besides the caveats of the report what was left out.
    """

    report: Report
    data: DataSet
    images: Labelled
    descriptors: Descriptors
    outcomes: Mapping[str, Sequence[Outcome]]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[ImageError, ...]:
        """The images that could not be used."""
        return self.images.failed

    @property
    def learned(self) -> dict[str, str]:
        """What methods learned from images, each as a sentence."""
        methods = {name: of for name, of in self.report.methods.items() if of.learned is not None}
        return {name + (", first draw" if of.seeds else ""): sentence(of.learned or {}) for name, of in methods.items()}

    def save(self, folder: str | Path) -> None:
        """Write results.json, predictions.parquet, report.html, and errors.jsonl where images failed.

        Raises: StoreError.
        """
        from vlmdesc.evaluation.html import report_page
        from vlmdesc.evaluation.thumbnails import shown_rows, thumbnails

        folder = Path(folder)
        make_folder(folder)
        first = [outcomes[0] for outcomes in self.outcomes.values()]
        write_predictions(folder / PREDICTIONS, self.images, self.descriptors.classes, first)
        self.report.save(folder / RESULTS)
        small = thumbnails(self.data, shown_rows(self.report))
        write_atomic(folder / "report.html", report_page(self.report, small).encode())
        save_failures(folder / ERRORS, self.images.failed, self.images.failed_labels)

    def to_dict(self) -> dict[str, Any]:
        """The report, as results.json has it."""
        return self.report.to_dict()

    def __repr__(self) -> str:
        return f"Evaluation({self.report!r})"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def evaluate(
    data: DataSet | str | Path,
    descriptors: DescriptorSource | Mapping[str, Descriptors],
    encoder: Encoder | str | Opener,
    *,
    methods: Sequence[str] = DEFAULT,
    heads: Sequence[Head] = (),
    reference: DataSet | str | Path | None = None,
    plan: Plan | None = None,
    store: Store | bool = True,
    progress: Progress = silent,
) -> Evaluation:
    """Do descriptors help over the name, over templates, over random words? Every method on the same images.

    `descriptors` is a set, or several by name over the same classes. Embeddings are kept in the store: a second
    evaluation encodes nothing. Weights and temperatures are chosen on the `reference`, else by cross-validation; some
    methods learn from it. `heads` are methods too, each named after its card. What is wrong with all this is told
    before the encoder is opened, by its name or by a function that does it.

    Raises: InputError where labels and classes do not fit, or a method is unknown; ModelError for a head of another
    encoder; StoreError; as `load_encoder`.
    """
    plan, began = plan or Plan(), time.time()
    with collect_notes() as notes:
        check(methods, reference is not None)
        data, reference = _data(data), None if reference is None else _data(reference)
        (name, first), *others = _name_sets(descriptors).items()
        first, numbers = class_numbers(data, first, plan.joining)
        sets = {name: first} | {other: align(set_, first.classes, plan.joining) for other, set_ in others}
        built, left_out = build(methods, sets, plan, reference is not None)
        built = with_heads(built, heads, first)
        of_reference = None if reference is None else _lenient(reference, first, plan.joining)
        opened, kept = _open(encoder, heads), store_of(store)
        more = counter(progress, "images", int((numbers >= 0).sum()))
        images = replace(gather(data, numbers, opened, kept, lambda: more(1)), classes=first.classes)
        known, of_it = _clear_reference(reference, of_reference, images, opened, kept)
        limits = [*caveats(images, sets), *of_it, *curve_caveats(built, known)]
        for limit in (*limits, *(f"left out: {name}: {why}" for name, why in left_out.items())):
            note(limit)
        found = measure(built, _gather(images, known, first, opened, kept, plan.seed), images, plan.seed, progress)
        report = Report(
            task=_setting(data, images, sets, plan, _reference(reference, known, first), limits),
            encoder=EncoderFacts(opened.name, opened.fingerprint, opened.precision),
            left_out=left_out,
            environment=environment(),
            **figures(found, images, first.classes, plan),
            times=Times(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)), round(time.time() - began, 1)),
        )
    return Evaluation(report, data, images, first, found, tuple(notes))


def _data(source: DataSet | str | Path) -> DataSet:
    return source if isinstance(source, DataSet) else load_data(source)


def _name_sets(descriptors: DescriptorSource | Mapping[str, Descriptors]) -> dict[str, Descriptors]:
    """Descriptor sets by name. Raises: InputError."""
    if isinstance(descriptors, Mapping) and descriptors:
        sets = {str(name): set_ for name, set_ in descriptors.items() if isinstance(set_, Descriptors)}
        if len(sets) == len(descriptors):
            return sets
    return {"descriptors": Descriptors.load(descriptors)}


def _open(encoder: Encoder | str | Opener, heads: Sequence[Head]) -> Encoder:
    """The encoder. Raises: ModelError for a head that is for the embeddings of another."""
    given = isinstance(encoder, (str, Encoder)) or not callable(encoder)
    opened = encoder_of(encoder) if given else encoder()  # type: ignore[operator]
    for head in heads:
        check_encoder(head.card, opened.fingerprint, opened.name)
        check_width(head, opened.dim)
    return opened


def _lenient(data: DataSet, descriptors: Descriptors, joining: Joining) -> Int[np.ndarray, " rows"]:
    """Class numbers of the reference, -1 for none: some classes may have no image, others are passed over."""
    lenient = Joining(joining.aliases, joining.loose, allow_absent=True, ignore_unknown=True)
    return class_numbers(data, descriptors, lenient)[1]


def _clear_reference(
    data: DataSet | None,
    numbers: Int[np.ndarray, " rows"] | None,
    images: Labelled,
    encoder: Encoder,
    store: Store | None,
) -> tuple[Labelled | None, list[str]]:
    """The reference without what is evaluated on and without copies, and what to know about it.

    Raises: InputError when none is left.
    """
    if data is None or numbers is None:
        return None, []
    found = gather(data, numbers, encoder, store)
    fresh = without(found, images)
    if not len(fresh.labels):
        what = "the reference has no image that is not evaluated on"
        raise InputError(what, where=data.name, fix="give other images, or none")
    return drop_copies(fresh), [*reference_caveats(found, images, data.labels())]


def _reference(data: DataSet | None, known: Labelled | None, descriptors: Descriptors) -> Reference | None:
    if data is None or known is None:
        return None
    return Reference(data.name, data.table.split, len(known.labels), known.fingerprint(descriptors.classes))


def _gather(
    images: Labelled,
    reference: Labelled | None,
    descriptors: Descriptors,
    encoder: Encoder,
    store: Store | None,
    seed: int,
) -> Given:
    """What heads are fitted with. Weights and temperatures are chosen on the reference, else by cross-validation."""
    on = reference or images
    some = calibrate.sample(on.labels, seed)
    folds = None if reference else calibrate.folds(images.labels, images.contents, seed)[some]
    card, encode = HeadCard.of("", encoder, descriptors), partial(text_vectors, encoder=encoder, store=store)
    return Given(card, encode, images.vectors, on.vectors[some], on.labels[some], folds, reference, seed)


def figures(
    outcomes: Mapping[str, Sequence[Outcome]], images: Labelled, classes: Sequence[ClassName], plan: Plan
) -> dict[str, Any]:
    """The fields of a `Report` that follow from answers: no model, no disk."""
    methods = [found[0].method for found in outcomes.values()]
    base, main = base_and_main(methods)
    summary = Summary(outcomes, images.labels, images.groups, classes, plan.resamples, plan.seed)
    comparisons = summary.comparisons(pairs(methods))
    before, after = outcomes[base][0], outcomes[main][0]
    measured = {name: summary.method(name) for name in outcomes}
    accuracy = {name: of.top1 for name, of in measured.items()}
    return {
        "methods": measured,
        "comparisons": comparisons,
        "verdict": judge(methods, comparisons, accuracy, len(images.labels), len(classes)),
        "base": base,
        "main": main,
        "classes": summary.class_table(base, main),
        "confusions": examples.confusions(images, before, after, classes),
        "changes": examples.flips(images, before, after, classes),
        "credit": examples.credit(images, after, classes),
    }


def _setting(
    data: DataSet,
    images: Labelled,
    sets: Mapping[str, Descriptors],
    plan: Plan,
    reference: Reference | None,
    limits: Sequence[str],
) -> Setting:
    classes = images.classes
    return Setting(
        data=data.name,
        split=data.table.split,
        columns=vars(data.roles),
        n=len(images.labels),
        classes=len(classes),
        class_names={class_.id: class_.name for class_ in classes},
        data_hash=images.fingerprint(classes),
        failed=len(images.failed),
        unlabelled=images.unlabelled,
        descriptors={name: DescriptorSet(len(set_.rows), _sha256(set_)) for name, set_ in sets.items()},
        phrase=plan.phrase,
        pool=plan.pool,
        resamples=plan.resamples,
        seed=plan.seed,
        reference=reference,
        caveats=tuple(limits),
    )


def _sha256(descriptors: Descriptors) -> str:
    text = replace(descriptors, history=()).to_json()
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def environment() -> dict[str, str]:
    """Versions that figures may depend on."""
    found = {"vlmdesc": vlmdesc.__version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in ("numpy", "scipy", "torch", "open_clip_torch", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def make_writable(folder: Path) -> None:
    """Raises: InputError or StoreError where results could not be kept; to be told before hours of work."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError("not a folder", where=folder, fix="choose another with --out")
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error
