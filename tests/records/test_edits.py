import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records.test_descriptors import words
from vlmdesc.errors import InputError
from vlmdesc.records import Change, ClassName, Descriptor, Descriptors, Done, Edit
from vlmdesc.records.edits import OPERATIONS, last_edit, log_line, standing
from vlmdesc.records.forms import edit_of

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
DROP = {"op": "drop", "class": "hen", "text": "a"}


@st.composite
def edits(draw):
    op = draw(st.sampled_from([*OPERATIONS]))
    fields = {"class_" if name == "class" else name: draw(FIELDS[name]) for name in OPERATIONS[op]}
    return Edit(op, **fields, who=draw(said), when=draw(said), why=draw(said))


@st.composite
def edited_sets(draw):
    """Sets with some history, of whatever edits and changes but undoings, which must be of an edit before them."""
    row = st.builds(
        Descriptor, st.sampled_from(("hen", "cock")), words, st.just(0.0) | st.floats(0.01, 9), st.booleans(), said
    )
    change = st.builds(Change, st.integers(0, 9), st.none() | row, st.none() | row)
    done = st.builds(Done, edits().filter(lambda edit: edit.op != "undo"), st.lists(change, max_size=3).map(tuple))
    classes = (ClassName("hen", "hen", ("chicken",)), ClassName("cock", "cock"))
    rows = tuple(draw(st.lists(row, max_size=5)))
    return Descriptors(classes, rows, {"about": draw(words)}, tuple(draw(st.lists(done, max_size=4))))


@settings(max_examples=40)
@given(edits())
def test_an_edit_survives_json(edit):
    fields = json.loads(json.dumps(edit.to_dict()))
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
    row, heavy = zoo.rows[0], Descriptor("hen", "a beak", 2.0)
    weigh = Edit("weigh", "hen", "a beak", weight=2.0, who="ana", when="2026-01-02", why="so")
    history = (Done(weigh, (Change(0, row, heavy),)), Done(Edit("drop", "hen", "a beak"), (Change(0, heavy, None),)))
    Descriptors(zoo.classes, (), {}, history).save(path)
    weigh, drop = (json.loads(line.rstrip(",")) for line in path.read_text().splitlines() if '"did"' in line)
    before, after = {"class_id": "hen", "text": "a beak"}, {"class_id": "hen", "text": "a beak", "weight": 2.0}
    says = {"op": "weigh", "class": "hen", "text": "a beak", "weight": 2.0}
    assert weigh == says | {"who": "ana", "when": "2026-01-02", "why": "so", "did": [[0, before, after]]}
    assert drop == {"op": "drop", "class": "hen", "text": "a beak", "did": [[0, after, None]]}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (Edit("add", "hen", "a beak", why="seen"), 'add "hen" "a beak": seen'),
        (Edit("move", "hen", "a beak", to="cock", who="ana"), 'move "hen" "a beak" "cock" (by ana)'),
        (Edit("weigh", "hen", "", weight=0.5, when="noon", who="ana"), 'weigh "hen" "" 0.5 (noon by ana)'),
        (Edit("replace", text="red", to=""), 'replace "red" ""'),
        (Edit("undo", number=1, when="noon", why="so"), 'undo 1 (drop "hen" "a beak") (noon): so'),
    ],
)
def test_an_edit_reads_as_its_command(edit, says):
    assert log_line(edit, [Done(Edit("drop", "hen", "a beak"))]) == says
    assert says.startswith(str(edit))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"op": "ad"}, "unknown operation 'ad'; fix: did you mean 'add'\\? known: add, drop, reword"),
        ({"op": "add"}, "add without class; fix: add takes class, text"),
        ({"op": "add", "class_": "hen", "to": "cock"}, "add with to"),
        ({"op": "drop", "class_": "hen", "weight": 0.0}, "drop with weight"),
        ({"op": "drop", "class_": "hen", "text": "a", "origin": "x"}, "drop with origin"),
        ({"op": "weigh", "class_": "hen", "text": "a"}, "weigh without weight; fix: weigh takes class, text, weight"),
        ({"op": "move", "class_": "hen", "text": "a"}, "move without to"),
        ({"op": "reword", "text": "a", "to": "b"}, "reword without class"),
        ({"op": "replace", "class_": "hen", "text": "a"}, "replace with class; fix: replace takes text, to"),
        ({"op": "undo"}, "undo without number"),
        ({"op": "undo", "number": 1, "text": "a beak"}, "undo with text"),
        ({"op": "enable", "class_": "hen", "text": "a", "number": 1}, "enable with number"),
        *(({"op": "add", "class_": "hen", "why": f"a{blank}b"}, 'value of "why" holds') for blank in "\n\u2028\x85"),
        *(({"op": "add", "class_": "hen", name: "\ud800"}, r"U\+D800") for name in ("who", "when", "why")),
    ],
)  # fmt: skip
def test_an_edit_has_the_fields_of_its_operation_and_no_others(fields, says):
    with pytest.raises(InputError, match=says):
        Edit(**fields)


