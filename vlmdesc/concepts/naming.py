"""Words for what a direction shows: an image, a cluster, a latent of an autoencoder.

The published rule gives a direction the word of the highest cosine (Rao et al. 2024, Discover-then-Name, 3.2). Images
and texts lie in two cones, though, and some words are near to all images of a data set and others to none; so here both
sides lose their mean, directions in which the images differ anyway count less, and a word's score is how many standard
deviations of all images it lies above their mean. A name is given only where chance would seldom give one as good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from vlmdesc.concepts.nearest import nearest
from vlmdesc.errors import InputError, ShapeError
from vlmdesc.records import Hit, Hits

LEVEL = 0.05  # how often chance may give as good a name
DRAWS = 1_000  # random directions that tell what chance gives
CLOSE = 32  # words looked at for each direction
SPLITS = 20  # of the vocabulary into halves
FAINT = 0.05  # of the images' own distance from their mean: where the mean of 400 random images lies
SAME = 1e-5  # of unit vectors: a word so near to the mean of all is nothing but rounding
PRIOR = 50  # images of no kind that every data set is thought to have besides its own: few images tell little


@dataclass(frozen=True)
class Frame:
    """Where directions and words meet: what is common to images and to words taken off, and their scale.

    `mean` (D,) is the images' and `scale` how far from it they lie, root mean square; `whiten` (D, D) evens out half
    way how they spread, `spread` (D, D) is what is left of that, for unit vectors; `words` (V, D) are such that a
    product with a placed direction is the word's score.
    """

    mean: Float[np.ndarray, " d"]
    scale: float
    whiten: Float[np.ndarray, "d d"]
    spread: Float[np.ndarray, "d d"]
    words: Float32[np.ndarray, "v d"]

    def place(self, directions: Float[np.ndarray, "p d"], differences: bool = False) -> Float32[np.ndarray, "p d"]:
        """Directions (P, D) as unit vectors of the frame; `differences` of embeddings have no mean to lose."""
        return unit((directions - (0 if differences else self.mean)) @ self.whiten).astype(np.float32)

    def faint(self, directions: Float[np.ndarray, "p d"]) -> Bool[np.ndarray, " p"]:
        """Which places (P, D) lie so near to the images' mean that they are no direction from it."""
        return np.linalg.norm(directions - self.mean, axis=1) <= FAINT * self.scale

    def random(self, n: int, seed: int) -> Float32[np.ndarray, "n d"]:
        """Placed directions that mean nothing: what sums of many images drawn at random are like."""
        draws = np.random.default_rng(seed).standard_normal((n, len(self.mean)))
        return unit(draws @ np.linalg.cholesky(self.spread).T).astype(np.float32)


def frame(words: Float32[np.ndarray, "v d"], images: Float32[np.ndarray, "n e"] | None = None) -> Frame:
    """The frame of a vocabulary's embeddings (V, D) and of images (N, D), those that directions come from or the like.

    Without images words are only centred. Raises: ShapeError when the widths differ.
    """
    dim = words.shape[1]
    seen = np.empty((0, dim)) if images is None else images.astype(np.float64)
    if seen.shape[1] != dim:
        raise ShapeError(f"words have {dim} dimensions, images {seen.shape[1]}", fix="use one encoder")
    trust = len(seen) / (len(seen) + PRIOR)
    mean = seen.mean(axis=0) if len(seen) else np.zeros(dim)
    scale = np.sqrt(((seen - mean) ** 2).sum(axis=1).mean()) if len(seen) else 0.0
    centred = unit(seen - mean)
    spread = trust * centred.T @ centred / max(len(seen), 1) + (1 - trust) * np.eye(dim) / dim  # its trace is 1
    whiten = np.linalg.inv(np.linalg.cholesky(spread + np.eye(dim) / dim)).T
    even = whiten.T @ spread @ whiten
    even /= np.trace(even)
    apart = words - words.mean(axis=0)
    apart[np.linalg.norm(apart, axis=1) < SAME] = 0
    turned = unit(apart @ whiten)
    deviation = np.sqrt(((turned @ even) * turned).sum(axis=1))
    scaled = turned / np.maximum(deviation, np.finfo(np.float32).tiny)[:, None]  # a word of nothing stays nothing
    return Frame(mean, float(scale), whiten, even, scaled.astype(np.float32))


