"""Labels of a data set to classes of a descriptor set: by id, name or alias, never by position."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import chain, islice

import numpy as np
from jaxtyping import Int

from vlmdesc.errors import InputError
from vlmdesc.records.names import ClassName
from vlmdesc.text import counted

SHOWN = 20  # lines of a table in an error


class Lookup:
    """Text -> places of the classes with that id, else that name, else that alias; several when it is ambiguous.

    >>> birds = [ClassName("n1", "crane"), ClassName("n2", "crane"), ClassName("n3", "hen", ("chicken",))]
    >>> Lookup(birds)("chicken"), Lookup(birds)("crane"), Lookup(birds)("n1"), Lookup(birds)("cock")
    ((2,), (0, 1), (0,), ())
    """

    def __init__(self, classes: Sequence[ClassName]) -> None:
        self._by: tuple[dict[str, list[int]], ...] = tuple(defaultdict(list) for _ in range(3))
        for place, class_ in enumerate(classes):
            for by, names in zip(self._by, ((class_.id,), (class_.name,), class_.aliases), strict=True):
                for name in dict.fromkeys(names):
                    by[name].append(place)

    def __call__(self, wanted: str) -> tuple[int, ...]:
        return next((tuple(by[wanted]) for by in self._by if wanted in by), ())

    def names(self) -> list[str]:
        """All that can be looked up."""
        return [*dict.fromkeys(name for by in self._by for name in by)]


def join(
    labels: Sequence[str | None],
    classes: Sequence[ClassName],
    *,
    ignore_unknown: bool = False,
    allow_absent: bool = False,
) -> Int[np.ndarray, " n"]:
    """The place of each label's class among `classes`: (N,), -1 for a row without a label.

    With `ignore_unknown` labels of no class are -1 too; with `allow_absent` classes may go without a single image.
    Raises: InputError whose details are a table of what does not fit, with the closest classes.
    """
    lookup, counts = Lookup(classes), Counter(label for label in labels if label is not None)
    found = {label: lookup(label) for label in counts}
    missing = [label for label, places in found.items() if not places]
    ambiguous = [label for label, places in found.items() if len(places) > 1]
    used = {place for places in found.values() for place in places}
    absent = [class_ for place, class_ in enumerate(classes) if place not in used]
    problems: dict[str, Sequence[object]] = {
        "label of no class": [] if ignore_unknown else missing,
        "label of several classes": ambiguous,
        "class without an image": [] if allow_absent else absent,
    }
    if any(problems.values()):
        what = ", ".join(_counted(len(names), kind) for kind, names in problems.items() if names)
        lines = chain(
            (_unknown(label, counts[label], lookup) for label in missing if not ignore_unknown),
            (_ambiguous(label, counts[label], found[label], classes) for label in ambiguous),
            (_absent(class_) for class_ in absent if not allow_absent),
        )
        raise InputError(what, fix=_fix(problems), details=_cut(lines, sum(map(len, problems.values()))))
    places = {label: places[0] if places else -1 for label, places in found.items()}
    return np.array([-1 if label is None else places[label] for label in labels], dtype=np.intp)


def _counted(n: int, kind: str) -> str:
    noun, rest = kind.split(" ", 1)
    return f"{counted(n, noun)} {rest}"


def _unknown(label: str, count: int, lookup: Lookup) -> str:
    by_fold = {name.casefold(): name for name in lookup.names()}
    close = [by_fold[fold] for fold in get_close_matches(label.casefold(), by_fold, 3)]
    return f"label '{label}' ({counted(count, 'row')}): no class" + (f"; closest: {', '.join(close)}" if close else "")


def _ambiguous(label: str, count: int, places: Sequence[int], classes: Sequence[ClassName]) -> str:
    ids = ", ".join(classes[place].id for place in places)
    return f"label '{label}' ({counted(count, 'row')}): {len(places)} classes are called so, ids {ids}"


def _absent(class_: ClassName) -> str:
    return f"class '{class_.name}'" + (f", id {class_.id}" if class_.id != class_.name else "") + ": no image has it"


def _fix(problems: dict[str, Sequence[object]]) -> str:
    missing, ambiguous, absent = problems.values()
    fixes = ["rename labels, add aliases to the descriptor file, or --ignore-unknown"] if missing else []
    fixes += ["label by id where classes share a name"] if ambiguous else []
    fixes += ["drop classes the data set does not have, or --allow-absent"] if absent and not missing else []
    return "; ".join(fixes)


def _cut(lines: Iterator[str], n: int) -> list[str]:
    """The first of n lines; only these are made, since finding the closest classes takes its time."""
    return [*islice(lines, SHOWN)] + ([f"... and {n - SHOWN} more"] if n > SHOWN else [])
