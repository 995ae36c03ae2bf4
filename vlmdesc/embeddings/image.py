"""One image from a path, bytes, an open file, PIL or an array: checked before it is decoded, upright, RGB.

Colour profiles are not applied. Damage that Pillow cannot see (a wrong bit inside a JPEG scan, missing PNG pixels)
passes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlmdesc.embeddings.pixels import image_of, is_tensor
from vlmdesc.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # JPEG reads MPO too
MAX_PIXELS = 89_478_485
MAX_BYTES = 64 * 2**20
MAX_RATIO = 100  # of the longer to the shorter side: resizing a 1 x 60,000 image to 224 wants gigabytes
BIG_PIXELS = 16_000_000  # images above this are decoded one at a time
READING = 1  # to be raised when these rules give other pixels: embeddings are stored under it
NOTES = ("several frames: the first is used", "grey levels scaled to 8 bits", "wholly transparent: seen as white")
FRAMES, GREY, CLEAR = NOTES

Source = Path | str | bytes | Image.Image | IO[bytes] | np.ndarray
"""One image; a torch tensor (3, H, W) is one too."""

# EXIF orientation -> what sets it upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112

_LOOKS = (
    (b"version https://git-lfs", "a Git LFS pointer", "run git lfs pull"),
    (b"<!doctype html", "an HTML page", "download it again: a web page came instead of the image"),
    (b"<html", "an HTML page", "download it again: a web page came instead of the image"),
    (b"<?xml", "XML or SVG", "export it as PNG"),
    (b"<svg", "an SVG drawing", "export it as PNG"),
    (b"%pdf", "a PDF document", "export its pages as PNG"),
    (b"%!ps", "a PostScript document", "export it as PNG"),
    (b"pk\x03\x04", "a ZIP archive", "unpack it"),
    (b"\x1f\x8b", "gzip data", "unpack it"),
    (b"\x80\x04", "a Python pickle", "give an image"),
    (b"\x80\x02", "a Python pickle", "give an image"),
)


@dataclass(frozen=True)
class DecodedImage:
    """An upright RGB image and notes for its owner."""

    image: Image.Image
    notes: tuple[str, ...] = ()


def is_image(thing: object) -> bool:
    """Whether it may be one image: a path, bytes, an open file, a PIL image, or an array of pixels."""
    if isinstance(thing, np.ndarray) or is_tensor(thing):
        return bool(getattr(thing, "ndim", 0) in (2, 3))
    return isinstance(thing, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)) or hasattr(thing, "read")


def contents(source: object, where: object = None) -> bytes | DecodedImage:
    """What there is of a source before any decoding: its bytes, or an upright copy of a PIL image or an array.

    Raises: ImageError, too, for what is no source.
    """
    if isinstance(source, np.ndarray) or is_tensor(source):
        source = image_of(source, where)
    if isinstance(source, Image.Image):
        return open_image(source, where=where)
    if isinstance(source, (str, os.PathLike)):
        return read_regular(Path(source))
    data = _read(source, where) if hasattr(source, "read") else source
    if not isinstance(data, (bytes, bytearray, memoryview)):
        fix = "give a path, bytes, a file opened in binary mode, a PIL image or an array"
        raise ImageError("not-an-image", f"{type(data).__name__} where an image is meant", where=where, fix=fix)
    if len(data) > MAX_BYTES:
        what = f"more than {MAX_BYTES // 2**20} MiB"
        raise ImageError("too-large", what, where=where, fix="shrink it first")
    return bytes(data)


def _read(file: Any, where: object) -> object:
    """All of an open file, wherever in it one stands, as Pillow reads it."""
    try:
        with suppress(AttributeError, OSError):
            file.seek(0)
        return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # closed, or gone
        raise ImageError("unreadable", f"cannot read: {error}", where=where, fix="give an open file") from error


def content_key(content: bytes | DecodedImage) -> bytes:
    """SHA-256 of a file's bytes, or of the size and pixels of an image that came without a file: 32 bytes."""
    if isinstance(content, bytes):
        digest = hashlib.sha256(b"file\0")
        digest.update(content)
    else:
        digest = hashlib.sha256(f"pixels {content.image.width} {content.image.height}\0".encode())
        digest.update(content.image.tobytes())
    return digest.digest()


