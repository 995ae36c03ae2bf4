"""Reasons and contrasts of any head, from the parts of its scores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.classification.heads.head import Parts
from vlmdesc.records import Contrast, Hit, Hits


def ranked(parts: Parts, k: int) -> tuple[Int[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
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
    places, similarity = ranked(parts, k)
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


def _hits(side: Parts, values: np.ndarray, i: int) -> Hits:
    order = [at for at in np.argsort(-values, kind="stable").tolist() if side.number[i, at] >= 0]
    return tuple(Hit(side.keys[m], float(values[at]), side.texts[m]) for at in order for m in (side.number[i, at],))
