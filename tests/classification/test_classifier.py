import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageSequence
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import vlmdesc as vd
from vlmdesc import Classifier, Descriptors
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import ImageError, InputError, ModelError, ShapeError, VlmdescWarning
from vlmdesc.records import ClassName, Descriptor
from vlmdesc.testing import COLOURS, FakeEncoder, label_vectors

ZOO = Descriptors.of(
    {"flamingo": ["pink feathers", "long pink legs"], "frog": ["green skin"], "raven": ["black wings", "a black bill"]}
)


def solid(colour, size=(20, 20)):
    return Image.new("RGB", size, COLOURS[colour])


@pytest.fixture
def zoo():
    return Classifier(FakeEncoder(), ZOO)


def test_one_picture_as_path_bytes_or_image_gives_the_same(zoo, tmp_path):
    path = tmp_path / "frog.png"
    solid("green").save(path)
    found = [zoo(source) for source in (path, str(path), path.read_bytes(), solid("green"))]
    assert {prediction.ranked[0].text for prediction in found} == {"frog"}
    assert found[0].ranked == found[2].ranked == found[3].ranked
    assert found[0].key == str(path)
    assert [hit.text for hit in found[0].because] == ["green skin"]
    assert found[0].margin == pytest.approx(found[0].ranked[0].score - found[0].ranked[1].score)


def test_a_classifier_goes_to_another_process_and_is_used_in_threads(tmp_path):
    kept = Classifier(FakeEncoder(), ZOO, store=Store(tmp_path))
    images = [solid(colour) for colour in ("black", "pink", "green")]
    wanted = kept(images)
    again = pickle.loads(pickle.dumps(kept))
    with ThreadPoolExecutor(4) as pool:
        assert all(found == wanted for found in pool.map(lambda _: again(images), range(16)))


def test_a_broken_picture_is_raised_by_call_and_passed_on_by_stream(zoo):
    sources = [solid("pink"), b"broken", solid("green")]
    with pytest.raises(ImageError, match="not an image"):
        zoo(sources)
    found = list(zoo.stream(iter(sources), batch_size=2))
    assert isinstance(found[1], ImageError)
    assert [p.ranked[0].text for p in found if not isinstance(p, ImageError)] == ["flamingo", "frog"]


def test_top_k_and_reasons_limit_what_is_kept(zoo):
    found = zoo(solid("pink"), top_k=1, reasons=1)
    assert len(found.ranked) == len(found.because) == 1
    assert found.margin > 0  # to the second, though it is not kept
    assert zoo(solid("pink"), top_k=99, reasons=0).because == ()
    assert len(zoo(solid("pink"), top_k=99).ranked) == 3


@pytest.mark.parametrize("pool", ["mean", "max", "renormalized"])
def test_against_sets_the_winner_against_a_class(pool):
    zoo = Classifier(FakeEncoder(), ZOO, head=pool)
    found = zoo(solid("pink"), against="raven").contrast
    assert (found.a.text, found.b.text) == ("flamingo", "raven")
    assert sum(hit.score for hit in (*found.of_a, *found.of_b)) == pytest.approx(found.margin, abs=1e-5)
    runner_up = zoo(solid("pink")).ranked[1].text
    assert zoo(solid("pink"), against="flamingo").contrast.b.text == runner_up
    with pytest.raises(InputError, match="did you mean 'raven'"):
        zoo(solid("pink"), against="ravne")


def test_two_classes_of_one_name_stay_two():
    classes = (ClassName("n1", "crane"), ClassName("n2", "crane"))
    cranes = Descriptors(classes, (Descriptor("n1", "white feathers"), Descriptor("n2", "a yellow jib")))
    found = Classifier(FakeEncoder(), cranes)([solid("white"), solid("yellow")])
    assert [(p.ranked[0].key, p.ranked[0].text) for p in found] == [("n1", "crane"), ("n2", "crane")]


def test_names_alone_are_enough():
    found = Classifier(FakeEncoder(), Descriptors.of({"red": [], "blue": []}), phrase="name:a {c} door")(solid("blue"))
    assert found.ranked[0].text == "blue"
    assert [hit.text for hit in found.because] == ["a blue door"]


def test_the_name_phrase_leaves_descriptors_out():
    swapped = Descriptors.of({"red": ["blue"], "blue": ["red"]})
    assert Classifier(FakeEncoder(), swapped, phrase="name")(solid("blue")).ranked[0].text == "blue"
    assert Classifier(FakeEncoder(), swapped, phrase="free")(solid("blue")).ranked[0].text == "red"


def test_a_class_without_descriptors_is_scored_by_name_and_said():
    half = Descriptors.of({"green": [], "raven": ["black wings"]})
    classifier = Classifier(FakeEncoder(), half)
    assert classifier.notes == ("1 class without a descriptor, scored by name: green",)
    assert classifier(solid("green")).ranked[0].text == "green"
    with pytest.raises(InputError, match="leaves the name out"):
        Classifier(FakeEncoder(), half, phrase="free")
    with pytest.raises(InputError, match="leaves the name out"):
        Classifier(FakeEncoder(), Descriptors.of({"green": [""], "raven": ["black wings"]}), phrase="free")