def open_image(
    source: object, *, where: object = None, fit_px: int = 0, when_big: Callable[[], object] = bool
) -> DecodedImage:
    """Decode one image, whatever holds it.

    `where` names it in errors, by default by its path. `fit_px` is the side the encoder wants: a JPEG is then decoded
    at a smaller scale, but never below twice that side. `when_big` is called before an image of over 16 million
    pixels is decoded, so that threads can take turns with the memory.

    Raises: ImageError with a code; whatever the decoder raises becomes one.
    """
    where = where or (source if isinstance(source, (str, os.PathLike)) else f"<{type(source).__name__}>")
    data = b""
    try:
        if isinstance(source, Image.Image):
            _check_size(source, where)
            rgb, notes = _upright_rgb(source, where)
            return DecodedImage(rgb.copy() if rgb is source else rgb, notes)
        raw = contents(source, where)
        if isinstance(raw, DecodedImage):
            return raw
        data = raw
        return _decode(data, where, fit_px, when_big)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _no_image(data, where) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        what = f"over {MAX_PIXELS // 10**6} megapixels"
        raise ImageError("too-large", what, where=where, fix="shrink it first") from error
    except Exception as error:  # decoders raise nearly anything; one bad image must not end a batch
        short = "truncated" in str(error).lower() or isinstance(error, EOFError)
        code, what = ("truncated", "truncated image") if short else ("broken", f"cannot be decoded: {error}")
        raise ImageError(code, what, where=where, fix="download or export it again") from error


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file no larger than MAX_BYTES; pipes and devices are never opened.

    Raises: ImageError.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode) and not os.access(path, os.R_OK | os.X_OK):
            what, fix = "a folder that cannot be read", "get the right to read it, or move it elsewhere"
            raise ImageError("not-a-file", what, where=path, fix=fix)
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a device or a socket"
            raise ImageError("not-a-file", f"not a regular file but {kind}", where=path, fix="give an image file")
        if found.st_size > MAX_BYTES:
            what = f"{found.st_size / 2**20:.0f} MiB, more than {MAX_BYTES // 2**20}"
            raise ImageError("too-large", what, where=path, fix="shrink it first")
        data = path.read_bytes()
    except ValueError as error:  # a NUL in the name
        raise ImageError("missing", f"no file name: {error}", where=path, fix="correct the path") from error
    except OSError as error:
        code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise ImageError(
            code, f"cannot read: {os.strerror(error.errno or 0)}", where=path, fix="check path and permissions"
        ) from error
    return data


def _decode(data: bytes, where: object, fit_px: int, when_big: Callable[[], object]) -> DecodedImage:
    if not data:
        raise ImageError("empty", "empty file", where=where, fix="download it again")
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        _check_size(image, where)
        animated = False
        with suppress(Exception):  # a false frame count is no reason to lose the first frame
            animated = bool(getattr(image, "is_animated", False))
        if fit_px and image.format in ("JPEG", "MPO"):
            image.draft(None, (2 * fit_px, 2 * fit_px))
        if image.width * image.height > BIG_PIXELS:
            when_big()
        image.load()
        rgb, notes = _upright_rgb(image, where)
    return DecodedImage(rgb, (FRAMES, *notes) if animated else notes)


def _check_size(image: Image.Image, where: object) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        what = f"{width} x {height} is over {MAX_PIXELS // 10**6} megapixels"
        raise ImageError("too-large", what, where=where, fix="shrink it first")
    if max(width, height) > MAX_RATIO * min(width, height):
        what = f"{width} x {height}: one side is over {MAX_RATIO} times the other"
        raise ImageError("too-narrow", what, where=where, fix="crop it first")


def _upright_rgb(image: Image.Image, where: object) -> tuple[Image.Image, tuple[str, ...]]:
    orientation = None
    with suppress(Exception):  # corrupt EXIF says nothing about the image
        orientation = image.getexif().get(_ORIENTATION)
    rgb, notes = _to_rgb(image, where)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
        rgb.info = {}  # or whoever opens it next would turn it again
    return rgb, notes


def _to_rgb(image: Image.Image, where: object) -> tuple[Image.Image, tuple[str, ...]]:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy() if image.readonly else image, ()
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(np.asarray(image), where).convert("RGB"), (GREY,)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _over_white(image)
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "RGBX"):
        raise ImageError(
            "colour-mode", f"colour mode {image.mode} is not supported", where=where, fix="convert it to RGB"
        )
    return image.convert("RGB"), ()


def _over_white(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    notes = (CLEAR,) if rgba.getchannel("A").getextrema() == (0, 0) else ()
    return Image.alpha_composite(white, rgba).convert("RGB"), notes


def _from_deep_grey(grey: np.ndarray, where: object) -> Image.Image:
    """16-bit, 32-bit and float grey to 8 bits. The range is read from the dtype or refused, never stretched."""
    top = float(grey.max()) if np.isfinite(grey).all() else float("nan")
    if grey.dtype.kind == "u" and grey.dtype.itemsize == 2:  # of either byte order
        scale = 65535.0
    elif grey.dtype.kind == "f" and top <= 1:
        scale = 1.0
    else:
        scale = 255.0 if top <= 255 else 65535.0
    if not (grey.min() >= 0 and top <= scale) or (grey.dtype.kind == "f" and scale > 255):
        raise ImageError("grey-range", "grey levels of unknown range", where=where, fix="save it with 8 or 16 bits")
    return Image.fromarray((grey / scale * 255).round().astype(np.uint8))


def _no_image(data: bytes, where: object) -> ImageError:
    head = data[:512].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    for start, looks, fix in _LOOKS:
        if head.startswith(start):
            return ImageError("not-an-image", f"not an image but {looks}", where=where, fix=fix)
    with suppress(UnicodeDecodeError):
        data[:512].decode("ascii")
        return ImageError("not-an-image", "not an image but text", where=where, fix="give an image file")
    return ImageError("not-an-image", "not an image this reads", where=where, fix=f"use one of {', '.join(FORMATS)}")
