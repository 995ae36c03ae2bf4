"""vlmdesc describe"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.cli.border import say
from vlmdesc.cli.options import Json, open_data, split_classes
from vlmdesc.errors import AnswerError, InputError, StoreError, counted, shown
from vlmdesc.files import cannot_write

if TYPE_CHECKING:
    from vlmdesc.describe.generate import Outcomes, Question
    from vlmdesc.describe.prompts import Prompt
    from vlmdesc.describe.protocol import LLM, Budget, Usage
    from vlmdesc.records import ClassName, Descriptors

ASK, LIMITS = "What is asked", "Endpoint and limits"
LOCAL_TIMEOUT_S = 600.0  # at the least: a machine of one's own may be slow, and costs nothing
NAMED = 10  # classes without an answer that are named on stderr; all are in the file


def _prompts() -> list[str]:
    from vlmdesc.describe.prompts import shipped_prompts

    return [*shipped_prompts()]


Classes = Annotated[str, typer.Option(help='Class names with commas between: "hen,zebra".', metavar="A,B,...")]
ClassesFrom = Annotated[
    str,
    typer.Option(
        help="Classes of a file (.txt, .csv, .json), a shipped or saved descriptor set, or a data set's labels.",
        metavar="FILE|SET|DATASET",
    ),
]
Out = Annotated[Path, typer.Option(help="The descriptor file to write.", metavar="FILE.json")]
Llm = Annotated[
    str,
    typer.Option(
        help="Name of the model at the endpoint; or local, a small model on this machine (good for trying things out, "
        "not for descriptors), or local:PATH.gguf, any model in that form.",
        envvar="VLMDESC_LLM",
        metavar="NAME|local[:FILE]",
    ),
]
PromptName = Annotated[
    str,
    typer.Option(
        "--prompt",
        help="dclip, contrastive, cupl, superclass, context, medical, or your own TOML file.",
        autocompletion=_prompts,
        rich_help_panel=ASK,
    ),
]
PerClass = Annotated[int, typer.Option(min=1, max=100, help="Descriptors a class, at most.", rich_help_panel=ASK)]
Context = Annotated[
    str, typer.Option(help='What all classes are: "a type of bird".', metavar="TEXT", rich_help_panel=ASK)
]
Slots = Annotated[
    list[str],
    typer.Option("--slot", help="Another slot of the prompt.", metavar="NAME=TEXT", rich_help_panel=ASK),
]
RivalsFrom = Annotated[
    Path | None,
    typer.Option(
        help="results.json of vlmdesc eval: asks about the classes it confused, each against its rivals.",
        metavar="RESULTS",
        rich_help_panel=ASK,
    ),
]
BaseUrl = Annotated[
    str,
    typer.Option(
        help="Base URL of an OpenAI-compatible endpoint.",
        envvar="OPENAI_BASE_URL",
        show_default="https://api.openai.com/v1",
        rich_help_panel=LIMITS,
    ),
]
KeyVariable = Annotated[
    str,
    typer.Option("--api-key-env", help="Environment variable that holds the key.", rich_help_panel=LIMITS),
]
AllowHttp = Annotated[bool, typer.Option("--allow-http", help="Send the key even unencrypted.", rich_help_panel=LIMITS)]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Questions asked at once.", rich_help_panel=LIMITS)]
PerMinute = Annotated[
    int, typer.Option("--rpm", min=0, help="Calls a minute, at most; 0 is no limit.", rich_help_panel=LIMITS)
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds for one whole call.", rich_help_panel=LIMITS)]
MaxTokens = Annotated[
    int,
    typer.Option(
        "--max-tokens-total", min=0, help="Stop asking after this many tokens; 0 is no limit.", rich_help_panel=LIMITS
    ),
]
MaxCost = Annotated[
    float,
    typer.Option(min=0, help="Stop asking after this many dollars; needs --price.", rich_help_panel=LIMITS),
]
Price = Annotated[
    str,
    typer.Option(help="Dollars for a million tokens in and out: 0.15,0.60.", metavar="IN,OUT", rich_help_panel=LIMITS),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh/--resume", help="Ask everything again, or only what is missing. --fresh keeps a copy."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be asked, and ask nothing.")]


@dataclass
class _Job:
    """What a run of the command knows, and has so far."""

    out: Path
    classes: tuple[ClassName, ...]
    asked: tuple[Question, ...]
    base: Descriptors | None
    meta: dict[str, Any]
    outcomes: Outcomes = field(default_factory=dict)

    def failures(self) -> dict[str, AnswerError]:
        return {id_: found for id_, found in self.outcomes.items() if isinstance(found, AnswerError)}


def describe(
    out: Out,
    classes: Classes = "",
    classes_from: ClassesFrom = "",
    llm: Llm = "",
    prompt: PromptName = "",
    per_class: PerClass = 6,
    context: Context = "",
    slots: Slots = [],  # noqa: B006 - typer reads it
    rivals_from: RivalsFrom = None,
    base_url: BaseUrl = "",
    api_key_env: KeyVariable = "OPENAI_API_KEY",
    allow_http: AllowHttp = False,
    concurrency: Concurrency = 8,
    rpm: PerMinute = 0,
    timeout: Timeout = 120.0,
    max_tokens_total: MaxTokens = 0,
    max_cost: MaxCost = 0.0,
    price: Price = "",
    fresh: Fresh = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Ask a language model how each class looks, and write its answers as a descriptor file.

    Each answer is kept the moment it comes: the same command goes on after an interruption, and asks only what is
    missing. The key is read from the environment. A class without a usable answer is named, and the exit status is 1.

    Example: vlmdesc describe --classes "hen,zebra" --out zoo.json --llm gpt-5-mini
    """
    from vlmdesc.cache import Answers, cache_folder
    from vlmdesc.cli.progress import progress_bar
    from vlmdesc.describe.generate import Generation, Outcome, questions
    from vlmdesc.describe.prompts import open_prompt

    budget = _budget(max_tokens_total, max_cost, price)
    _check_out(out)
    wanted = open_prompt(prompt or ("contrastive" if rivals_from else "dclip"))
    found, rivals = _classes(classes, classes_from, rivals_from)
    given = _slots(slots, context)
    if dry_run:
        _show(questions(wanted, found, per_class, "", given, rivals), wanted)
        return
    model, open_llm = _opener(
        llm,
        base_url,
        api_key_env,
        concurrency,
        {"timeout_s": timeout, "per_minute": float(rpm), "allow_http": allow_http},
    )
    asked = questions(wanted, found, per_class, model, given, rivals)
    meta = _meta(out, model, wanted, given, per_class)
    base = _base(out, meta, found, fresh)
    told = {row.class_id for row in base.rows} if base else set()
    job = _Job(out, found, tuple(q for q in asked if q.class_.id not in told), base, meta)
    if told:
        say(f"{counted(len(told), 'class')} in {shown(out)} stay as they are")
    began = time.perf_counter()
    with progress_bar() as progress:
        task = progress.add_task("asking", total=len(job.asked))

        def on(question: Question, outcome: Outcome) -> None:
            job.outcomes[question.class_.id] = outcome
            progress.advance(task)

        generation = Generation(open_llm, Answers(cache_folder() / "llm"), concurrency, budget, fresh, on)
        try:
            with _orderly():
                why, usage = generation(job.asked)
        except BaseException as error:  # whatever ends the run, what was answered is written
            with suppress(OSError, StoreError):
                _write(job)
                answered = len(job.outcomes) - len(job.failures())
                say(f"{answered:,} of {counted(len(job.asked), 'class')} answered, in {shown(out)}")
            if isinstance(error, KeyboardInterrupt):
                say(f"the same command{', without --fresh,' if fresh else ''} goes on from there")
            raise
    summary = _summary(job, _write(job), usage, budget, time.perf_counter() - began)
    print(json.dumps(summary)) if as_json else _print(summary)
    for id_, failed in list(job.failures().items())[:NAMED]:
        say(f'error: {shown(failed.what)} (class "{shown(id_)}", {failed.code}); fix: the same command asks again')
    if len(job.failures()) > NAMED:
        say(f"... and {len(job.failures()) - NAMED:,} more, all in {shown(out)}")
    if why:
        say(f"stopped: {why}; a higher limit goes on from there")
    if why or job.failures():
        raise typer.Exit(AnswerError.exit_code)


