"""Findings about a descriptor set: what keeps a descriptor from telling its class apart in an image.

Lint reads; `mend` changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vlmdesc.descriptors import checks
from vlmdesc.descriptors.checks import Found, Looked, Place, Tower, each
from vlmdesc.descriptors.lint_words import not_visual
from vlmdesc.descriptors.phrase import get_phrase
from vlmdesc.descriptors.tidy import MARKUP, wrong
from vlmdesc.errors import InputError
from vlmdesc.records import Descriptors
from vlmdesc.text import did_you_mean


@dataclass(frozen=True)
class Finding:
    """What is wrong with `row` of Descriptors.rows, or with a class as a whole where `row` is None, and what to do."""

    code: str
    class_id: str
    row: int | None
    text: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Check:
    """What a code is about, what to do, and where it is found: places, each with what is wrong there."""

    about: str
    remedy: str
    find: Callable[[Looked], Found]


def lint(
    descriptors: Descriptors, tower: Tower | None = None, phrase: str = "plain", ignore: Iterable[str] = ()
) -> tuple[Finding, ...]:
    """All findings about the enabled rows: first those about classes, in their order, then by row; by code within.

    `tower` is any encoder; without it "too-long" and "near-duplicate" find nothing. `phrase` words what is measured.
    Raises: InputError for a phrase, or a code to ignore, that is not known.
    """
    looked, leave = Looked(descriptors, get_phrase(phrase), tower), known_codes(ignore)
    found = [
        _finding(code, looked, place, what)
        for code, check in CHECKS.items()
        if code not in leave
        for place, what in check.find(looked)
    ]
    return tuple(sorted(found, key=lambda f: _place(descriptors, f)))


def _place(descriptors: Descriptors, finding: Finding) -> tuple[bool, int, str]:
    row = finding.row
    return row is not None, descriptors.position[finding.class_id] if row is None else row, finding.code


def known_codes(codes: Iterable[str]) -> frozenset[str]:
    """The codes. Raises: InputError with the closest one when one is not known."""
    codes = frozenset(codes)
    for code in sorted(codes - CHECKS.keys()):
        fix = f"{did_you_mean(code, CHECKS)}known: {', '.join(CHECKS)}"
        raise InputError(f"unknown code '{code}'", fix=fix)
    return codes


def _finding(code: str, looked: Looked, place: Place, what: str) -> Finding:
    remedy = CHECKS[code].remedy
    if isinstance(place, str):
        return Finding(code, place, None, "", what, remedy)
    row = looked.descriptors.rows[place]
    return Finding(code, row.class_id, place, row.text, what, remedy)


def _senses(text: str) -> str:
    kind = not_visual(text)
    return f"tells of {kind}, which no image shows" if kind else ""


CHECKS: dict[str, Check] = {
    "empty-class": Check(
        "a class without a descriptor is scored by its name alone", "describe the class", checks.empty_class
    ),
    "empty": Check("a descriptor without letters says nothing", "drop it", checks.empty),
    "duplicate": Check("the same descriptor twice in a class counts twice", "drop it", checks.duplicate),
    "shared": Check(
        "a descriptor of several classes tells nothing between them", "say what tells them apart", checks.shared
    ),
    "same-set": Check(
        "classes with the same descriptors cannot be told apart", "describe what differs", checks.same_set
    ),
    "class-name": Check(
        "the class's own name breaks class-name-free evaluation", "leave the name out", checks.class_name
    ),
    "not-visual": Check("what no image shows cannot be scored", "say what can be seen, or drop it", each(_senses)),
    "language": Check("most encoders learned English", "translate it", checks.foreign),
    "markup": Check(
        "marks of lists, Markdown or HTML are read as text",
        "write plain text",
        each(lambda text: wrong(MARKUP, text)),
    ),
    "trailing-junk": Check("the text begins or ends raggedly", "finish or trim it", checks.trailing_junk),
    "one-word": Check("a single word says little", "say what it looks like", each(checks.one_word)),
    "run-on": Check("a long text is several descriptors in one", "split it, one feature a row", checks.run_on),
    "clause": Check(
        "the published wording takes letters for words",
        'reword it, for example with "a", or keep to phrase plain',
        each(checks.misread),
    ),
    "too-long": Check("what the encoder cuts off is not read", "shorten it", checks.too_long),
    "near-duplicate": Check(
        "descriptors that say nearly the same count nearly twice", "keep one of them", checks.near_duplicate
    ),
}
