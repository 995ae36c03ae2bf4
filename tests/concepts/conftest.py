"""Shared by the tests of concepts."""

import pytest


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    """A cache folder for each test."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
