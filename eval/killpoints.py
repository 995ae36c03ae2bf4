"""kill -9 at every I/O call of a command that writes, then look at what is there, start again, and look once more.

    python -m eval.killpoints [--operation embed] [--points 250] [--nested 0] [--strace] [--json]

The real command runs with the fake encoder on small images: `vlmdesc embed`; or, with all images embedded before,
`vlmdesc index build`, that with --replace where an index of other images is, `vlmdesc index add` to such a one, or
`vlmdesc fit --replace` where a head of another kind is (head). Or descriptors are added to a file in a plain form, one
commit each (edit).
By default each run is a fork of this process that is killed as it enters its K-th mkdir, open for writing, write,
fsync, rename or unlink, K = 1, 2, 3 ...; with --strace it is a process of its own, and the kernel kills it as it enters
such a system call, each kind of call in turn. --nested kills restarts too.

unreadable  the store, the index, the head or the descriptor file could not be opened
stuck       the restart failed

lost        acknowledged (the store's `put` or the edit's `commit` had returned), but not there afterwards, bit for bit
repaid      images encoded twice beyond the batch in flight
twice       contents stored more than once, or vectors other than those of a run that nobody killed

mixed       the index or head is neither the old one nor the new one; the rows, or the file kept, are not what the
            history says
other       after the restart it is another than after a run that nobody killed
left        files in its folder, after the restart, that it does not name
"""

from __future__ import annotations

import argparse
import builtins
import io
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
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlmdesc.classification.heads.folder import CARD as HEAD_CARD
from vlmdesc.classification.heads.folder import head_id, load_head
from vlmdesc.cli.app import app
from vlmdesc.concepts.index import FORMAT, Index
from vlmdesc.descriptors.edit import edit as apply
from vlmdesc.descriptors.history import DescriptorFile
from vlmdesc.embeddings.collection import Collection
from vlmdesc.embeddings.image import content_key
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError, VlmdescError
from vlmdesc.records import Descriptors, Edit
from vlmdesc.testing import FakeEncoder

