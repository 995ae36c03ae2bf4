import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlmdesc.embeddings.image import open_image
from vlmdesc.errors import ImageError

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, format_: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def corner_marked() -> Image.Image:
    """40 x 20, white, red in the upper left."""
    image = Image.new("RGB", (40, 20), WHITE)
    image.paste(RED, (0, 0, 10, 10))
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_undone(orientation, format_):
    upright = corner_marked()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what makes the stored pixels of an upright image
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = open_image(encoded(stored, format_, exif=exif)).image
    assert seen.size == upright.size
    assert np.abs(np.asarray(seen, int) - np.asarray(upright, int)).mean() < 8  # JPEG is not exact


def test_bad_exif_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert open_image(encoded(corner_marked(), "JPEG", exif=exif)).image.size == (40, 20)
    assert open_image(encoded(corner_marked(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).image.size == (40, 20)


def test_an_already_open_image_is_set_upright_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encoded(corner_marked(), "JPEG", exif=exif)))
    assert open_image(image).image.size == (20, 40)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_modes_come_out_as_the_right_colours(mode):
    image = Image.new("RGB", (8, 8), RED if mode not in ("1", "L") else WHITE).convert(mode)
    format_ = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    picture = open_image(image if mode == "HSV" else encoded(image, format_))
    expected = RED if mode not in ("1", "L") else WHITE
    assert picture.image.mode == "RGB"
    assert np.abs(np.array(picture.image.getpixel((4, 4))) - expected).max() <= 2


def test_cmyk_jpeg():
    picture = open_image(encoded(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG"))
    assert np.abs(np.array(picture.image.getpixel((8, 8))) - RED).max() <= 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_over_white_and_hidden_colour_stays_hidden(mode):
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0)).convert(mode)
    picture = open_image(image)
    assert picture.image.getpixel((4, 4)) == WHITE
    assert picture.notes == ("wholly transparent: seen as white",)


def test_palette_transparency():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    assert open_image(encoded(image, transparency=1)).image.getpixel((4, 4)) == WHITE
    assert open_image(encoded(image, transparency=0)).image.getpixel((4, 4)) == RED


def test_half_clear_red_over_white_is_pink():
    assert open_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)))).image.getpixel((1, 1)) == (255, 127, 127)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_order_and_range(format_):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    picture = open_image(encoded(Image.fromarray(ramp), format_))
    grey = np.asarray(picture.image)[..., 0].ravel().astype(int)
    assert grey[0] == 0 and grey[-1] == 255 and (np.diff(grey) > 0).all()
    assert picture.notes == ("grey levels scaled to 8 bits",)


@pytest.mark.parametrize(
    ("grey", "top"),
    [
        (np.float32([[0, 0.5, 1]]), [0, 128, 255]),
        (np.float32([[0, 100, 255]]), [0, 100, 255]),
        (np.int32([[0, 7, 65535]]), [0, 0, 255]),
    ],
)
def test_deep_grey_of_a_plausible_range(grey, top):
    assert np.asarray(open_image(Image.fromarray(grey)).image)[0, :, 0].tolist() == top


@pytest.mark.parametrize(
    "grey", [np.float32([[0, 1e6]]), np.float32([[0, np.nan]]), np.int32([[-5, 3]]), np.int32([[0, 70000]])]
)
def test_deep_grey_of_unknown_range_is_refused(grey):
    with pytest.raises(ImageError, match="unknown range"):
        open_image(Image.fromarray(grey))


def test_both_byte_orders_of_16_bit_grey_are_the_same_picture():
    levels = np.arange(0, 200, dtype=np.uint16).reshape(10, 20)
    little, big = (
        Image.frombytes(mode, (20, 10), levels.astype(order).tobytes())
        for mode, order in (("I;16", "<u2"), ("I;16B", ">u2"))
    )
    assert open_image(little).image.tobytes() == open_image(big).image.tobytes()


def test_open_images_are_checked_for_size_and_copied():
    with pytest.raises(ImageError, match="1 x 60000"):
        open_image(Image.new("RGB", (1, 60_000)))
    image = Image.new("RGB", (4, 4), RED)
    seen = open_image(image).image
    image.paste(WHITE, (0, 0, 4, 4))
    assert seen.getpixel((1, 1)) == RED


def test_lab_is_refused_by_name():
    with pytest.raises(ImageError, match="colour mode LAB"):
        open_image(Image.new("LAB", (4, 4)))


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_used_and_said(format_):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, (0, 0, 255), (0, 255, 0))]
    picture = open_image(encoded(frames[0], format_, save_all=True, append_images=frames[1:]))
    assert np.abs(np.array(picture.image.getpixel((4, 4))) - RED).max() <= 4
    assert picture.notes == ("several frames: the first is used",)


