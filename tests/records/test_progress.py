"""Progress and notes: what a call tells its caller."""

import pytest

from vlmdesc.errors import InputError, VlmdescWarning
from vlmdesc.records import Descriptors
from vlmdesc.records.progress import counter, note, noted


def test_progress_is_told_from_the_beginning_on():
    told = []
    more = counter(lambda *args: told.append(args), "images", 5)
    more(2)
    more(3)
    assert told == [("images", 0, 5), ("images", 2, 5), ("images", 5, 5)]


def test_notes_are_collected_once_each_and_by_the_outer_call_too():
    with noted() as outer:
        note("a")
        with noted() as inner:
            note("b")
            note("b")
        note("a")
    assert (outer, inner) == (["a", "b"], ["b"])


def test_an_error_has_what_was_noted_before_it_once():
    with pytest.raises(ValueError) as caught, noted(), noted():
        note("damaged")
        raise ValueError
    assert caught.value.__notes__ == ["damaged"]


def test_a_note_that_nobody_collects_is_a_warning():
    with pytest.warns(VlmdescWarning, match="one class"):
        note("one class")


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"hen": "red"}, "list of descriptors"),
        ({"hen": 3}, "list of descriptors"),
        ({"hen": [3]}, "not text"),
        (["hen", "Hen"], "read the same"),
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
    assert [c.name for c in Descriptors.load(["hen", "zebra"]).classes] == ["hen", "zebra"]
    assert len(Descriptors.load("everyday").classes) > 20
