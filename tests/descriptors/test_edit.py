from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmdesc.descriptors.edit import BY_HAND, edit
from vlmdesc.descriptors.patch import diff, merge, read_patch, write_patch
from vlmdesc.errors import InputError
from vlmdesc.records import Change, ClassName, Descriptor, Descriptors, Done, Edit
from vlmdesc.records.edits import OPERATIONS, last_edit, standing

CLASSES = (ClassName("n1", "hen", ("chicken",)), ClassName("n2", "cock"), ClassName("n3", "egg"))
ZOO = Descriptors(
    CLASSES,
    (
        Descriptor("n1", "a red comb", 2.0, origin="llm"),
        Descriptor("n1", "a beak", enabled=False),
        Descriptor("n2", "a red comb"),
        Descriptor("n2", "long red tail feathers"),
    ),
    {"about": "birds"},
)
LIVELY = settings(max_examples=30, deadline=None)


def after(*edits, zoo=ZOO):
    return edit(zoo, edits)


def told(descriptors):
    """Rows as short lines: class, text, then a weight other than 1, "off", and "llm" where it is of that origin."""
    return [
        f"{row.class_id} {row.text}"
        + (f" x{row.weight:g}" if row.weight != 1 else "")
        + ("" if row.enabled else " off")
        + " llm" * (row.origin == "llm")
        for row in descriptors.rows
    ]


COMB, BEAK, COCKS, TAIL = told(ZOO)


@pytest.mark.parametrize(
    ("edit", "rows"),
    [
        (Edit("add", "n1", "a wattle"), [COMB, BEAK, "n1 a wattle", COCKS, TAIL]),
        (Edit("add", "hen", "a wattle"), [COMB, BEAK, "n1 a wattle", COCKS, TAIL]),
        (Edit("add", "chicken", ""), [COMB, BEAK, "n1 ", COCKS, TAIL]),
        (Edit("add", "hen", "A beak"), [COMB, BEAK, "n1 A beak", COCKS, TAIL]),
        (Edit("add", "egg", "an oval"), [COMB, BEAK, COCKS, TAIL, "n3 an oval"]),
        (Edit("drop", "hen", "a red comb"), [BEAK, COCKS, TAIL]),
        (Edit("drop", "cock", " A  red COMB"), [COMB, BEAK, TAIL]),
        (Edit("reword", "hen", "a red comb", to="a comb"), ["n1 a comb x2", BEAK, COCKS, TAIL]),
        (Edit("reword", "hen", "a beak", to="A beak"), [COMB, "n1 A beak off", COCKS, TAIL]),
        (Edit("reword", "hen", "a beak", to=""), [COMB, "n1  off", COCKS, TAIL]),
        (Edit("weigh", "cock", "a red comb", weight=0.5), [COMB, BEAK, "n2 a red comb x0.5", TAIL]),
        (Edit("weigh", "hen", "a red comb", weight=0.0), ["n1 a red comb x0 llm", BEAK, COCKS, TAIL]),
        (Edit("disable", "hen", "a red comb"), ["n1 a red comb x2 off llm", BEAK, COCKS, TAIL]),
        (Edit("enable", "hen", "a beak"), [COMB, "n1 a beak", COCKS, TAIL]),
        (Edit("move", "hen", "a beak", to="cock"), [COMB, COCKS, TAIL, "n2 a beak off"]),
        (Edit("move", "hen", "a red comb", to="egg"), [BEAK, COCKS, TAIL, "n3 a red comb x2 llm"]),
        (Edit("move", "n2", "long red tail feathers", to="n1"), [COMB, BEAK, "n1 long red tail feathers", COCKS]),
        (Edit("replace", text="red", to="crimson"),
         ["n1 a crimson comb x2", BEAK, "n2 a crimson comb", "n2 long crimson tail feathers"]),
        (Edit("replace", text="red", to=""), ["n1 a comb x2", BEAK, "n2 a comb", "n2 long tail feathers"]),
        (Edit("replace", text="a red comb", to="a beak"), [BEAK, "n2 a beak", TAIL]),
        (Edit("replace", text="a red comb", to=" "), [BEAK, TAIL]),
        (Edit("add-class", "n4", "chick"), [COMB, BEAK, COCKS, TAIL]),
    ],
    ids=str,
)  # fmt: skip
def test_an_edit_by_hand(edit, rows):
    new = after(edit)
    assert told(new) == rows
    assert [done.edit for done in new.history] == [edit]
    assert new.classes == (*CLASSES, ClassName("n4", "chick")) if edit.op == "add-class" else new.classes == CLASSES
    assert new.meta == ZOO.meta
    back = after(Edit("undo", number=1), zoo=new)
    assert (back.classes, back.rows) == (ZOO.classes, ZOO.rows)