def test_tiny_pictures():
    for size in ((1, 1), (3, 2)):
        assert open_image(encoded(Image.new("RGB", size, RED))).image.size == size


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "empty", "download it again"),
        (b"\x89", "not-an-image", "not an image"),
        (b"<!DOCTYPE html><html>404</html>", "not-an-image", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not-an-image", "git lfs pull"),
        (b"%PDF-1.7 ...", "not-an-image", "PDF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not-an-image", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not-an-image", "PostScript"),
        (b"PK\x03\x04zip", "not-an-image", "ZIP"),
        (b"\x80\x04\x95pickle", "not-an-image", "pickle"),
        (b"just some words", "not-an-image", "text"),
        (png_header(60_000, 60_000), "too-large", "over 89 megapixels"),
        (png_header(12_000, 9_000), "too-large", "12000 x 9000"),
        (png_header(1, 60_000), "too-narrow", "1 x 60000"),
        (encoded(corner_marked())[:-40], "truncated", "truncated"),
        (encoded(corner_marked(), "JPEG")[:-200], "truncated", "truncated"),
        (encoded(corner_marked(), "GIF")[:-30], "truncated", "truncated"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_picture_is_refused_by_name(tmp_path, data, code, says):
    path = tmp_path / "claims to be.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=says) as error:
        open_image(path)
    assert error.value.code == code
    assert "claims to be.jpg" in str(error.value) and "fix: " in str(error.value)


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    for name, code in (
        ("pipe.png", "not-a-file"),
        ("folder.png", "not-a-file"),
        ("dangling.png", "missing"),
        ("none", "missing"),
    ):
        with pytest.raises(ImageError) as error:
            open_image(tmp_path / name)
        assert error.value.code == code


def test_a_wrong_suffix_does_not_matter_and_names_may_be_any_bytes(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9\n\x1b[31m.txt")
    with open(path, "wb") as file:
        file.write(encoded(corner_marked()))
    assert open_image(os.fsdecode(path)).image.size == (40, 20)
    with open(path, "wb") as file:
        file.write(b"no")
    with pytest.raises(ImageError) as error:
        open_image(os.fsdecode(path))
    assert r"caf\udce9\n\x1b[31m.txt" in str(error.value)


def test_draft_never_goes_below_twice_what_the_encoder_wants():
    data = encoded(Image.new("RGB", (2400, 1600), RED), "JPEG")
    assert open_image(data).image.size == (2400, 1600)
    for fit_px in (64, 100, 224, 336, 900):
        image = open_image(data, fit_px=fit_px).image
        assert min(image.size) >= min(1600, 2 * fit_px)
        assert (image.size == (2400, 1600)) == (4 * fit_px > 1600)  # the next smaller scale would go below


SEEDS = [encoded(corner_marked(), f) for f in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12), st.floats(0, 1))
def test_damaged_pictures_give_a_picture_or_an_image_error(data, flips, keep):
    damaged = bytearray(data[: max(1, int(len(data) * keep))])
    for place, value in flips:
        damaged[min(len(damaged) - 1, int(place * len(damaged)))] = value
    try:
        picture = open_image(bytes(damaged))
    except ImageError as error:
        assert error.code and error.fix
    else:
        assert picture.image.mode == "RGB"


def test_draft_costs_next_to_nothing(photos, starter):
    """Six real photographs as large JPEGs: the embedding with draft against the full decode."""
    cosines = []
    for path in photos.values():
        image = Image.open(path).convert("RGB")
        data = encoded(
            image.resize((2400, 2400 * image.height // image.width), Image.Resampling.LANCZOS), "JPEG", quality=92
        )
        full = open_image(data).image
        draft = open_image(data, fit_px=starter.image_px).image
        assert draft.width < full.width
        a, b = starter.images([full, draft])
        cosines.append(float(a @ b))
    assert np.median(cosines) >= 0.999
    assert min(cosines) >= 0.99


def test_a_reduced_decode_leaves_the_box_where_it_was(starter, photos):
    """The box is in shares of the image, so that a JPEG decoded at a half or a quarter has the box of the whole one."""
    full = Image.open(photos["cat"]).convert("RGB").resize((2405, 1603))
    data = io.BytesIO()
    full.save(data, "JPEG")
    draft = open_image(data.getvalue(), fit_px=starter.image_px).image
    assert draft.width < full.width
    assert np.abs(np.subtract(starter.prepare(draft).box, starter.prepare(full).box)).max() < 1 / draft.height
