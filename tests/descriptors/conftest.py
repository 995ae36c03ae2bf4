"""A chat endpoint on loopback that answers as a test says, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Scripted:
    """`respond(n, request)` tells the n-th answer, from 0: what `said`, `failed`, `cut` and their like return.

    That is a JSON value or bytes (status 200), (status, body, headers), or a function of the handler.
    `log` has each request's JSON, `headers` its headers, `most` is how many were in flight at once.
    """

    def __init__(self, respond):
        self.respond, self.log, self.headers, self.most = respond, [], [], 0
        self.closing, self.written, self._in_flight, self._lock = threading.Event(), 0, 0, threading.Lock()

    @staticmethod
    def said(content, finish="stop", tokens=(7, 5), **message):
        """A good reply."""
        usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        message = {"role": "assistant", "content": content, **message}
        return {"id": "x", "choices": [{"index": 0, "finish_reason": finish, "message": message}], "usage": usage}

    @staticmethod
    def listed(*texts):
        """A good reply that holds these descriptors."""
        return Scripted.said(json.dumps({"descriptors": texts or ("a red comb", "a short beak")}))

    @staticmethod
    def failed(status, message="no", headers=None, **error):
        return status, {"error": {"message": message, **error}}, headers or {}

    @staticmethod
    def reset(handler):
        """Close so that the other side hears of a reset."""
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    @staticmethod
    def reset_in_body(handler):
        handler.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b'{"id": "x", "cho')
        Scripted.reset(handler)

    @staticmethod
    def closed_in_body(handler):
        handler.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b'{"id": "x", "cho')

    @staticmethod
    def cut_in_chunk(handler):
        handler.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"id": "x", "cho')

    @staticmethod
    def stall(handler):
        handler.server.scripted.closing.wait(10)

    @staticmethod
    def stall_in_body(handler):
        handler.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
        handler.server.scripted.closing.wait(10)

    @staticmethod
    def drip(handler):
        """A byte every 50 ms, which no time-out between two bytes ends."""
        handler.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        while not handler.server.scripted.closing.wait(0.05):
            handler.write(b" ")

    @staticmethod
    def drip_head(handler):
        handler.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not handler.server.scripted.closing.wait(0.05):
            handler.write(b"x")

    def endless(self, handler):
        """64 MiB, or what the other side takes of them."""
        handler.write(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(1024):
            handler.write(b" " * 65536)
            self.written += 65536

    def take(self, handler):
        size = int(handler.headers.get("Content-Length") or 0)
        request = json.loads(handler.rfile.read(size) or b"null")
        with self._lock:
            n = len(self.log)
            self.log.append(request)
            self.headers.append(handler.headers)
            self._in_flight += 1
            self.most = max(self.most, self._in_flight)
        try:
            answer = self.respond(n, request)
            with self._lock:  # before the answer is out, so that the next request never meets this one
                self._in_flight -= 1
        except BaseException:
            handler.close_connection = True
            raise
        if callable(answer):
            handler.close_connection = True
            answer(handler)
            return
        status, body, headers = answer if isinstance(answer, tuple) else (200, answer, {})
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Such", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
        handler.write("\r\n".join([*lines, "", ""]).encode() + body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def write(self, data):
        self.wfile.write(data)

    def do_POST(self):
        self.close_connection = self.headers.get("Connection") == "close"
        try:
            self.server.scripted.take(self)
        except OSError:  # the other side is gone
            self.close_connection = True

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args):
        pass

    def finish(self):
        with suppress(OSError):
            super().finish()


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # the other side may go at any time
            raise

    def shutdown_request(self, request):
        with suppress(OSError):
            super().shutdown_request(request)


@contextmanager
def _serving(respond):
    scripted = Scripted(respond)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.scripted = scripted
        scripted.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield scripted
        finally:
            scripted.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def serve():
    """`serve(respond)` starts a `Scripted` endpoint. Without `respond`, it always answers well."""
    with ExitStack() as stack:
        yield lambda respond=lambda n, request: Scripted.listed(): stack.enter_context(_serving(respond))


@pytest.fixture
def script() -> type[Scripted]:
    """What a `Scripted` endpoint can answer."""
    return Scripted


@pytest.fixture
def quick(monkeypatch):
    """Retries that hardly wait."""
    monkeypatch.setattr("vlmdesc.descriptors.llm.BACKOFF_S", 0.001)
