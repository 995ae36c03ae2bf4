"""Images that could not be used, as errors.jsonl lists them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vlmdesc.errors import ImageError
from vlmdesc.files import write_atomic

NAMED = 10  # broken images named on stderr; all are in the file
Failure = dict[str, str | None]


def failure(error: ImageError, label: str | None) -> Failure:
    """One line of the file."""
    stage = "encode" if error.code == "model" else "read"
    return {"path": error.where, "class": label, "stage": stage, "code": error.code, "message": error.what}


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Raises: StoreError."""
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in failures).encode())
