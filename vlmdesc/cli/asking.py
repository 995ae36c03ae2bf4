"""What the options of vlmdesc describe stand for."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmdesc.cli.options import open_data, split_classes
from vlmdesc.errors import InputError
from vlmdesc.files import cannot_write

if TYPE_CHECKING:
    from vlmdesc.descriptors.protocol import LLM, Budget
    from vlmdesc.records import ClassName

LOCAL_TIMEOUT_S = 600.0  # at the least: a machine of one's own may be slow, and costs nothing


def check_out(out: Path) -> None:
    """Told before anything is paid. Raises: InputError, StoreError."""
    if out.suffix != ".json" or out.is_dir() or not out.parent.is_dir():
        raise InputError("--out needs a name ending in .json, in a folder that exists", where=out, fix="choose another")
    if not os.access(out.parent, os.W_OK):
        raise cannot_write(out, PermissionError(13, "Permission denied"))


def budget_of(max_tokens: int, max_cost: float, price: str) -> Budget:
    from vlmdesc.descriptors.protocol import Budget

    try:
        price_in, price_out = map(float, price.split(",")) if price else (0.0, 0.0)
        if not all(math.isfinite(one) and one >= 0 for one in (price_in, price_out)):
            raise ValueError(price)
    except ValueError as error:
        raise InputError("--price needs two numbers", where=price, fix="for example --price 0.15,0.60") from error
    if max_cost and not price_in + price_out:
        raise InputError("--max-cost needs prices", fix="for example --price 0.15,0.60")
    return Budget(max_tokens, max_cost, price_in, price_out)


def opener(
    llm: str, base_url: str, key_variable: str, concurrency: int, options: dict[str, Any]
) -> tuple[str, Callable[[], AbstractAsyncContextManager[LLM]]]:
    """Name of the model that --llm stands for, and what opens it."""
    from vlmdesc.descriptors.llm import check_url, clean_key, open_endpoint

    kind, _, path = llm.partition(":")
    if kind == "local":
        from vlmdesc.descriptors.local import find_gguf, model_name, serving

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
    url, key = base_url or "https://api.openai.com/v1", clean_key(os.environ.get(key_variable, ""), key_variable)
    check_url(url, bool(key), options["allow_http"])
    return llm, lambda: open_endpoint(llm, url, key, **options)


def classes_of(
    listed: str, source: str, rivals_from: Path | None
) -> tuple[tuple[ClassName, ...], dict[str, list[str]] | None]:
    """The classes, and the names of each one's rivals where there is an evaluation to tell them."""
    from vlmdesc.descriptors.class_list import rivals_of
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
    names = report.task.class_names
    found = found or tuple(ClassName(id_, name) for id_, name in names.items())
    rivals = {id_: [names[rival] for rival in ids] for id_, ids in rivals_of(report).items() if id_ in names}
    if not any(rivals.get(class_.id) for class_ in found):
        raise InputError("none of these classes was confused", where=rivals_from, fix="evaluate with these classes")
    return found, rivals


def _classes_from(source: str) -> tuple[ClassName, ...]:
    from vlmdesc.assets import shipped_sets
    from vlmdesc.descriptors.class_list import SUFFIXES, read_classes
    from vlmdesc.descriptors.phrase import spoken
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
    return tuple(ClassName(label, spoken(label)) for label in sorted(labels))


def slots_of(given: list[str], context: str) -> dict[str, str]:
    slots = {"context": context} if context else {}
    for slot in given:
        name, equals, text = slot.partition("=")
        if not equals or name in ("class", "rivals", "n", *slots):
            raise InputError(f"--slot {slot}", fix='write NAME=TEXT, each name once, and not "class", "rivals" or "n"')
        slots[name] = text
    return slots
