import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.classification.test_score import problems
from vlmdesc.classification.explain import because, set_against, side
from vlmdesc.classification.score import POOLS, Columns
from vlmdesc.records import Hit


@given(problems(), st.sampled_from(sorted(POOLS)), st.data())
def test_contributions_add_up_to_the_margin(problem, pool, data):
    images, columns = problem
    if not len(images):
        return
    a, b = (data.draw(st.integers(0, columns.n_classes - 1)) for _ in range(2))
    scores = POOLS[pool](images[:1], columns)[0]
    hits = (Hit("a", float(scores[a]), "a"), Hit("b", float(scores[b]), "b"))
    said = [str(m) for m in range(len(columns.owner))]
    sides = tuple(side(images[0], class_, pool, columns, said) for class_ in (a, b))
    found = set_against(hits, sides)
    total = sum(hit.score for hit in (*found.of_a, *found.of_b))
    assert total == pytest.approx(found.margin, abs=1e-5)
    assert found.margin == pytest.approx(float(scores[a] - scores[b]), abs=1e-6)


def test_by_hand():
    """Class 0 has similarities 0.9 and 0.5, class 1 has 0.4: halfway between the means 0.7 and 0.4 lies 0.55."""
    columns = Columns(np.float32([[0.9, 0], [0.4, 0], [0.5, 0]]), np.array([0, 1, 0]), np.ones(3, np.float32), 2)
    image, said = np.float32([1, 0]), ["comb", "stripes", "beak"]
    sides = tuple(side(image, class_, "mean", columns, said) for class_ in (0, 1))
    found = set_against((Hit("h", 0.7, "hen"), Hit("z", 0.4, "zebra")), sides)
    assert [(hit.text, round(hit.score, 3)) for hit in found.of_a] == [("comb", 0.175), ("beak", -0.025)]
    assert [(hit.text, round(hit.score, 3)) for hit in found.of_b] == [("stripes", 0.15)]
    assert [(hit.key, hit.text, round(hit.score, 3)) for hit in because(image, 0, columns, said)] == [
        ("0", "comb", 0.9),
        ("2", "beak", 0.5),
    ]


def test_disabled_descriptors_give_no_reasons():
    columns = Columns(np.float32([[0.9, 0], [0.4, 0]]), np.array([0, 0]), np.float32([0, 1]), 1)
    assert [hit.text for hit in because(np.float32([1, 0]), 0, columns, ["off", "on"])] == ["on"]
