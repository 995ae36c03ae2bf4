"""The texts the head learns from: what may truly be said of each ImageNet class.

A text is paired with *every* class it is true of: "a bird" with all the birds, "a red comb" with each class whose
descriptors hold it. Sources: the class names of open_clip, the lemmas and glosses that timm ships, the hypernym chains
of WordNet 3.0 (Debian package `wordnet-base`) and the project's own descriptors. No photograph and no published
descriptor set is used.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vlmdesc.assets import shipped
from vlmdesc.descriptors.phrase import name_phrase, plain
from vlmdesc.records import Descriptors

WORDNET = Path(os.environ.get("WORDNET", "/usr/share/wordnet")) / "data.noun"
TOO_GENERAL = 0.4  # a hypernym of a larger share of the classes ("object", "whole") tells nothing


@dataclass(frozen=True)
class Text:
    """One training text, the classes (positions) it is true of, and the kind of statement it is."""

    text: str
    classes: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Synset:
    lemmas: tuple[str, ...]
    gloss: str
    parents: tuple[int, ...]


def training_texts(classes: Sequence[int]) -> list[Text]:
    """Every text that is true of at least one of `classes` (positions in ImageNet order), and of which of them."""
    true_of: dict[tuple[str, str], set[int]] = defaultdict(set)
    for c in classes:
        for kind, text in statements(c):
            true_of[kind, text].add(c)
    return [
        Text(text, tuple(sorted(of)), kind)
        for (kind, text), of in sorted(true_of.items())
        if len(of) <= TOO_GENERAL * len(classes)
    ]


def statements(c: int) -> Iterator[tuple[str, str]]:
    """(kind, text) of everything said of class number `c`."""
    class_ = imagenet().classes[c]
    synset = wordnet()[offset(class_.id)]
    # One alias is all lemmas in a row, as the hub's ImageNet labels are: no text for a model.
    listed = ", ".join(synset.lemmas)
    names = dict.fromkeys((class_.name, *(alias for alias in class_.aliases if alias != listed), *synset.lemmas))
    for name in names:
        yield "name", name
        yield "photo", name_phrase("a photo of a {c}.")(name, "")
        yield "gloss", f"{name}, {synset.gloss}"
        for parent in synset.parents:
            yield "kind", f"{name}, a kind of {wordnet()[parent].lemmas[0]}"
    yield "gloss", synset.gloss
    for ancestor in ancestors(offset(class_.id)):
        for lemma in wordnet()[ancestor].lemmas:
            yield "hypernym", lemma
            yield "hypernym", name_phrase("a photo of a {c}.")(lemma, "")
        yield "hypernym", wordnet()[ancestor].gloss
    for descriptor in descriptors_of()[class_.id]:
        yield "descriptor", descriptor
        for name in (class_.name, synset.lemmas[0]):
            yield "described", plain(name, descriptor)


@cache
def imagenet() -> Descriptors:
    """The project's ImageNet-1k descriptors; their classes are in ImageNet order and their ids are wnids."""
    return Descriptors.load(shipped("descriptors/imagenet.json"))


@cache
def descriptors_of() -> dict[str, list[str]]:
    of: dict[str, list[str]] = defaultdict(list)
    for row in imagenet().rows:
        of[row.class_id].append(row.text)
    return of


def offset(wnid: str) -> int:
    """WordNet 3.0 offset of an ImageNet id: n01440764 -> 1440764."""
    return int(wnid.removeprefix("n"))


def ancestors(synset: int) -> list[int]:
    """All hypernyms of `synset` at any distance, nearest first, itself left out."""
    found: dict[int, None] = {}
    queue = list(wordnet()[synset].parents)
    for parent in queue:
        if parent not in found:
            found[parent] = None
            queue.extend(wordnet()[parent].parents)
    return list(found)


@cache
def wordnet() -> dict[int, Synset]:
    """WordNet's nouns by offset. Line format: wndb(5WN)."""
    if not WORDNET.is_file():
        raise SystemExit(
            f"error: WordNet nouns not found ({WORDNET}); fix: apt-get install wordnet-base, or set WORDNET"
        )
    lines = WORDNET.read_text(encoding="ascii").splitlines()
    return dict(map(parse_synset, (line for line in lines if not line.startswith("  "))))


def parse_synset(line: str) -> tuple[int, Synset]:
    """One line of data.noun: offset, file, type, word count (hex), words, pointer count, pointers | gloss."""
    fields, _, gloss = line.partition(" | ")
    words = fields.split()
    count = int(words[3], 16)
    lemmas = tuple(w.replace("_", " ") for w in words[4 : 4 + 2 * count : 2])
    pointers = words[5 + 2 * count :]
    parents = tuple(int(pointers[i + 1]) for i in range(0, len(pointers) - 1, 4) if pointers[i] in ("@", "@i"))
    definition = gloss.split('; "')[0].strip()
    return int(words[0]), Synset(lemmas, definition, parents)