PICTURES, BATCH = 72, 2
BATCHES = f"--model fake --batch-size {BATCH} --workers 1"
FIT = "fit labels.csv --descriptors zoo.json --out cache/out --model fake --kind"
COMMANDS = {
    "embed": f"embed data {BATCHES}",
    "build": f"index build data --out cache/out {BATCHES}",
    "replace": f"index build data --out cache/out --replace {BATCHES}",
    "add": f"index add cache/out data {BATCHES}",
    "head": f"{FIT} neighborhood --replace",
}
FIRST_PICTURES = f"index build data/0[0-3]*.png --out cache/out {BATCHES}"
OLD = {"replace": FIRST_PICTURES, "add": FIRST_PICTURES, "head": f"{FIT} prototypes"}  # what is replaced, or added to
DATA, CACHE, BEFORE, OUT = Path("data"), Path("cache"), Path("before"), "out"  # in the working folder
SET, ADDED = "zoo.json", ("a red comb", "a wattle", "white down")
OF_INDEX, OF_EDIT = ("unreadable", "mixed", "stuck", "other", "left"), ("lost", "unreadable", "mixed", "stuck", "other")
COUNTS = {"embed": ("lost", "unreadable", "stuck", "repaid", "twice"), "edit": OF_EDIT}
CALLS = ("rename", "fsync", "unlink", "mkdir", "write")
PATCHED = ((os, "mkdir"), (builtins, "open"), (os, "fsync"), (os, "replace"), (os, "rename"), (os, "unlink"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operation", choices=(*COMMANDS, "edit"), default="embed")
    parser.add_argument("--points", type=int, default=250, help="kill points at most")
    parser.add_argument("--every", type=int, default=1, help="only each such kill point")
    parser.add_argument("--nested", type=int, default=0, help="of these, how many kill the restart as well")
    parser.add_argument("--strace", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        command(options.operation, 0)
    else:
        report = kill_all(options.operation, options.points, options.every, options.nested, options.strace)
        print(json.dumps(report) if options.json else "  ".join(f"{what} {n}" for what, n in report.items()))


def kill_all(operation: str, points: int, every: int, nested: int, strace: bool) -> dict[str, int | float]:
    """Counts over all kill points, each 0 where nothing was lost, plus how many there were and the seconds."""
    began, found, kills = time.perf_counter(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as place, chdir(place):
        os.environ["VLMDESC_CACHE"] = str(CACHE)
        whole = prepare(operation)
        for call in CALLS if strace else ("",):  # strace counts each kind of call by itself
            for at in range(1, 1 + every * points, every):
                afresh()
                if kills == points or not run(operation, call, at):  # it came to its end before that call
                    break
                twice = kills < nested and run(operation, call, 1 + at // 2)
                if operation == "edit":
                    found += judge_edit(whole)
                else:
                    found += judge(whole, 1 + twice) if operation == "embed" else judge_folder(operation, whole)
                kills += 1
    counts = {what: found[what] for what in COUNTS.get(operation, OF_INDEX)}
    return {"kill points": kills, **counts, "seconds": round(time.perf_counter() - began, 1)}


def prepare(operation: str) -> Any:
    """Make images and what is there before: the old index, one image of which then changes, and all embeddings.

    What the command makes when nobody kills it; in this process, so that forks of it have all modules.
    """
    DATA.mkdir()
    for i in range(PICTURES):
        picture(i).save(DATA / f"{i:03d}.png")
    CACHE.mkdir()
    if operation == "head":
        rows = [f"{path},{'hen' if i % 2 else 'cock'}\n" for i, path in enumerate(sorted(DATA.iterdir()))]
        Path("labels.csv").write_text("image,label\n" + "".join(rows))
        Path(SET).write_text(json.dumps({"hen": ["a beak"], "cock": ["tail feathers", "a red comb"]}))
    if operation in OLD:
        quietly(OLD[operation])
        picture(PICTURES).save(DATA / "000.png")
    if operation == "edit":
        (CACHE / SET).write_text(json.dumps({"hen": ["a beak"], "cock": ["tail feathers"]}))
    elif operation != "embed":
        run("embed", "", 0)
    shutil.copytree(CACHE, BEFORE)
    if operation == "edit":
        edit()
        return Descriptors.load(CACHE / SET)
    quietly(COMMANDS[operation])
    return vectors() if operation == "embed" else held(operation, CACHE / OUT)


def quietly(command: str) -> None:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        app(command.split(), standalone_mode=False)


def afresh() -> None:
    shutil.rmtree(CACHE)
    shutil.copytree(BEFORE, CACHE)


def judge(whole: np.ndarray, kills: int) -> Counter[str]:
    """What a killed run left, and what the next run makes of it."""
    found = Counter[str]()
    keys = [content_key(path.read_bytes()) for path in sorted(DATA.iterdir())]
    acknowledged = {bytes.fromhex(line) for line in lines("acknowledged")}
    try:
        kept = Store(CACHE).images(FakeEncoder()).get(keys)
        intact = (kept.vectors == whole).all(axis=1) & kept.good if kept.vectors.size else kept.good
        found["lost"] = sum(not ok for key, ok in zip(keys, intact, strict=True) if key in acknowledged)
    except VlmdescError:
        found["unreadable"] = 1
    try:
        run("embed", "", 0)
        found["twice"] += not np.array_equal(vectors(), whole)
        found["twice"] += sum(map(len, Store(CACHE).images(FakeEncoder()).segments)) - PICTURES
    except (VlmdescError, AssertionError):
        found["stuck"] = 1
    found["repaid"] = max(0, sum(map(int, lines("encoded"))) - PICTURES - kills * BATCH)
    return found


def judge_folder(operation: str, whole: Any) -> Counter[str]:
    """What a killed run left of an index or a head, and what the next run makes of it."""
    found = Counter[str]()
    try:
        found["mixed"] = held(operation, CACHE / OUT) not in (held(operation, BEFORE / OUT), whole)
    except VlmdescError:
        found["unreadable"] = 1
    try:
        run(operation, "", 0)
        found["other"] = held(operation, CACHE / OUT) != whole
        found["left"] = len({*os.listdir(CACHE / OUT)} - named(operation, CACHE / OUT))
    except (VlmdescError, AssertionError):
        found["stuck"] = 1
    return found


def judge_edit(whole: Descriptors) -> Counter[str]:
    """What a killed run left of a descriptor file, and what the next run makes of it."""
    found, old = Counter[str](), BEFORE / SET
    try:
        now = Descriptors.load(CACHE / SET)
        found["lost"] = max(0, len(lines("acknowledged")) - len(now.history))
        found["mixed"] = now != apply(Descriptors.load(old), [done.edit for done in now.history])
        found["mixed"] |= any(kept.read_bytes() != old.read_bytes() for kept in CACHE.glob("zoo.before-*"))
    except VlmdescError:
        found["unreadable"] = 1
    try:
        run("edit", "", 0)
        found["other"] = Descriptors.load(CACHE / SET) != whole
    except (VlmdescError, AssertionError):
        found["stuck"] = 1
    return found


def edit() -> int:
    """Add what the file has not yet, with a log of what is saved, on a file that no kill point counts."""
    log = os.open(CACHE / "acknowledged.log", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    for text in ADDED:
        seen = DescriptorFile.open(CACHE / SET)
        if text not in {row.text for row in seen.descriptors.rows}:
            seen.commit([Edit("add", "hen", text)])
            os.write(log, b"saved\n")
    return 0


def run(operation: str, call: str, kill_at: int) -> bool:
    """Run the command; whether it was killed. Raises: AssertionError when it ended badly of its own."""
    if call:
        trace = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}"]
        inject = ["-e", f"inject={call}:signal=SIGKILL:when={kill_at}"]
        child = [sys.executable, __file__, "--operation", operation, "--child"]
        code = subprocess.run(trace + inject + child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    else:
        pid = os.fork()
        if not pid:
            command(operation, kill_at)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    refused = operation == "build" and code == InputError.exit_code  # the index is there
    assert killed or refused or code == 0, f"{operation} ended with {code}"
    return killed


def command(operation: str, kill_at: int) -> None:
    """The command in this process, with a log of what it encodes and what it says is stored. Does not return."""
    code = 1
    try:
        logged()
        if kill_at:
            count_down(kill_at)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        sys.exit(edit() if operation == "edit" else app(COMMANDS[operation].split()))
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def logged() -> None:
    """Write down each acknowledgement and each image encoded, on files that no kill point counts."""
    logs = {name: os.open(CACHE / f"{name}.log", os.O_APPEND | os.O_CREAT | os.O_WRONLY) for name in LOGS}
    put, forward = Collection.put, FakeEncoder.forward

    def logged_put(self: Collection, keys: list[bytes], *rest: Any) -> None:
        put(self, keys, *rest)
        os.write(logs["acknowledged"], "".join(f"{key.hex()}\n" for key in keys).encode())

    def logged_forward(self: FakeEncoder, pixels: np.ndarray) -> np.ndarray:
        os.write(logs["encoded"], f"{len(pixels)}\n".encode())
        return forward(self, pixels)

    Collection.put, FakeEncoder.forward = logged_put, logged_forward  # type: ignore[assignment,method-assign]


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


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(np.uint8))


def vectors() -> np.ndarray:
    """What the store has of the images. Raises: AssertionError when one is missing."""
    keys = [content_key(path.read_bytes()) for path in sorted(DATA.iterdir())]
    found = Store(CACHE).images(FakeEncoder()).get(keys)
    assert found.good.all(), f"{(~found.good).sum()} embeddings are missing"
    return found.vectors


def held(operation: str, folder: Path) -> Any:
    """All that an index or a head holds, None where there is none."""
    try:
        if operation == "head":
            return head_id(load_head(folder))
        found = Index.open(folder)
    except InputError:
        return None
    return found.rows.origins, found.rows.table.to_pylist(), found.nearest.vectors(np.arange(len(found))).tolist()


def named(operation: str, folder: Path) -> set[str]:
    """The files that an index or a head says it has."""
    if operation == "head":
        return {HEAD_CARD, ".lock", json.loads((folder / HEAD_CARD).read_text())["arrays"]["name"]}
    return {FORMAT.card, ".lock", *(file["name"] for file in Index.open(folder).files.values())}


def lines(log: str) -> list[str]:
    path = CACHE / f"{log}.log"
    return path.read_text().split() if path.exists() else []


if __name__ == "__main__":
    main()
