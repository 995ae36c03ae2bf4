"""Images that could not be used, as errors.jsonl lists them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vlmdesc.cli.border import say
from vlmdesc.errors import ImageError
from vlmdesc.files import write_atomic

if TYPE_CHECKING:
    from vlmdesc.embeddings.data import Item
    from vlmdesc.embeddings.pipeline import Encoded

NAMED = 10  # broken images named on stderr; all are in the file
Failure = dict[str, str | None]


def failure(error: ImageError, label: str | None) -> Failure:
    """One line of the file."""
    stage = "encode" if error.code == "model" else "read"
    return {"path": error.where, "class": label, "stage": stage, "code": error.code, "message": error.what}


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Raises: StoreError."""
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in failures).encode())


@dataclass
class Tally:
    """What became of the images so far."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def take(self, item: Item, found: Encoded | ImageError, strict: bool = False) -> None:
        """Count an image; one that failed is named, or with `strict` raised."""
        if not isinstance(found, ImageError):
            self.counts["stored" if found.stored else "new"] += 1
            return
        if strict:
            raise found
        self.failures.append(failure(found, item.label))
        if len(self.failures) <= NAMED:
            say(f"error: {found}")
