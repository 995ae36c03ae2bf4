from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.classification.test_score import problems, unit
from vlmdesc import Classifier, Descriptors
from vlmdesc.classification import fewshot
from vlmdesc.classification.explain import set_against
from vlmdesc.classification.fewshot import SHARPNESS, FewShot
from vlmdesc.classification.neighborhood import first_of_each, profile
from vlmdesc.classification.reading import ByDescriptors, BySelection, ByShots
from vlmdesc.classification.reference import Choice, Neighborhood, neighborhood, unselected
from vlmdesc.classification.score import POOLS
from vlmdesc.classification.texts import OWN, Texts
from vlmdesc.errors import InputError, ShapeError
from vlmdesc.records import Hit
from vlmdesc.testing import COLOURS, FakeEncoder

ZOO = Descriptors.of(
    {"flamingo": ["pink feathers", "long pink legs"], "frog": ["green skin"], "raven": ["black wings", "a black bill"]}
)


@st.composite
def neighborhoods(draw):
    """A neighbourhood and an image; some classes may have no texts of their own, some no reference images, or all."""
    seed, c, d = draw(st.integers(0, 2**32 - 1)), draw(st.integers(2, 6)), draw(st.integers(2, 9))
    k, m, weight = draw(st.integers(1, c)), draw(st.integers(1, 5)), draw(st.floats(0, 40, width=32))
    owner = np.array(draw(st.lists(st.integers(0, c - 1), min_size=1, max_size=10)))
    labels = np.array(draw(st.lists(st.integers(0, c - 1), max_size=12)), np.intp)
    rng = np.random.default_rng(seed)
    captions, rows, images = (unit(rng.normal(size=(n, d))) for n in (c, len(owner), len(labels)))
    names, said = [f"class {i}" for i in range(c)], [f"text {i}" for i in range(len(owner))]
    texts = Texts(captions, rows, first_of_each(owner, c, OWN), names, said)
    taught = np.ascontiguousarray(profile(images, labels, rows, c).T) if len(labels) else None
    return Neighborhood(texts, Choice(k, m, weight), taught, len(labels)), unit(rng.normal(size=d))


def pair_of_hits(scores, pair):
    return tuple(Hit(str(c), float(scores[c]), f"class {c}") for c in pair)


def contrast(reading, image, pair, hits):
    a, b = (reading.side(image, class_) for class_ in pair)
    return set_against(hits, (a, b))


def adds_up(found, scores, pair, tolerance=1e-5):
    total = sum(hit.score for hit in (*found.of_a, *found.of_b))
    assert total == pytest.approx(float(scores[pair[0]] - scores[pair[1]]), abs=tolerance)
    assert total == pytest.approx(found.margin, abs=tolerance)


@given(neighborhoods(), st.data())
def test_contributions_add_up_to_the_margin_of_any_two_candidates(problem, data):
    found, image = problem
    reading, chosen = BySelection(found), found.select(image[None]).candidates[0].tolist()
    pair = tuple(data.draw(st.sampled_from(chosen)) for _ in range(2))
    scores = reading.scores(image[None])[0]
    tolerance = 1e-5 * (1 + found.choice.name_weight)
    adds_up(contrast(reading, image, pair, pair_of_hits(scores, pair)), scores, pair, tolerance)


@given(problems(), st.sampled_from(sorted(POOLS)), st.floats(0, 50), st.data())
def test_contributions_add_up_with_photographs_too(problem, pool, weight, data):
    images, columns = problem
    if not len(images):
        return
    c, image = columns.n_classes, images[0]
    prototypes = unit(np.random.default_rng(c).normal(size=(c, len(image))))
    bare = data.draw(st.sets(st.integers(0, c - 1)))
    prototypes[[*bare]] = np.nan
    plain = ByDescriptors(columns, pool, [f"text {m}" for m in range(len(columns.owner))])
    reading = ByShots(plain, FewShot(prototypes, weight))
    pair = tuple(data.draw(st.integers(0, c - 1)) for _ in range(2))
    scores = reading.scores(image[None])[0]
    found = contrast(reading, image, pair, pair_of_hits(scores, pair))
    adds_up(found, scores, pair, 1e-5 * (1 + weight))
    for class_, side in zip(pair, (found.of_a, found.of_b), strict=True):
        assert ("(its photographs)" in [hit.text for hit in side]) == (class_ not in bare)
    assert [scores[b] for b in bare] == [plain.scores(image[None])[0, b] for b in bare]


