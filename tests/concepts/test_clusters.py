import numpy as np
import pytest

from tests.concepts.test_index import MODEL
from tests.concepts.test_nearest import unit
from tests.concepts.test_rows import rows_for
from vlmdesc.concepts import clusters as module
from vlmdesc.concepts.clusters import EXAMPLES, WORDS, background, clusters, concepts
from vlmdesc.concepts.index import create
from vlmdesc.concepts.naming import frame
from vlmdesc.errors import InputError

SIZES = {"hen": 30, "owl": 20, "cat": 10}
NAMES = (*SIZES, "dog", "cow")
DIM = 16


def normed(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def index_of(folder, vectors, labels=None):
    return create(folder, vectors, rows_for((f"/{i}.png" for i in range(len(vectors))), labels), MODEL, vectors[:0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where indexes of this module may be made, with a cache folder of its own."""
    folder = tmp_path_factory.mktemp("clusters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLMDESC_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def kinds():
    """Unit vectors of five things, of which three are shown; apart from them what is common to images and to texts."""
    return np.linalg.qr(np.random.default_rng(3).standard_normal((DIM, DIM)))[0][: len(NAMES) + 2].astype(np.float32)


@pytest.fixture(scope="module")
def index(folder, kinds):
    """30 hens, 20 owls and 10 cats, shuffled."""
    rng = np.random.default_rng(0)
    own = rng.permutation(np.repeat(np.arange(3), [*SIZES.values()]))
    vectors = normed(1.5 * kinds[5] + kinds[own] + 0.3 * unit(60, 1, DIM))
    return index_of(folder / "planted", vectors, [NAMES[kind] for kind in own])


@pytest.fixture(scope="module")
def words(index, kinds):
    """The frame of the five words and the index."""
    return frame(normed(1.5 * kinds[6] + kinds[:5]), background(index))


def partition(found):
    return {tuple(found.rows[found.number == number].tolist()) for number in {*found.number.tolist()}}


def planted(index):
    labels = np.array(index.rows.column("label"))
    return {tuple(np.flatnonzero(labels == name).tolist()) for name in SIZES}


def test_planted_clusters_are_found_whatever_the_seed(index):
    for seed in range(12):
        found = clusters(index, 3, seed)
        assert partition(found) == planted(index) and found.rows.tolist() == [*range(60)]
    assert clusters(index, 7, 5).number.tolist() == clusters(index, 7, 5).number.tolist()


def test_closeness_is_the_cosine_to_the_centre_about_the_mean(index):
    found, vectors = clusters(index, 3), index.nearest.vectors(np.arange(60))
    about = normed(vectors - vectors.mean(axis=0))
    for number in range(3):
        members = found.number == number
        centre = normed(about[members].mean(axis=0, keepdims=True))[0]
        assert found.closeness[members] == pytest.approx(about[members] @ centre, abs=1e-3)


def test_concepts_are_named_largest_first_and_shown_by_their_middle(index, words):
    found = clusters(index, 3)
    shown = concepts(index, found, NAMES, words)
    assert [concept.index for concept in shown] == [0, 1, 2]
    assert [concept.names[0].text for concept in shown] == [*SIZES]
    assert [concept.density for concept in shown] == [30 / 60, 20 / 60, 10 / 60]
    for concept, name in zip(shown, SIZES, strict=True):
        assert concept.named and concept.chance <= 0.05
        assert {hit.text for hit in concept.examples} == {name} and len(concept.examples) == EXAMPLES
        rows = [int(hit.key[1:-4]) for hit in concept.examples]
        assert [hit.score for hit in concept.examples] == pytest.approx(found.closeness[rows].tolist())
        members = np.array(index.rows.column("label")) == name
        assert [hit.score for hit in concept.examples] == pytest.approx(-np.sort(-found.closeness[members])[:EXAMPLES])
        mean = index.nearest.vectors(np.flatnonzero(members)).mean(axis=0)
        assert concept.direction == pytest.approx(mean, abs=1e-6) and not concept.direction.flags.writeable
        assert [hit.text for hit in concept.names[:1]] == [name] and len(concept.names) == WORDS
        assert concept.margin == pytest.approx(concept.names[0].score - concept.names[1].score)
        assert -1 <= concept.stability <= 1


def test_as_many_words_as_are_wanted(index, words):
    found = clusters(index, 3)
    for top in (1, 2, 32):
        assert {len(concept.names) for concept in concepts(index, found, NAMES, words, top=top)} == {min(top, 5)}


def test_names_of_parts_are_unique_or_not(index, words):
    """Nine clusters of three things have no nine names of five words."""
    found = clusters(index, 9)
    repeated = concepts(index, found, NAMES, words, unique=False)
    assert {concept.names[0].text for concept in repeated if concept.named} == {*SIZES}
    assert sum(concept.named for concept in repeated) > 3
    given = [concept.names[0].text for concept in concepts(index, found, NAMES, words) if concept.named]
    assert len(given) == len({*given}) and {*SIZES} <= {*given}


@pytest.mark.parametrize("k", [1, 2, 3, 7, 60])
def test_every_picture_is_in_one_cluster(index, words, k):
    found = clusters(index, k, 1)
    shown = concepts(index, found, NAMES, words)
    assert len(shown) <= k and sum(concept.density for concept in shown) == pytest.approx(1)
    assert [concept.density for concept in shown] == sorted((c.density for c in shown), reverse=True)
    assert len(found.rows) == len(found.number) == len(found.closeness) == 60
    sizes = sorted(np.unique(found.number, return_counts=True)[1].tolist(), reverse=True)
    assert [round(60 * concept.density) for concept in shown] == sizes
    groups = {frozenset(f"/{row}.png" for row in rows) for rows in partition(found)}
    for concept in shown:
        [own] = [group for group in groups if concept.examples[0].key in group]
        assert {hit.key for hit in concept.examples} <= own and len(concept.examples) == min(EXAMPLES, len(own))
        groups.remove(own)
    assert not groups


def test_one_cluster_for_all_and_one_for_each(index):
    assert not clusters(index, 1).number.any()
    assert len({*clusters(index, 60).number.tolist()}) == 60


@pytest.mark.parametrize("k", [0, 61])
def test_more_clusters_than_pictures_or_none_are_refused(index, k):
    with pytest.raises(InputError, match=f"{k} clusters of 60 vectors.*ask for fewer"):
        clusters(index, k)


def test_pictures_that_are_all_the_same(folder):
    same = index_of(folder / "same", np.repeat(unit(1, dim=DIM), 6, axis=0))
    for k in (1, 3):
        shown = concepts(same, clusters(same, k), NAMES, frame(unit(5, 2, DIM), background(same)))
        assert sum(concept.density for concept in shown) == pytest.approx(1)
        assert np.isfinite([hit.score for concept in shown for hit in (*concept.names, *concept.examples)]).all()


def test_of_many_pictures_some_are_drawn(index, words, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 40)
    found = clusters(index, 3)
    assert len({*found.rows.tolist()}) == 40 and found.rows.tolist() == sorted(found.rows.tolist())
    assert len(found.number) == len(found.closeness) == 40
    assert found.rows.tolist() != clusters(index, 3, 1).rows.tolist()
    assert partition(found) == {tuple(r for r in rows if r in found.rows) for rows in planted(index)}
    shown = concepts(index, found, NAMES, words)
    assert {concept.names[0].text for concept in shown} == {*SIZES} and sum(c.density for c in shown) == 1
    assert all({hit.text} == {concept.names[0].text} for concept in shown for hit in concept.examples)
    with pytest.raises(InputError, match="41 clusters of 40 vectors"):
        clusters(index, 41)


def test_the_background_is_all_or_some_drawn(index, monkeypatch):
    every = index.nearest.vectors(np.arange(60))
    assert np.array_equal(background(index), every)
    monkeypatch.setattr(module, "BACKGROUND", 20)
    some = background(index)
    at = [int(np.flatnonzero((every == vector).all(axis=1))[0]) for vector in some]
    assert len({*at}) == 20 and at == sorted(at)
    assert np.array_equal(background(index), some) and not np.array_equal(background(index, 1), some)
