"""Mending what the lint finds, where that is safe: dropping rows that say nothing, and cleaning texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from vlmdesc.descriptors.lint import left_out, name_pattern, same, says
from vlmdesc.descriptors.tidy import strip_markup, trim
from vlmdesc.descriptors.visual import not_visual
from vlmdesc.records import Change, Descriptor, Descriptors, Done, Edit
from vlmdesc.records.descriptors import DescriptorSource

WHO = "vlmdesc lint"  # as the history has it


@dataclass(frozen=True)
class Repair:
    """What mending did to row `row` of the set it was given; `after` is None where the row was dropped."""

    row: int
    class_id: str
    code: str
    before: str
    after: str | None


@dataclass(frozen=True)
class Fix:
    """A mended set, and what was changed, by row of the set that was given."""

    descriptors: Descriptors
    changes: tuple[Repair, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"changes": [asdict(change) for change in self.changes]}

    def __repr__(self) -> str:
        return f"Fix({len(self.changes)} changes, {len(self.descriptors.rows)} rows)"


def fix(descriptors: DescriptorSource, *, ignore: Iterable[str] = ()) -> Fix:
    """The set with what `lint` finds mended where that is safe, and what was changed.

    Duplicates and rows that show nothing go; texts are cleaned of markup, ragged ends and, where the rest reads well,
    the class's name; what has one of the codes to `ignore` is left. A class keeps one descriptor that says something.
    All else stays as it is, ids, weights and origins too. Each change is an edit in the history, so it can be undone.
    Raises: InputError for descriptors that cannot be used, or a code that is not known.
    """
    descriptors = Descriptors.load(descriptors)
    rows, changes, history = list[Descriptor](), list[Repair](), [*descriptors.history]
    for row, repairs in _repairs(descriptors, left_out(descriptors, ignore)):
        now: Descriptor | None = row
        for repair in repairs:
            before, now = now, None if repair.after is None else replace(row, text=repair.after)
            op, to = ("drop", "") if now is None else ("reword", now.text)
            edit = Edit(op, row.class_id, repair.before, to, who=WHO, why=repair.code)
            history.append(Done(edit, (Change(len(rows), before, now),)))
        rows += [now] if now else []
        changes += repairs
    return Fix(replace(descriptors, rows=tuple(rows), history=tuple(history)), tuple(changes))


def _repairs(descriptors: Descriptors, leave: frozenset[str]) -> Iterator[tuple[Descriptor, list[Repair]]]:
    """Each row, with its cleanings in order, or with its drop alone."""
    names = {c.id: name_pattern(c) for c in descriptors.classes}
    left, seen = Counter(row.class_id for row in descriptors.rows if _counts(row)), set[tuple[str, str]]()
    for m, row in enumerate(descriptors.rows):
        repairs = [*_clean(m, row, names[row.class_id], leave)] if row.enabled else []
        text = (repairs and repairs[-1].after) or row.text
        why = _why_drop(text, (row.class_id, same(text)) in seen, leave) if row.enabled else ""
        if why and left[row.class_id] > _counts(row):  # a class keeps its last row that counts
            left[row.class_id] -= _counts(row)
            repairs = [Repair(m, row.class_id, why, row.text, None)]
        if row.enabled:
            seen.add((row.class_id, same(text)))
        yield row, repairs


def _clean(m: int, row: Descriptor, name: str, leave: frozenset[str]) -> Iterator[Repair]:
    """Until nothing changes any more: cleaning one thing can bring another to light."""
    cleaners: dict[str, Callable[[str], str]]
    cleaners = {"markup": strip_markup, "trailing-junk": trim, "class-name": partial(unname, name=name)}
    text, old = row.text, ""
    while text != old:
        old = text
        for code, clean in cleaners.items():
            after = clean(text)
            if code not in leave and after != text and says(after):
                yield Repair(m, row.class_id, code, text, after)
                text = after


def _why_drop(text: str, is_twin: bool, leave: frozenset[str]) -> str:
    """The code for which a row goes, or ""."""
    is_empty = not says(trim(strip_markup(text)))
    reasons = {"empty": is_empty, "duplicate": is_twin and not is_empty, "not-visual": bool(not_visual(text))}
    return next((code for code, holds in reasons.items() if holds and code not in leave), "")


def _counts(row: Descriptor) -> bool:
    return row.enabled and row.weight > 0 and says(row.text)


def unname(text: str, name: str) -> str:
    """`text` without a class's name, a pattern, where it says what the class has or is; else as it was.

    >>> unname("a hen has a red comb", "hen"), unname("The hen's red comb", "hen"), unname("a red hen", "hen")
    ('a red comb', 'red comb', 'a red hen')
    """
    link = r"(?:['\u2019]s?|,?\s+(?:(?:which|that)\s+)?(?:are|has|have|is|with))"
    found = re.match(rf"\s*(?:(?:an?|the|this|these|all)\s+)?{name}{link}\s+(\w+\s.+)$", text, re.IGNORECASE)
    rest = found[1].strip() if found else ""
    reads = rest and rest.split()[0] not in ("been", "being", "had", "not", "to")
    return rest if reads and not re.search(name, rest, re.IGNORECASE) else text
