import dataclasses
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlmdesc.assets import shipped, shipped_sets
from vlmdesc.descriptors.checks import NEAR
from vlmdesc.descriptors.lint import CHECKS, lint
from vlmdesc.descriptors.mend import MENDS, mend, unnamed
from vlmdesc.descriptors.tidy import trimmed, unmarked
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptor, Descriptors
from vlmdesc.testing import FakeEncoder

ZEBRA = ["black and white stripes", "a short upright mane"]
SENTENCES = {"generated": {"form": "sentences"}}

# For each code that looks at one text: texts it must find, and texts much like them that it must leave alone.
TEXTS = {
    "empty": (["", " ... ", "🐔"], ["3", "x-shaped tail"]),
    "class-name": (
        ["a hen with a red comb", "red HEN feathers", "the hens' feet", "hen_coop behind it", "a chicken-like body"],
        ["a brown heron", "seen when resting", "a ram's horns", "a chick beside it"],
    ),
    "not-visual": (
        [
            "a loud chirping call",
            "a loud, buzzing sound",
            "distinctive song",
            "a lot of noise",
            "a sweet, cinnamon-like taste",
            "coffee-flavored",
            "a strong, pungent scent",
            "the smell of coffee",
            "fragrant flowers",
            "can be sticky to the touch",
            "has a weight of about 20 ounces",
            "served hot or cold",
            "nocturnal",
            "active at night",
            "live in social groups",
            "used for transportation",
            "the base is used to support the cup",
            "often used by knights and soldiers",
            "designed to hold back water",
            "can be found in North America",
            "Native to South America",
            "first introduced in 1967",
            "may be expensive",
            "very popular among children",
            "considered a delicacy",
            "symbolic meaning",
            "durable and reliable",
        ],
        [
            "rough brown bark",
            "a round sound hole",
            "a sweet pepper beside it",
            "a hot dog in a bun",
            "a brass trumpet",
            "a whistle on a cord",
            "a dark back",
            "a bell around the neck",
            "heavy brows",
            "a heavy build",
            "sharp edges",
            "smooth",
            "soft fur",
            "a loud orange print",
            "an open mouth, as in a roar",
            "sour cream on top",
            "a bottled fragrance",
            "price tags on the shelves",
            "often found in coops",
            "found in Japanese gardens",
            "two claws, used for crushing",
            "used bandages on the floor",
            "solitary flowers",
            "a box-shaped device that plays sound",
            "a warm brown coat",
            "live plants",
            "a bushy plant with a strong scent",
            "a friendly face",
            "a distinctive tone",
            "popular posters on the wall",
            "said to look like a face",
            "two cups that help us drink",
            "weight numbers on the ends",
        ],
    ),
    "language": (
        ["красный гребень", "赤いとさか", "eine Henne mit einem roten Kamm", "un oiseau avec un bec et des plumes"],
        ["crème brûlée, café au lait", "an Ω-shaped mark", "the fleur de lis of a coat of arms", "a naïve façade"],
    ),
    "markup": (
        [
            "- a red comb",
            "* a red comb",
            "• a red comb",
            "1. a red comb",
            "2) a red comb",
            "**a red comb**",
            "**Comb:** red",
            "a *red* comb",
            "a `red` comb",
            "a <b>red</b> comb",
            "salt &amp; pepper feathers",
            '"a red comb"',
            "“a red comb”",
            "[a red comb](http://example.org)",
        ],
        [
            "5*3 holes",
            "1.5 m tall",
            "less than <3 cm wide",
            "salt & pepper feathers",
            '"A" and "B" on the sides',
            "black-and-white feathers",
            "snake_case_label on it",
            "shape: a round body",
            "'s curve",
        ],
    ),
    "trailing-junk": (
        [
            "a red comb.",
            "a red comb,",
            "a red comb -",
            "a red comb…",
            ", a red comb",
            "a red comb (small",
            'a red "comb',
            "a red comb and",
            "red feathers with",
            "a beak like a",
            "carpets on the floor for",
        ],
        [
            "a red comb (small)",
            'a tail 12" long',
            "18” wheels",
            "a perch to sit on",
            "a tree it hangs from",
            "meat mixed in",
            "a basin for soaking in",
            "feathers all over",
            "soap, towels, etc.",
            "a flag of the U.S.",
            "-5 printed on it",
            "similar houses close by",
        ],
    ),
    "one-word": (["antennae", "long-tailed"], ["a comb", "red comb"]),
    "run-on": (
        [
            "a red comb. It has feathers.",
            " ".join(["red"] * 16),
        ],
        ["a St. Bernard beside it", " ".join(["red"] * 15)],
    ),
    "clause": (
        [
            "antennae on the head",
            "arms and hands",
            "candles on top",
            "hash browns",
            "mayonnaise on it",
            "oftentimes red",
        ],
        [
            "a comb",
            "an eye",
            "all black",
            "around the neck",
            "has a comb",
            "can be red",
            "used for tea",
            "Antennae here",
        ],
    ),
}


