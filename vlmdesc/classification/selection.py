"""Selection in the label neighbourhood: the descriptors that tell an image's candidate classes apart. Ma et al. 2025.

Images of each class, the reference, say how much each descriptor looks like each class: its profile. For an image,
the classes whose captions are most similar to it are its candidates. A candidate's descriptors are those whose profile
is nowhere among the candidates higher than at it, the widest lead first; they may come from any class's list. All is
done in blocks: no array grows with images times descriptors.

The rules are those of the released code; half precision and the loop over images are not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.classification.leads import ROOM, separating
from vlmdesc.classification.score import largest
from vlmdesc.errors import InputError, ShapeError
from vlmdesc.records import Selection

BLOCK_BYTES = 4 * 2**20  # of one array in a block: large enough for threads, small enough for the processor's cache
THREADS = 4  # more would wait for each other
MOST = 5_000  # images that choices are made on


def profile(
    reference: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " _r"],
    texts: Float32[np.ndarray, "m d"],
    n_classes: int,
) -> Float32[np.ndarray, "m c"]:
    """Mean similarity of each text to the reference images of each class: (M, C), NaN for a class without any.

    One product, since a mean of similarities is the similarity to the mean. Raises: ShapeError when labels do not fit.
    """
    return (class_means(reference, labels, n_classes) @ texts.T).T


def class_means(
    images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"], n_classes: int
) -> Float32[np.ndarray, "c d"]:
    """Mean image embedding of each class: (C, D), not unit-norm; NaN for a class without images.

    Raises: ShapeError when labels do not fit.
    """
    check_labels(len(images), labels, n_classes)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(n_classes + 1))
    means = np.full((n_classes, images.shape[1]), np.nan, np.float32)
    for class_ in np.flatnonzero(np.diff(edges)):
        means[class_] = images[order[edges[class_] : edges[class_ + 1]]].mean(axis=0)
    return means


def check_labels(n_images: int, labels: Int[np.ndarray, " _r"], n_classes: int) -> None:
    """Raises: ShapeError unless each image has the number of a class."""
    if len(labels) != n_images or (len(labels) and not 0 <= labels.min() <= labels.max() < n_classes):
        what = f"{n_images} images, {len(labels)} labels, {n_classes} classes"
        raise ShapeError(what, fix="give each image the number of its class, from 0")


def left_out_in_turn(labels: Int[np.ndarray, " r"]) -> Int[np.ndarray, " s"]:
    """Numbers of the images choices are made on: at most 5,000 of classes that have two or more, class by class."""
    some = np.flatnonzero(np.bincount(labels)[labels] > 1)
    some = some[np.argsort(labels[some], kind="stable")]
    return some[np.linspace(0, max(0, len(some) - 1), min(len(some), MOST)).astype(np.intp)]


def candidates(
    images: Float32[np.ndarray, "n d"], captions: Float32[np.ndarray, "c d"], k: int
) -> Int[np.ndarray, "n k"]:
    """The k classes whose captions are most similar to each image, best first, of equals the lower number: (N, k).

    Raises: InputError when there are not so many classes.
    """
    if not 1 <= k <= len(captions):
        raise InputError(f"{k} candidates of {len(captions)} classes", fix=f"use 1 to {len(captions)}")
    found = np.empty((len(images), k), np.int32)
    for block in blocks(len(images), 4 * len(captions)):
        found[block] = largest(images[block] @ captions.T, k)[0].T
    return found


def select(
    profile: Float32[np.ndarray, "m c"], candidates: Int[np.ndarray, "n k"], owner: Int[np.ndarray, " m"], m: int
) -> Selection:
    """For each candidate of each image the m texts that tell it from the other candidates, best first.

    Text d is picked for c when profile[d, c] >= profile[d, c'] for all candidates c', by the mean of these differences;
    of equals the lower number comes first. Where there is none, where c has no reference images, or no other candidate
    has, the first m texts that c owns stand in. Raises: InputError when m is none; ShapeError for a profile without
    texts, or of other classes than the candidates.
    """
    if m < 1:
        raise InputError(f"{m} descriptors for each candidate", fix="use 1 or more")
    return picks(np.ascontiguousarray(profile.T), candidates, first_texts(owner, profile.shape[1], m))


def picks(
    by_class: Float32[np.ndarray, "c m"], candidates: Int[np.ndarray, "n k"], own: Int[np.ndarray, "c r"]
) -> Selection:
    """`select` with the profile class by class, and the texts (C, R) that stand in for each class, -1 padded."""
    # The order of candidates changes nothing, and many images share their set of them.
    order = np.argsort(candidates, axis=1)
    sets, place = distinct_rows(np.take_along_axis(candidates, order, axis=1))
    (n, k), (n_classes, m), r = sets.shape, by_class.shape, own.shape[1]
    if not m:
        raise ShapeError("a profile of no texts", fix="give one text or more")
    if n and not 0 <= sets.min() <= sets.max() < n_classes:
        what = f"candidates run from {sets.min()} to {sets.max()} but the profile has {n_classes} classes"
        raise ShapeError(what, fix="give the profile of the same classes")
    picked = np.empty((n, k, r), np.int32)

    def fill(mine: Sequence[slice]) -> None:
        room = np.empty((k + ROOM, mine[0].stop - mine[0].start, m), np.float32)
        for block in mine:
            some = room[:, : len(sets[block])]
            for rows, classes in zip(some, sets[block].T, strict=False):
                np.take(by_class, classes, axis=0, out=rows, mode="clip")  # straight into place; "raise" would not
            picked[block] = separating(some[:k], r, some[k:])

    on_threads(fill, n, 4 * m * k)
    fallback = stand_in(picked, sets, own)
    each, back = place[:, None], np.argsort(order, axis=1)
    return Selection(candidates, picked[each, back], fallback[each, back])


def distinct_rows(rows: Int[np.ndarray, "n k"]) -> tuple[Int[np.ndarray, "s k"], Int[np.ndarray, " n"]]:
    """The different rows, sorted, and which of them each is. What np.unique does, five times as fast."""
    order = np.lexsort(rows.T[::-1])
    sorted_ = rows[order]
    new = np.ones(len(rows), bool)
    new[1:] = (sorted_[1:] != sorted_[:-1]).any(axis=1)
    place = np.empty(len(rows), np.intp)
    place[order] = new.cumsum() - 1
    return sorted_[new], place


def stand_in(
    picked: Int[np.ndarray, "n k r"], candidates: Int[np.ndarray, "n k"], own: Int[np.ndarray, "c r"]
) -> Bool[np.ndarray, "n k"]:
    """Fill in each candidate's own texts where nothing is picked for it, in place; where that was: (N, K)."""
    fallback = picked[:, :, 0] < 0
    picked[fallback] = own[candidates[fallback]]
    return fallback


def score(
    images: Float32[np.ndarray, "n d"],
    captions: Float32[np.ndarray, "c d"],
    texts: Float32[np.ndarray, "m d"],
    selection: Selection,
    name_weight: float,
) -> Float32[np.ndarray, "n k"]:
    """name_weight * similarity of the caption + mean similarity of what is picked, for each candidate: (N, k)."""
    named, picked = parts(images, captions, texts, selection)
    return name_weight * named + running_means(picked)[:, :, -1]


def parts(
    images: Float32[np.ndarray, "n d"],
    captions: Float32[np.ndarray, "c d"],
    texts: Float32[np.ndarray, "m d"],
    selection: Selection,
) -> tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n k r"]]:
    """Similarity of each candidate's caption (N, k), and of each text picked for it (N, k, R), NaN where none is.

    A candidate with nothing picked, for want of texts of its own, has its caption's similarity for the first.
    """
    n, k, r = selection.picked.shape
    named, rows = similarities(images, captions, selection.candidates), selection.picked.reshape(n, k * r)
    picked = np.where(rows >= 0, similarities(images, texts, rows), np.float32(np.nan)).reshape(n, k, r)
    none = selection.picked[:, :, 0] < 0
    picked[none, 0] = named[none]
    return named, picked


def similarities(
    images: Float32[np.ndarray, "n d"], texts: Float32[np.ndarray, "m d"], rows: Int[np.ndarray, "n r"]
) -> Float32[np.ndarray, "n r"]:
    """Similarity of each image to some texts of its own: (N, R)."""
    found = np.empty(rows.shape, np.float32)

    def fill(mine: Sequence[slice]) -> None:
        for block in mine:
            found[block] = (texts[rows[block]] @ images[block, :, None])[..., 0]

    on_threads(fill, len(images), 4 * images.shape[1] * rows.shape[1])
    return found


def running_means(picked: Float32[np.ndarray, "n k r"]) -> Float32[np.ndarray, "n k r"]:
    """Mean of the first 1, 2, ... R values, of those that are there: (N, K, R)."""
    there = ~np.isnan(picked)
    counts = np.maximum(there.cumsum(axis=2), 1).astype(np.float32)
    return np.where(there, picked, np.float32(0)).cumsum(axis=2) / counts


def first_texts(owner: Int[np.ndarray, " m"], n_classes: int, n: int) -> Int[np.ndarray, "c n"]:
    """The first n texts of each class: (C, n), -1 where it has fewer."""
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(n_classes + 1))
    at = edges[:-1, None] + np.arange(n)
    return np.where(at < edges[1:, None], np.append(order, -1)[np.minimum(at, len(order))], -1)


def blocks(n: int, row_bytes: int) -> Iterator[slice]:
    """Slices of n rows that have some megabytes each."""
    size = max(1, BLOCK_BYTES // row_bytes)
    return (slice(start, start + size) for start in range(0, n, size))


def on_threads(work: Callable[[Sequence[slice]], None], n: int, row_bytes: int) -> None:
    """Deal `blocks` out to a few threads; each has all of its own in one call. Raises what `work` raises."""
    all_, n_threads = [*blocks(n, row_bytes)], min(os.cpu_count() or 1, THREADS)
    if len(all_) == 1:  # to start a thread takes longer
        return work(all_)
    with ThreadPoolExecutor(n_threads) as threads:
        for _ in threads.map(work, [all_[i::n_threads] for i in range(min(n_threads, len(all_)))]):
            pass
