"""What an index shows: its images in clusters, and a name for each; and what single images show."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from vlmdesc.concepts import naming
from vlmdesc.concepts.collect import EncoderSource
from vlmdesc.concepts.index import Index
from vlmdesc.concepts.rows import Rows
from vlmdesc.concepts.search import matches
from vlmdesc.concepts.sheet import draw
from vlmdesc.concepts.vocabulary import distinct_words, open_vocabulary
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.find import find_images
from vlmdesc.embeddings.image import Source, is_image
from vlmdesc.embeddings.load import encoder_of
from vlmdesc.embeddings.pipeline import Encoded, encode_images
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import ImageError, InputError
from vlmdesc.records import Concept, Hit, Hits
from vlmdesc.records.progress import Progress, collect_notes, counter, note, silent

SAMPLE = 100_000  # images that clusters are looked for in
BACKGROUND = 20_000  # images that say what is common to all
CLUSTERS, EXAMPLES, WORDS = 20, 5, 5
Images = Source | Iterable[Source]


@dataclass(frozen=True, repr=False)
class ImageNames:
    """What single images show: of each a concept, with the image as its example. `failed` could not be used."""

    concepts: tuple[Concept, ...]
    model: str
    failed: tuple[ImageError, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<ImageNames {', '.join(map(_title, self.concepts))}>"

    def to_dict(self) -> dict[str, Any]:
        """Its `images` are what --json prints, one a line."""
        about = [{"image": one.examples[0].key, "model": self.model, **_record(one)} for one in self.concepts]
        return {"images": about}


@dataclass(frozen=True, repr=False)
class ClusterNames:
    """An index's images in clusters, largest first, each with its words and, as rows, the images in its middle."""

    concepts: tuple[Concept, ...]
    index: str
    seed: int
    n: int
    middles: tuple[tuple[int, ...], ...]
    rows: Rows
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<ClusterNames {', '.join(map(_title, self.concepts))}>"

    def to_dict(self) -> dict[str, Any]:
        def record(concept: Concept) -> dict[str, Any]:
            examples = [{"id": hit.key, "label": hit.text or None} for hit in concept.examples]
            return {"density": round(concept.density, 6), **_record(concept), "examples": examples}

        return {"index": self.index, "seed": self.seed, "clusters": [*map(record, self.concepts)]}

    def montage(self, path: str | Path) -> int:
        """Draw a contact sheet (PNG) of the clusters' middles; how many images are on it. Raises: StoreError."""
        titles = map(_title, self.concepts)
        shown = [(row, title) for title, middle in zip(titles, self.middles, strict=True) for row in middle]
        return draw(Path(path), self.rows, [row for row, _ in shown], [title for _, title in shown])


@dataclass(frozen=True)
class Clusters:
    """Rows (N,) of an index, the number of each one's cluster (N,), and its cosine to that one's centre (N,)."""

    rows: Int[np.ndarray, " n"]
    number: Int[np.ndarray, " n"]
    closeness: Float32[np.ndarray, " n"]

    def order(self) -> list[int]:
        """The numbers of the clusters, largest first, without empty ones."""
        sizes = np.bincount(self.number)
        return [c for c in np.argsort(-sizes, kind="stable").tolist() if sizes[c]]


def cluster(
    vectors: Float32[np.ndarray, "n d"], k: int, seed: int = 0
) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, "k d"]]:
    """k-means: for each unit vector the number of its cluster (N,), and the clusters' unit centres (K, D).

    The best of three greedy k-means++ starts. Raises: InputError for more clusters than vectors.
    """
    if not 1 <= k <= len(vectors):
        raise InputError(f"{k} clusters of {len(vectors)} vectors", fix="ask for fewer, and for one at least")
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of equal vectors there are fewer clusters
        found = KMeans(k, n_init=3, random_state=seed).fit(vectors)
    centres = found.cluster_centers_.astype(np.float32)
    return found.labels_, naming.unit(centres)


def background(index: Index, seed: int = 0) -> Float32[np.ndarray, "n d"]:
    """The vectors of an index, or of 20,000 drawn from it: what directions are held against."""
    return index.nearest.vectors(_sample(len(index), BACKGROUND, seed))


def clusters(index: Index, k: int, seed: int = 0) -> Clusters:
    """An index's images (100,000 of them at most) in k clusters, by k-means about their mean.

    Raises: InputError for more clusters than images.
    """
    rows = _sample(len(index), SAMPLE, seed)
    vectors = index.nearest.vectors(rows)
    centred = naming.unit(vectors - vectors.mean(axis=0))
    number, centres = cluster(centred, k, seed)
    return Clusters(rows, number, np.einsum("nd,nd->n", centred, centres[number]))


def concepts(
    directions: Float[np.ndarray, "p d"],
    frame: naming.Frame,
    words: Sequence[str],
    shown: Sequence[tuple[float, Hits]],
    *,
    unique: bool = False,
    top: int = WORDS,
    seed: int = 0,
) -> tuple[Concept, ...]:
    """Directions as concepts with their best words; of each it is said what share of the images shows it, and which."""
    names = naming.name(directions, frame, unique=unique, seed=seed)
    return tuple(
        Concept(
            index=at,
            direction=directions[at],
            density=density,
            names=names.hits(at, words, top),
            examples=examples,
            named=bool(names.chosen[at] >= 0),
            chance=float(names.chance[at]),
            margin=float(names.margin[at]),
            stability=float(names.stability[at]),
        )
        for at, (density, examples) in enumerate(shown)
    )


