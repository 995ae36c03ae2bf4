"""Classes to descriptors in one call: what is asked, what is gone on with, and what is written."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vlmdesc.assets import shipped_sets
from vlmdesc.cache import Answers, cache_folder
from vlmdesc.descriptors.class_list import SUFFIXES, read_classes, rivals_of
from vlmdesc.descriptors.generate import Answer, Generation, Outcomes, Question, add_answers, questions
from vlmdesc.descriptors.lint import lint
from vlmdesc.descriptors.llm import LLM, Budget, Usage, check_url, clean_key, open_endpoint
from vlmdesc.descriptors.local import find_gguf, model_name, serving
from vlmdesc.descriptors.phrase import spoken
from vlmdesc.descriptors.prompts import Prompt, open_prompt
from vlmdesc.errors import AnswerError, InputError, StoreError
from vlmdesc.files import cannot_write
from vlmdesc.records import ClassName, Descriptors, Report
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.progress import Progress, collect_notes, counter, note, silent
from vlmdesc.text import counted, shown

ANSWERS = "llm"  # folder of the cache
OPENAI, KEY_VARIABLE = "https://api.openai.com/v1", "OPENAI_API_KEY"
LOCAL_TIMEOUT_S = 600.0  # at the least: a machine of one's own may be slow, and costs nothing
OpenLLM = Callable[[], AbstractAsyncContextManager[LLM]]


@dataclass(frozen=True)
class Endpoint:
    """Where a language model answers, and how it is called.

    `url` is the base URL of an OpenAI-compatible endpoint, OpenAI's by default; `key` is by default what `key_variable`
    holds in the environment. `timeout_s` is for one whole call, `per_minute` limits calls, 0 does not. `concurrency`
    questions are asked at once. With `allow_http` the key may go over the network unencrypted.
    """

    url: str = OPENAI
    key: str | None = field(default=None, repr=False)
    key_variable: str = KEY_VARIABLE
    timeout_s: float = 120.0
    per_minute: float = 0.0
    concurrency: int = 8
    allow_http: bool = False

    def open(self, llm: str) -> tuple[str, OpenLLM]:
        """The name of the model that `llm` stands for, and what opens it: "local", "local:FILE.gguf", or a name there.

        Raises: InputError for no model, a file that is none, or a URL or key that cannot be used.
        """
        kind, _, path = llm.partition(":")
        if kind == "local":
            return self._local(find_gguf(path))
        if not llm:
            raise InputError("which model?", fix="name one, with the base URL of any other endpoint than OpenAI's")
        key = self._key()
        check_url(self.url, bool(key), self.allow_http)
        options = {"timeout_s": self.timeout_s, "per_minute": self.per_minute, "allow_http": self.allow_http}
        return llm, lambda: open_endpoint(llm, self.url, key, **options)

    def _key(self) -> str:
        if self.key is not None:
            return clean_key(self.key)
        found, variable = os.environ.get(self.key_variable, ""), self.key_variable
        if not found.strip() and variable != KEY_VARIABLE:
            raise InputError(f"{variable} is not set", fix="set it, or name the variable that holds the key")
        return clean_key(found, variable)

    def _local(self, gguf: Path) -> tuple[str, OpenLLM]:
        name = model_name(gguf)

        @asynccontextmanager
        async def open_local() -> AsyncIterator[LLM]:
            with serving(gguf, self.concurrency) as (url, key):
                patient = max(LOCAL_TIMEOUT_S, self.timeout_s)
                async with open_endpoint(name, url, key, timeout_s=patient, per_minute=self.per_minute) as model:
                    yield model

        return name, open_local


@dataclass(frozen=True)
class Description:
    """What came of describing classes: the set, the classes without a usable answer and why, and what it cost.

    `asked` are the questions of this run, `stopped` says why some were not asked, `kept` counts classes that were
    described before. `failed` has an AnswerError by class id; the same call asks about these again.
    """

    descriptors: Descriptors
    asked: tuple[Question, ...]
    outcomes: Mapping[str, Answer | AnswerError] = field(default_factory=dict)
    kept: int = 0
    usage: Usage = field(default_factory=Usage)
    budget: Budget = field(default_factory=Budget)
    stopped: str = ""
    out: Path | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> dict[str, AnswerError]:
        return {id_: found for id_, found in self.outcomes.items() if isinstance(found, AnswerError)}

    def to_dict(self) -> dict[str, Any]:
        """The figures of the run, as `vlmdesc describe --json` prints them."""
        answers = [found for found in self.outcomes.values() if isinstance(found, Answer)]
        cached = sum(answer.cached for answer in answers)
        meta, budget = self.descriptors.meta, self.budget
        cost = {"dollars": round(budget.cost(self.usage), 6)} if budget.price_in or budget.price_out else {}
        return {
            "out": str(self.out) if self.out else None,
            "llm": meta["generated"]["llm"],
            "prompt": meta["generated"]["prompt"],
            "classes": len(self.descriptors.classes),
            "descriptors": len(self.descriptors.rows),
            "answered": len(answers) - cached,
            "from_cache": cached,
            "kept": self.kept,
            "failed": {id_: error.code for id_, error in self.failed.items()},
            "not_asked": len(self.asked) - len(self.outcomes),
            **vars(self.usage),
            **cost,
            "lint": dict(Counter(finding["code"] for finding in meta["lint"])),
            "seconds": round(self.seconds, 2),
        }

    def __repr__(self) -> str:
        return f"<Description: {self.descriptors!r}, {counted(len(self.failed), 'class')} failed>"


def describe(
    classes: DescriptorSource | Any = None,
    llm: str = "",
    *,
    base_url: str = "",
    out: str | Path | None = None,
    prompt: str = "",
    per_class: int = 6,
    slots: Mapping[str, str] | None = None,
    rivals: str | Path | Report | None = None,
    endpoint: Endpoint | None = None,
    budget: Budget | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Description:
    """Ask a language model how each class looks (Menon & Vondrick 2023, sec. 3.1, by the prompt "dclip").

    `classes` are names, descriptors whose classes are meant, a file of class names (.txt, .csv, .tsv, .json), a set
    that ships, or a data set whose labels are; `llm` is the name of a model at the endpoint, or "local". `rivals` is an
    evaluation: only classes that it confused are asked about, each against those it was taken for.

    Each answer is kept in the cache the moment it comes. With `out` what was answered is written there, whatever ends
    the run, and the same call goes on from there; `fresh` asks everything again, and keeps a copy of the file.
    With `dry_run` nothing is asked: the questions are in `asked`.
    Raises: InputError for what cannot be asked or written; EndpointError when no further question would get an answer;
    StoreError. What ends the run early has a note on how far it came.
    """
    with collect_notes() as notes:
        if out is not None:
            check_out(Path(out))
        wanted = open_prompt(prompt or ("contrastive" if rivals is not None else "dclip"))
        found, of = classes_of(classes, rivals)
        slots = slots or {}
        if dry_run:
            return Description(Descriptors(found, ()), questions(wanted, found, per_class, "", slots, of))
        place = _place(endpoint or Endpoint(), base_url)
        model, open_llm = place.open(llm)
        asked = questions(wanted, found, per_class, model, slots, of)
        meta = _meta(out, model, wanted, slots, per_class)
        base = _base(Path(out), meta, found, fresh) if out is not None else None
        run = _Run(out and Path(out), found, asked, base, meta)  # type: ignore[arg-type]
        generation = Generation(open_llm, _answers(), place.concurrency, budget or Budget(), fresh)
        done = run.ask(generation, progress)
    return replace(done, notes=tuple(notes))


@dataclass
class _Run:
    """What a run knows, and has so far."""

    out: Path | None
    classes: tuple[ClassName, ...]
    questions: tuple[Question, ...]
    base: Descriptors | None
    meta: dict[str, Any]
    outcomes: Outcomes = field(default_factory=dict)

    def ask(self, generation: Generation, progress: Progress) -> Description:
        """Ask what is not described yet; whatever ends it, what was answered is written."""
        known = {row.class_id for row in self.base.rows} if self.base else set[str]()
        if known:
            note(f"{counted(len(known), 'class')} in {shown(self.out)} stay as they are")
        asked = tuple(question for question in self.questions if question.class_.id not in known)
        more, began = counter(progress, "asking", len(asked)), time.perf_counter()

        def hear(question: Question, outcome: Answer | AnswerError) -> None:
            self.outcomes[question.class_.id] = outcome
            more(1)

        try:
            stopped, usage = replace(generation, on=hear)(asked)
        except BaseException as error:
            self._save_what_is_there(error, len(asked), generation.fresh)
            raise
        made, seconds = self._write(), time.perf_counter() - began
        return Description(made, asked, self.outcomes, len(known), usage, generation.budget, stopped, self.out, seconds)

    def _save_what_is_there(self, error: BaseException, n_asked: int, fresh: bool) -> None:
        if self.out is None:
            return
        with suppress(OSError, StoreError):
            self._write()
            answered = sum(isinstance(found, Answer) for found in self.outcomes.values())
            error.add_note(f"{answered:,} of {counted(n_asked, 'class')} answered, in {shown(self.out)}")
        if isinstance(error, KeyboardInterrupt):
            error.add_note(f"the same command{', without --fresh,' if fresh else ''} goes on from there")

    def _write(self) -> Descriptors:
        """The set with what was answered so far, and what lint finds in it; written where it has a place."""
        failed = {
            id_: {"code": error.code, "message": shown(error.what)}
            for id_, error in self.outcomes.items()
            if isinstance(error, AnswerError)
        }
        made = add_answers(self.classes, self.outcomes, self.base)
        made = replace(made, meta={**made.meta, **self.meta, "failed": failed})
        made = replace(made, meta={**made.meta, "lint": [asdict(finding) for finding in lint(made)]})
        if self.out is not None:
            made.save(self.out)
        return made


class Asker:
    """Asks a language model what sets classes apart from those they are taken for; answers are kept, as always.

    Called with numbers of classes and those of their rivals it gives texts for some of them. Questions without a usable
    answer are noted and counted in `failed`. Raises: InputError for an endpoint that cannot be used.
    """

    N = 8  # descriptors asked for, of one class

    def __init__(
        self, descriptors: DescriptorSource, llm: str, endpoint: Endpoint | None = None, base_url: str = ""
    ) -> None:
        self.descriptors, self.failed = Descriptors.load(descriptors), 0
        self.name, self._open = _place(endpoint or Endpoint(concurrency=1), base_url).open(llm)

    def __call__(self, rivals: Mapping[int, Sequence[int]]) -> Mapping[int, Sequence[str]]:
        classes, found = self.descriptors.classes, dict[int, Sequence[str]]()
        against = {classes[c].id: [classes[r].name for r in others] for c, others in rivals.items()}

        def hear(question: Question, outcome: Answer | AnswerError) -> None:
            if isinstance(outcome, Answer):
                found[self.descriptors.position[question.class_.id]] = outcome.texts
                return
            self.failed += 1
            note(f'{outcome.what} (class "{question.class_.name}", {outcome.code}); the same call asks again')

        asked = questions(open_prompt("contrastive"), [classes[c] for c in rivals], self.N, self.name, rivals=against)
        Generation(self._open, _answers(), on=hear)(asked)
        return found


def classes_of(
    classes: DescriptorSource | Any, rivals: str | Path | Report | None = None
) -> tuple[tuple[ClassName, ...], dict[str, list[str]] | None]:
    """The classes, and the names of each one's rivals where there is an evaluation to say them. Raises: InputError."""
    found = () if classes is None else _classes(classes)
    if rivals is None:
        if not found:
            raise InputError("which classes?", fix="give class names, a file of them, or a data set")
        return found, None
    report = rivals if isinstance(rivals, Report) else Report.load(rivals)
    names = {str(id_): str(name) for id_, name in report.task.class_names.items()}
    found = found or tuple(ClassName(id_, name) for id_, name in names.items())
    against = {id_: [names[rival] for rival in ids] for id_, ids in rivals_of(report).items() if id_ in names}
    if not any(against.get(class_.id) for class_ in found):
        raise InputError("none of these classes was confused", where=rivals, fix="evaluate with these classes")
    return found, against


