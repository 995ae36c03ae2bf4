"""What a data set holds and what is wrong with it, before anything is encoded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from PIL import Image

from vlmdesc.embeddings.data import DataSet, Item
from vlmdesc.embeddings.image import DecodedImage, Source, content_key, contents, open_image
from vlmdesc.embeddings.pipeline import default_workers, read_ahead
from vlmdesc.errors import ImageError
from vlmdesc.text import counted

SAMPLES = 48
THUMBNAIL_PX = 144


@dataclass(frozen=True)
class Survey:
    """Counts, samples and faults of a data set.

    `broken` are the images that cannot be used; `repeated` counts those that came before, byte for byte;
    `conflicts` are ids of images that stand under two labels. `checked` tells whether all were opened.
    """

    rows: int
    labels: Counter[str | None]
    groups: Counter[str | None]
    samples: list[tuple[Image.Image | None, str]]
    broken: list[ImageError] = field(default_factory=list)
    repeated: int = 0
    conflicts: list[str] = field(default_factory=list)
    checked: bool = True

    def problems(self) -> list[str]:
        """One line a kind of problem."""
        few = [label for label, n in self.labels.items() if label is not None and n == 1]
        labelled = self.rows - self.labels[None]
        broken = [f"{error.what} ({error.where})" for error in self.broken]
        lines = {
            f"{counted(len(self.broken), 'image')} cannot be used": broken,
            f"{counted(len(self.conflicts), 'image')} under two labels": self.conflicts,
            f"{self.labels[None]} of {self.rows} rows without a label": [""] * (self.labels[None] if labelled else 0),
            f"{counted(self.repeated, 'image')} seen before, byte for byte": [""] * self.repeated,
            f"{counted(len(few), 'class')} with one image only": [
                label for label in few if len(few) < len(self.labels)
            ],
        }
        return [_line(what, cases) for what, cases in lines.items() if cases]


def survey(data: DataSet, *, check: bool = True, tick: Callable[[], object] = bool) -> Survey:
    """Go through a data set once; with `check` every image is opened, else only the samples are.

    `tick` is called after each row.
    """
    labels, groups = Counter[str | None](), Counter[str | None]()
    firsts: list[tuple[Image.Image | None, str]] = []
    more: list[tuple[Image.Image | None, str]] = []
    broken: list[ImageError] = []
    label_of: dict[bytes, str | None] = {}
    repeated, conflicts, rows = 0, [], 0
    sampled = Counter[str | None]()
    for rows, (item, found) in enumerate(_opened(data, check), 1):  # noqa: B007 - wanted after the loop
        labels[item.label] += 1
        groups[item.group] += 1
        if isinstance(found, ImageError):
            broken.append(ImageError(found.code, found.what, where=item.id, fix=found.fix))
        elif found is not None:
            repeated += found.content in label_of
            first = label_of.get(found.content)
            label_of[found.content] = item.label if first is None else first
            if item.label not in (None, label_of[found.content]):
                conflicts.append(item.id)
        if found is not None and sampled[item.label] < SAMPLES and len(firsts) < SAMPLES:
            sample = (getattr(found, "thumbnail", None), item.label or item.id)
            (more if sampled[item.label] else firsts).append(sample)
            sampled[item.label] += 1
        tick()
    samples = firsts + more[: SAMPLES - len(firsts)]  # one of each class before a second of any
    return Survey(rows, labels, groups, samples, broken, repeated, conflicts, check)


@dataclass(frozen=True)
class _Opened:
    content: bytes
    thumbnail: Image.Image


def _opened(data: DataSet, check: bool) -> Iterator[tuple[Item, _Opened | ImageError | None]]:
    """Each item with its image; without `check`, None for all that cannot be a sample."""
    pending: deque[Item] = deque()
    seen: set[str | None] = set()
    unopened = ImageError("unopened", "not looked at")

    def sources() -> Iterator[Source | ImageError]:
        for item in data:
            pending.append(item)
            wanted = check or isinstance(item.source, ImageError) or (len(seen) < SAMPLES and _adds(item, seen))
            seen.add(item.label if item.label is not None else item.id)
            yield item.source if wanted else unopened

    for found in read_ahead(_open_all, sources(), 64, default_workers()):
        yield pending.popleft(), None if found is unopened else found


def _adds(item: Item, seen: set[str | None]) -> bool:
    return item.label is None or item.label not in seen


def _open_all(_: int, sources: list[Source | ImageError]) -> list[_Opened | ImageError]:
    return [source if isinstance(source, ImageError) else _open(source) for source in sources]


def _open(source: Source) -> _Opened | ImageError:
    try:
        raw = contents(source)
        decoded = raw if isinstance(raw, DecodedImage) else open_image(raw, fit_px=THUMBNAIL_PX)
    except ImageError as error:
        return error
    content = content_key(raw)
    decoded.image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return _Opened(content, decoded.image)


def _line(what: str, cases: list[str]) -> str:
    shown = [case for case in islice(cases, 3) if case]
    return what + (": " + "; ".join(shown) + ("; ..." if len(cases) > 3 else "") if shown else "")
