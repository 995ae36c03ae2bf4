"""A vehicle that is only ever a car: a planted bias audited, mended, and measured on images that had no part in it.

    python -m eval.bias [--data PATH] [--tables FOLDER] [--out PATH] [--chart PATH]

Twelve everyday classes made of 84 of Tiny ImageNet's, each in two groups. One author thought of cars when describing
vehicles (`vehicles/biased.json`); boats and trains are the group that pays. The set is mended by what `vlmdesc suggest`
finds on the reference images, and by hand (`vehicles/by-hand.jsonl`); both are measured on the test images, beside
two controls: random words instead of those added by hand, and a mere constant on the class's score. docs/bias.md tells
the story; `--tables` writes the two tables it is told on. Half a minute on two cores once the embeddings are stored.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlmdesc.classification.heads.pooled import Pooled, fit_pooled
from vlmdesc.descriptors.controls import waffle_texts
from vlmdesc.descriptors.edit import edit
from vlmdesc.descriptors.patch import read_patch
from vlmdesc.embeddings.data import load_data
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.labelled import Joining, Labelled, class_numbers, gather
from vlmdesc.embeddings.load import load_encoder
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.evaluation.candidates import Draft
from vlmdesc.evaluation.effect import deltas
from vlmdesc.evaluation.proportions import Share
from vlmdesc.evaluation.run import environment
from vlmdesc.evaluation.suggest import Suggestions, suggest_edits
from vlmdesc.files import json_lines, write_atomic
from vlmdesc.records import Descriptors, Edit
from vlmdesc.records.descriptors import open_set

HERE = Path(__file__).parent
CASE, RESULTS = HERE / "vehicles", HERE / "results" / "bias.json"
TABLES = {"reference": "tiny-imagenet-reference.parquet", "test": "tiny-imagenet-val.parquet"}
CLASS, GROUP, BORROW = "vehicle", "rail or water", "imagenet"
SEED, SEEDS, RESAMPLES = 0, 7, 2_000
ABOUT = {
    "task": "12 classes of 84 Tiny ImageNet classes, 25 images of each; reference: training part, test: validation",
    "form": "plain: 'vehicle, which has four wheels'; mean over descriptors; starter, fp32",
    "target": f"{CLASS} in {GROUP}",
    "suggested": f"vlmdesc suggest on the reference, borrowing from {BORROW}, seed {SEED}",
    "by hand": "eval/vehicles/by-hand.jsonl; written with both parts seen, so its test figures are no clean test",
    "random words": f"as by hand, with random words for the descriptors added; mean of {SEEDS} seeds",
    "constant": "the biased set, with a constant added to the class's score: as many images of the reference are "
    "taken for it as with the mended set that is named",
    "not constant": "the mended set against that: what is left for the words",
    "worst": f"lowest of the accuracies of a class in a group; its interval from {RESAMPLES} resamples within these",
    "note": "the starter's image backbone was trained on ImageNet-1k: not zero-shot, figures compare sets",
}
Right = np.ndarray  # (N,) bool
Fit = Callable[[Descriptors], Pooled]


@dataclass(frozen=True)
class Part:
    """The images of one table, and the number of each one's class in a group."""

    photos: Labelled
    cells: np.ndarray
    names: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data", help="folder of photographs")
    parser.add_argument("--tables", type=Path, help="folder for the two tables; that is all then")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the figures")
    parser.add_argument("--chart", type=Path, help="PNG of accuracy by class and group, before and after")
    options = parser.parse_args()
    for file in TABLES.values():
        if not (options.data / file).is_file():
            raise SystemExit(f"error: no photographs ({options.data / file}); fix: --data with the folder of them")
    if options.tables:
        write_tables(options.data, options.tables)
        return
    with TemporaryDirectory() as folder:
        write_tables(options.data, Path(folder))
        figures, before, after, part = measured(Path(folder))
    write_atomic(options.out, json_lines(figures | {"environment": environment()}).encode())
    print("\n".join(lines(figures)))
    if options.chart:
        draw(options.chart, part, before, after)


def write_tables(data: Path, folder: Path, most: int = 25) -> None:
    """The images of the case, at most so many of each ImageNet class, with their class and group, in two tables."""
    classes = json.loads((CASE / "classes.json").read_text("utf-8"))
    of = {wnid: (name, group) for name, groups in classes.items() for group, wnids in groups.items() for wnid in wnids}
    folder.mkdir(parents=True, exist_ok=True)
    for part, file in TABLES.items():
        table = pq.read_table(data / file)
        seen, rows = Counter[str](), []
        for i, wnid in enumerate(table["wnid"].to_pylist()):
            seen[wnid] += 1
            if wnid in of and seen[wnid] <= most:
                rows.append((i, of[wnid]))
        images = [image["bytes"] for image in table["image"].take([i for i, _ in rows]).to_pylist()]
        labels, groups = zip(*(named for _, named in rows), strict=True)
        columns = {"id": [f"{part}-{i}" for i, _ in rows], "image": images, "label": labels, "group": groups}
        pq.write_table(pa.table({name: list(column) for name, column in columns.items()}), folder / f"{part}.parquet")


