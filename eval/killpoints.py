"""kill -9 at every I/O call of `vlmdesc embed`, then look at the store, start again, and look once more.

    python -m eval.killpoints [--points 250] [--nested 0] [--strace] [--json]

The real command runs with the fake encoder on small pictures. By default each run is a fork of this process that is
killed as it enters its K-th mkdir, open for writing, write, fsync, rename or unlink, K = 1, 2, 3 ...; with --strace it
is a process of its own, and the kernel kills it as it enters such a system call, each kind of call in turn. --nested
kills restarts too.

lost        acknowledged (the store's `put` had returned), but not there afterwards, bit for bit
unreadable  the store could not be opened
stuck       the restart failed
repaid      pictures encoded twice beyond the batch in flight
twice       contents stored more than once, or vectors other than those of a run that nobody killed
"""

from __future__ import annotations

import argparse
import builtins
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlmdesc.cli.app import app
from vlmdesc.encode.picture import content_key
from vlmdesc.encode.shelf import Shelf
from vlmdesc.encode.store import Store
from vlmdesc.errors import VlmdescError
from vlmdesc.testing import FakeEncoder

PICTURES, BATCH = 72, 2
CALLS = ("rename", "fsync", "unlink", "mkdir", "write")
PATCHED = ((os, "mkdir"), (builtins, "open"), (os, "fsync"), (os, "replace"), (os, "rename"), (os, "unlink"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=250, help="kill points at most")
    parser.add_argument("--every", type=int, default=1, help="only each such kill point")
    parser.add_argument("--nested", type=int, default=0, help="of these, how many kill the restart as well")
    parser.add_argument("--strace", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("DATA", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        embed(Path(options.child[0]), Path(options.child[1]), 0)
    else:
        report = kill_all(options.points, options.every, options.nested, options.strace)
        print(json.dumps(report) if options.json else "  ".join(f"{what} {n}" for what, n in report.items()))


def kill_all(points: int, every: int, nested: int, strace: bool) -> dict[str, int | float]:
    """Counts over all kill points, each 0 where nothing was lost, plus how many there were and the seconds."""
    began, found, kills = time.perf_counter(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as place:
        data, cache = pictures(Path(place) / "data"), Path(place) / "cache"
        run(data, Path(place) / "whole", "", 0)
        whole = vectors(Path(place) / "whole", data)
        for call in CALLS if strace else ("",):  # strace counts each kind of call by itself
            for at in range(1, 1 + every * points, every):
                if kills == points or not run(data, cache, call, at):  # it came to its end before that call
                    shutil.rmtree(cache, ignore_errors=True)
                    break
                twice = kills < nested and run(data, cache, call, 1 + at // 2)
                found += judge(data, cache, whole, 1 + twice)
                kills += 1
                shutil.rmtree(cache)
    counts = {what: found[what] for what in ("lost", "unreadable", "stuck", "repaid", "twice")}
    return {"kill points": kills, **counts, "seconds": round(time.perf_counter() - began, 1)}


def judge(data: Path, cache: Path, whole: np.ndarray, kills: int) -> Counter[str]:
    """What a killed run left, and what the next run makes of it."""
    found = Counter[str]()
    keys = [content_key(path.read_bytes()) for path in sorted(data.iterdir())]
    acknowledged = {bytes.fromhex(line) for line in lines(cache, "acknowledged")}
    try:
        kept = Store(cache).images(FakeEncoder()).get(keys)
        intact = (kept.vectors == whole).all(axis=1) & kept.good if kept.vectors.size else kept.good
        found["lost"] = sum(not ok for key, ok in zip(keys, intact, strict=True) if key in acknowledged)
    except VlmdescError:
        found["unreadable"] = 1
    try:
        run(data, cache, "", 0)
        found["twice"] += not np.array_equal(vectors(cache, data), whole)
        found["twice"] += sum(map(len, Store(cache).images(FakeEncoder()).parts)) - PICTURES
    except (VlmdescError, AssertionError):
        found["stuck"] = 1
    found["repaid"] = max(0, sum(map(int, lines(cache, "encoded"))) - PICTURES - kills * BATCH)
    return found


def run(data: Path, cache: Path, call: str, kill_at: int) -> bool:
    """Run the command; whether it was killed. Raises: AssertionError when it ended badly of its own."""
    cache.mkdir(exist_ok=True)
    if call:
        trace = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}"]
        inject = ["-e", f"inject={call}:signal=SIGKILL:when={kill_at}"]
        child = [sys.executable, "-m", "eval.killpoints", "--child", str(data), str(cache)]
        command = trace + inject + child
        code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    else:
        pid = os.fork()
        if not pid:
            embed(data, cache, kill_at)
        code = os.waitpid(pid, 0)[1]
        killed = code == signal.SIGKILL
    assert killed or code == 0, f"vlmdesc embed ended with {code}"
    return killed


def embed(data: Path, cache: Path, kill_at: int) -> None:
    """`vlmdesc embed` in this process, with a log of what it encodes and what it says is stored. Does not return."""
    code = 1
    try:
        os.environ["VLMDESC_CACHE"] = str(cache)
        logged(cache)
        if kill_at:
            count_down(kill_at)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        app(["embed", str(data), "--model", "fake", "--batch-size", str(BATCH), "--workers", "1"])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def logged(cache: Path) -> None:
    """Write down each acknowledgement and each picture encoded, on files that no kill point counts."""
    logs = {name: os.open(cache / f"{name}.log", os.O_APPEND | os.O_CREAT | os.O_WRONLY) for name in LOGS}
    put, forward = Shelf.put, FakeEncoder.forward

    def logged_put(self: Shelf, keys: list[bytes], *rest: Any) -> None:
        put(self, keys, *rest)
        os.write(logs["acknowledged"], "".join(f"{key.hex()}\n" for key in keys).encode())

    def logged_forward(self: FakeEncoder, pixels: np.ndarray) -> np.ndarray:
        os.write(logs["encoded"], f"{len(pixels)}\n".encode())
        return forward(self, pixels)

    Shelf.put, FakeEncoder.forward = logged_put, logged_forward  # type: ignore[assignment,method-assign]


LOGS = ("acknowledged", "encoded")


def count_down(calls: int) -> None:
    """Kill this process as it enters the given one of its calls that change the disk."""
    left = [calls]

    def enter() -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    def patched(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if call is not real_open:
                enter()
                return call(*args, **kwargs)
            mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
            if mode == "r" or mode == "rb":
                return call(*args, **kwargs)
            enter()
            file = call(*args, **kwargs)
            return Torn(file, enter)

        return counted

    real_open = builtins.open
    for module, name in PATCHED:
        setattr(module, name, patched(getattr(module, name)))


class Torn:
    """A file whose writes are two, with a kill point before each."""

    def __init__(self, file: Any, enter: Callable[[], None]) -> None:
        self._file, self._enter = file, enter

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            self._enter()
            self._file.write(half)
            self._file.flush()
        return len(data)


def pictures(folder: Path) -> Path:
    """Small pictures, all different."""
    folder.mkdir()
    for i in range(PICTURES):
        colours = np.random.default_rng(i).integers(0, 255, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(colours).save(folder / f"{i:03d}.png")
    return folder


def vectors(cache: Path, data: Path) -> np.ndarray:
    """What the store has of the pictures. Raises: AssertionError when one is missing."""
    keys = [content_key(path.read_bytes()) for path in sorted(data.iterdir())]
    found = Store(cache).images(FakeEncoder()).get(keys)
    assert found.good.all(), f"{(~found.good).sum()} embeddings are missing"
    return found.vectors


def lines(cache: Path, log: str) -> list[str]:
    path = cache / f"{log}.log"
    return path.read_text().split() if path.exists() else []


if __name__ == "__main__":
    main()
