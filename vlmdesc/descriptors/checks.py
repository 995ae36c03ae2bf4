"""The checks of the lint: each goes over what it looks at and says where something is wrong, and what.

A place is a row's number, or a class's id where the class or the whole set is meant.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from vlmdesc.descriptors.lint_words import in_words, language, names_of, script
from vlmdesc.descriptors.phrase import Phrase, clause, dclip, free
from vlmdesc.descriptors.tidy import RAGGED, trimmed, wrong
from vlmdesc.errors import VlmdescWarning
from vlmdesc.records import ClassName, Descriptor, Descriptors
from vlmdesc.records.names import reads_as
from vlmdesc.text import few

# With the starter, pairs reworded by hand ("large ears", "big ears") have 0.94 to 0.99, and pairs that differ ("two
# wheels", "four wheels") 0.93 at most; of the 14,591 pairs within a class of published ImageNet 2 are above.
NEAR = 0.95
MAX_WORDS = 15
Place = int | str
Found = Iterator[tuple[Place, str]]


@runtime_checkable
class Tower(Protocol):
    """The text half of an encoder."""

    @property
    def name(self) -> str: ...
    @property
    def context_length(self) -> int: ...
    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "m d"]: ...
    def n_tokens(self, text: str) -> int: ...


@dataclass(frozen=True)
class Looked:
    """A set as the checks look at it."""

    descriptors: Descriptors
    phrase: Phrase
    tower: Tower | None = None

    @cached_property
    def rows(self) -> list[tuple[int, Descriptor]]:
        """The enabled rows with their numbers."""
        return [(m, row) for m, row in enumerate(self.descriptors.rows) if row.enabled]

    @cached_property
    def texts(self) -> list[tuple[int, Descriptor]]:
        """Those of them that say something."""
        return [(m, row) for m, row in self.rows if says(row.text)]

    @cached_property
    def key(self) -> dict[int, str]:
        """Of each of these the part in which two that say the same agree."""
        return {m: same(row.text) for m, row in self.texts}

    @cached_property
    def by_class(self) -> dict[str, list[int]]:
        """Their numbers by class, for classes that have any."""
        rows: dict[str, list[int]] = defaultdict(list)
        for m, row in self.texts:
            rows[row.class_id].append(m)
        return rows

    @cached_property
    def classes(self) -> dict[str, ClassName]:
        return {c.id: c for c in self.descriptors.classes}

    def text(self, m: int) -> str:
        return self.descriptors.rows[m].text

    @cached_property
    def sentences(self) -> bool:
        """Whether the descriptors were asked for as whole sentences, which name their class and end in a full stop."""
        generated = self.descriptors.meta.get("generated")
        return isinstance(generated, dict) and generated.get("form") == "sentences"


def says(text: str) -> bool:
    return any(map(str.isalnum, text))


def same(text: str) -> str:
    """What two descriptors share that say the same: no leading article, no punctuation at the end.

    >>> same("A red comb.") == same("red  comb")
    True
    """
    return re.sub(r"^(?:an?|the) (?=\w)", "", reads_as(text)).rstrip(" .,;:!?-\u2013\u2014…")


def each(of: Callable[[str], str]) -> Callable[[Looked], Found]:
    """The check that looks at each text by itself."""
    return lambda looked: ((m, what) for m, row in looked.texts if (what := of(row.text)))


def empty_class(looked: Looked) -> Found:
    described = {row.class_id for _, row in looked.texts if row.weight > 0}
    return ((id_, "has no descriptor in use") for id_ in looked.classes if id_ not in described)


def empty(looked: Looked) -> Found:
    return ((m, "has no letter or digit") for m, row in looked.rows if not says(row.text))


def duplicate(looked: Looked) -> Found:
    first: dict[tuple[str, str], int] = {}
    for m, row in looked.texts:
        before = first.setdefault((row.class_id, looked.key[m]), m)
        if before != m:
            yield m, f"says the same as row {before}, '{looked.text(before)}'"


def shared(looked: Looked) -> Found:
    owners: dict[str, dict[str, None]] = defaultdict(dict)  # not sets, which have no order
    for m, row in looked.texts:
        owners[looked.key[m]][row.class_id] = None
    for m, row in looked.texts:
        others = (looked.classes[id_].name for id_ in owners[looked.key[m]] if id_ != row.class_id)
        if names := few(others):
            yield m, f"also describes {names}"


def same_set(looked: Looked) -> Found:
    groups: dict[frozenset[str], list[str]] = defaultdict(list)
    for id_, rows in looked.by_class.items():
        groups[frozenset(looked.key[m] for m in rows)].append(id_)
    for ids in groups.values():
        first, *others = sorted(ids, key=looked.descriptors.position.__getitem__)
        if others:
            yield first, f"has the same descriptors as {few(looked.classes[id_].name for id_ in others)}"


def class_name(looked: Looked) -> Found:
    if looked.sentences:
        return
    names = {id_: [(name, in_words(name)) for name in names_of(class_)] for id_, class_ in looked.classes.items()}
    for m, row in looked.texts:
        words = in_words(row.text)
        if found := next((name for name, as_words in names[row.class_id] if as_words in words), ""):
            yield m, f"holds the name '{found}' of its class"


def foreign(looked: Looked) -> Found:
    for rows in looked.by_class.values():
        texts = [looked.text(m) for m in rows]
        tongue, i = language(texts)
        letters = next(((j, name) for j, text in enumerate(texts) if (name := script(text))), (len(texts), ""))
        if tongue and i < letters[0]:
            yield rows[i], f"seems to be {tongue}"
        elif letters[1]:
            yield rows[letters[0]], f"has {letters[1]} letters"


def trailing_junk(looked: Looked) -> Found:
    for m, row in looked.texts:
        if trimmed(row.text, looked.sentences) != row.text:
            text = row.text.rstrip().removesuffix(".") if looked.sentences else row.text
            yield m, wrong(RAGGED, text) or wrong(RAGGED, row.text)


def one_word(text: str) -> str:
    return "is a single word" if len(text.split()) == 1 and not script(text) else ""


def run_on(looked: Looked) -> Found:
    for m, row in () if looked.sentences else looked.texts:
        if re.search(r"[^\W\d]{3,}[\"”)]?[.!?]\s+[A-Z]\w*\s", row.text):
            yield m, "has two sentences"
        elif (n := len(row.text.split())) > MAX_WORDS:
            yield m, f"has {n} words"


def misread(text: str) -> str:
    """How the published rule, which looks at letters and not at words, words a text wrongly; "" when it does not."""
    first = re.split(r"[\s,;:.]", text, maxsplit=1)[0]
    if text.startswith("a"):
        wrongly = first not in ("a", "an") and not clause(text).startswith("which is")
    else:
        verb = next((v for v in ("has", "can", "may", "often", "typically", "used") if text.startswith(v)), first)
        wrongly = verb != first
    return f'is misread by phrase dclip: "{dclip("", text)[2:]}"' if wrongly else ""


def too_long(looked: Looked) -> Found:
    if looked.tower is None:
        return
    tower, limit = looked.tower, looked.tower.context_length
    first: dict[str, int] = {}
    for m, row in looked.rows:
        first.setdefault(looked.phrase.say(looked.classes[row.class_id].name, row.text), m)
    for text, m in first.items():
        # A token has one byte at the least, and begin and end are two: most texts need no count.
        if len(text.encode()) + 2 > limit and (n := tower.n_tokens(text)) > limit:
            lost = f"the end is lost from about '{_first_lost(tower, text)}' on"
            yield m, f"has {n} tokens as phrase {looked.phrase.name} words it, and {tower.name} reads {limit}: {lost}"


def _first_lost(tower: Tower, text: str) -> str:
    """The first word of `text` that the tower does not read to its end."""
    words = text.split() or [text]
    low, high = 0, len(words) - 1
    while low < high:
        middle = (low + high + 1) // 2
        fits = tower.n_tokens(" ".join(words[:middle])) <= tower.context_length
        low, high = (middle, high) if fits else (low, middle - 1)
    return words[low][:40]


def near_duplicate(looked: Looked) -> Found:
    # Of texts that say the same only the first is compared: the others are duplicates.
    firsts = [[*{looked.key[m]: m for m in reversed(rows)}.values()][::-1] for rows in looked.by_class.values()]
    if looked.tower is None or not firsts:
        return
    vectors = _vectors(looked.tower, [free("", looked.text(m)) for rows in firsts for m in rows])
    for rows in firsts:
        own = np.stack([vectors[looked.text(m)] for m in rows])
        near = np.tril(own @ own.T, -1)
        for later, earlier in enumerate(near.argmax(1)):
            if near[later, earlier] >= NEAR:
                other = f"row {rows[earlier]}, '{looked.text(rows[earlier])}'"
                yield rows[later], f"says nearly the same as {other} (cosine {near[later, earlier]:.2f})"


def _vectors(tower: Tower, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The embedding of each text, each text encoded once."""
    unique = [*dict.fromkeys(texts)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VlmdescWarning)  # "too-long" tells of texts that are cut off
        return dict(zip(unique, tower.texts(unique), strict=True))