def measured(folder: Path) -> tuple[dict[str, Any], Right, Right, Part]:
    """All figures; and on the test part what is right before, and after the suggestions and edits by hand."""
    encoder, store = load_encoder("starter", device="cpu", precision="fp32"), Store()

    def fit(descriptors: Descriptors) -> Pooled:
        return fit_pooled(encoder, descriptors, "plain", "mean", store)

    biased = Descriptors.load(CASE / "biased.json")
    parts = {name: gathered(folder / f"{name}.parquet", biased, encoder, store) for name in TABLES}
    draft = Draft(biased, fit(biased), partial(text_vectors, encoder=encoder, store=store))
    found = suggested(draft, parts["reference"].photos)
    by_hand = read_patch(CASE / "by-hand.jsonl")
    sets = {"suggested": list(found.edits), "by hand": by_hand}
    rows, seen = [], {}
    for name, part in parts.items():
        base = right(biased, part.photos, fit)
        for of, edits in sets.items():
            seen[name, of] = right(edit(biased, edits), part.photos, fit)
            rows.append({"set": of, "on": name} | compared(part, base, [seen[name, of]]))
        controls = [right(edit(biased, random_words(biased, by_hand, s)), part.photos, fit) for s in range(SEEDS)]
        rows.append({"set": "random words", "on": name} | compared(part, base, controls))
        for of, edits in sets.items():
            shift = constant(biased, edit(biased, edits), parts["reference"].photos, fit)
            shifted = right(biased, part.photos, fit, shift)
            rows.append(
                {"set": f"constant, {of}", "on": name, "constant": round(shift, 6)} | compared(part, base, [shifted])
            )
            rows.append({"set": f"{of}, not constant", "on": name} | compared(part, shifted, [seen[name, of]]))
    figures = {
        "schema": 1,
        "about": ABOUT,
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "suggest": {
            "verdict": found.text,
            "tried": [tried.to_dict() for tried in found.tried],
            "together": found.together and found.together.to_dict(),
        },
        "rows": rows,
    }
    return figures, right(biased, parts["test"].photos, fit), seen["test", "by hand"], parts["test"]


def gathered(table: Path, biased: Descriptors, encoder: Encoder, store: Store) -> Part:
    """A table's images, embedded."""
    data = load_data(table, label_column="label", group_column="group")
    photos = gather(data, class_numbers(data, biased, Joining())[1], encoder, store)
    cells = [f"{biased.classes[c].name}, {g}" for c, g in zip(photos.labels, photos.groups, strict=True)]
    names, numbers = np.unique(cells, return_inverse=True)
    return Part(photos, numbers, names.tolist())


def suggested(draft: Draft, photos: Labelled) -> Suggestions:
    target = (photos.labels == draft.descriptors.find(CLASS)) & np.array([group == GROUP for group in photos.groups])
    pool = [row.text for row in open_set(BORROW).rows if row.text]
    return suggest_edits(draft, photos, target, borrowed=pool, seed=SEED)


def scores(descriptors: Descriptors, photos: Labelled, fit: Fit) -> np.ndarray:
    return fit(descriptors).scores(photos.vectors)


def right(descriptors: Descriptors, photos: Labelled, fit: Fit, shift: float = 0.0) -> Right:
    """Which images a set gets right, with a constant on the score of the class: (N,)."""
    found = scores(descriptors, photos, fit)
    found[:, descriptors.find(CLASS)] += shift
    return found.argmax(axis=1) == photos.labels


def random_words(biased: Descriptors, by_hand: Sequence[Edit], seed: int) -> list[Edit]:
    """The edits by hand with random words, WaffleCLIP's, for what they add."""
    texts = iter(waffle_texts(biased, len(by_hand), seed))
    return [Edit("add", edit.class_, next(texts)) if edit.op == "add" else edit for edit in by_hand]


def constant(biased: Descriptors, mended: Descriptors, photos: Labelled, fit: Fit) -> float:
    """What the class's score lacks for as many images to be taken for it as with the mended set."""
    class_ = biased.find(CLASS)
    wanted = int((scores(mended, photos, fit).argmax(axis=1) == class_).sum())
    now = scores(biased, photos, fit)
    behind = np.delete(now, class_, axis=1).max(axis=1) - now[:, class_]
    return float(np.sort(behind)[wanted - 1]) + 1e-6


