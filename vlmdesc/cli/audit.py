"""vlmdesc audit"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

import vlmdesc as vd
from vlmdesc.cli import options
from vlmdesc.cli.border import say, say_failed, say_notes
from vlmdesc.cli.results import with_interval
from vlmdesc.errors import ImageError, InputError
from vlmdesc.text import counted, few, p_value, shown

if TYPE_CHECKING:
    from rich.console import Console

LEGEND = (
    "images: right only with the descriptor, less right only without it; lead: how far it lifts the right class's "
    "score above what it is without it; MaxSkew: 0 where the best images are spread over groups as the class is; "
    "the gap of the most and the least of several groups is above 0 by chance too"
)
SHOWN, EACH, SMALL = 12, 4, 6  # failures, descriptors and images of one, and groups too small, that are printed
OnlyClass = Annotated[
    list[str], typer.Option("--class", help="Look at this class only; may be given again.", metavar="CLASS")
]
ByConcepts = Annotated[
    bool,
    typer.Option(
        "--group-by-concepts",
        help="Without a column: make groups of clusters of errors in one half of the images, named by concepts, and "
        "audit the other half.",
    ),
]
Vocabulary = Annotated[
    str,
    typer.Option(
        help="What names of --group-by-concepts are made of: a text file with a word a line, or a set.",
        metavar="FILE|SET",
        show_default="17,757 words of WordNet",
    ),
]
K = Annotated[
    int | None,
    typer.Option("--k", min=1, help="Best images of a class, for MaxSkew.", show_default="as many as it has"),
]
HeadFolder = Annotated[
    str, typer.Option("--head", help="In place of descriptors: a head that vlmdesc fit made.", metavar="FOLDER")
]
Out = Annotated[Path, typer.Option(help="Folder for audit.json and audit.html.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the halves and clusters of --group-by-concepts.")]


def audit(
    dataset: options.DataSource,
    descriptors: options.DescriptorFile = "",
    head: HeadFolder = "",
    group_column: options.GroupColumn = "",
    by_concepts: ByConcepts = False,
    only: OnlyClass = [],  # noqa: B006 - typer reads it
    model: options.Model = "",
    phrase: options.Worded = "plain",
    pool: options.Pool = "mean",
    k: K = None,
    vocabulary: Vocabulary = "",
    out: Out = Path("vlmdesc-audit"),
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    image_column: options.ImageColumn = "",
    label_column: options.LabelColumn = "",
    id_column: options.IdColumn = "",
    split: options.Split = "",
    loose_labels: options.Loose = False,
    allow_absent: options.AllowAbsent = False,
    ignore_unknown: options.IgnoreUnknown = False,
    seed: Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Find whom a descriptor set, or a head, fails, and which descriptors do it.

    Classes are compared between groups of images: how often they are found, and how often others are taken for them,
    with intervals and corrected tests. For each class that fails a group, the descriptors that do worse there than
    elsewhere, and images that show it.

    Example: vlmdesc audit faces.csv --descriptors jobs.json --group-column skin_tone
    """
    from vlmdesc.cli.progress import bars

    if bool(descriptors) == bool(head):
        raise InputError("give either --descriptors or --head", fix="say what is to be audited")
    if head and (phrase, pool) != ("plain", "mean"):
        raise InputError("--head with --phrase or --pool", fix="leave them out: a head has its wording and pooling")
    fitted = _load_head(head, model) if head else None
    if fitted:
        card = fitted.card
        model, precision = card.model, precision if precision != "fp32" else card.precision
    columns = {"image_column": image_column, "label_column": label_column, "id_column": id_column}
    data = options.open_data(dataset, split=split, **columns)
    joining = vd.Joining(loose=loose_labels, allow_absent=allow_absent, ignore_unknown=ignore_unknown)
    with bars() as progress:
        found = vd.audit(
            data,
            fitted or descriptors,
            lambda: options.open_encoder(model, device, precision),
            group=group_column,
            by_concepts=by_concepts,
            classes=only,
            phrase=phrase,
            pool=pool,
            k=k,
            vocabulary=vocabulary,
            joining=joining,
            seed=seed,
            out=out,
            progress=progress,
        )
    say_failed(found.failed)
    say_notes(found.notes)
    record = found.to_dict()
    if as_json:
        print(json.dumps(record))
    else:
        _print(record)
    say(f"audit in {shown(out / 'audit.json')} and {shown(out / 'audit.html')}")
    lost = next((failure for failure in record["failed"] if failure["how"] == "not found"), None)
    if lost and group_column:
        aim = f"--class {quote(lost['class'])} --group {quote(lost['group'])}"
        say(shown(f"next: vlmdesc suggest ... --group-column {quote(group_column)} {aim}"))
    if found.failed:
        raise typer.Exit(ImageError.exit_code)


