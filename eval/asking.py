"""The generation of `make bench`: a loopback server that answers in 50 ms, in a process of its own.

python -m eval.asking      serves until standard input ends, after it has printed its port
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen

from vlmdesc.cache import Answers
from vlmdesc.descriptors.generate import Generation, Outcome, Question, questions
from vlmdesc.descriptors.llm import open_endpoint
from vlmdesc.descriptors.prompts import open_prompt
from vlmdesc.records import ClassName

ANSWER_S = 0.05
CONTENT = json.dumps({"descriptors": [f"a feature of kind {i}" for i in range(6)]})
REPLY = {
    "choices": [{"finish_reason": "stop", "message": {"content": CONTENT}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}


def measured(n: int, concurrency: int) -> tuple[float, float]:
    """Seconds to ask about `n` classes at once so many, and to do it again from the cache."""
    classes = [ClassName(f"class {i}", f"class {i}") for i in range(n)]
    with (
        Popen([sys.executable, "-m", "eval.asking"], stdin=PIPE, stdout=PIPE) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        assert server.stdin and server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        asked = questions(open_prompt("dclip"), classes, 6, "bench")
        heard: list[Outcome] = []

        def on(_: Question, outcome: Outcome) -> None:
            heard.append(outcome)

        generation = Generation(lambda: open_endpoint("bench", url), Answers(Path(folder)), concurrency, on=on)
        generation(questions(open_prompt("dclip"), [ClassName("first", "first")], 6, "bench"))  # imports the client
        first, again = seconds(generation, asked), seconds(generation, asked)
        assert len(heard) == 2 * n + 1
        server.stdin.close()
    return first, again


def seconds(generation: Generation, asked: Sequence[Question]) -> float:
    began = time.perf_counter()
    generation(asked)
    return time.perf_counter() - began


async def serve() -> None:
    body = json.dumps(REPLY).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client is done
            while request := await reader.readuntil(b"\r\n\r\n"):
                length = int(request.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                await asyncio.sleep(ANSWER_S)
                writer.write(head + body)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
