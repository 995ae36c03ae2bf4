"""A neighbourhood that is ready to classify: its texts, what images taught it, and the numbers chosen on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classify.neighborhood import (
    blocks,
    candidates,
    parts,
    picks,
    profile,
    running_means,
    separating,
    stand_in,
)
from vlmdesc.classify.score import Columns
from vlmdesc.describe.phrase import PHOTO, completed, get_phrase
from vlmdesc.describe.phrase import texts as worded
from vlmdesc.encode.embed import embed_texts
from vlmdesc.encode.protocol import Encoder
from vlmdesc.encode.store import Store
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptors, Selection

PUBLISHED_K, PUBLISHED_M = 3, 5
KS, MS = (2, 3, 5, 8), (1, 2, 3, 5, 10, 15)
NAME_WEIGHTS = np.arange(0, 40, 0.25, dtype=np.float32)  # the published sweep
NAME_SAY = 2.0  # where no label can tell: the name tells candidates apart twice as loudly as the descriptors do
MOST = 5_000  # images that choices are made on
ROUNDS = 10
CONFIDENT = 0.5  # share of each pseudo-class that teaches


@dataclass(frozen=True)
class Texts:
    """What can be said of C classes: a caption of each (C, D), and M texts to pick from, of any class, each once.

    `own` (C, R) are numbers of each class's own texts, -1 padded. `names` and `said` are captions and texts as a
    person reads them.
    """

    captions: Float32[np.ndarray, "c d"]
    texts: Float32[np.ndarray, "m d"]
    own: Int[np.ndarray, "c r"]
    names: Sequence[str]
    said: Sequence[str]


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
        slope = max(self.choice.name_weight, 1.0)
        whole = slope * (images @ texts.captions.T - named[:, -1:]) + found.min(axis=1, keepdims=True)
        np.put_along_axis(whole, chosen.candidates.astype(np.intp), found, axis=1)
        return whole

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


def texts_of(encoder: Encoder, descriptors: Descriptors, phrase: str = PHOTO, store: Store | None = None) -> Texts:
    """Captions in that phrase and the descriptors of all classes, encoded, or from the store."""
    said, own = pool_of(descriptors)
    whole, _ = completed(descriptors, get_phrase(phrase))
    rows = worded(whole, get_phrase(phrase))
    shelf = store.texts(encoder) if store else None
    vectors = embed_texts([*rows, *said], encoder, shelf) if shelf else encoder.texts([*rows, *said])
    columns = Columns(vectors[: len(rows)], whole.owner, whole.weights, len(whole.classes))
    names = [rows[columns.rows_of(c)[0]] for c in range(len(whole.classes))]
    return Texts(columns.means, vectors[len(rows) :], own, names, said)


def pool_of(descriptors: Descriptors) -> tuple[list[str], Int[np.ndarray, "c r"]]:
    """The descriptors of all classes that count, each text once, in row order; and the numbers of each class's own.

    Raises: InputError when there is none.
    """
    number: dict[str, int] = {}
    lists: list[dict[int, None]] = [{} for _ in descriptors.classes]
    for row, owner, weight in zip(descriptors.rows, descriptors.owner, descriptors.weights, strict=True):
        if row.text and weight > 0:
            lists[owner][number.setdefault(row.text, len(number))] = None
    if not number:
        raise InputError("no descriptors to pick from", fix="describe some class")
    own = np.full((len(lists), max(MS)), -1, np.intp)
    for c, list_ in enumerate(lists):
        own[c, : len(list_)] = [*list_][: max(MS)]
    return [*number], own


def fit(texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " r"]) -> Neighborhood:
    """Taught by labelled reference images; candidates, descriptors and name weight chosen on them.

    Raises: InputError when there are none.
    """
    if not len(images):
        raise InputError("no reference images", fix="give at least one of some class")
    taught = _profile(texts, images, labels)
    choice = choose(texts, images, labels, lambda *some: leave_one_out(texts, taught, *some))
    return Neighborhood(texts, choice, taught, len(images))


def unselected(texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " r"]) -> Neighborhood:
    """The same but for the selection: every candidate has its own first descriptors. What selection has to beat.

    Ma et al. 2025 call this the assignment of the LLM.
    """
    choice = choose(texts, images, labels, lambda found, own, *_: _own(found, own))
    return Neighborhood(texts, choice, None, len(images))


def _profile(
    texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " r"]
) -> Float32[np.ndarray, "c m"]:
    return np.ascontiguousarray(profile(images, labels, texts.texts, len(texts.captions)).T)


Some = Int[np.ndarray, " s"]
Select = Callable[
    [Int[np.ndarray, "s k"], Int[np.ndarray, "c r"], Float32[np.ndarray, "s d"], Some, Some],
    Selection,
]


def leave_one_out(
    texts: Texts,
    taught: Float32[np.ndarray, "c m"],
    found: Int[np.ndarray, "s k"],
    own: Int[np.ndarray, "c r"],
    images: Float32[np.ndarray, "s d"],
    labels: Int[np.ndarray, " s"],
    sizes: Int[np.ndarray, " s"],
) -> Selection:
    """What is picked for reference images, each with a profile of its class that it has no part in.

    `found` are their candidates, `sizes` how many reference images the class of each has, two or more.
    """
    picked = np.empty((*found.shape, own.shape[1]), np.int32)
    for block in blocks(len(images), 4 * taught.shape[1] * found.shape[1]):
        rows, (i, j) = taught[found[block]], np.nonzero(found[block] == labels[block, None])
        n = sizes[block][i, None].astype(np.float32)
        rows[i, j] = (n * rows[i, j] - images[block][i] @ texts.texts.T) / (n - 1)
        picked[block] = separating(rows, own.shape[1])
    fallback = stand_in(picked, found, own)
    return Selection(found, picked, fallback)


def choose(
    texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " r"], select_for: Select
) -> Choice:
    """k, m and name weight of most right answers on reference images that `select_for` leaves out in turn.

    At most 5,000, of classes that have two or more. Of equal choices the one nearest to the name alone. Where no class
    has two images, k and m are the published ones and the weight is `balanced`.
    """
    n_classes = len(texts.captions)
    sizes = np.bincount(labels, minlength=n_classes)[labels]
    some = np.flatnonzero(sizes > 1)
    if not len(some):
        nobody = np.full(len(images), -1)  # is left out
        return _published(texts, images, lambda found, own: select_for(found, own, images, nobody, sizes))
    some = some[np.argsort(labels[some], kind="stable")]
    some = some[np.linspace(0, len(some) - 1, min(len(some), MOST)).astype(np.intp)]
    x, y = images[some], labels[some]
    options = []
    for k in sorted({min(k, n_classes) for k in KS}):
        found = candidates(x, texts.captions, k)
        chosen = select_for(found, texts.own, x, y, sizes[some])
        named, picked = parts(x, texts.captions, texts.texts, chosen)
        described, right = running_means(picked), found == y[:, None]
        figures = (float(share.mean()) for share in (right[:, 0], right.any(axis=1), chosen.fallback))
        by_name, ceiling, fallback = figures
        for m in MS:
            for weight, accuracy in zip(NAME_WEIGHTS, _accuracies(named, described[:, :, m - 1], right), strict=True):
                options.append(Choice(k, m, float(weight), accuracy, by_name, ceiling, fallback))
    return max(options, key=lambda o: (o.accuracy, o.name_weight, -o.k, -o.m))


def _accuracies(
    named: Float32[np.ndarray, "s k"], described: Float32[np.ndarray, "s k"], right: np.ndarray
) -> list[float]:
    """Share of right answers at each name weight."""
    rows = np.arange(len(named))
    return [float(right[rows, (w * named + described).argmax(axis=1)].mean()) for w in NAME_WEIGHTS]


def _published(
    texts: Texts,
    images: Float32[np.ndarray, "n d"],
    select_for: Callable[[Int[np.ndarray, "n k"], Int[np.ndarray, "c r"]], Selection],
) -> Choice:
    """The published k and m, and the balanced weight."""
    k, m = min(PUBLISHED_K, len(texts.captions)), PUBLISHED_M
    chosen = select_for(candidates(images, texts.captions, k), texts.own[:, :m])
    named, picked = parts(images, texts.captions, texts.texts, chosen)
    return Choice(k, m, balanced(named, running_means(picked)[:, :, -1]))


def balanced(named: Float32[np.ndarray, "n k"], described: Float32[np.ndarray, "n k"]) -> float:
    """The weight at which the name tells an image's candidates apart twice as loudly as the descriptors: the ratio of
    the spreads of their similarities within images, which needs no label.
    """
    loud = [float((x - x.mean(axis=1, keepdims=True)).std()) for x in (described, named)]
    return NAME_SAY * loud[0] / loud[1] if loud[1] > 0 else 1.0


def fit_unlabelled(texts: Texts, images: Float32[np.ndarray, "n d"]) -> Neighborhood:
    """Taught by images without labels: the reference are the images that the neighbourhood itself is surest of.

    Pseudo-labels come from the captions first. The half of each pseudo-class with the widest margins then teaches a
    neighbourhood, which labels all images anew, until no label changes, for ten rounds at most. k and m are the
    published ones, and the name weight is balanced in the first round.
    Raises: InputError when there are no images.
    """
    if not len(images):
        raise InputError("no images", fix="give at least one")
    k = min(PUBLISHED_K, len(texts.captions))
    found = candidates(images, texts.captions, k)
    scores = np.take_along_axis(images @ texts.captions.T, found, axis=1)
    labels, current = found[:, 0], None
    for round_ in range(1, ROUNDS + 1):
        sure = _surest(labels, scores)
        taught = _profile(texts, images[sure], labels[sure])
        chosen = picks(taught, found, texts.own[:, :PUBLISHED_M])
        named, picked = parts(images, texts.captions, texts.texts, chosen)
        described = running_means(picked)[:, :, -1]
        weight = current.choice.name_weight if current else balanced(named, described)
        scores = weight * named + described
        fresh = np.take_along_axis(found, scores.argmax(axis=1)[:, None], axis=1)[:, 0]
        settled = bool((fresh == labels).all())
        current = Neighborhood(texts, Choice(k, PUBLISHED_M, weight), taught, len(sure), False, round_, settled)
        if settled:
            break
        labels = fresh
    assert current is not None  # noqa: S101 - there is a first round
    return current


def _surest(labels: Int[np.ndarray, " n"], scores: Float32[np.ndarray, "n k"]) -> Int[np.ndarray, " s"]:
    """The half of each class that leads its second candidate most clearly, at least one image: their numbers."""
    best = np.sort(scores, axis=1)
    margins = best[:, -1] - best[:, -2] if best.shape[1] > 1 else best[:, -1]
    order = np.lexsort((-margins, labels))
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(labels)) - starts[labels[order]]
    return np.sort(order[rank < np.ceil(CONFIDENT * sizes[labels[order]])])
