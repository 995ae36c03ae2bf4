import io
import itertools
from threading import Lock
from time import sleep

import numpy as np
import pytest
from PIL import Image

from vlmdesc.embeddings.pipeline import Encoded, encode_images
from vlmdesc.embeddings.protocol import Encoder, PatchEncoder
from vlmdesc.errors import ImageError, ModelError
from vlmdesc.testing import COLOURS, FakeEncoder


def solid(colour, size=(20, 20)):
    return Image.new("RGB", size, COLOURS[colour])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
@pytest.mark.parametrize("workers", [1, 4])
def test_results_keep_the_order_with_errors_in_their_place(tmp_path, batch_size, workers):
    sources = [solid("red"), b"broken", solid("blue"), tmp_path / "missing.jpg", b"", solid("green")]
    results = list(encode_images(FakeEncoder(), sources, batch_size=batch_size, workers=workers))
    assert [type(result) for result in results] == [Encoded, ImageError, Encoded, ImageError, ImageError, Encoded]
    wanted = FakeEncoder().texts(["red", "blue", "green"])
    good = np.stack([result.vector for result in results if isinstance(result, Encoded)])
    assert (good @ wanted.T).argmax(axis=1).tolist() == [0, 1, 2]
    assert [r.key for r in results if isinstance(r, Encoded)] == ["image 0", "image 2", "image 5"]


@pytest.mark.parametrize(("different", "held_back"), [(256, 0), (1, 8 * 4)])  # what is seen twice waits for a batch
def test_sources_are_read_as_needed(different, held_back):
    read = itertools.count()

    def endless():
        while True:
            yield Image.new("RGB", (20, 20), (next(read) % different, 0, 0))

    results = encode_images(FakeEncoder(), endless(), batch_size=4, workers=2)
    assert len(list(itertools.islice(results, 10))) == 10
    results.close()
    assert next(read) <= 10 + 2 * 4 + 8 + held_back


def test_embeddings_do_not_depend_on_the_batch(photos, starter):
    paths = list(photos.values())
    alone = np.stack([r.vector for r in encode_images(starter, paths, batch_size=1)])
    together = np.stack([r.vector for r in encode_images(starter, paths, batch_size=6)])
    assert np.abs(alone - together).max() < 1e-5


class Slow(FakeEncoder):
    """Counts how many big images are being prepared at once."""

    def __init__(self):
        self.now, self.most, self.lock = 0, 0, Lock()

    def prepare(self, image):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        sleep(0.05)
        with self.lock:
            self.now -= 1
        return super().prepare(image)


@pytest.mark.parametrize(("size", "most"), [((5000, 4000), 1), ((50, 40), 4)])
def test_big_pictures_take_turns_and_small_ones_do_not(size, most):
    data = io.BytesIO()
    Image.new("L", size).save(data, "PNG")
    slow = Slow()
    results = list(encode_images(slow, [data.getvalue()] * 8, workers=4))
    assert all(isinstance(result, Encoded) for result in results)
    assert (slow.most == 1) == (most == 1)


class Picky(FakeEncoder):
    """Fails on images that are all blue, as a half-precision model may on some."""

    def prepare(self, image):
        if image.getpixel((0, 0)) == COLOURS["yellow"]:
            raise ValueError("odd pixels")
        return super().prepare(image)

    def forward(self, pixels):
        if (pixels == COLOURS["blue"]).all(axis=(1, 2, 3)).any():
            raise ModelError("an image embedding is not a finite direction", fix="use --precision fp32")
        return super().forward(pixels)


def test_a_picture_the_model_fails_on_is_the_only_one_lost():
    sources = [solid(colour) for colour in ("red", "blue", "green", "yellow", "pink")]
    found = list(encode_images(Picky(), sources))
    assert [type(item) for item in found] == [Encoded, ImageError, Encoded, ImageError, Encoded]
    assert found[1].code == "model" and "image 1" in str(found[1])
    assert "odd pixels" in str(found[3])


def test_lazily_opened_files_are_safe_in_many_threads(photos, tmp_path):
    Image.open(photos["cat"]).convert("RGB").save(tmp_path / "cat.jpg")
    lazy = Image.open(tmp_path / "cat.jpg")
    assert all(isinstance(item, Encoded) for item in encode_images(FakeEncoder(), [lazy] * 16, workers=8))


def test_the_fake_sees_colours_patch_by_patch():
    image = Image.new("RGB", (40, 40), COLOURS["red"])
    image.paste(COLOURS["blue"], (30, 0, 40, 10))
    fake = FakeEncoder()
    assert isinstance(fake, PatchEncoder) and isinstance(fake, Encoder)
    found = fake.patches(fake.prepare(image).pixels[None])
    assert found.shape == (1, 16, fake.dim)
    blue = (found[0] @ fake.texts(["blue"])[0] > 0.9).reshape(fake.grid)
    assert np.argwhere(blue).tolist() == [[0, 3]]
