import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmdesc.errors import InputError
from vlmdesc.records import Change, ClassName, Descriptor, Descriptors, Done, Edit
from vlmdesc.records.edits import OPERATIONS, edit_of

words = st.text(alphabet=string.ascii_letters + " éñ日本🐔'\"\\<>&/.-_%{}", min_size=1, max_size=30).filter(str.strip)
said = st.just("") | words
# What each field may be; "number" and "weight" as JSON has them.
FIELDS = {
    "class": words,
    "text": words | st.just(""),
    "to": words,
    "weight": st.floats(0.01, 9),
    "number": st.integers(),
}
ROW = {"class_id": "hen", "text": "a red comb"}


@st.composite
def edits(draw):
    op = draw(st.sampled_from([*OPERATIONS]))
    fields = {"class_" if name == "class" else name: draw(FIELDS[name]) for name in OPERATIONS[op]}
    return Edit(op, **fields, who=draw(said), when=draw(said), why=draw(said))


@st.composite
def edited_sets(draw):
    """Sets with some history, of whatever edits and changes."""
    row = st.builds(
        Descriptor, st.sampled_from(("hen", "cock")), words, st.just(0.0) | st.floats(0.01, 9), st.booleans(), said
    )
    change = st.builds(Change, st.integers(0, 9), st.none() | row, st.none() | row)
    done = st.builds(Done, edits(), st.lists(change, max_size=3).map(tuple))
    # undo of what is not there, which no edit makes, might be refused
    done = done.filter(lambda done: done.edit.op != "undo")
    classes = (ClassName("hen", "hen", ("chicken",)), ClassName("cock", "cock"))
    rows = tuple(draw(st.lists(row, max_size=5)))
    return Descriptors(classes, rows, {"about": draw(words)}, tuple(draw(st.lists(done, max_size=4))))


@settings(max_examples=40)
@given(edits())
def test_an_edit_survives_json(edit):
    fields = json.loads(json.dumps(edit.record()))
    assert edit_of(fields, "here") == edit
    assert set(fields) - {"who", "when", "why"} == {"op", *OPERATIONS[edit.op]}


@settings(max_examples=20, deadline=None)
@given(edited_sets())
def test_save_then_load_gives_the_same_history(tmp_path_factory, descriptors):
    path = tmp_path_factory.mktemp("set") / "set.json"
    descriptors.save(path)
    assert Descriptors.load(path) == descriptors


def test_history_is_one_edit_a_line_and_absent_where_there_is_none(tmp_path):
    zoo, path = Descriptors.of({"hen": ["a beak"]}), tmp_path / "set.json"
    assert '"edits"' not in zoo.to_json()
    row = zoo.rows[0]
    heavy = Descriptor("hen", "a beak", 2.0)
    history = (
        Done(
            Edit("weigh", "hen", "a beak", weight=2.0, who="ana", when="2026-01-02", why="so"), (Change(0, row, heavy),)
        ),
        Done(Edit("drop", "hen", "a beak"), (Change(0, heavy, None),)),
    )
    Descriptors(zoo.classes, (), {}, history).save(path)
    weigh, drop = (json.loads(line.rstrip(",")) for line in path.read_text().splitlines() if '"did"' in line)
    before, after = {"class_id": "hen", "text": "a beak"}, {"class_id": "hen", "text": "a beak", "weight": 2.0}
    says = {"op": "weigh", "class": "hen", "text": "a beak", "weight": 2.0}
    assert weigh == says | {"who": "ana", "when": "2026-01-02", "why": "so", "did": [[0, before, after]]}
    assert drop == {"op": "drop", "class": "hen", "text": "a beak", "did": [[0, after, None]]}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (Edit("add", "hen", "a beak", why="seen"), 'add "hen" "a beak"'),
        (Edit("move", "hen", "a beak", to="cock"), 'move "hen" "a beak" "cock"'),
        (Edit("weigh", "hen", "", weight=0.5), 'weigh "hen" "" 0.5'),
        (Edit("replace", text="red", to=""), 'replace "red" ""'),
        (Edit("undo", number=3), "undo 3"),
    ],
)
def test_an_edit_reads_as_its_command(edit, says):
    assert str(edit) == says


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"op": "ad"}, "unknown operation 'ad'; fix: did you mean 'add'\\? known: add, drop, reword"),
        ({"op": ""}, "unknown operation ''"),
        ({"op": "add"}, "add without class; fix: add takes class, text"),
        ({"op": "add", "class_": "hen", "to": "cock"}, "add with to"),
        ({"op": "drop", "class_": "hen", "weight": 0.0}, "drop with weight"),
        ({"op": "weigh", "class_": "hen", "text": "a"}, "weigh without weight; fix: weigh takes class, text, weight"),
        ({"op": "move", "class_": "hen", "text": "a"}, "move without to"),
        ({"op": "replace", "class_": "hen", "text": "a"}, "replace with class; fix: replace takes text, to"),
        ({"op": "add-class", "text": "hen"}, "add-class without class"),
        ({"op": "undo"}, "undo without number"),
        ({"op": "undo", "number": 1, "class_": "hen"}, "undo with class"),
        ({"op": "enable", "class_": "hen", "text": "a", "number": 1}, "enable with number"),
    ],
)
def test_an_edit_has_the_fields_of_its_operation_and_no_others(fields, says):
    with pytest.raises(InputError, match=says):
        Edit(**fields)