def found(descriptors, code, **options):
    return [f for f in lint(descriptors, **options) if f.code == code]


def hen(*texts, meta=None):
    """Two classes; the first is hen, with aliases."""
    classes = (ClassName("1", "hen", ("chicken", "ram", "hen, chicken")), ClassName("2", "zebra"))
    rows = (*(Descriptor("1", text) for text in texts), *(Descriptor("2", text) for text in ZEBRA))
    return Descriptors(classes, rows, meta or {})


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, (hits, _) in TEXTS.items() for text in hits])
def test_a_text_is_found(code, text):
    [finding] = found(hen("a red comb on top", text), code)
    assert (finding.row, finding.class_id, finding.text) == (1, "1", text) and finding.what and finding.remedy


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, (_, misses) in TEXTS.items() for text in misses])
def test_a_text_much_like_these_is_left_alone(code, text):
    assert not found(hen("a red comb on top", text), code)


def test_every_code_is_tested():
    of_sets = {"empty-class", "duplicate", "shared", "same-set", "too-long", "near-duplicate"}
    assert TEXTS.keys() | of_sets == CHECKS.keys()


def test_a_set_without_fault_has_no_findings():
    assert lint(hen("a red comb", "brown feathers"), FakeEncoder()) == ()


@pytest.mark.parametrize("rows", [(), ("",), ("off",), ("weightless",)])
def test_a_class_is_empty_when_no_row_of_it_counts_and_says_something(rows):
    off = {"off": {"enabled": False}, "weightless": {"weight": 0.0}}
    rows = tuple(Descriptor("1", text and "a red comb", **off.get(text, {})) for text in rows)
    descriptors = Descriptors(
        (ClassName("1", "hen"), ClassName("2", "zebra")), (*rows, Descriptor("2", "black stripes"))
    )
    [finding] = found(descriptors, "empty-class")
    assert (finding.class_id, finding.row, finding.text) == ("1", None, "")


def test_duplicates_are_named_after_the_first_which_is_not_reported():
    descriptors = Descriptors.of(
        {"hen": ["a red comb", "A Red  comb.", "the red comb", "red combs"], "cat": ["red comb"]}
    )
    assert [(f.row, f.what) for f in found(descriptors, "duplicate")] == [
        (1, "says the same as row 0, 'a red comb'"),
        (2, "says the same as row 0, 'a red comb'"),
    ]


def test_shared_names_five_other_classes_and_each_row_once():
    descriptors = Descriptors.of({name: ["a tail", f"a {name}-like ear"] for name in "abcdefg"})
    findings = found(descriptors, "shared")
    assert [f.row for f in findings] == [0, 2, 4, 6, 8, 10, 12]
    assert findings[1].what == "also describes a, c, d, e, f, ..."
    assert not found(Descriptors.of({"a": ["a tail", "a tail"], "b": ["tails"]}), "shared")


def test_classes_with_equal_sets_are_one_finding():
    texts = {"a": ["a tail", "red"], "b": ["Red.", "the tail"], "c": ["red"], "d": ["red", "a tail", "red"], "e": []}
    descriptors = Descriptors.of({**texts, "f": []})  # e and f are empty, which is another finding
    [finding] = found(descriptors, "same-set")
    assert (finding.class_id, finding.row, finding.what) == ("a", None, "has the same descriptors as b, d")


def test_findings_about_classes_come_first_and_in_their_order():
    descriptors = Descriptors.of({"b": ["red", "a tail"], "a": ["a tail", "red"], "c": [], "d": ["blue."]})
    places = [(f.class_id, f.code) for f in lint(descriptors, ignore=["shared", "one-word"])]
    assert places == [("b", "same-set"), ("c", "empty-class"), ("d", "trailing-junk")]


@pytest.mark.parametrize(
    ("name", "text", "is_in"),
    [
        ("kite (bird of prey)", "a kite in flight", True),
        ("kite (bird of prey)", "a large bird of prey", False),
        ("polar_bear", "a white polar bear", True),
        ("polar_bear", "a polar landscape", False),
        ("swim trunks / shorts", "two swim trunks on a line", True),
        ("tights", "a tight knit", False),
        ("cherry", "cherries on top", True),
        ("glass", "brass rims", False),
        ("a", "a red comb", False),
    ],
)
def test_names_as_words(name, text, is_in):
    assert bool(found(Descriptors.of({name: [text], "zebra": ZEBRA}), "class-name")) == is_in


