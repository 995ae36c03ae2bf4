"""The worked case of docs/bias.md: its arithmetic by hand, and that pages say what was measured."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from eval import bias
from vlmdesc.classification.heads.pooled import fit_pooled
from vlmdesc.descriptors.edit import edit
from vlmdesc.descriptors.patch import read_patch
from vlmdesc.embeddings.store import Store
from vlmdesc.evaluation.disparity import compare_groups
from vlmdesc.evaluation.scored import Scored
from vlmdesc.records import Descriptors

ROOT = bias.HERE.parent
FIGURES = json.loads(bias.RESULTS.read_text("utf-8"))


TABLE = {
    "suggested": "| suggested |",
    "constant, suggested": "| control: a constant, as often as suggested",
    "suggested, not constant": "| suggested, against",
    "by hand": "| by hand |",
    "constant, by hand": "| control: a constant, as often as by hand",
    "by hand, not constant": "| by hand, against",
}


def row(set_: str, on: str = "test"):
    [found] = [row for row in FIGURES["rows"] if (row["set"], row["on"]) == (set_, on)]
    return found


def part_of(cells):
    return bias.Part(SimpleNamespace(), np.array(cells), ["a", "b", "c"][: max(cells) + 1])


def test_the_worst_is_the_lowest_of_classes_in_groups_before_and_after():
    cells = [0] * 4 + [1] * 4
    before = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)  # 25 and 75 %
    after = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool)  # 100 and 50 %
    found = bias.worst(part_of(cells), before, [after])
    assert (found["before"], found["after"], found["delta"], found["now"]) == (0.25, 0.5, 0.25, "b")
    assert -0.5 < found["ci95"][0] < 0.25 < found["ci95"][1] <= 1


def test_over_runs_the_worst_is_the_mean_of_each_run_s_own():
    cells, before = [0, 0, 1, 1], np.array([0, 0, 1, 1], bool)
    runs = [np.array([1, 1, 0, 1], bool), np.array([1, 0, 1, 1], bool)]
    assert bias.worst(part_of(cells), before, runs)["after"] == 0.5
    assert bias.compared(bias.Part(SimpleNamespace(), np.array(cells), ["vehicle, rail or water", "x"]), before, runs)[
        "target"
    ] == {"n": 2, "delta": 0.75, "seeds": [1.0, 0.5]}


def test_a_constant_gives_the_class_as_many_pictures(monkeypatch):
    sets = {
        "biased": np.array([[0.1, 0.5], [0.2, 0.3], [0.4, 0.1], [0.0, 0.9]]),
        "mended": np.array([[1.0, 0.0]] * 3 + [[0, 1]]),
    }
    monkeypatch.setattr(bias, "scores", lambda descriptors, *_: sets[descriptors.meta["name"]].copy())
    biased, mended = (Descriptors.of({"vehicle": [], "x": []}) for _ in sets)
    biased, mended = (Descriptors(d.classes, d.rows, {"name": n}) for d, n in ((biased, "biased"), (mended, "mended")))
    shift = bias.constant(biased, mended, None, None)
    assert shift == pytest.approx(0.4, abs=1e-5)  # three of four: those behind by -0.3, 0.1 and 0.4
    assert ((sets["biased"] + [shift, 0]).argmax(axis=1) == 0).sum() == 3


def test_random_words_stand_in_for_what_is_added_by_hand():
    biased, by_hand = Descriptors.load(bias.CASE / "biased.json"), read_patch(bias.CASE / "by-hand.jsonl")
    random = bias.random_words(biased, by_hand, 0)
    assert [edit.op for edit in random] == [edit.op for edit in by_hand]
    added = {edit.text for edit in random if edit.op == "add"}
    assert len(added) == 4 and not added & {edit.text for edit in by_hand}
    assert len(edit(biased, random).rows) == len(edit(biased, by_hand).rows)


@pytest.mark.slow
def test_the_case_on_fewer_pictures(shared, starter, tmp_path):
    """A third of the test images, so that it takes a minute; the page itself has all."""
    bias.write_tables(shared, tmp_path, most=8)
    biased, store = Descriptors.load(bias.CASE / "biased.json"), Store()
    part = bias.gathered(tmp_path / "test.parquet", biased, starter, store)

    def fit(descriptors):
        return fit_pooled(starter, descriptors, store=store)

    photos = part.photos
    found = compare_groups(
        Scored.of(fit(biased), photos).answers, photos.labels, photos.groups, [biased.find("vehicle")]
    )
    [failed] = [cell for cell in found.failed if cell.failed]
    assert failed.group == "rail or water" and failed.tpr.ci95[1] < -0.2
    before = bias.right(biased, photos, fit)
    mended = bias.right(edit(biased, read_patch(bias.CASE / "by-hand.jsonl")), photos, fit)
    measured = bias.compared(part, before, [mended])
    assert measured["target"]["n"] == 32 and measured["target"]["delta"] >= 0.1
    assert measured["target"]["verdict"] == "better" and measured["target"]["ci95"][0] > 0
    assert measured["worst"]["delta"] >= 0.1 and measured["overall"]["delta"] >= -0.01


@pytest.mark.parametrize("set_", ["suggested", "by hand"])
def test_the_worst_group_gains_ten_points_at_no_cost(set_):
    """What the case is to show, of the figures that are kept; docs/bias.md is run by test_readme.py."""
    found = row(set_)
    assert found["worst"]["delta"] >= 0.1 and found["worst"]["ci95"][0] > 0
    assert found["target"]["delta"] >= 0.1 and found["target"]["ci95"][0] > 0.1
    assert found["overall"]["delta"] >= -0.01 and found["overall"]["ci95"][0] > -0.01
    assert found["target"]["n"] == 100 and found["overall"]["n"] == 2100


def test_the_pages_say_what_was_measured():
    page, readme = ((ROOT / name).read_text("utf-8") for name in ("docs/bias.md", "README.md"))
    for set_ in TABLE:
        found = row(set_)
        line = next(line for line in page.splitlines() if line.startswith(TABLE[set_]))
        for side in ("worst", "target", "overall"):
            figure = found[side]
            low, high = (f"{100 * end:.1f}" for end in figure["ci95"])
            assert f"{100 * figure['delta']:+.1f} [{low}, {high}]" in line
    for set_ in ("suggested", "by hand"):
        target = row(set_)["target"]
        low, high = (f"{100 * end:.1f}" for end in target["ci95"])
        assert f"({100 * target['delta']:+.1f} [{low}, {high}])" in readme
