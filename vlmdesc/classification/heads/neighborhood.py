"""Selection in the label neighbourhood as a head: its texts, what images say of them, and the numbers chosen on them.

The rules are in `classification.selection`. Ma et al. 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.classification.columns import Encode, Prompts, encode_prompts, prompts_of
from vlmdesc.classification.heads.head import (
    REST,
    SLACK,
    Arrays,
    Fitting,
    HeadCard,
    Parts,
    add_up,
    embeddings,
    number,
    of_type,
    show,
    show_html,
    strings,
)
from vlmdesc.classification.leads import ROOM, separating
from vlmdesc.classification.selection import (
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
from vlmdesc.descriptors.phrase import PHOTO
from vlmdesc.errors import InputError, ShapeError
from vlmdesc.records import Descriptors, Selection

OWN = 15  # most descriptors that a candidate may get
PUBLISHED_K, PUBLISHED_M = 3, 5
KS, MS = (2, 3, 5, 8), (1, 2, 3, 5, 10, OWN)
NAME_WEIGHTS = np.arange(0, 40, 0.25, dtype=np.float32)  # the published sweep
NAME_SAY = 2.0  # where no label can tell: the name tells candidates apart twice as loudly as the descriptors do
QUIET = 1e-6  # spread of similarities that is rounding
ROUNDS = 10  # of pseudo-labels at most
CONFIDENT = 0.5  # share of each pseudo-class that is taken for the reference
CAPTION = "name"  # the key of the part that a caption gives


@dataclass(frozen=True)
class Texts:
    """What can be said of C classes: a caption of each (C, D), and M texts to pick from, of any class, each once.

    `own` (C, R) are numbers of each class's own texts, -1 padded. `names` and `descriptors` are captions and texts as a
    person reads them.
    """

    captions: Float32[np.ndarray, "c d"]
    texts: Float32[np.ndarray, "m d"]
    own: Int[np.ndarray, "c r"]
    names: tuple[str, ...]
    descriptors: tuple[str, ...]


def texts_of(descriptors: Descriptors, encode: Encode, phrase: str = PHOTO) -> Texts:
    """Captions in a phrase, and the descriptors of all classes to pick from, encoded.

    Where a phrase reads descriptors too, a class's caption is the mean of its texts.
    Raises: InputError for an unknown phrase or no descriptors.
    """
    own_texts, own = pool_of(descriptors)
    captions, names = captions_of(prompts_of(descriptors, phrase), encode)
    return Texts(captions, encode(own_texts), own, names, tuple(own_texts))


def captions_of(prompts: Prompts, encode: Encode) -> tuple[Float32[np.ndarray, "c d"], tuple[str, ...]]:
    """The caption of each class, the mean of its prompts, encoded (C, D), and as a person reads it."""
    columns = encode_prompts(prompts, encode)
    return columns.means, tuple(prompts.texts[columns.rows_of(c)[0]] for c in range(prompts.n_classes))


def pool_of(descriptors: Descriptors) -> tuple[list[str], Int[np.ndarray, "c r"]]:
    """The descriptors of all classes that count, each text once, in row order; and the numbers of each class's own, the
    first 15 in that order.

    Raises: InputError when there is none.
    """
    number: dict[str, int] = {}
    lists: list[set[int]] = [set() for _ in descriptors.classes]
    for row, owner, weight in zip(descriptors.rows, descriptors.owner, descriptors.weights, strict=True):
        if row.text and weight > 0:
            lists[owner].add(number.setdefault(row.text, len(number)))
    if not number:
        raise InputError("no descriptors to pick from", fix="give a descriptor set with texts, not names alone")
    own = np.full((len(lists), OWN), -1, np.intp)
    for c, list_ in enumerate(lists):
        own[c, : min(OWN, len(list_))] = sorted(list_)[:OWN]
    return [*number], own


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


@dataclass(frozen=True, repr=False)
class Neighborhood:
    """Decides by what tells an image's candidate classes apart. Ma et al. 2025; see `classification.selection`.

    `profile` is (C, M), NaN for classes without images, which keep their own descriptors; None: all keep their own. The
    card's `fitted_on` says how many images, with labels or without, and how often pseudo-labels were made.
    """

    card: HeadCard
    texts: Texts
    choice: Choice
    profile: Float32[np.ndarray, "c m"] | None = None
    __repr__, _repr_html_ = show, show_html

    def select(self, images: Float32[np.ndarray, "n d"]) -> Selection:
        """Candidates of each image and the descriptors that tell them apart."""
        found = candidates(images, self.texts.captions, self.choice.k)
        own = self.texts.own[:, : self.choice.m]
        if self.profile is None:
            return _own(found, own)
        return picks(self.profile, found, own)

    def scores(self, images: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        """Class scores (N, C). Candidates come first; the others follow by their captions, all below the candidates."""
        return self._scores(images, self.select(images))

    def _scores(self, images: Float32[np.ndarray, "n d"], chosen: Selection) -> Float32[np.ndarray, "n c"]:
        named, picked = parts(images, self.texts.captions, self.texts.texts, chosen)
        found = self.choice.name_weight * named + running_means(picked)[:, :, -1]
        # Below the last candidate by how much less similar the caption is, and by a little where it is as similar.
        behind = np.minimum(images @ self.texts.captions.T - named[:, -1:], 0)
        below = np.nextafter(found.min(axis=1, keepdims=True), np.float32(-np.inf))
        whole = max(self.choice.name_weight, 1.0) * behind + below
        np.put_along_axis(whole, chosen.candidates.astype(np.intp), found, axis=1)
        return whole

    def parts(
        self,
        images: Float32[np.ndarray, "n d"],
        classes: Int[np.ndarray, " n"],
        scores: Float32[np.ndarray, "n c"] | None = None,
    ) -> Parts:
        """The descriptors picked for each image's class, and its caption. Of a class that is no candidate the caption
        alone, and the rest that puts it behind the candidates.
        """
        chosen, texts = self.select(images), self.texts
        m, rows = len(texts.descriptors), np.arange(len(images))
        at = chosen.candidates == classes[:, None]
        candidate = at.any(axis=1)
        picked = np.where(candidate[:, None], chosen.picked[rows, at.argmax(axis=1)], -1)
        n_picked = (picked >= 0).sum(axis=1, keepdims=True)
        caption = np.einsum("nd,nd->n", images.astype(np.float64), texts.captions[classes])[:, None]
        found = np.where(picked >= 0, similarities(images, texts.texts, picked), 0).astype(np.float64)
        # With nothing picked the caption stands in for the mean.
        named = self.choice.name_weight + (n_picked == 0)
        each = np.where(picked >= 0, 1 / np.maximum(n_picked, 1), 0)
        weights = np.concatenate([named, each], axis=1)
        similarity = np.concatenate([caption, found], axis=1)
        value, scores = weights * similarity, self._scores(images, chosen) if scores is None else scores
        rest = np.where(candidate, 0, scores[rows, classes] - value.sum(axis=1))[:, None]
        number = np.concatenate(
            [m + classes[:, None], picked, np.where(candidate, -1, m + len(texts.names))[:, None]], 1
        )
        nothing = np.zeros_like(rest)
        raw = Parts(
            number,
            np.concatenate([value, rest], axis=1),
            np.concatenate([weights / weights.sum(axis=1, keepdims=True), nothing], axis=1),
            np.concatenate([similarity, nothing * np.nan], axis=1),
            self._keys,
            [*texts.descriptors, *texts.names, "(no candidate of this image)"],
        )
        return add_up(raw, scores, classes)

    @cached_property
    def _keys(self) -> list[str]:
        return [*map(str, range(len(self.texts.descriptors))), *[CAPTION] * len(self.texts.names), REST]

    @cached_property
    def bare(self) -> Int[np.ndarray, " b"]:
        """Numbers of the classes of which no image was given."""
        if self.profile is None:
            return np.arange(len(self.texts.captions))
        return np.flatnonzero(np.isnan(self.profile[:, 0]))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What is saved: texts, profile, and what was chosen."""
        texts = self.texts
        arrays = {"captions": texts.captions, "texts": texts.texts, "own": texts.own.astype(np.int64)}
        more = {} if self.profile is None else {"profile": self.profile}
        fields = {"choice": asdict(self.choice), "names": [*texts.names], "descriptors": [*texts.descriptors]}
        return fields, arrays | more

    @classmethod
    def restore(cls, card: HeadCard, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Neighborhood:
        """From what was saved."""
        names, descriptors = (strings(key, fields[key]) for key in ("names", "descriptors"))
        captions, rows = (embeddings(arrays, key) for key in ("captions", "texts"))
        own = of_type(arrays, "own", np.int64, 2).astype(np.intp)
        n, m, profile = len(card.classes), len(descriptors), arrays.get("profile")
        fits = len(captions) == len(own) == len(names) == n and len(rows) == m
        if not fits or not m or not own.shape[1] or own.max(initial=-1) >= m or own.min(initial=0) < -1:
            raise ShapeError("captions, texts and classes do not fit together", fix="save the head again")
        if profile is not None and (profile.dtype != np.float32 or profile.shape != (n, m)):
            what = f"a profile of {profile.dtype}, {profile.shape}, for {n} classes"
            raise ShapeError(what, fix="save the head again")
        if profile is not None and not ((abs(profile) <= 1 + SLACK).all(axis=1) | np.isnan(profile).all(axis=1)).all():
            raise ValueError("a profile of what are no similarities")
        return cls(card, Texts(captions, rows, own, names, descriptors), _choice(fields["choice"], n), profile)


def _choice(given: Mapping[str, Any], n_classes: int) -> Choice:
    """From what was saved."""
    choice = Choice(**given)
    if not (type(choice.k) is type(choice.m) is int and 1 <= choice.k <= n_classes and choice.m >= 1):
        raise ShapeError(f"{choice.k} candidates of {n_classes} classes", fix="save the head again")
    number("the weight of a name", choice.name_weight)
    for share in (choice.accuracy, choice.by_name, choice.ceiling, choice.fallback):
        if share is not None:
            number("a share", share, 1.0)
    return choice


def _own(found: Int[np.ndarray, "n k"], own: Int[np.ndarray, "c r"]) -> Selection:
    return Selection(found, own[found], np.ones(found.shape, bool))


def fit_neighborhood(
    card: HeadCard, texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"]
) -> Neighborhood:
    """From labelled reference images; candidates, descriptors and name weight are chosen on them.

    `card` says whose classes and embeddings these are. Raises: InputError when there are no images.
    """
    if not len(images):
        raise InputError("no reference images", fix="give at least one of some class")
    found = profile_of(texts, images, labels)
    return Neighborhood(_fit_card(card, len(images)), texts, choose(texts, found, images, labels), found)


def of_texts(given: Fitting) -> Neighborhood:
    """The same over what is said of the classes. Raises: InputError without an image or a descriptor, or for new
    classes, which it has no other way to treat.
    """
    if given.n_new:
        fix = "fit prototypes, which new classes are calibrated for, or leave n_new out"
        raise InputError(f"{given.n_new} new classes in a neighbourhood", fix=fix)
    texts = texts_of(given.descriptors, given.encode, given.phrase)
    return fit_neighborhood(given.card, texts, given.images, given.labels)


def fit_own(
    card: HeadCard, texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"]
) -> Neighborhood:
    """The same but for the selection: every candidate has its own first descriptors. What selection has to beat.

    Ma et al. 2025 call this the assignment of the LLM.
    """
    return Neighborhood(_fit_card(card, len(images)), texts, choose(texts, None, images, labels))


def fit_unlabelled(card: HeadCard, texts: Texts, images: Float32[np.ndarray, "n d"]) -> Neighborhood:
    """From images without labels: the reference are the images that the neighbourhood itself is surest of.

    Pseudo-labels come from the captions first. The half of each pseudo-class with the widest margins then gives the
    profile of a neighbourhood, which labels all images anew, until no label changes, for ten rounds at most. k and m
    are the published ones, and the name weight is balanced in the first round.
    Raises: InputError when there are no images.
    """
    if not len(images):
        raise InputError("no images", fix="give at least one")
    k = min(PUBLISHED_K, len(texts.captions))
    found = candidates(images, texts.captions, k)
    scores, labels, weight = similarities(images, texts.captions, found), found[:, 0], -1.0
    for round_ in range(1, ROUNDS + 1):
        sure = _surest(labels, scores)
        profile = profile_of(texts, images[sure], labels[sure])
        chosen = picks(profile, found, texts.own[:, :PUBLISHED_M])
        named, picked = parts(images, texts.captions, texts.texts, chosen)
        described = running_means(picked)[:, :, -1]
        weight = balance(named, described) if weight < 0 else weight
        scores = weight * named + described
        fresh = np.take_along_axis(found, scores.argmax(axis=1)[:, None], axis=1)[:, 0]
        settled = bool((fresh == labels).all())
        if settled or round_ == ROUNDS:
            break
        labels = fresh
    learned = _fit_card(card, len(sure), labels="none", rounds=round_, settled=settled)
    return Neighborhood(learned, texts, Choice(k, PUBLISHED_M, weight), profile)


def _fit_card(card: HeadCard, n_images: int, labels: str = "reference", **more: Any) -> HeadCard:
    return replace(card, kind="neighborhood", fitted_on={"images": n_images, "labels": labels, **more})


def _surest(labels: Int[np.ndarray, " n"], scores: Float32[np.ndarray, "n k"]) -> Int[np.ndarray, " s"]:
    """The half of each class that leads its second candidate most clearly, at least one image: their numbers."""
    best = np.sort(scores, axis=1)
    margins = best[:, -1] - best[:, -2] if best.shape[1] > 1 else best[:, -1]
    order = np.lexsort((-margins, labels))
    ordered = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < np.ceil(CONFIDENT * np.bincount(labels)[ordered])])


