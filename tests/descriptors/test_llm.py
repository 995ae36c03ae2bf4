import asyncio
import base64
import gzip
import json
import logging
import random
import socket
import time
import traceback
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from string import ascii_letters, digits
from urllib.parse import quote

import pytest

from vlmdesc.descriptors.llm import ATTEMPTS, LOST, MAX_REPLY_BYTES, Chat, check_url, is_secret, open_endpoint
from vlmdesc.descriptors.prompts import schema
from vlmdesc.errors import AnswerError, EndpointError, InputError

pytestmark = pytest.mark.usefixtures("quick")
MESSAGES = [{"role": "user", "content": "hen?"}]
SAMPLING = {"temperature": 0.0, "max_tokens": 400}
KEY = "sk-cAnArY/9f+8Xq=7Lm/Zr4+Tt2"
ANSWERED = {"descriptors": ["a red comb", "a short beak"]}


def ask(url, times=1, sampling=SAMPLING, at_once=False, **options):
    """What came of each question, a reply or an error of ours, and the endpoint."""

    async def run():
        async with open_endpoint("tiny", url, **options) as endpoint:
            asked = (endpoint.answer(MESSAGES, schema(5), sampling) for _ in range(times))
            if at_once:
                return await asyncio.gather(*asked, return_exceptions=True), endpoint
            return [(await asyncio.gather(one, return_exceptions=True))[0] for one in asked], endpoint

    outcomes, endpoint = asyncio.run(run())
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, (AnswerError, EndpointError)):
            raise outcome
    return outcomes, endpoint


