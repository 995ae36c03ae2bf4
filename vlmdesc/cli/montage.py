"""A contact sheet: images in rows, each with a line below it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

from vlmdesc.errors import InputError
from vlmdesc.files import write_atomic
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc.concepts.index import Index

SIDE, GAP, LINE = 144, 12, 18
MOST = 300  # images on a sheet


def check_montage(path: Path) -> None:
    """Raises: InputError when a contact sheet cannot have this name."""
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        what = "a contact sheet needs a name ending in .png, in a folder that exists"
        raise InputError(what, where=path, fix="choose another with --montage")


def draw_montage(path: Path, pictures: Sequence[tuple[Image.Image | None, str]], columns: int = 6) -> None:
    """Write a PNG of images and their captions; None is drawn as a crossed box. Raises: StoreError."""
    rows = -(-len(pictures) // columns)
    width, height = columns * (SIDE + GAP) + GAP, rows * (SIDE + LINE + GAP) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    for number, (picture, caption) in enumerate(pictures):
        x = GAP + number % columns * (SIDE + GAP)
        y = GAP + number // columns * (SIDE + LINE + GAP)
        if picture is None:
            pen.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline="firebrick")
            pen.line((x, y, x + SIDE - 1, y + SIDE - 1), fill="firebrick")
            pen.line((x, y + SIDE - 1, x + SIDE - 1, y), fill="firebrick")
        else:
            small = ImageOps.contain(picture, (SIDE, SIDE))
            sheet.paste(small, (x + (SIDE - small.width) // 2, y + SIDE - small.height))
        pen.text((x, y + SIDE + 3), _fitted(shown(caption), pen, font), fill="black", font=font)
    png = BytesIO()
    sheet.save(png, "PNG")
    write_atomic(path, png.getvalue())


def draw_rows(path: Path, index: Index, rows: Sequence[int], captions: Sequence[str]) -> None:
    """A contact sheet of images of an index; a crossed box where one is gone or has changed. Raises: StoreError."""
    from vlmdesc.cli.border import say
    from vlmdesc.concepts.fetch import fetch

    few = rows[:MOST]
    found = fetch(index.rows, few, SIDE)
    draw_montage(path, [(found.get(row), caption) for row, caption in zip(few, captions, strict=False)])
    more = f", the first of {len(rows):,}" if len(rows) > MOST else ""
    say(f"{counted(len(few), 'image')}{more}, drawn to {shown(path)}")


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu, which has most alphabets, from the system or from matplotlib; else Pillow's own, which has few."""
    spec = importlib.util.find_spec("matplotlib")
    beside = Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if spec and spec.origin else Path()
    for name in ("DejaVuSans.ttf", str(beside)):
        with suppress(OSError):
            return ImageFont.truetype(name, 11)
    return ImageFont.load_default(12)


def _fitted(text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    text = text[:SIDE]  # a letter takes more than a pixel
    if pen.textlength(text, font=font) <= SIDE:
        return text
    while text and pen.textlength(text + "...", font=font) > SIDE:
        text = text[:-1]
    return text + "..."
