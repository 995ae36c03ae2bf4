"""Classes and their visual descriptors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from vlmdesc.assets import shipped, shipped_sets
from vlmdesc.errors import InputError
from vlmdesc.files import read_text, strict_json, write_atomic
from vlmdesc.records import forms
from vlmdesc.records.edits import Done
from vlmdesc.records.join import Lookup
from vlmdesc.records.names import ClassName, Descriptor, locate_errors, reads_as
from vlmdesc.text import counted, did_you_mean, few, shown

Meta = Mapping[str, Any]
SHOWN = 20  # classes of a table, and descriptors of a class


@dataclass(frozen=True)
class Descriptors:
    """Classes, their descriptor rows, and where they come from. Row m is column m of every similarity matrix.

    `classes` is stored, so an edit that drops a class's last row cannot lose the class. `history` are the edits that
    people made, first to last, each with what it did; it is saved in the same file, so that neither outlives the other.
    Raises: InputError when two classes have one id, or a row belongs to no class.

    >>> zoo = Descriptors.of({"hen": ["a red comb"], "zebra": ["black stripes", "white stripes"]})
    >>> zoo.owner.tolist()
    [0, 1, 1]
    """

    classes: tuple[ClassName, ...]
    rows: tuple[Descriptor, ...]
    meta: Meta = field(default_factory=dict)
    history: tuple[Done, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "meta", dict(self.meta))
        if twins := [id_ for id_, n in Counter(c.id for c in self.classes).items() if n > 1]:
            where, fix = f'class "{twins[0]}"', "give each class its own id"
            raise InputError(f"{counted(len(twins), 'id')} used twice", where=where, fix=fix)
        for m, row in enumerate(self.rows):
            if row.class_id not in self.position:
                where, fix = f'class "{row.class_id}"', "add the class or drop the row"
                raise InputError(f"row {m} belongs to no class", where=where, fix=fix)

    @cached_property
    def position(self) -> dict[str, int]:
        """Class id -> its place among `classes`."""
        return {c.id: i for i, c in enumerate(self.classes)}

    @cached_property
    def owner(self) -> Int[np.ndarray, " m"]:
        """Place of each row's class: (M,) int."""
        owner = np.array([self.position[row.class_id] for row in self.rows], dtype=np.intp)
        owner.flags.writeable = False
        return owner

    @cached_property
    def weights(self) -> Float32[np.ndarray, " m"]:
        """Weight of each row, 0 where it is disabled: (M,)."""
        weights = np.array([row.weight * row.enabled for row in self.rows], dtype=np.float32)
        weights.flags.writeable = False
        return weights

    def find(self, wanted: str) -> int:
        """Place of the class with that id, else that name, else that alias. Raises: InputError when none or several."""
        found = Lookup(self.classes)(wanted)
        if len(found) > 1:
            ids = ", ".join(self.classes[i].id for i in found)
            raise InputError(f"{len(found)} classes are called '{wanted}'", fix=f"use an id: {ids}")
        if not found:
            hint = did_you_mean(wanted, (c.name for c in self.classes))
            raise InputError(f"no class '{wanted}'", fix=f"{hint}classes: {few((c.name for c in self.classes), 20)}")
        return found[0]

    @classmethod
    def of(cls, texts: Mapping[str, Sequence[str]] | Iterable[str], origin: str = "") -> Descriptors:
        """From `{class name: [descriptor, ...]}`, or from names of classes alone, which are scored by name.

        Raises: InputError for a string where a list is meant, two classes that read the same, or what is no text.
        """
        if isinstance(texts, (str, bytes)):
            raise InputError(f"a string, {texts!r:.60}, where classes are meant", fix="give a list of class names")
        lists = texts if isinstance(texts, Mapping) else _bare(texts)
        rows = list[Descriptor]()
        for name, list_ in lists.items():
            if isinstance(list_, (str, bytes)) or not isinstance(list_, Iterable):
                what = f"{list_!r:.60} where a list of descriptors is meant"
                raise InputError(what, where=f'class "{name}"', fix=f"write [{list_!r:.60}]")
            list_ = [*list_]
            if odd := [one for one in (name, *list_) if not isinstance(one, str)]:
                raise InputError(f"{odd[0]!r:.60} is not text", fix="give class names and descriptors as text")
            rows += [Descriptor(name, text, origin=origin) for text in list_]
        return cls(tuple(ClassName(name, name) for name in lists), tuple(rows))

    @classmethod
    def load(cls, source: DescriptorSource) -> Descriptors:
        """What `source` stands for: the name of a set that ships, a descriptor file, `{class: [text, ...]}`, a list of
        class names, or a set itself.

        A file is in our form, `{class: [text, ...]}`, or DisCLIP's index_to_classname form. A file of the name of a set
        that ships goes before it.
        Raises: InputError naming the file, the class and the position of what is wrong, or the closest name.
        """
        if isinstance(source, Descriptors):
            return source
        if isinstance(source, (str, Path)):
            return open_set(source)
        given: object = source
        if not isinstance(given, Iterable) or isinstance(given, bytes) or hasattr(given, "read"):
            what = f"{type(source).__name__} where descriptors are meant"
            raise InputError(what, fix="give a set's name, a file, {class: [text, ...]}, or a list of class names")
        return cls.of(source)

    @classmethod
    def parse(cls, text: str, file: str | Path) -> Descriptors:
        """The set of a descriptor file's text. Raises: as `load`."""
        parts = forms.parse(strict_json(text, str(file)), str(file))
        with locate_errors(str(file)):
            return cls(*parts)

    def save(self, path: str | Path) -> None:
        """Write our form, one class and one row a line so that a diff reads well. Atomic.

        Raises: StoreError when it cannot be written.
        """
        write_atomic(Path(path), self.to_json().encode("utf-8"))

    def to_json(self) -> str:
        """Our JSON form; fields at their default are left out."""
        return forms.dump(self.classes, self.rows, self.meta, self.history)

    def __repr__(self) -> str:
        return f"<Descriptors: {counted(len(self.classes), 'class')}, {counted(len(self.rows), 'row')}>"

    def _repr_html_(self) -> str:
        texts = {class_.id: list[str]() for class_ in self.classes}
        for row in self.rows:
            texts[row.class_id].append(row.text)
        table = [(class_.name, few(texts[class_.id], SHOWN)) for class_ in self.classes[:SHOWN]]
        table += [("...", f"{len(self.classes) - SHOWN:,} more")] if len(self.classes) > SHOWN else []
        cells = (f"<tr><th>{escape(shown(name))}</th><td>{escape(shown(list_))}</td></tr>" for name, list_ in table)
        return f"<table><caption>{escape(repr(self))}</caption>{''.join(cells)}</table>"