def test_sentences_may_name_their_class_and_end_in_a_full_stop():
    sentence = "A photo of a hen with a red comb and brown feathers, which stands on straw in a yard near a barn."
    codes = {f.code for f in lint(hen(sentence))}
    assert {"class-name", "trailing-junk", "run-on"} <= codes
    assert lint(hen(sentence, meta=SENTENCES)) == ()
    assert {f.code for f in lint(hen("A hen with a comb and.", "A hen with.", meta=SENTENCES))} == {"trailing-junk"}
    assert trimmed("A hen with a comb and.", sentence=True) == "A hen with a comb."


def test_language_is_judged_by_class_and_told_of_its_first_row():
    german = ["a red comb", "ein roter Kamm", "Federn mit einem Muster", "ein Auge und der Schnabel"]
    [finding] = found(hen(*german), "language")
    assert finding.row == 1 and "German" in finding.what
    assert not found(hen("a comb on the head of it", "a coat of arms with the", "ein Kamm und"), "language")
    assert not found(Descriptors.of({"flag": ["fleur de lis", "red stripes"]}), "language")  # one word is not enough


def test_too_long_says_how_much_and_what_is_lost():
    words = " ".join(f"w{i}" for i in range(80))
    [finding] = found(hen("a red comb", words), "too-long", tower=FakeEncoder())
    # "hen, which has" and 80 words, begin and end: 85; 77 less begin and end less 3 leaves w0 to w71
    assert finding.row == 1 and "has 85 tokens" in finding.what and "'w72'" in finding.what and "77" in finding.what
    exact = " ".join(f"w{i}" for i in range(75))
    assert found(hen(exact), "too-long", tower=FakeEncoder())
    assert not found(hen(exact), "too-long", tower=FakeEncoder(), phrase="free")
    assert not found(hen(words), "too-long")


class Angles:
    """A tower whose texts, all "N degrees", are the unit vectors at that angle."""

    name, context_length = "angles", 77

    def texts(self, texts):
        angles = np.radians([float(text.split()[0]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def n_tokens(self, text):
        return len(text)


def test_near_duplicates_are_the_later_rows_of_a_class():
    limit = float(np.degrees(np.arccos(NEAR)))
    near, far = f"{limit - 0.1} degrees", f"{-limit - 0.1} degrees"
    descriptors = Descriptors.of({"hen": ["0 degrees", "The 0 degrees", near, far], "cat": ["0.5 degrees"]})
    descriptors = dataclasses.replace(descriptors, rows=tuple(r for r in descriptors.rows if r.text != "The 0 degrees"))
    assert [(f.row, f.what[:32]) for f in found(descriptors, "near-duplicate", tower=Angles())] == [
        (1, "says nearly the same as row 0, '")
    ]


@pytest.mark.slow
def test_near_is_between_rewording_and_another_meaning(starter):
    reworded, other = ["large ears", "big ears"], ["two wheels", "four wheels", "a long tail", "a short tail"]
    assert [f.row for f in found(Descriptors.of({"a": reworded, "b": other}), "near-duplicate", tower=starter)] == [1]


def test_exact_duplicates_are_not_near_duplicates_too():
    descriptors = hen("a red comb", "A red comb.", "bright red crest")
    assert [f.row for f in found(descriptors, "near-duplicate", tower=FakeEncoder())] == [2]
    assert not found(descriptors, "near-duplicate")


def test_what_to_ignore_and_to_word_must_be_known():
    assert not lint(hen("antennae"), ignore=["clause", "one-word"])
    with pytest.raises(InputError, match="did you mean 'clause'"):
        lint(hen(), ignore=["claus"])
    with pytest.raises(InputError, match="unknown phrase"):
        lint(hen(), phrase="plane")


@pytest.mark.parametrize("name", shipped_sets())
def test_shipped_sets_keep_to_the_lint(name):
    """Words that only the published wording misreads, and a few shared ones, are known and wanted."""
    codes = {f.code for f in lint(Descriptors.load(shipped(f"descriptors/{name}.json")))}
    assert codes <= {"clause", "shared"}


def test_published_sets_have_the_faults_they_are_known_for(shared):
    published = Descriptors.load(shared / "published-descriptors" / "descriptors_imagenet.json")
    wrong = {(f.code, f.text) for f in lint(published)}
    for text in ("loud, guttural calls", "a sour or acidic taste", "used for drinking wine, beer, or other beverages"):
        assert ("not-visual", text) in wrong
    assert {("clause", "antennae"), ("one-word", "antennae"), ("class-name", "a honeycomb structure")} <= wrong
    # seen one by one: nearly all tell of a use
    assert sum(code == "not-visual" for code, _ in wrong) < 150


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("- **Shape:** a round body", "a round body"),
        ("**Large ears**: grey and round", "Large ears: grey and round"),
        ("3. `a` <i>red</i> comb &amp; &quot;wattles&quot;", 'a red comb & "wattles"'),
        ("&amp;amp; more", "& more"),
        ("a&#10;b&#0;c&nbsp;d &#x7f; e", "a b\ufffdc d e"),
        ("“a \u2018red\u2019 comb”", "a \u2018red\u2019 comb"),
        ("'a hen's comb'", "a hen's comb"),
        ("a red comb", "a red comb"),
    ],
)
def test_text_without_markup(text, clean):
    assert unmarked(text) == clean and unmarked(clean) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("located in the", "located"),
        ("a beak like a", "a beak like"),
        ("a red comb, and", "a red comb"),
        (") a (red comb -- ", "a red comb"),
        ("and", ""),
        (" a red comb ", " a red comb "),
    ],
)
def test_text_without_ragged_ends(text, clean):
    assert trimmed(text) == clean and trimmed(clean) == clean


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("a hen has a red comb", "a red comb"),
        ("Hens have red combs", "red combs"),
        ("the hen is a farm bird", "a farm bird"),
        ("a hen with brown feathers", "brown feathers"),
        ("a hen, which has a red comb", "a red comb"),
        ("the hen's red comb", "a red comb"),
        ("the hen's glossy plumage", "glossy plumage"),
        ("the hens' brown feathers", "brown feathers"),
        ("a hen may have a red comb", "may have a red comb"),
        ("chickens typically have feathers", "typically have feathers"),
        # what remains would not read well, would not say enough, or would still name the class
        ("a red hen", None),
        ("a hen sitting on eggs", None),
        ("the hen is red", None),
        ("a hen has been plucked", None),
        ("a hen with a hen behind it", None),
        ("henna has a red colour", None),
    ],
)
def test_a_name_is_taken_out_only_where_the_rest_reads_well(text, after):
    assert unnamed(text, ClassName("1", "hen", ("chicken",))) == (after or text)


