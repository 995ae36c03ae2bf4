"""What a data set holds and what is wrong with it, before anything is encoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vlmdesc.embeddings.data import DataSet, Item, load_data
from vlmdesc.embeddings.image import DecodedImage, content_key, contents, open_image
from vlmdesc.embeddings.labelled import Joining, class_numbers
from vlmdesc.embeddings.montage import draw_montage
from vlmdesc.embeddings.pipeline import default_workers, read_ahead
from vlmdesc.errors import ImageError, InputError
from vlmdesc.records import Descriptors
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.progress import Progress, counter, silent
from vlmdesc.text import counted, few

SAMPLES = 48
THUMBNAIL_PX = 144


@dataclass(frozen=True, repr=False)
class Survey:
    """Counts, samples and faults of a data set.

    `samples` are thumbnails, None for an image that is broken, each with its label or id. `broken` are the images that
    cannot be used; `repeated` counts those that came before, byte for byte; `conflicts` are ids of images that stand
    under two labels. `checked` tells whether all were opened. `misfit` is why the labels do not fit the descriptors.
    """

    data: DataSet
    checked: bool
    rows: int = 0
    labels: Counter[str | None] = field(default_factory=Counter)
    groups: Counter[str | None] = field(default_factory=Counter)
    samples: tuple[tuple[Image.Image | None, str], ...] = ()
    broken: tuple[ImageError, ...] = ()
    repeated: int = 0
    conflicts: tuple[str, ...] = ()
    misfit: InputError | None = None

    def __repr__(self) -> str:
        return f"Survey({self.data.name}: {counted(self.rows, 'row')}, {counted(len(self.problems()), 'problem')})"

    def problems(self) -> list[str]:
        """One line a kind of problem, those of labels that do not fit apart."""
        rare = [label for label, n in self.labels.items() if label is not None and n == 1]
        bare = self.labels[None] if self.labels[None] < self.rows else 0
        lines = {
            f"{counted(len(self.broken), 'image')} cannot be used: ": [f"{e.what} ({e.where})" for e in self.broken],
            f"{counted(len(self.conflicts), 'image')} under two labels: ": self.conflicts,
            f"{bare} of {self.rows} rows without a label": [""] if bare else [],
            f"{counted(self.repeated, 'image')} seen before, byte for byte": [""] if self.repeated else [],
            f"{counted(len(rare), 'class')} with one image only: ": rare if len(rare) < len(self.labels) else [],
        }
        found = [what + few(cases, 3).replace(", ...", "; ...") for what, cases in lines.items() if cases]
        return [*self.data.table.notes, *found]

    def montage(self, path: str | Path) -> None:
        """Draw the samples as a PNG, each with its label below it. Raises: StoreError."""
        draw_montage(Path(path), self.samples)

    def to_dict(self) -> dict[str, Any]:
        table, misfit = self.data.table, self.misfit
        return {
            "data": self.data.name,
            "form": table.form,
            "splits": list(table.splits),
            "split": table.split,
            "columns": dict(table.columns),
            "roles": vars(self.data.roles),
            "rows": self.rows,
            "labels": {label: n for label, n in self.labels.items() if label is not None},
            "groups": {group: n for group, n in self.groups.items() if group is not None},
            "problems": self.problems() + ([misfit.what] if misfit else []),
            "misfits": [*misfit.details] if misfit else [],
            "broken": [{"path": e.where, "code": e.code, "message": e.what} for e in self.broken],
            "checked": self.checked,
        }


def survey(
    data: object,
    descriptors: DescriptorSource | None = None,
    *,
    joining: Joining = Joining(),  # noqa: B008 - it is frozen
    check: bool = True,
    progress: Progress = silent,
) -> Survey:
    """Go through a data set once; with `check` every image is opened, else only the samples are.

    `data` is what `load_data` takes. With `descriptors` its labels are joined to their classes, as an evaluation would.
    Raises: InputError for a data set or descriptors that cannot be read.
    """
    data = load_data(data)
    given = Descriptors.load(descriptors) if descriptors is not None else None
    labels, groups, first = Counter[str | None](), Counter[str | None](), dict[bytes, str | None]()
    samples: dict[bool, list[tuple[Image.Image | None, str]]] = {True: [], False: []}  # the first of a label, others
    broken, conflicts, repeated = list[ImageError](), list[str](), 0
    more = counter(progress, "images", data.n)
    for item, found in read_ahead(_open_all, data, 64, default_workers()) if check else _open_few(data):
        if found is not None and labels[item.label] < SAMPLES > len(samples[True]):
            thumbnail = None if isinstance(found, ImageError) else found.thumbnail
            samples[not labels[item.label]].append((thumbnail, item.label or item.id))
        labels[item.label] += 1
        groups[item.group] += 1
        if isinstance(found, ImageError):
            broken.append(ImageError(found.code, found.what, where=item.id, fix=found.fix))
        elif found is not None:
            repeated += found.content in first
            label = first.get(found.content)
            first[found.content] = item.label if label is None else label
            if item.label not in (None, first[found.content]):
                conflicts.append(item.id)
        more(1)
    return Survey(
        data,
        check,
        labels.total(),
        labels,
        groups,
        (*samples[True], *samples[False])[:SAMPLES],  # one of each class before a second of any
        tuple(broken),
        repeated,
        tuple(conflicts),
        _misfit(data, given, joining) if given else None,
    )


def _misfit(data: DataSet, descriptors: Descriptors, joining: Joining) -> InputError | None:
    try:
        class_numbers(data, descriptors, joining)
    except InputError as error:
        return error
    return None


@dataclass(frozen=True)
class _Picture:
    content: bytes
    thumbnail: Image.Image


def _open_few(data: DataSet) -> Iterator[tuple[Item, _Picture | ImageError | None]]:
    """Items, opened where they can be samples: the first of each label, and some without."""
    seen = set[str]()
    for item in data:
        label = item.id if item.label is None else item.label
        wanted = isinstance(item.source, ImageError) or (label not in seen and len(seen) < SAMPLES)
        seen.add(label)
        yield item, _open(item.source) if wanted else None


def _open_all(_: int, items: list[Item]) -> list[tuple[Item, _Picture | ImageError | None]]:
    return [(item, _open(item.source)) for item in items]


def _open(source: object) -> _Picture | ImageError:
    try:
        if isinstance(source, ImageError):
            return source
        raw = contents(source)
        decoded = raw if isinstance(raw, DecodedImage) else open_image(raw, fit_px=THUMBNAIL_PX)
    except ImageError as error:
        return error
    content = content_key(raw)
    decoded.image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return _Picture(content, decoded.image)