def test_an_empty_text_and_a_weight_of_0_are_given():
    assert Edit("add", "hen", "").to_dict() == {"op": "add", "class": "hen", "text": ""}
    assert Edit("reword", "hen", "a", to="").to_dict()["to"] == ""
    assert Edit("weigh", "hen", "a", weight=0.0).to_dict()["weight"] == 0
    assert isinstance(edit_of({"op": "weigh", "class": "hen", "text": "a", "weight": 2}, "here").weight, float)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ([], "expected an object, found a list"),
        ({"class": "hen", "text": "a"}, '"op" is missing'),
        ({"op": "dorp", "class": "hen", "text": "a"}, "unknown operation 'dorp'.*did you mean 'drop'"),
        ({"op": ["add"]}, '"op" is a list, not text'),
        ({"op": "add", "class": "hen"}, 'add without "text".*add takes class, text'),
        ({"op": "add", "class": "", "text": "a"}, "add without class"),
        ({"op": "add", "class": "hen", "text": None}, '"text" is null, not text'),
        ({"op": "add", "class": "hen", "text": "a", "txt": "b"}, 'unknown key "txt".*known: op, class, text'),
        ({"op": "add", "class_": "hen", "text": "a"}, 'unknown key "class_"'),
        ({"op": "reword", "class": "hen", "text": "a"}, 'reword without "to"'),
        ({"op": "weigh", "class": "hen", "text": "a", "weight": "2"}, '"weight" is text, not a number'),
        ({"op": "weigh", "class": "hen", "text": "a", "weight": True}, '"weight" is true or false'),
        ({"op": "weigh", "class": "hen", "text": "a", "weight": 10**400}, "the weight is too large"),
        ({"op": "undo", "number": 1.0}, '"number" is a number'),
        ({"op": "undo", "number": False}, '"number" is true or false'),
    ],
)
def test_bad_json_objects_are_refused_with_their_place(fields, says):
    with pytest.raises(InputError, match=says) as error:
        edit_of(fields, "patch.jsonl:7")
    assert error.value.where == "patch.jsonl:7" and error.value.fix


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        *((edit, 'must be an object with a list "did"') for edit in ("drop", None, [], DROP, DROP | {"did": {}})),
        *((DROP | {"did": [did]}, '"did" must hold lists of a place')
          for did in (0, [0, ROW], [-1, ROW, None], [True, ROW, None], [0.0, ROW, None])),
        (DROP | {"did": [[0, "row", None]]}, "expected an object, found text"),
        (DROP | {"did": [[0, {}, None]]}, '"class_id" is missing'),
        (DROP | {"did": [[0, ROW | {"weight": -1}, None]]}, "a weight is -1"),
        (DROP | {"did": [[0, ROW | {"weight": 10**400}, None]]}, "too large"),
        (DROP | {"did": [[0, ROW | {"x": 1}, None]]}, 'unknown key "x"'),
        (DROP | {"did": [[0, ROW | {"text": "a\n"}, None]]}, r"U\+000A"),
        ({"did": []}, '"op" is missing'),
        (DROP | {"text": 3, "did": []}, '"text" is a number'),
        (DROP | {"done": [], "did": []}, 'unknown key "done"'),
        *(({"op": "undo", "number": n, "did": []}, "which does not come before it") for n in (-1, 0, 2, 99)),
    ],
)  # fmt: skip
def test_a_broken_history_is_refused_with_file_and_edit(tmp_path, edit, says):
    path, good = tmp_path / "bad.json", DROP | {"did": [[0, ROW, None]]}
    set_ = {"schema": 1, "meta": {}, "classes": [{"id": "hen", "name": "hen"}], "rows": []}
    path.write_text(json.dumps(set_ | {"edits": [good]}))
    assert len(Descriptors.load(path).history) == 1
    path.write_text(json.dumps(set_ | {"edits": [good, edit]}))
    with pytest.raises(InputError, match=says) as error:
        Descriptors.load(path)
    assert f"{path}, edit 2" in error.value.where


def history(*undone):
    """Edits one after another: 0 is a plain one, another number an undo of that."""
    return tuple(Done(Edit("undo", number=n) if n else Edit("add", "hen", "x"), ()) for n in undone)


@pytest.mark.parametrize(
    ("undone", "stand", "last"),
    [
        ([], [], None),
        ([0, 0], [1, 2], 2),
        ([0, 0, 2], [1, 3], 1),
        ([0, 0, 1], [2, 3], 2),
        ([0, 1], [2], None),
        ([0, 1, 2], [1, 3], 1),
        ([0, 1, 2, 3], [2, 4], None),
        ([0, 1, 2, 1], [3, 4], None),
        ([0, 1, 0, 2], [1, 3, 4], 3),
    ],
)
def test_what_stands_by_hand(undone, stand, last):
    assert standing(history(*undone)) == stand
    if last is None:
        with pytest.raises(InputError, match="nothing to undo"):
            last_edit(history(*undone))
    else:
        assert last_edit(history(*undone)) == last
