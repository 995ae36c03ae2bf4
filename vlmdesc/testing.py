"""Fakes that users' tests need as much as ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.heads import HeadCard
from vlmdesc.descriptors.llm import Reply, Usage
from vlmdesc.descriptors.prompts import KEY
from vlmdesc.embeddings.fake import COLOURS, FakeEncoder
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.evaluation import calibrate
from vlmdesc.evaluation.methods import Given
from vlmdesc.records import Descriptors

__all__ = ["COLOURS", "FakeEncoder", "FakeLLM", "given_of", "label_vectors"]


class FakeLLM:
    """A language model without weights: it answers by rote, and notes what it was asked.

    `answers` maps class names to descriptors; a class that is not among them is refused.

    >>> import asyncio
    >>> fake = FakeLLM({"hen": ["a red comb"]})
    >>> asyncio.run(fake.answer([{"role": "user", "content": 'What does "hen" look like?'}], {}, {})).text
    '{"descriptors": ["a red comb"]}'
    """

    name = "fake"

    def __init__(self, answers: Mapping[str, Sequence[str]]) -> None:
        self.answers, self.usage = answers, Usage()
        self.asked: list[str] = []

    async def answer(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], sampling: Mapping[str, float]
    ) -> Reply:
        self.usage.calls += 1
        question = next(m["content"] for m in reversed(messages) if '"' in m["content"].partition("{")[0])
        self.asked.append(question)
        name = next((name for name in self.answers if json.dumps(name, ensure_ascii=False) in question), None)
        if name is None:
            return Reply("", "refused")
        return Reply(json.dumps({KEY: [*self.answers[name]]}, ensure_ascii=False))


def label_vectors(vectors: Float32[np.ndarray, "n d"], labels: Sequence[int] | Int[np.ndarray, " n"]) -> Labelled:
    """Labelled embeddings of images that are all different."""
    keys = tuple(f"{i}.png" for i in range(len(labels)))
    numbers = np.array(labels, np.intp)
    return Labelled(vectors, numbers, keys, tuple(range(len(labels))), keys, (None,) * len(labels))


def given_of(
    encoder: Encoder,
    descriptors: Descriptors,
    images: Labelled,
    folds: Int[np.ndarray, " n"] | None = None,
    reference: Labelled | None = None,
) -> Given:
    """What methods are fitted with: weights are chosen on the reference, else by cross-validation over folds."""
    on = reference or images
    if folds is None:
        folds = calibrate.folds(images.labels, images.contents, 0)
    card = HeadCard.of("", encoder, descriptors)
    return Given(card, encoder.texts, images.vectors, on.vectors, on.labels, None if reference else folds, reference)
