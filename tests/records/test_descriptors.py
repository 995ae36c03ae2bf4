import json
import pickle
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc.errors import ImageError, InputError
from vlmdesc.records import ClassName, Descriptor, Descriptors

words = st.text(alphabet=string.ascii_letters + " éñ日本🐔'\"\\<>&/.-_%{}", min_size=1, max_size=30).filter(str.strip)


@st.composite
def descriptor_sets(draw):
    ids = draw(st.lists(words, min_size=1, max_size=5, unique=True))
    classes = tuple(ClassName(id_, draw(words), tuple(draw(st.lists(words, max_size=2)))) for id_ in ids)
    row = st.builds(
        Descriptor,
        st.sampled_from(ids),
        words | st.just(""),
        st.just(0.0) | st.floats(0.01, 9),
        st.booleans(),
        st.just("") | words,
    )
    return Descriptors(classes, tuple(draw(st.lists(row, max_size=8))), {"about": draw(words)})


@given(descriptor_sets())
def test_save_then_load_gives_the_same_set(tmp_path_factory, descriptors):
    path = tmp_path_factory.mktemp("set") / "set.json"
    descriptors.save(path)
    assert Descriptors.load(path) == descriptors


def test_owner_and_weights_follow_the_rows():
    rows = (Descriptor("b", "x"), Descriptor("a", "y", weight=2.0), Descriptor("b", "z", enabled=False))
    descriptors = Descriptors((ClassName("a", "A"), ClassName("b", "B"), ClassName("c", "C")), rows)
    assert descriptors.owner.tolist() == [1, 0, 1]
    assert descriptors.weights.tolist() == [1.0, 2.0, 0.0]
    with pytest.raises(ValueError, match="read-only"):
        descriptors.owner[0] = 0


def test_the_plain_form(tmp_path):
    path = tmp_path / "plain.json"
    path.write_text(json.dumps({"hen": ["a red comb", "a beak"], "donuts": [], "jar": [""]}))
    descriptors = Descriptors.load(path)
    assert [c.name for c in descriptors.classes] == ["hen", "donuts", "jar"]
    assert [(r.class_id, r.text) for r in descriptors.rows] == [("hen", "a red comb"), ("hen", "a beak"), ("jar", "")]


def test_the_disclip_form_keeps_two_classes_of_one_name(tmp_path):
    path = tmp_path / "disclip.json"
    names = {"134": "crane", "517": "crane"}
    path.write_text(
        json.dumps({"index_to_classname": names, "index_to_descriptions": {"134": ["long legs"], "517": ["a hook"]}})
    )
    descriptors = Descriptors.load(path)
    assert [(c.id, c.name) for c in descriptors.classes] == [("134", "crane"), ("517", "crane")]
    assert descriptors.owner.tolist() == [0, 1]
    descriptors.save(path)
    assert Descriptors.load(path) == descriptors


A = {"id": "a", "name": "A"}


