"""The images of rows, from where they came."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from vlmdesc.concepts.rows import Rows
from vlmdesc.embeddings.image import DecodedImage, Source, content_key, contents, open_image
from vlmdesc.errors import ImageError, VlmdescError


def fetch(rows: Rows, wanted: Sequence[int], side: int) -> dict[int, Image.Image]:
    """An upright image, decoded at about `side` pixels or more, of each wanted row whose content is what was indexed.

    Left out are those that are gone or have changed since.
    """
    keys = dict(zip(wanted, rows.column("content", wanted), strict=True))
    found = {}
    for row, source in _sources(rows, wanted):
        with suppress(ImageError):
            raw = contents(source)
            if content_key(raw) == keys[row]:
                found[row] = (raw if isinstance(raw, DecodedImage) else open_image(raw, fit_px=side)).image
    return found


def _sources(rows: Rows, wanted: Sequence[int]) -> Iterator[tuple[int, Source]]:
    elsewhere = defaultdict[int, dict[int, int]](dict)
    names = ("id", "file", "origin", "number")
    for row, *about in zip(wanted, *(rows.column(name, wanted) for name in names), strict=True):
        id_, file, origin, number = about
        if file:
            yield row, Path(id_)
        else:
            elsewhere[origin][number] = row
    for origin, numbers in elsewhere.items():
        try:
            for number, item in rows.origins[origin].open().some(numbers):
                if not isinstance(item.source, ImageError):
                    yield numbers[number], item.source
        except VlmdescError:  # the data set is gone
            continue


def gone(rows: Rows) -> list[int]:
    """Rows whose image was a file that is no longer there."""
    paths = zip(rows.column("id"), rows.column("file"), strict=True)
    return [row for row, (path, file) in enumerate(paths) if file and not os.path.isfile(path)]
