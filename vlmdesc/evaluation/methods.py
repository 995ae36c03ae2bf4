"""Methods by name: each is a way to fit a head. What is evaluated is a list of heads on the same images.

A method is one entry of `METHODS`: what it is, how it is fitted, and what it is set against. Help, checks and the
verdict's comparisons follow from the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Float32, Int

from vlmdesc.classification.columns import Encode, Prompts, encode_prompts, in_templates, prompts_of
from vlmdesc.classification.heads import Head, HeadCard
from vlmdesc.classification.heads.head import check_classes
from vlmdesc.classification.heads.neighborhood import (
    Texts,
    captions_of,
    fit_neighborhood,
    fit_own,
    fit_unlabelled,
    pool_of,
)
from vlmdesc.classification.heads.pooled import Mixed, Pooled
from vlmdesc.classification.heads.prototypes import fit_prototypes
from vlmdesc.descriptors.controls import CONTROLS, random, waffle_texts
from vlmdesc.descriptors.phrase import PHOTO
from vlmdesc.descriptors.templates import EIGHTY, SEVEN
from vlmdesc.embeddings.labelled import Labelled
from vlmdesc.evaluation import calibrate
from vlmdesc.records import Descriptors

LEARNS_FROM_LABELS, LEARNS_FROM_IMAGES = "the reference", "the images themselves"


@dataclass(frozen=True)
class Given:
    """What heads are fitted with: an encoder's texts, the images, a labelled reference, and what is chosen on.

    `card` says whose classes and embeddings these are. Weights are chosen on the images `chosen_on` (S, D) with their
    labels (S,): some of the reference, or, with their `folds` (S,), of the images, by cross-validation.
    """

    card: HeadCard
    encode: Encode
    images: Float32[np.ndarray, "n d"]
    chosen_on: Float32[np.ndarray, "s d"]
    labels: Int[np.ndarray, " s"]
    folds: Int[np.ndarray, " s"] | None
    reference: Labelled | None = None
    seed: int = 0

    def draw(self, per_class: int | None, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Reference images (R, D) and labels (R,), of each class at most so many, drawn at random."""
        assert self.reference is not None  # noqa: S101 - such methods are left out
        vectors, labels = self.reference.vectors, self.reference.labels
        if per_class is None:
            return vectors, labels
        order = np.random.default_rng(seed).permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        ordered = labels[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        kept = np.sort(order[rank < per_class])
        return vectors[kept], labels[kept]


@dataclass(frozen=True)
class Method:
    """One way to fit a head: `base` is its entry in `METHODS`, `phrase` and `pool` how its texts are worded and pooled.

    `seeds` are those of a control, (None,) for the others. `of` names the descriptor set where there are several. A
    method that images are fitted to may have so many reference images `per_class` only, drawn anew for each seed. One
    that is a `head` already is not in `METHODS`.
    """

    name: str
    base: str
    phrase: str
    pool: str
    descriptors: Descriptors
    seeds: tuple[int | None, ...] = (None,)
    of: str = ""
    per_class: int | None = None
    head: Head | None = None

    @property
    def entry(self) -> Entry:
        """What it is."""
        return METHODS[self.base] if self.head is None else SAVED


@dataclass(frozen=True)
class Fit:
    """The heads of a method, one or one for each fold; where a weight was chosen, the accuracy at each that was tried.

    `form` is an example of its texts, of which there are `n_texts`.
    """

    heads: tuple[Head, ...]
    form: str
    n_texts: int
    weights: Float32[np.ndarray, " folds"] | None = None
    curve: Float[np.ndarray, " grid"] | None = None


ToPickFrom = Callable[[Descriptors, int | None], tuple[Sequence[str], Int[np.ndarray, "c r"]]]


def _fit_pool(method: Method, given: Given, seed: int | None) -> Fit:
    prompts = method.entry.prompts(method, seed)
    head = Pooled(_card(method, given, method.pool, prompts), encode_prompts(prompts, given.encode))
    return Fit((head,), *_example(prompts))


def _fit_mix(method: Method, given: Given, seed: int | None) -> Fit:
    """Captions and descriptors, the captions' weight chosen on other images than those it is used on."""
    alone = _fit_pool(method, given, seed)
    prompts = prompts_of(method.descriptors, PHOTO)
    captions = Pooled(_card(method, given, "mean", prompts), encode_prompts(prompts, given.encode))
    described = alone.heads[0]
    scores = captions.scores(given.chosen_on), described.scores(given.chosen_on)
    wrong = calibrate.wrong_by_weight(*scores, given.labels)
    weights = calibrate.WEIGHTS[calibrate.choose(wrong, given.folds)]
    card = replace(described.card, kind="mixed", name=method.name)
    each = weights[:1] if given.folds is None else weights
    heads = tuple(Mixed(card, captions, described, float(weight)) for weight in each)  # type: ignore[arg-type]
    curve = 1 - wrong.mean(axis=0, dtype=np.float64)
    return replace(alone, heads=heads, weights=weights, curve=curve)


def _few_shot(method: Method, given: Given, seed: int | None) -> Fit:
    worded = method.entry.prompts(method, seed)
    captions, names = captions_of(worded, given.encode)
    prompts = Prompts(names, names, np.arange(len(names)), np.ones(len(names), np.float32), len(names))
    texts = Pooled(_card(method, given, "mean", prompts), encode_prompts(prompts, lambda _: captions))
    return Fit((fit_prototypes(texts, *given.draw(method.per_class, seed)),), *_example(worded))


def _neighborhood(method: Method, given: Given, seed: int | None, texts: ToPickFrom, fit: str) -> Fit:
    """A neighbourhood over the texts that `texts(descriptors, seed)` gives."""
    worded = method.entry.prompts(method, seed)
    captions, names = captions_of(worded, given.encode)
    pool, own = texts(method.descriptors, seed)
    found = Texts(captions, given.encode(pool), own, names, tuple(pool))
    card = replace(given.card, kind="neighborhood", name=method.name, settings={"phrase": method.phrase})
    if fit == "unlabelled":
        head = fit_unlabelled(card, found, given.images)
    else:
        head = (fit_own if fit == "own" else fit_neighborhood)(card, found, *given.draw(method.per_class, seed))
    form, n_captions = _example(worded)
    return Fit((head,), form, n_captions + len(pool))


def _fit_saved(method: Method, given: Given, seed: int | None) -> Fit:
    head = method.head
    assert head is not None  # noqa: S101 - else it is one of `METHODS`
    texts = head.parts(given.images[:0], np.empty(0, np.intp)).texts
    return Fit((head,), str(head.card.settings.get("form", "")), len(texts))


def _example(prompts: Prompts) -> tuple[str, int]:
    """An example of texts, and how many count."""
    return prompts.form, int((prompts.weights > 0).sum())


def _card(method: Method, given: Given, kind: str, prompts: Prompts) -> HeadCard:
    settings = {"phrase": method.phrase, "form": prompts.form}
    return replace(given.card, kind=kind, name=method.name, settings=settings)


def _descriptors(descriptors: Descriptors, seed: int | None) -> tuple[Sequence[str], np.ndarray]:
    return pool_of(descriptors)


def _random(descriptors: Descriptors, seed: int | None) -> tuple[Sequence[str], np.ndarray]:
    return pool_of(random(descriptors, seed or 0))


def _random_words(descriptors: Descriptors, seed: int | None) -> tuple[Sequence[str], np.ndarray]:
    texts, own = pool_of(descriptors)
    words = [*dict.fromkeys(waffle_texts(descriptors, 2 * len(texts), seed or 0))][: len(texts)]
    return words, np.full_like(own, -1)  # random words are no class's own


def _word(method: Method, seed: int | None) -> Prompts:
    return prompts_of(method.descriptors, method.phrase)


def _word_pool(method: Method, seed: int | None) -> Prompts:
    pool_of(method.descriptors)  # there is something to pick from
    return _word(method, seed)


@dataclass(frozen=True)
class Entry:
    """What a method is: for help, its texts, how a head is fitted, and its place in comparisons.

    `kind` is "name", "descriptors", "mix", "fitted" or "control". `takes` are what its name may say of it: "phrase" or
    a "template", "pool". Where it does not, `phrase` and `pool` hold, or where there is no `phrase`, or a pool may be
    said, what the call says. `learns` says from what, "" for nothing. One that is `drawn` has a head for each seed; one
    that does not `read` descriptors is the same for every set. `variants` are run beside it by "all".

    One that the verdict judges says what it is set `against`: its baseline, its control, then others, and how it is
    `called` in a sentence, {of} for the name of its set. So is a baseline, which may `stand_for` another that was not
    run. It is compared with the method `beside` it, whatever is judged.
    """

    about: str
    kind: str
    fit: Callable[[Method, Given, int | None], Fit] = _fit_pool
    prompts: Callable[[Method, int | None], Prompts] = _word
    takes: frozenset[str] = frozenset()
    learns: str = ""
    drawn: bool = False
    reads: bool = True
    phrase: str = ""
    pool: str = "mean"
    called: str = ""
    against: tuple[str, ...] = ()
    stands_for: str = ""
    beside: str = ""
    variants: tuple[str, ...] = ()


PHRASE, POOL = frozenset({"phrase"}), frozenset({"pool"})
DESCRIBED = ("name", "waffle", "templates", "swapped")
SELECTED = ("name", "neighborhood-waffle", "neighborhood-own", "neighborhood-random", "few-shot", "neighborhood-free")


def _templates(templates: Sequence[str]) -> Entry:
    def prompts(method: Method, seed: int | None) -> Prompts:
        return in_templates(method.descriptors, templates)

    n = len(templates)
    about, phrase = f"{n} sentences with the name, averaged", f"{n} templates"
    return Entry(about, "name", prompts=prompts, reads=False, phrase=phrase, pool="renormalized")


def _control(name: str) -> Entry:
    def prompts(method: Method, seed: int | None) -> Prompts:
        return prompts_of(CONTROLS[name](method.descriptors, seed or 0), method.phrase)

    about = f"control: {(CONTROLS[name].__doc__ or name).partition(chr(10))[0].rstrip('.')}"
    return Entry(about, "control", prompts=prompts, takes=PHRASE | POOL, drawn=True)


def _selection(about: str, texts: ToPickFrom, fit: str = "selected", drawn: bool = False) -> Entry:
    kind = "control" if about.startswith("control") else "fitted"
    learns = LEARNS_FROM_IMAGES if fit == "unlabelled" else LEARNS_FROM_LABELS
    how = partial(_neighborhood, texts=texts, fit=fit)
    return Entry(about, kind, how, _word_pool, PHRASE, learns, drawn, phrase=PHOTO)


METHODS: dict[str, Entry] = {
    "name": Entry(
        "the bare name; name:TEMPLATE for a sentence with {c} in it",
        "name",
        takes=frozenset({"template"}),
        reads=False,
        phrase="name",
        called="the name alone",
    ),
    "photo": Entry(
        "a photo of a NAME.",
        "name",
        reads=False,
        phrase=PHOTO,
        called='the name in "a photo of a ..."',
        stands_for="name",
    ),
    "templates": _templates(EIGHTY),
    "templates-7": _templates(SEVEN),
    "describe": Entry(
        "name and descriptor; describe:PHRASE for another wording, describe/POOL for another pooling",
        "descriptors",
        takes=PHRASE | POOL,
        called="Descriptors{of}",
        against=DESCRIBED,
        variants=("/max", "/renormalized", ":dclip", ":dclip-imagenet", ":waffleclip", ":disclip"),
    ),
    "free": Entry(
        "the descriptors without the name",
        "descriptors",
        takes=POOL,
        phrase="free",
        called="Descriptors{of} without the names",
        against=DESCRIBED,
    ),
    "name+describe": Entry(
        "w of photo and 1 - w of free, w chosen on other images",
        "mix",
        _fit_mix,
        takes=PHRASE | POOL,
        phrase="free",
        called="Names with descriptors{of}",
        against=DESCRIBED,
        beside="photo",
    ),
    **{name: _control(name) for name in CONTROLS},
    "neighborhood": replace(
        _selection("the name, and the descriptors that tell its few candidates apart on the reference", _descriptors),
        called="Descriptors{of} selected in the neighbourhood",
        against=SELECTED,
    ),
    "neighborhood-free": replace(
        _selection(
            "the same without labels: fitted to the images themselves, under pseudo-labels", _descriptors, "unlabelled"
        ),
        against=("name",),
    ),
    "neighborhood-own": _selection(
        "control: the same score, every candidate with its own descriptors, none selected", _descriptors, "own"
    ),
    "neighborhood-waffle": _selection(
        "control: selected from as many random words and characters", _random_words, drawn=True
    ),
    "neighborhood-random": _selection(
        "control: the same score, descriptors drawn at random from those of all classes", _random, "own", drawn=True
    ),
    "few-shot": Entry(
        "the name, and prototypes of the reference images, no descriptors",
        "fitted",
        _few_shot,
        takes=PHRASE,
        learns=LEARNS_FROM_LABELS,
        reads=False,
        phrase=PHOTO,
    ),
}


SAVED = Entry("a head that was fitted before", "fitted", _fit_saved, reads=False)


def with_heads(methods: Sequence[Method], heads: Sequence[Head], descriptors: Descriptors) -> list[Method]:
    """The methods, and heads over the classes of a descriptor set, each named after its card.

    Raises: InputError for a head of other classes.
    """
    found = {method.name: method for method in methods}
    for head in heads:
        check_classes(head.card, descriptors.classes)
        name, phrase = head.card.name or head.card.kind, str(head.card.settings.get("phrase", ""))
        while name in found:
            name += " (head)"
        found[name] = Method(name, "", phrase, head.card.kind, descriptors, head=head)
    return [*found.values()]


def learners() -> list[str]:
    """The methods that learn from labelled images."""
    return [name for name, entry in METHODS.items() if entry.learns == LEARNS_FROM_LABELS]
