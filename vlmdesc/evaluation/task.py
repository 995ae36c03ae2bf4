"""Tasks: everything an evaluation needs to be run again, in one TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vlmdesc.assets import shipped_sets
from vlmdesc.classification.score import get_pool
from vlmdesc.descriptors.phrase import get_phrase
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.labelled import Joining, aligned
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError
from vlmdesc.evaluation.run import Evaluation, Plan, Stage, evaluate
from vlmdesc.evaluation.specs import DEFAULT, Wording, parse
from vlmdesc.files import read_text
from vlmdesc.records import Descriptors
from vlmdesc.records.descriptors import open_set
from vlmdesc.text import did_you_mean, shown


@dataclass(frozen=True)
class Expected:
    """A published or earlier figure: top-1 of a method under a model, its standard deviation, and where it stands."""

    model: str
    method: str
    top1: float
    source: str
    std: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Task:
    """A data set, descriptors, methods and how they go together. The fields are the keys of a task file.

    `descriptors` are files or sets that ship, `classes_from` a set whose ids, names and aliases labels are joined to
    where the descriptor file has names only. `expected` are figures to hold against what is measured.
    """

    data: str | tuple[str, ...]
    descriptors: tuple[str, ...]
    name: str = ""
    about: str = ""
    split: str = ""
    image_column: str = ""
    label_column: str = ""
    group_column: str = ""
    id_column: str = ""
    reference: str = ""
    reference_split: str = ""
    model: str = ""
    methods: tuple[str, ...] = DEFAULT
    phrase: str = "plain"
    pool: str = "mean"
    seeds: int = 7
    resamples: int = 2_000
    seed: int = 0
    classes_from: str = ""
    loose_labels: bool = False
    only_present: bool = False
    allow_absent: bool = False
    ignore_unknown: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    expected: tuple[Expected, ...] = ()

    def plan(self) -> Plan:
        """How it is measured. Raises: InputError for a method, phrase or pooling that is not known."""
        get_phrase(self.phrase), get_pool(self.pool)
        for spec in self.methods:
            if spec != "all":
                parse(spec)
        if self.seeds < 1 or self.resamples < 100 or self.seed < 0:
            what = f"{self.seeds} seeds, {self.resamples} resamples, seed {self.seed}"
            raise InputError(what, fix="use at least 1, 100 and 0")
        if self.reference_split and not self.reference:
            raise InputError("a reference split without a reference", fix="name the reference data set too")
        joining = Joining(self.aliases, self.loose_labels, self.only_present, self.allow_absent, self.ignore_unknown)
        wording = Wording(self.phrase, self.pool, tuple(range(self.seeds)))
        return Plan(self.methods, wording, joining, self.resamples, self.seed)

    def sets(self) -> dict[str, Descriptors]:
        """The descriptor sets by the names of their files. Raises: InputError."""
        found = {shown(Path(file).stem): open_set(file) for file in self.descriptors}
        if len(found) < len(self.descriptors):
            raise InputError("two descriptor files of one name", fix="rename one of them")
        if not self.classes_from:
            return found
        classes = open_set(self.classes_from).classes
        return {name: aligned(set_, classes, Joining()) for name, set_ in found.items()}

    def open_data(self) -> tuple[DataSet, DataSet | None]:
        """The data set, and the reference where there is one. Raises: InputError, EndpointError."""
        roles = ("image_column", "label_column", "group_column", "id_column")
        columns = {role: getattr(self, role) for role in roles}
        data = load_data(self.data, split=self.split, **columns)
        if not self.reference:
            return data, None
        return data, load_data(self.reference, split=self.reference_split, **columns)


def run_task(
    task: Task,
    open_encoder: Callable[[], Encoder],
    store: Store | None = None,
    *,
    stage: Stage = lambda name, total: bool,
) -> Evaluation:
    """Measure a task. The encoder is opened last: what is wrong with the task is told before a model is loaded.

    Raises: InputError, StoreError, EndpointError as `evaluate` and `load_data` do.
    """
    plan, sets = task.plan(), task.sets()
    data, reference = task.open_data()
    found = evaluate(data, sets, open_encoder(), store, plan=plan, reference=reference, stage=stage)
    about = {"name": task.name or data.name, "about": task.about}
    return replace(found, report=replace(found.report, task=about | dict(found.report.task)))


def read_task(path: Path, folders: Sequence[Path] = ()) -> Task:
    """The task in a TOML file. Files it names are looked for beside it, then in `folders`.

    Raises: InputError naming the file and the key that is wrong.
    """
    try:
        raw = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not TOML: {error}", where=path, fix="correct that line") from error
    known = {f.name: f for f in fields(Task)}
    for key in raw:
        if key not in known:
            raise InputError(
                f"unknown key '{key}'", where=path, fix=f"{did_you_mean(key, known)}known: {', '.join(known)}"
            )
    for key in ("data", "descriptors"):
        if key not in raw:
            raise InputError(f"'{key}' is missing", where=path, fix="see the tasks in eval/")
    expected = tuple(_expected(row, path) for row in _typed(raw.pop("expected", []), "expected", list, path))
    values = {key: _value(raw[key], key, path) for key in raw}
    places = [path.parent, *folders]
    values["data"] = _found(values["data"], places)
    values["reference"] = _found(values.get("reference", ""), places)
    values["descriptors"] = tuple(_descriptor_file(file, places, path) for file in values["descriptors"])
    if values.get("classes_from"):
        values["classes_from"] = _descriptor_file(values["classes_from"], places, path)
    return Task(**values, expected=expected)


def _value(value: Any, key: str, path: Path) -> Any:
    """A value of the kind its field has; lists become tuples."""
    kinds: dict[str, Any] = {"seeds": int, "resamples": int, "seed": int, "aliases": dict}
    kinds |= dict.fromkeys(("methods", "descriptors"), list)
    kinds |= dict.fromkeys(("loose_labels", "only_present", "allow_absent", "ignore_unknown"), bool)
    value = _typed(value, key, kinds.get(key, str), path)
    parts = [*value] if isinstance(value, list) else [*value.values()] if isinstance(value, dict) else []
    for part in parts:
        _typed(part, key, str, path)
    return tuple(value) if isinstance(value, list) else value


def _typed(value: Any, key: str, kind: type, path: Path) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}[kind]
        raise InputError(f"'{key}' must be {wanted}, found {value!r}", where=path, fix="see the tasks in eval/")
    return value


def _expected(row: Any, path: Path) -> Expected:
    numbers = (row.get("top1"), row.get("std", 0.0)) if isinstance(row, dict) else (None,)
    try:
        if not all(isinstance(number, float) and 0 <= number <= 1 for number in numbers):
            raise TypeError("top1 and std are fractions, such as 0.62")
        return Expected(**row)
    except TypeError as error:
        what = f"an [[expected]] needs model, method, top1 and source, and may have std and note; found {row!r}"
        raise InputError(what, where=path, fix="correct it; top1 and std are fractions, such as 0.62") from error


def _found(name: str, places: Sequence[Path]) -> str:
    """A file or folder in one of these places, else the name as it is: the hub's, or a pattern."""
    return next((str(place / name) for place in places if name and os.path.exists(place / name)), name)


def _descriptor_file(name: str, places: Sequence[Path], path: Path) -> str:
    found = _found(name, places)
    if not os.path.exists(found) and name not in shipped_sets():
        looked = ", ".join(str(place) for place in places)
        fix = "put it there, or name its folder with --published"
        raise InputError(f"no descriptor file '{name}' in {looked}", where=path, fix=fix)
    return found
