"""What ships: descriptor sets that keep their own rules, prompts that parse, and a wheel that holds them."""

import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from vlmdesc.assets import shipped, shipped_sets
from vlmdesc.descriptors.lint import lint
from vlmdesc.descriptors.phrase import clause
from vlmdesc.descriptors.prompts import read_prompt, shipped_prompts
from vlmdesc.records import Descriptors

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", shipped_sets())
def test_shipped_sets_are_clean(name):
    descriptors = Descriptors.load(shipped(f"descriptors/{name}.json"))
    assert {"name", "written_by", "date", "license"} <= descriptors.meta.keys() and descriptors.meta["name"] == name
    assert min(Counter(row.class_id for row in descriptors.rows).values()) >= 5
    assert len({row.class_id for row in descriptors.rows}) == len(descriptors.classes)
    assert len({(row.class_id, row.text) for row in descriptors.rows}) == len(descriptors.rows)
    names = {c.id: c.name for c in descriptors.classes}
    for row in descriptors.rows:
        assert not re.search(rf"\b{re.escape(names[row.class_id].lower())}\b", row.text.lower()), row
        assert 1 <= len(row.text.split()) <= 12 and row.text[-1].isalnum() and row.text == row.text.strip(), row
        assert clause(row.text).startswith(("which has", "which is", "with "))


def test_imagenet_is_whole_and_keyed_by_wordnet_id():
    imagenet = Descriptors.load(shipped("descriptors/imagenet.json"))
    assert len(imagenet.classes) == 1000
    assert all(re.fullmatch(r"n\d{8}", c.id) for c in imagenet.classes)
    assert imagenet.classes[imagenet.find("n01440764")].name == "tench"


@pytest.mark.parametrize("name", sorted({*shipped_sets()} - {"imagenet"}))
def test_shipped_sets_are_lint_clean(name):
    assert lint(Descriptors.load(shipped(f"descriptors/{name}.json"))) == ()


def test_imagenet_has_only_findings_that_do_no_harm_to_the_plain_phrase():
    found = Counter(finding.code for finding in lint(Descriptors.load(shipped("descriptors/imagenet.json"))))
    assert found.keys() <= {"shared"} and found["shared"] <= 50


@pytest.mark.parametrize(
    ("name", "n", "labels"),
    [
        ("cifar10", 10, "airplane automobile bird cat deer dog frog horse ship truck"),
        ("cifar100", 100, "aquarium_fish lawn_mower maple_tree pickup_truck sweet_pepper willow_tree worm"),
        ("eurosat", 10, "AnnualCrop Forest HerbaceousVegetation PermanentCrop SeaLake"),
        ("dtd", 47, "banded chequered polka-dotted zigzagged"),
        ("pets", 37, "Abyssinian american_bulldog"),
        ("food101", 101, "apple_pie baby_back_ribs waffles"),
    ],
)
def test_sets_of_the_papers_have_the_data_sets_labels(name, n, labels):
    descriptors = Descriptors.load(shipped(f"descriptors/{name}.json"))
    assert len(descriptors.classes) == n and len({descriptors.find(label) for label in labels.split()}) == len(
        labels.split()
    )


def test_prompts_parse():
    for name, path in shipped_prompts().items():
        assert read_prompt(path).name == name


@pytest.mark.slow
def test_the_wheel_holds_prompts_sets_and_the_head(tmp_path):
    """Built as a user's pip would, without a network, and used from where it was unpacked."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    assert {"vlmdesc/_shipped/prompts/dclip.toml", "vlmdesc/embeddings/starter_head.safetensors"} <= names
    assert not [name for name in names if name.startswith(("tests", "eval", "cache"))]
    code = "import vlmdesc.assets as s; print(s.__file__, s.shipped_sets(), s.shipped('prompts/dclip.toml').is_file())"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True, check=True
    )
    assert (
        str(tmp_path) in found.stdout and "'everyday', 'food101', 'imagenet'" in found.stdout and "True" in found.stdout
    )
