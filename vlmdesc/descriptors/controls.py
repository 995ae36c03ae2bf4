"""Controls: descriptors that say nothing, or nothing about their class. A claim that words matter has to beat them.

Each is a pure function (descriptors, seed) -> Descriptors over the same classes. Roth et al. 2023 (WaffleCLIP); where
the published code replaces the name inside a finished text, a name that occurs in the random part is lost: here random
parts never meet names before they are worded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path
from statistics import fmean

import numpy as np

from vlmdesc.descriptors.phrase import spoken
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptor, Descriptors
from vlmdesc.records.names import MAX_TEXT

WORDS = Path(__file__).parent / "random_words.txt"  # made by eval/random_words.py
PAIRS = 15  # of one random-word and one random-character descriptor


@dataclass(frozen=True)
class Size:
    """How long random descriptors are, by the names of the classes.

    A random-word descriptor has `words` words, each cut to `letters` letters; a random-character one has `groups`
    groups of `characters` characters.
    """

    words: int
    letters: int
    groups: int
    characters: int


def waffle_size(names: Sequence[str]) -> Size:
    """The published sizing rule. Roth et al. 2023, released code.

    Words: round(mean words a name), at least 1. Letters: round(mean over names of their mean word length). Groups:
    round(mean blanks a name) + 1. Characters, over all groups: ceil(mean of the longest word of each name), filled up
    to the next multiple of the groups, and by one whole multiple more where it is one already.

    >>> waffle_size(["polar bear", "zebra crossing"])  # letters 5.5; longest ceil(6.5) = 7, in 2 groups 8
    Size(words=2, letters=6, groups=2, characters=4)
    """
    split = [spoken(name).split(" ") for name in names]
    groups = round(fmean(len(words) - 1 for words in split)) + 1
    longest = ceil(fmean(max(map(len, words)) for words in split))
    return Size(
        words=max(round(fmean(map(len, split))), 1),
        letters=round(fmean(fmean(map(len, words)) for words in split)),
        groups=groups,
        characters=(longest + groups - longest % groups) // groups,
    )


def waffle(descriptors: Descriptors, seed: int) -> Descriptors:
    """15 random-word and 15 random-character descriptors, the same for every class."""
    texts = waffle_texts(descriptors, 2 * PAIRS, seed)
    return _of(descriptors, {c.id: texts for c in descriptors.classes}, f"control:waffle/seed={seed}")


def waffle_texts(descriptors: Descriptors, n: int, seed: int) -> list[str]:
    """N random descriptors, of words and of characters in turn.

    The characters are those of the descriptors, without blanks, commas and full stops.
    """
    size = waffle_size([class_.name for class_ in descriptors.classes])
    rng = np.random.default_rng(seed)
    pool = [word[: size.letters] for word in random_words()]
    alphabet = sorted({c for row in _rows(descriptors) for c in row.text} - set(" ,."))
    if not alphabet:
        raise InputError("no descriptors to take random characters from", fix="describe some class")
    texts: list[str] = []
    while len(texts) < n:
        texts.append(" ".join(rng.choice(pool, size.words)))
        texts.append(", ".join("".join(rng.choice(alphabet, size.characters)) for _ in range(size.groups)))
    return texts[:n]


def random(descriptors: Descriptors, seed: int) -> Descriptors:
    """Each class gets as many descriptors as classes have on average, drawn without replacement from those of all."""
    pool, n, rng = _texts(descriptors), _average(descriptors), np.random.default_rng(seed)
    drawn = {c.id: list(rng.choice(pool, n, replace=False)) for c in descriptors.classes}
    return _of(descriptors, drawn, f"control:random/seed={seed}")


def shared(descriptors: Descriptors, seed: int) -> Descriptors:
    """Every class gets the same descriptors, as many as classes have on average, drawn from those of all."""
    drawn = list(np.random.default_rng(seed).choice(_texts(descriptors), _average(descriptors), replace=False))
    return _of(descriptors, {c.id: drawn for c in descriptors.classes}, f"control:shared/seed={seed}")


def swapped(descriptors: Descriptors, seed: int) -> Descriptors:
    """Whole lists, weights included, change hands: a random permutation of the classes."""
    ids = [class_.id for class_ in descriptors.classes]
    new = dict(zip(ids, (ids[i] for i in np.random.default_rng(seed).permutation(len(ids))), strict=True))
    origin = f"control:swapped/seed={seed}"
    rows = (replace(row, class_id=new[row.class_id], origin=origin) for row in descriptors.rows)
    return replace(descriptors, rows=tuple(sorted(rows, key=lambda row: descriptors.position[row.class_id])))


def scrambled(descriptors: Descriptors, seed: int) -> Descriptors:
    """Each descriptor keeps its number of words, drawn with replacement from all words of its class's descriptors."""
    rng, words = np.random.default_rng(seed), dict[str, list[str]]()
    for row in _rows(descriptors):
        words.setdefault(row.class_id, []).extend(row.text.replace(".", "").split(" "))
    rows = tuple(
        replace(
            row,
            text=_fitting(rng.choice(words[row.class_id], len(row.text.split(" "))).tolist()),
            origin=f"control:scrambled/seed={seed}",
        )
        for row in _rows(descriptors)
    )
    return replace(descriptors, rows=rows)


Control = Callable[[Descriptors, int], Descriptors]
CONTROLS: dict[str, Control] = {
    "waffle": waffle,
    "random": random,
    "shared": shared,
    "swapped": swapped,
    "scrambled": scrambled,
}


@cache
def random_words() -> tuple[str, ...]:
    """4,000 common English words."""
    return tuple(WORDS.read_text(encoding="utf-8").split())


def _rows(descriptors: Descriptors) -> list[Descriptor]:
    """The rows that count and say something."""
    return [row for row in descriptors.rows if row.text and row.enabled and row.weight > 0]


def _texts(descriptors: Descriptors) -> list[str]:
    texts = [row.text for row in _rows(descriptors)]
    if not texts:
        raise InputError("no descriptors to draw from", fix="describe some class")
    return texts


def _average(descriptors: Descriptors) -> int:
    rows = len(_rows(descriptors))
    return min(ceil(rows / len(descriptors.classes)), rows)


def _fitting(words: Sequence[str]) -> str:
    """The words in a row, without the last ones where that is longer than a descriptor may be."""
    text = " ".join(words)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT + 1].rpartition(" ")[0] or text[:MAX_TEXT]


def _of(descriptors: Descriptors, texts: dict[str, list[str]], origin: str) -> Descriptors:
    rows = (Descriptor(id_, str(text), origin=origin) for id_, list_ in texts.items() for text in list_)
    return replace(descriptors, rows=tuple(rows))