def test_mending_drops_cleans_and_leaves_the_rest():
    texts = [
        "a red comb",
        "- a red comb",
        "🐔",
        "a loud call",
        "a hen has brown feathers,",
        "antennae",
        "red hen or",
    ]
    descriptors = hen(*texts, meta={"name": "birds"})
    mended, changes = mend(descriptors, lint(descriptors))
    assert [row.text for row in mended.rows] == ["a red comb", "brown feathers", "antennae", "red hen", *ZEBRA]
    assert mended.classes == descriptors.classes and mended.meta == descriptors.meta
    assert [(c.row, c.code, c.before, c.after) for c in changes] == [
        (1, "markup", "- a red comb", "a red comb"),
        (1, "duplicate", "a red comb", None),  # brought to light by the cleaning
        (2, "empty", "🐔", None),
        (3, "not-visual", "a loud call", None),
        (4, "trailing-junk", "a hen has brown feathers,", "a hen has brown feathers"),
        (4, "class-name", "a hen has brown feathers", "brown feathers"),
        (6, "trailing-junk", "red hen or", "red hen"),
    ]
    assert [(f.code, f.text) for f in lint(mended)] == [
        ("clause", "antennae"),
        ("one-word", "antennae"),
        ("class-name", "red hen"),
    ]


def test_mending_leaves_what_is_ignored():
    descriptors = hen("a red comb", "- a red comb", "a loud call")
    ignore = ["duplicate", "not-visual"]
    mended, _ = mend(descriptors, lint(descriptors, ignore=ignore), ignore)
    assert [row.text for row in mended.rows] == ["a red comb", "a red comb", "a loud call", *ZEBRA]


@pytest.mark.parametrize(
    ("texts", "last"),
    [
        (["a loud call"], "a loud call"),
        (["", "a loud call"], "a loud call"),
        (["a loud call", "a loud call", "nocturnal"], "nocturnal"),
        (["- a loud call"], "a loud call"),
        (["."], "."),
    ],
)
def test_a_class_keeps_its_last_descriptor(texts, last):
    descriptors = hen(*texts)
    mended, _ = mend(descriptors, lint(descriptors))
    assert [row.text for row in mended.rows] == [last, *ZEBRA]


