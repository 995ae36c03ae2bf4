"""What a person meets before the first image: help, version, completion, and how light the start is."""

import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from vlmdesc.classification.heads import HEADS
from vlmdesc.classification.score import POOLS
from vlmdesc.cli.app import app
from vlmdesc.cli.border import with_border
from vlmdesc.descriptors.phrase import PHRASES
from vlmdesc.embeddings.load import ENCODERS
from vlmdesc.errors import EndpointError, StoreError
from vlmdesc.evaluation.methods import METHODS

HEAVY = ("numpy", "torch", "open_clip", "faiss", "datasets", "transformers", "matplotlib", "sklearn")


def test_help_groups_commands_by_room():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for text in ("Classify: decisions with reasons", "Encode:", "classify", "models", "demo"):
        assert text in result.output


@pytest.mark.parametrize("command", ["classify", "models", "demo"])
def test_every_command_has_help_an_example_or_defaults_and_json(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0 and "--json" in result.output


@pytest.mark.parametrize(
    ("command", "names"),
    [("eval", METHODS), ("eval", PHRASES), ("classify", POOLS), ("fit", [k for k in HEADS if HEADS[k].fit])],
)
def test_help_lists_what_registries_hold(command, names):
    output = CliRunner().invoke(app, [command, "--help"], terminal_width=200).output
    assert all(re.search(rf"[ ,]{re.escape(name)}[:, \n]", output) for name in names)


def test_version():
    from vlmdesc import __version__

    assert CliRunner().invoke(app, ["--version"]).output == f"vlmdesc {__version__}\n"


def test_completion_is_there_for_sets_phrases_and_pools():
    env = os.environ | {
        "_VLMDESC_COMPLETE": "complete_bash",
        "COMP_WORDS": "vlmdesc classify --pool ",
        "COMP_CWORD": "3",
    }
    result = subprocess.run(
        [sys.executable, "-c", "from vlmdesc.cli.app import app; app(prog_name='vlmdesc')"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert {"mean", "max", "renormalized"} <= set(result.stdout.split())


@pytest.mark.parametrize(
    "code", ["import vlmdesc", "from vlmdesc.cli.app import app; app(['--help'], standalone_mode=False)"]
)
def test_the_start_loads_nothing_heavy(code):
    check = f"{code}\nimport sys; print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_importing_the_package_loads_not_even_numpy():
    check = (
        "import vlmdesc, sys; print('numpy' in sys.modules); "
        "vlmdesc.Descriptors; print('numpy' in sys.modules, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True", "False"]


def test_unknown_attributes_are_errors():
    import vlmdesc

    assert "Classifier" in dir(vlmdesc)
    with pytest.raises(AttributeError, match="clasifier"):
        _ = vlmdesc.clasifier


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("disk full", where="x", fix="free some"), 4),
        (EndpointError("no hub"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_one_line_and_a_code(error, code):
    import typer

    small = typer.Typer()

    @small.command()
    @with_border
    def fail() -> None:
        raise error

    result = CliRunner().invoke(small, [])
    assert result.exit_code == code
    assert len(result.stderr.strip().splitlines()) == 1 and "Traceback" not in result.stderr


def test_unexpected_errors_are_one_line_unless_debugging(monkeypatch):
    import typer

    small = typer.Typer()

    @small.command()
    @with_border
    def fail() -> None:
        raise ZeroDivisionError("oh\x1b")

    result = CliRunner().invoke(small, [])
    assert result.exit_code == 1 and result.stderr.startswith("error: ZeroDivisionError: oh\\x1b; fix: tell us")
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("VLMDESC_DEBUG", "1")
    assert "Traceback" in CliRunner().invoke(small, []).stderr


def test_debug_shows_where_an_error_comes_from(monkeypatch):
    monkeypatch.setenv("VLMDESC_DEBUG", "")  # so that what --debug sets is undone
    result = CliRunner().invoke(app, ["--debug", "classify", "x.jpg"])
    assert result.exit_code == 2 and "Traceback" in result.stderr and "error: give either" in result.stderr


def test_models_lists_the_starter_and_finds_others(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    rows = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    assert rows[0]["model"] == "starter" and rows[0]["here"]
    assert [row["model"] for row in rows[: len(ENCODERS)]] == [*ENCODERS] and all(row["about"] for row in rows)
    found = json.loads(CliRunner().invoke(app, ["models", "ViT-B-32/laion2b_s34b", "--json"]).stdout)
    assert {
        "model": "ViT-B-32/laion2b_s34b_b79k",
        "here": False,
        "about": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    } in found
    assert "more can be downloaded" in CliRunner().invoke(app, ["models"]).stdout
    result = CliRunner().invoke(app, ["models", "no-such-thing"])
    assert result.exit_code == 2 and "no model named like" in result.stderr
