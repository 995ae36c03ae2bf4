"""Mending what the lint finds, where that is safe: dropping rows that say nothing, and cleaning texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vlmdesc.descriptors.checks import Looked, says
from vlmdesc.descriptors.lint import CHECKS, Finding, lint
from vlmdesc.descriptors.lint_words import in_words, names_of
from vlmdesc.descriptors.phrase import article, get_phrase
from vlmdesc.descriptors.tidy import trimmed, unmarked
from vlmdesc.descriptors.words import ADVERBS, BREAKS, DETERMINERS, PARTS, VERBS
from vlmdesc.records import ClassName, Descriptor, Descriptors

_LINKS = frozenset("has have is are with".split())  # what follows is what the class has or is


@dataclass(frozen=True)
class Repair:
    """What mending did to row `row` of the set it was given; `after` is None where the row was dropped."""

    row: int
    class_id: str
    code: str
    before: str
    after: str | None


def mend(
    descriptors: Descriptors, findings: Iterable[Finding], ignore: Iterable[str] = ()
) -> tuple[Descriptors, tuple[Repair, ...]]:
    """The set with `findings` mended where that is safe, and what was changed, by row.

    Mending one thing can bring another to light, such as a duplicate; that is mended too, but for the codes to
    `ignore`. A class keeps at least one descriptor. All else, ids, weights and origins too, stays as it is.
    """
    numbers, changes = [*range(len(descriptors.rows))], list[Repair]()
    others = {*CHECKS} - {*MENDS} | {*ignore}
    while new := _changes(descriptors, findings):
        changes += [replace(change, row=numbers[change.row]) for change in new.values()]
        kept = [m for m in range(len(numbers)) if m not in new or new[m].after is not None]
        rows = tuple(_after(descriptors.rows[m], new.get(m)) for m in kept)
        numbers, descriptors = [numbers[m] for m in kept], replace(descriptors, rows=rows, history=())
        findings = lint(descriptors, ignore=others)
    return descriptors, tuple(sorted(changes, key=lambda change: change.row))


def _after(row: Descriptor, change: Repair | None) -> Descriptor:
    return replace(row, text=change.after) if change and change.after is not None else row


def _changes(descriptors: Descriptors, findings: Iterable[Finding]) -> dict[int, Repair]:
    """One change a row at most, by row; drops come first, and never take a class's last row that counts."""
    looked, changes = Looked(descriptors, get_phrase("plain")), dict[int, Repair]()
    left = Counter(row.class_id for row in descriptors.rows if _counts(row))
    order = [*MENDS]
    for finding in sorted((f for f in findings if f.code in MENDS), key=lambda f: order.index(f.code)):
        if finding.row is None or finding.row in changes:
            continue
        row = descriptors.rows[finding.row]
        after = MENDS[finding.code](looked, row)
        if after is None and left[row.class_id] - _counts(row) < 1:
            continue
        if after != row.text:
            left[row.class_id] -= _counts(row) and after is None
            changes[finding.row] = Repair(finding.row, row.class_id, finding.code, row.text, after)
    return changes


def _counts(row: Descriptor) -> bool:
    return row.enabled and row.weight > 0


def _drop(_: Looked, row: Descriptor) -> None:
    return None


def _unmark(_: Looked, row: Descriptor) -> str | None:
    return _or_drop(unmarked(row.text))


def _trim(looked: Looked, row: Descriptor) -> str | None:
    return _or_drop(trimmed(row.text, looked.sentences))


def _or_drop(text: str) -> str | None:
    return text if says(text) else None


def _unname(looked: Looked, row: Descriptor) -> str | None:
    return unnamed(row.text, looked.classes[row.class_id])


# Drops come first: what goes need not be cleaned. A row that is spared since it is the last is cleaned all the same.
MENDS: dict[str, Callable[[Looked, Descriptor], str | None]] = {
    "empty": _drop,
    "duplicate": _drop,
    "not-visual": _drop,
    "markup": _unmark,
    "trailing-junk": _trim,
    "class-name": _unname,
}


def unnamed(text: str, class_: ClassName) -> str:
    """`text` without the class's name where what remains reads well, else as it was.

    >>> hen = ClassName("hen", "hen")
    >>> unnamed("a hen has a red comb", hen), unnamed("The hen's red comb", hen), unnamed("a red hen", hen)
    ('a red comb', 'a red comb', 'a red hen')
    """
    names = names_of(class_)
    rest = next((rest for name in sorted(names, key=len, reverse=True) if (rest := _rest(text.strip(), name))), "")
    words = rest.lower().split()
    reads = len(words) > 1 and words[0][0].isalnum() and words[0] not in ("been", "not", "to", "being", "had")
    named = any(in_words(name) in in_words(rest) for name in names)
    return rest if reads and not named and len(rest) < len(text) else text


def _rest(text: str, name: str) -> str:
    """What `text` says of `name`: the object of "has", "is" or "with", or what is the name's own."""
    words = r"[\s_-]+".join(re.escape(word) for word in name.split())
    found = re.match(rf"(?:(?:an?|the|this|these|most|all)\s+)?{words}(?:e?s)?(['\u2019]s?)?,?\s+", text, re.IGNORECASE)
    if not found:
        return ""
    predicate = re.sub(r"^(?:which|that)\s+", "", text[found.end() :])
    verb, _, rest = predicate.partition(" ")
    if found[1]:
        return _with_article(predicate)
    return rest.strip() if verb in _LINKS else predicate if verb in VERBS | ADVERBS else ""


def _with_article(text: str) -> str:
    """ "red comb" -> "a red comb"; only where the last word is the head and a part that can be counted."""
    words: Sequence[str] = text.lower().split()
    single = words and words[-1] in PARTS and not {*words} & BREAKS and words[0] not in DETERMINERS
    return f"{article(text)} {text}" if single else text
