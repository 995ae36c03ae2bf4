"""The public names: each can be called after every room has been imported, and DESIGN's example runs line by line."""

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import vlmdesc
import vlmdesc as vd
from tests.cli.test_describe import serving
from vlmdesc.errors import VlmdescWarning
from vlmdesc.testing import COLOURS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Two classes the fake encoder can tell apart, six images each, as a folder and as a table with groups."""
    monkeypatch.chdir(tmp_path)
    lines = ["image,label,place"]
    for name, colour in (("hen", "red"), ("zebra", "blue")):
        for i in range(6):
            path = Path("train", name, f"{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12 + i, 12), COLOURS[colour]).save(path)
            lines.append(f"{path},{name},{'indoors' if i % 2 else 'outdoors'}")
    Path("train.csv").write_text("\n".join(lines))
    return {"hen": ["a red comb", "red feathers"], "zebra": ["blue stripes"]}


def test_public_names_are_few_lazy_and_all_there():
    names = [name for name in vlmdesc.__all__ if name != "__version__"]
    assert len(names) <= 60 and len(set(names)) == len(names)
    for name in names:
        assert getattr(vd, name) is not None


def test_no_public_name_is_hidden_by_a_module():
    """After every module has been imported a public name is still the function or class, twice."""
    for module in pkgutil.walk_packages(vlmdesc.__path__, "vlmdesc."):
        if module.name != "vlmdesc.__main__":
            importlib.import_module(module.name)
    for _ in range(2):
        for name in vlmdesc.__all__:
            assert not inspect.ismodule(getattr(vd, name)), name


def test_the_page_on_the_library_lists_every_public_name():
    page = (ROOT / "docs/library.md").read_text(encoding="utf-8")
    assert [name for name in vlmdesc.__all__ if name != "__version__" and f"`{name}" not in page] == []


def test_the_example_of_the_design(zoo):
    data, encoder = "train.csv", vd.load_encoder("fake")
    assert len(vd.Descriptors.load("everyday").classes) > 20
    clf = vd.Classifier(encoder, zoo)
    images = sorted(Path("train").rglob("*.png"))
    assert [p.ranked[0].text for p in clf(images)] == ["hen"] * 6 + ["zebra"] * 6
    clf = clf.fit(vd.load_data("train/"), head="prototypes")
    assert [*clf.predict(images)] == ["hen"] * 6 + ["zebra"] * 6
    with pytest.warns(VlmdescWarning, match="no temperature was fitted"):
        assert clf.predict_proba(images).shape == (12, 2) and [*clf.classes_] == ["hen", "zebra"]
    assert len(vd.to_frame(clf(images))) == 12
    clf.save("zoo-head/")
    assert [*vd.Classifier.load("zoo-head/", encoder).predict(images)] == [*clf.predict(images)]
    found = vd.evaluate(data, zoo, encoder, methods=["name", "describe", "waffle"])
    found.save("out/")
    assert {path.name for path in Path("out").iterdir()} >= {"results.json", "predictions.parquet", "report.html"}
    assert found.report.main == "describe"
    zoo2 = vd.edit(vd.Descriptors.load(zoo), [vd.Edit("add", "hen", "a blue comb")])
    assert len(zoo2.rows) == 4
    assert vd.effect(zoo, zoo2, data, encoder).to_dict()["overall"]["n"] == 12
    with serving() as server:
        described = vd.describe(["hen", "zebra"], llm="gpt-5-mini", base_url=server.url)
    assert {row.class_id for row in described.descriptors.rows} == {"hen", "zebra"} and not described.failed
    results = [vd.lint(zoo), vd.audit(data, zoo, encoder, group="place"), vd.suggest(data, zoo, encoder)]
    results += [vd.select(data, zoo, encoder), described, found]
    index = vd.Index.build(data, encoder)
    hits = index.search("red", minus="blue")
    assert [hit.label for hit in hits][:6] == ["hen"] * 6
    for result in [*results, hits, index, clf(images)[0]]:
        assert json.dumps(result.to_dict()) and len(repr(result)) < 300


def test_importing_the_library_and_its_names_reaches_no_network(tmp_path):
    code = """
import socket
def refuse(*a, **k): raise AssertionError("a connection")
socket.socket.connect = refuse
import vlmdesc as vd
for name in vd.__all__: getattr(vd, name)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VLMDESC_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