def test_a_text_longer_than_the_encoder_reads_is_named_with_its_length():
    long = Descriptors.of({"hen": ["red " * 90], "frog": ["green skin"]})
    [note] = Classifier(FakeEncoder(), long).notes
    assert note.startswith("fake reads 77 of the 95 tokens of 'hen, which")


def test_no_classes_and_unknown_choices():
    with pytest.raises(InputError, match="no classes"):
        Classifier(FakeEncoder(), Descriptors((), ()))
    with pytest.raises(InputError, match="unknown phrase"):
        Classifier(FakeEncoder(), ZOO, phrase="fancy")
    with pytest.raises(InputError, match="unknown pooling"):
        Classifier(FakeEncoder(), ZOO, head="sum")


def test_notes_of_the_picture_reach_the_prediction(zoo):
    out = io.BytesIO()
    solid("green").save(out, "GIF", save_all=True, append_images=[solid("pink")])
    assert zoo(out.getvalue()).notes == ("several frames: the first is used",)


def test_scores_do_not_depend_on_batch_or_company(zoo):
    alone = zoo(solid("pink")).ranked
    crowd = list(zoo.stream([solid(c) for c in ("green", "pink", "black")], batch_size=2))[1].ranked
    assert np.allclose([h.score for h in alone], [h.score for h in crowd], atol=1e-6)


def test_one_class_and_names_that_read_the_same_are_noted():
    cranes = Descriptors((ClassName("n1", "crane"), ClassName("n2", "crane")), ())  # by name nothing tells them apart
    dogs = {"Dog": ["brown fur"], " dog ": ["black fur"]}
    for given, said in (({"hen": ["a red comb"]}, "one class only"), (dogs, "'Dog' and ' dog '"), (cranes, "id 'n2'")):
        [note] = Classifier(FakeEncoder(), given).notes
        assert said in note


@pytest.mark.parametrize("options", [{"top_k": 0}, {"reasons": -1}, {"batch_size": 0}])
def test_numbers_out_of_range_are_refused(zoo, options):
    with pytest.raises(InputError, match="fix: use"):
        list(zoo.stream([solid("red")], **options))


def test_an_image_that_its_owner_moves_on_is_read_in_time(zoo):
    """ImageSequence gives one object again and again, each time at another frame."""
    out = io.BytesIO()
    frames = [solid(colour) for colour in ("pink", "green", "black", "pink", "green", "black")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    found = zoo(ImageSequence.Iterator(Image.open(out)))
    assert [prediction.ranked[0].text for prediction in found] == ["flamingo", "frog", "raven"] * 2


# The habits of scikit-learn, and what goes in and comes out

COLOUR = {"flamingo": "pink", "frog": "green", "raven": "black"}
IMAGES, LABELS = [solid(colour) for colour in COLOUR.values()] * 2, [*COLOUR] * 2


def test_names_stand_for_an_encoder_and_for_descriptors_and_the_store_spares_a_second_look(monkeypatch, tmp_path):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path))
    first = Classifier("fake", {"frog": ["green skin"], "raven": ["black wings"]})(IMAGES[1])
    assert first.ranked[0].text == "frog" and [*tmp_path.iterdir()]
    monkeypatch.setattr(FakeEncoder, "forward", lambda *_: pytest.fail("encoded"))
    assert Classifier("fake", {"frog": ["green skin"], "raven": ["black wings"]})(IMAGES[1]) == first
    with pytest.raises(InputError, match="where an encoder is meant"):
        Classifier(lambda: "fake", ZOO)


def test_predictions_are_ids_probabilities_and_an_accuracy(zoo):
    vectors = FakeEncoder().images(IMAGES)
    assert zoo.classes_.tolist() == [*COLOUR] and zoo.predict(IMAGES).tolist() == LABELS
    assert accuracy_score(LABELS, zoo.predict(vectors)) == 1
    assert zoo.predict(vd.Embeddings(vectors, tuple(map(str, range(6))), "fake-1")).tolist() == LABELS
    assert zoo.score(IMAGES, LABELS) == zoo.score(vectors, [0, 1, 2] * 2) == 1
    assert zoo.score(vectors, ["frog"] * 6) == pytest.approx(1 / 3)
    assert zoo.predict([]).tolist() == []
    for labels in (LABELS[1:], []):
        with pytest.raises(ShapeError, match="give each image its label"):
            zoo.score(IMAGES, labels)
    for number in (-1, 3):
        with pytest.raises(InputError, match="number no class"):
            zoo.score(vectors, [number] * 6)


