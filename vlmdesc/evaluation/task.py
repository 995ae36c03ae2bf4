"""Tasks: everything an evaluation needs to be run again, in one TOML file, and the figures it should come to."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from vlmdesc.assets import shipped_sets
from vlmdesc.classification.heads import Head
from vlmdesc.embeddings.data import load_data
from vlmdesc.embeddings.labelled import Joining, align
from vlmdesc.embeddings.load import load_encoder
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError
from vlmdesc.evaluation.predictions import ERRORS
from vlmdesc.evaluation.run import Evaluation, Opener, evaluate, make_writable
from vlmdesc.evaluation.specs import DEFAULT, Plan, check, curve
from vlmdesc.files import read_text
from vlmdesc.records import Descriptors, Report
from vlmdesc.records.descriptors import open_set
from vlmdesc.records.progress import Progress, collect_notes, note, silent
from vlmdesc.records.report import Interval
from vlmdesc.text import counted, did_you_mean, shown

Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published or earlier figure: top-1 of a method under a model, its standard deviation, and where it stands."""

    model: str
    method: str
    top1: Fraction
    source: str
    std: Fraction | None = None
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

    @classmethod
    def load(cls, path: str | Path, folders: Sequence[Path] = ()) -> Task:
        """The task in a TOML file. Files it names are looked for beside it, then in `folders`.

        Raises: InputError naming the file and the key that is wrong.
        """
        path = Path(path)
        places = [path.parent, *folders]
        try:
            raw = tomllib.loads(read_text(path))
            known = [f.name for f in fields(cls)]
            if odd := next((key for key in raw if key not in known), None):
                fix = f"{did_you_mean(odd, known)}known: {', '.join(known)}"
                raise InputError(f"unknown key '{odd}'", where=path, fix=fix)
            task = msgspec.convert(raw, cls)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"not TOML: {error}", where=path, fix="correct that line") from error
        except msgspec.ValidationError as error:
            what = str(error).replace("$.", "")
            raise InputError(what, where=path, fix="see the tasks in eval/; top1 and std are fractions") from error
        return replace(
            task,
            data=_find(task.data, places) if isinstance(task.data, str) else task.data,
            reference=_find(task.reference, places),
            descriptors=tuple(_descriptor_file(file, places, path) for file in task.descriptors),
            classes_from=task.classes_from and _descriptor_file(task.classes_from, places, path),
        )

    def with_curve(self, per_class: str) -> Task:
        """The methods that learn from labels also once for each number of images a class: "1,5,20".

        Raises: InputError when that is not such a list, or none of the methods so learns.
        """
        return replace(self, methods=curve(self.methods, per_class))

    def run(
        self,
        encoder: Encoder | str | Opener = "",
        *,
        heads: Sequence[Head] = (),
        out: str | Path | None = None,
        store: Store | bool = True,
        progress: Progress = silent,
    ) -> Evaluation:
        """Measure it, by default with its own model, `heads` beside its methods, and save what was found in a folder
        `out`, where there is one.

        What is wrong with the task is told before a model is loaded.
        Raises: InputError, StoreError, EndpointError as `evaluate` and `load_data` do.
        """
        if out is not None:
            make_writable(Path(out))
        check(self.methods, bool(self.reference))
        if self.reference_split and not self.reference:
            raise InputError("a reference split without a reference", fix="name the reference data set too")
        joining = Joining(self.aliases, self.loose_labels, self.only_present, self.allow_absent, self.ignore_unknown)
        plan, sets = Plan(self.phrase, self.pool, joining, self.seeds, self.resamples, self.seed), self._sets()
        roles = ("image_column", "label_column", "group_column", "id_column")
        columns = {role: getattr(self, role) for role in roles}
        data = load_data(self.data, split=self.split, **columns)
        found = evaluate(
            data,
            sets,
            encoder or self.model or "starter",
            methods=self.methods,
            heads=heads,
            reference=load_data(self.reference, split=self.reference_split, **columns) if self.reference else None,
            plan=plan,
            store=store,
            progress=progress,
        )
        setting = msgspec.structs.replace(found.report.task, name=self.name or data.name, about=self.about)
        found = replace(found, report=msgspec.structs.replace(found.report, task=setting))
        if out is not None:
            found.save(out)
        return found

    def _sets(self) -> dict[str, Descriptors]:
        """The descriptor sets by the names of their files. Raises: InputError."""
        found = {shown(Path(file).stem): open_set(file) for file in self.descriptors}
        if not found:
            sets = ", ".join(shipped_sets())
            raise InputError(
                "no descriptors", fix=f"give --descriptors with a descriptor file, or a set that ships: {sets}"
            )
        if len(found) < len(self.descriptors):
            raise InputError("two descriptor files of one name", fix="rename one of them")
        if not self.classes_from:
            return found
        classes = open_set(self.classes_from).classes
        return {name: align(set_, classes, Joining()) for name, set_ in found.items()}


