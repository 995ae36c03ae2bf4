from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc.descriptors.controls import CONTROLS, PAIRS, Size, random_words, waffle, waffle_size
from vlmdesc.descriptors.phrase import get_phrase, texts
from vlmdesc.descriptors.templates import EIGHTY, SEVEN
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptor, Descriptors

WORDS = st.text("abcdefghij", min_size=1, max_size=6)
SENTENCES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
SETS = st.dictionaries(SENTENCES, st.lists(SENTENCES, max_size=5), min_size=2, max_size=6).filter(
    lambda lists: any(lists.values())
)


def lists(descriptors):
    found = {c.id: [] for c in descriptors.classes}
    for row in descriptors.rows:
        found[row.class_id].append(row.text)
    return found


@pytest.mark.parametrize(
    ("names", "size"),
    [
        # one word each: 1 word; letters 3; no blanks, so one group; longest 3, a multiple of 1, so one more
        (["hen", "cat"], Size(1, 3, 1, 4)),
        # 2 words; letters mean(4.5, 6.5) = 5.5 -> 6; one blank, two groups; longest mean(5, 8) = 6.5 -> 7 -> 8
        (["polar bear", "zebra crossing"], Size(2, 6, 2, 4)),
        # longest 4 divides by 2 already: a whole 2 is added
        (["grey wolf", "blue bird"], Size(2, 4, 2, 3)),
        # an underscore is a blank; half a blank on average rounds to even, 0: one group; 1.5 words round to 2
        (["polar_bear", "hen"], Size(2, 4, 1, 5)),
        # 5 / 3 words -> 2; letters mean(3, 3, 3) = 3; 2 / 3 blanks -> 1, two groups; longest 3 -> 4
        (["red fox", "big cat", "hen"], Size(2, 3, 2, 2)),
    ],
)
def test_the_published_sizing_rule_by_hand(names, size):
    assert waffle_size(names) == size


@given(SETS, st.integers(0, 99), st.sampled_from(sorted(CONTROLS)))
def test_every_control_keeps_the_classes_is_seeded_and_says_what_it_is(texts_of, seed, name):
    descriptors, control = Descriptors.of(texts_of), CONTROLS[name]
    found = control(descriptors, seed)
    assert found == control(descriptors, seed)
    assert found.classes == descriptors.classes
    assert {row.origin for row in found.rows} == {f"control:{name}/seed={seed}"}


@given(SETS, st.integers(0, 99))
def test_what_each_control_keeps(texts_of, seed):
    descriptors = Descriptors.of(texts_of)
    pool, n = [text for texts in texts_of.values() for text in texts], len(texts_of)
    average = ceil(len(pool) / n)
    found = {name: lists(control(descriptors, seed)) for name, control in CONTROLS.items()}
    for drawn in found["random"].values():
        assert len(drawn) == average and not Counter(drawn) - Counter(pool)
    assert len({tuple(drawn) for drawn in found["shared"].values()}) == 1
    assert not Counter(next(iter(found["shared"].values()))) - Counter(pool)
    assert sorted(found["swapped"].values()) == sorted(texts_of.values())
    for class_, drawn in found["scrambled"].items():
        assert [len(t.split()) for t in drawn] == [len(t.split()) for t in texts_of[class_]]
        assert {w for t in drawn for w in t.split()} <= {w for t in texts_of[class_] for w in t.split()}
    assert len({tuple(drawn) for drawn in found["waffle"].values()}) == 1
    assert {len(drawn) for drawn in found["waffle"].values()} == {2 * PAIRS}


def test_waffle_takes_words_from_the_list_and_characters_from_the_descriptors():
    descriptors = Descriptors.of({"polar bear": ["x, y.z"], "grey wolf": []})
    size, drawn = waffle_size(["polar bear", "grey wolf"]), lists(waffle(descriptors, 0))["grey wolf"]
    cut = {word[: size.letters] for word in random_words()}
    for words, characters in zip(drawn[::2], drawn[1::2], strict=True):
        assert len(words.split()) == size.words and set(words.split()) <= cut
        groups = characters.split(", ")
        assert [len(g) for g in groups] == [size.characters] * size.groups and set("".join(groups)) <= set("xyz")


def test_a_name_inside_a_random_text_is_left_alone():
    """The published code puts a name in by replacing another one in the finished text."""
    descriptors = Descriptors.of({"a": ["a red comb"], "of": ["a kind of bill"]})
    shared = CONTROLS["shared"](descriptors, 1)
    [[first, *_], [second, *_]] = lists(shared).values()
    assert first == second
    assert texts(shared, get_phrase("waffleclip"))[-1].startswith("A photo of a of, which is a ")


def test_weights_go_with_swapped_lists_and_rows_that_do_not_count_are_not_drawn():
    classes = (ClassName("1", "hen"), ClassName("2", "zebra"))
    rows = (Descriptor("1", "red", weight=2.0), Descriptor("1", "off", enabled=False), Descriptor("2", "striped"))
    descriptors = Descriptors(classes, rows)
    seed = next(s for s in range(20) if CONTROLS["swapped"](descriptors, s).rows[0].text == "striped")
    swapped = CONTROLS["swapped"](descriptors, seed)
    assert [(row.class_id, row.text, row.weight) for row in swapped.rows if row.enabled] == [
        ("1", "striped", 1.0), ("2", "red", 2.0),
    ]  # fmt: skip
    for name in ("random", "shared", "scrambled"):
        assert "off" not in {row.text for row in CONTROLS[name](descriptors, 0).rows}


@pytest.mark.parametrize("name", ["waffle", "random", "shared"])
def test_no_descriptors_at_all_is_refused(name):
    with pytest.raises(InputError, match="no descriptors to"):
        CONTROLS[name](Descriptors.of({"hen": [], "cat": [""]}), 0)


def test_random_words_are_common_words():
    words = random_words()
    assert len(words) == len(set(words)) == 4000 and list(words) == sorted(words)
    assert {"house", "water", "green"} <= set(words)
    assert all(word.isalpha() and word.islower() for word in words)


def test_templates_are_eighty_and_seven_of_them():
    assert len(set(EIGHTY)) == 80 and len(SEVEN) == 7 and set(SEVEN) <= set(EIGHTY)
    assert all(template.count("{c}") == 1 for template in EIGHTY)
