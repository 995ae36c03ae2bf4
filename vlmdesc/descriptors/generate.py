"""Classes to descriptors by a language model: ask what is not answered yet, keep each answer the moment it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from vlmdesc.cache import Answers, checksum
from vlmdesc.descriptors.claims import claims
from vlmdesc.descriptors.llm import LLM, Budget, Reply, Usage
from vlmdesc.descriptors.phrase import spoken
from vlmdesc.descriptors.prompts import Message, Prompt, schema
from vlmdesc.descriptors.reply import read
from vlmdesc.errors import AnswerError, EndpointError, StoreError
from vlmdesc.records import ClassName, Descriptor, Descriptors

T = TypeVar("T")
CONCURRENCY = 8
LONGER = 4  # times the tokens, for an answer that was cut off
LOOSER = 0.7  # the temperature, for an answer that went round in circles
FIRMER = (
    "That cannot be used. The question is only how things of this class look, so that their images can be told "
    'apart. Answer again, about the same class, with nothing but JSON: {"descriptors": ["...", "..."]}.'
)


def _run(asking: Coroutine[Any, Any, T]) -> T:
    """What comes of it. In a thread of its own where a loop runs in this one already, as it does in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(asking)
    context = copy_context()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(context.run, asyncio.run, asking).result()


@dataclass(frozen=True)
class Question:
    """What is asked about one class. `record` is the whole of it, as the cache knows it by."""

    class_: ClassName
    n: int
    form: str
    record: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Name of the answer in the cache, 64 hex digits."""
        return checksum(self.record)


@dataclass(frozen=True)
class Answer:
    """What came of it. `origin` tells each descriptor's model, prompt, day and the key of the raw answer."""

    texts: tuple[str, ...]
    origin: str
    cached: bool = False


Outcome = Answer | AnswerError
Outcomes = dict[str, Outcome]  # class id -> outcome


def questions(
    prompt: Prompt,
    classes: Iterable[ClassName],
    n: int,
    model: str,
    slots: Mapping[str, str] | None = None,
    rivals: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Question, ...]:
    """One question a class. `rivals` are names by class id; a class without any is not asked then.

    Raises: InputError that names a slot that is missing or unknown.
    """
    asked = [c for c in classes if rivals is None or rivals.get(c.id)]
    return tuple(_question(prompt, c, n, model, slots or {}, (rivals or {}).get(c.id)) for c in asked)


def _question(
    prompt: Prompt, class_: ClassName, n: int, model: str, slots: Mapping[str, str], rivals: Sequence[str] | None
) -> Question:
    given = {**slots, "class": spoken(class_.name)} | ({"rivals": rivals} if rivals else {})
    record = {
        "model": model,
        "prompt": f"{prompt.name}:{prompt.digest[:8]}",
        "messages": prompt.fill(n, given),
        "schema": schema(n),
        "sampling": dict(prompt.sampling),
    }
    return Question(class_, n, prompt.form, record)


