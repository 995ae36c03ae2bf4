import io
import itertools

import numpy as np
import pytest
from PIL import Image

from vlmdesc.encode.pipeline import Encoded, encode_pictures
from vlmdesc.errors import ImageError
from vlmdesc.testing import COLOURS, FakeEncoder


def solid(colour, size=(20, 20)):
    return Image.new("RGB", size, COLOURS[colour])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
@pytest.mark.parametrize("workers", [1, 4])
def test_results_keep_the_order_with_errors_in_their_place(tmp_path, batch_size, workers):
    sources = [solid("red"), b"broken", solid("blue"), tmp_path / "missing.jpg", b"", solid("green")]
    results = list(encode_pictures(FakeEncoder(), sources, batch_size=batch_size, workers=workers))
    assert [type(result) for result in results] == [Encoded, ImageError, Encoded, ImageError, ImageError, Encoded]
    wanted = FakeEncoder().texts(["red", "blue", "green"])
    good = np.stack([result.vector for result in results if isinstance(result, Encoded)])
    assert (good @ wanted.T).argmax(axis=1).tolist() == [0, 1, 2]
    assert [r.key for r in results if isinstance(r, Encoded)] == ["image 0", "image 2", "image 5"]


def test_no_pictures_and_only_broken_ones():
    assert list(encode_pictures(FakeEncoder(), [])) == []
    assert [r.code for r in encode_pictures(FakeEncoder(), [b"", b"x"], batch_size=1)] == ["empty", "not-an-image"]


def test_sources_are_read_as_needed():
    read = itertools.count()

    def endless():
        while True:
            next(read)
            yield solid("red")

    results = encode_pictures(FakeEncoder(), endless(), batch_size=4, workers=2)
    assert len(list(itertools.islice(results, 10))) == 10
    results.close()
    assert next(read) <= 10 + 2 * 4 + 8


def test_embeddings_do_not_depend_on_the_batch(photos, starter):
    paths = list(photos.values())
    alone = np.stack([r.vector for r in encode_pictures(starter, paths, batch_size=1)])
    together = np.stack([r.vector for r in encode_pictures(starter, paths, batch_size=6)])
    assert np.abs(alone - together).max() < 1e-5


def test_big_pictures_take_turns():
    big = io.BytesIO()
    Image.new("L", (5000, 4000)).save(big, "PNG")
    results = list(encode_pictures(FakeEncoder(), [big.getvalue()] * 4, workers=4))
    assert all(isinstance(result, Encoded) for result in results)
