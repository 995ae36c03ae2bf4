"""Language models: what each can do and costs, and any OpenAI-compatible chat endpoint.

The async client of the `openai` package leaves to us: replies that are no replies, a deadline over the whole call,
redirects that would take the prompt elsewhere, retries that several workers share, endpoints that lack a setting, and
keys that come back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import urlsplit

from vlmdesc.descriptors.prompts import KEY
from vlmdesc.errors import AnswerError, EndpointError, InputError, check_proxies, runs_of, without_secrets

if TYPE_CHECKING:
    import httpx2
    import openai

ATTEMPTS = 5
TIMEOUT_S = 120.0
BACKOFF_S, MAX_BACKOFF_S, JITTER = 0.5, 8.0, 0.25
MAX_WAIT_S = 60.0  # an endpoint that asks for more ends the run; the next one goes on from there
LOST = 5  # questions in a row without any reply: the endpoint is gone
MAX_REPLY_BYTES = 2**20
SECRET, TURNS = 16, 6  # characters of a secret at least, and characters a turn at most: see `is_secret`
NO_USE = {401: "the key is wrong", 402: "it wants to be paid", 403: "the key may not", 404: "no such model or path"}
SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "response_format")  # what an endpoint may lack
AGAIN = "the same command goes on from there"


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


class _PassingError(Exception):
    """A failure that may pass. `wait_s` is what the endpoint asked for; `shared` says that all workers must wait."""

    def __init__(self, what: str, wait_s: float | None = None, shared: bool = False) -> None:
        super().__init__(what)
        self.wait_s, self.shared = wait_s, shared


class Chat:
    """A model behind a base URL. Use `open_endpoint`, which closes it.

    `timeout_s` is for one whole call, from the first byte sent to the last received; `per_minute` limits calls,
    0 does not. `sleep` is for tests.
    Raises: InputError when the URL is none, carries a key, or would carry one unencrypted over a network, and when a
    proxy or the key cannot be used.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        key: str = "",
        *,
        timeout_s: float = TIMEOUT_S,
        per_minute: float = 0,
        allow_http: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        key = clean_key(key)
        self.name, self.usage, self.place = model, Usage(), check_url(base_url, bool(key), allow_http)
        self._key, self._timeout_s, self._sleep = key, timeout_s, sleep
        self._gap_s = 60 / per_minute if per_minute else 0
        self._client = _client(base_url, key)
        self._without: set[str] = set()
        self._structured = False
        self._next = self._lost = 0.0

    async def answer(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], sampling: Mapping[str, float]
    ) -> Reply:
        """As `LLM.answer`. Failures that may pass are tried again, up to five calls."""
        trouble = ""
        for attempt in range(ATTEMPTS):
            await self._turn()
            self.usage.calls += 1
            self.usage.retries += attempt > 0
            try:
                reply = await self._call(messages, schema, sampling)
            except _PassingError as again:
                trouble = str(again)
                if attempt + 1 < ATTEMPTS:
                    await self._wait(again, attempt)
            else:
                self._lost = 0
                return reply
        self._lost += 1
        if self._lost >= LOST:
            what = f"{self.place} gave no reply to {LOST} questions in a row: {trouble}"
            raise EndpointError(what, fix=f"see whether it is up; {AGAIN}")
        raise AnswerError("no-reply", f"no reply after {ATTEMPTS} tries: {trouble}")

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def _turn(self) -> None:
        """Wait until a call may be made: by the limit of calls, and by what the endpoint asked all to wait for."""
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._gap_s
        if at > now:
            await self._sleep(at - now)

    async def _wait(self, again: _PassingError, attempt: int) -> None:
        if again.wait_s is not None and again.wait_s > MAX_WAIT_S:
            raise EndpointError(f"{self.place} asks to wait {again.wait_s:,.0f} s", fix=f"wait; {AGAIN}") from None
        backoff = min(MAX_BACKOFF_S, BACKOFF_S * 2**attempt) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        wait_s = backoff if again.wait_s is None else again.wait_s
        if again.shared:
            self._next = max(self._next, time.monotonic() + wait_s)
        else:
            await self._sleep(wait_s)

    async def _call(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], sampling: Mapping[str, float]
    ) -> Reply:
        """One call. Raises: errors of ours only; the client's may quote keys."""
        import httpx2
        import openai

        request = self._request(messages, schema, sampling)
        headers = {} if self._key else {"Authorization": openai.Omit()}
        try:
            async with asyncio.timeout(self._timeout_s):
                # Not chat.completions.create, which spends longer on checking types than on the call.
                response = await self._client.post(
                    "/chat/completions", cast_to=httpx2.Response, body=request, options={"headers": headers}
                )
                body = response.content
        except openai.APIStatusError as error:
            refusal = error
        except (TimeoutError, openai.APITimeoutError):
            raise _PassingError(f"no whole reply within {self._timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            raise _PassingError(self._safe(f"no connection: {error.__cause__ or error}")) from None
        except (openai.OpenAIError, ValueError) as error:  # a stream that grows too long is a ValueError of ours
            raise _PassingError(self._safe(str(error))) from None
        else:
            reply = self._reply(body)
            self._structured |= "response_format" in request
            self.usage.tokens_in += reply.tokens_in
            self.usage.tokens_out += reply.tokens_out
            return reply
        self._refuse(refusal, request)

    def _request(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], sampling: Mapping[str, float]
    ) -> dict[str, Any]:
        form = {"type": "json_schema", "json_schema": {"name": KEY, "strict": True, "schema": schema}}
        request = {"model": self.name, "messages": messages, **sampling, "response_format": form}
        if "max_tokens" in self._without & request.keys():
            request["max_completion_tokens"] = request["max_tokens"]
        return {name: value for name, value in request.items() if name not in self._without}

    def _refuse(self, error: openai.APIStatusError, request: Mapping[str, Any]) -> NoReturn:
        """What an error status means for this question, and for all others."""
        status, body = error.status_code, error.body if isinstance(error.body, dict) else {"message": error.body}
        code, reason = str(body.get("code")), self._safe(str(body.get("message") or body.get("detail") or ""))
        what = f"{self.place} answers {status}" + (f": {reason}" if reason else "")
        if status in NO_USE or 300 <= status < 400 or code == "insufficient_quota":
            why = NO_USE.get(status, "the quota is used up" if status >= 400 else "it sends us elsewhere")
            raise EndpointError(f"{what} ({why}, model '{self.name}')", fix=_fix(status, code)) from None
        if status in (408, 409, 425, 429) or (status >= 500 and status != 501):
            wait_s = _retry_after(error.response.headers)
            raise _PassingError(what, wait_s, shared=status == 429 or wait_s is not None) from None
        lacking = self._lacking(f"{reason} {body.get('param')}".casefold(), code, request)
        if lacking:
            self._without.add(lacking)
            raise _PassingError(what, 0.0) from None
        raise AnswerError(f"http-{status}", what) from None

    def _lacking(self, reason: str, code: str, request: Mapping[str, Any]) -> str:
        """The setting of a request that the endpoint lacks, by the reason it gave, else the likeliest; "" if none."""
        if code == "context_length_exceeded" or "context length" in reason:
            return ""
        left = [name for name in SETTINGS if name in request]  # another worker may have found it meanwhile
        named = next((name for name in left if name in reason), "")
        return named or ("response_format" if "response_format" in left and not self._structured else "")

    def _reply(self, raw: bytes) -> Reply:
        """What is in the body of a reply with status 200, which need not be one."""
        try:
            body = json.loads(raw.decode())
            choice = body["choices"][0]
            message, usage = choice["message"], body.get("usage") or {}
            content = message.get("content") or ""
            if isinstance(content, list):  # in parts
                content = "".join(part.get("text") or "" for part in content)
            tokens = [_count(usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion")]
            text = str(content).encode(errors="replace").decode()  # half an emoji could not be sent back
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise _PassingError(self._safe(f"not a reply: {raw[:80].decode(errors='replace')!r}")) from None
        if is_secret(self._key) and _holds(text, self._key):
            raise _PassingError("a reply that repeats the key")
        refused = message.get("refusal") or choice.get("finish_reason") == "content_filter"
        return Reply(text, "refused" if refused else str(choice.get("finish_reason") or "stop"), *tokens)

    def _safe(self, reason: str) -> str:
        """The beginning of what an endpoint answered, unless it repeats the key; a placeholder for one is masked."""
        if is_secret(self._key) and _holds(reason, self._key):
            return "(it repeats the key, so this is not shown)"
        reason = " ".join(without_secrets(reason, self._key).split())
        return "(a web page)" if "<html" in reason.lower() else reason[:200]


@asynccontextmanager
async def open_endpoint(model: str, base_url: str, key: str = "", **options: Any) -> AsyncIterator[Chat]:
    """A `Chat`, closed at the end."""
    endpoint = Chat(model, base_url, key, **options)
    try:
        yield endpoint
    finally:
        await endpoint.close()


def check_url(base_url: str, has_key: bool, allow_http: bool = False) -> str:
    """Scheme, host and port of a base URL; a proxy on the way there is checked too.

    Raises: InputError, which never quotes what may be a key.

    >>> check_url("https://api.example.com/v1", True)
    'https://api.example.com'
    """
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:  # it quotes the URL
        raise InputError("the base URL is not a URL", fix="for example https://api.example.com/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("the base URL is not a URL", fix="for example https://api.example.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError("the base URL holds a user, a query or a fragment", fix="keys go into the environment")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    if parts.scheme == "http" and has_key and not _is_loopback(parts.hostname) and not allow_http:
        raise InputError("a key would go unencrypted over the network", where=place, fix="use https, or --allow-http")
    if not _is_loopback(parts.hostname):
        check_proxies()
    return place


def clean_key(key: str, variable: str = "") -> str:
    """A key less the blanks and line ends around it. Raises: InputError when no header can carry what is left."""
    key = key.strip()
    if not re.fullmatch("[!-~]*", key):
        what = "the key" + (f" in {variable}" if variable else "")
        raise InputError(f"{what} holds a blank, a line end or a character that is not ASCII", fix="copy it again")
    return key


def is_secret(key: str) -> bool:
    """Whether a key is a secret, which no answer may hold, and no placeholder for one, whose words an answer may.

    It has at least 16 characters, and at least one in six is a turn: a digit after a letter, a letter after a digit or
    a capital after a small letter. Words have next to no turns; 99 of 100 random keys in hexadecimal or base64 have
    enough. Tokens of the Hugging Face hub ("hf_"), which are letters alone, need none.

    >>> [is_secret(key) for key in ("lm-studio", "sk-no-key-required", "dummy-key-for-local-server")]
    [False, False, False]
    >>> is_secret("sk-proj-b7Kx02LmQ9fT4eWz"), is_secret("9f86d081884c7d659a2feaa0c55ad015")
    (True, True)
    >>> is_secret("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")
    True
    """
    turns = re.findall("[a-z](?=[A-Z0-9])|[A-Z](?=[0-9])|[0-9](?=[A-Za-z])", key)
    return len(key) >= SECRET and (key.startswith("hf_") or len(turns) * TURNS >= len(key))


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def _client(base_url: str, key: str) -> openai.AsyncOpenAI:
    """Raises: InputError for what this client alone takes for no URL."""
    import httpx2
    import openai

    for talker in ("openai", "httpx2", "httpcore2"):  # what they log of a reply may repeat the key
        logging.getLogger(talker).setLevel(logging.WARNING)
    options: dict[str, Any] = {"base_url": base_url, "api_key": key or "none", "max_retries": 0, "timeout": None}
    try:
        http = openai.DefaultAsyncHttpx2Client(
            trust_env=not _is_loopback(urlsplit(base_url).hostname or ""),  # a proxy has no business on loopback
            follow_redirects=False,
            timeout=None,  # `Chat` has a deadline over all; one for every read besides costs a tenth of the speed
            event_hooks={"response": [_cap()]},
            headers={"Accept-Encoding": "identity"},
        )
        return openai.AsyncOpenAI(http_client=http, **options)
    except (ValueError, httpx2.InvalidURL):  # it quotes the URL
        what = "the base URL, or a proxy in the environment, is not a URL"
        raise InputError(what, fix="see --base-url, HTTPS_PROXY, HTTP_PROXY and ALL_PROXY") from None


def _cap() -> Callable[[httpx2.Response], Awaitable[None]]:
    """What ends a reply in an error where it grows beyond what any answer needs."""
    import httpx2

    class Capped(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self.stream:
                size += len(chunk)
                if size > MAX_REPLY_BYTES:
                    raise ValueError(f"the reply is larger than {MAX_REPLY_BYTES:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    async def cap(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("it is compressed, though we asked it not to be")
        response.stream = Capped(response.stream)

    return cap


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an endpoint asks to wait; None where it asks for nothing that can be understood."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after", "")
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _fix(status: int, code: str) -> str:
    if code == "insufficient_quota" or status == 402:
        return f"raise the quota; {AGAIN}"
    if status in (401, 403):
        return f"see the key in its variable (OPENAI_API_KEY, or the one of --api-key-env); {AGAIN}"
    return f"correct --llm or --base-url; {AGAIN}"


def _holds(text: str, key: str) -> bool:
    """Whether a text repeats a run of the key."""
    text += re.sub(r"\\+u00([0-9a-fA-F]{2})", lambda code: chr(int(code[1], 16)), text)  # JSON in JSON hides it so
    return any(run in text for run in runs_of(key))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
