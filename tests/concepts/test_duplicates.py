from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.concepts.test_index import create
from tests.concepts.test_nearest import low
from tests.concepts.test_rows import rows_for
from tests.concepts.test_search import wheel
from vlmdesc.concepts import duplicates as module
from vlmdesc.concepts import nearest
from vlmdesc.records.progress import silent


def index_of(folder, vectors, contents=None, **options):
    rows = rows_for((f"/{i}.png" for i in range(len(vectors))), contents=contents)
    return create(folder, vectors, rows, **options)


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """An index, to put other vectors and rows into."""
    folder = tmp_path_factory.mktemp("copies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLMDESC_CACHE", str(folder / "cache"))
        return index_of(folder / "i", wheel(0))


def copies(index, threshold=module.NEAR, progress=silent):
    return index.duplicates(threshold, progress).groups


def groups(found):
    return [list(group.rows) for group in found]


def apart(found):
    """The groups, each with the degrees that its similarity is the cosine of."""
    return [(group.rows, round(float(np.degrees(np.arccos(min(group.similarity, 1)))), 1)) for group in found]


def test_near_ones_by_hand(tmp_path):
    index = index_of(tmp_path / "i", wheel(0, 90, 10, 180, 95, 200))  # cosines: 10 degrees 0.985, 5 0.996, 20 0.940
    assert apart(copies(index)) == [((0, 2), 10), ((1, 4), 5)]
    assert groups(copies(index, 0.99)) == [[1, 4]]
    assert copies(index, 0.999) == ()
    assert apart(copies(index, 0.93)) == [((0, 2), 10), ((1, 4), 5), ((3, 5), 20)]


def test_equal_contents_are_found_whatever_the_threshold(tmp_path):
    index = index_of(tmp_path / "i", wheel(0, 90, 0, 180, 90, 0), contents="abacba")
    for threshold in (0.5, 1.0, 2.0):
        found = index.duplicates(threshold)
        assert [(group.rows, group.ids, group.similarity) for group in found.groups] == [
            ((0, 2, 5), ("/0.png", "/2.png", "/5.png"), 1.0),
            ((1, 4), ("/1.png", "/4.png"), 1.0),
        ]
        assert found.to_dict()[1] == {"similarity": 1.0, "ids": ["/1.png", "/4.png"]}


def test_chains_are_one_group_and_the_largest_comes_first(tmp_path):
    index = index_of(tmp_path / "i", wheel(300, 302, 0, 10, 22, 40, 33, 100))
    found = copies(index, 0.975)  # 12.8 degrees at most
    assert apart(found) == [((2, 3, 4, 5, 6), 11), ((0, 1), 2)]  # from 22 to 33; the others have a nearer one
    assert groups(copies(index, 0.99)) == [[0, 1], [5, 6]]  # 8.1 degrees


def test_a_copy_of_a_near_one_belongs_to_both(tmp_path):
    index = index_of(tmp_path / "i", wheel(0, 10, 0, 90), contents="abac")
    assert apart(copies(index)) == [((0, 1, 2), 10)]
    assert apart(copies(index, 0.99)) == [((0, 2), 0)]


@given(
    st.lists(st.tuples(st.integers(0, 17), st.integers(0, 9)), min_size=1, max_size=14), st.sampled_from([15, 25, 45])
)
@settings(max_examples=40, deadline=None)
def test_groups_are_what_links_connect(some, said, degrees):
    at, names = dict(said), np.array([content for content, _ in said])
    angles = np.array([20 * at[content] for content in names])
    vectors, rows = wheel(*angles), rows_for((f"/{i}.png" for i in range(len(said))), contents=names)
    index = replace(some, nearest=nearest.build(vectors, vectors[:0]), rows=rows)
    near = np.abs((angles[:, None] - angles + 180) % 360 - 180) <= degrees
    linked = near | (names[:, None] == names)
    for _ in names:
        linked = linked @ linked
    wanted = {tuple(np.flatnonzero(row).tolist()) for row in linked if row.sum() > 1}
    found = copies(index, float(np.cos(np.radians(degrees))))
    assert {group.rows for group in found} == wanted and len(found) == len(wanted)
    assert [len(group.rows) for group in found] == sorted((len(group.rows) for group in found), reverse=True)
    assert all(group.similarity >= np.cos(np.radians(degrees)) - 1e-6 for group in found)


@pytest.mark.parametrize("recall", [0.8, 1.0])
def test_many_are_looked_at_some_at_a_time(tmp_path, monkeypatch, recall):
    monkeypatch.setattr(module, "BLOCK", 80)
    monkeypatch.setattr(nearest, "EXACT_ROWS", 500)
    vectors, done = low(900), []
    twins = vectors[:60] + 0.01 * low(60, 1)
    index = index_of(
        tmp_path / "i", np.vstack([vectors, twins / np.linalg.norm(twins, axis=1, keepdims=True)]), recall=recall
    )
    assert bool(index.nearest.probes) == (recall < 1)
    found = copies(index, 0.999, lambda stage, n, total: done.append((n, total)))
    assert done == [(n, 960) for n in range(0, 970, 10)]
    group_of = {row: number for number, group in enumerate(found) for row in group.rows}
    together = [row in group_of and group_of[row] == group_of.get(900 + row) for row in range(60)]
    assert all(together) if recall == 1 else np.mean(together) > 0.8
    assert all(0.999 <= group.similarity <= 1 for group in found)
