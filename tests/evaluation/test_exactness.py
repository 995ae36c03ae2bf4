"""Mean pooling against the loop that the published code runs over classes."""

import numpy as np
import pytest

from vlmdesc.classification.columns import Columns
from vlmdesc.classification.score import get_pool


def published(images, texts, owner, n_classes):
    """Similarity matrix, then a mean over the columns of each class in turn. Menon & Vondrick 2023, released code."""
    similarity = images @ texts.T
    return np.stack([similarity[:, owner == c].mean(axis=1) for c in range(n_classes)], axis=1)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_as_the_published_loop_on_5000_random_cases():
    rng, answers = np.random.default_rng(0), 0
    for _ in range(5_000):
        n, classes, more, dim = rng.integers([1, 2, 0, 2], [4, 6, 12, 24])
        owner = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, more)]))
        images, texts = (unit(rng.standard_normal((k, dim))).astype(np.float32) for k in (n, len(owner)))
        columns = Columns(texts, owner, np.ones(len(owner), np.float32), int(classes))
        theirs, ours = published(images, texts, owner, classes), get_pool("mean").score(images, columns)
        assert np.abs(theirs - ours).max() <= 1e-5
        assert np.array_equal(theirs.argmax(axis=1), ours.argmax(axis=1))
        answers += int(n)
    assert answers > 5_000


@pytest.mark.slow
def test_as_the_published_loop_on_tiny_imagenet_with_the_published_descriptors(shared, starter):
    from vlmdesc import Descriptors, Store, load_data
    from vlmdesc.classification.heads.pooled import fit_pooled
    from vlmdesc.embeddings.labelled import Joining, class_numbers, gather

    data = load_data(shared / "tiny-imagenet-val.parquet", label_column="label")
    whole = Descriptors.load(shared / "published-descriptors" / "descriptors_imagenet.json")
    descriptors, numbers = class_numbers(data, whole, Joining(only_present=True))
    numbers = np.where(np.arange(len(numbers)) % 25 == 0, numbers, -1)  # a few, for time
    photos = gather(data, numbers, starter, Store())
    head = fit_pooled(starter, descriptors, "dclip", store=Store())
    theirs = published(photos.vectors, head.columns.texts, head.columns.owner, 202)
    ours = head.scores(photos.vectors)
    assert len(ours) == 202 and np.abs(theirs - ours).max() <= 1e-5
    assert np.array_equal(theirs.argmax(axis=1), ours.argmax(axis=1))