@contextmanager
def _orderly() -> Iterator[None]:
    """SIGINT and SIGTERM end asyncio's tasks in order, before KeyboardInterrupt comes out: as its own handler does it,
    which it has only where SIGINT is Python's. A second one interrupts at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: lambda *_: signal.raise_signal(signal.SIGINT),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_out(out: Path) -> None:
    """Told before anything is paid. Raises: InputError, StoreError."""
    if out.suffix != ".json" or out.is_dir() or not out.parent.is_dir():
        raise InputError("--out needs a name ending in .json, in a folder that exists", where=out, fix="choose another")
    if not os.access(out.parent, os.W_OK):
        raise cannot_write(out, PermissionError(13, "Permission denied"))


def _budget(max_tokens: int, max_cost: float, price: str) -> Budget:
    from vlmdesc.describe.protocol import Budget

    try:
        price_in, price_out = map(float, price.split(",")) if price else (0.0, 0.0)
        if not all(math.isfinite(one) and one >= 0 for one in (price_in, price_out)):
            raise ValueError(price)
    except ValueError as error:
        raise InputError("--price needs two numbers", where=price, fix="for example --price 0.15,0.60") from error
    if max_cost and not price_in + price_out:
        raise InputError("--max-cost needs prices", fix="for example --price 0.15,0.60")
    return Budget(max_tokens, max_cost, price_in, price_out)


def _opener(
    llm: str, base_url: str, key_variable: str, concurrency: int, options: dict[str, Any]
) -> tuple[str, Callable[[], AbstractAsyncContextManager[LLM]]]:
    """Name of the model that --llm stands for, and what opens it."""
    from vlmdesc.describe.llm import check_url, open_endpoint

    kind, _, path = llm.partition(":")
    if kind == "local":
        from vlmdesc.describe.local import find_gguf, model_name, serving

        gguf = find_gguf(path)
        name = model_name(gguf)

        @asynccontextmanager
        async def local() -> AsyncIterator[LLM]:
            with serving(gguf, concurrency) as (url, key):
                patient = options | {"timeout_s": max(LOCAL_TIMEOUT_S, options["timeout_s"])}
                async with open_endpoint(name, url, key, **patient) as endpoint:
                    yield endpoint

        return name, local
    if not llm:
        raise InputError("which model?", fix="--llm NAME, with --base-url for any other endpoint than OpenAI's")
    url, key = base_url or "https://api.openai.com/v1", os.environ.get(key_variable, "")
    check_url(url, bool(key), options["allow_http"])
    return llm, lambda: open_endpoint(llm, url, key, **options)


def _classes(
    listed: str, source: str, rivals_from: Path | None
) -> tuple[tuple[ClassName, ...], dict[str, list[str]] | None]:
    """The classes, and the names of each one's rivals where there is an evaluation to tell them."""
    from vlmdesc.describe.class_list import rivals_of
    from vlmdesc.records import ClassName, Report

    if listed and source:
        raise InputError("give either --classes or --classes-from", fix="leave one of them out")
    found = tuple(ClassName(name, name) for name in split_classes(listed)) if listed else ()
    found = _classes_from(source) if source else found
    if not rivals_from:
        if not found:
            raise InputError("which classes?", fix='--classes "hen,zebra", or --classes-from FILE')
        return found, None
    report = Report.load(rivals_from)
    names = {str(id_): str(name) for id_, name in report.task["class_names"].items()}
    found = found or tuple(ClassName(id_, name) for id_, name in names.items())
    rivals = {id_: [names[rival] for rival in ids] for id_, ids in rivals_of(report).items() if id_ in names}
    if not any(rivals.get(class_.id) for class_ in found):
        raise InputError("none of these classes was confused", where=rivals_from, fix="evaluate with these classes")
    return found, rivals


