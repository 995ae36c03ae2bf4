import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc.descriptors.phrase import PHRASES, clause, get_phrase, name_phrase, plain, texts
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptor, Descriptors


@pytest.mark.parametrize(
    ("descriptor", "published"),
    [  # the first rule that matches: a -> "which is", has/often/typically/may/can -> "which", used -> "which is", ...
        ("a red comb", "hen, which is a red comb"),
        ("an orange beak", "hen, which is an orange beak"),
        ("antennae", "hen, which is antennae"),
        ("has two legs", "hen, which has two legs"),
        ("often seen in yards", "hen, which often seen in yards"),
        ("typically brown", "hen, which typically brown"),
        ("may have spots", "hen, which may have spots"),
        ("mayonnaise", "hen, which mayonnaise"),
        ("can fly", "hen, which can fly"),
        ("candles", "hen, which candles"),
        ("used for eggs", "hen, which is used for eggs"),
        ("two wings", "hen, which has two wings"),
        ("usually brown", "hen, which has usually brown"),
        ("", "hen, which has "),
    ],
)
def test_dclip_is_the_published_rule(descriptor, published):
    assert PHRASES["dclip"].say("hen", descriptor) == published
    assert PHRASES["dclip-imagenet"].say("hen", descriptor) == published + "."


@pytest.mark.parametrize(
    ("descriptor", "grammatical"),
    [
        ("a red comb", "which has a red comb"),
        ("antennae", "which has antennae"),
        ("almond-shaped eyes", "which has almond-shaped eyes"),
        ("candles on top", "which has candles on top"),
        ("mayonnaise", "which has mayonnaise"),
        ("a freshwater fish", "which is a freshwater fish"),
        ("large, flightless bird", "which is a large, flightless bird"),
        ("a rustic vehicle drawn by cattle", "which is a rustic vehicle drawn by cattle"),
        ("olive green or brown in color", "which is olive green or brown in color"),
        ("made of wood", "which is made of wood"),
        ("used for cutting", "which is used for cutting"),
        ("often has spots", "which often has spots"),
        ("often brown", "which is often brown"),
        ("usually found in trees", "which is usually found in trees"),
        ("can be red or green", "which can be red or green"),
        ("has wings", "which has wings"),
        ("with a long beak", "with a long beak"),
        ("long tail", "which has a long tail"),
        ("black", "which is black"),
        ("stands on one leg", "which stands on one leg"),
        ("a piece of furniture for sleeping", "which is a piece of furniture for sleeping"),
        ("brown fur.", "which has brown fur"),
        ("covers made of wood", "which has covers made of wood"),
        ("covers the eyes", "which covers the eyes"),
        ("wings folded along the body", "which has wings folded along the body"),
        ("large and pointed at the tip", "which is large and pointed at the tip"),
    ],
)
def test_plain_fits_the_grammar_of_the_descriptor(descriptor, grammatical):
    assert clause(descriptor) == grammatical


def test_other_phrases():
    assert PHRASES["disclip"].say("hen", "a red comb") == "A photo of a hen, a red comb."
    assert PHRASES["disclip"].say("hen", "") == "A photo of a hen."
    assert PHRASES["free"].say("hen", "a red comb") == "a red comb"
    assert PHRASES["name"].say("polar_bear", "white fur") == "polar bear"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("apple", "a photo of an apple."),
        ("European fire salamander", "a photo of a European fire salamander."),
        ("umbrella", "a photo of an umbrella."),
        ("unicycle", "a photo of a unicycle."),
        ("ukulele", "a photo of a ukulele."),
        ("hourglass", "a photo of an hourglass."),
        ("horse", "a photo of a horse."),
        ("an old shoe", "a photo of an old shoe."),
        ("the Eiffel tower", "a photo of the Eiffel tower."),
        ("iPod", "a photo of an iPod."),
        ("8-ball", "a photo of an 8-ball."),
        ("SUV", "a photo of an SUV."),
        ("T-shirt", "a photo of a T-shirt."),
    ],
)
def test_articles(name, said):
    assert name_phrase("a photo of a {c}.")(name, "ignored") == said


def test_templates_without_an_article_and_braces_in_names():
    assert name_phrase("{c} in the wild")("owl", "") == "owl in the wild"
    assert name_phrase("An image of a {c}")("{c}", "") == "An image of a {c}"
    assert get_phrase("name:This is {c}!").say("us", "") == "This is us!"


@given(st.text(min_size=1, max_size=40), st.text(max_size=60))
def test_every_phrase_takes_any_text_and_keeps_what_it_reads(name, descriptor):
    for phrase in PHRASES.values():
        said = phrase.say(name, descriptor)
        if phrase.reads_name:
            assert name.replace("_", " ") in said
        if phrase.reads_descriptor:
            assert descriptor.strip().removesuffix(".") in said


@given(st.text(max_size=40))
def test_an_empty_descriptor_stands_for_the_name(name):
    assert plain(name, "") == plain(name, " . ") == name.replace("_", " ")


def test_unknown_phrases_suggest():
    with pytest.raises(InputError, match="did you mean 'plain'"):
        get_phrase("plian")
    with pytest.raises(InputError, match=r'needs one "{c}"'):
        get_phrase("name:a photo")
    with pytest.raises(InputError, match="needs one"):
        get_phrase("name:{c} or {c}")
    with pytest.raises(InputError, match=r"U\+DCE9"):
        get_phrase("name:caf\udce9 {c}")


def test_texts_follow_the_rows_and_the_names():
    classes = (ClassName("n1", "crane"), ClassName("n2", "crane"))
    descriptors = Descriptors(classes, (Descriptor("n2", "a hook"), Descriptor("n1", "long legs")))
    assert texts(descriptors, PHRASES["plain"]) == ["crane, which has a hook", "crane, which has long legs"]