def ours(**fields):
    return {"schema": 1, "classes": [A], "rows": []} | fields


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "expected an object of classes"),
        ({}, "expected an object of classes"),
        ("hen", "expected an object of classes, found text"),
        ({"hen": "a red comb"}, 'expected a list of descriptors, found text.*class "hen"'),
        ({"hen": ["a beak", 3]}, '"text" is a number, not text.*class "hen", descriptor 1'),
        ({"hen": ["a beak", None]}, "null"),
        ({"hen": [["a beak"]]}, "is a list, not text"),
        ({"hen": ["a\u0000beak"]}, r"U\+0000"),
        ({"hen": ["half \ud800 character"]}, r"U\+D800"),
        ({"": ["a beak"]}, "a class name is empty"),
        ({"h" * 300: ["a beak"]}, "300 characters"),
        ({"hen": ["a" * 501]}, 'class "hen", descriptor 0'),
        ({"he\nn": ["a beak"]}, r"U\+000A"),
        (ours(schema=2), "schema 2, this reads 1"),
        (ours(rows={}), "expected a list of rows"),
        *((ours(edits=edits), "expected a list of edits") for edits in ({}, None, "none", 3)),
        (ours(meta=[]), "meta must be an object"),
        (ours(classes=[{"id": "a"}]), '"name" is missing.*class 0'),
        (ours(classes=[A | {"nmae": 1}]), 'unknown key "nmae"'),
        (ours(classes=[A | {"aliases": ["b", 1]}]), "aliases must be text"),
        (ours(classes=[A, A]), "1 id used twice"),
        (ours(rows=[{"class_id": "x", "text": "t"}]), "row 0 belongs to no class"),
        (ours(rows=[{"class_id": "a", "text": "t", "weight": True}]), '"weight" is true or false, not a number.*row 0'),
        (ours(rows=[{"class_id": "a", "text": "t", "weight": -1}]), "a weight is -1"),
        (ours(rows=[{"class_id": "a", "text": "t", "weight": 1e39}]), "a weight is 1e\\+39"),
        (ours(rows=[{"class_id": "a", "text": "t", "enabled": 1}]), '"enabled" is a number, not true or false'),
        (ours(row=[]), 'unknown key "row"'),
        ({"index_to_classname": {"0": "a"}, "index_to_descriptions": {"1": []}}, 'has "1", index_to_classname has not'),
        ({"index_to_classname": {"0": "a"}, "index_to_descriptions": []}, "must both be objects"),
        ({"index_to_classname": {"0": 1}, "index_to_descriptions": {}}, '"name" is a number, not text.*class "0"'),
    ],
)
def test_bad_sets_are_refused_with_file_and_place(tmp_path, data, says):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=says) as error:
        Descriptors.load(path)
    assert "bad.json" in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"hen": "red"}, "list of descriptors"),
        ({"hen": 3}, "list of descriptors"),
        ({"hen": [3]}, "not text"),
        (["hen", "Hen"], "read the same"),
        (["hen", "hen"], "read the same"),
        (3, "descriptors are meant"),
        (b"hen", "descriptors are meant"),
        ("everyda", "did you mean 'everyday'"),
    ],
)
def test_what_is_no_descriptor_set_is_refused_with_a_hint(wrong, what):
    with pytest.raises(InputError, match=what):
        Descriptors.load(wrong)


def test_descriptors_are_loaded_from_whatever_stands_for_them(tmp_path):
    zoo = Descriptors.load({"hen": ["a red comb"], "zebra": ()})
    zoo.save(tmp_path / "zoo.json")
    assert Descriptors.load(zoo) is zoo
    assert Descriptors.load(tmp_path / "zoo.json").rows == Descriptors.load(str(tmp_path / "zoo.json")).rows == zoo.rows
    assert [c.name for c in Descriptors.load(iter(["hen", "zebra"])).classes] == ["hen", "zebra"]
    assert len(Descriptors.load("everyday").classes) > 20


def test_find_goes_by_id_then_name_then_alias():
    classes = (
        ClassName("n1", "crane", ("bird",)),
        ClassName("n2", "crane"),
        ClassName("crane-3", "hoist", ("n1", "lift")),
    )
    descriptors = Descriptors(classes, ())
    assert [descriptors.find(wanted) for wanted in ("n1", "n2", "bird", "hoist", "lift")] == [0, 1, 0, 2, 2]
    with pytest.raises(InputError, match="2 classes are called 'crane'; fix: use an id: n1, n2"):
        descriptors.find("crane")
    with pytest.raises(InputError, match="did you mean 'hoist'"):
        descriptors.find("hoits")


@pytest.mark.parametrize(
    ("file", "classes", "rows"),
    [
        ("descriptors_imagenet.json", 1000, 5800),
        ("descriptors_cub.json", 200, 1312),
        ("descriptors_places365.json", 365, 2108),
        ("descriptions_pets_con_llama.json", 37, 129),
    ],
)
def test_published_sets_load_whole(shared, file, classes, rows):
    descriptors = Descriptors.load(shared / "published-descriptors" / file)
    assert (len(descriptors.classes), len(descriptors.rows)) == (classes, rows)


def test_records_travel_between_processes():
    descriptors = Descriptors.of({"hen": ["a red comb"]})
    again = pickle.loads(pickle.dumps(descriptors))
    assert again == descriptors and np.array_equal(again.owner, descriptors.owner)
    error = pickle.loads(pickle.dumps(ImageError("empty", "empty file", where="x.jpg", fix="look")))
    assert (error.code, str(error)) == ("empty", "empty file (x.jpg); fix: look")


def test_a_set_shows_itself_short_and_as_inert_html():
    zoo = Descriptors.of({"<b>hen\u202e</b>": ["a red & big comb", "a beak"], **{f"class {i}": [] for i in range(30)}})
    assert repr(zoo) == "<Descriptors: 31 classes, 2 rows>"
    html = zoo._repr_html_()
    assert "&lt;b&gt;hen\\u202e&lt;/b&gt;" in html and "a red &amp; big comb, a beak" in html and "11 more" in html
    assert "class 18" in html and "class 19" not in html