def test_probabilities_are_a_softmax_at_the_head_s_temperature(zoo):
    """By hand: exp of the score over the temperature."""
    vectors = FakeEncoder().images(IMAGES)
    with pytest.warns(VlmdescWarning, match=r"no temperature was fitted: probabilities are at 0\.01"):
        default = zoo.predict_proba(IMAGES)
    for temperature, found in ((0.01, default), (0.5, None)):
        if found is None:
            card = replace(zoo.head.card, temperature=temperature)
            found = Classifier(FakeEncoder(), ZOO, replace(zoo.head, card=card)).predict_proba(vectors)
        odds = np.exp(zoo.scores(vectors).astype(float) / temperature)
        assert found == pytest.approx(odds / odds.sum(axis=1, keepdims=True)) and found.sum() == pytest.approx(6)


def test_what_is_fitted_to_may_be_images_or_embeddings_and_labels_names_or_numbers(zoo):
    vectors, broken = FakeEncoder().images(IMAGES[:3]), [b"broken", *IMAGES]
    wanted = zoo.fit(vectors, np.arange(3)).scores(vectors)
    frames = vd.Embeddings(vectors, ("a", "b", "c"), "fake-1")
    for data, labels in ((vectors, LABELS[:3]), (IMAGES, LABELS), (IMAGES, [0, 1, 2] * 2), (frames, LABELS[:3])):
        assert np.array_equal(zoo.fit(data, labels).scores(vectors), wanted)  # a copy teaches once
    fitted = zoo.fit(broken, ["frog", *LABELS])
    assert np.array_equal(fitted.scores(vectors), wanted) and [error.code for error in fitted.failed] == [
        "not-an-image"
    ]
    assert zoo.failed == ()
    with pytest.raises(ShapeError, match="6 images, 5 labels"):
        zoo.fit(IMAGES, LABELS[:5])
    with pytest.raises(ModelError, match="other-1"):
        zoo.fit(vd.Embeddings(vectors, ("a", "b", "c"), "other-1"), LABELS[:3])


def test_labelled_embeddings_of_another_encoder_or_of_other_classes_are_refused(zoo):
    plain = label_vectors(FakeEncoder().images(IMAGES[:3]), [0, 1, 2])
    assert zoo.fit(replace(plain, encoder="fake-1", classes=ZOO.classes)).score(IMAGES, LABELS) == 1
    with pytest.raises(ModelError, match="other-1"):
        zoo.fit(replace(plain, encoder="other-1"))
    for classes in (ZOO.classes[::-1], ZOO.classes[:2]):
        with pytest.raises(InputError, match="made for other classes"):
            zoo.fit(replace(plain, classes=classes))


def test_a_classifier_is_a_step_of_a_pipeline(zoo):
    pipeline = make_pipeline(FunctionTransformer(lambda paths: paths), zoo.fit(IMAGES, LABELS))
    assert pipeline.predict(IMAGES).tolist() == LABELS and pipeline.score(IMAGES, LABELS) == 1
    with pytest.raises(InputError, match="estimator"):  # it would be passed over that it does not learn in place
        clone(zoo)
    swapped = ["frog", "raven", "flamingo"] * 2  # it learns
    learning = make_pipeline(FunctionTransformer(lambda paths: paths), zoo.estimator())
    assert learning.fit(IMAGES, swapped).predict(IMAGES).tolist() == swapped
    assert clone(learning).predict(IMAGES).tolist() == zoo.predict(IMAGES).tolist() == LABELS
    rows = FakeEncoder().images(IMAGES)
    assert cross_val_score(zoo.estimator("neighborhood"), rows, LABELS, cv=2).tolist() == [1, 1]
    assert clone(zoo.estimator()).set_params(head="neighborhood").get_params()["head"] == "neighborhood"


def test_predictions_as_a_table_as_json_and_in_a_notebook(zoo):
    found = zoo(IMAGES[:2], against=True)
    table = vd.to_frame(found)
    assert table["class"].tolist() == ["flamingo", "frog"] and table["because"][1] == "green skin"
    assert table["score"].tolist() == [prediction.ranked[0].score for prediction in found]
    assert len(vd.to_frame(found[0])) == 1 and len(vd.to_frame([])) == 0
    with pytest.raises(InputError, match="where a prediction is meant"):
        vd.to_frame(["frog"])
    line = found[1].to_dict()
    assert list(line) == ["image", "model", "ranked", "because", "margin", "against"] and line["model"] == "fake"
    assert line["against"]["ahead"] == {"class": "frog"} and "green skin" in found[1]._repr_html_()
    assert (
        repr(found[1]).startswith("<Prediction image 1: frog 0.") and repr(zoo) == "<Classifier mean: 3 classes, fake>"
    )
    assert repr(zoo.head) == "<Head mean: 3 classes, fake>" and "flamingo, frog, raven" in zoo.head._repr_html_()
    hostile = Classifier(FakeEncoder(), {"<script>": ["green"], "b": ["red"]})
    assert "<script>" not in hostile(IMAGES[1])._repr_html_() + hostile._repr_html_()