@dataclass(frozen=True)
class Names:
    """The best words for P directions, best first: their numbers (P, T) and scores (P, T), in standard deviations.

    `chance` (P,) is the share of random directions whose best word scores as well as the chosen, or else the best.
    `stability` (P,) is how alike the best words of two halves of the vocabulary are, as a cosine in the frame, over 20
    random halvings. `chosen` (P,) is the word that is given as the name, -1 where none fits.
    """

    best: Int[np.ndarray, "p t"]
    scores: Float32[np.ndarray, "p t"]
    chance: Float[np.ndarray, " p"]
    stability: Float[np.ndarray, " p"]
    chosen: Int[np.ndarray, " p"]

    @property
    def margin(self) -> Float32[np.ndarray, " p"]:
        """How far each best word is above the second."""
        return self.scores[:, 0] - self.scores[:, 1]

    def hits(self, direction: int, words: Sequence[str], top: int) -> Hits:
        """The best words of a direction, the chosen one first."""
        found = [*zip(self.best[direction].tolist(), self.scores[direction].tolist(), strict=True)]
        found.sort(key=lambda pair: pair[0] != self.chosen[direction])
        return tuple(Hit(str(word), score, words[word]) for word, score in found[:top])


def name(
    directions: Float[np.ndarray, "p d"],
    frame: Frame,
    *,
    differences: bool = False,
    unique: bool = False,
    level: float = LEVEL,
    seed: int = 0,
) -> Names:
    """The best words of a frame's vocabulary for directions (P, D): images, means of images, or `differences`.

    Means are to be given as they are: brought to norm 1, they would no longer lie where the images' mean is.
    No name is given where chance gives one as good more often than `level`. With `unique` no two directions have the
    same name: of each one's 32 best words those that are good enough are assigned so that the scores' sum is greatest.
    Raises: InputError when there are fewer than two words.
    """
    n_words = len(frame.words)
    if n_words < 2:
        raise InputError(f"{n_words} words", fix="give at least two")
    scores, best = nearest(frame.place(directions, differences), frame.words, min(CLOSE, n_words))
    by_chance = np.sort(nearest(frame.random(DRAWS, seed), frame.words, 1)[0][:, 0])
    chance = 1 - np.searchsorted(by_chance, scores, side="left") / DRAWS
    if not differences:
        chance[frame.faint(directions)] = 1
    fits = chance <= level
    chosen = _assign(best, scores, fits) if unique else np.where(fits[:, 0], best[:, 0], -1)
    at = np.argmax(best == chosen[:, None], axis=1)  # the first where none is chosen
    return Names(best, scores, chance[np.arange(len(at)), at], _stability(best, unit(frame.words), seed), chosen)


def by_cosine(directions: Float32[np.ndarray, "p d"], words: Float32[np.ndarray, "v d"]) -> Int[np.ndarray, " p"]:
    """The published rule: for each direction (P, D) the word (V, D) of the highest cosine. Rao et al. 2024, 3.2."""
    return nearest(unit(directions), unit(words), 1)[1][:, 0]


def _assign(
    best: Int[np.ndarray, "p t"], scores: Float32[np.ndarray, "p t"], fits: Bool[np.ndarray, "p t"]
) -> Int[np.ndarray, " p"]:
    """A word that fits for each direction, no word twice; -1 where there is none, or others have taken them all."""
    chosen, n = np.full(len(best), -1), len(best)
    row, place = np.nonzero(fits)
    if not row.size:
        return chosen
    words, column = np.unique(best[row, place], return_inverse=True)
    worth = scores[row, place] - scores[row, place].min() + 1  # above 0, as the solver wants it
    # A column of its own for each row, worth next to nothing, so that there is always a solution.
    at, to = np.concatenate([row, np.arange(n)]), np.concatenate([column, len(words) + np.arange(n)])
    graph = coo_array((np.concatenate([worth, np.full(n, 1e-6)]), (at, to))).tocsr()
    taken, word = min_weight_full_bipartite_matching(graph, maximize=True)
    given = word < len(words)
    chosen[taken[given]] = words[word[given]]
    return chosen


def _stability(best: Int[np.ndarray, "p t"], words: Float32[np.ndarray, "v d"], seed: int) -> Float[np.ndarray, " p"]:
    """How alike the best words of random halves are. Each half's best is among the 32, but for once in billions."""
    rng, alike = np.random.default_rng(seed), np.zeros(len(best))
    for _ in range(SPLITS):
        half = rng.random(len(words)) < 0.5
        first, second = (best[np.arange(len(best)), np.argmax(half[best] == side, axis=1)] for side in (True, False))
        alike += np.einsum("pd,pd->p", words[first], words[second])
    return alike / SPLITS


def unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Of norm 1; a vector of nothing stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
