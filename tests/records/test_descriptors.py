import json
import pickle
import string

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


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "expected an object of classes, found an empty list"),
        ({}, "found an empty object"),
        ("hen", "found a string"),
        (
            {"hen": "a red comb"},
            'class "hen"\\); fix|class "hen".*expected a list|expected a list of descriptors, found a string',
        ),
        ({"hen": ["a beak", 3]}, 'class "hen", descriptor 1'),
        ({"hen": ["a beak", None]}, "found null"),
        ({"hen": [["a beak"]]}, "found a list"),
        ({"hen": ["a\u0000beak"]}, r"U\+0000"),
        ({"hen": ["half \ud800 character"]}, r"U\+D800"),
        ({"": ["a beak"]}, "a class name is empty"),
        ({"h" * 300: ["a beak"]}, "300 characters"),
        ({"hen": ["a" * 501]}, 'class "hen", descriptor 0'),
        ({"he\nn": ["a beak"]}, r"U\+000A"),
        ({"schema": 2, "classes": [], "rows": []}, "schema 2, this reads 1"),
        ({"schema": 1, "classes": [], "rows": {}}, '"rows" must be a list'),
        ({"schema": 1, "classes": [{"id": "a"}], "rows": []}, '"name" is missing'),
        ({"schema": 1, "classes": [{"id": "a", "name": "A", "nmae": 1}], "rows": []}, 'unknown key "nmae"'),
        ({"schema": 1, "classes": [], "rows": [{"class_id": "x", "text": "t"}]}, "row 0 belongs to no class"),
        ({"schema": 1, "classes": [{"id": "a", "name": "A"}] * 2, "rows": []}, "1 ids are used twice"),
        (
            {
                "schema": 1,
                "classes": [{"id": "a", "name": "A"}],
                "rows": [{"class_id": "a", "text": "t", "weight": True}],
            },
            '"weight" is true or false',
        ),
        (
            {
                "schema": 1,
                "classes": [{"id": "a", "name": "A"}],
                "rows": [{"class_id": "a", "text": "t", "weight": -1}],
            },
            "a weight is -1",
        ),
        (
            {
                "schema": 1,
                "classes": [{"id": "a", "name": "A"}],
                "rows": [{"class_id": "a", "text": "t", "weight": 1e39}],
            },
            "a weight is 1e\\+39",
        ),
        ({"schema": 1, "classes": [], "rows": [], "row": []}, 'unknown key "row"'),
        ({"index_to_classname": {"0": "a"}, "index_to_descriptions": {"1": []}}, 'has "1", index_to_classname has not'),
        ({"index_to_classname": {"0": 1}, "index_to_descriptions": {}}, 'name of class "0" is a number'),
    ],
)
def test_bad_sets_are_refused_with_file_and_place(tmp_path, data, says):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=says) as error:
        Descriptors.load(path)
    assert "bad.json" in str(error.value)


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
    assert pickle.loads(pickle.dumps(descriptors)) == descriptors
    error = pickle.loads(pickle.dumps(ImageError("empty", "empty file", where="x.jpg", fix="look")))
    assert (error.code, str(error)) == ("empty", "empty file (x.jpg); fix: look")