def _classes_from(source: str) -> tuple[ClassName, ...]:
    from vlmdesc.assets import shipped_sets
    from vlmdesc.describe.class_list import SUFFIXES, read_classes
    from vlmdesc.records import ClassName
    from vlmdesc.records.descriptors import open_set

    path = Path(source)
    if path.suffix.lower() in SUFFIXES and (path.is_file() or not path.exists()):
        return read_classes(path)
    if source in shipped_sets():
        return open_set(source).classes
    labels = Counter(item.label for item in open_data([source]) if item.label is not None)
    if not labels:
        raise InputError("no labels", where=source, fix="give a data set with labels, or a file of class names")
    return tuple(ClassName(label, label.replace("_", " ")) for label in sorted(labels))


def _slots(given: list[str], context: str) -> dict[str, str]:
    slots = {"context": context} if context else {}
    for slot in given:
        name, equals, text = slot.partition("=")
        if not equals or name in ("class", "rivals", "n", *slots):
            raise InputError(f"--slot {slot}", fix='write NAME=TEXT, each name once, and not "class", "rivals" or "n"')
        slots[name] = text
    return slots


def _meta(out: Path, model: str, prompt: Prompt, slots: dict[str, str], per_class: int) -> dict[str, Any]:
    generated = {
        "llm": model,
        "prompt": prompt.name,
        "prompt_sha256": prompt.digest,
        "form": prompt.form,
        "slots": slots,
        "per_class": per_class,
    }
    return {"name": out.stem, "generated": generated}


