import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageSequence

from vlmdesc import Classifier, Descriptors
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import ImageError, InputError, VlmdescWarning
from vlmdesc.records import ClassName, Descriptor
from vlmdesc.testing import COLOURS, FakeEncoder

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


def test_many_pictures_give_a_list_in_order(zoo):
    found = zoo(solid(colour) for colour in ("black", "pink", "green"))
    assert [prediction.ranked[0].text for prediction in found] == ["raven", "flamingo", "frog"]
    assert zoo([]) == []


def test_a_broken_picture_is_raised_by_call_and_passed_on_by_stream(zoo):
    sources = [solid("pink"), b"broken", solid("green")]
    with pytest.raises(ImageError, match="not an image"):
        zoo(sources)
    found = list(zoo.stream(sources, batch_size=2))
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


def test_disabled_descriptors_do_not_count():
    classes = (ClassName("a", "a"), ClassName("b", "b"))
    rows = (Descriptor("a", "red", enabled=False), Descriptor("a", "blue"), Descriptor("b", "red"))
    found = Classifier(FakeEncoder(), Descriptors(classes, rows), phrase="free")(solid("red"))
    assert found.ranked[0].text == "b"


def test_a_text_longer_than_the_encoder_reads_is_named_with_its_length():
    long = Descriptors.of({"hen": ["red " * 90], "frog": ["green skin"]})
    with pytest.warns(VlmdescWarning, match=r"fake reads 77 of the 95 tokens of 'hen, which"):
        Classifier(FakeEncoder(), long)


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
