"""A report, an audit and the effect of an edit as HTML pages that need nothing else: no script, file or network.

All text of them is someone else's: whatever a template prints goes through `shown` and is then escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path, PurePath
from statistics import median
from typing import Any
from unicodedata import east_asian_width

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import vlmdesc
from vlmdesc.classification.heads.learned import sentence
from vlmdesc.records import ClassName, Report
from vlmdesc.records.report import Record
from vlmdesc.text import counted, p_value, shown

LETTERS = 300  # of one text
MOVED = 12  # classes shown that gained most, and that lost most

KINDS = {
    "Names alone": ("name",),
    "Descriptors": ("descriptors", "mix"),
    "Fitted to images": ("fitted",),
    "Controls": ("control",),
}
TONES = {"meaning": "good", "harm": "bad"}
Thumbnails = Mapping[int, bytes]  # JPEGs by the row of an image in the data set; any may be missing


def report_page(report: Report, thumbnails: Thumbnails) -> str:
    """The HTML of a report."""
    view = {
        "report": report,
        "version": report.environment.get("vlmdesc", ""),
        "data": data_name({"data": report.task.data, "name": report.task.name}),
        "tone": TONES.get(report.verdict.code, "open"),
        "kinds": KINDS,
        "labels": class_labels(report.task.class_names),
        "images": {row: b64encode(jpeg).decode() for row, jpeg in thumbnails.items()},
        "classes": _classes(report),
    }
    return templates().get_template("page.html.j2").render(view)


def page(template: str, found: Record, data: str, classes: Sequence[ClassName], thumbnails: Thumbnails) -> str:
    """The HTML of what was found on a data set of that name, in a template of ours."""
    view: dict[str, Any] = {
        "found": found,
        "data": data,
        "labels": class_labels({class_.id: class_.name for class_ in classes}),
        "images": {row: b64encode(jpeg).decode() for row, jpeg in thumbnails.items()},
        "version": vlmdesc.__version__,
    }
    return templates().get_template(template).render(view)


def templates() -> Environment:
    """Templates that escape all they print and know the functions below."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = {"percent": percent, "points": change_in_points, "p": p_value, "counted": counted, "median": median}
    environment.filters.update(numbers | {"cut": cut, "ends": ends, "learned": sentence})
    environment.globals.update({"axis": axis})
    return environment


def _harmless(value: object) -> object:
    """What a template prints, without control and bidirectional characters, but for what a template made."""
    return shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


# Text and numbers


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a number of per cent.

    >>> percent(0.4503)
    '45.0'
    """
    return f"{100 * fraction:.{digits}f}"


def change_in_points(fraction: float, digits: int = 1) -> str:
    """A difference of fractions in points, with its sign.

    >>> change_in_points(0.0323), change_in_points(-0.0323), change_in_points(0.0)
    ('+3.2', '−3.2', '0.0')
    """
    text = f"{100 * fraction:+.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text[1:]


def cut(text: str, most: int = LETTERS) -> str:
    """A text of at most `most` columns of letters; Chinese and the like take two.

    >>> cut("a red comb", 6), cut("hen", 6)
    ('a red…', 'hen')
    """
    text = shown(text[: most + 1])
    at, width = 0, 0
    for at, letter in enumerate(text):
        width += 2 if east_asian_width(letter) in "WF" else 1
        if width > most:
            return text[: at - 1] + "…"
    return text


def class_labels(names: Mapping[str, str]) -> dict[str, str]:
    """What each class is called on the page: its name, and its id too where another class has that name.

    >>> class_labels({"n1": "crane", "n2": "crane", "n3": "hen"})
    {'n1': 'crane (n1)', 'n2': 'crane (n2)', 'n3': 'hen'}
    """
    often = Counter(names.values())
    return {id_: cut(f"{name} ({id_})" if often[name] > 1 else name, 120) for id_, name in names.items()}


def data_name(task: Record) -> str:
    """The name a task was given, else that of its data, of a path the last part."""
    data = str(task["data"])
    return cut(task.get("name") or (PurePath(data).name if PurePath(data).is_absolute() else data), 120)


def ends(rows: Sequence[Any], most: int) -> Sequence[Any]:
    """The first and the last of sorted rows, where there are more than `most`.

    >>> ends([1, 2, 3, 4, 5, 6], 4), ends([1, 2, 3], 4)
    ([1, 2, 5, 6], [1, 2, 3])
    """
    return [*rows[: most - most // 2], *rows[len(rows) - most // 2 :]] if len(rows) > most else rows


# Places in charts


@dataclass(frozen=True)
class Axis:
    """A scale with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def part(self, value: float) -> float:
        """How far along a value lies, from 0 to 1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def at(self, value: float) -> str:
        """The same as a length in SVG."""
        return f"{100 * self.part(value):.2f}%"

    def length(self, a: float, b: float) -> str:
        """The length of the bar between two values."""
        return f"{100 * abs(self.part(a) - self.part(b)):.2f}%"

    @property
    def digits(self) -> int:
        """Decimals that tell neighbouring ticks apart, in per cent."""
        return max(0, ceil(-2 - log10(self.ticks[1] - self.ticks[0]) - 1e-6))


def axis(values: Iterable[float], most: int = 6) -> Axis:
    """The scale with at most about `most` steps that holds all values.

    >>> axis([0.31, 0.46]).ticks
    (0.3, 0.35, 0.4, 0.45, 0.5)
    """
    found = [*values] or [0.0, 1.0]
    low, high = min(found), max(found)
    low, high = (low, high) if high - low > 1e-9 else (low - 0.005, high + 0.005)
    rough = (high - low) / most
    unit = 10.0 ** floor(log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    ticks = tuple(round(i * step, 9) for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def _classes(report: Report) -> dict[str, Any]:
    """Every class with its change from base to main, gains first, and those that moved most, with a scale for them."""
    changes = [(row, row.top1[report.main] - row.top1[report.base]) for row in report.classes]
    changes.sort(key=lambda pair: (-pair[1], -pair[0].n))
    gained = [row for row, change in changes[:MOVED] if change > 0]
    lost = [row for row, change in changes[::-1][:MOVED] if change < 0]
    scale = axis((row.top1[name] for row in gained + lost for name in (report.base, report.main)), 3)
    return {"rows": changes, "gained": gained, "lost": lost, "scale": scale}