@given(neighborhoods())
def test_reasons_are_the_parts_of_the_score_that_add_to_it_most_first(problem):
    found, image = problem
    selection, scores = found.select(image[None]), found.scores(image[None])[0]
    winner = int(scores.argmax())
    picked = [d for d in selection.picked[0, selection.candidates[0].tolist().index(winner)].tolist() if d >= 0]
    named = float(found.texts.captions[winner] @ image)
    parts = {"name": (found.choice.name_weight + (not picked)) * named}
    parts |= {str(d): float(found.texts.texts[d] @ image) / len(picked) for d in picked}
    assert sum(parts.values()) == pytest.approx(scores[winner], abs=1e-4)
    hits = BySelection(found).because(image, winner)
    shares = [parts[hit.key] for hit in hits]
    assert shares == sorted(shares, reverse=True) or np.allclose(shares, sorted(shares, reverse=True), atol=1e-5)
    assert {hit.key for hit in hits} == ({key for key, share in parts.items() if share > 0} or {*parts})
    for hit in hits:
        similarity = named if hit.key == "name" else found.texts.texts[int(hit.key)] @ image
        assert hit.score == pytest.approx(float(similarity), abs=1e-6)


def test_reasons_by_hand():
    """hen: its name adds 2 * 0.9, comb 0.5 / 2, beak 0.4 / 2; with a weight of 0 the name adds nothing."""
    reading, image = by_hand()
    told = [(hit.key, hit.text, round(hit.score, 6)) for hit in reading.because(image, 0)]
    assert told == [("name", "hen", 0.9), ("0", "comb", 0.5), ("1", "beak", 0.4)]
    reading, _ = by_hand(k=3, weight=0.0)
    assert [hit.text for hit in reading.because(image, 0)] == ["comb", "beak"]
    assert [hit.text for hit in reading.because(-image, 0)] == ["hen", "beak", "comb"]  # all speak against it


def by_hand(k=2, weight=2.0):
    """Captions at 0.9, 0.8, 0.1 to the image (1, 0); texts at 0.5, 0.4 and 0.3, of which class 2 has none."""

    def at(*cosines):
        return np.float32([[x, (1 - x * x) ** 0.5] for x in cosines])

    own = first_of_each(np.array([0, 0, 1]), 3, OWN)
    texts = Texts(at(0.9, 0.8, 0.1), at(0.5, 0.4, 0.3), own, ["hen", "owl", "eel"], ["comb", "beak", "disc"])
    return BySelection(Neighborhood(texts, Choice(k, 2, weight))), np.float32([1, 0])


def test_a_contrast_by_hand():
    """hen: 2 * 0.9 + (0.5 + 0.4) / 2 = 2.25; owl: 2 * 0.8 + 0.3 = 1.9; halfway 2.075.

    The name holds 2 of 3 parts, comb and beak half a part each, disc a whole one: 1.8 - 2/3 * 2.075 = 0.417, and so on.
    """
    reading, image = by_hand()
    found = contrast(reading, image, (0, 1), (Hit("h", 2.25, "hen"), Hit("o", 1.9, "owl")))
    assert [(hit.key, hit.text, round(hit.score, 3)) for hit in found.of_a] == [
        ("name", "hen", 0.417), ("0", "comb", -0.096), ("1", "beak", -0.146),
    ]  # fmt: skip
    assert [(hit.text, round(hit.score, 3)) for hit in found.of_b] == [("disc", 0.392), ("owl", -0.217)]
    assert found.margin == pytest.approx(0.35) and found.a.text == "hen"


def test_a_caption_stands_in_where_there_is_nothing_to_pick():
    """eel: 2 * 0.1 + 0.1 = 0.3, all of it by its name."""
    reading, image = by_hand(k=3)
    assert reading.scores(image[None])[0, 2] == pytest.approx(0.3)
    assert [(hit.key, hit.text, round(hit.score, 6)) for hit in reading.because(image, 2)] == [("name", "eel", 0.1)]
    [only] = contrast(reading, image, (0, 2), (Hit("h", 2.25, "hen"), Hit("e", 0.3, "eel"))).of_b
    assert only.score == pytest.approx(-(0.3 - (2.25 + 0.3) / 2))


