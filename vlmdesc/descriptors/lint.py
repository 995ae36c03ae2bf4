"""Findings about a descriptor set: what keeps a descriptor from telling its class apart in an image.

Lint reads; `mend` changes. What needs an encoder is in `vlmdesc.evaluation.findings`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from vlmdesc.descriptors.language import foreign
from vlmdesc.descriptors.tidy import MARKUP, RAGGED, what_is_wrong
from vlmdesc.descriptors.visual import not_visual
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptor, Descriptors
from vlmdesc.records.names import reads_as
from vlmdesc.text import did_you_mean, few

MAX_WORDS = 15
MIN_ALIAS = 4  # letters; shorter ones, such as "ram" or "pot", are too often another word
_ITSELF = frozenset("arms glasses goods greens pants shorts slacks tights".split())  # "tight" is another word
RETIRED = frozenset(("clause", "one-word", "same-set"))  # nothing is found under these any more; they may be ignored
Rows = list[tuple[int, Descriptor]]
Places = Iterator[tuple[int | str, str]]  # a row's number, or a class's id where a class is meant, and what is wrong


@dataclass(frozen=True)
class Finding:
    """What is wrong with `row` of Descriptors.rows, or with a class as a whole where `row` is None, and what to do."""

    code: str
    class_id: str
    row: int | None
    text: str
    what: str
    remedy: str

    @property
    def about(self) -> str:
        """Why this matters."""
        return CHECKS[self.code].about


@dataclass(frozen=True)
class Check:
    """What a code is about, what to do, and how it is found: text by text, or in the set and its rows that say
    something. With neither, it takes an encoder.
    """

    about: str
    remedy: str
    of_text: Callable[[str], str] | None = None
    of_set: Callable[[Descriptors, Rows], Places] | None = None


def lint(descriptors: Descriptors, ignore: Iterable[str] = ()) -> tuple[Finding, ...]:
    """What is wrong with the enabled rows, as far as it takes no encoder to see it.

    Classes first, in their order, then by row. Raises: InputError for a code to ignore that is not known.
    """
    rows = [(m, row) for m, row in enumerate(descriptors.rows) if row.enabled and says(row.text)]
    leave, found = left_out(descriptors, ignore), list[Finding]()
    for code, check in CHECKS.items():
        if check.of_text and code not in leave:
            found += [finding(descriptors, code, m, what) for m, row in rows if (what := check.of_text(row.text))]
        if check.of_set and code not in leave:
            found += [finding(descriptors, code, place, what) for place, what in check.of_set(descriptors, rows)]
    return in_order(descriptors, found)


def finding(descriptors: Descriptors, code: str, place: int | str, what: str) -> Finding:
    """The finding at a row's number, or a class's id."""
    if isinstance(place, str):
        return Finding(code, place, None, "", what, CHECKS[code].remedy)
    row = descriptors.rows[place]
    return Finding(code, row.class_id, place, row.text, what, CHECKS[code].remedy)


def in_order(descriptors: Descriptors, found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings about classes first, in their order, then by row; by code within."""
    place = descriptors.position
    return tuple(
        sorted(found, key=lambda f: (f.row is not None, place[f.class_id] if f.row is None else f.row, f.code))
    )


def left_out(descriptors: Descriptors, ignore: Iterable[str]) -> frozenset[str]:
    """The codes not to look for: those to ignore, and where whole sentences were asked for those that these break.

    Raises: InputError with the closest one when one is not known.
    """
    codes = frozenset(ignore)
    for code in sorted(codes - CHECKS.keys() - RETIRED):
        fix = f"{did_you_mean(code, CHECKS)}known: {', '.join(CHECKS)}"
        raise InputError(f"unknown code '{code}'", fix=fix)
    generated = descriptors.meta.get("generated")
    sentences = isinstance(generated, dict) and generated.get("form") == "sentences"
    return codes | ({"class-name", "run-on", "trailing-junk"} if sentences else set())


def says(text: str) -> bool:
    """Whether a text has a letter or a digit."""
    return any(map(str.isalnum, text))


def same(text: str) -> str:
    """What two descriptors share that say the same: no leading article, no punctuation at the end.

    >>> same("A red comb.") == same("red  comb")
    True
    """
    return re.sub(r"^(?:an?|the) (?=\w)", "", reads_as(text)).rstrip(" .,;:!?-\u2013\u2014…")


