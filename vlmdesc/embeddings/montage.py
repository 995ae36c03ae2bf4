"""A contact sheet: images in rows, each with a line below it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from vlmdesc.files import write_atomic
from vlmdesc.text import shown

SIDE, GAP, LINE = 144, 12, 18
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_montage(path: Path, images: Sequence[tuple[Image.Image | None, str]], columns: int = 6) -> None:
    """Write a PNG of images and their captions; None is drawn as a crossed box. Raises: StoreError."""
    rows = -(-len(images) // columns)
    size = (columns * (SIDE + GAP) + GAP, rows * (SIDE + LINE + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    for number, (image, caption) in enumerate(images):
        x, y = GAP + number % columns * (SIDE + GAP), GAP + number // columns * (SIDE + LINE + GAP)
        if image:
            small = ImageOps.contain(image, (SIDE, SIDE))
            sheet.paste(small, (x + (SIDE - small.width) // 2, y + SIDE - small.height))
        else:
            pen.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline="firebrick")
            pen.line((x, y, x + SIDE - 1, y + SIDE - 1), fill="firebrick")
            pen.line((x, y + SIDE - 1, x + SIDE - 1, y), fill="firebrick")
        pen.text((x, y + SIDE + 3), _cut(shown(caption), pen, font), fill="black", font=font)
    png = BytesIO()
    sheet.save(png, "PNG")
    write_atomic(path, png.getvalue())


def _font() -> Font:
    """DejaVu, which has most alphabets, from the system or from matplotlib; else Pillow's own, which has few."""
    spec = importlib.util.find_spec("matplotlib")
    beside = Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if spec and spec.origin else Path()
    for name in ("DejaVuSans.ttf", str(beside)):
        with suppress(OSError):
            return ImageFont.truetype(name, 11)
    return ImageFont.load_default(12)


def _cut(text: str, pen: ImageDraw.ImageDraw, font: Font) -> str:
    text, end = text[:SIDE], ""  # a letter takes more than a pixel
    while text and pen.textlength(text + end, font=font) > SIDE:
        text, end = text[:-1], "..."
    return text + end
