"""What every language model can do, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Reply:
    """One answer as it came. `finish` is "stop", "length" where it was cut off, or "refused"."""

    text: str
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass
class Usage:
    """What was used so far; it only grows. `calls` counts every try, `retries` those after the first."""

    calls: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class LLM(Protocol):
    """A chat model. `usage` grows with every call."""

    @property
    def name(self) -> str: ...
    @property
    def usage(self) -> Usage: ...

    async def answer(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], sampling: Mapping[str, float]
    ) -> Reply:
        """The answer to `messages`, by `schema` where the model can be held to one.

        Raises: AnswerError when this question got none, EndpointError when no other would either.
        """
        ...


@dataclass(frozen=True)
class Budget:
    """When to stop asking. Prices are dollars for a million tokens; 0 tokens or dollars is no limit."""

    max_tokens: int = 0
    max_cost: float = 0.0
    price_in: float = 0.0
    price_out: float = 0.0

    def cost(self, usage: Usage) -> float:
        """Dollars.

        >>> Budget(price_in=0.5, price_out=2.0).cost(Usage(tokens_in=1_000_000, tokens_out=10_000))
        0.52
        """
        return (usage.tokens_in * self.price_in + usage.tokens_out * self.price_out) / 1e6

    def spent(self, usage: Usage) -> str:
        """What is used up, in words; "" while something is left."""
        tokens = usage.tokens_in + usage.tokens_out
        if self.max_tokens and tokens >= self.max_tokens:
            return f"{tokens:,} of {self.max_tokens:,} tokens are used"
        if self.max_cost and self.cost(usage) >= self.max_cost:
            return f"${self.cost(usage):.4f} of ${self.max_cost:.4f} are spent"
        return ""
