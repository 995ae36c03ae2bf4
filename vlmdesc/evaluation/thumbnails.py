"""Small JPEGs of some rows of a data set, for a page that shows them."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from io import BytesIO

from PIL import Image

from vlmdesc.embeddings.data import DataSet
from vlmdesc.embeddings.image import DecodedImage, Source, contents, open_image
from vlmdesc.errors import ImageError
from vlmdesc.records import Report

SIDE = 176


def thumbnails(data: DataSet, rows: Collection[int], side: int = SIDE) -> dict[int, bytes]:
    """A JPEG of at most `side` pixels of each row's image, made anew from its pixels; without those that fail."""
    found = dict[int, bytes]()
    for row, item in data.some(rows):
        if not isinstance(item.source, ImageError):
            with suppress(ImageError):  # gone or changed since it was embedded: the page does without
                found[row] = _jpeg(item.source, side)
    return found


def shown_rows(report: Report) -> list[int]:
    """The rows of the data set that the report names as examples."""
    flips = report.changes.examples
    return [flip.row for flip in (*flips.fixed, *flips.broken)] + [pair.row for pair in report.confusions]


def _jpeg(source: Source, side: int) -> bytes:
    raw = contents(source)
    image = (raw if isinstance(raw, DecodedImage) else open_image(raw, fit_px=side)).image
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "JPEG", quality=82)
    return file.getvalue()
