import numpy as np
import pytest

from tests.concepts.test_index import create
from tests.concepts.test_nearest import unit
from tests.concepts.test_rows import rows_for
from vlmdesc.concepts import clusters as module
from vlmdesc.concepts.clusters import EXAMPLES, WORDS, Clusters, background, clusters, name_clusters
from vlmdesc.concepts.naming import frame
from vlmdesc.errors import InputError

KINDS = "hen owl cat dog cow bee ant elk".split()
SIZES = [12, 11, 10, 9, 8, 7, 6, 3]
N, DIM = sum(SIZES), 16
NAMES = (*KINDS, "car", "bus")
AXES = np.linalg.qr(np.random.default_rng(3).standard_normal((DIM, DIM)))[0]  # a name's, the images', and the texts'


def normed(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def shown_by(own, seed=1):
    """Images of things by their numbers: about what is common to all, a little off their own axis."""
    return normed(1.5 * AXES[10] + AXES[own] + 0.3 * unit(len(own), seed, DIM))


def index_of(folder, vectors, labels=None):
    return create(folder, vectors, rows_for((f"/{i}.png" for i in range(len(vectors))), labels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where indexes of this module may be made, with a cache folder of its own."""
    folder = tmp_path_factory.mktemp("clusters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLMDESC_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def index(folder):
    """Eight kinds of things, some of them more often, shuffled."""
    own = np.random.default_rng(0).permutation(np.repeat(np.arange(8), SIZES))
    return index_of(folder / "planted", shown_by(own), [KINDS[kind] for kind in own])


@pytest.fixture(scope="module")
def words(index):
    return frame(normed(1.5 * AXES[11] + AXES[: len(NAMES)]), background(index))


@pytest.fixture(scope="module")
def planted(index):
    """The clusters as they ought to be, numbered in no order; the lower a row, the closer."""
    number = np.array([(3 * KINDS.index(label) + 1) % 8 for label in index.rows.column("label")])
    return Clusters(np.arange(N), number, np.linspace(1, 0.5, N, dtype=np.float32))


def partition(found):
    return {frozenset(found.rows[found.number == number].tolist()) for number in {*found.number.tolist()}}


def numbers(hits):
    """The rows of hits."""
    return [int(hit.key[1:-4]) for hit in hits]


def test_two_kinds_are_found_whatever_the_seed(folder):
    own = np.arange(40) % 2
    two = index_of(folder / "two", shown_by(own))
    for seed in range(10):
        found = clusters(two, 2, seed)
        assert partition(found) == {frozenset(range(0, 40, 2)), frozenset(range(1, 40, 2))}
        assert found.rows.tolist() == [*range(40)]


def test_clusters_are_better_than_chance_and_depend_on_the_seed_alone(index):
    labels = np.array(index.rows.column("label"))
    for seed in range(5):
        found, again = clusters(index, 12, seed), clusters(index, 12, seed)
        assert found.number.tolist() == again.number.tolist()
        most = [np.unique(labels[found.number == c], return_counts=True)[1].max() for c in {*found.number.tolist()}]
        assert sum(most) / N > 0.85
    assert found.number.tolist() != clusters(index, 12, 0).number.tolist()


def test_closeness_is_the_cosine_to_the_centre_about_the_mean(index):
    found, vectors = clusters(index, 5), index.nearest.vectors(np.arange(N))
    about = normed(vectors - vectors.mean(axis=0))
    for number in range(5):
        members = found.number == number
        centre = normed(about[members].mean(axis=0, keepdims=True))[0]
        assert found.closeness[members] == pytest.approx(about[members] @ centre, abs=1e-3)


def test_concepts_are_named_largest_first_and_shown_by_their_middle(index, words, planted):
    shown = name_clusters(index, planted, NAMES, words).concepts
    assert [concept.index for concept in shown] == [*range(8)]
    assert [concept.names[0].text for concept in shown] == KINDS
    assert [concept.density for concept in shown] == [size / N for size in SIZES]
    for concept, name, size in zip(shown, KINDS, SIZES, strict=True):
        members = np.flatnonzero(np.array(index.rows.column("label")) == name)
        assert concept.named and concept.chance <= 0.05 and len(concept.names) == WORDS
        assert concept.margin == pytest.approx(concept.names[0].score - concept.names[1].score)
        assert -1 <= concept.stability <= 1
        assert numbers(concept.examples) == members[: min(EXAMPLES, size)].tolist()
        assert {hit.text for hit in concept.examples} == {name}
        assert [hit.score for hit in concept.examples] == planted.closeness[numbers(concept.examples)].tolist()
        mean = index.nearest.vectors(members).mean(axis=0)
        assert concept.direction == pytest.approx(mean, abs=1e-6) and not concept.direction.flags.writeable


def test_names_of_parts_are_unique_or_not(index, words, planted):
    """Each kind in two halves: sixteen clusters of eight things and ten words."""
    halves = Clusters(planted.rows, 2 * planted.number + np.arange(N) % 2, planted.closeness)
    repeated = [c.names[0].text for c in name_clusters(index, halves, NAMES, words, unique=False).concepts if c.named]
    assert {*repeated} == {*KINDS} and len(repeated) > 12
    given = [c.names[0].text for c in name_clusters(index, halves, NAMES, words, unique=True).concepts if c.named]
    assert len(given) == len({*given}) and {*KINDS} <= {*given}


@pytest.mark.parametrize("k", [1, 2, 5, 20, N])
def test_every_image_is_in_one_cluster(index, words, k):
    found = clusters(index, k, 1)
    shown = name_clusters(index, found, NAMES, words).concepts
    assert len(found.rows) == len(found.number) == len(found.closeness) == N
    assert len(shown) <= k and sum(concept.density for concept in shown) == pytest.approx(1)
    groups = partition(found)
    assert [round(N * concept.density) for concept in shown] == sorted(map(len, groups), reverse=True)
    for concept in shown:
        [own] = [group for group in groups if numbers(concept.examples)[0] in group]
        assert {*numbers(concept.examples)} <= own and len(concept.examples) == min(EXAMPLES, len(own))
        assert len(own) == round(N * concept.density)
        groups.remove(own)
    assert not groups


@pytest.mark.parametrize("k", [0, N + 1])
def test_more_clusters_than_images_or_none_are_refused(index, k):
    with pytest.raises(InputError, match=f"{k} clusters of {N} .*ask for fewer"):
        clusters(index, k)


def test_images_that_are_all_the_same(folder):
    same = index_of(folder / "same", np.repeat(unit(1, dim=DIM), 6, axis=0))
    for k in (1, 3):
        shown = name_clusters(same, clusters(same, k), NAMES[:5], frame(unit(5, 2, DIM), background(same))).concepts
        assert sum(concept.density for concept in shown) == pytest.approx(1)
        assert np.isfinite([hit.score for concept in shown for hit in (*concept.names, *concept.examples)]).all()


def test_of_many_images_some_are_drawn(index, words, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 30)
    found = clusters(index, 6)
    assert len({*found.rows.tolist()}) == 30 and found.rows.tolist() == sorted(found.rows.tolist())
    assert len(found.number) == len(found.closeness) == 30
    assert found.rows.tolist() == clusters(index, 6).rows.tolist() != clusters(index, 6, 1).rows.tolist()
    shown, groups = name_clusters(index, found, NAMES, words).concepts, partition(found)
    assert sum(concept.density for concept in shown) == pytest.approx(1)
    for concept in shown:
        [own] = [group for group in groups if numbers(concept.examples)[0] in group]
        assert {*numbers(concept.examples)} <= own and concept.density == len(own) / 30
        mean = index.nearest.vectors(np.array(sorted(own))).mean(axis=0)
        assert concept.direction == pytest.approx(mean, abs=1e-6)
        labels = index.rows.column("label", numbers(concept.examples))
        assert [hit.text for hit in concept.examples] == labels
    with pytest.raises(InputError, match="31 clusters of 30 "):
        clusters(index, 31)


def test_the_background_is_all_or_some_drawn(index, monkeypatch):
    every = index.nearest.vectors(np.arange(N))
    assert np.array_equal(background(index), every)
    monkeypatch.setattr(module, "BACKGROUND", 20)
    some = background(index)
    at = [int(np.flatnonzero((every == vector).all(axis=1))[0]) for vector in some]
    assert len({*at}) == 20 and at == sorted(at)
    assert np.array_equal(background(index), some) and not np.array_equal(background(index, 1), some)
