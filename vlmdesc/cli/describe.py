"""vlmdesc describe"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmdesc.cli.asking import budget_of, check_out, classes_of, opener, slots_of
from vlmdesc.cli.border import print_messages, say
from vlmdesc.cli.job import Job, base_of, meta_of, print_summary, summary_of, write_job
from vlmdesc.cli.options import Json
from vlmdesc.errors import AnswerError, StoreError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc.descriptors.generate import Question
    from vlmdesc.descriptors.prompts import Prompt

ASK, LIMITS = "What is asked", "Endpoint and limits"
ANSWERS = "llm"  # folder of the cache
NAMED = 10  # classes without an answer that are named on stderr; all are in the file


def _prompts() -> list[str]:
    from vlmdesc.descriptors.prompts import shipped_prompts

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
    from vlmdesc.descriptors.generate import Generation, Outcome, questions
    from vlmdesc.descriptors.prompts import open_prompt

    budget = budget_of(max_tokens_total, max_cost, price)
    check_out(out)
    wanted = open_prompt(prompt or ("contrastive" if rivals_from else "dclip"))
    found, rivals = classes_of(classes, classes_from, rivals_from)
    given = slots_of(slots, context)
    if dry_run:
        _show(questions(wanted, found, per_class, "", given, rivals), wanted)
        return
    model, open_llm = opener(
        llm,
        base_url,
        api_key_env,
        concurrency,
        {"timeout_s": timeout, "per_minute": float(rpm), "allow_http": allow_http},
    )
    asked = questions(wanted, found, per_class, model, given, rivals)
    meta = meta_of(out, model, wanted, given, per_class)
    base = base_of(out, meta, found, fresh)
    told = {row.class_id for row in base.rows} if base else set()
    job = Job(out, found, tuple(q for q in asked if q.class_.id not in told), base, meta)
    if told:
        say(f"{counted(len(told), 'class')} in {shown(out)} stay as they are")
    began = time.perf_counter()
    with progress_bar() as progress:
        task = progress.add_task("asking", total=len(job.asked))

        def on(question: Question, outcome: Outcome) -> None:
            job.outcomes[question.class_.id] = outcome
            progress.advance(task)

        generation = Generation(open_llm, Answers(cache_folder() / ANSWERS), concurrency, budget, fresh, on)
        try:
            with _orderly():
                why, usage = generation(job.asked)
        except BaseException as error:  # whatever ends the run, what was answered is written
            with suppress(OSError, StoreError):
                write_job(job)
                answered = len(job.outcomes) - len(job.failures())
                say(f"{answered:,} of {counted(len(job.asked), 'class')} answered, in {shown(out)}")
            if isinstance(error, KeyboardInterrupt):
                say(f"the same command{', without --fresh,' if fresh else ''} goes on from there")
            raise
    summary = summary_of(job, write_job(job), usage, budget, time.perf_counter() - began)
    print(json.dumps(summary)) if as_json else print_summary(summary)
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


def _show(asked: tuple[Question, ...], prompt: Prompt) -> None:
    if asked:
        print_messages(asked[0].record["messages"])
    say(f"{counted(len(asked), 'question')}, each as the above; prompt '{prompt.name}': {prompt.about}")
