import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc.errors import InputError
from vlmdesc.records import ClassName
from vlmdesc.records.join import SHOWN, Lookup, join

BIRDS = [ClassName("n1", "crane"), ClassName("n2", "crane"), ClassName("n3", "hen", ("chicken", "biddy"))]


def refused(*args, **options):
    with pytest.raises(InputError) as caught:
        join(*args, **options)
    return caught.value


def test_a_label_is_an_id_a_name_or_an_alias():
    assert join(["n2", "hen", "n1", "chicken", "n3", "biddy"], BIRDS).tolist() == [1, 2, 0, 2, 2, 2]


def test_an_id_goes_before_a_name_and_a_name_before_an_alias():
    classes = [ClassName("1", "2", ("3",)), ClassName("2", "3"), ClassName("4", "5", ("5",))]
    assert join(["1", "2", "3", "5"], classes).tolist() == [0, 1, 1, 2]


def test_labels_are_taken_as_they_are_written():
    classes = [ClassName("7", "hen"), ClassName("007", "crane")]
    assert join(["007", "7"], classes).tolist() == [1, 0]
    for label in ("07", "Hen", " hen", "hen "):
        assert "1 label of no class" in refused([label, "7", "007"], classes).what


def test_rows_without_a_label_are_minus_one():
    found = join([None, "n1", None, "n2", "n3"], BIRDS)
    assert found.tolist() == [-1, 0, -1, 1, 2] and found.dtype == np.intp
    assert join([None], BIRDS, allow_absent=True).tolist() == [-1]
    assert join([], BIRDS, allow_absent=True).tolist() == []


def test_a_label_of_no_class_is_refused_with_the_closest():
    error = refused(["n1", "n2", "n3", "Chikken", "Chikken", "zzz"], BIRDS)
    assert error.what == "2 labels of no class"
    chikken, zzz = error.details
    assert chikken == "label 'Chikken' (2 rows): no class; closest: chicken, hen"
    assert zzz == "label 'zzz' (1 row): no class"
    assert "--ignore-unknown" in error.fix and "aliases" in error.fix


def test_a_class_without_an_image_is_refused():
    error = refused(["n1", "n3"], BIRDS)
    assert error.what == "1 class without an image"
    assert error.details == ("class 'crane', id n2: no image has it",)
    assert "--allow-absent" in error.fix and "drop classes" in error.fix
    assert refused(["hen"], [ClassName("hen", "hen"), ClassName("cock", "cock")]).details == (
        "class 'cock': no image has it",
    )


def test_a_name_of_two_classes_needs_ids():
    error = refused(["crane", "hen", "crane"], BIRDS)
    assert error.what == "1 label of several classes"
    assert error.details == ("label 'crane' (2 rows): 2 classes have that name, ids n1, n2",)
    assert error.fix == "label by id where classes share a name"
    assert "several classes" in refused(["crane"], BIRDS, ignore_unknown=True, allow_absent=True).what


def test_all_that_does_not_fit_is_told_at_once():
    classes = [*BIRDS, ClassName("n4", "owl")]
    error = refused(["crane", "hen", "eagle"], classes)
    assert error.what == "1 label of no class, 1 label of several classes, 1 class without an image"
    assert [line.split("'")[1] for line in error.details] == ["eagle", "crane", "owl"]
    assert "drop" not in error.fix  # a misspelt label leaves its class without an image


def test_what_does_not_fit_can_be_allowed():
    assert join(["n1", "eagle", "n2", "hen"], BIRDS, ignore_unknown=True).tolist() == [0, -1, 1, 2]
    assert join(["n1", "hen"], BIRDS, allow_absent=True).tolist() == [0, 2]
    assert join(["eagle"], BIRDS, ignore_unknown=True, allow_absent=True).tolist() == [-1]
    assert refused(["n1", "eagle"], BIRDS, ignore_unknown=True).what == "2 classes without an image"
    assert refused(["n1", "eagle"], BIRDS, allow_absent=True).what == "1 label of no class"


def test_a_long_table_is_cut_and_counted():
    labels = [f"label {i}" for i in range(SHOWN + 7)]
    error = refused(["n1", "n2", "n3", *labels], BIRDS)
    assert len(error.details) == SHOWN + 1 and error.details[-1] == "... and 7 more"
    assert len(refused(["n1", "n2", "n3", *labels[:SHOWN]], BIRDS).details) == SHOWN


def test_a_thousand_wrong_labels_against_a_thousand_classes_are_refused_soon():
    classes = [ClassName(f"n{i:08d}", f"a class with the name {i}") for i in range(1000)]
    began = time.perf_counter()
    refused([f"a class with a name {i}" for i in range(1000)], classes)
    assert time.perf_counter() - began < 5


def test_lookup_gives_all_places_and_all_names():
    lookup = Lookup(BIRDS)
    assert lookup("crane") == (0, 1) and lookup("biddy") == (2,) and lookup("cock") == ()
    assert lookup.names() == ["n1", "n2", "n3", "crane", "hen", "chicken", "biddy"]


names = st.text("abcé日 -", min_size=1, max_size=4).filter(str.strip)


@st.composite
def labelled(draw):
    """Classes, which may share names, and labels by id, or by name or alias where that is no other's."""
    ids = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    classes = [ClassName(id_, draw(names), tuple(draw(st.lists(names, max_size=2)))) for id_ in ids]
    lookup = Lookup(classes)
    known = [name for name in lookup.names() if len(lookup(name)) == 1]
    labels = draw(st.lists(st.sampled_from([None, *known]), max_size=12))
    return classes, [*labels, *ids]


@given(labelled(), st.randoms(use_true_random=False))
def test_the_order_of_classes_and_of_labels_never_matters(case, random):
    classes, labels = case
    found = join(labels, classes)
    shuffled = random.sample(range(len(classes)), len(classes))
    moved = join(labels, [classes[i] for i in shuffled])
    assert [-1 if i < 0 else shuffled[i] for i in moved] == found.tolist()
    order = random.sample(range(len(labels)), len(labels))
    assert join([labels[i] for i in order], classes).tolist() == found[order].tolist()


@given(labelled())
def test_each_row_gets_the_class_its_label_names(case):
    classes, labels = case
    for label, place in zip(labels, join(labels, classes), strict=True):
        assert place == -1 if label is None else label in (classes[place].id, classes[place].name,
                                                           *classes[place].aliases)  # fmt: skip


@given(st.lists(names, min_size=1, max_size=6), st.lists(names, max_size=6))
def test_a_join_is_whole_or_an_error(ids, labels):
    classes = [ClassName(id_, id_) for id_ in dict.fromkeys(ids)]
    if set(labels) == set(ids):
        assert [classes[i].id for i in join(labels, classes)] == labels
    else:
        refused(labels, classes)