def test_a_row_that_does_not_count_saves_no_class_and_is_not_touched_when_off():
    rows = (
        Descriptor("1", "a red comb", weight=0.0),
        Descriptor("1", "a loud call"),
        Descriptor("1", "- x", enabled=False),
    )
    descriptors = Descriptors((ClassName("1", "hen"),), rows)
    assert mend(descriptors, lint(descriptors)) == (descriptors, ())


PIECES = (
    "- |* |1. |• |**|__|*|`|<b>|</b>|<|>|&amp;|&|&#10;|&lt;b&gt;|“|”|'|(|)|[|]|](x)|.|,|…|-|\u2013| |  |etc.|U.S.|"
    "a |the |and |with |of |is |It is red. |hen|Hen's |hens |hen has |zebra|red|comb|antennae |candles |loud call|"
    "a smell|used for |in North America|very |nocturnal|\u200f|\u202e|🐔|\u0301|é|ß|İ|ª|Ω|гребень|とさか|ein |mit |"
    '**Shape:** |**Comb:** |"|12"'
).split("|")
ODD = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30)
TEXT = st.lists(st.sampled_from(PIECES) | ODD, max_size=8).map(lambda pieces: "".join(pieces)[:500])
NAME = (
    st.sampled_from(["hen", "Hens", "polar_bear", "kite (bird)", "x", "🐔", "a / b", "[b]\u202e", "鶏", "<b>", "the"])
    | ODD
)


@st.composite
def sets(draw):
    names = draw(st.lists(NAME.filter(str.strip), min_size=1, max_size=3))
    classes = tuple(ClassName(str(i), name, (name[::-1] or "x",)) for i, name in enumerate(names))
    row = st.builds(
        Descriptor,
        st.sampled_from([c.id for c in classes]),
        TEXT,
        weight=st.sampled_from([1.0, 1.0, 2.0, 0.0]),
        enabled=st.sampled_from([True, True, True, False]),
        origin=st.just("user"),
    )
    return Descriptors(classes, tuple(draw(st.lists(row, max_size=8))), draw(st.sampled_from([{}, SENTENCES])))


@given(sets())
def test_lint_takes_any_set_and_keeps_its_order(descriptors):
    findings = lint(descriptors, FakeEncoder())
    assert findings == lint(descriptors, FakeEncoder())
    json.dumps([dataclasses.asdict(f) for f in findings])
    ranks = [
        (f.row is not None, descriptors.position[f.class_id] if f.row is None else f.row, f.code) for f in findings
    ]
    assert ranks == sorted(ranks)
    assert all(descriptors.rows[f.row].enabled and f.what for f in findings if f.row is not None)
    assert [f for f in findings if f.code not in ("shared", "clause")] == [
        *lint(descriptors, FakeEncoder(), ignore=["shared", "clause"])
    ]


@given(sets())
@example(Descriptors.of({"hen": ["the hen's - red comb", "red comb"]}))
@example(Descriptors.of({"hen": ["**Shape:** **", "&lt;b&gt;", "“"]}))
def test_mending_again_changes_nothing_and_leaves_only_what_it_must(descriptors):
    mended, changes = mend(descriptors, lint(descriptors))
    left = lint(mended)
    assert mend(mended, left) == (mended, ())
    assert mended.classes == descriptors.classes and mended.meta == descriptors.meta
    dropped = {c.row for c in changes if c.after is None}
    kept = [row for m, row in enumerate(descriptors.rows) if m not in dropped]
    assert [dataclasses.replace(row, text="") for row in mended.rows] == [
        dataclasses.replace(row, text="") for row in kept
    ]
    for id_ in descriptors.position:
        counting = [row for row in mended.rows if row.class_id == id_ and row.enabled and row.weight > 0]
        assert counting or not any(r.class_id == id_ and r.enabled and r.weight > 0 for r in descriptors.rows)
        spared = len(counting) < 2
        codes = {f.code for f in left if f.class_id == id_} & (MENDS.keys() - {"class-name"})
        assert spared or not codes


@given(
    st.permutations(
        ["a red comb", "brown feathers", "two scaly yellow legs", "straw or soil beneath it", "a short beak"]
    )
)
def test_clean_rows_stay_clean(texts):
    descriptors = hen(*texts)
    assert lint(descriptors) == () and mend(descriptors, ()) == (descriptors, ())


@given(TEXT)
def test_a_cleaned_text_is_shorter_and_stays_clean(text):
    for clean in (unmarked(text), trimmed(text), trimmed(text, sentence=True)):
        assert len(clean) <= len(text)
    assert unmarked(unmarked(text)) == unmarked(text)
    assert trimmed(trimmed(text)) == trimmed(text)
    once = trimmed(text, sentence=True)
    assert trimmed(once, sentence=True) == once