def _classes(source: Any) -> tuple[ClassName, ...]:
    if hasattr(source, "labels") and callable(source.labels):  # a data set
        labels = {label for label in source.labels() if label is not None}
        if not labels:
            raise InputError("no labels", where=source.name, fix="give a data set with labels, or class names")
        return tuple(ClassName(label, spoken(label)) for label in sorted(labels))
    path = Path(source) if isinstance(source, (str, Path)) else None
    if path and str(path) not in shipped_sets() and path.suffix.lower() in SUFFIXES:
        return read_classes(path)
    return Descriptors.load(source).classes


def check_out(out: Path) -> None:
    """Said before anything is paid. Raises: InputError, StoreError."""
    if out.suffix != ".json" or out.is_dir() or not out.parent.is_dir():
        raise InputError("--out needs a name ending in .json, in a folder that exists", where=out, fix="choose another")
    if not os.access(out.parent, os.W_OK):
        raise cannot_write(out, PermissionError(13, "Permission denied"))


def _place(endpoint: Endpoint, base_url: str) -> Endpoint:
    return replace(endpoint, url=base_url) if base_url else endpoint


def _answers() -> Answers:
    return Answers(cache_folder() / ANSWERS)


def _meta(
    out: str | Path | None, model: str, prompt: Prompt, slots: Mapping[str, str], per_class: int
) -> dict[str, Any]:
    generated = {
        "llm": model,
        "prompt": prompt.name,
        "prompt_sha256": prompt.digest,
        "form": prompt.form,
        "slots": dict(slots),
        "per_class": per_class,
    }
    return {"name": Path(out).stem if out is not None else prompt.name, "generated": generated}


def _base(out: Path, meta: Mapping[str, Any], classes: tuple[ClassName, ...], fresh: bool) -> Descriptors | None:
    """The set that is there already, to go on with. Raises: InputError when it is of another make."""
    if not out.exists():
        return None
    if fresh:
        stem = f"{out.stem}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        names = (f"{stem}{more}.json" for more in ("", *(f"-{i}" for i in range(2, 1000))))
        copy = next(path for name in names if not os.path.lexists(path := out.with_name(name)))
        os.replace(out, copy)
        note(f"what was in {shown(out)} is now {shown(copy)}")
        return None
    base = Descriptors.load(out)
    if base.meta.get("generated") != meta["generated"] or base.classes != classes:
        what = "it holds other classes, or was made with another model, prompt or number of descriptors"
        raise InputError(what, where=out, fix="choose another --out, or --fresh, which keeps a copy")
    return base
