"""What commands that learn from labelled images share."""

from __future__ import annotations

from collections.abc import Sequence

from vlmdesc.cli.border import say
from vlmdesc.cli.failures import NAMED
from vlmdesc.errors import ImageError
from vlmdesc.text import counted


def name_failures(failed: Sequence[ImageError]) -> None:
    """The first of the images that could not be used, on stderr, and how many there were."""
    for error in failed[:NAMED]:
        say(f"error: {error}")
    if len(failed) > NAMED:
        say(f"{counted(len(failed), 'image')} could not be used")
