"""The images of rows of an index, from where they came, and a contact sheet of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from vlmdesc.concepts.rows import Rows
from vlmdesc.embeddings.image import DecodedImage, Source, content_key, contents, open_image
from vlmdesc.embeddings.montage import SIDE, draw_montage
from vlmdesc.errors import ImageError, VlmdescError

MOST = 300  # images on a sheet


def draw(path: Path, rows: Rows, wanted: Sequence[int], captions: Sequence[str]) -> int:
    """Write a PNG of the first 300 of some rows' images; how many there are on it.

    A crossed box stands for one that is gone or has changed. Raises: StoreError.
    """
    found = fetch(rows, wanted[:MOST], SIDE)
    draw_montage(path, [(found.get(row), caption) for row, caption in zip(wanted[:MOST], captions, strict=False)])
    return min(len(wanted), MOST)


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
        with suppress(VlmdescError):  # the data set is gone
            for number, item in rows.origins[origin].open().some(numbers):
                if not isinstance(item.source, ImageError):
                    yield numbers[number], item.source
