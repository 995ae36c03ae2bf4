import io
import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from vlmdesc import Joining, Labelled, load_data
from vlmdesc.embeddings.image import MAX_BYTES, content_key, contents, open_image
from vlmdesc.embeddings.pipeline import Encoded, encode_images
from vlmdesc.errors import ImageError, InputError, ShapeError
from vlmdesc.testing import COLOURS, FakeEncoder

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)
ZOO = {"red": ["red"], "blue": ["blue"]}
ANY = Joining(allow_absent=True)


class Pairs(torch.utils.data.Dataset):
    """Images of one colour and their numbers."""

    classes = ("red", "blue")

    def __init__(self, numbers=(0, 1, 1)):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, number):
        colour = COLOURS[self.classes[self.numbers[number]]]
        return torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8 + number), self.numbers[number]


def loader(numbers=(0, 1, 1), **options):
    return torch.utils.data.DataLoader(Same(numbers), **options)


class Same(Pairs):
    """All of one size, for batches."""

    def __getitem__(self, number):
        return Pairs.__getitem__(self, 0)[0] * 0 + Pairs.__getitem__(self, number)[0][:, :, :8], self.numbers[number]


def png(pixels=PIXELS):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(2, 0, 1),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        TENSOR,
        TENSOR.permute(1, 2, 0),
        TENSOR.float() / 255,
        (TENSOR.double() / 255).requires_grad_(),
        PIXELS[None],
        TENSOR[None],
        Image.fromarray(PIXELS),
        png().getvalue(),
        bytearray(png().getvalue()),
        memoryview(png().getvalue()),
        png(),  # written to: one stands at its end
        [PIXELS],
        (pixels for pixels in [PIXELS]),
        [TENSOR[None]],
    ],
    ids=lambda images: type(images).__name__,
)
def test_the_same_pixels_are_the_same_embedding_however_they_are_held(images):
    [found] = encode_images(FakeEncoder(), images)
    assert isinstance(found, Encoded)
    assert np.array_equal(found.vector, FakeEncoder().images(Image.fromarray(PIXELS))[0])


def test_the_content_of_an_array_is_its_pixels():
    wanted = content_key(contents(Image.fromarray(PIXELS)))
    assert content_key(contents(PIXELS)) == content_key(contents(TENSOR.float() / 255)) == wanted
    other = PIXELS.copy()
    other[0, 0, 0] ^= 1
    assert len({wanted, content_key(contents(other)), content_key(contents(PIXELS.reshape(9, 6, 3)))}) == 3


def test_grey_and_transparent_arrays():
    grey = open_image(PIXELS[..., 0]).image
    assert np.array_equal(np.asarray(grey), np.repeat(PIXELS[..., :1], 3, axis=2))
    assert np.array_equal(open_image(PIXELS[..., :1]).image, grey)
    assert np.array_equal(open_image(PIXELS[..., 0] > 127).image.convert("L"), (PIXELS[..., 0] > 127) * np.uint8(255))
    clear = open_image(np.zeros((4, 4, 4), np.uint8))
    assert clear.image.getpixel((0, 0)) == (255, 255, 255) and clear.notes


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (PIXELS * 1.5, "divide by 255"),
        (PIXELS / 255 - 0.5, "before it is normalized"),
        (np.full((4, 4), np.nan), "floats from nan"),
        (PIXELS.astype(np.int64), "an array of int64"),
        (np.zeros((6, 8, 5), np.uint8), "without the shape of an image"),
        (np.zeros((0, 4, 3), np.uint8), "without the shape of an image"),
        (np.zeros((2, 900, 3), np.uint8), "one side is over 100 times the other"),
        (io.StringIO("text"), "str where an image is meant"),
        (7, "int where an image is meant"),
        (None, "NoneType where an image is meant"),
        ({"image": PIXELS}, "dict where an image is meant"),
        ([PIXELS], "list where an image is meant"),
        (bytes(MAX_BYTES + 1), "more than 64 MiB"),
        (io.BytesIO(bytes(MAX_BYTES + 1)), "more than 64 MiB"),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_image_costs_itself_only(thing, says):
    found = [*encode_images(FakeEncoder(), [PIXELS, thing, PIXELS])]
    assert [type(item) for item in found] == [Encoded, ImageError, Encoded]
    assert says in str(found[1]) and "image 1" in str(found[1]) and found[1].fix


def test_an_array_that_its_owner_fills_again_is_read_in_time():
    def frames():
        frame = np.empty((8, 8, 3), np.uint8)
        for colour in COLOURS.values():
            frame[:] = colour
            yield frame

    found = np.stack([item.vector for item in encode_images(FakeEncoder(), frames(), workers=4)])
    assert (found @ FakeEncoder().texts([*COLOURS]).T).argmax(axis=1).tolist() == [*range(len(COLOURS))]