DescriptorSource = Descriptors | Mapping[str, Sequence[str]] | Iterable[str] | str | Path


def open_set(name: str | Path) -> Descriptors:
    """A descriptor file, or a set that ships. Raises: InputError with the closest name when it is neither."""
    path = find_set(name)
    return Descriptors.parse(read_text(path), path)


def find_set(name: str | Path) -> Path:
    """The file of a descriptor set. Raises: as `open_set`."""
    path = Path(name)
    if str(name) in shipped_sets() and not path.is_file():
        return shipped(f"descriptors/{name}.json")
    if not os.path.exists(name):
        beside = list[str]()
        with suppress(OSError, ValueError):
            beside = [str(path.with_name(file.name)) for file in sorted(path.parent.glob("*.json"))[:1_000]]
        fix = f"{did_you_mean(str(name), [*shipped_sets(), *beside])}sets: {', '.join(shipped_sets())}"
        raise InputError("no such file or shipped set", where=name, fix=fix)
    return path


def _bare(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Classes without descriptors. Raises: InputError for two that read the same."""
    seen = dict[str, str]()
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{type(name).__name__} where a class name is meant", fix="give class names as text")
        if (key := reads_as(name)) in seen:
            raise InputError("two classes read the same", where=f"'{seen[key]}' and '{name}'", fix="keep one of them")
        seen[key] = name
    return dict.fromkeys(seen.values(), ())
