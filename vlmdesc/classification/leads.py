"""The texts that tell candidate classes apart, from how much each looks like each candidate. Ma et al. 2025.

A text leads for a candidate where its profile is nowhere among the candidates higher; its lead is the mean difference
to them. That is what it has over the mean of all, so of many texts those with most of it nearly always lead, and one
pass an answer finds them. Only where that fails are the leads marked first, which takes more passes than all the rest.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int

from vlmdesc.classification.score import largest

ROOM = 3  # arrays of (B, M) to work in: memory that is new each time is slow to touch
# With more candidates, or fewer texts for each answer, those farthest over the mean too often don't lead.
CLOSE, MANY = 3, 200


def separating(
    rows: Float32[np.ndarray, "k b m"], n: int, room: Float32[np.ndarray, "r b m"]
) -> Int[np.ndarray, "b k n"]:
    """The n texts of widest lead for each of K candidates of B images, from the candidates' profiles; of equals the
    lower number comes first. -1 where fewer lead.

    A candidate without reference images, NaN throughout, leads nowhere, and nothing leads it. What `rows` and `room`
    hold afterwards means nothing.
    """
    k, b, m = rows.shape
    found, sure = np.empty((k, n, b), np.intp), np.zeros(b, bool)
    if 1 < k <= CLOSE and m >= MANY * n:
        found, sure = over_mean(rows, n, room)
    if not sure.all():
        rest = rows[:, ~sure]
        found[:, :, ~sure] = over_each(rest, n, room[:, : rest.shape[1]])
    return found.transpose(2, 0, 1)


def over_mean(
    rows: Float32[np.ndarray, "k b m"], n: int, room: Float32[np.ndarray, "r b m"]
) -> tuple[Int[np.ndarray, "k n b"], Bool[np.ndarray, " b"]]:
    """The n texts that are farthest over the mean of two candidates or more, and for which images all of them lead."""
    k, b, m = rows.shape
    mean, own = room[:2]
    np.add(rows[0], rows[1], out=mean)
    for row in rows[2:]:  # two thirds of the time of a sum
        mean += row
    mean /= np.float32(k)
    found = np.empty((k, n, b), np.intp)
    for j, row in enumerate(rows):
        np.subtract(row, mean, out=own)
        found[j] = widest(own, n)
    at = np.arange(b) * m + found
    values = np.stack([row.reshape(-1)[at] for row in rows])
    each = np.arange(k)
    return found, (values[each, each] == values.max(axis=0)).all(axis=(0, 1))


def over_each(
    rows: Float32[np.ndarray, "k b m"], n: int, room: Float32[np.ndarray, "r b m"]
) -> Int[np.ndarray, "k n b"]:
    """The n texts of widest lead, whatever the profiles."""
    highest, lead, own = room
    unknown = np.isnan(rows[:, :, 0])
    np.fmax.reduce(rows, axis=0, out=highest)
    rows[unknown] = 0
    n_known = len(rows) - unknown.sum(axis=0)
    rows.sum(axis=0, out=lead)
    lead /= np.maximum(n_known, 1).astype(np.float32)[:, None]
    np.subtract(highest, lead, out=lead)
    lead[n_known < 2] = -np.inf
    found = np.empty((len(rows), n, len(lead)), np.intp)
    for j, row in enumerate(rows):
        # Its leads, and -inf where it has none: in place and without np.where, which branches, four times as fast.
        np.copyto(own, row == highest)
        own -= np.float32(0.5)
        own *= np.float32(np.inf)
        np.minimum(lead, own, out=own)
        found[j] = widest(own, n)
    found.transpose(0, 2, 1)[unknown] = -1
    return found


def widest(leads: Float32[np.ndarray, "b m"], n: int) -> Int[np.ndarray, "n b"]:
    """Numbers of the n largest of each row, the first of equals first, -1 for -inf. They are -inf afterwards."""
    found, values = largest(leads, n)
    found[values == -np.inf] = -1
    return found
