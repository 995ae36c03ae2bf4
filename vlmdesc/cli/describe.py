"""vlmdesc describe"""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import vlmdesc as vd
from vlmdesc.cli.border import print_messages, say, say_notes
from vlmdesc.cli.options import Json, complete, open_data, split_classes
from vlmdesc.errors import AnswerError, InputError
from vlmdesc.text import counted, shown

ASK, LIMITS = "What is asked", "Endpoint and limits"
NAMED = 10  # classes without an answer that are named on stderr; all are in the file


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
        autocompletion=complete("prompts"),
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
    from vlmdesc.cli.progress import bars

    budget = _budget(max_tokens_total, max_cost, price)
    endpoint = vd.Endpoint(
        key_variable=api_key_env,
        timeout_s=timeout,
        per_minute=float(rpm),
        concurrency=concurrency,
        allow_http=allow_http,
    )
    with bars() as progress, _orderly():
        found = vd.describe(
            _classes(classes, classes_from),
            llm,
            base_url=base_url,
            out=out,
            prompt=prompt,
            per_class=per_class,
            slots=_slots(slots, context),
            rivals=rivals_from,
            endpoint=endpoint,
            budget=budget,
            fresh=fresh,
            dry_run=dry_run,
            progress=progress,
        )
    if dry_run:
        _show_first(found.asked)
        return
    say_notes(found.notes)
    print(json.dumps(found.to_dict())) if as_json else _print(found.to_dict())
    _say_failed(found.failed, out)
    if found.stopped:
        say(f"stopped: {found.stopped}; a higher limit goes on from there")
    if found.stopped or found.failed:
        raise typer.Exit(AnswerError.exit_code)


def _classes(listed: str, source: str) -> Any:
    """What --classes or --classes-from stands for; None for neither. Raises: InputError for both."""
    if listed and source:
        raise InputError("give either --classes or --classes-from", fix="leave one of them out")
    if not source:
        return split_classes(listed) if listed else None
    path = Path(source)
    of_file = path.suffix.lower() in (".txt", ".csv", ".tsv", ".json") and (path.is_file() or not path.exists())
    return source if of_file or source in vd.choices("sets") else open_data([source])


def _slots(given: Sequence[str], context: str) -> dict[str, str]:
    slots = {"context": context} if context else {}
    for slot in given:
        name, equals, text = slot.partition("=")
        if not equals or name in ("class", "rivals", "n", *slots):
            raise InputError(f"--slot {slot}", fix='write NAME=TEXT, each name once, and not "class", "rivals" or "n"')
        slots[name] = text
    return slots


def _budget(max_tokens: int, max_cost: float, price: str) -> vd.Budget:
    try:
        price_in, price_out = map(float, price.split(",")) if price else (0.0, 0.0)
        if not all(math.isfinite(one) and one >= 0 for one in (price_in, price_out)):
            raise ValueError(price)
    except ValueError as error:
        raise InputError("--price needs two numbers", where=price, fix="for example --price 0.15,0.60") from error
    if max_cost and not price_in + price_out:
        raise InputError("--max-cost needs prices", fix="for example --price 0.15,0.60")
    return vd.Budget(max_tokens, max_cost, price_in, price_out)


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


def _show_first(asked: Sequence[Any]) -> None:
    if not asked:
        return say("no questions")
    print_messages(asked[0].record["messages"])
    prompt = asked[0].record["prompt"].partition(":")[0]
    say(f"{counted(len(asked), 'question')}, each as the above, by prompt '{shown(prompt)}'")


def _say_failed(failed: Mapping[str, AnswerError], out: Path) -> None:
    for id_, error in list(failed.items())[:NAMED]:
        say(f'error: {shown(error.what)} (class "{shown(id_)}", {error.code}); fix: the same command asks again')
    if len(failed) > NAMED:
        say(f"... and {len(failed) - NAMED:,} more, all in {shown(out)}")


def _print(summary: Mapping[str, Any]) -> None:
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
