"""An audit as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlmdesc.cli.results import with_interval
from vlmdesc.text import counted, few, shown

if TYPE_CHECKING:
    from rich.console import Console

LEGEND = (
    "\nimages: right only with the descriptor, less right only without it; lead: how far it lifts the right class's "
    "score above what it is without it; MaxSkew: 0 where the best images are spread over groups as the class is; "
    "the gap of the most and the least of several groups is above 0 by chance too"
)
SHOWN, EACH, SMALL = 12, 4, 6  # failures, descriptors and images of one, and groups too small, that are printed


def print_audit(record: Mapping[str, Any]) -> None:
    """Groups, and for each failure what misleads and where to look."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    title = f"{counted(record['n'], 'image')} in {counted(len(record['groups']), 'group')}, "
    console.print(Text(shown(f"{title}{_rate(record['accuracy'])} % right"), style="bold"))
    if record["ungrouped"]:
        console.print(Text(f"{counted(record['ungrouped'], 'image')} without a group left out"))
    if record["grouping"]:
        console.print(Text(shown(record["grouping"])))
    _groups(console, record["groups"])
    worst = record["worst_class_in_group"]
    if worst:
        console.print(Text(shown(f"worst: {worst['name']} in {worst['group']}, {_rate(worst['accuracy'])} % found")))
    opportunity, skew = record["equal_opportunity"], record["max_skew"]
    if opportunity["classes"]:
        console.print(Text(_gaps(opportunity, skew)))
    if not record["judged"]:
        console.print(Text("\nno class has ten images both in a group and in the others: none can be judged"))
    elif not record["failed"]:
        judged = counted(record["judged"], "class")
        line = f"no class fares worse in one group than in the others by more than chance, of {judged} in groups judged"
        console.print(Text(f"\n{line}"))
    for failed in record["failed"][:SHOWN]:
        _failure(console, failed)
    if record["failed"] and record["pulls_defined"]:
        console.print(Text(LEGEND, style="dim"))
    if record["failed_in_all"] > SHOWN:
        console.print(
            Text(f"\nand {record['failed_in_all'] - SHOWN} more; audit.json has the figures of all", style="dim")
        )
    small = [f"{cell['name']} in {cell['group']} ({cell['n']})" for cell in record["too_small"]]
    if small:
        console.print(Text(shown(f"\n{len(small):,} too small to judge, under 10 images: {few(small, SMALL)}")))


def _groups(console: Console, groups: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from vlmdesc.evaluation.statistics import p_value

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("group", overflow="fold")
    for column in ("n", "right %", "against the others", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in groups:
        told = ("too few to judge", "")
        if row["judged"]:
            told = (_points(row, "gap"), p_value(row["p_holm"]))
        table.add_row(*map(Text, (shown(row["group"]), f"{row['n']:,}", _rate(row), *told)))
    console.print(table)


def _failure(console: Console, failure: Mapping[str, Any]) -> None:
    from rich.text import Text

    from vlmdesc.evaluation.statistics import p_value

    side = failure["tpr" if failure["how"] == "not found" else "fpr"]
    verb = "found" if failure["how"] == "not found" else "others taken for it"
    line = f"{failure['name']} in {failure['group']}: {verb} {_rate(side)} % of {counted(side['n'], 'image')}, "
    line += f"{_points(side, 'gap')} against the other groups, p {p_value(side['p_holm'])}"
    console.print(Text("\n" + shown(line), style="bold"))
    if failure["taken_for"]:
        console.print(Text(shown("  taken for " + ", ".join(f"{t['name']} {t['n']}" for t in failure["taken_for"]))))
    for lift in failure["pulls"][:EACH]:
        net = [lift["right_only_with"][side] - lift["right_only_without"][side] for side in ("here", "others")]
        leads = f"lead {lift['here']:+.4f} here, {lift['others']:+.4f} elsewhere"
        what = f"{lift['name']}: {lift['descriptor'] or '(its name)'}"
        console.print(Text(shown(f"  {net[0]:+d} images here, {net[1]:+d} elsewhere, {leads}  {what}")))
    images = few((image["image"] for image in failure["images"]), EACH)
    console.print(Text(shown(f"  see {images}"), style="dim"))


def _gaps(opportunity: Mapping[str, Any], skew: Mapping[str, Any]) -> str:
    mean, largest = (100 * opportunity[name] for name in ("mean", "largest"))
    gaps = f"equal opportunity gap: mean {mean:.1f}, largest {largest:.1f} points"
    return gaps + (f"; MaxSkew@k: mean {skew['mean']:.2f}, largest {skew['largest']:.2f}" if skew["classes"] else "")


def _rate(share: Mapping[str, Any]) -> str:
    return "no" if share["value"] is None else with_interval(share["value"], share["ci95"])


def _points(row: Mapping[str, Any], name: str) -> str:
    return with_interval(row[name], row[f"{name}_ci95"], sign="+")