def _load_head(folder: str, model: str) -> vd.Head:
    """A head, for images in its own model; one of a stranger's repository is fetched only where --model names it."""
    found = vd.load_head(folder)
    if found.card.model.startswith("hf-hub:") and found.card.model != model:
        fix = f"where you trust it, add --model {quote(found.card.model)}"
        raise InputError(f"the head asks for a model of the hub, {found.card.model}", where=folder, fix=fix)
    return found


def _print(record: Mapping[str, Any]) -> None:
    """Groups, and for each failure what misleads and where to look."""
    from rich.console import Console
    from rich.text import Text

    console, skew = Console(), record["max_skew"]

    def line(text: str, style: str = "", apart: bool = False) -> None:
        console.print(Text("\n" * apart + shown(text), style=style))

    n = f"{counted(record['n'], 'image')} in {counted(len(record['groups']), 'group')}"
    line(f"{n}, {_rate(record['accuracy'])} % right", "bold")
    if record["ungrouped"]:
        line(f"{counted(record['ungrouped'], 'image')} without a group left out")
    if record["grouping"]:
        line(record["grouping"])
    _print_groups(console, record["groups"])
    if worst := record["worst_class_in_group"]:
        line(f"worst: {worst['name']} in {worst['group']}, {_rate(worst['accuracy'])} % found")
    if record["equal_opportunity"]["classes"]:
        mean, largest = (100 * record["equal_opportunity"][name] for name in ("mean", "largest"))
        skews = f"; MaxSkew@k: mean {skew['mean']:.2f}, largest {skew['largest']:.2f}" if skew["classes"] else ""
        line(f"equal opportunity gap: mean {mean:.1f}, largest {largest:.1f} points{skews}")
    if not record["judged"]:
        line("no class has ten images both in a group and in the others: none can be judged", apart=True)
    elif not record["failed"]:
        judged = f"of {counted(record['judged'], 'class')} in groups judged"
        line(f"no class fares worse in one group than in the others by more than chance, {judged}", apart=True)
    for failure in record["failed"][:SHOWN]:
        for text, style in _failure(failure):
            line(text, style, apart=style == "bold")
    if record["failed"] and record["pulls_defined"]:
        line(LEGEND, "dim", apart=True)
    if record["failed_in_all"] > SHOWN:
        line(f"and {record['failed_in_all'] - SHOWN} more; audit.json has the figures of all", "dim", apart=True)
    if small := [f"{cell['name']} in {cell['group']} ({cell['n']})" for cell in record["too_small"]]:
        line(f"{len(small):,} too small to judge, under 10 images: {few(small, SMALL)}", apart=True)


def _print_groups(console: Console, groups: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("group", overflow="fold")
    for column in ("n", "right %", "against the others", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in groups:
        gap = (_gap(row), p_value(row["p_holm"])) if row["judged"] else ("too few to judge", "")
        table.add_row(*map(Text, (shown(row["group"]), f"{row['n']:,}", _rate(row), *gap)))
    console.print(table)


def _failure(failure: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lines with their style."""
    lost = failure["how"] == "not found"
    side, verb = failure["tpr" if lost else "fpr"], "found" if lost else "others taken for it"
    rate = f"{verb} {_rate(side)} % of {counted(side['n'], 'image')}"
    against = f"{_gap(side)} against the other groups, p {p_value(side['p_holm'])}"
    lines = [(f"{failure['name']} in {failure['group']}: {rate}, {against}", "bold")]
    if failure["taken_for"]:
        lines.append(("  taken for " + ", ".join(f"{of['name']} {of['n']}" for of in failure["taken_for"]), ""))
    for lift in failure["pulls"][:EACH]:
        here, others = (lift["right_only_with"][at] - lift["right_only_without"][at] for at in ("here", "others"))
        leads = f"lead {lift['here']:+.4f} here, {lift['others']:+.4f} elsewhere"
        what = f"{lift['name']}: {lift['descriptor'] or '(its name)'}"
        lines.append((f"  {here:+d} images here, {others:+d} elsewhere, {leads}  {what}", ""))
    return [*lines, (f"  see {few((image['image'] for image in failure['images']), EACH)}", "dim")]


def _rate(share: Mapping[str, Any]) -> str:
    return "no" if share["value"] is None else with_interval(share["value"], share["ci95"])


def _gap(row: Mapping[str, Any]) -> str:
    return with_interval(row["gap"], row["gap_ci95"], sign="+")