def test_an_undo_with_a_text_is_refused():
    with pytest.raises(InputError, match="undo with text"):
        Edit("undo", number=1, text="a beak")


def test_a_rewording_without_a_class_is_refused():
    with pytest.raises(InputError, match="reword without class"):
        Edit("reword", "", "a beak", to="a bill")


def test_an_empty_text_and_a_weight_of_0_are_given():
    assert Edit("add", "hen", "").record() == {"op": "add", "class": "hen", "text": ""}
    assert Edit("reword", "hen", "a", to="").record()["to"] == ""
    assert Edit("weigh", "hen", "a", weight=0.0).record()["weight"] == 0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, '"op" is missing'),
        ({"class": "hen", "text": "a"}, '"op" is missing'),
        ({"op": "dorp", "class": "hen", "text": "a"}, "unknown operation 'dorp'.*did you mean 'drop'"),
        ({"op": ["add"]}, "\"op\" is \\['add'\\]"),
        ({"op": "add", "class": "hen"}, 'add without "text".*add takes class, text'),
        ({"op": "add", "text": "a"}, "add without class"),
        ({"op": "add", "class": "", "text": "a"}, "add without class"),
        ({"op": "add", "class": 3, "text": "a"}, '"class" is 3'),
        ({"op": "add", "class": "hen", "text": None}, '"text" is None'),
        ({"op": "add", "class": "hen", "text": "a", "txt": "b"}, 'unknown key "txt".*known: op, class, text'),
        ({"op": "add", "class_": "hen", "text": "a"}, 'unknown key "class_"'),
        ({"op": "add", "class": "hen", "text": "a", "to": "b"}, "add with to"),
        ({"op": "reword", "class": "hen", "text": "a"}, 'reword without "to"'),
        ({"op": "reword", "text": "a", "to": "b"}, "reword without class"),
        ({"op": "replace", "text": "a"}, 'replace without "to"'),
        ({"op": "weigh", "class": "hen", "text": "a", "weight": "2"}, "\"weight\" is '2'"),
        ({"op": "weigh", "class": "hen", "text": "a", "weight": True}, '"weight" is True'),
        ({"op": "weigh", "class": "hen", "text": "a", "weight": None}, '"weight" is None'),
        ({"op": "undo", "number": 1.0}, '"number" is 1.0'),
        ({"op": "undo", "number": False}, '"number" is False'),
        ({"op": "undo"}, "undo without number"),
        ({"op": "drop", "class": "hen", "text": "a", "who": 1}, '"who" is 1'),
        ({"op": "drop", "class": "hen", "text": "a", "why": []}, '"why" is \\[\\]'),
    ],
)
def test_bad_json_objects_are_refused_with_their_place(fields, says):
    with pytest.raises(InputError, match=says) as error:
        edit_of(fields, "patch.jsonl:7")
    assert error.value.where == "patch.jsonl:7" and error.value.fix