def compared(part: Part, before: Right, runs: Sequence[Right]) -> dict[str, Any]:
    """Overall, the target, and the worst class in a group: before, after, difference; over runs the mean."""
    cell = part.names.index(f"{CLASS}, {GROUP}")
    masks = {"overall": np.ones(len(before), bool), "target": part.cells == cell}
    record: dict[str, Any] = {}
    for name, mask in masks.items():
        each = [deltas([mask], before, run)[0] for run in runs]
        record[name] = each[0].to_dict() if len(runs) == 1 else over(part, mask, before, runs)
    return record | {"worst": worst(part, before, runs)}


def over(part: Part, mask: np.ndarray, before: Right, runs: Sequence[Right]) -> dict[str, Any]:
    means = [float(run[mask].mean() - before[mask].mean()) for run in runs]
    return {"n": int(mask.sum()), "delta": round(float(np.mean(means)), 6), "seeds": [round(m, 6) for m in means]}


def worst(part: Part, before: Right, runs: Sequence[Right]) -> dict[str, Any]:
    """The lowest accuracy of a class in a group, before and after, and its difference with a bootstrap interval."""
    rng, n = np.random.default_rng(SEED), len(part.names)
    sizes = np.bincount(part.cells, minlength=n)

    def lowest(hits: Right, drawn: np.ndarray) -> float:
        return float((np.bincount(part.cells[drawn], hits[drawn], n) / sizes).min())

    everyone = np.arange(len(before))
    after = np.mean([lowest(run, everyone) for run in runs])
    order = np.argsort(part.cells, kind="stable")
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)
    differences = []
    for _ in range(RESAMPLES):
        drawn = order[start + (rng.random(len(before)) * sizes[part.cells[order]]).astype(np.intp)]
        run = runs[int(rng.integers(len(runs)))]
        differences.append(lowest(run, drawn) - lowest(before, drawn))
    low, high = np.quantile(differences, [0.025, 0.975])
    first = np.bincount(part.cells, runs[0], n) / sizes
    return {
        "before": round(lowest(before, everyone), 6),
        "after": round(float(after), 6),
        "delta": round(float(after) - lowest(before, everyone), 6),
        "ci95": [round(float(low), 6), round(float(high), 6)],
        "now": part.names[int(first.argmin())],
    }


def lines(figures: dict[str, Any]) -> Iterator[str]:
    yield f"{figures['suggest']['verdict']}"
    for row in figures["rows"]:
        cells = []
        for name in ("worst", "target", "overall"):
            figure = row[name]
            ends = f" [{100 * figure['ci95'][0]:+.1f}, {100 * figure['ci95'][1]:+.1f}]" if "ci95" in figure else ""
            now = f"{100 * figure['before']:.1f} > {100 * figure['after']:.1f} " if "before" in figure else ""
            cells.append(f"{name} {now}{100 * figure['delta']:+.1f}{ends}")
        yield f"{row['on']:9s} {row['set']:23s} {'; '.join(cells)}"


def draw(path: Path, part: Part, before: Right, after: Right) -> None:
    """Accuracy of each class in each group of the test part, before and after, with Wilson's intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = [
        [Share(int(hits[part.cells == c].sum()), int((part.cells == c).sum())) for hits in (before, after)]
        for c in range(len(part.names))
    ]
    order = sorted(range(len(shares)), key=lambda c: shares[c][0].value)
    figure = Figure(figsize=(8.6, 7.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for y, c in enumerate(reversed(order)):
        target = part.names[c] == f"{CLASS}, {GROUP}"
        for share, colour, shift in zip(shares[c], ("#c8702a", "#2a7f8e"), (0.17, -0.17), strict=True):
            low, high = (100 * end for end in share.ci95)
            axes.plot([low, high], [y + shift] * 2, color=colour, linewidth=3 if target else 1.4, alpha=0.75)
            axes.plot(100 * share.value, y + shift, "o", color=colour, markersize=7 if target else 4)
    axes.set_yticks(range(len(order)), [part.names[c] for c in reversed(order)], fontsize=9)
    axes.get_yticklabels()[len(order) - 1].set_fontweight("bold")
    axes.set_xlim(0, 100)
    axes.set_xlabel("found, % of the images of the class in the group, with 95 % interval")
    axes.set_title("Orange: vehicles described as cars. Blue: mended. Test images.", loc="left", fontsize=11)
    axes.grid(axis="x", color="#dbe4e6")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
