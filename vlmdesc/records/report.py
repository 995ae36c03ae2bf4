"""What an evaluation found: typed records, as results.json has them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from vlmdesc.errors import InputError
from vlmdesc.files import json_lines, read_json, write_atomic
from vlmdesc.text import counted, shown

SCHEMA = 1
Record = Mapping[str, Any]
Interval = tuple[float, float]


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A frozen record of a report. A field with a default is left out of the JSON where it has that."""


class DescriptorSet(Frozen, frozen=True):
    """How many rows a descriptor set has, and the SHA-256 of the whole of it, without its history."""

    rows: int
    sha256: str


class Reference(Frozen, frozen=True):
    """What was learned from, and what weights and temperatures were chosen on."""

    data: str
    split: str
    n: int
    data_hash: str


class Setting(Frozen, frozen=True, kw_only=True, omit_defaults=False):
    """What was measured on, and how: `n` images of so many `classes`, and what makes the figures mean less.

    `columns` says which columns of a table held image, label, group and id, "" for none.
    """

    name: str = ""
    about: str = ""
    data: str
    split: str
    columns: Mapping[str, str]
    n: int
    classes: int
    class_names: Mapping[str, str]
    data_hash: str
    failed: int
    unlabelled: int
    descriptors: Mapping[str, DescriptorSet]
    phrase: str
    pool: str
    resamples: int
    seed: int
    reference: Reference | None = None
    caveats: tuple[str, ...] = ()


class EncoderFacts(Frozen, frozen=True):
    name: str
    fingerprint: str
    precision: str


class Calibration(Frozen, frozen=True):
    """Expected calibration error under the temperature of each fold."""

    ece: float
    temperature: tuple[float, ...]


class Seeds(Frozen, frozen=True):
    """Top-1 of each seed: population standard deviation, least and most."""

    std: float
    min: float
    max: float
    seed: tuple[int, ...]
    top1: tuple[float, ...]


class Weight(Frozen, frozen=True):
    """The weights of the name that each fold chose, and top-1 at each that was tried."""

    of_name: tuple[float, ...]
    curve: tuple[float, ...]


class GroupFigures(Frozen, frozen=True):
    n: int
    top1: float
    ci95: Interval


class Gap(Frozen, frozen=True):
    best: str
    value: float
    ci95: Interval


class MethodFigures(Frozen, frozen=True):
    """A method's accuracies, for a control the mean over its seeds, and what it is.

    `learned` is what its head learned from images, as `classification.heads.learned` tells it.
    """

    top1: float
    top5: float
    mean_per_class: float
    ci95: Interval
    ci95_top5: Interval
    ci95_mean_per_class: Interval
    prompt_form: str
    phrase: str
    pool: str
    kind: str
    texts: int
    calibration: Calibration
    descriptors: str = ""
    learned: Mapping[str, Any] | None = None
    seeds: Seeds | None = None
    weight: Weight | None = None
    groups: Mapping[str, GroupFigures] = msgspec.field(default_factory=dict)
    worst_group: str | None = None
    gap: Gap | None = None


class Difference(Frozen, frozen=True):
    """Top-1 of method a less that of b on the same images: interval, McNemar p, and that p after Holm.

    `state` is "better", "worse", "same" or "unclear".
    """

    a: str
    b: str
    delta: float
    ci95: Interval
    p: float
    p_holm: float
    state: str


class Verdict(Frozen, frozen=True):
    """What was found, as a stable code and in words: of the first descriptor set; where there are several, of each of
    the `sets`; and of each `selection`.
    """

    code: str
    text: str
    sets: Mapping[str, Verdict] = msgspec.field(default_factory=dict)
    selection: tuple[Verdict, ...] = ()

    @property
    def all(self) -> tuple[Verdict, ...]:
        """Each once."""
        others = (*self.sets.values(), *self.selection)
        return (self, *(other for other in others if other.text != self.text))


class ClassFigures(Frozen, frozen=True):
    """A class of `n` images: top-1 of every method, and images fixed and broken from base to main."""

    id: str
    name: str
    n: int
    top1: Mapping[str, float]
    fixed: int
    broken: int


