"""Shared by all tests: no network, shapes checked at run time, the starter model loaded once, real photographs."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores; threads of each would wait for those of the other
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("VLMDESC_MODEL", None)
os.environ.setdefault("COLUMNS", "100")

# Before the first import of these rooms; the CLI's annotations are for typer.
for room in ("records", "descriptors", "cache", "embeddings", "classification", "concepts", "evaluation", "testing"):
    install_import_hook(f"vlmdesc.{room}", "beartype.beartype")

PHOTOS = {
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}


def pytest_collection_modifyitems(items):
    """Slow tests first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache folder for this run: nothing comes from, or goes to, the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["VLMDESC_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Anything but loopback is refused."""
    connect = socket.socket.connect

    def only_loopback(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionRefusedError(f"tests have no network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)


@pytest.fixture
def run():
    """`run("eval", "photos/", "--json")`: a command in this process; `exit_code`, `stdout` and `stderr` of what it did.

    An error is a message, never a traceback. `input` is what is typed.
    """
    from typer.testing import CliRunner

    from vlmdesc.cli.app import app

    def command(*arguments, **options):
        result = CliRunner().invoke(app, [*map(str, arguments)], **options)
        assert "Traceback" not in result.output and "this is a bug" not in result.output, result.output
        return result

    return command


@pytest.fixture(scope="session")
def photos() -> dict[str, Path]:
    """Six real photographs that scikit-image and scikit-learn ship."""
    return {
        name: Path(importlib.util.find_spec(package).origin).parent / file for name, (package, file) in PHOTOS.items()
    }


@pytest.fixture(scope="session")
def starter():
    """The starter encoder, loaded once."""
    from vlmdesc.embeddings.load import load_encoder

    return load_encoder("starter", device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The data folder beside the checkout, if it is there."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder
