"""Reasons and contrasts of any head, and what each part is good for, from the parts of its scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vlmdesc.classification.heads import Head, Parts
from vlmdesc.classification.heads.pooled import Pooled, leave_out_each
from vlmdesc.records import Contrast, Hit, Hits

ALL = 1e-9  # of a share: a part that leaves less to the others is the only one


def rank(parts: Parts, k: int) -> tuple[Int[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """The k parts that give most to each image's score, best first; of equals the most similar: places and similarity.

    What lowers a score is left out where anything adds to it; where nothing does, the most similar come first. Places
    are columns of `parts`: (N, k), -1 where there are fewer; similarities (N, k), NaN there.
    """
    adds = np.any(parts.here & (parts.value > 0), axis=1, keepdims=True)
    wanted = parts.here & (~adds | (parts.value >= 0))
    value = np.where(wanted, np.where(adds, -parts.value, 0), np.inf)
    order = np.lexsort((-np.nan_to_num(parts.similarity), value), axis=1)[:, :k]
    good = np.take_along_axis(wanted, order, axis=1)
    similarity = np.where(good, np.take_along_axis(parts.similarity, order, axis=1), np.nan).astype(np.float32)
    short = ((0, 0), (0, k - order.shape[1]))
    places = np.pad(np.where(good, order, -1), short, constant_values=-1)
    return places, np.pad(similarity, short, constant_values=np.nan)


def because(parts: Parts, k: int) -> list[Hits]:
    """For each image the k parts that give most to its score, with their similarity to it."""
    places, similarity = rank(parts, k)
    numbers = np.take_along_axis(parts.number, places, axis=1)
    return [
        tuple(
            Hit(parts.keys[m], float(s), parts.texts[m])
            for at, m, s in zip(row.tolist(), ms.tolist(), values.tolist(), strict=True)
            if at >= 0
        )
        for row, ms, values in zip(places, numbers, similarity, strict=True)
    ]


def contrast(pair: tuple[Hit, Hit], sides: tuple[Parts, Parts], i: int) -> Contrast:
    """Which parts put the first class of `pair` ahead of the second for image i, and by how much.

    Parts of A less parts of B: with s halfway between the two scores, a part of the first adds (what it gives) - (its
    share) * s, one of the second the opposite, so that the contributions add up to the margin exactly.
    """
    level = sum(float(side.value[i].sum()) for side in sides) / 2
    signed = zip(sides, (1, -1), strict=True)
    of = [_hits(side, sign * (side.value[i] - side.share[i] * level), i) for side, sign in signed]
    return Contrast(*pair, pair[0].score - pair[1].score, *of)


@dataclass(frozen=True)
class Without:
    """What a class scores for N images (N,), and without each of R of its parts (N, R).

    `numbers` are those of `Parts`, `texts` as a person reads them. Where an image's score does not have the part, or
    has no other, it is the score itself.
    """

    numbers: Int[np.ndarray, " r"]
    texts: tuple[str, ...]
    score: Float32[np.ndarray, " n"]
    without: Float32[np.ndarray, "n r"]

    def take(self, images: Bool[np.ndarray, " n"]) -> Without:
        """Of some images."""
        return replace(self, score=self.score[images], without=self.without[images])

    @property
    def lift(self) -> Float32[np.ndarray, "n r"]:
        """How far each part lifts the score over what it is without it: (N, R)."""
        return self.score[:, None] - self.without


def leave_out(head: Head, images: Float32[np.ndarray, "n d"], class_: int) -> Without:
    """What a class scores without each of its parts in turn.

    Where a class is one vector of its columns, that vector is made of the others, exactly. Elsewhere it follows from
    the parts: what holds a share of the class leaves it to the others, (sum - value) / (1 - share), and what counts on
    top is taken off. For a mean the two are the same.
    """
    if isinstance(head, Pooled) and head.folds:
        return _exactly(head, images, class_)
    parts = head.parts(images, np.full(len(images), class_))
    numbers, at = np.unique(parts.number[parts.here], return_inverse=True)
    score = parts.value.sum(axis=1)
    without = np.repeat(score[:, None], len(numbers), axis=1)
    without[np.nonzero(parts.here)[0], at] = leave_out_parts(parts)[parts.here]
    texts = tuple(parts.texts[m] for m in numbers.tolist())
    return Without(numbers, texts, score.astype(np.float32), without.astype(np.float32))


def leave_out_parts(parts: Parts) -> Float[np.ndarray, "n p"]:
    """The score without each part: (N, P); the score itself where it holds all of the class, or there is no part."""
    held, alone = parts.share > 0, parts.share > 1 - ALL
    of_shares, on_top = (np.where(side, parts.value, 0).sum(axis=1, keepdims=True) for side in (held, ~held))
    others = (of_shares - parts.value) / np.where(held & ~alone, 1 - parts.share, 1) + on_top
    score = of_shares + on_top
    return np.where(alone, score, np.where(held, others, score - parts.value))


def _exactly(head: Pooled, images: Float32[np.ndarray, "n d"], class_: int) -> Without:
    alone = head.select(np.array([class_]))
    left, score = leave_out_each(alone), alone.scores(images)[:, 0]
    without = np.where(left.defined, images @ left.vectors.T, score[:, None])
    numbers = head.columns.rows_of(class_)
    return Without(numbers, tuple(alone.columns.descriptors or map(str, numbers)), score, without)


def _hits(side: Parts, values: np.ndarray, i: int) -> Hits:
    counts = side.here[i] & ((side.share[i] != 0) | (side.value[i] != 0))  # of a maximum only the best descriptor does
    order = [at for at in np.argsort(-values, kind="stable").tolist() if counts[at]]
    return tuple(Hit(side.keys[m], float(values[at]), side.texts[m]) for at in order for m in (side.number[i, at],))
