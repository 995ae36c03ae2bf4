"""vlmdesc data"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say
from vlmdesc.cli.options import (
    AllowAbsent,
    DataSource,
    DescriptorFile,
    GroupColumn,
    IdColumn,
    IgnoreUnknown,
    ImageColumn,
    Json,
    LabelColumn,
    Split,
    open_data,
    open_descriptors,
)
from vlmdesc.errors import ImageError
from vlmdesc.text import counted, few, shown

if TYPE_CHECKING:
    from vlmdesc import Survey

Montage = Annotated[Path, typer.Option(help="Where the sample of images is drawn.", metavar="FILE.png")]
Check = Annotated[bool, typer.Option(help="Open every image; --no-check opens those of the sample only.")]
CLASSES = 20  # shown in the table


def data(
    dataset: DataSource,
    descriptors: DescriptorFile = "",
    image_column: ImageColumn = "",
    label_column: LabelColumn = "",
    group_column: GroupColumn = "",
    id_column: IdColumn = "",
    split: Split = "",
    ignore_unknown: IgnoreUnknown = False,
    allow_absent: AllowAbsent = False,
    check: Check = True,
    montage: Montage = Path("vlmdesc-data.png"),
    as_json: Json = False,
) -> None:
    """Describe a data set before anything is computed: columns, splits, classes, a sample, and what is wrong with it.

    With --descriptors its labels are joined to the classes of a descriptor set, as an evaluation would; what does not
    fit is told, with the closest classes.

    Example: vlmdesc data photos/ --descriptors everyday
    """
    from vlmdesc.cli.montage import check_montage
    from vlmdesc.cli.progress import bars

    check_montage(montage)
    given = open_descriptors("", descriptors) if descriptors else None
    columns = {"image": image_column, "label": label_column, "group": group_column, "id": id_column}
    found = open_data(dataset, split=split, **{f"{role}_column": column for role, column in columns.items()})
    joining = vd.Joining(ignore_unknown=ignore_unknown, allow_absent=allow_absent)
    with bars() as progress:
        seen = vd.survey(found, given, joining=joining, check=check, progress=progress)
    inside = any(Path(source).resolve() in montage.resolve().parents for source in dataset)
    if not inside:
        seen.montage(montage)
    if as_json:
        print(json.dumps(seen.to_dict() | {"montage": None if inside else str(montage)}))
    else:
        _print(seen)
    drawn = "not drawn: it would lie in the data set; use --montage" if inside else f"drawn to {shown(montage)}"
    say(f"{counted(len(seen.samples), 'image')} {drawn}")
    if seen.misfit:
        raise seen.misfit
    if given:
        say(f"labels fit the {len(given.classes)} classes of {shown(descriptors)}")
    if seen.broken:
        raise typer.Exit(ImageError.exit_code)


def _print(seen: Survey) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, data = Console(), seen.data
    splits = f", split {data.table.split} of {', '.join(data.table.splits)}" if data.table.splits else ""
    console.print(Text(shown(f"{data.name}: {data.table.form}, {counted(seen.rows, 'row')}{splits}")), soft_wrap=True)
    table = Table(box=None, header_style="bold")
    for title in ("column", "holds", "read as"):
        table.add_column(title, overflow="fold")
    for column, kind in data.table.columns.items():
        table.add_row(Text(shown(column)), Text(shown(kind)), ", ".join(data.read_as(column)))
    console.print(table)
    for what, counts in (("classes", seen.labels), ("groups", seen.groups)):
        named = sorted(((n, name) for name, n in counts.items() if name is not None), key=lambda x: (-x[0], x[1]))
        if named:
            listed = few((f"{name} {n:,}" for n, name in named), CLASSES)
            console.print(Text(shown(f"{len(named):,} {what}: {listed}")), soft_wrap=True)
    opened = "every image opened" if seen.checked else "images not opened"
    problems = seen.problems()
    console.print(Text(f"problems ({opened}):" if problems else f"no problems found ({opened})"))
    for problem in problems:
        console.print(Text(shown(f"  {problem}")), soft_wrap=True)
