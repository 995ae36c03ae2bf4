import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc import Descriptors
from vlmdesc.classification.heads import HeadCard
from vlmdesc.classification.heads.neighborhood import Choice, Neighborhood, Texts, pool_of
from vlmdesc.classification.select import prune, tell_apart
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptor, Selection

ZOO = Descriptors.of({"hen": ["comb", "beak"], "owl": ["disc"], "eel": ["fins"], "cat": ["fur", "tail", "beak"]})
PROFILE = np.float32(
    [
        # comb, beak, disc, fins, fur, tail
        [0.5, 0.4, 0.1, 0.0, 0.2, 0.1],
        [0.1, 0.3, 0.6, 0.0, 0.2, 0.1],
        [np.nan] * 6,
        [0.1, 0.0, 0.1, 0.0, 0.7, 0.4],
    ]
)


def found(m=5, profile=PROFILE):
    said, own = pool_of(ZOO)
    nothing = np.zeros((len(own), 2), np.float32)
    texts = Texts(nothing, np.zeros((len(said), 2), np.float32), own, tuple(c.name for c in ZOO.classes), tuple(said))
    return Neighborhood(HeadCard("neighborhood", ZOO.classes, "fake-1"), texts, Choice(3, m, 1.0), profile)


def selection(candidates, picked=None, fallback=None):
    candidates = np.array(candidates, np.int32)
    picked = np.full((*candidates.shape, 1), -1, np.int32) if picked is None else np.array(picked, np.int32)
    fallback = np.zeros(candidates.shape, bool) if fallback is None else np.array(fallback)
    return Selection(candidates, picked, fallback)


def test_the_first_two_candidates_are_counted_in_any_order_the_most_frequent_first():
    chosen = selection([[3, 1, 0], [0, 3, 1], [1, 3, 0], [0, 1, 3], [3, 0, 1], [3, 1, 2]])
    pairs = tell_apart(found(), chosen)
    # owl and cat three times, hen and cat twice, hen and owl once; a third candidate does not count
    assert [(p.a, p.b, p.images) for p in pairs] == [("owl", "cat", 3), ("hen", "cat", 2), ("hen", "owl", 1)]
    pairs = tell_apart(found(), selection([[3, 1], [3, 0], [1, 0]]))  # as frequent: in class order
    assert [(p.a, p.b) for p in pairs] == [("hen", "owl"), ("hen", "cat"), ("owl", "cat")]


def test_pairs_with_a_class_without_reference_are_left_out():
    pairs = tell_apart(found(), selection([[2, 0], [2, 0], [3, 2], [0, 1]]))
    assert [(p.a, p.b, p.images) for p in pairs] == [("hen", "owl", 1)]


def test_leads_by_hand():
    """Of hen less owl: comb 0.4, beak 0.1, disc -0.5, the rest 0, which is no lead."""
    [pair] = tell_apart(found(), selection([[1, 0]]))
    assert [(hit.key, hit.text, round(hit.score, 3)) for hit in pair.of_a] == [("0", "comb", 0.4), ("1", "beak", 0.1)]
    assert [(hit.key, hit.text, round(hit.score, 3)) for hit in pair.of_b] == [("2", "disc", 0.5)]
    [pair] = tell_apart(found(m=1), selection([[0, 3]]))  # cat less hen: fur 0.5, tail 0.3; one of them each
    assert [hit.text for hit in pair.of_a] == ["comb"] and [hit.text for hit in pair.of_b] == ["fur"]


def test_of_equal_leads_the_earlier_text_comes_first():
    level = np.float32([[0.3, 0.1, 0.3, 0.3, 0, 0], [0, 0, 0, 0, 0, 0], [0] * 6, [0] * 6])
    [pair] = tell_apart(found(m=2, profile=level), selection([[0, 1]]))
    assert [hit.text for hit in pair.of_a] == ["comb", "disc"] and pair.of_b == ()


