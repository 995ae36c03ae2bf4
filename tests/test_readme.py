"""Blocks of README and docs run as written and print what they show; UPDATE_README=1 writes what they print.

Scores may differ in the last digits between machines, so numbers are compared with a tolerance and bars by presence.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"<!-- run(?:: (?P<command>.*?))? -->\n"
    r"(?:```(?P<language>sh|python)\n(?P<code>.*?)```\n\n)?"
    r"```text\n(?P<shown>.*?)```",
    re.S,
)
NUMBER = re.compile(r"-?\d+\.\d+")


def run(block: re.Match[str], place: Path) -> str:
    """What the block prints on stdout, in a folder of its own."""
    python = block["language"] == "python"
    command = [sys.executable, "-c", block["code"]] if python else ["bash", "-euc", block["command"] or block["code"]]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    cache = {"VLMDESC_CACHE": str(place / "cache")}
    checkout = {"VLMDESC": str(ROOT), "PYTHONPATH": str(ROOT)}  # for python -m eval...
    environment = os.environ | {"PATH": path, "COLUMNS": "100", "VLMDESC_MODEL": "starter", **checkout, **cache}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return "".join(line.rstrip() + "\n" for line in done.stdout.strip("\n").splitlines())


def skeleton(text: str) -> str:
    text = re.sub("bf16", "fp32", re.sub("━+", "━", text))  # a machine may be faster in bf16
    return " ".join(NUMBER.sub("#", text).split())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ["README.md", "docs/bias.md"])
def test_blocks_print_what_they_show(page, tmp_path, request):
    if page != "README.md":
        request.getfixturevalue("shared")  # the pictures that it is told on
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 5
    printed = [run(block, tmp_path) for block in blocks]
    if os.environ.get("UPDATE_README"):
        for block, output in reversed(list(zip(blocks, printed, strict=True))):
            text = text[: block.start("shown")] + output + text[block.end("shown") :]
        (ROOT / page).write_text(text, encoding="utf-8")
        return
    for block, output in zip(blocks, printed, strict=True):
        assert skeleton(output) == skeleton(block["shown"])
        numbers = [[float(n) for n in NUMBER.findall(t)] for t in (output, block["shown"])]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.02)