class Confusion(Frozen, frozen=True):
    """A true class and a wrong answer: `n` images by main, `before` by base, and the first of them."""

    truth: str
    answer: str
    n: int
    before: int
    image: str
    row: int


class Reason(Frozen, frozen=True):
    """A descriptor of a class and its cosine to an image."""

    class_: str = msgspec.field(name="class")
    descriptor: str
    similarity: float


class Flip(Frozen, frozen=True):
    """An image that changed sides: its key and row, its class, both answers, and the reasons of the second."""

    image: str
    row: int
    truth: str
    before: str
    after: str
    reasons: tuple[Reason, ...]


class Examples(Frozen, frozen=True):
    """Images that main has right and base has not, and the reverse."""

    fixed: tuple[Flip, ...]
    broken: tuple[Flip, ...]


class Flips(Frozen, frozen=True):
    """How many images changed sides from base to main, and the clearest of them."""

    fixed: int
    broken: int
    examples: Examples


class Worth(Frozen, frozen=True):
    """Accuracy of main with a descriptor less that without it, and the images that are right only so."""

    class_: str = msgspec.field(name="class")
    descriptor: str
    credit: float
    only_with: int
    only_without: int


class Times(Frozen, frozen=True):
    started: str
    seconds: float


class Report(Frozen, frozen=True):
    """An evaluation; accuracies are fractions. Tables and the HTML page are views of it.

    Everything but `times` is the same in two runs of the same task. `main` and `base` are the methods that the
    verdict, `classes`, `confusions`, `changes` and `credit` are about: "describe" against "name", where both ran.
    `left_out` has the methods that could not be run, and why.
    """

    task: Setting
    encoder: EncoderFacts
    methods: Mapping[str, MethodFigures]
    comparisons: tuple[Difference, ...]
    verdict: Verdict
    base: str
    main: str
    classes: tuple[ClassFigures, ...]
    confusions: tuple[Confusion, ...]
    changes: Flips
    credit: tuple[Worth, ...]
    left_out: Mapping[str, str]
    environment: Mapping[str, str]
    times: Times

    def to_dict(self) -> dict[str, Any]:
        """What results.json has."""
        return {"schema": SCHEMA} | msgspec.to_builtins(self)

    def to_json(self) -> str:
        """The JSON of results.json; ASCII, so that names of files that are not UTF-8 come through.

        Records of a list stand one on a line.
        """
        return json_lines(self.to_dict())

    def save(self, path: str | Path) -> None:
        """Write results.json, atomically. Raises: StoreError."""
        write_atomic(Path(path), self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read results.json. Raises: InputError that names the field, when it is another file or of another version."""
        path = Path(path)
        data = read_json(path)
        if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
            raise InputError("not the results of an evaluation by this version", where=path, fix="evaluate again")
        try:
            return msgspec.convert(data, cls)
        except (msgspec.ValidationError, UnicodeError) as error:
            raise InputError(f"not whole results: {error}", where=path, fix="evaluate again") from error

    @property
    def ahead(self) -> dict[str, Difference]:
        """How far main is ahead of each other method."""
        return {row.b: row for row in self.comparisons if row.a == self.main}

    def __repr__(self) -> str:
        size = f"{counted(self.task.n, 'image')}, {counted(self.task.classes, 'class')}"
        return f"Report({size}, {counted(len(self.methods), 'method')}: {self.verdict.code})"

    def _repr_html_(self) -> str:
        """The table of methods and the verdict."""
        rows = [
            f"<tr><td>{_html(name)}</td><td>{100 * of.top1:.1f}</td>"
            f"<td>{100 * of.ci95[0]:.1f} to {100 * of.ci95[1]:.1f}</td><td>{_html(of.prompt_form)}</td></tr>"
            for name, of in self.methods.items()
        ]
        head = "<tr><th>method</th><th>top-1 %</th><th>95 % interval</th><th>first text</th></tr>"
        verdicts = "".join(f"<p><b>{_html(found.code)}</b>: {_html(found.text)}</p>" for found in self.verdict.all)
        return f"<table>{head}{''.join(rows)}</table>{verdicts}"


def _html(text: str) -> str:
    return escape(shown(text))