def name(
    target: Index | Images,
    vocabulary: str | Iterable[str] = "",
    *,
    k: int | None = None,
    index: Index | None = None,
    encoder: EncoderSource = "starter",
    unique: bool = False,
    top: int = WORDS,
    seed: int = 0,
    store: Store | bool = True,
    progress: Progress = silent,
) -> ClusterNames | ImageNames:
    """Words for what an index's images show, in `k` clusters; or for what each of some images shows.

    A word's score is how many standard deviations it lies above the mean of all images of the index, or of `index` for
    images; without one, of random directions. A name is given only where chance seldom gives one as good: see `naming`.
    With `unique` no two clusters have the same. `vocabulary` is words, a text file with one a line, or a descriptor
    set; by default some 18,000 words of WordNet. Images are files, folders, patterns, bytes or PIL images.
    Raises: InputError; ModelError when the index is of another model; StoreError.
    """
    words = open_vocabulary(vocabulary) if isinstance(vocabulary, str) else distinct_words(vocabulary, "the vocabulary")
    known = store_of(store)
    with collect_notes() as notes:
        sources = [] if isinstance(target, Index) else _sources(target)
        if isinstance(target, Index):
            if index:
                raise InputError("an index and --index", fix="leave --index out: the index is its own background")
            index, found = target, clusters(target, min(CLUSTERS, len(target)) if k is None else k, seed)
        used = index.encoder if index else encoder_of(encoder)
        vectors = text_vectors(words, used, known, progress)
        frame = naming.frame(vectors, background(index, seed) if index else None)
        if isinstance(target, Index):
            clustered = name_clusters(target, found, words, frame, unique=unique, top=top, seed=seed)
            return replace(clustered, notes=tuple(notes))
        good, failed = list[Encoded](), list[ImageError]()
        tick = counter(progress, "images", len(sources))
        for image in encode_images(used, sources, collection=known.images(used) if known else None):
            (failed if isinstance(image, ImageError) else good).append(image)  # type: ignore[arg-type]
            tick(1)
        vectors = np.array([image.vector for image in good], np.float32).reshape(len(good), used.dim)
        shown = [(1.0, (Hit(image.key, 1.0, ""),)) for image in good]
        named = concepts(vectors, frame, words, shown, top=top, seed=seed)
    return ImageNames(named, used.name, tuple(failed), tuple(notes))


def name_clusters(
    index: Index,
    found: Clusters,
    words: Sequence[str],
    frame: naming.Frame,
    *,
    unique: bool = False,
    top: int = WORDS,
    seed: int = 0,
) -> ClusterNames:
    """Each cluster as a concept, largest first, with its best words and the images in its middle."""
    members = [np.flatnonzero(found.number == number) for number in found.order()]
    means = np.stack([index.nearest.vectors(found.rows[own]).mean(axis=0) for own in members])
    middles = [own[np.argsort(-found.closeness[own], kind="stable")[:EXAMPLES]] for own in members]
    rows = [found.rows[middle] for middle in middles]
    near = [matches(index.rows, own, found.closeness[middle]) for own, middle in zip(rows, middles, strict=True)]
    examples = [tuple(Hit(match.id, match.score, match.label or "") for match in own) for own in near]
    shown = [(len(own) / len(found.rows), hits) for own, hits in zip(members, examples, strict=True)]
    named = concepts(means, frame, words, shown, unique=unique, top=top, seed=seed)
    of = tuple(tuple(own.tolist()) for own in rows)
    return ClusterNames(named, str(index.folder or ""), seed, len(found.rows), of, index.rows)


def _sources(images: Images) -> list[Source]:
    """Images, with files for folders and patterns. Raises: InputError when there are none."""
    given: list[Any] = [images] if is_image(images) else [*images]  # type: ignore[misc]
    paths = [image for image in given if isinstance(image, (str, Path))]
    if len(paths) < len(given):
        return given
    found = find_images(paths)
    for path in found.passed_over:
        note(f"passed over: {path} is not an image")
    if not any(map(os.path.lexists, found.paths)):
        where = ", ".join(map(str, paths))
        raise InputError("no images found", where=where, fix="give image files, or a folder or pattern that has some")
    return [*found.paths]


def _title(concept: Concept) -> str:
    return concept.names[0].text if concept.named else "(no name)"


def _record(found: Concept) -> dict[str, Any]:
    """What JSON says of it."""
    names = [{"name": hit.text, "score": round(hit.score, 6)} for hit in found.names]
    numbers = {name: round(getattr(found, name), 6) for name in ("chance", "margin", "stability")}
    return {"named": found.named, "names": names, **numbers}


def _sample(n: int, most: int, seed: int) -> Int[np.ndarray, " r"]:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