def test_an_image_that_was_set_upright_is_not_turned_again():
    image, out = Image.new("RGB", (4, 2)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(out, "JPEG", exif=exif)
    upright = open_image(out).image
    assert upright.size == open_image(upright).image.size == (2, 4)


def test_a_path_is_an_image_a_folder_or_a_pattern(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png().getvalue())
    (tmp_path / "empty").mkdir()
    column = np.array([str(tmp_path / name) for name in ("a.png", "b.png")])
    for images in (tmp_path, str(tmp_path / "*.png"), column, column.astype(object)):
        assert [type(found) for found in encode_images(FakeEncoder(), images)] == [Encoded] * 2
    [missing] = encode_images(FakeEncoder(), str(tmp_path / "c.png"))
    assert missing.code == "missing"
    with pytest.raises(InputError, match="no images in this folder"):
        next(encode_images(FakeEncoder(), tmp_path / "empty"))


def test_torch_is_not_loaded_for_images_without_it():
    code = (
        "import sys, numpy, vlmdesc as vd; vd.embed([numpy.zeros((4, 4, 3), 'uint8')], 'fake', store=False)\n"
        "assert not {'torch', 'datasets'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- with labels ---

HF = datasets.Dataset.from_dict({"photo": [png(PIXELS).getvalue(), png(PIXELS + 1).getvalue()], "label": [1, 0]})
HF = HF.cast_column("label", datasets.ClassLabel(names=["red", "blue"])).cast_column("photo", datasets.Image())


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (Pairs(), [0, 1, 1]),
        (loader(batch_size=2), [0, 1, 1]),
        (loader(batch_size=None), [0, 1, 1]),
        (torch.utils.data.Subset(Pairs(), [2, 0]), [1, 0]),
        ((np.stack([PIXELS, PIXELS + 1]), ["blue", "red"]), [1, 0]),
        (([PIXELS, TENSOR + 1], np.array([1, 0])), [1, 0]),
        ((TENSOR[None], torch.tensor([1])), [1]),
        (HF, [1, 0]),
        (datasets.DatasetDict({"train": HF}), [1, 0]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_labelled_images_in_memory(data, labels):
    found = Labelled.of(data, ZOO, FakeEncoder(), joining=ANY, store=False, once=False)
    assert found.labels.tolist() == labels and not found.failed
    again = load_data(data)
    with pytest.raises(InputError, match="a data set that is loaded"):
        load_data(again, split="train")
    assert load_data(again) is again and not again.opened and len(again) == len([*again]) == len(labels)


def test_numbers_that_are_names_of_classes_are_these():
    digits = {"1": ["red"], "0": ["blue"]}
    found = Labelled.of(([PIXELS, PIXELS + 1], [0, 1]), digits, FakeEncoder(), store=False)
    assert found.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (([PIXELS], [0, 1]), "do not fit together"),
        (([PIXELS], 7), "no label column"),
        (([PIXELS], [2]), "class number 2 of 2 classes"),
        (([PIXELS], [-1]), "class number -1 of 2 classes"),
        (([PIXELS], ["green"]), "1 label of no class"),
        (([PIXELS], [["red"]]), "column 'label' holds list"),
        (loader(shuffle=True), "give shuffle=False"),
        ([PIXELS], "no label column"),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_labels_that_do_not_fit_are_refused(data, says):
    with pytest.raises((InputError, ImageError), match=says):
        Labelled.of(data, ZOO, FakeEncoder(), joining=ANY, store=False)


def test_a_loader_gives_its_images_to_be_classified_in_any_order():
    shuffled = loader(shuffle=True, batch_size=2)
    assert len([*encode_images(FakeEncoder(), shuffled)]) == len([*encode_images(FakeEncoder(), Pairs())]) == 3


def test_embeddings_of_ones_own_are_labelled_by_number_or_name():
    vectors = FakeEncoder().texts(["red", "blue", "red"])
    names = np.array(["red", "blue", "red"], object)  # as pandas holds text
    for labels, classes in (([0, 1, 0], ZOO), (names, ZOO), (torch.tensor([0, 1, 0]), ())):
        found = Labelled.from_arrays(vectors.tolist(), labels, classes=classes)
        assert found.labels.tolist() == [0, 1, 0] and np.allclose(found.vectors, vectors)
        assert found.contents[0] == found.contents[2] != found.contents[1]
    named = Labelled.from_arrays(vectors, [0, 1, 0], classes=ZOO)
    assert Labelled.of(named, ZOO, FakeEncoder()) is named
    with pytest.raises(InputError, match="images of other classes"):
        Labelled.of(named, {"hen": ["red"]}, FakeEncoder())


@pytest.mark.parametrize(
    ("embeddings", "labels", "says"),
    [
        (np.full((2, 4), np.nan), [0, 1], "not finite"),
        (np.ones((2, 4)), [0, 1], "not of norm 1"),
        (np.eye(4)[0], [0], "shape"),
        (np.empty((0, 4)), [], "empty"),
        (np.eye(2), [0], "for 2 embeddings"),
        (np.eye(2), [0.0, 1.0], "labels of float64"),
        (np.eye(2), [0, 2], "class number 2"),
        (np.eye(2), ["red", "green"], "1 label of no class"),
        ([[1, 0], [0]], [0, 1], "not an array"),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_embeddings_and_labels_that_do_not_fit_are_refused(embeddings, labels, says):
    with pytest.raises((ShapeError, InputError), match=says):
        Labelled.from_arrays(embeddings, labels, classes=ZOO)