def _base(out: Path, meta: dict[str, Any], classes: tuple[ClassName, ...], fresh: bool) -> Descriptors | None:
    """The set that is there already, to be gone on with. Raises: InputError when it is of another make."""
    from vlmdesc.records import Descriptors

    if not out.exists():
        return None
    if fresh:
        stem = f"{out.stem}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        names = (f"{stem}{more}.json" for more in ("", *(f"-{i}" for i in range(2, 1000))))
        copy = next(path for name in names if not os.path.lexists(path := out.with_name(name)))
        os.replace(out, copy)
        say(f"what was in {shown(out)} is now {shown(copy)}")
        return None
    base = Descriptors.load(out)
    if base.meta.get("generated") != meta["generated"] or base.classes != classes:
        what = "it holds other classes, or was made with another model, prompt or number of descriptors"
        raise InputError(what, where=out, fix="choose another --out, or --fresh, which keeps a copy")
    return base


def _write(job: _Job) -> Descriptors:
    """Write the set with what was answered so far, and what lint finds in it."""
    from vlmdesc.describe.generate import described
    from vlmdesc.describe.lint import lint

    failed = {id_: {"code": error.code, "message": shown(error.what)} for id_, error in job.failures().items()}
    made = described(job.classes, job.outcomes, job.base)
    made = replace(made, meta={**made.meta, **job.meta, "failed": failed})
    made = replace(made, meta={**made.meta, "lint": [asdict(finding) for finding in lint(made)]})
    made.save(job.out)
    return made


def _show(asked: tuple[Question, ...], prompt: Prompt) -> None:
    if asked:
        for message in asked[0].record["messages"]:
            print(f"[{message['role']}]\n{shown_lines(message['content'])}\n")
    say(f"{counted(len(asked), 'question')}, each as the above; prompt '{prompt.name}': {prompt.about}")


def shown_lines(text: str) -> str:
    """`shown`, with its line ends kept."""
    return "\n".join(map(shown, text.split("\n")))


def _summary(job: _Job, made: Descriptors, usage: Usage, budget: Budget, seconds: float) -> dict[str, Any]:
    answered = [found for found in job.outcomes.values() if not isinstance(found, AnswerError)]
    cached = sum(found.cached for found in answered)
    cost = {"dollars": round(budget.cost(usage), 6)} if budget.price_in or budget.price_out else {}
    return {
        "out": str(job.out),
        "llm": job.meta["generated"]["llm"],
        "prompt": job.meta["generated"]["prompt"],
        "classes": len(job.classes),
        "descriptors": len(made.rows),
        "answered": len(answered) - cached,
        "from_cache": cached,
        "kept": len({row.class_id for row in job.base.rows}) if job.base else 0,
        "failed": {id_: error.code for id_, error in job.failures().items()},
        "not_asked": len(job.asked) - len(job.outcomes),
        **vars(usage),
        **cost,
        "lint": dict(Counter(finding["code"] for finding in made.meta["lint"])),
        "seconds": round(seconds, 2),
    }


def _print(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    asked = ("answered", "from_cache", "kept", "not_asked", "calls", "retries", "tokens_in", "tokens_out")
    for name in ("classes", "descriptors", *asked):
        table.add_row(name.replace("_", " "), Text(f"{summary[name]:,}", justify="right"))
    table.add_row("failed", Text(f"{len(summary['failed']):,}", justify="right"))
    if "dollars" in summary:
        table.add_row("cost", Text(f"${summary['dollars']:.4f}", justify="right"))
    Console().print(table)
    findings = ", ".join(f"{n:,} {code}" for code, n in summary["lint"].items())
    print(f"lint: {findings}; see vlmdesc lint {shown(summary['out'])}" if findings else "lint: clean")
    print(f"written to {shown(summary['out'])}")
