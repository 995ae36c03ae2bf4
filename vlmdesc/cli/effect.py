"""What edits do to the answers on labelled images, for vlmdesc edit --on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmdesc.cli.looking import look as look_at
from vlmdesc.errors import InputError
from vlmdesc.text import counted, few, shown

if TYPE_CHECKING:
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.records import Descriptors, Edit

SHOWN, EACH = 8, 4  # classes whose change is printed; images that changed sides


@dataclass(frozen=True)
class Look:
    """Labelled images and how they are looked at; `columns` are options of `load_data`, `page` is written."""

    dataset: list[str]
    columns: Mapping[str, str]
    loose: bool
    phrase: str
    pool: str
    page: Path


def check_look(look: Look, before: Descriptors, after: Descriptors) -> None:
    """What is wrong is told before the model is loaded. Raises: InputError."""
    from vlmdesc.classification.score import get_pool
    from vlmdesc.descriptors.phrase import get_phrase

    get_pool(look.pool), get_phrase(look.phrase)
    if look.page.suffix.lower() != ".html" or not look.page.parent.is_dir():
        what = "the page needs a name ending in .html, in a folder that exists"
        raise InputError(what, where=look.page, fix="choose another with --page")
    if len(after.classes) != len(before.classes):
        raise InputError("the edit changes which classes there are", fix="save it without --on, then use vlmdesc eval")


def effect_of(
    look: Look, before: Descriptors, after: Descriptors, edits: Sequence[Edit], open_model: Callable[[], Encoder]
) -> dict[str, Any]:
    """What going from one set to the other does to the answers, ready for JSON, and written to the page."""
    from vlmdesc.embeddings.labelled import Joining
    from vlmdesc.evaluation.effect import effect
    from vlmdesc.evaluation.pages import effect_page, effect_rows
    from vlmdesc.evaluation.scored import Scored
    from vlmdesc.evaluation.thumbnails import thumbnails
    from vlmdesc.files import write_atomic

    joining = Joining(loose=look.loose, allow_absent=True, ignore_unknown=True)
    looked = look_at(look.dataset, look.columns, before, joining, open_model)
    photos, classes = looked.photos, looked.given.classes
    old, new = (looked.fit(set_, look.phrase, look.pool) for set_ in (before, after))
    seen = Scored.of(old, photos)
    answers = seen.answers, seen.rescored(new).answers
    record = effect(*answers, photos.labels, photos.groups).record(photos, classes)
    pictures = thumbnails(looked.data, effect_rows(record))
    shown_ = record | {"edits": [str(one) for one in edits]}
    write_atomic(look.page, effect_page(shown_, looked.data.name, classes, pictures).encode())
    task = {"data": looked.data.name, "encoder": looked.encoder.name, "phrase": look.phrase, "pool": look.pool}
    return {"schema": 1, "task": task, "failed": len(photos.failed), "unlabelled": photos.unlabelled, **record}


def print_effect(record: Mapping[str, Any]) -> None:
    """The groups and classes that moved, some images that changed sides, and the verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vlmdesc.cli.results import with_interval
    from vlmdesc.evaluation.statistics import p_value

    console, overall = Console(), record["overall"]
    moved = [row for row in record["groups"] if row["fixed"] + row["broken"]]
    rows = [("all images", overall)] + [(f"in {row['group']}", row) for row in moved]
    rows += [(row["name"], row) for row in record["classes"][:SHOWN]]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for column in ("n", "right %", "points", "fixed", "broken", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for title, row in rows:
        right = f"{100 * row['before']:.1f} > {100 * row['after']:.1f}"
        delta = with_interval(row["delta"], row["ci95"], sign="+")
        cells = (f"{row['n']:,}", right, delta, str(row["fixed"]), str(row["broken"]), p_value(row["p_holm"]))
        table.add_row(*map(Text, (shown(title), *cells)))
    console.print(table)
    still = len(record["groups"]) - len(moved)
    more = [f"{counted(still, 'group')} without a change"] if still else []
    more += [f"{len(record['classes']) - SHOWN:,} more classes"] if len(record["classes"]) > SHOWN else []
    if more:
        console.print(Text(f"and {', '.join(more)}", style="dim"))
    for kind, examples in record["examples"].items():
        if examples:
            console.print(Text(shown(f"{kind}: {few((e['image'] for e in examples), EACH)}"), style="dim"))
    console.print(Text(shown(record["verdict"]["text"]), style="bold"))