def test_what_has_no_profile_tells_nothing_apart_and_one_candidate_has_no_other():
    with pytest.raises(InputError, match="nothing was selected"):
        tell_apart(found(profile=None), selection([[0, 1]]))
    assert tell_apart(found(), selection([[0], [1]])) == ()


def texts_by_class(descriptors):
    return {c.id: [r.text for r in descriptors.rows if r.class_id == c.id] for c in descriptors.classes}


def test_pruned_by_hand():
    """Beak and fur are picked for hen, of which beak is its own; comb only stood in. disc is picked for owl. eel was
    never a candidate, cat only ever fell back, and what is picked for cat is fins.
    """
    chosen = selection(
        [[0, 1], [0, 3], [3, 0]],
        [[[1, 4], [4, 2]], [[1, -1], [4, 5]], [[3, -1], [0, 1]]],
        [[False, False], [False, True], [False, True]],
    )
    kept = prune(ZOO, found().texts, chosen)
    assert texts_by_class(kept) == {
        "hen": ["beak"], "owl": ["disc"], "eel": ["fins"], "cat": ["fur", "tail", "beak"],
    }  # fmt: skip
    assert kept.classes == ZOO.classes


def test_rows_that_are_kept_are_whole_and_what_does_not_count_stays():
    rows = (
        Descriptor("a", "stripes", 0.5, origin="user"),
        Descriptor("a", "off", enabled=False),
        Descriptor("a", "d"),
        Descriptor("b", "c"),
    )
    given_ = Descriptors((ClassName("a", "A", ("x",)), ClassName("b", "B")), rows, {"by": "me"})
    said, own = pool_of(given_)
    none = np.zeros((2, 2), np.float32)
    texts = Texts(none, np.zeros((len(said), 2), np.float32), own, ("A", "B"), tuple(said))
    kept = prune(given_, texts, selection([[1, 0]], [[[0], [0]]]))
    assert kept.rows == (*rows[:2], rows[3])
    assert kept.classes == given_.classes and kept.meta == {"by": "me"}


def test_a_row_that_is_switched_off_stays_where_another_class_has_its_text():
    rows = (Descriptor("a", "wings", enabled=False), Descriptor("a", "bill"), Descriptor("a", "tail"))
    birds = Descriptors((ClassName("a", "a"), ClassName("b", "b")), (*rows, Descriptor("b", "wings")))
    said, own = pool_of(birds)
    none = np.zeros((2, 2), np.float32)
    texts = Texts(none, np.zeros((len(said), 2), np.float32), own, ("a", "b"), tuple(said))
    bill, tail, wings = (said.index(text) for text in ("bill", "tail", "wings"))
    assert prune(birds, texts, selection([[0, 1]], [[[bill], [wings]]])).rows == (*rows[:2], birds.rows[3])
    borrowed = prune(birds, texts, selection([[0, 1]], [[[wings], [tail]]]))  # for a nothing of its own is picked
    assert borrowed.rows == birds.rows


@given(st.data())
def test_pruned_is_a_subset_by_what_was_told(data):
    n, k, m = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    said, _ = pool_of(ZOO)
    orders = [data.draw(st.permutations(range(4)))[:k] for _ in range(n)]
    told = st.lists(st.integers(0, len(said) - 1), unique=True, max_size=m)
    picks = [[data.draw(told) for _ in range(k)] for _ in range(n)]
    fallback = [[data.draw(st.booleans()) for _ in range(k)] for _ in range(n)]
    padded = [[some + [-1] * (m - len(some)) for some in row] for row in picks]
    chosen = Selection(
        np.array(orders, np.int32).reshape(n, k),
        np.array(padded, np.int32).reshape(n, k, m),
        np.array(fallback, bool).reshape(n, k),
    )
    kept = prune(ZOO, found().texts, chosen)
    each = {(orders[i][j], said[d]) for i in range(n) for j in range(k) if not fallback[i][j] for d in picks[i][j]}
    for c, class_ in enumerate(ZOO.classes):
        own = texts_by_class(ZOO)[class_.id]
        assert texts_by_class(kept)[class_.id] == ([text for text in own if (c, text) in each] or own)
