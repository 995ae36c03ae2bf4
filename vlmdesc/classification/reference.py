"""A neighbourhood that is ready to classify: its texts, what images taught it, and the numbers chosen on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.classification.leads import ROOM, separating
from vlmdesc.classification.neighborhood import (
    blocks,
    candidates,
    check_labels,
    left_out_in_turn,
    parts,
    picks,
    profile,
    running_means,
    similarities,
    stand_in,
)
from vlmdesc.classification.texts import OWN, Texts, texts_of
from vlmdesc.descriptors.phrase import PHOTO
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptors, Selection

PUBLISHED_K, PUBLISHED_M = 3, 5
KS, MS = (2, 3, 5, 8), (1, 2, 3, 5, 10, OWN)
NAME_WEIGHTS = np.arange(0, 40, 0.25, dtype=np.float32)  # the published sweep
NAME_SAY = 2.0  # where no label can tell: the name tells candidates apart twice as loudly as the descriptors do
QUIET = 1e-6  # spread of similarities that is rounding


@dataclass(frozen=True)
class Choice:
    """Candidates an image has, descriptors each of them gets at most, and how much the name counts beside these.

    `accuracy` was reached with it on the reference images, each left out in turn, and `by_name` by the captions alone;
    None where the reference could not tell, and k and m are the published ones. `ceiling` is the share of these images
    whose class is among the candidates, which nothing that is picked can go beyond, and `fallback` the share of
    candidates that no descriptor tells from the others.
    """

    k: int
    m: int
    name_weight: float
    accuracy: float | None = None
    by_name: float | None = None
    ceiling: float | None = None
    fallback: float | None = None


@dataclass(frozen=True)
class Neighborhood:
    """Classifies by what tells an image's candidate classes apart. Ma et al. 2025; see `classify.neighborhood`.

    `profile` is (C, M), NaN for classes without images, which keep their own descriptors; None: all keep their own.
    `taught_by` says how many images taught it, `labelled` whether they came with labels, `rounds` how often
    pseudo-labels were made, and `settled` whether they came to rest.
    """

    texts: Texts
    choice: Choice
    profile: Float32[np.ndarray, "c m"] | None = None
    taught_by: int = 0
    labelled: bool = True
    rounds: int = 0
    settled: bool = True

    def select(self, images: Float32[np.ndarray, "n d"]) -> Selection:
        """Candidates of each image and the descriptors that tell them apart."""
        found = candidates(images, self.texts.captions, self.choice.k)
        own = self.texts.own[:, : self.choice.m]
        if self.profile is None:
            return _own(found, own)
        return picks(self.profile, found, own)

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores (N, C). Candidates come first; the others follow by their captions, all below the candidates."""
        chosen, texts = self.select(images), self.texts
        named, picked = parts(images, texts.captions, texts.texts, chosen)
        found = self.choice.name_weight * named + running_means(picked)[:, :, -1]
        # Below the last candidate by how much less similar the caption is, and by a little where it is as similar.
        behind = np.minimum(images @ texts.captions.T - named[:, -1:], 0)
        below = np.nextafter(found.min(axis=1, keepdims=True), np.float32(-np.inf))
        whole = max(self.choice.name_weight, 1.0) * behind + below
        np.put_along_axis(whole, chosen.candidates.astype(np.intp), found, axis=1)
        return whole

    def reasons(
        self, images: Float32[np.ndarray, "n d"], classes: Int[np.ndarray, " n"], k: int
    ) -> tuple[Int[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
        """The k texts picked for each image's class that are most similar to it, best first, and how similar they are.

        (N, k) numbers of texts and similarities; -1 and NaN where fewer are picked, or the class is no candidate.
        """
        chosen = self.select(images)
        at = chosen.candidates == classes[:, None]
        rows = np.where(at.any(axis=1)[:, None], chosen.picked[np.arange(len(images)), at.argmax(axis=1)], -1)
        values = np.where(rows >= 0, similarities(images, self.texts.texts, rows), np.float32(np.nan))
        more = ((0, 0), (0, max(0, k - rows.shape[1])))
        rows, values = np.pad(rows, more, constant_values=-1), np.pad(values, more, constant_values=np.nan)
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]  # NaN last
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(values, order, axis=1)

    @cached_property
    def bare(self) -> Int[np.ndarray, " b"]:
        """Numbers of the classes that no image taught."""
        if self.profile is None:
            return np.arange(len(self.texts.captions))
        return np.flatnonzero(np.isnan(self.profile[:, 0]))


def _own(found: Int[np.ndarray, "n k"], own: Int[np.ndarray, "c r"]) -> Selection:
    return Selection(found, own[found], np.ones(found.shape, bool))


def neighborhood(
    encoder: Encoder,
    descriptors: Descriptors,
    images: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " r"],
    phrase: str = PHOTO,
    store: Store | None = None,
) -> Neighborhood:
    """A neighbourhood taught by labelled image embeddings; `phrase` words the captions.

    Where a phrase reads descriptors too, a class's caption is the mean of its texts.
    Raises: InputError for an unknown phrase, no descriptors or no images.
    """
    return fit(texts_of(encoder, descriptors, phrase, store), images, labels)