def _find(name: str, places: Sequence[Path]) -> str:
    """A file or folder in one of these places, else the name as it is: the hub's, or a pattern."""
    return next((str(place / name) for place in places if name and os.path.exists(place / name)), name)


def _descriptor_file(name: str, places: Sequence[Path], path: Path) -> str:
    found = _find(name, places)
    if not os.path.exists(found) and name not in shipped_sets():
        looked = ", ".join(str(place) for place in places)
        fix = "put it there, or name its folder with --published"
        raise InputError(f"no descriptor file '{name}' in {looked}", where=path, fix=fix)
    return found


class Measured(msgspec.Struct, frozen=True):
    """A figure of ours: less the expected one, its interval, on how many images, and the first text."""

    measured: float
    ci95: Interval
    difference: float
    n: int
    prompt_form: str


@dataclass(frozen=True)
class Reproduced:
    """An expected figure beside what was measured; nothing, and why, where the method was left out."""

    expected: Expected
    found: Measured | None
    left_out: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        nothing = {"measured": None, "left_out": self.left_out}
        return msgspec.to_builtins(self.expected) | (msgspec.to_builtins(self.found) if self.found else nothing)


@dataclass(frozen=True)
class Reproduction:
    """What a task expects beside what was measured, how many images failed, and what a person should know."""

    task: str
    figures: tuple[Reproduced, ...]
    failed: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"schema": 1, "task": self.task, "figures": [figure.to_dict() for figure in self.figures]}


def reproduce(
    path: str | Path,
    *,
    models: Sequence[str] = (),
    out: str | Path = "vlmdesc-reproduce",
    folders: Sequence[Path] = (),
    open_encoder: Callable[[str], Encoder] = load_encoder,
    store: Store | bool = True,
    progress: Progress = silent,
) -> Reproduction:
    """Measure what a task file expects of each of its models, or of these, with a folder of results for each in `out`.

    Files that the task names are looked for beside it and in `folders`.
    Raises: InputError for a file that expects nothing, or nothing of such a model; as `Task.run`.
    """
    path = Path(path)
    task = Task.load(path, folders)
    known = [*dict.fromkeys(row.model for row in task.expected)]
    if not known:
        raise InputError("no [[expected]] figures", where=path, fix="use vlmdesc eval")
    if strange := [model for model in models if model not in known]:
        raise InputError(f"nothing is expected of '{strange[0]}'", where=path, fix=f"models: {', '.join(known)}")
    figures, failed = list[Reproduced](), 0
    with collect_notes() as notes:
        for model in models or known:
            wanted = [row for row in task.expected if row.model == model]
            methods = tuple(dict.fromkeys((*task.methods, *(row.method for row in wanted))))
            folder = Path(out) / f"{path.stem}-{known.index(model)}"
            asked = replace(task, model=model, methods=methods)

            def opener(model: str = model) -> Encoder:
                return open_encoder(model)

            found = asked.run(opener, out=folder, store=store, progress=progress)
            figures += [_beside(row, found.report) for row in wanted]
            failed += len(found.failed)
            note(f"results, predictions and report in {folder}")
            if found.failed:
                note(f"{counted(len(found.failed), 'image')} could not be used, listed in {folder / ERRORS}")
    return Reproduction(task.name or path.stem, tuple(figures), failed, tuple(notes))


def _beside(expected: Expected, report: Report) -> Reproduced:
    of = report.methods.get(expected.method)
    if of is None:
        return Reproduced(expected, None, report.left_out.get(expected.method, ""))
    difference = round(of.top1 - expected.top1, 6)
    return Reproduced(expected, Measured(of.top1, of.ci95, difference, report.task.n, of.prompt_form))