def name_pattern(class_: ClassName) -> str:
    """A pattern of what a class is called, in the plural too: its name and its longer aliases, without "(...)".

    >>> bool(re.search(name_pattern(ClassName("1", "polar_bear (animal)")), "two Polar bears", re.IGNORECASE))
    True
    """
    names = [part for part in class_.name.split(" / ") if len(part.strip()) > 1]  # "a" is a word of any descriptor
    names += [alias for alias in class_.aliases if len(alias.strip()) >= MIN_ALIAS and "," not in alias]
    words = [re.findall(r"[^\W_]+", re.sub(r"\s*\([^)]*\)", "", name) or name) for name in map(reads_as, names)]
    patterns = [r"[\W_]+".join([*map(re.escape, rest), _plural(last)]) for *rest, last in filter(None, words)]
    return rf"(?<![^\W_])(?:{'|'.join(sorted(patterns, key=len, reverse=True)) or '(?!)'})(?![^\W_])"


def _plural(word: str) -> str:
    """The pattern of a word in the singular or the plural, whichever it is given in."""
    if word in _ITSELF or len(word) < 3:
        return re.escape(word)
    stem = re.sub(r"(?:(?<=ch|sh|ss|zz)es|(?<=x)es|(?<![siu])s)$", "", word)
    root = re.sub(r"(?<=..)(?:y|ie)$", "", stem)
    return f"{re.escape(stem)}(?:e?s)?" if root == stem else f"{re.escape(root)}(?:ys?|ies?)"


def _empty_class(descriptors: Descriptors, rows: Rows) -> Places:
    described = {row.class_id for _, row in rows if row.weight > 0}
    return ((class_.id, "has no descriptor in use") for class_ in descriptors.classes if class_.id not in described)


def _empty(descriptors: Descriptors, rows: Rows) -> Places:
    empty = (m for m, row in enumerate(descriptors.rows) if row.enabled and not says(row.text))
    return ((m, "has no letter or digit") for m in empty)


def _duplicate(descriptors: Descriptors, rows: Rows) -> Places:
    first: dict[tuple[str, str], int] = {}
    for m, row in rows:
        before = first.setdefault((row.class_id, same(row.text)), m)
        if before != m:
            yield m, f"says the same as row {before}, '{descriptors.rows[before].text}'"


def _of_several(descriptors: Descriptors, rows: Rows) -> Places:
    names, owners = {c.id: c.name for c in descriptors.classes}, defaultdict[str, dict[str, None]](dict)
    for _, row in rows:
        owners[same(row.text)][row.class_id] = None
    for m, row in rows:
        if others := few(names[id_] for id_ in owners[same(row.text)] if id_ != row.class_id):
            yield m, f"also describes {others}"


def _class_name(descriptors: Descriptors, rows: Rows) -> Places:
    names = {c.id: re.compile(name_pattern(c), re.IGNORECASE) for c in descriptors.classes}
    for m, row in rows:
        if found := names[row.class_id].search(reads_as(row.text)):
            yield m, f"holds the name '{found[0]}' of its class"


def _not_visual(text: str) -> str:
    kind = not_visual(text)
    return f"tells of {kind}, which no image shows" if kind else ""


def _markup(text: str) -> str:
    return what_is_wrong(MARKUP, text)


def _trailing_junk(text: str) -> str:
    return what_is_wrong(RAGGED, text)


def _run_on(text: str) -> str:
    if re.search(r"[^\W\d]{3,}[\"”)]?[.!?]\s+[A-Z]\w*\s", text):
        return "has two sentences"
    return f"has {len(text.split())} words" if len(text.split()) > MAX_WORDS else ""


CHECKS: dict[str, Check] = {
    "empty-class": Check(
        "a class without a descriptor is scored by its name alone", "describe the class", of_set=_empty_class
    ),
    "empty": Check("a descriptor without letters says nothing", "drop it", of_set=_empty),
    "duplicate": Check("the same descriptor twice in a class counts twice", "drop it", of_set=_duplicate),
    "shared": Check(
        "a descriptor of several classes tells nothing between them", "say what tells them apart", of_set=_of_several
    ),
    "class-name": Check(
        "the class's own name breaks class-name-free evaluation", "leave the name out", of_set=_class_name
    ),
    "not-visual": Check("what no image shows cannot be scored", "say what can be seen, or drop it", _not_visual),
    "language": Check("most encoders learned English", "translate it", foreign),
    "markup": Check("marks of lists, Markdown or HTML are read as text", "write plain text", _markup),
    "trailing-junk": Check("the text begins or ends raggedly", "finish or trim it", _trailing_junk),
    "run-on": Check("a long text is several descriptors in one", "split it, one feature a row", _run_on),
    "too-long": Check("what the encoder cuts off is not read", "shorten it"),
    "near-duplicate": Check("descriptors that say nearly the same count nearly twice", "keep one of them"),
}