def test_the_history_says_what_became_of_each_row():
    comb, beak, cocks, tail = ZOO.rows
    wattle = Descriptor("n1", "a wattle", origin="user")
    assert after(Edit("add", "hen", "a wattle")).history[0].changes == (Change(2, None, wattle),)
    moved = Descriptor("n2", "a beak", enabled=False)
    move = Edit("move", "hen", "a beak", to="cock")
    assert after(move).history == (Done(move, (Change(1, beak, None), Change(3, None, moved))),)
    # Each change finds the rows as the ones before it left them.
    gone = after(Edit("replace", text="a red comb", to=""), Edit("drop", "cock", "long red tail feathers")).history
    assert [done.changes for done in gone] == [
        (Change(0, comb, None), Change(1, cocks, None)),
        (Change(1, tail, None),),
    ]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (Edit("add", "hne", "a"), "no class 'hne'.*did you mean 'hen'\\? classes: hen, cock, egg"),
        (Edit("add", "hen", "a red comb"), 'has "a red comb" already.*class "hen".*reword it, or leave it'),
        (Edit("add", "hen", "a beak"), 'has "a beak" already.*class "hen".*enable it'),
        (Edit("drop", "hen", "a bek"), 'no descriptor "a bek".*did you mean \'a beak\'\\? it has "a red comb", "a'),
        (Edit("drop", "egg", "a beak"), 'no descriptor "a beak".*class "egg".*it has none'),
        (Edit("reword", "hen", "a beak", to="a red comb"), 'has "a red comb" already.*class "hen".*drop the one'),
        (Edit("weigh", "hen", "a red comb", weight=2.0), 'weigh changes nothing.*"a red comb".*leave it out'),
        (Edit("weigh", "hen", "a red comb", weight=float("nan")), "a weight is nan"),
        (Edit("weigh", "hen", "a red comb", weight=1e-9), "a weight is 1e-09.*use 0, or 1e-06 to 1e\\+06"),
        (Edit("disable", "hen", "a beak"), 'disable changes nothing.*"a beak"'),
        (Edit("enable", "hen", "a red comb"), "enable changes nothing"),
        (Edit("move", "hen", "a red comb", to="cock"), 'has "a red comb" already.*class "cock"'),
        (Edit("move", "hen", "a beak", to="eg"), "no class 'eg'.*did you mean 'egg'"),
        (Edit("move", "hen", "a beak", to="hen"), 'move changes nothing.*class "hen"'),
        (Edit("replace", text="red", to="red"), "replace changes nothing"),
        (Edit("replace", text="Red", to="b"), 'no descriptor has "Red".*mind capital letters; whole words'),
        (Edit("replace", text="re", to="b"), 'no descriptor has "re"'),
        (Edit("replace", text="red comb", to="red  comb"), 'no descriptor has'),
        (Edit("replace", text=" ", to="b"), "replace changes nothing.*say which words"),
        (Edit("replace", text="red", to="a" * 500), "50\\d characters"),
        (Edit("add-class", "n1", "chick"), "1 id used twice .class \"n1\""),
        (Edit("add-class", "n4", " "), "a class name is empty"),
        (Edit("undo", number=1), "no edit 1; there are none.*see log"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_what_does_not_fit_is_refused(edit, says):
    with pytest.raises(InputError, match=says):
        after(edit)


def test_one_of_several_edits_is_named_by_its_number():
    with pytest.raises(InputError, match=r"no class 'x' \(edit 2 of 2, drop \"x\" \"y\"\)"):
        after(Edit("drop", "hen", "a beak"), Edit("drop", "x", "y"))


def test_who_wrote_a_descriptor_is_its_origin():
    assert after(Edit("add", "hen", "a wattle")).rows[2].origin == BY_HAND == "user"
    assert after(Edit("add", "hen", "a wattle", origin="llm:m/p@d")).rows[2].origin == "llm:m/p@d"
    assert after(Edit("reword", "hen", "a red comb", to="a comb")).rows[0].origin == "user"
    assert [row.origin for row in after(Edit("replace", text="red", to="big")).rows] == ["user", "", "user", "user"]


def test_a_row_is_found_by_its_text_then_by_what_it_reads_as():
    rows = (Descriptor("n1", "A beak"), Descriptor("n1", "a Beak"), Descriptor("n2", "a  beak"), Descriptor("n1", "x"))
    zoo = Descriptors(CLASSES, rows)
    for class_, text, at in (("hen", "a Beak", 1), ("cock", "A BEAK", 2), ("n1", "X ", 3)):
        assert after(Edit("drop", class_, text), zoo=zoo).history[0].changes == (Change(at, rows[at], None),)
    with pytest.raises(InputError, match=r'2 descriptors read like "a beak" \(class "hen"\); fix: write it exactly'):
        after(Edit("drop", "hen", "a beak"), zoo=zoo)
    twins = Descriptors(CLASSES, (Descriptor("n1", "x"), Descriptor("n1", "x", 2.0)))
    assert after(Edit("drop", "hen", "X"), zoo=twins).rows == twins.rows[1:]


@pytest.mark.parametrize(
    ("text", "to", "before", "then"),
    [
        ("red", "blue", "red redder infrared red-hot (red), red", "blue redder infrared blue-hot (blue), blue"),
        ("red", "blue", "red_comb", None),
        ("red", "blue", "bored2 2red", None),
        ("a b", "c", "a b ab a  b", "c ab a b"),
        ("a.b", "c", "axb a.b", "axb c"),
        ("(big)", "large", "a (big) beak", "a large beak"),
        ("comb", r"\g<0> \1", "a comb", r"a \g<0> \1"),
        ("é", "e", "é été", "e été"),
    ],
)
def test_replacing_looks_for_whole_words(text, to, before, then):
    zoo = Descriptors.of({"hen": [before, "anything else"]})
    if then is None:
        with pytest.raises(InputError, match="no descriptor has"):
            after(Edit("replace", text=text, to=to), zoo=zoo)
    else:
        assert [row.text for row in after(Edit("replace", text=text, to=to), zoo=zoo).rows] == [then, "anything else"]


def test_replacing_drops_the_second_of_twins_in_one_class_only():
    zoo = Descriptors.of({"hen": ["a red comb", "a big comb", "a tall comb", "a beak"], "cock": ["a tall comb"]})
    new = after(Edit("replace", text="red", to="big"), zoo=zoo)
    assert told(new) == ["hen a big comb", "hen a tall comb", "hen a beak", "cock a tall comb"]
    new = after(Edit("replace", text="big", to=""), Edit("replace", text="tall", to=""), zoo=zoo)
    assert told(new) == ["hen a red comb", "hen a comb", "hen a beak", "cock a comb"]
    longer = after(
        Edit("replace", text="red", to="dark red"), zoo=Descriptors.of({"hen": ["red comb", "dark red comb"]})
    )
    assert told(longer) == ["hen dark red comb", "hen dark dark red comb"]  # what is changed itself is no twin
    same = Descriptors.of({"hen": ["a red comb", "red a comb", "a  red comb"]})
    assert told(after(Edit("replace", text="red", to=""), zoo=same)) == ["hen a comb"]
    for _ in "ab":
        new = after(Edit("undo", number=last_edit(new.history)), zoo=new)
    assert new.rows == zoo.rows


def test_undoing_by_hand():
    zoo = after(
        Edit("drop", "hen", "a red comb"),
        Edit("reword", "cock", "a red comb", to="a comb"),
        Edit("disable", "cock", "a comb"),
    )
    assert told(after(Edit("undo", number=1), zoo=zoo)) == [COMB, BEAK, "n2 a comb off", TAIL]
    with pytest.raises(InputError, match=r"\"a comb\" of class 'n2' was changed since.*undo the later edit first"):
        after(Edit("undo", number=2), zoo=zoo)
    for number, has in ((0, 3), (4, 3), (-1, 3)):
        with pytest.raises(InputError, match=f"no edit {number}; there are {has}"):
            after(Edit("undo", number=number), zoo=zoo)
    back = after(Edit("undo", number=3), Edit("undo", number=2), zoo=zoo)
    assert told(back) == [BEAK, COCKS, TAIL]
    with pytest.raises(InputError, match=r"edit 2 is undone.*undo its undoing; log has the number"):
        after(Edit("undo", number=2), zoo=back)
    assert told(after(Edit("undo", number=5), zoo=back)) == [BEAK, "n2 a comb", TAIL]


def test_undoing_finds_a_row_that_stands_elsewhere_by_now():
    zoo = after(Edit("weigh", "cock", "a red comb", weight=3.0), Edit("drop", "hen", "a red comb"))
    assert told(after(Edit("undo", number=1), zoo=zoo)) == [BEAK, COCKS, TAIL]
    zoo = after(
        Edit("drop", "cock", "long red tail feathers"), *(Edit("drop", "hen", row.text) for row in ZOO.rows[:2])
    )
    assert told(after(Edit("undo", number=1), zoo=zoo)) == [COCKS, TAIL]


@pytest.mark.parametrize(
    "edits",
    [
        [Edit("drop", "hen", "a beak"), Edit("add", "hen", "a beak")],
        [Edit("reword", "hen", "a beak", to="a bill"), Edit("add", "hen", "a beak")],
        [Edit("move", "hen", "a beak", to="cock"), Edit("add", "hen", "a beak")],
    ],
)
def test_undoing_makes_no_twins(edits):
    with pytest.raises(InputError, match="\"a beak\" came back to class 'n1' since"):
        after(*edits, Edit("undo", number=1))


def test_undoing_a_new_class():
    added = after(Edit("add-class", "n4", "chick"))
    gone = after(Edit("undo", number=1), zoo=added)
    assert gone.classes == CLASSES
    assert after(Edit("undo", number=2), zoo=gone).classes == added.classes
    assert after(Edit("undo", number=2), Edit("undo", number=3), zoo=gone).classes == CLASSES
    assert after(Edit("add-class", "n4", "chick"), zoo=gone).classes == added.classes
    full = after(Edit("add", "chick", "down"), zoo=added)
    with pytest.raises(InputError, match=r"row 4 belongs to no class .class \"n4\""):
        after(Edit("undo", number=1), zoo=full)
    empty = after(Edit("drop", "chick", "down"), Edit("undo", number=1), zoo=full)
    assert empty.classes == CLASSES
    with pytest.raises(InputError, match="belongs to no class"):
        after(Edit("undo", number=3), zoo=empty)
    again = after(Edit("add-class", "n4", "chick"), zoo=gone)
    with pytest.raises(InputError, match="used twice"):
        after(Edit("undo", number=2), zoo=again)


# Laws. Few classes and texts, so that edits meet.

ids, texts = st.sampled_from(("n1", "n2", "n3", "n4")), st.sampled_from(("a", "b", "a b", "b a", "A", ""))
weights = st.sampled_from((0.0, 0.5, 1.0, 2.0))


@st.composite
def edits(draw, descriptors, undo):
    """An edit that may fit: of a row that is there, or the undo of an edit that was made."""
    ops = set(OPERATIONS) - ({"undo"} if not (undo and descriptors.history) else set())
    op = draw(st.sampled_from(sorted(ops if descriptors.rows else ops & {"add", "add-class", "undo"})))
    row = draw(st.sampled_from(descriptors.rows)) if descriptors.rows else None
    new = op in ("add", "add-class")
    fields = {
        "class_": draw(ids) if new else row and row.class_id,
        "text": draw(texts) if new else row and row.text,
        "to": draw(ids if op == "move" else texts),
        "weight": draw(weights),
        "number": draw(st.integers(1, len(descriptors.history) or 1)),
    }
    if op == "add-class":
        fields["text"] = fields["class_"]
    said = {name: value for name, value in fields.items() if name.rstrip("_") in OPERATIONS[op]}
    return Edit(op, **said, who=draw(st.sampled_from(("", "ana"))))


@st.composite
def sets(draw, ids=("n1", "n2", "n3"), twins=False):
    """Sets whose rows are told apart by their origin; none has a text twice in a class, unless `twins`."""
    keys = st.lists(st.tuples(st.sampled_from(ids), texts), max_size=8, unique=not twins)
    rows = (
        Descriptor(id_, text, draw(weights), draw(st.booleans()), f"o{m}") for m, (id_, text) in enumerate(draw(keys))
    )
    return Descriptors(tuple(ClassName(id_, id_) for id_ in ids), tuple(rows), {"about": "laws"})


@st.composite
def histories(draw, undo=True, twins=False):
    """A set, and the one after some edits that fit."""
    before = new = draw(sets(twins=twins))
    for _ in range(draw(st.integers(2, 12))):
        with suppress(InputError):
            new = edit(new, [draw(edits(new, undo))])
    return before, new


@LIVELY
@given(histories(twins=True))
def test_undoing_gives_back_the_set_and_undoing_that_the_edits(sets):
    before, new = sets
    n = len(new.history)
    back = edit(new, [Edit("undo", number=number) for number in range(n, 0, -1)])
    assert (back.classes, back.rows) == (before.classes, before.rows)
    again = edit(back, [Edit("undo", number=number) for number in range(2 * n, n, -1)])
    assert (again.classes, again.rows) == (new.classes, new.rows)
    assert standing(again.history) == [*standing(new.history), *range(2 * n + 1, 3 * n + 1)]


@LIVELY
@given(histories(undo=False, twins=True))
def test_plain_undo_again_and_again_gives_back_the_set(sets):
    before, new = sets
    for _ in range(len(new.history)):
        new = edit(new, [Edit("undo", number=last_edit(new.history))])
    assert (new.classes, new.rows) == (before.classes, before.rows)
    with pytest.raises(InputError, match="nothing to undo"):
        last_edit(new.history)


@LIVELY
@given(histories(twins=True))
def test_untouched_rows_stay_in_their_order(sets):
    before, new = sets
    touched = {row for done in new.history for change in done.changes for row in (change.before, change.after)}
    untouched = [row for row in before.rows if row not in touched]
    assert [row for row in new.rows if row in untouched] == untouched


@LIVELY
@given(histories())
def test_edits_made_at_once_do_the_same_and_the_set_given_stays_as_it_was(sets):
    before, new = sets
    was = before.to_json()
    assert edit(before, [done.edit for done in new.history]) == new
    assert before.to_json() == was and not before.history and new.meta == before.meta


@LIVELY
@given(histories(undo=False))
def test_edits_make_no_twins(sets):
    keys = [(row.class_id, row.text) for row in sets[1].rows]
    assert len(keys) == len({*keys})


def content(descriptors):
    return sorted((row.class_id, row.text, row.weight, row.enabled) for row in descriptors.rows)


@LIVELY
@given(sets(), sets())
def test_the_difference_makes_of_one_set_the_other(a, b):
    edits = [*diff(a, b)]
    assert content(edit(a, edits)) == content(b)
    assert not [*diff(a, a)] and not [*diff(edit(a, edits), b)]


@LIVELY
@given(histories(undo=False))
def test_the_difference_of_an_edited_set_does_what_the_edits_did(sets):
    before, new = sets
    again = edit(before, diff(before, new))
    assert content(again) == content(new) and again.classes == new.classes


@LIVELY
@given(sets(), sets(ids=("n2", "n3", "n4")))
def test_merging_holds_all_of_both_and_is_done_after_once(a, b):
    both = edit(a, merge(a, b))
    assert [class_.id for class_ in both.classes] == ["n1", "n2", "n3", "n4"]
    assert [row for row in both.rows if row in a.rows] == [*a.rows]
    has = {(row.class_id, row.text) for row in a.rows}
    new = [row for row in content(b) if row[:2] not in has]
    assert content(both) == sorted(content(a) + new)
    assert not [*merge(both, a)] and not [*merge(both, b)]


@LIVELY
@given(histories().filter(lambda sets: sets[1].history))
def test_a_patch_holds_the_edits_and_does_what_they_do(tmp_path_factory, sets):
    path, (before, new) = tmp_path_factory.mktemp("patch") / "patch.jsonl", sets
    write_patch(path, [done.edit for done in new.history])
    assert read_patch(path) == [done.edit for done in new.history]
    assert edit(before, read_patch(path)) == new


def test_merging_goes_by_id_name_or_alias():
    other = Descriptors(
        (ClassName("n1", "Hahn"), ClassName("7", "egg"), ClassName("8", "chicken"), ClassName("9", "chick")),
        (
            Descriptor("n1", "a beak", 5.0),
            Descriptor("7", "an oval", 0.5, False, "llm"),
            Descriptor("8", "a wattle"),
            Descriptor("8", "a beak"),
            Descriptor("9", "down"),
            Descriptor("9", "down", 3.0),
        ),
    )
    assert [*map(str, merge(ZOO, other))] == [
        'add-class "9" "chick"',
        'add "n3" "an oval"',
        'weigh "n3" "an oval" 0.5',
        'disable "n3" "an oval"',
        'add "n1" "a wattle"',
        'add "9" "down"',
    ]
    new = edit(ZOO, merge(ZOO, other))
    assert told(new) == [
        COMB,
        BEAK,
        "n1 a wattle",
        COCKS,
        TAIL,
        "n3 an oval x0.5 off llm",
        "9 down",
    ]  # origins come along


def test_a_difference_by_hand():
    b = Descriptors(
        (*CLASSES, ClassName("n4", "chick")),
        (
            Descriptor("n4", "down", 2.0),
            Descriptor("n2", "a red comb", 0.5, False),
            Descriptor("n1", "a beak"),
            Descriptor("n1", "a red comb", 2.0),
        ),
    )
    assert [*map(str, diff(ZOO, b))] == [
        'add-class "n4" "chick"',
        'drop "n2" "long red tail feathers"',
        'add "n4" "down"',
        'weigh "n4" "down" 2',
        'weigh "n2" "a red comb" 0.5',
        'disable "n2" "a red comb"',
        'enable "n1" "a beak"',
    ]
    with pytest.raises(InputError, match=r"class 'chick' \(n4\) is in the first only.*same ids"):
        [*diff(b, ZOO)]


def test_what_no_edits_make_is_refused():
    cranes = Descriptors((ClassName("1", "crane"), ClassName("2", "crane")), ())
    with pytest.raises(InputError, match=r"2 classes are called 'crane'.*give both sets the same ids"):
        merge(cranes, ["crane"])
    assert not merge(cranes, cranes)
    one, two = (Descriptors.of({"hen": texts}) for texts in (["a comb", "a comb"], ["a comb"]))
    for pair in ((one, two), (two, one)):
        with pytest.raises(InputError, match="\"a comb\" stands twice in class 'hen'"):
            diff(*pair)
    renamed = Descriptors((ClassName("hen", "cock"),), two.rows)
    with pytest.raises(InputError, match=r"class 'hen' \(hen\) is in the first only.*same ids and names"):
        diff(two, renamed)
