"""Photographs beside the descriptors that decided, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vlmdesc.records import Prediction

INK, BAR, WRONG, PALE = "#1f2933", "#2a7f8e", "#c8702a", "#c9d6d9"


def draw(out: Path, pictures: Sequence[Path], truths: Sequence[str], predictions: Sequence[Prediction]) -> None:
    """One row an image: the image, its best classes, and the winner's descriptors by similarity.

    The winner's bars are orange where it is not what the image shows. Raises: OSError when `out` cannot be written.
    """
    figure = Figure(figsize=(13, 2.3 * len(pictures)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(pictures), 3, width_ratios=(1.1, 1, 1.6), squeeze=False)
    for (photo, classes, reasons), path, truth, prediction in zip(grid, pictures, truths, predictions, strict=True):
        colour = BAR if prediction.ranked[0].text == truth else WRONG
        photo.imshow(Image.open(path).convert("RGB"))
        photo.set_title(f"a photograph of: {truth}", loc="left", color=INK, fontsize=10)
        photo.set_axis_off()
        ranked = [(hit.text, hit.score) for hit in prediction.ranked[:4]]
        _bars(classes, ranked, [colour] + [PALE] * (len(ranked) - 1))
        classes.set_title(prediction.ranked[0].text, loc="left", fontweight="bold", color=INK, fontsize=12)
        because = [(hit.text, hit.score) for hit in prediction.because[:4]]
        _bars(reasons, because, [colour] * len(because))
        reasons.set_title("because", loc="left", color=INK, fontsize=10)
    figure.savefig(out, format="png", dpi=110)


def _bars(axes: Any, rows: list[tuple[str, float]], colours: list[str]) -> None:
    """Horizontal bars, best on top, each labelled inside the axes with its text and value."""
    labels, values = [text.replace("$", r"\$") for text, _ in rows], [value for _, value in rows]
    axes.barh(range(len(rows)), values, color=colours, height=0.72)
    axes.set_yticks(range(len(rows)), labels, fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, *values), 1.18 * max(0.01, *values))
    for i, value in enumerate(values):
        axes.text(max(value, 0), i, f" {value:.2f}", va="center", fontsize=8, color=INK)
    axes.set_xticks([])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