def test_a_weight_may_be_a_whole_number():
    edit = edit_of({"op": "weigh", "class": "hen", "text": "a", "weight": 2}, "here")
    assert isinstance(edit.weight, float) and edit == Edit("weigh", "hen", "a", weight=2.0)


def test_a_weight_that_no_float_holds_is_refused():
    with pytest.raises(InputError, match="too large") as error:
        edit_of({"op": "weigh", "class": "hen", "text": "a", "weight": 10**400}, "patch.jsonl:7")
    assert error.value.where == "patch.jsonl:7"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ("drop", 'an edit must be an object with a list "did"'),
        (None, 'an edit must be an object with a list "did"'),
        ([], 'an edit must be an object with a list "did"'),
        ({"op": "drop", "class": "hen", "text": "a"}, 'an edit must be an object with a list "did"'),
        ({"op": "drop", "class": "hen", "text": "a", "did": {}}, 'an edit must be an object with a list "did"'),
        ({"op": "drop", "class": "hen", "text": "a", "did": [0]}, '"did" must hold lists of a place'),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0, ROW]]}, '"did" must hold lists of a place'),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[-1, ROW, None]]}, '"did" must hold lists of a place'),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[True, ROW, None]]}, '"did" must hold lists of a place'),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0.0, ROW, None]]}, '"did" must hold lists of a place'),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0, "row", None]]}, "expected an object, found a string"),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0, False, None]]}, "found true or false"),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0, {}, None]]}, '"class_id" is missing'),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0, ROW | {"weight": -1}, None]]}, "a weight is -1"),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0, ROW | {"weight": 10**400}, None]]}, "too large"),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0, ROW | {"x": 1}, None]]}, 'unknown key "x"'),
        ({"op": "drop", "class": "hen", "text": "a", "did": [[0, ROW | {"text": "a\n"}, None]]}, r"U\+000A"),
        ({"did": []}, '"op" is missing'),
        ({"op": "dorp", "did": []}, "unknown operation 'dorp'"),
        ({"op": "drop", "class": "hen", "text": 3, "did": []}, '"text" is 3'),
        ({"op": "drop", "class": "hen", "did": []}, 'drop without "text"'),
        ({"op": "drop", "class": "hen", "text": "a", "done": [], "did": []}, 'unknown key "done"'),
    ],
)
def test_a_broken_history_is_refused_with_file_and_edit(tmp_path, edit, says):
    path, good = tmp_path / "bad.json", {"op": "drop", "class": "hen", "text": "a", "did": [[0, ROW, None]]}
    set_ = {"schema": 1, "meta": {}, "classes": [{"id": "hen", "name": "hen"}], "rows": []}
    path.write_text(json.dumps(set_ | {"edits": [good]}))
    assert len(Descriptors.load(path).history) == 1
    path.write_text(json.dumps(set_ | {"edits": [good, edit]}))
    with pytest.raises(InputError, match=says) as error:
        Descriptors.load(path)
    assert f"{path}, edit 2" in error.value.where


@pytest.mark.parametrize("edits", [{}, None, "none", 3])
def test_a_history_that_is_no_list_is_refused(tmp_path, edits):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"schema": 1, "classes": [], "rows": [], "edits": edits}))
    with pytest.raises(InputError, match=r'"edits" must be a list.*bad\.json'):
        Descriptors.load(path)


@pytest.mark.parametrize("number", [-1, 0, 1, 2, 99])
def test_a_history_that_undoes_what_is_not_before_it_is_refused(tmp_path, number):
    path, edit = tmp_path / "bad.json", {"op": "undo", "number": number, "did": []}
    path.write_text(json.dumps({"schema": 1, "classes": [], "rows": [], "edits": [edit]}))
    with pytest.raises(InputError, match=r"bad\.json, edit 1"):
        Descriptors.load(path)