def profile_of(
    texts: Texts, images: Float32[np.ndarray, "r d"], labels: Int[np.ndarray, " _r"]
) -> Float32[np.ndarray, "c m"]:
    """The profile of the texts to pick from, class by class: (C, M)."""
    return np.ascontiguousarray(profile(images, labels, texts.texts, len(texts.captions)).T)


def leave_one_out(
    texts: Texts,
    known: Float32[np.ndarray, "c m"] | None,
    images: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " _r"],
    some: Int[np.ndarray, " s"],
    found: Int[np.ndarray, "s k"],
) -> Selection:
    """What is picked for some of the reference images that have a profile, each left out of its class's profile.

    `found` are their candidates. The class of an image that is the only one of it is then a class without any.
    """
    if known is None:
        return _own(found, texts.own)
    sizes = np.bincount(labels)[labels]
    picked = np.empty((*found.shape, texts.own.shape[1]), np.int32)
    for block in blocks(len(some), 4 * known.shape[1] * found.shape[1]):
        at = some[block]
        rows, (j, i) = known[found[block].T], np.nonzero(labels[at] == found[block].T)
        n = sizes[at[i], None].astype(np.float32)
        rest = n * rows[j, i] - images[at[i]] @ texts.texts.T
        rows[j, i] = np.where(n > 1, rest / np.maximum(n - 1, 1), np.float32(np.nan))
        picked[block] = separating(rows, picked.shape[2], np.empty((ROOM, *rows.shape[1:]), np.float32))
    fallback = stand_in(picked, found, texts.own)
    return Selection(found, picked, fallback)