def slept():
    """A list, and a `sleep` that only writes into it."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    return waits, sleep


def without(script, setting, **error):
    """Answers of an endpoint that does not know a setting."""
    return lambda n, request: script.failed(400, **error) if setting in request else script.listed()


def test_a_good_reply_is_read_and_its_tokens_are_counted(serve):
    server = serve()
    (reply,), endpoint = ask(server.url, key=KEY)
    assert json.loads(reply.text) == ANSWERED
    assert (reply.finish, reply.tokens_in, reply.tokens_out) == ("stop", 7, 5)
    assert (endpoint.usage.calls, endpoint.usage.retries) == (1, 0)
    assert (endpoint.usage.tokens_in, endpoint.usage.tokens_out) == (7, 5)
    (request,), (headers,) = server.log, server.headers
    assert request["model"] == "tiny" and request["messages"] == MESSAGES
    assert request["temperature"] == 0 and request["max_tokens"] == 400
    assert request["response_format"]["json_schema"]["schema"] == schema(5)
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "status, code, says",
    [
        (401, "", "OPENAI_API_KEY"),
        (403, "", "--api-key-env"),
        (404, "model_not_found", "--llm or --base-url"),
        (402, "", "raise the quota"),
        (429, "insufficient_quota", "raise the quota"),
    ],
)
def test_what_will_not_get_better_ends_the_run_after_one_call(serve, script, status, code, says):
    server = serve(lambda n, request: script.failed(status, "so it is", code=code))
    (error,), _ = ask(server.url, key=KEY)
    assert isinstance(error, EndpointError) and len(server.log) == 1
    assert server.url.removesuffix("/v1") in str(error) and "'tiny'" in str(error)
    assert says in error.fix and "goes on from there" in error.fix
    assert str(status) in error.what and "so it is" in error.what


def test_a_web_page_for_a_404_is_not_quoted(serve):
    server = serve(lambda n, request: (404, b"<html><body>nginx</body></html>", {"Content-Type": "text/html"}))
    (error,), _ = ask(server.url)
    assert isinstance(error, EndpointError) and "nginx" not in str(error) and len(server.log) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(serve, status):
    other = serve()
    server = serve(lambda n, request: (status, b"", {"Location": other.url + "/chat/completions"}))
    (error,), _ = ask(server.url, key=KEY)
    assert isinstance(error, EndpointError) and "elsewhere" in error.what
    assert len(server.log) == 1 and not other.log


@pytest.mark.parametrize(
    "headers, low, high",
    [
        ({"Retry-After-Ms": "1500"}, 1.4, 1.5),
        ({"Retry-After": "2"}, 1.9, 2),
        ({"Retry-After": "2.5"}, 2.4, 2.5),
        ({"Retry-After-Ms": "1500", "Retry-After": "30"}, 1.4, 1.5),
        ({"Retry-After": "in 50 s"}, 5, 50),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, None, None),
        ({"Retry-After": "soon"}, 0, 0.01),
        ({"Retry-After": "-5"}, 0, 0.01),
        ({"Retry-After-Ms": "many"}, 0, 0.01),
        ({"Retry-After-Ms": "nan"}, None, None),
        ({"Retry-After": ""}, 0, 0.01),
        ({}, 0, 0.01),
    ],
)
def test_a_429_waits_as_long_as_it_asks_to(serve, script, headers, low, high):
    waits, sleep = slept()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)  # of now, not of the collection
    headers = {name: value.replace("in 50 s", date) for name, value in headers.items()}
    server = serve(lambda n, request: script.listed() if n else script.failed(429, headers=headers))
    (reply,), endpoint = ask(server.url, sleep=sleep)
    assert json.loads(reply.text) == ANSWERED
    assert (endpoint.usage.calls, endpoint.usage.retries) == (2, 1)
    waited = [wait for wait in waits if wait]
    if low is None:
        assert not waited
    elif low:
        assert len(waited) == 1 and low < waited[0] <= high
    else:  # our own back-off, which the time between two lines may swallow
        assert all(wait <= high for wait in waited)


@pytest.mark.parametrize("value", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT", "9" * 400])
@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_asks_for_an_hour_ends_the_run(serve, script, status, value):
    server = serve(lambda n, request: script.failed(status, headers={"Retry-After": value}))
    (error,), _ = ask(server.url)
    assert isinstance(error, EndpointError) and "asks to wait" in error.what and len(server.log) == 1
    assert "goes on from there" in error.fix


def test_what_one_worker_is_asked_to_wait_for_all_wait_for(serve, script):
    server = serve(lambda n, request: script.listed() if n else script.failed(429, headers={"Retry-After-Ms": "600"}))

    async def run():
        async with open_endpoint("tiny", server.url) as endpoint:
            first = asyncio.create_task(endpoint.answer(MESSAGES, schema(5), SAMPLING))
            while endpoint._next <= time.monotonic():
                await asyncio.sleep(0.005)
            started = time.monotonic()
            await endpoint.answer(MESSAGES, schema(5), SAMPLING)
            waited = time.monotonic() - started
            await first
            return waited

    assert asyncio.run(run()) > 0.3


TRANSIENT = {
    "500": lambda s: s.failed(500),
    "503 page": lambda s: (503, b"<html>Service Unavailable</html>", {"Content-Type": "text/html"}),
    "408": lambda s: s.failed(408),
    "409": lambda s: s.failed(409),
    "reset": lambda s: s.reset,
    "reset in body": lambda s: s.reset_in_body,
    "closed in body": lambda s: s.closed_in_body,
    "cut chunk": lambda s: s.cut_in_chunk,
    "no HTTP": lambda s: lambda handler: handler.write(b"hello\r\n\r\n"),
    "page": lambda s: (200, b"<html>captive portal</html>", {"Content-Type": "text/html"}),
    "empty": lambda s: b"",
    "204": lambda s: (204, b"", {}),
    "null": lambda s: b"null",
    "list": lambda s: b"[]",
    "number": lambda s: b"7",
    "broken": lambda s: b'{"choices":[',
    "deep": lambda s: b'{"choices":' + b"[" * 100_000,
    "latin-1": lambda s: json.dumps(s.said("café"), ensure_ascii=False).encode("latin-1"),
    "error in 200": lambda s: {"error": {"message": "upstream died", "code": 502}},
    "choices none": lambda s: {"choices": []},
    "choices null": lambda s: {"choices": None},
    "choice null": lambda s: {"choices": [None]},
    "message null": lambda s: {"choices": [{"message": None}]},
    "usage a list": lambda s: s.listed() | {"usage": [1]},
    "parts of numbers": lambda s: s.said([1, 2]),
    "gzip": lambda s: (200, gzip.compress(json.dumps(s.listed()).encode()), {"Content-Encoding": "gzip"}),
    "400 in gzip": lambda s: (400, gzip.compress(b"{}"), {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_what_may_pass_is_tried_again(serve, script, fault):
    server = serve(lambda n, request: fault(script) if n < 2 else script.listed())
    (reply,), endpoint = ask(server.url)
    assert json.loads(reply.text) == ANSWERED and len(server.log) == 3
    assert (endpoint.usage.calls, endpoint.usage.retries, endpoint.usage.tokens_in) == (3, 2, 7)


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_what_does_not_pass_costs_five_calls_and_this_question_alone(serve, script, fault):
    server = serve(lambda n, request: fault(script) if n < ATTEMPTS else script.listed())
    (error, reply), _ = ask(server.url, times=2)
    assert isinstance(error, AnswerError) and error.code == "no-reply"
    assert json.loads(reply.text) == ANSWERED and len(server.log) == ATTEMPTS + 1
    assert len(str(error)) < 400 and "<html" not in str(error)


def test_nobody_at_the_port_is_no_connection():
    with socket.socket() as taken:  # bound, so that nobody else gets it, and deaf
        taken.bind(("127.0.0.1", 0))
        (error,), _ = ask(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
    assert isinstance(error, AnswerError) and "no connection" in error.what


@pytest.mark.parametrize("fault", ["stall", "stall_in_body", "drip", "drip_head"])
def test_the_deadline_is_over_the_whole_call(serve, script, monkeypatch, fault):
    monkeypatch.setattr("vlmdesc.descriptors.llm.ATTEMPTS", 2)
    server = serve(lambda n, request: getattr(script, fault) if n else script.listed())

    async def run():
        async with open_endpoint("tiny", server.url, timeout_s=0.5) as endpoint:
            await endpoint.answer(MESSAGES, schema(5), SAMPLING)  # the first call loads much
            started = time.monotonic()
            with pytest.raises(AnswerError, match=r"no whole reply within 0\.5 s") as caught:
                await endpoint.answer(MESSAGES, schema(5), SAMPLING)
            assert caught.value.code == "no-reply"
            return time.monotonic() - started

    assert 0.98 < asyncio.run(run()) < 1.2
    assert len(server.log) == 3


@pytest.mark.parametrize(
    "reply, text, finish",
    [
        (lambda s: s.said(None), "", "stop"),
        (lambda s: s.said(""), "", "stop"),
        (lambda s: s.said([{"type": "text", "text": "one, "}, {"type": "text", "text": "two"}]), "one, two", "stop"),
        (lambda s: s.said([{"type": "image"}, {"text": "two"}]), "two", "stop"),
        (lambda s: s.said("cut", "length"), "cut", "length"),
        (lambda s: s.said(None, refusal="I cannot"), "", "refused"),
        (lambda s: s.said("", "content_filter"), "", "refused"),
        (lambda s: s.said("x", None), "x", "stop"),
        (lambda s: s.said(None, tool_calls=[{"id": "1"}]), "", "stop"),
        (lambda s: s.said("a comb \ud83d"), "a comb ?", "stop"),
    ],
)
def test_forms_of_a_reply(serve, script, reply, text, finish):
    server = serve(lambda n, request: reply(script))
    (found,), _ = ask(server.url)
    assert (found.text, found.finish) == (text, finish) and len(server.log) == 1


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": -5, "completion_tokens": "9"}])
def test_tokens_that_are_none_count_as_none(serve, script, usage):
    server = serve(lambda n, request: script.listed() | {"usage": usage})
    (reply,), endpoint = ask(server.url)
    assert (reply.tokens_in, reply.tokens_out) == (0, 0) == (endpoint.usage.tokens_in, endpoint.usage.tokens_out)


@pytest.mark.parametrize("status", [200, 400])
def test_a_huge_reply_is_refused_before_it_is_in_memory(serve, monkeypatch, status):
    monkeypatch.setattr("vlmdesc.descriptors.llm.ATTEMPTS", 1)
    server = serve(lambda n, request: server.endless if n else b"")
    ask(server.url)
    tracemalloc.start()
    try:
        (error,), _ = ask(server.url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(error, AnswerError) and "larger than" in error.what
    assert peak < 6 * MAX_REPLY_BYTES and server.written < 2**24


def test_two_megabytes_are_too_much_and_half_of_one_is_not(serve, script):
    server = serve(lambda n, request: script.said("x" * (2**21 if n < ATTEMPTS else 2**19)))
    (error, reply), _ = ask(server.url, times=2)
    assert "larger than 1,048,576 bytes" in error.what and len(reply.text) == 2**19


def test_max_tokens_becomes_max_completion_tokens_for_good(serve, script):
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server = serve(without(script, "max_tokens", message=said, param="max_tokens"))
    replies, endpoint = ask(server.url, times=3)
    assert all(json.loads(reply.text) == ANSWERED for reply in replies)
    assert ["max_tokens" in request for request in server.log] == [True, False, False, False]
    assert [request.get("max_completion_tokens") for request in server.log] == [None, 400, 400, 400]
    assert all("response_format" in request for request in server.log) and endpoint.usage.retries == 1


def test_a_temperature_that_is_not_taken_is_left_out_for_good(serve, script):
    said = "'temperature' does not support 0.0 with this model."
    server = serve(without(script, "temperature", message=said))
    replies, _ = ask(server.url, times=3)
    assert all(json.loads(reply.text) == ANSWERED for reply in replies)
    assert ["temperature" in request for request in server.log] == [True, False, False, False]
    assert all(request["max_tokens"] == 400 and "response_format" in request for request in server.log)


@pytest.mark.parametrize("said", ["response_format is not supported", "Bad Request", ""])
def test_an_endpoint_without_response_format_is_found_once(serve, script, said):
    server = serve(without(script, "response_format", message=said))
    replies, endpoint = ask(server.url, times=20)
    assert all(json.loads(reply.text) == ANSWERED for reply in replies)
    assert len(server.log) == 21 == endpoint.usage.calls
    assert ["response_format" in request for request in server.log] == [True] + 20 * [False]


@pytest.mark.parametrize(
    "body",
    [
        {"error": "unknown field max_tokens"},
        {"message": "max_tokens: extra fields not permitted", "type": "BadRequestError"},
        {"detail": [{"loc": ["body", "max_tokens"], "msg": "extra fields not permitted"}]},
        {"error": {"param": "max_tokens"}},
        b"unknown field: max_tokens",
    ],
)
def test_a_missing_setting_is_read_in_whatever_form_it_is_named(serve, script, body):
    server = serve(lambda n, request: (400, body, {}) if "max_tokens" in request else script.listed())
    (reply,), _ = ask(server.url)
    assert json.loads(reply.text) == ANSWERED and len(server.log) == 2 and "response_format" in server.log[1]


def test_an_endpoint_that_lacks_three_settings_still_answers(serve, script):
    lacks = ("max_tokens", "temperature", "response_format")

    def respond(n, request):
        named = next((name for name in lacks if name in request), "")
        return script.failed(422, f"unknown field: {named}") if named else script.listed()

    server = serve(respond)
    replies, _ = ask(server.url, times=5)
    assert all(json.loads(reply.text) == ANSWERED for reply in replies) and len(server.log) == 8


def test_workers_that_find_a_missing_setting_together_are_all_answered(serve, script):
    server = serve(without(script, "max_tokens", message="max_tokens is not supported"))
    replies, _ = ask(server.url, times=8, at_once=True)
    assert [json.loads(reply.text) for reply in replies] == 8 * [ANSWERED]
    assert len(server.log) <= 16


def test_a_setting_that_was_not_sent_is_not_what_is_lacking(serve, script):
    said = "set max_tokens, seed and top_p"
    server = serve(lambda n, request: script.listed() if n else script.failed(400, said))
    (reply, other), _ = ask(server.url, times=2, sampling={})
    assert json.loads(reply.text) == ANSWERED == json.loads(other.text)
    assert len(server.log) == 3 and "response_format" not in server.log[1]


def test_without_max_tokens_a_prompt_that_sets_none_is_asked_as_well(serve, script):
    server = serve(without(script, "max_tokens", message="no max_tokens here"))

    async def run():
        async with open_endpoint("tiny", server.url) as endpoint:
            await endpoint.answer(MESSAGES, schema(5), SAMPLING)
            await endpoint.answer(MESSAGES, schema(5), {"temperature": 0.5})

    asyncio.run(run())
    assert "max_completion_tokens" not in server.log[-1]


@pytest.mark.parametrize(
    "error",
    [
        {"message": "too long", "code": "context_length_exceeded"},
        {"message": "This model's maximum context length is 4096 tokens; lower max_tokens"},
    ],
)
def test_a_question_that_is_too_long_is_its_own_fault_alone(serve, script, error):
    server = serve(lambda n, request: script.listed() if n else script.failed(400, **error))
    (refused, reply), _ = ask(server.url, times=2)
    assert isinstance(refused, AnswerError) and refused.code == "http-400"
    assert json.loads(reply.text) == ANSWERED and len(server.log) == 2
    assert "response_format" in server.log[1] and "max_tokens" in server.log[1]


def test_a_400_after_answers_is_no_reason_to_drop_the_schema(serve, script):
    server = serve(lambda n, request: script.failed(400, "bad content") if n == 1 else script.listed())
    (_, refused, reply), _ = ask(server.url, times=3)
    assert isinstance(refused, AnswerError) and refused.code == "http-400" and "bad content" in refused.what
    assert json.loads(reply.text) == ANSWERED and "response_format" in server.log[2]


def test_a_400_for_whatever_is_asked_ends_each_question(serve, script):
    server = serve(lambda n, request: script.failed(400, "no"))
    outcomes, _ = ask(server.url, times=3)
    assert [outcome.code for outcome in outcomes] == 3 * ["http-400"] and len(server.log) == 4


def test_calls_are_spaced_by_the_limit_of_calls_in_a_minute(serve):
    waits, sleep = slept()
    server = serve()
    ask(server.url, times=4, per_minute=6.0, sleep=sleep, at_once=True)
    assert len(server.log) == 4
    assert waits == pytest.approx([10, 20, 30], abs=1)


def test_retries_count_as_calls_by_the_limit(serve, script):
    waits, sleep = slept()
    server = serve(lambda n, request: script.listed() if n else script.failed(500))
    ask(server.url, per_minute=6.0, sleep=sleep)
    assert max(waits) == pytest.approx(10, abs=1)


def test_without_a_limit_nothing_waits(serve):
    waits, sleep = slept()
    ask(serve().url, times=5, sleep=sleep)
    assert not waits


def test_back_off_doubles(serve, script, monkeypatch):
    monkeypatch.setattr("vlmdesc.descriptors.llm.BACKOFF_S", 1.0)
    waits, sleep = slept()
    server = serve(lambda n, request: script.failed(500))
    ask(server.url, sleep=sleep)
    assert waits == [pytest.approx(wait, rel=0.26) for wait in (1, 2, 4, 8)]
    assert len({round(wait % 1, 6) for wait in waits}) == 4  # with jitter, so that workers do not march in step


def test_five_questions_in_a_row_without_a_reply_end_the_run(serve, script):
    server = serve(lambda n, request: script.listed() if n == 0 else script.failed(500, "boom"))
    outcomes, _ = ask(server.url, times=1 + LOST)
    assert [type(outcome) for outcome in outcomes[1:]] == (LOST - 1) * [AnswerError] + [EndpointError]
    assert "5 questions in a row" in outcomes[-1].what and "boom" in outcomes[-1].what
    assert len(server.log) == 1 + LOST * ATTEMPTS


def test_a_reply_in_between_starts_the_count_again(serve, script):
    lost = (LOST - 1) * ATTEMPTS
    server = serve(lambda n, request: script.listed() if n == lost else script.failed(500))
    outcomes, _ = ask(server.url, times=2 * LOST - 1)
    assert not any(isinstance(outcome, EndpointError) for outcome in outcomes)


def test_no_key_is_no_authorization_header(serve, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    server = serve()
    (reply,), _ = ask(server.url)
    assert json.loads(reply.text) == ANSWERED
    assert "Authorization" not in server.headers[0] and KEY not in str(server.headers[0].items())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_has_no_business_on_loopback(serve, monkeypatch, host):
    proxy, server = serve(), serve()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    ask(server.url.replace("127.0.0.1", host), key=KEY)
    assert len(server.log) == 1 and not proxy.log
    ask("http://model.invalid/v1")  # elsewhere it is used
    assert len(proxy.log) == 1


SECRET_URLS = {
    "user": "https://cAnArY7:x@api.example.com/v1",
    "password": "https://:cAnArY7@api.example.com/v1",
    "query": "https://api.example.com/v1?api-key=cAnArY7",
    "fragment": "https://api.example.com/v1#cAnArY7",
    "scheme": "ftp://api.example.com/cAnArY7",
    "no scheme": "api.example.com/cAnArY7",
    "no host": "https:///cAnArY7",
    "file": "file:///cAnArY7",
    "port": "https://api.example.com:cAnArY7/v1",
    "user without host": "https://user:cAnArY7",
    "bad host": "https://[cAnArY7]/v1",
    "big port": "https://api.example.com:99999/cAnArY7",
    "LAN": "http://192.168.1.9:8000/cAnArY7",
    "not loopback": "http://127.0.0.1.example.com/cAnArY7",
    "any": "http://0.0.0.0:8000/cAnArY7",
}


@pytest.mark.parametrize("url", SECRET_URLS.values(), ids=SECRET_URLS)
def test_a_url_that_cannot_be_used_is_refused_and_what_may_be_a_key_in_it_is_not_quoted(url):
    for attempt in (lambda: check_url(url, True), lambda: Chat("tiny", url, KEY)):
        with pytest.raises(InputError) as caught:
            attempt()
        assert caught.value.fix
        printed = "".join(
            traceback.format_exception_only(e)[0] for e in chain(caught.value)
        )  # not format_exception: it quotes this file
        assert "canary7" not in printed.casefold()


@pytest.mark.parametrize("url", ["https://api.example.com/\x01cAnArY7", "https://é\u200bcAnArY7.example.com/v1"])
def test_a_url_that_only_the_client_refuses_is_not_quoted(url):
    with pytest.raises(InputError) as caught:
        Chat("tiny", url)
    assert caught.value.fix and all("cAnArY7" not in str(error) for error in chain(caught.value))


def chain(error):
    """An error and those that Python would print before it."""
    while error:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    "url, has_key, place",
    [
        ("https://api.example.com/v1", True, "https://api.example.com"),
        ("https://api.example.com:8443/v1/", True, "https://api.example.com:8443"),
        ("http://127.0.0.1:8000/v1", True, "http://127.0.0.1:8000"),
        ("http://127.9.9.9:8000/v1", True, "http://127.9.9.9:8000"),
        ("http://LocalHost/v1", True, "http://localhost"),
        ("http://[::1]:8000/v1", True, "http://[::1]:8000"),
        ("http://192.168.1.9:8000/v1", False, "http://192.168.1.9:8000"),
    ],
)
def test_urls_that_can_be_used(url, has_key, place):
    assert check_url(url, has_key) == place


def test_a_key_goes_unencrypted_over_a_network_only_when_that_is_allowed():
    assert check_url("http://192.168.1.9/v1", True, allow_http=True) == "http://192.168.1.9"
    with pytest.raises(InputError, match="--allow-http"):
        check_url("http://192.168.1.9/v1", True)


FORMS = {
    "raw": KEY,
    "header": f"Bearer {KEY}",
    "URL": quote(KEY, safe=""),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of a user": base64.b64encode(f"me:{KEY}".encode()).decode(),
    "a part": KEY[3:11],
    "the end": KEY[-8:],
}
ECHOES = {
    "401": lambda s, said: s.failed(401, f"wrong key: {said}"),
    "500": lambda s, said: s.failed(500, f"boom {said}"),
    "400": lambda s, said: s.failed(400, f"bad {said}", code="context_length_exceeded"),
    "400 plain": lambda s, said: (400, said.encode(), {"Content-Type": "text/plain"}),
    "429": lambda s, said: s.failed(429, said, code="insufficient_quota"),
    "redirect": lambda s, said: (307, b"", {"Location": "https://example.com/#" + quote(said)}),
    "answer": lambda s, said: s.said(json.dumps({"descriptors": [f"a red {said}", "a short beak"]})),
    "refusal": lambda s, said: s.said(None, refusal=said),
    "finish": lambda s, said: s.said("no", finish=said),
    "reason": lambda s, said: lambda handler: handler.write(f"HTTP/1.1 401 {said}\r\n\r\n".encode()),
    "header": lambda s, said: (500, b"", {"X-Request-Id": said}),
    "no reply": lambda s, said: {"error": said},
    "broken": lambda s, said: b'{"cho' + said.encode(),
    "no HTTP": lambda s, said: lambda handler: handler.write(said.encode() + b"\r\n\r\n"),
}


def runs(text):
    return {text[i : i + 8] for i in range(len(text) - 7)}


def gives_away(text):
    """The runs of eight characters of the key, in any of its forms, that a text holds."""
    encoded = [base64.b64encode(b"\0" * i + KEY.encode())[2 * i : -4].decode() for i in range(3)]
    return sorted(run for form in (KEY, quote(KEY, safe=""), *encoded) for run in runs(form) if run in text)


def test_the_canary_is_found_in_each_of_its_forms():
    assert all(gives_away(f"it is {form}.") for form in FORMS.values()) and not gives_away("Bearer none")


@pytest.mark.parametrize("said", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_key_that_comes_back_is_shown_nowhere(serve, script, caplog, capfd, echo, said):
    for name in (None, "openai", "httpx2", "httpcore2", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    server = serve(lambda n, request: echo(script, said))
    (outcome,), endpoint = ask(server.url, key=KEY)
    shown = [repr(endpoint), repr(vars(outcome) if isinstance(outcome, Exception) else outcome.text)]
    if isinstance(outcome, Exception):
        shown += [repr(outcome), str(outcome), *traceback.format_exception(outcome)]
    shown += [f"{record.getMessage()} {record.exc_text}" for record in caplog.records]
    shown += capfd.readouterr()
    assert caplog.records and not gives_away("\n".join(shown))


def test_an_answer_that_repeats_the_key_is_no_answer(serve, script):
    server = serve(lambda n, request: script.listed() if n else script.said(f'["a comb", "{KEY}"]'))
    (reply,), endpoint = ask(server.url, key=KEY)
    assert json.loads(reply.text) == ANSWERED and endpoint.usage.calls == 2


SECRETS = {
    "OpenAI": "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb7cDe0f",
    "older": "sk-Zk39fTq8LmW2xVb7RnY4cHs6",
    "Anthropic": "sk-ant-api03-Xk2Lq9-Tb7_mWz4RfVn8sYc1HdGj5pQe",
    "OpenRouter": "sk-or-v1-3f9a0c7be84d21560f9e8d7c6b5a49382716f5e4d3c2b1a0",
    "Groq": "gsk_t7Hx2Kq9LmB4vNz8WcRd3YfJ6sPa",
    "Google": "AIzaSyD8k2Lq9_Tb7mWz4RfVn8sYc1HdGj5pQeX",
    "Azure": "9f86d081884c7d659a2feaa0c55ad015",
    "UUID": "3f2b8c1e-7a4d-4e9b-b5c6-0d1f2a3e4b5c",
    "JWT": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiJ9.3q2-7wB8Kx9LmZ0tRf5vYc",
    "Hugging Face": "hf_kQ7wE2rT9yU4iO1pA6sD3fG8hJ5kL0",
}
PLACEHOLDERS = (
    "lm-studio ollama sk-no-key-required EMPTY none not-needed dummy-key-for-local-server your-api-key-here "
    "sk-not-a-real-key-0000 sk-xxxxxxxxxxxxxxxxxxxxxxxx sk-1234567890abcdef placeholder-api-key-0123456789 "
    "gpt4all-local-key-v1 correct-horse-battery-staple 1234567890123456 a1b2c3d4"
).split()


def test_what_is_a_secret_and_what_stands_in_for_one():
    assert not [key for key in SECRETS.values() if not is_secret(key)]
    assert not [key for key in (*PLACEHOLDERS, "") if is_secret(key)]


@pytest.mark.parametrize(
    "before, alphabet, n", [("", "0123456789abcdef", 32), ("", ascii_letters + digits, 20), ("hf_", ascii_letters, 34)]
)
def test_nearly_all_random_keys_are_secrets(before, alphabet, n):
    chance = random.Random(5)  # noqa: S311
    assert sum(is_secret(before + "".join(chance.choices(alphabet, k=n))) for _ in range(2000)) >= 0.99 * 2000


@pytest.mark.parametrize("key", PLACEHOLDERS)
def test_no_good_answer_is_thrown_away_for_a_placeholder(serve, script, key):
    server = serve(lambda n, request: script.listed("lamps of a film-studio", f"{key} on a sign"))
    (reply,), _ = ask(server.url, key=key)
    assert key in reply.text and len(server.log) == 1


def test_a_key_is_sent_without_the_blanks_around_it_and_not_at_all_with_some_in_it(serve):
    server = serve()
    ask(server.url, key=f" {KEY}\r\n")
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(InputError, match="blank") as caught:
        Chat("tiny", server.url, f"{KEY}\n{KEY}")
    assert not gives_away(str(caught.value))


def test_a_key_that_json_within_json_hides_is_seen(serve, script):
    hidden = "".join(f"\\u{ord(c):04x}" for c in KEY)
    server = serve(lambda n, request: script.said('{"descriptors": ["' + hidden + '"]}'))
    (error,), _ = ask(server.url, key=KEY)
    assert isinstance(error, AnswerError) and "repeats the key" in error.what
