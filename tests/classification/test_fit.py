"""The public functions that learn from labelled images: `vd.fit`, and what `vd.select` gives."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import vlmdesc as vd
from vlmdesc.errors import InputError, ModelError
from vlmdesc.testing import COLOURS, FakeEncoder

ZOO = {"flamingo": ["pink feathers"], "frog": ["green skin"], "raven": ["black wings"]}
COLOUR = {"flamingo": "pink", "frog": "green", "raven": "black"}


def unwanted():
    pytest.fail("loaded")


def image(colour, spot, seed):
    pixels = np.full((16, 16, 3), COLOURS[colour], np.uint8)
    pixels[4:10, 4:10], pixels[0, 0] = COLOURS[spot], seed
    return Image.fromarray(pixels)


@pytest.fixture
def album(tmp_path):
    """Four images of each class, and two of one that no text tells of."""
    for name, colour in COLOUR.items():
        (tmp_path / "known" / name).mkdir(parents=True)
        for i in range(4):
            image(colour, ("white", "red")[i % 2], i).save(tmp_path / "known" / name / f"{i}.png")
    (tmp_path / "shots" / "newt").mkdir(parents=True)
    for i in range(2):
        image("purple", "yellow", i).save(tmp_path / "shots" / "newt" / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("head", ["prototypes", "neighborhood"])
def test_a_head_is_fitted_saved_and_decides_with_its_own_model(album, head):
    seen = []
    fitted = vd.fit(album / "known", ZOO, "fake", head, out=album / "head", progress=lambda *step: seen.append(step))
    assert fitted.head.card.fitted_on["images"] == 12 and fitted.head.card.fitted_on["data"].endswith("known")
    assert {"reference", "texts"} <= {stage for stage, *_ in seen} and ("reference", 12, 12) in seen
    again = vd.Classifier.load(album / "head")
    assert again.encoder.name == "fake" and again(image("green", "white", 9)) == fitted(image("green", "white", 9))
    assert vd.head_record(again.head)["kind"] == head
    with pytest.raises(InputError, match="there is a head"):
        vd.fit(album / "known", ZOO, unwanted, head, out=album / "head")
    vd.fit(album / "known", ZOO, "fake", head, out=album / "head", replace=True)


def test_photographs_add_classes_and_the_others_keep_their_scores(album):
    plain, fitted = vd.Classifier("fake", ZOO), vd.fit(None, ZOO, "fake", shots=album / "shots")
    assert fitted.classes_.tolist() == [*ZOO, "newt"] and fitted.predict(image("purple", "yellow", 9)) == ["newt"]
    assert fitted.notes == (
        "learned from 2 photographs: newt (new) from 2", "1 class without a descriptor, scored by name: newt",
    )  # fmt: skip
    vectors = FakeEncoder().images([image("pink", "red", 7), image("green", "red", 8)])
    assert np.array_equal(fitted.scores(vectors)[:, :3], plain.scores(vectors))
    both = vd.fit(album / "known", ZOO, "fake", shots=album / "shots")
    assert both.head.card.fitted_on["images"] == 14 and (both.scores(vectors)[:, 1] > plain.scores(vectors)[:, 1]).all()


def test_what_is_wrong_is_told_before_the_model_is_loaded(album):
    for data, options, says in (
        (None, {}, "no images to fit to"),
        (album / "known", {"head": "prototype"}, "did you mean 'prototypes'"),
        (album / "known", {"pool": "maen"}, "did you mean 'mean'"),
        (album / "known", {"phrase": "plian"}, "did you mean 'plain'"),
        (album / "shots", {}, "no image has a label of a class"),
        (None, {"shots": album / "known" / "frog"}, "no class folders"),
    ):
        with pytest.raises(InputError, match=says):
            vd.fit(data, ZOO, unwanted, **options)
    with pytest.raises(InputError, match="no descriptors to pick from"):
        vd.fit(album / "known", [*ZOO], unwanted, "neighborhood")
    with pytest.raises(InputError, match="without a reference"):
        vd.select(album / "known", ZOO, unwanted, only_present=True)


def test_labelled_embeddings_are_fitted_to_and_refused_by_identity(album):
    from vlmdesc.embeddings.labelled import Labelled

    images = Labelled.of(album / "known", ZOO, "fake")
    by_path = vd.fit(album / "known", ZOO, "fake")
    assert np.array_equal(vd.fit(images, ZOO, "fake").scores(images.vectors), by_path.scores(images.vectors))
    with pytest.raises(ModelError, match="other-1"):
        vd.fit(replace(images, encoder="other-1"), ZOO, "fake")
    with pytest.raises(InputError, match="other classes"):
        vd.fit(images, dict(reversed(ZOO.items())), "fake")


def test_a_selection_is_a_result_that_is_saved(album):
    found = vd.select(album / "known", ZOO | {"hen": ["a red comb"]}, "fake", album / "known")
    assert [class_.id for class_ in found.descriptors.classes] == [*ZOO, "hen"] and found.images == 12
    assert found.descriptors.meta["selection"]["model"] == "fake" and "on 12 images of the reference" in found.sentence
    assert repr(found).startswith("<Selected 4 descriptors, ")
    found.save(album / "some.json")
    assert vd.Descriptors.load(album / "some.json") == found.descriptors and (album / "some.pairs.json").is_file()
    (album / "known" / "frog" / "torn.png").write_bytes(b"<html>")
    again = vd.select(album / "known", ZOO, "fake")
    assert len(again.failed) == 1 and again.to_dict()["selection"]["labels"] == "none"
