"""vlmdesc demo"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vlmdesc as vd
from vlmdesc.cli.border import say
from vlmdesc.cli.options import Json, Model, open_encoder
from vlmdesc.cli.progress import bars
from vlmdesc.errors import InputError
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc.records import Prediction

Out = Annotated[Path, typer.Option(help="Where the figure goes.", metavar="FILE.png")]


@dataclass(frozen=True)
class Photo:
    """A photograph that another package ships, and what it shows."""

    package: str
    file: str
    shows: str


# Fixed, like the everyday set, before the model had seen any of them.
PHOTOS = (
    Photo("skimage", "data/chelsea.png", "cat"),
    Photo("skimage", "data/coffee.png", "cup of coffee"),
    Photo("skimage", "data/rocket.jpg", "rocket"),
    Photo("skimage", "data/astronaut.png", "astronaut"),
    Photo("sklearn", "datasets/images/china.jpg", "temple"),
    Photo("sklearn", "datasets/images/flower.jpg", "flower"),
)


def demo(out: Out = Path("vlmdesc-demo.png"), model: Model = "", as_json: Json = False) -> None:
    """Classify six real photographs, by name and by description, and draw the reasons.

    The photographs come with scikit-image and scikit-learn; the classes are the everyday set.
    """
    from vlmdesc.cli.figure import draw

    if out.suffix.lower() != ".png" or not out.parent.is_dir():  # told before the model is loaded
        raise InputError(
            "the figure needs a name ending in .png, in a folder that exists", where=out, fix="choose another"
        )
    paths = [path_of(photo) for photo in PHOTOS]
    encoder, everyday = open_encoder(model, "auto", "fp32"), vd.Descriptors.load("everyday")
    with bars() as progress:
        by_name = vd.Classifier(encoder, everyday, phrase="name", progress=progress)(paths)
        by_description = vd.Classifier(encoder, everyday, progress=progress)(paths)
    if as_json:
        print(json.dumps(report(by_name, by_description, out)))
    else:
        _print(by_name, by_description, len(everyday.classes))
    draw(out, paths, [photo.shows for photo in PHOTOS], by_description)
    say(f"reasons drawn to {shown(out)}")


def path_of(photo: Photo) -> Path:
    """Where the photograph is installed. Raises: InputError when its package is not."""
    spec = importlib.util.find_spec(photo.package)
    path = Path(spec.origin).parent / photo.file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InputError(f"the demo needs the photographs of {photo.package}", fix="pip install 'vlmdesc[starter]'")
    return path


def report(by_name: list[Prediction], by_description: list[Prediction], out: Path) -> dict[str, object]:
    """What --json prints: each photo's truth and both answers, and how many are right."""
    pairs = list(zip(PHOTOS, by_name, by_description, strict=True))
    return {
        "photos": [
            {"shows": photo.shows, "by_name": a.to_dict(), "by_description": b.to_dict()} for photo, a, b in pairs
        ],
        "right_by_name": sum(a.ranked[0].text == photo.shows for photo, a, _ in pairs),
        "right_by_description": sum(b.ranked[0].text == photo.shows for photo, _, b in pairs),
        "n": len(pairs),
        "figure": str(out),
    }


def _print(by_name: list[Prediction], by_description: list[Prediction], n_classes: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"Six photographs, {n_classes} everyday classes", title_justify="left", box=None, header_style="bold"
    )
    for column in ("photograph of", "by name", "by description", "because it has or is"):
        table.add_column(column, overflow="fold")
    right = [0, 0]
    for photo, *answers in zip(PHOTOS, by_name, by_description, strict=True):
        cells = []
        for i, answer in enumerate(answers):
            found = answer.ranked[0].text
            right[i] += found == photo.shows
            cells.append(f"[green]{found}[/]" if found == photo.shows else f"[red]{found}[/] (wrong)")
        table.add_row(photo.shows, *cells, "; ".join(hit.text for hit in answers[1].because[:2]))
    console = Console()
    console.print(table)
    console.print(
        f"\nright: {right[0]} of {len(PHOTOS)} by name, {right[1]} of {len(PHOTOS)} by description", highlight=False
    )
    console.print("next: vlmdesc classify YOUR_PHOTOS --descriptors everyday", highlight=False)
