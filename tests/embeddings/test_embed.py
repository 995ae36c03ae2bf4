import builtins
import errno
import io
import itertools
import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from vlmdesc import Classifier, Descriptors
from vlmdesc.embeddings.data import load_data
from vlmdesc.embeddings.embed import embed, embedding, text_vectors
from vlmdesc.embeddings.pipeline import Encoded, encode_images
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import ImageError, ModelError, StoreError, VlmdescWarning
from vlmdesc.testing import COLOURS, FakeEncoder


class Counting(FakeEncoder):
    """Counts the images and texts that go through the model, and the size of each batch."""

    def __init__(self):
        self.seen, self.read = [], []

    def forward(self, pixels):
        self.seen.append(len(pixels))
        return super().forward(pixels)

    def texts(self, texts):
        self.read += texts
        return super().texts(texts)


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for i in range(20):
        colours = np.random.default_rng(i).integers(0, 255, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(colours).save(folder / f"{i:02d}.png")
    return folder


def test_a_second_run_encodes_nothing_and_gives_the_same_bits(album, tmp_path):
    encoder, store = Counting(), Store(tmp_path)
    first = embed(load_data(album), encoder, store, batch_size=8)
    assert encoder.seen == [8, 8, 4]
    second = embed(load_data(album), encoder, store)
    assert encoder.seen == [8, 8, 4]
    assert np.array_equal(first.vectors, second.vectors) and first.keys == second.keys
    assert first.keys[:2] == ("00.png", "01.png") and first.embeddings.encoder == "fake-1"
    alone = FakeEncoder().images([Image.open(path) for path in sorted(album.iterdir())])
    assert np.array_equal(np.asarray(first.vectors), alone)


def test_moved_renamed_and_copied_pictures_are_known_by_their_content(album, tmp_path):
    encoder, store = Counting(), Store(tmp_path)
    embed(load_data(album), encoder, store)
    album.rename(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "00.png", tmp_path / "other" / "twin.jpg")
    found = embed(load_data(tmp_path / "other"), encoder, store)
    assert sum(encoder.seen) == 20 and len(found.keys) == 21
    assert np.array_equal(found.vectors[0], found.vectors[20])


def test_a_content_that_comes_twice_in_one_run_is_encoded_once(tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(data, "PNG")
    image = Image.new("RGB", (9, 9), "red")
    encoder = Counting()
    found = embed([data.getvalue()] * 70 + [image] * 70, encoder, Store(tmp_path))
    assert sum(encoder.seen) == 2 and found.vectors.shape == (140, 16)
    assert found.keys[0] == "image 0" and np.ptp(np.asarray(found.vectors), axis=0).max() == 0


def test_an_edited_picture_is_another(album, tmp_path):
    encoder, store = Counting(), Store(tmp_path)
    embed(load_data(album), encoder, store)
    Image.new("RGB", (4, 4), COLOURS["pink"]).save(album / "03.png")
    found = embed(load_data(album), encoder, store)
    assert sum(encoder.seen) == 21
    assert float(found.vectors[3] @ FakeEncoder().texts(["pink"])[0]) > 0.9


@pytest.mark.parametrize("stop", range(0, 20, 3))
def test_an_interrupted_run_goes_on_with_the_same_batches_and_bits(album, tmp_path, stop):
    class Position(Counting):
        """The vector of an image depends on its place in the batch, as the last bits of a real model's may."""

        def forward(self, pixels):
            found = super().forward(pixels) + 0.1 * np.eye(len(pixels), 16, dtype=np.float32)
            return found / np.linalg.norm(found, axis=1, keepdims=True)

    (album / "05x.png").write_bytes(b"broken")
    shutil.copy(album / "01.png", album / "09x.png")
    whole = embed(load_data(album), Position(), Store(tmp_path / "whole"), batch_size=4)
    encoder, collection = Position(), Store(tmp_path / "cut").images(FakeEncoder())
    results = embedding(load_data(album), encoder, collection, batch_size=4)
    for _ in range(stop):
        next(results)
    results.close()
    done = sum(encoder.seen)
    resumed = embed(load_data(album), encoder, Store(tmp_path / "cut"), batch_size=4)
    assert np.array_equal(whole.vectors, resumed.vectors)
    assert sum(encoder.seen) == 20 and done >= min(stop, 20) - 3


def test_broken_images_are_left_out_and_told_of_or_an_error(album, tmp_path):
    (album / "05.png").write_bytes((album / "05.png").read_bytes()[:40])
    found = embed(load_data(album), FakeEncoder(), Store(tmp_path))
    assert "05.png" not in found.keys and len(found.keys) == len(found.vectors) == 19
    assert [error.where for error in found.failed] == [str(album / "05.png")] and found.failed_labels == (None,)
    found.save_errors(tmp_path / "errors.jsonl")
    assert json.loads((tmp_path / "errors.jsonl").read_text())["code"] == "not-an-image"
    assert (found.new, found.stored, found.to_dict()["failed"]) == (19, 0, 1)
    with pytest.raises(ImageError, match="not an image"):
        embed(load_data(album), FakeEncoder(), Store(tmp_path), strict=True)


def test_images_in_memory_without_a_store_and_progress(album):
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(album.iterdir())]
    told = []
    found = embed(np.stack(images), "fake", store=False, progress=lambda *stage: told.append(stage))
    assert np.array_equal(found.vectors, FakeEncoder().images(images)) and found.to_dict()["store"] == ""
    assert told[0] == ("images", 0, 20) and told[-1] == ("images", 20, 20) and found.keys[19] == "image 19"


def test_nothing_to_embed(tmp_path):
    (tmp_path / "0.png").touch()
    for store in (Store(tmp_path / "cache"), False):
        assert len(embed([tmp_path / "0.png"], FakeEncoder(), store).vectors) == 0
    assert not (tmp_path / "cache").exists()


def test_notes_come_back_from_the_store(tmp_path):
    data = io.BytesIO()
    frames = [Image.new("RGBA", (9, 9), (0, 0, 0, 0)), Image.new("RGBA", (9, 9), "blue")]
    frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    collection = Store(tmp_path).images(FakeEncoder())
    first, second = (next(encode_images(FakeEncoder(), [data.getvalue()], collection=collection)) for _ in range(2))
    assert first.notes == second.notes == ("several frames: the first is used", "wholly transparent: seen as white")
    assert (first.stored, second.stored) == (False, True)


def test_what_the_model_cannot_do_is_tried_again_and_never_stored(album, tmp_path):
    class Picky(FakeEncoder):
        fails = True

        def forward(self, pixels):
            found = super().forward(pixels)
            if self.fails and any(np.array_equal(p, bad) for p in pixels):
                raise ModelError("not finite", fix="use --precision fp32")
            return found

    bad = FakeEncoder().prepare(Image.open(album / "07.png")).pixels
    encoder, collection = Picky(), Store(tmp_path).images(FakeEncoder())
    results = [found for _, found in embedding(load_data(album), encoder, collection)]
    assert [type(found) for found in results] == [Encoded] * 7 + [ImageError] + [Encoded] * 12
    assert results[7].code == "model" and results[7].where.endswith("07.png")
    encoder.fails = False
    assert [found.stored for _, found in embedding(load_data(album), encoder, collection)] == [True] * 7 + [False] + [
        True
    ] * 12


class Faulty:
    """Makes the K-th of the calls that change the disk fail, or all from the K-th on."""

    def __init__(self, patch, at, for_ever, number=errno.ENOSPC):
        self.calls, self.at, self.for_ever, self.number = 0, at, for_ever, number
        real_open = builtins.open
        for name in ("fsync", "replace", "mkdir"):
            patch.setattr(os, name, self.failing(getattr(os, name)))
        patch.setattr("vlmdesc.files.open", self.opening(real_open), raising=False)

    def enter(self):
        self.calls += 1
        if self.calls == self.at or (self.for_ever and self.calls > self.at):
            raise OSError(self.number, os.strerror(self.number))

    def failing(self, call):
        def wrapped(*args, **kwargs):
            self.enter()
            return call(*args, **kwargs)

        return wrapped

    def opening(self, real_open):
        def opened(*args, **kwargs):
            self.enter()
            file = real_open(*args, **kwargs)
            write = file.write

            class Written:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def __getattr__(self, name):
                    return getattr(file, name)

            written = Written()

            def torn(data):
                write(data[: len(data) // 2])
                self.enter()
                return write(data[len(data) // 2 :])

            written.write = torn
            return written

        return opened


@pytest.mark.parametrize("for_ever", [False, True])
def test_a_full_disk_at_any_call_is_a_store_error_and_loses_nothing(album, tmp_path, for_ever):
    """Each of the calls that change the disk fails in turn; what was stored before stays."""
    whole = embed(load_data(album), FakeEncoder(), Store(tmp_path / "whole"), batch_size=4)
    refused = 0
    for at in itertools.count(1):
        store, done = Store(tmp_path / f"{at}"), []
        with pytest.MonkeyPatch.context() as patch:
            disk = Faulty(patch, at, for_ever)
            try:
                collection = store.images(FakeEncoder())
                done += (found for _, found in embedding(load_data(album), FakeEncoder(), collection, batch_size=4))
            except StoreError as error:
                refused += 1
                assert re.search(rf"No space left on device, .*MiB free there \({tmp_path}", str(error))
        if disk.calls < at:
            break
        assert not list(tmp_path.rglob(".*.part"))
        before, encoder = sum(map(len, store.images(FakeEncoder()).segments)), Counting()
        assert np.array_equal(embed(load_data(album), encoder, store, batch_size=4).vectors, whole.vectors)
        assert sum(encoder.seen) == 20 - before
    assert len(done) == 20 and refused > 0.7 * at > 20  # the lock makes sure of its folder, which is there


def test_scoring_goes_on_where_nothing_can_be_written(album, tmp_path):
    store = Store(tmp_path / "cache")
    paths = sorted(album.iterdir())
    wanted = Classifier(FakeEncoder(), Descriptors.of({"red": [], "blue": []}))(paths)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(VlmdescWarning, match="not kept: cannot write") as warned:
        Faulty(patch, 1, True, errno.EROFS)
        classifier = Classifier(FakeEncoder(), Descriptors.of({"red": [], "blue": []}), store=store)
        assert classifier([*paths]) == wanted
    assert len(warned) == 1  # of images; of texts there is a note
    assert [note.partition(":")[0] for note in classifier.notes] == ["embeddings are not kept"]
    assert not (tmp_path / "cache").exists()


def test_a_classifier_with_a_store_says_the_same_and_encodes_once(album, tmp_path):
    zoo = Descriptors.of({"red": ["red wings", "a red beak"], "blue": ["a blue tail"]})
    paths = sorted(album.iterdir())
    wanted = Classifier(FakeEncoder(), zoo)(paths)
    encoder = Counting()
    for _ in range(2):
        assert Classifier(encoder, zoo, store=Store(tmp_path))(paths) == wanted
    assert sum(encoder.seen) == 20 and len(encoder.read) == 3
    Classifier(encoder, Descriptors.of({"red": ["red wings", "a red tail"], "blue": ["a hat"]}), store=Store(tmp_path))
    assert len(encoder.read) == 5


def test_texts_are_stored_as_they_are_and_given_back_in_order(tmp_path):
    texts = ["a red comb", "A red comb", "a red comb ", "a blue door", "a red comb", "caf\u00e9", "cafe\u0301"]
    encoder = Counting()
    for _ in range(2):
        found = text_vectors(texts, encoder, Store(tmp_path))
        assert np.array_equal(found, FakeEncoder().texts(texts))
    assert sorted(encoder.read) == sorted(set(texts))
    assert text_vectors([], encoder, Store(tmp_path)).shape[0] == 0


def test_a_text_that_is_too_long_is_warned_of_each_time(tmp_path):
    long = "red " * 100
    for _ in range(2):
        with pytest.warns(VlmdescWarning, match="reads 77 of the 102 tokens"):
            text_vectors([long, "blue"], FakeEncoder(), Store(tmp_path))


@pytest.mark.slow
def test_the_starters_embeddings_come_back_bit_for_bit(photos, starter, tmp_path):
    paths = list(photos.values())
    first = embed(paths, starter, Store(tmp_path))
    again = embed(paths[::-1], starter, Store(tmp_path))
    assert np.array_equal(np.asarray(first.vectors), np.asarray(again.vectors)[::-1])
    direct = np.stack([item.vector for item in encode_images(starter, paths)])
    assert np.array_equal(direct, first.vectors)