def test_the_asked_pair_stays_where_both_are_candidates_and_else_the_first_two_are_set_against_another():
    reading, image = by_hand(k=2)
    assert reading.rivals(image, (1, 0)) == (1, 0)
    assert reading.rivals(image, (0, 2)) == reading.rivals(image, None) == (0, 1)
    assert by_hand(k=3)[0].rivals(image, (0, 2)) == (0, 2)
    assert by_hand(k=1)[0].rivals(image, (0, 1)) is None


def test_rivals_come_by_score_not_by_caption():
    """Without the name: hen 0.45, owl 0.3, and eel stays behind its caption's 0.1."""
    reading, image = by_hand(k=3, weight=0.0)
    found = reading.neighborhood
    turned = replace(found, texts=replace(found.texts, own=found.texts.own[[1, 0, 2]]))  # owl gets comb and beak
    assert reading.rivals(image, None) == (0, 1) and BySelection(turned).rivals(image, None) == (1, 0)


# In a classifier


def seen(*colours):
    """Flat pictures in two colours, half and half, as embeddings."""
    return FakeEncoder().images([picture(*pair) for pair in colours])


def picture(a, b):
    image = Image.new("RGB", (16, 16), COLOURS[a])
    image.paste(COLOURS[b], (0, 0, 16, 8))
    return image


PHOTOS = seen(*[(colour, other) for colour in ("pink", "green", "black") for other in ("white", "blue", colour)])
LABELS = np.repeat(np.arange(3), 3)


def test_a_classifier_that_selects_scores_as_the_neighbourhood_does():
    found = neighborhood(FakeEncoder(), ZOO, PHOTOS, LABELS)
    images = seen(("green", "red"), ("pink", "black"), ("white", "white"))
    classifier = Classifier(FakeEncoder(), ZOO, selection=found)
    assert np.array_equal(classifier.scores(images), found.scores(images))
    prediction = classifier(picture("green", "white"))
    assert prediction.ranked[0].text == "frog" and [hit.text for hit in prediction.because] == ["green skin"]
    assert prediction.contrast.a.text == "frog" and prediction.contrast.b.text == prediction.ranked[1].text
    assert prediction.contrast.margin == pytest.approx(prediction.margin)


def test_against_counts_for_a_selection_where_the_class_is_a_candidate():
    found = neighborhood(FakeEncoder(), ZOO, PHOTOS, LABELS)
    for k, beside in ((3, "raven"), (2, "flamingo")):  # captions without a colour all lie at 0: the first k classes
        narrow = replace(found, choice=replace(found.choice, k=k))
        prediction = Classifier(FakeEncoder(), ZOO, selection=narrow)(picture("green", "green"), against="raven")
        assert (prediction.contrast.a.text, prediction.contrast.b.text) == ("frog", beside)
    alone = replace(found, choice=replace(found.choice, k=1))
    prediction = Classifier(FakeEncoder(), ZOO, selection=alone)(picture("green", "green"), against="raven")
    assert prediction.contrast is None
    assert prediction.notes[-1] == "raven is no candidate of this picture: nothing is set against"


@pytest.mark.parametrize("classes", [("flamingo", "frog"), ("flamingo", "frog", "raven", "hen")])
def test_a_selection_among_another_number_of_classes_is_refused(classes):
    found = neighborhood(FakeEncoder(), ZOO, PHOTOS, LABELS)
    with pytest.raises(ShapeError, match=f"a selection among 3 classes, {len(classes)} classes"):
        Classifier(FakeEncoder(), Descriptors.of({name: ["red"] for name in classes}), selection=found)


