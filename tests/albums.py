"""Images for tests, painted in the colours that the fake encoder sees."""

from pathlib import Path

from PIL import Image

from vlmdesc.testing import COLOURS


def paint(path, *colours, side=16):
    """Stripes of colours."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (side, side))
    for i, colour in enumerate(colours):
        image.paste(COLOURS[colour], (i * side // len(colours), 0, side, side))
    image.save(path)
    return path


def colours_of(path):
    """The colours in a contact sheet."""
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        seen = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20)}
    return {name for name, colour in COLOURS.items() if colour in seen} - {"black", "white", "grey"}