def fit(texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"]) -> Neighborhood:
    """Taught by labelled reference images; candidates, descriptors and name weight chosen on them.

    Raises: InputError when there are none.
    """
    if not len(images):
        raise InputError("no reference images", fix="give at least one of some class")
    taught = profile_of(texts, images, labels)
    return Neighborhood(texts, choose(texts, taught, images, labels), taught, len(images))


def unselected(texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"]) -> Neighborhood:
    """The same but for the selection: every candidate has its own first descriptors. What selection has to beat.

    Ma et al. 2025 call this the assignment of the LLM.
    """
    return Neighborhood(texts, choose(texts, None, images, labels), None, len(images))


def profile_of(
    texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"]
) -> Float32[np.ndarray, "c m"]:
    """The profile of the texts to pick from, class by class: (C, M)."""
    return np.ascontiguousarray(profile(images, labels, texts.texts, len(texts.captions)).T)


def leave_one_out(
    texts: Texts,
    taught: Float32[np.ndarray, "c m"] | None,
    images: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " _r"],
    some: Int[np.ndarray, " s"],
    found: Int[np.ndarray, "s k"],
) -> Selection:
    """What is picked for some of the reference images that have `taught`, each left out of its class's profile.

    `found` are their candidates. The class of an image that is the only one of it is then a class without any.
    """
    if taught is None:
        return _own(found, texts.own)
    sizes = np.bincount(labels)[labels]
    picked = np.empty((*found.shape, texts.own.shape[1]), np.int32)
    for block in blocks(len(some), 4 * taught.shape[1] * found.shape[1]):
        at = some[block]
        rows, (j, i) = taught[found[block].T], np.nonzero(labels[at] == found[block].T)
        n = sizes[at[i], None].astype(np.float32)
        rest = n * rows[j, i] - images[at[i]] @ texts.texts.T
        rows[j, i] = np.where(n > 1, rest / np.maximum(n - 1, 1), np.float32(np.nan))
        picked[block] = separating(rows, picked.shape[2], np.empty((ROOM, *rows.shape[1:]), np.float32))
    fallback = stand_in(picked, found, texts.own)
    return Selection(found, picked, fallback)


def choose(
    texts: Texts,
    taught: Float32[np.ndarray, "c m"] | None,
    images: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " _r"],
) -> Choice:
    """k, m and name weight of most right answers on reference images, each left out in turn.

    At most 5,000, of classes that have two or more. Of equal choices the one nearest to the published k, then m, then
    to a `balanced` weight, which are the choice where no class has two images.
    """
    n_classes = len(texts.captions)
    check_labels(len(images), labels, n_classes)
    some = left_out_in_turn(labels)
    if not len(some):
        return _published(texts, taught, images, labels)
    options: list[tuple[tuple[float, ...], Choice]] = []
    for k in sorted({min(k, n_classes) for k in KS}):
        found = candidates(images[some], texts.captions, k)
        chosen = leave_one_out(texts, taught, images, labels, some, found)
        named, picked = parts(images[some], texts.captions, texts.texts, chosen)
        described, right = running_means(picked), found == labels[some, None]
        by_name, ceiling, fallback = (float(x.mean()) for x in (right[:, 0], right.any(axis=1), chosen.fallback))
        for m in MS:
            usual = balanced(named, described[:, :, m - 1])
            for weight, accuracy in zip(NAME_WEIGHTS, _accuracies(named, described[:, :, m - 1], right), strict=True):
                rank = (accuracy, -abs(k - PUBLISHED_K), -abs(m - PUBLISHED_M), -abs(float(weight) - usual))
                options.append((rank, Choice(k, m, float(weight), accuracy, by_name, ceiling, fallback)))
    return max(options, key=lambda option: option[0])[1]


def _accuracies(
    named: Float32[np.ndarray, "s k"], described: Float32[np.ndarray, "s k"], right: Bool[np.ndarray, "s k"]
) -> list[float]:
    """Share of right answers at each name weight."""
    rows = np.arange(len(named))
    return [float(right[rows, (w * named + described).argmax(axis=1)].mean()) for w in NAME_WEIGHTS]


def _published(
    texts: Texts,
    taught: Float32[np.ndarray, "c m"] | None,
    images: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " r"],
) -> Choice:
    """The published k and m, and the balanced weight."""
    found = candidates(images, texts.captions, min(PUBLISHED_K, len(texts.captions)))
    chosen = leave_one_out(texts, taught, images, labels, np.arange(len(images)), found)
    named, picked = parts(images, texts.captions, texts.texts, chosen)
    return Choice(found.shape[1], PUBLISHED_M, balanced(named, running_means(picked)[:, :, PUBLISHED_M - 1]))


def balanced(named: Float32[np.ndarray, "n k"], described: Float32[np.ndarray, "n k"]) -> float:
    """The weight at which the name tells an image's candidates apart twice as loudly as the descriptors: the ratio of
    the spreads of their similarities within images, which needs no label.
    """
    loud = [float((x - x.mean(axis=1, keepdims=True)).std()) for x in (described, named)]
    return NAME_SAY * loud[0] / loud[1] if loud[1] > QUIET else 1.0