@pytest.mark.parametrize("pool", sorted(POOLS))
def test_classes_without_photographs_keep_their_scores_exactly(pool):
    plain = Classifier(FakeEncoder(), ZOO, pool=pool)
    images = seen(("green", "red"), ("pink", "black"), ("white", "white"), ("pink", "pink"))
    before = plain.scores(images)
    taught = plain.learn(PHOTOS[3:6], LABELS[3:6])
    after = taught.scores(images)
    assert np.array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert (after[:, 1] > before[:, 1]).all()
    assert np.array_equal(plain.scores(images), before)  # the classifier that was given is as it was
    assert "(its photographs)" not in [hit.text for hit in plain(picture("green", "white")).because]
    assert "(its photographs)" in [hit.text for hit in taught(picture("green", "white")).because]


def test_photographs_are_a_reason_where_they_are_the_most_similar():
    taught = Classifier(FakeEncoder(), ZOO).learn(PHOTOS[3:5], LABELS[3:5])
    assert taught(picture("green", "white")).because[0].text == "(its photographs)"
    assert taught(picture("green", "green")).because[0].text == "green skin"


def test_new_classes_are_calibrated_and_nothing_else_is():
    """One picture, half orange and half green, of a class that no text tells of, beside frogs and ravens."""
    more = Descriptors.of(
        {c.name: [r.text for r in ZOO.rows if r.class_id == c.id] for c in ZOO.classes} | {"newt": []}
    )
    base, images = PHOTOS[3:], seen(("green", "green"), ("orange", "green"), ("pink", "black"))
    new = seen(("orange", "green"))
    with pytest.warns(UserWarning, match="newt"):
        plain = Classifier(FakeEncoder(), more)
    taught = plain.learn(np.concatenate([base, new]), np.append(LABELS[3:], 3), n_new=1).scores(images)
    alone = Classifier(FakeEncoder(), ZOO).learn(base, LABELS[3:])
    assert taught[:, :3] == pytest.approx(alone.scores(images), abs=1e-6)
    text_scores = Classifier(FakeEncoder(), ZOO).scores(base)
    shots = fewshot.fit(base, LABELS[3:], text_scores)
    moved = fewshot.calibrated(
        new, shots.prototypes[1:], np.array([0.5])
    )  # flamingo has no photographs, and draws nothing
    assert not np.allclose(moved, new, atol=0.05)
    expected = plain.scores(images)[:, 3] + shots.weight * np.exp(SHARPNESS * ((images @ moved.T)[:, 0] - 1))
    assert taught[:, 3] == pytest.approx(expected, abs=1e-6)


def test_new_classes_alone_are_learned_as_they_are():
    only = Classifier(FakeEncoder(), ZOO)
    new, labels = seen(("black", "white")), np.array([2])
    assert np.array_equal(only.learn(new, labels, n_new=1).scores(PHOTOS), only.learn(new, labels).scores(PHOTOS))


def test_what_selects_or_has_learned_does_not_learn():
    selecting = Classifier(FakeEncoder(), ZOO, selection=neighborhood(FakeEncoder(), ZOO, PHOTOS, LABELS))
    for classifier in (selecting, Classifier(FakeEncoder(), ZOO).learn(PHOTOS, LABELS)):
        with pytest.raises(InputError, match="give all photographs to a plain classifier"):
            classifier.learn(PHOTOS, LABELS)
    with pytest.raises(InputError, match="no photographs"):
        Classifier(FakeEncoder(), ZOO).learn(PHOTOS[:0], LABELS[:0])


@pytest.mark.parametrize("labels", [LABELS[:-1], np.append(LABELS[1:], 3), np.append(LABELS[1:], -1)])
@pytest.mark.parametrize("n_new", [0, 1])
def test_photographs_are_not_learned_with_labels_that_do_not_fit(labels, n_new):
    with pytest.raises(ShapeError, match=f"9 images, {len(labels)} labels, 3 classes"):
        Classifier(FakeEncoder(), ZOO).learn(PHOTOS, labels, n_new=n_new)


def test_a_neighbourhood_without_selection_reads_each_class_by_its_own():
    texts = neighborhood(FakeEncoder(), ZOO, PHOTOS, LABELS).texts
    classifier = Classifier(FakeEncoder(), ZOO, selection=unselected(texts, PHOTOS, LABELS))
    told = {hit.text for hit in classifier(picture("black", "black")).because}
    assert told and told <= {"black wings", "a black bill"}
