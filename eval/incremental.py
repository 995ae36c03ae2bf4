"""New classes from few photographs, session after session: the protocol of TEEN (Wang et al. 2023) on Tiny ImageNet.

    python -m eval.incremental [--shared PATH]      prints the table, writes eval/results/incremental.json

152 classes have 25 photographs each, and the weight of photographs beside texts is chosen on these alone. 50 more
come in five sessions of ten with 1, 5 or 16 photographs each, with and without calibration of their prototypes. What is
scored after each session is the validation part, among the classes seen so far. Each seed draws which classes are new,
in what order, and their photographs. Twenty seconds on two cores once the embeddings are stored.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlmdesc.classification.columns import prompts_of
from vlmdesc.classification.heads import prototypes
from vlmdesc.embeddings.data import load_data
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.labelled import Joining, Labelled, class_numbers, gather, without
from vlmdesc.embeddings.load import load_encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.evaluation.run import environment
from vlmdesc.evaluation.statistics import interval, over_seeds, resampled_means
from vlmdesc.files import json_lines, write_atomic
from vlmdesc.records import Descriptors

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "eval" / "results" / "incremental.json"
TEST, REFERENCE = "tiny-imagenet-val.parquet", "tiny-imagenet-reference.parquet"
NAMES = "published-descriptors/descriptors_imagenet.json"
PHRASE = "name:a photo of a {c}."
NOTE = "The starter's image backbone was trained on ImageNet-1k: strictly, no figure is zero-shot and no class unseen."
BASE, SESSIONS, STEP, SEEDS, RESAMPLES = 152, 5, 10, 5, 2_000
PHOTOS = (1, 5, 16)
GROUPS = ("base", "new", "all")


class Head(NamedTuple):
    """What scores; photographs of a new class; how far it is drawn toward the base classes."""

    scores: str
    photos: int = 0
    shift: float = 0.0


def shifts(photos: int) -> list[float]:
    """No calibration, as much as counts as one photograph (what `add` does unasked), and as much as was published."""
    return sorted({0.0, round(1 / (photos + 1), 4), 0.5})


HEADS = (Head("texts"), *(Head(s, k, a) for s in ("texts+photos", "photos") for k in PHOTOS for a in shifts(k)))


class Data(NamedTuple):
    test: Labelled
    reference: Labelled
    captions: np.ndarray
    about: dict[str, Any]


class Measured(NamedTuple):
    """Accuracies by head, session (0 is before the first), group and seed, and resampled; NaN for new in session 0."""

    means: np.ndarray
    resampled: np.ndarray
    sizes: np.ndarray
    weights: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder of shared data")
    place = parser.parse_args().shared / "data"
    if not place.is_dir():
        raise SystemExit(f"error: no photographs ({place}); fix: put the shared data folder beside the checkout")
    data = load(place)
    measured = measure(data)
    found, against = list(figures(measured)), list(differences(measured))
    about = data.about | {"weights_of_photos": measured.weights, "figures": found, "differences": against}
    write_atomic(RESULTS, json_lines(about | {"environment": environment()}).encode())
    print(*table(found), "", *map(compared, against), "", NOTE, sep="\n")


def load(place: Path) -> Data:
    """Both sets of photographs and the captions, embedded; classes are those that both have."""
    encoder, store = load_encoder("starter", device="cpu", precision="fp32"), Store()
    names = Descriptors.load(place / NAMES)
    sets = [load_data(place / file, label_column="label") for file in (TEST, REFERENCE)]
    (known, of_test), (same, of_reference) = (class_numbers(set_, names, Joining(only_present=True)) for set_ in sets)
    assert known.classes == same.classes and len(known.classes) == BASE + SESSIONS * STEP
    test, reference = gather(sets[0], of_test, encoder, store), gather(sets[1], of_reference, encoder, store)
    assert len(without(reference, test).labels) == len(reference.labels), "a photograph is in both sets"
    captions = prompts_of(known, PHRASE).texts
    about = {
        "note": NOTE,
        "test": {"data": TEST, "n": len(test.labels), "data_hash": test.fingerprint(known.classes)},
        "reference": {"data": REFERENCE, "n": len(reference.labels), "data_hash": reference.fingerprint(known.classes)},
        "names": NAMES,
        "phrase": PHRASE,
        "example": captions[0],
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint, "precision": encoder.precision},
        "classes": {"base": BASE, "sessions": SESSIONS, "each": STEP},
        "seeds": list(range(SEEDS)),
        "intervals": f"95 %, bootstrap over images (within class) and seeds, {RESAMPLES:,} resamples",
    }
    return Data(test, reference, text_vectors(captions, encoder, store), about)


def measure(data: Data) -> Measured:
    """Every head on every seed: what is right, as columns that are resampled together, so that differences pair."""
    n, labels = len(data.test.labels), data.test.labels
    shape = (len(HEADS), SESSIONS + 1, len(GROUPS), SEEDS)
    right, sizes, weights = np.zeros((n, *shape), np.float32), np.zeros(shape[1:]), []
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(data.captions))
        place = np.argsort(order)[labels]  # of the class of each test photograph in the order of classes
        weight, answers = answered(data, order, seed)
        weights.append(weight)
        for session in range(SESSIONS + 1):
            seen = place < BASE + session * STEP
            groups = np.stack([place < BASE, (place >= BASE) & seen, seen], axis=1)
            sizes[session, :, seed] = groups.sum(axis=0)
            right[:, :, session, :, seed] = (answers[:, session] == place).T[:, :, None] & groups[:, None]
    share = np.divide(n, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)  # the same in every resample
    resampled = resampled_means(right.reshape(n, -1), labels, RESAMPLES, seed=0).reshape(RESAMPLES, *shape)
    assert (sizes == sizes[..., :1]).all(), "not as many test photographs of each class"
    return Measured(right.mean(axis=0, dtype=np.float64) * share, resampled * share, sizes[..., 0], weights)


def answered(data: Data, order: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """The weight of photographs, and by head and session the class of each test photograph, as a place in the order."""
    rng = np.random.default_rng((seed, 1))
    place, texts = np.argsort(order)[data.reference.labels], data.captions[order]
    vectors, test = data.reference.vectors, data.test.vectors
    rows = np.stack([rng.permutation(np.flatnonzero(place == c))[: max(PHOTOS)] for c in range(len(order))])
    known = np.flatnonzero(place < BASE)
    base, weight = prototypes.choose(vectors[known], place[known], vectors[known] @ texts[:BASE].T)
    answers = np.empty((len(HEADS), SESSIONS + 1, len(test)), np.intp)
    for h, head in enumerate(HEADS):
        few, before = base, None
        counts = weight if "texts" in head.scores else 1.0  # alone, any weight is the same
        for session in range(SESSIONS + 1):
            end = BASE + session * STEP
            if session and head.photos:
                new = rows[end - STEP : end, : head.photos]
                photos, which = vectors[new.ravel()], np.arange(STEP).repeat(head.photos)
                few = np.concatenate([few, prototypes.calibrate_new(base, photos, which, STEP, head.shift)])
            scores = prototypes.bonus(test, few, counts) if head.photos else np.zeros((len(test), end), np.float32)
            if "texts" in head.scores:
                scores += test @ texts[:end].T
            if before is not None:  # but for the last bit, as wider products round otherwise
                assert np.allclose(scores[:, : end - STEP], before, atol=1e-5), "new classes moved others' scores"
            before, answers[h, session] = scores, scores.argmax(axis=1)
    return weight, answers


def figures(measured: Measured) -> Iterator[dict[str, Any]]:
    for h, head in enumerate(HEADS):
        for session in range(SESSIONS + 1):
            means, resampled, n = measured.means[h, session], measured.resampled[:, h, session], measured.sizes[session]
            at = {name: accuracy(means[g], resampled[:, g]) for g, name in enumerate(GROUPS) if n[g]}
            yield head._asdict() | {"session": session, "n": {name: int(n[GROUPS.index(name)]) for name in at}} | at


def differences(measured: Measured) -> Iterator[dict[str, Any]]:
    """After the last session: calibrated less not, and photographs less texts alone."""
    means, resampled = measured.means[:, -1], measured.resampled[:, :, -1]
    for h, head in enumerate(HEADS[1:], 1):
        for other in ([head._replace(shift=0.0)] if head.shift else []) + [HEADS[0]]:
            o = HEADS.index(other)
            less, of = means[h] - means[o], resampled[:, h] - resampled[:, o]
            found = {name: accuracy(less[g], of[:, g]) for g, name in enumerate(GROUPS)}
            yield head._asdict() | {"less": other._asdict()} | found


def accuracy(means: np.ndarray, resampled: np.ndarray) -> dict[str, float]:
    """Mean over seeds and its interval, from means (S,) and their resamples (R, S)."""
    low, high = interval(over_seeds(resampled, seed=1))
    return {"mean": round(float(means.mean()), 4), "low": round(low, 4), "high": round(high, 4)}


def table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"{'scores':13s}{'photos':>7s}{'shift':>6s}  of    after session 0 to {SESSIONS}"
    for at in range(0, len(found), SESSIONS + 1):
        rows, last = found[at : at + SESSIONS + 1], found[at + SESSIONS]
        for name in GROUPS:
            cells = "".join(f"{row[name]['mean']:8.3f}" if name in row else f"{'-':>8s}" for row in rows[:-1])
            yield f"{last['scores']:13s}{last['photos']:7d}{last['shift']:6.2f}  {name:5s}{cells}   {shown(last[name])}"


def compared(row: dict[str, Any]) -> str:
    a, b = (f"{head['scores']} {head['photos']} {head['shift']:.2f}" for head in (row, row["less"]))
    return f"last session: {a:20s} less {b:20s} " + "".join(f"{name} {shown(row[name], '+'):27s}" for name in GROUPS)


def shown(value: dict[str, float], sign: str = "") -> str:
    mean, low, high = (f"{value[part]:{sign}.3f}" for part in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


if __name__ == "__main__":
    main()
