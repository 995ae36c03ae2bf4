"""Progress and notes: what a call tells its caller."""

import pytest

from vlmdesc.errors import VlmdescWarning
from vlmdesc.records.progress import collect_notes, counter, note


def test_progress_is_told_from_the_beginning_on():
    told = []
    more = counter(lambda *args: told.append(args), "images", 5)
    more(2)
    more(3)
    assert told == [("images", 0, 5), ("images", 2, 5), ("images", 5, 5)]


def test_notes_are_collected_once_each_and_by_the_outer_call_too():
    with collect_notes() as outer:
        note("a")
        with collect_notes() as inner:
            note("b")
            note("b")
        note("a")
    assert (outer, inner) == (["a", "b"], ["b"])


def test_an_error_has_what_was_noted_before_it_once():
    with pytest.raises(ValueError) as caught, collect_notes(), collect_notes():
        note("damaged")
        raise ValueError
    assert caught.value.__notes__ == ["damaged"]


def test_a_note_that_nobody_collects_is_a_warning():
    with pytest.warns(VlmdescWarning, match="one class"):
        note("one class")
