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
    used = {place for places in found.values() for place in places}
    unknown = [] if ignore_unknown else [label for label, places in found.items() if not places]
    ambiguous = [label for label, places in found.items() if len(places) > 1]
    absent = [] if allow_absent else [class_ for place, class_ in enumerate(classes) if place not in used]
    if unknown or ambiguous or absent:
        lines = chain(
            (
                f"label '{label}' ({counted(counts[label], 'row')}): no class{_closest(label, lookup)}"
                for label in unknown
            ),
            (_ambiguous(label, counts[label], [classes[place].id for place in found[label]]) for label in ambiguous),
            (_absent(class_) for class_ in absent),
        )
        raise _misfit(len(unknown), len(ambiguous), len(absent), lines)
    places = {label: places[0] if places else -1 for label, places in found.items()}
    return np.array([-1 if label is None else places[label] for label in labels], dtype=np.intp)


def _misfit(unknown: int, ambiguous: int, absent: int, lines: Iterator[str]) -> InputError:
    """The error for so many misfits. Only the lines that are shown are made: the closest names take time to find."""
    what = [f"{counted(unknown, 'label')} of no class"] if unknown else []
    what += [f"{counted(ambiguous, 'label')} of several classes"] if ambiguous else []
    what += [f"{counted(absent, 'class')} without an image"] if absent else []
    fixes = (
        ["rename labels, add aliases to the classes, or leave them out: --ignore-unknown, Joining(ignore_unknown=True)"]
        if unknown
        else []
    )
    fixes += ["label by id where classes share a name"] if ambiguous else []
    fixes += (
        ["drop classes the data set does not have, or --allow-absent, Joining(allow_absent=True)"]
        if absent and not unknown
        else []
    )
    more = unknown + ambiguous + absent - SHOWN
    details = [*islice(lines, SHOWN)] + ([f"... and {more} more"] if more > 0 else [])
    return InputError(", ".join(what), fix="; ".join(fixes), details=details)


def _closest(label: str, lookup: Lookup) -> str:
    by_fold = {name.casefold(): name for name in lookup.names()}
    close = [by_fold[fold] for fold in get_close_matches(label.casefold(), by_fold, 3)]
    return f"; closest: {', '.join(close)}" if close else ""


def _ambiguous(label: str, count: int, ids: Sequence[str]) -> str:
    return f"label '{label}' ({counted(count, 'row')}): {len(ids)} classes have that name, ids {', '.join(ids)}"


def _absent(class_: ClassName) -> str:
    return f"class '{class_.name}'" + (f", id {class_.id}" if class_.id != class_.name else "") + ": no image has it"
