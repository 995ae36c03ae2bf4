"""Classes to descriptors by a language model: ask what is not answered yet, keep each answer the moment it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vlmdesc.cache import Answers, checksum
from vlmdesc.describe.claims import claims
from vlmdesc.describe.prompts import Message, Prompt, schema
from vlmdesc.describe.protocol import LLM, Budget, Reply, Usage
from vlmdesc.describe.reply import read
from vlmdesc.errors import AnswerError, EndpointError, StoreError
from vlmdesc.records import ClassName, Descriptor, Descriptors

CONCURRENCY = 8
LONGER = 4  # times the tokens, for an answer that was cut off
LOOSER = 0.7  # the temperature, for an answer that went round in circles
FIRMER = (
    "That cannot be used. The question is only how things of this class look, so that their pictures can be told "
    'apart. Answer again, about the same class, with nothing but JSON: {"descriptors": ["...", "..."]}.'
)


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
    given = {**slots, "class": class_.name.replace("_", " ")} | ({"rivals": rivals} if rivals else {})
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
            known = None if self.fresh else kept(question, self.answers)
            if known:
                self.on(question, known)
            else:
                left.append(question)
        return asyncio.run(self._ask(left)) if left else ("", Usage())

    async def _ask(self, left: Sequence[Question]) -> tuple[str, Usage]:
        with claims(self.answers.folder) as claim:  # fails before anything is paid, where nothing can be kept
            async with self.open_llm() as llm:
                stopped: list[EndpointError | StoreError] = []
                why = ""
                queue, slots, writer = iter(left), asyncio.Semaphore(self.concurrency), _Writer(self.answers)

                async def ask(*request: Any) -> Reply:
                    nonlocal why
                    async with slots:
                        why = why or self.budget.spent(llm.usage)
                        if stopped or why:
                            raise _HaltError
                        return await llm.answer(*request)

                async def worker(some: Iterator[Question]) -> None:
                    for question in some:
                        try:
                            async with claim(question.key):
                                # Another process may have asked meanwhile.
                                known = None if self.fresh else kept(question, self.answers)
                                outcome: Outcome = known or await _one(question, ask, writer)
                        except AnswerError as error:
                            outcome = error
                        except (EndpointError, StoreError) as error:
                            stopped.append(error)
                            return
                        except _HaltError:
                            return
                        self.on(question, outcome)

                # One alone first: a wrong key costs one call, and what the endpoint lacks is found once.
                await worker(iter([next(queue)]))
                # More workers than may ask at once: while some wait for the disk, others ask.
                await asyncio.gather(*(worker(queue) for _ in range(2 * self.concurrency)))
                if stopped:
                    raise stopped[0]
                return why, llm.usage


class _HaltError(Exception):
    """No more questions are to be asked."""


class _Writer:
    """Keeps answers from another thread, all that wait at once: to hand over each would cost more than to write it."""

    def __init__(self, answers: Answers) -> None:
        self._answers, self._turn = answers, asyncio.Lock()
        self._waiting: list[tuple[Mapping[str, Any], Any]] = []

    async def put(self, question: Mapping[str, Any], answer: Any) -> None:
        """Durable when this returns. Raises: StoreError."""
        self._waiting.append((question, answer))
        async with self._turn:
            batch = self._waiting[:]
            if batch:  # else the one before wrote it, too
                await asyncio.to_thread(self._write, batch)
                del self._waiting[: len(batch)]  # not earlier: where it fails, each that waits shall hear of it

    def _write(self, batch: Iterable[tuple[Mapping[str, Any], Any]]) -> None:
        for question, answer in batch:
            self._answers.put(question, answer)


async def _one(question: Question, ask: Callable[..., Awaitable[Reply]], writer: _Writer) -> Answer:
    """Ask; where the answer cannot be used, once more and firmer. Raises: as `LLM.answer`, and StoreError."""
    record = question.record
    messages, sampling = record["messages"], record["sampling"]
    reply = await ask(messages, record["schema"], sampling)
    try:
        _read(reply, question)
    except AnswerError as error:
        if error.code == "truncated" and "max_tokens" in sampling:
            sampling = sampling | {"max_tokens": LONGER * sampling["max_tokens"]}
        if error.code == "loop":
            sampling = sampling | {"temperature": LOOSER}
        reply = await ask([*messages, *_again(reply)], record["schema"], sampling)
        _read(reply, question)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    answer = {"text": reply.text, "date": today, "tokens": [reply.tokens_in, reply.tokens_out]}
    await writer.put(record, answer)
    return _answer(answer, question)


def kept(question: Question, answers: Answers) -> Answer | None:
    """The answer in the cache, if there is one that can be used."""
    found = answers.get(question.record)
    try:
        return _answer(found, question, cached=True) if found else None
    except (AnswerError, KeyError, TypeError, AttributeError):
        return None


def _again(reply: Reply) -> list[Message]:
    said: list[Message] = [{"role": "assistant", "content": reply.text[:500]}] if reply.text.strip() else []
    return [*said, {"role": "user", "content": FIRMER}]


def _read(reply: Reply, question: Question) -> tuple[str, ...]:
    if reply.finish == "refused":
        raise AnswerError("refused", "the model or its filter refused")
    if reply.finish == "length":
        raise AnswerError("truncated", "the answer was cut off")
    return read(reply.text, question.class_.name, question.n, question.form)


def _answer(answer: Mapping[str, Any], question: Question, cached: bool = False) -> Answer:
    record = question.record
    texts = read(answer["text"], question.class_.name, question.n, question.form)
    origin = f"llm:{record['model']}/{record['prompt']}@{answer['date']}#{question.key[:16]}"
    return Answer(texts, origin, cached)


def described(classes: Iterable[ClassName], outcomes: Mapping[str, Outcome], base: Descriptors | None) -> Descriptors:
    """The classes with what was answered about them. Rows of `base`, an earlier set, stay as they are, its meta too."""
    rows = list(base.rows if base else ())
    for class_ in classes:
        outcome = outcomes.get(class_.id)
        if isinstance(outcome, Answer):
            rows += [Descriptor(class_.id, text, origin=outcome.origin) for text in outcome.texts]
    order = {class_.id: i for i, class_ in enumerate(classes)}
    rows.sort(key=lambda row: order[row.class_id])
    return Descriptors(tuple(classes), tuple(rows), base.meta if base else {})
