import numpy as np
import pytest
from PIL import Image

from vlmdesc import Descriptors, Store, load_data
from vlmdesc.embeddings.labelled import Joining, align, class_numbers, gather
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptor
from vlmdesc.testing import COLOURS, FakeEncoder

ZOO = Descriptors.of({"apple pie": ["red"], "Frog": ["green skin"], "sea-gull": ["white"]})


def table(tmp_path, rows):
    """A CSV of images of one colour with labels."""
    lines = ["image,label,group"]
    for i, (colour, label, group) in enumerate(rows):
        Image.new("RGB", (8, 8), COLOURS[colour]).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{label},{group}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    return load_data(tmp_path / "table.csv", group_column="group")


def test_labels_are_joined_strictly_and_loosely_only_where_wanted(tmp_path):
    data = table(tmp_path, [("red", "apple_pie", ""), ("green", "frog", ""), ("white", "Sea Gull", "")])
    with pytest.raises(InputError, match="3 labels of no class"):
        class_numbers(data, ZOO, Joining())
    assert class_numbers(data, ZOO, Joining(loose=True))[1].tolist() == [0, 1, 2]


def test_a_loose_label_that_could_be_two_classes_is_refused(tmp_path):
    twins = Descriptors.of({"polar_bear": ["white"], "Polar bear": ["white fur"]})
    data = table(tmp_path, [("white", "polar-bear", "")])
    with pytest.raises(InputError, match="1 label of no class"):
        class_numbers(data, twins, Joining(loose=True, allow_absent=True))
    exact = table(tmp_path, [("white", "polar_bear", "")])
    assert class_numbers(exact, twins, Joining(loose=True, allow_absent=True))[1].tolist() == [0]


def test_aliases_of_the_task_go_first(tmp_path):
    data = table(tmp_path, [("red", "007", ""), ("green", "Frog", "")])
    joining = Joining(aliases={"007": "apple pie"}, allow_absent=True)
    assert class_numbers(data, ZOO, joining)[1].tolist() == [0, 1]


def test_only_the_classes_that_are_present(tmp_path):
    data = table(tmp_path, [("white", "sea-gull", ""), ("red", "NA", ""), ("green", "Frog", "")])
    with pytest.raises(InputError, match="1 label of no class"):
        class_numbers(data, ZOO, Joining(only_present=True))
    descriptors, numbers = class_numbers(data, ZOO, Joining(only_present=True, ignore_unknown=True))
    assert [c.name for c in descriptors.classes] == ["Frog", "sea-gull"]
    assert [row.text for row in descriptors.rows] == ["green skin", "white"]
    assert numbers.tolist() == [1, -1, 0]


def test_pictures_are_gathered_with_all_that_belongs_to_them(tmp_path):
    data = table(tmp_path, [("red", "apple pie", "day"), ("green", "", "day"), ("white", "sea-gull", "night")])
    (tmp_path / "2.png").write_bytes(b"broken")
    (tmp_path / "more").mkdir()
    more = table(tmp_path / "more", [("green", "Frog", "night")] * 2)
    photos = gather(data, np.array([0, -1, 2]), FakeEncoder(), Store())
    assert (photos.keys, photos.rows, photos.groups) == (("0.png",), (0,), ("day",))
    assert photos.labels.tolist() == [0] and photos.unlabelled == 1
    assert len(photos.failed) == 1 and photos.failed[0].where.endswith("2.png")
    twice = gather(more, np.array([1, 1]), FakeEncoder(), Store())
    assert twice.contents[0] == twice.contents[1] and len(twice.vectors) == 2
    with pytest.raises(InputError, match="none of 1 image can be used"):
        gather(data, np.array([-1, -1, 2]), FakeEncoder(), Store())


def test_the_hash_of_a_data_set_is_of_contents_and_labels_not_of_names_or_order(tmp_path):
    first = table(tmp_path, [("red", "apple pie", ""), ("green", "Frog", "")])
    (tmp_path / "b").mkdir()
    second = table(tmp_path / "b", [("green", "Frog", "x"), ("red", "apple pie", "y")])

    def hash_of(data, numbers):
        return gather(data, np.array(numbers), FakeEncoder(), Store()).fingerprint(ZOO.classes)

    assert hash_of(first, [0, 1]) == hash_of(second, [1, 0]) != hash_of(first, [0, 2])


def test_another_set_is_brought_to_the_same_classes():
    ours = (ClassName("n1", "hen"), ClassName("n2", "cock", ("rooster",)))
    theirs = Descriptors.of({"cock": ["a big comb"], "zebra": ["stripes"], "hen": ["brown"]})
    found = align(theirs, ours, Joining())
    assert found.classes == ours
    assert [(row.class_id, row.text) for row in found.rows] == [("n2", "a big comb"), ("n1", "brown")]
    with pytest.raises(InputError, match="1 label of no class"):
        align(Descriptors.of({"hen": ["brown"]}), ours, Joining())
    both = Descriptors((ClassName("a", "x", ("hen", "cock")),), (Descriptor("a", "brown"),))
    with pytest.raises(InputError, match="two classes are one"):
        align(both, ours, Joining())
