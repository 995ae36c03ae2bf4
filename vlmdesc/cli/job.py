"""A run of vlmdesc describe: what it goes on with, what it has, and what it writes."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmdesc.cli.border import say
from vlmdesc.errors import AnswerError, InputError
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc.descriptors.generate import Outcomes, Question
    from vlmdesc.descriptors.prompts import Prompt
    from vlmdesc.descriptors.protocol import Budget, Usage
    from vlmdesc.records import ClassName, Descriptors


@dataclass
class Job:
    """What a run of the command knows, and has so far."""

    out: Path
    classes: tuple[ClassName, ...]
    asked: tuple[Question, ...]
    base: Descriptors | None
    meta: dict[str, Any]
    outcomes: Outcomes = field(default_factory=dict)

    def failures(self) -> dict[str, AnswerError]:
        return {id_: found for id_, found in self.outcomes.items() if isinstance(found, AnswerError)}


def meta_of(out: Path, model: str, prompt: Prompt, slots: dict[str, str], per_class: int) -> dict[str, Any]:
    generated = {
        "llm": model,
        "prompt": prompt.name,
        "prompt_sha256": prompt.digest,
        "form": prompt.form,
        "slots": slots,
        "per_class": per_class,
    }
    return {"name": out.stem, "generated": generated}


def base_of(out: Path, meta: dict[str, Any], classes: tuple[ClassName, ...], fresh: bool) -> Descriptors | None:
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


def write_job(job: Job) -> Descriptors:
    """Write the set with what was answered so far, and what lint finds in it."""
    from vlmdesc.descriptors.generate import described
    from vlmdesc.descriptors.lint import lint

    failed = {id_: {"code": error.code, "message": shown(error.what)} for id_, error in job.failures().items()}
    made = described(job.classes, job.outcomes, job.base)
    made = replace(made, meta={**made.meta, **job.meta, "failed": failed})
    made = replace(made, meta={**made.meta, "lint": [asdict(finding) for finding in lint(made)]})
    made.save(job.out)
    return made


def summary_of(job: Job, made: Descriptors, usage: Usage, budget: Budget, seconds: float) -> dict[str, Any]:
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


def print_summary(summary: dict[str, Any]) -> None:
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
