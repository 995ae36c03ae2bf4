"""What a selection costs a batch: whole `vlmdesc classify` commands on 1,000 stored images, with one and without.

    python -m eval.batch [N] [--model fake]      prints one line of JSON

The images, noise around a colour, are embedded once, and a head is fitted to a few of each class of the set
`everyday`. Then the commands take turns, five rounds, each printing the reasons of all images. A selection says by
itself what sets the winner apart from the runner-up, so each is also set against the same command with --against.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlmdesc.records.descriptors import open_set

SET, SHOTS, ROUNDS = "everyday", 6, 5
AGAINST = "dog"  # a class of the set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", type=int, nargs="?", default=1_000)
    parser.add_argument("--model", default="fake")
    options = parser.parse_args()
    print(json.dumps(measured(options.n, options.model)))


def measured(n: int, model: str) -> dict[str, Any]:
    """Median seconds of each command, and the ratio of those with a selection to the one without."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        draw(place, n)
        run(place, "embed", "photos", "--model", model)
        run(place, "fit", "labelled", "--descriptors", SET, "--kind", "neighborhood", "--out", "head", "--model", model)
        plain = ("classify", "photos", "--descriptors", SET, "--model", model)
        head, reference = ("classify", "photos", "--head", "head"), (*plain, "--reference", "labelled")
        commands = {"plain": plain, "head": head, "reference": reference}
        commands |= {f"{name} against": (*command, "--against", AGAINST) for name, command in commands.items()}
        commands |= {f"{name} json": (*commands[name], "--json") for name in ("plain", "head", "reference")}
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(1 + ROUNDS):  # the first warms up, and is left out
            for name, command in commands.items():
                found[name].append(run(place, *command))
    seconds = {name: round(statistics.median(times[1:]), 2) for name, times in found.items()}
    ratios = {name: round(s / seconds[f"plain{name[len(name.split()[0]) :]}"], 2) for name, s in seconds.items()}
    return {"n": n, "model": model, "seconds": seconds, "ratio": ratios}


def draw(place: Path, n: int) -> None:
    """The images to classify, and a folder of a few for each class."""
    rng = np.random.default_rng(0)
    names = [class_.name for class_ in open_set(SET).classes]
    paths = [place / "photos" / f"{i:05d}.png" for i in range(n)]
    paths += [place / "labelled" / name / f"{i}.png" for name in names for i in range(SHOTS)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, 3) + rng.integers(-90, 90, (24, 24, 3))
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)


def run(place: Path, *words: str) -> float:
    """Seconds of a command in a process of its own."""
    began = time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        command = [sys.executable, "-m", "vlmdesc", *words]
        environment = os.environ | {"VLMDESC_CACHE": "cache"}
        subprocess.run(command, cwd=place, env=environment, stdout=nowhere, stderr=nowhere, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