@dataclass(frozen=True)
class Generation:
    """How questions are asked. `open_llm` is called only when something must be asked.

    `on` hears of each outcome; what it has heard of is kept, whatever happens after.
    """

    open_llm: Callable[[], AbstractAsyncContextManager[LLM]]
    answers: Answers
    concurrency: int = CONCURRENCY
    budget: Budget = field(default_factory=Budget)
    fresh: bool = False
    on: Callable[[Question, Outcome], None] = lambda question, outcome: None

    def __call__(self, asked: Sequence[Question]) -> tuple[str, Usage]:
        """Why it stopped early, "" if it did not, and what was used.

        Raises: EndpointError when no further question would get an answer, StoreError when answers cannot be kept.
        """
        left = []
        for question in asked:
            known = None if self.fresh else find_answer(question, self.answers)
            if known:
                self.on(question, known)
            else:
                left.append(question)
        return _run(self._ask(left)) if left else ("", Usage())

    async def _ask(self, left: Sequence[Question]) -> tuple[str, Usage]:
        with claims(self.answers.folder) as claim:  # fails before anything is paid, where nothing can be kept
            async with self.open_llm() as llm:
                stopped: list[EndpointError | StoreError] = []
                held = ""

                async def worker(some: Iterator[Question]) -> None:
                    nonlocal held
                    for question in some:
                        held = held or self.budget.spent(llm.usage)
                        if stopped or held:
                            return
                        try:
                            async with claim(question.key):
                                # Another process may have asked meanwhile.
                                known = None if self.fresh else find_answer(question, self.answers)
                                outcome: Outcome = known or await self._one(question, llm)
                        except AnswerError as error:
                            outcome = error
                        except (EndpointError, StoreError) as error:
                            stopped.append(error)
                            return
                        self.on(question, outcome)

                queue = iter(left)
                # One alone first: a wrong key costs one call, and what the endpoint lacks is found once.
                await worker(iter([next(queue)]))
                await asyncio.gather(*(worker(queue) for _ in range(self.concurrency)))
                if stopped:
                    raise stopped[0]
                return held, llm.usage

    async def _one(self, question: Question, llm: LLM) -> Answer:
        """Ask; where the answer cannot be used, once more and firmer. Raises: as `LLM.answer`, and StoreError."""
        record = question.record
        messages, sampling = record["messages"], record["sampling"]
        reply = await llm.answer(messages, record["schema"], sampling)
        try:
            texts = _read(reply, question)
        except AnswerError as error:
            if error.code == "truncated" and "max_tokens" in sampling:
                sampling = sampling | {"max_tokens": LONGER * sampling["max_tokens"]}
            if error.code == "loop":
                sampling = sampling | {"temperature": LOOSER}
            reply = await llm.answer([*messages, *_again(reply)], record["schema"], sampling)
            texts = _read(reply, question)
        today = time.strftime("%Y-%m-%d", time.gmtime())
        tokens = [reply.tokens_in, reply.tokens_out]
        # Here and now, not in a thread: handing over costs more than writing, and one answer a worker is at stake.
        self.answers.put(record, {"text": reply.text, "date": today, "tokens": tokens})
        return Answer(texts, _origin(question, today))


def find_answer(question: Question, answers: Answers) -> Answer | None:
    """The answer in the cache, if there is one that can be used."""
    found = answers.get(question.record)
    try:
        if not found:
            return None
        texts = read(found["text"], question.class_.name, question.n, question.form)
        return Answer(texts, _origin(question, found["date"]), cached=True)
    except (AnswerError, KeyError, TypeError, AttributeError):
        return None


def _again(reply: Reply) -> list[Message]:
    earlier: list[Message] = [{"role": "assistant", "content": reply.text[:500]}] if reply.text.strip() else []
    return [*earlier, {"role": "user", "content": FIRMER}]


def _read(reply: Reply, question: Question) -> tuple[str, ...]:
    if reply.finish == "refused":
        raise AnswerError("refused", "the model or its filter refused")
    if reply.finish == "length":
        raise AnswerError("truncated", "the answer was cut off")
    return read(reply.text, question.class_.name, question.n, question.form)


def _origin(question: Question, date: str) -> str:
    record = question.record
    return f"llm:{record['model']}/{record['prompt']}@{date}#{question.key[:16]}"


def add_answers(classes: Iterable[ClassName], outcomes: Mapping[str, Outcome], base: Descriptors | None) -> Descriptors:
    """The classes with what was answered about them. Rows of `base`, an earlier set, stay as they are, and its meta
    and history with them.
    """
    rows = list(base.rows if base else ())
    for class_ in classes:
        outcome = outcomes.get(class_.id)
        if isinstance(outcome, Answer):
            rows += [Descriptor(class_.id, text, origin=outcome.origin) for text in outcome.texts]
    order = {class_.id: i for i, class_ in enumerate(classes)}
    rows.sort(key=lambda row: order[row.class_id])
    return Descriptors(tuple(classes), tuple(rows), *((base.meta, base.history) if base else ()))