def choose(
    texts: Texts,
    known: Float32[np.ndarray, "c m"] | None,
    images: Float32[np.ndarray, "r d"],
    labels: Int[np.ndarray, " _r"],
) -> Choice:
    """k, m and name weight of most right answers on reference images, each left out in turn.

    At most 5,000, of classes that have two or more. Of equal choices the one nearest to the published k, then m, then
    to a weight in `balance`, which are the choice where no class has two images.
    """
    n_classes, options = len(texts.captions), list[tuple[tuple[float, ...], Choice]]()
    check_labels(len(images), labels, n_classes)
    judged = left_out_in_turn(labels)
    some = judged if len(judged) else np.arange(len(images))
    for k in sorted({min(k, n_classes) for k in (KS if len(judged) else (PUBLISHED_K,))}):
        found = candidates(images[some], texts.captions, k)
        chosen = leave_one_out(texts, known, images, labels, some, found)
        named, picked = parts(images[some], texts.captions, texts.texts, chosen)
        described, right = running_means(picked), found == labels[some, None]
        if not len(judged):
            return Choice(k, PUBLISHED_M, balance(named, described[:, :, PUBLISHED_M - 1]))
        by_name, ceiling, fallback = (float(x.mean()) for x in (right[:, 0], right.any(axis=1), chosen.fallback))
        for m in MS:
            usual = balance(named, described[:, :, m - 1])
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


def balance(named: Float32[np.ndarray, "n k"], described: Float32[np.ndarray, "n k"]) -> float:
    """The weight at which the name tells an image's candidates apart twice as loudly as the descriptors: the ratio of
    the spreads of their similarities within images, which needs no label.
    """
    loud = [float((x - x.mean(axis=1, keepdims=True)).std()) for x in (described, named)]
    return NAME_SAY * loud[0] / loud[1] if loud[1] > QUIET else 1.0
