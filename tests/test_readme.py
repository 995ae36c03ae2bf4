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
ANY = re.compile(r"-?\d+(?:\.\d+)?")  # of thousands of images one may fall the other way elsewhere


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


def without_keys(text: str) -> str:
    """Without the lines that name single images, or hash numbers."""
    return "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith(("  see ", "fixed: ", "broken: ", "id "))
    )


def skeleton(text: str, number: re.Pattern[str]) -> str:
    text = re.sub("bf16", "fp32", re.sub("━+", "━", text))  # a machine may be faster in bf16
    return " ".join(number.sub("#", text).split())


SLOW = (pytest.mark.slow, pytest.mark.timeout(900))


@pytest.mark.parametrize(
    "page",
    [
        "docs/extending.md",
        pytest.param("docs/library.md", marks=SLOW),
        pytest.param("README.md", marks=SLOW),
        pytest.param("docs/bias.md", marks=SLOW),
    ],
)
def test_blocks_print_what_they_show(page, tmp_path, request):
    if page == "docs/bias.md":
        request.getfixturevalue("shared")  # the images that it is told on
        if not os.environ.get("VLMDESC_DOCS"):
            pytest.skip("embeds 4,200 images, some minutes; VLMDESC_DOCS=1 runs it")
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 5
    printed = [run(block, tmp_path) for block in blocks]
    if os.environ.get("UPDATE_README"):
        for block, output in reversed(list(zip(blocks, printed, strict=True))):
            text = text[: block.start("shown")] + output + text[block.end("shown") :]
        (ROOT / page).write_text(text, encoding="utf-8")
        return
    number, close = (ANY, 2.5) if page == "docs/bias.md" else (NUMBER, 0.02)
    for block, output in zip(blocks, printed, strict=True):
        found, shown = without_keys(output), without_keys(block["shown"])
        assert skeleton(found, number) == skeleton(shown, number)
        numbers = [[float(n) for n in number.findall(text_)] for text_ in (found, shown)]
        assert numbers[0] == pytest.approx(numbers[1], abs=close)
