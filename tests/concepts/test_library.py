"""Indexes and names as a script uses them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vlmdesc as vd
from tests.albums import paint
from vlmdesc.embeddings.load import ENCODERS
from vlmdesc.errors import ImageError, InputError

NAMES = ["red", "blue", "pink", "green"]


@pytest.fixture(autouse=True)
def album(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for colour in ("red", "blue", "pink"):
        paint(f"album/{colour}/1.png", colour)
        paint(f"album/{colour}/2.png", colour, "white")


@pytest.fixture
def index():
    return vd.Index.build(vd.load_data("album"), "fake")


def labels(found):
    return [hit.label for hit in found]


def test_a_query_is_whatever_vision_code_holds(index):
    path = Path("album/red/1.png")
    with Image.open(path) as image:
        for query in (path, str(path), path.read_bytes(), [path], image):
            found = index.search(query, top=1)
            assert found[0].label == "red" and len(found) == 1
            assert found[0].id.endswith("red/2.png") or query is image  # whose pixels have no file
        assert index.search([image, "blue"], minus=image.copy())[0].label == "blue"
    assert labels(index.search("red", top=2)) == ["red", "red"]
    assert labels(index.search(["red", "blue"], minus="blue", filters="label=p*")) == ["pink", "pink"]
    best = index.search("red")[0]
    assert index.search(best, top=1)[0].id != best.id
    assert index.search("red").to_dict()["index"] == "" and index.search(path).wanted == (str(path),)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ([], "nothing to look for"),
        ([None], "NoneType where a text or an image is meant"),
        ([np.zeros(16, np.float32)], "ndarray where a text or an image is meant"),
        ("nowhere/cat.png", "no such image"),
        (" ", "an empty text"),
    ],
)
def test_a_query_that_says_nothing_is_told_before_a_model_is_loaded(index, monkeypatch, query, says):
    saved = index.save("idx").folder
    monkeypatch.setitem(ENCODERS, "fake", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match=says) as told:
        vd.Index.open(saved).search(query)
    assert told.value.fix


def test_an_image_that_cannot_be_used_is_told(index):
    with pytest.raises(ImageError, match="empty"):
        index.search(b"")


def test_names_of_clusters_and_of_images(index, tmp_path):
    found = vd.name(index, NAMES, k=3, unique=True, top=2)
    assert {concept.names[0].text for concept in found.concepts if concept.named} <= {*NAMES}
    assert (len(found.concepts), found.n, found.to_dict()["seed"]) == (3, 6, 0) and found.montage("sheet.png") == 6
    with Image.open("album/red/1.png") as image:
        images = [image.copy(), Path("album/blue/1.png"), b"none"]
    named = vd.name(images, NAMES, index=index)
    assert [concept.examples[0].key for concept in named.concepts] == [
        "image 0",
        "album/blue/1.png",
    ] and named.model == "fake"
    assert [concept.names[0].text for concept in named.concepts] == ["red", "blue"] and len(named.failed) == 1
    (tmp_path / "album" / "notes.txt").write_text("text")
    named = vd.name("album", NAMES, encoder="fake")
    assert len(named.concepts) == 6 and "notes.txt" in named.notes[0]
    with pytest.raises(InputError, match="1 words"):
        vd.name(index, ["red"])
