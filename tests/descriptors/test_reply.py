import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlmdesc.descriptors.prompts import open_prompt
from vlmdesc.descriptors.reply import clean, read
from vlmdesc.errors import AnswerError
from vlmdesc.records.names import MAX_TEXT, check_text, reads_as

TWO = ["a red comb", "a short beak"]
OURS = json.dumps({"descriptors": TWO})
INDENTED = json.dumps({"descriptors": TWO}, indent=2)
LOST, WHOLE = "x" * (MAX_TEXT + 1), "x" * MAX_TEXT

# Answers about a hen, six descriptors asked for; those without items of their own say TWO.
READ = {
    # JSON of the asked form, and where it stands
    "asked": OURS,
    "indented": INDENTED,
    "bare-list": json.dumps(TWO),
    "fenced": f"```json\n{INDENTED}\n```",
    "fenced-without-language": f"```\n{OURS}\n```",
    "fenced-on-one-line": f"```json {OURS}```",
    "fence-not-closed": f"```json\n{INDENTED}",
    "fence-with-blank-lines": f"```json  \n\n\n{OURS}\n\n```",
    "fenced-in-prose": f"Sure! Here is the list:\n\n```json\n{OURS}\n```\nI hope this helps!",
    "in-prose": f"Of course. {OURS} Let me know if you need more.",
    "list-in-prose": f"The features of a hen are {json.dumps(TWO)}.",
    "after-a-footnote": f"By my sources [1], {OURS}",
    "after-a-slot": f"Filled in {{n}} as 2: {json.dumps(TWO)}",
    "crlf": INDENTED.replace("\n", "\r\n"),
    "fenced-crlf": f"```json\r\n{OURS}\r\n```\r\n",
    "bom": "\ufeff" + OURS,
    "blanks-around": f"\n\n  {OURS}\n\n",
    "twice": f"{OURS}\n{json.dumps({'descriptors': ['brown feathers']})}",
    "one-is-enough": ('{"descriptors": ["a red comb"]}', ["a red comb"]),
    # other keys, objects, nesting
    "key-features": json.dumps({"features": TWO}),
    "key-visual-features": json.dumps({"Visual_Features": TWO}),
    "key-attributes": json.dumps({"attributes": TWO, "count": 2}),
    "key-the-class": json.dumps({"hen": TWO}),
    "key-the-class-in-capitals": json.dumps({" HEN ": TWO}),
    "class-named": json.dumps({"class": "Hen", "descriptors": TWO}),
    "our-key-before-others": json.dumps({"features": ["a loud call"], "descriptors": TWO}),
    "nested": json.dumps({"hen": {"descriptors": TWO}}),
    "nested-deeper": json.dumps({"answer": {"result": {"items": TWO}}}),
    "nested-900-times": '{"list":' * 900 + json.dumps(TWO) + "}" * 900,
    "objects": json.dumps([{"descriptor": TWO[0]}, {"descriptor": TWO[1]}]),
    "objects-under-our-key": json.dumps({"descriptors": [{"id": 1, "text": TWO[0]}, {"id": 2, "text": TWO[1]}]}),
    "objects-with-names": json.dumps([{"name": "comb", "description": TWO[0]}, {"name": TWO[1]}]),
    "objects-with-the-class": json.dumps([{"class": "hen", "text": text} for text in TWO]),
    "numbers-and-null-among-texts": json.dumps({"descriptors": [1, TWO[0], None, True, [], TWO[1], 2.5]}),
    # nearly JSON
    "trailing-comma": '{"descriptors": ["a red comb", "a short beak",],}',
    "trailing-comma-before-a-line": '["a red comb",\n "a short beak",\n]',
    "smart-quotes": "{“descriptors”: [“a red comb”, “a short beak”]}",
    "single-quotes": "{'descriptors': ['a red comb', 'a short beak']}",
    "single-quotes-and-escapes": (r"['the hen\'s comb', 'a 3\" beak']", ["the hen's comb", 'a 3" beak']),
    "apostrophes-and-a-trailing-comma": (
        """{"descriptors": ["the hens', x", "the cats', y",]}""",
        ["the hens', x", "the cats', y"],
    ),
    "escapes": (r'{"descriptors": ["cr\u00e8me feathers", "a \"V\" mark"]}', ["crème feathers", 'a "V" mark']),
    # lists with marks
    **{f"bullet-{mark!r}": f"{mark} a red comb\n{mark} a short beak" for mark in "-*+•‣◦▪\u2013—·●○■◆►➤→✓✔☐"},
    "bullet-check-with-selector": "✔\ufe0f a red comb\n✔\ufe0f a short beak",
    "bullets-without-a-blank": "-a red comb\n-a short beak",
    "bullets-indented": "  - a red comb\n    - a short beak",
    "bullets-after-prose": "A hen has these features:\n\n- a red comb\n- a short beak\n\nThese are typical of hens.",
    "bullets-crlf": "- a red comb\r\n- a short beak\r\n",
    "bullets-fenced": "```\n- a red comb\n- a short beak\n```",
    "bullets-under-headings": "## Head\n- **Parts:**\n  - a red comb\n- Beak:\n  - a short beak",
    "numbers": "1. a red comb\n2. a short beak",
    "numbers-with-brackets": "1) a red comb\n(2) a short beak",
    "numbers-with-colons": "1: a red comb\n2: a short beak",
    "numbers-in-bold": "**1.** a red comb\n**2. a short beak**",
    "numbers-on-keys": "1\ufe0f\u20e3 a red comb\n2\ufe0f\u20e3 a short beak",
    "numbers-in-chinese": "1、a red comb\n2、a short beak",
    "letters": "a) a red comb\n(b) a short beak",
    "letters-in-capitals": "A) a red comb\nB) a short beak",
    "checkboxes": "- [ ] a red comb\n- [x] a short beak",
    "checkboxes-ticked": "* [X] a red comb\n* [x] a short beak",
    "bold": "- **a red comb**\n- __a short beak__",
    "bold-labels": ("- **Comb:** red\n- **Beak**: short", ["Comb: red", "Beak: short"]),
    "code": "- `a red comb`\n- `a short beak`",
    "quoted-items": '- "a red comb",\n- “a short beak”,',
    # lists without marks
    "lines": "a red comb\na short beak",
    "lines-under-a-heading": "Features of a hen:\na red comb\n\na short beak",
    "lines-under-a-bold-heading": "**Features of a hen:**\na red comb\na short beak",
    "lines-under-a-marked-heading": "### Features of a hen\na red comb\na short beak",
    "lines-fenced-as-text": "```text\na red comb\na short beak\n```",
    "html": "<ul>\n<li>a red comb</li>\n<li>a <b>short</b> beak</li>\n</ul>",
    "html-breaks": "a red comb<br>\na short beak<br/>",
    "commas": ("a red comb, a short beak, brown feathers", [*TWO, "brown feathers"]),
    "semicolons": ("a red comb; a short beak; brown feathers", [*TWO, "brown feathers"]),
    # thinking aloud
    "thought": f'<think>Maybe {{"descriptors": ["a loud call"]}}?\n- no</think>\n{OURS}',
    "thought-and-bullets": "<THINKING>\n- a loud call\n</THINKING>\n- a red comb\n- a short beak",
    "thought-after": f"{OURS}\n<think>is that right?\n- a loud call",
    "thought-opened-by-the-template": f'Hm, ["a loud call"]?\n- no\n</think>\n\n{OURS}',
    # what items are left
    "final-stops": '["a red comb.", "a short beak;"]',
    "blanks-inside": '["a  red\\tcomb", " a short\\nbeak "]',
    "empty-among-others": '["", "a red comb", "...", " ", "-", "12", "a short beak"]',
    "duplicates": '["a red comb", "A  RED comb.", "a short beak", "a red comb"]',
    "control-characters": '["a\\u0000b", "a red comb", "\\u001b[31mred", "a short beak", "a\\u0007"]',
    "half-surrogates": r'["a \ud800 comb", "a red comb", "\udfff", "a short beak"]',
    "raw-half-surrogates": "- a \ud800 comb\n- a red comb\n- a short beak",
    "over-500-characters": (json.dumps([LOST, WHOLE, "a red comb"]), [WHOLE, "a red comb"]),
    "figures-at-the-start": (
        '["1.5 m tall", "3:1 sides", "10.5 cm legs"]',
        ["1.5 m tall", "3:1 sides", "10.5 cm legs"],
    ),
    "a-name-that-looks-numbered": ('["E. coli colonies", "St. Bernard"]', ["E. coli colonies", "St. Bernard"]),
    "chinese": ('{"descriptors": ["红色的鸡冠", "短喙"]}', ["红色的鸡冠", "短喙"]),
    "chinese-bullets": ("- 红色的鸡冠\n- 短喙", ["红色的鸡冠", "短喙"]),
    "arabic": ('["عرف أحمر", "منقار قصير"]', ["عرف أحمر", "منقار قصير"]),
    "emoji": ('["🐔 a red comb", "🔴"]', ["🐔 a red comb"]),
    "1000-items": (json.dumps([f"feature {i}" for i in range(1000)]), [f"feature {i}" for i in range(6)]),
    "1000-bullets": ("\n".join(f"- feature {i}" for i in range(1000)), [f"feature {i}" for i in range(6)]),
    "first-of-more": (json.dumps([*"abcdef", "A", "g"]), [*"abcdef"]),
    # of several classes, only what is said of the hen
    "injected": json.dumps({"dog": ["a wet nose"], "hen": TWO}),
    "injected-and-a-trailing-comma": '{"dog": ["a wet nose"], "hen": ["a red comb", "a short beak"],}',
    "injected-under-our-key": json.dumps({"dog": ["a wet nose"], "descriptors": TWO, "cat": []}),
    "injected-objects": json.dumps([{"class": "dog", "text": "a wet nose"}, *({"text": text} for text in TWO)]),
}

REFUSED = {
    "nothing": ("", "empty"),
    "blanks": (" \r\n\t ", "empty"),
    "bom-alone": ("\ufeff", "empty"),
    "only-a-thought": ("<think>A hen has\n- a red comb", "empty"),
    "only-a-fence": ("```\n```", "empty"),
    "empty-list": ("[]", "empty"),
    "empty-list-under-our-key": ('{"descriptors": []}', "empty"),
    "only-dots": ('{"descriptors": ["...", "..."]}', "empty"),
    "only-figures": ("- 1\n- 2\n- 3", "empty"),
    "only-control-characters": (r'["\u0000", "a\u0007"]', "empty"),
    "only-too-long": (json.dumps([LOST]), "empty"),
    "echo": (open_prompt("dclip").fill(6, {"class": "hen"})[-1]["content"], "empty"),
    "cannot": ("I cannot help with that.", "refused"),
    "can-not": ("I can not describe this.", "refused"),
    "cant": ("I'm sorry, but I can't assist with that request.", "refused"),
    "cant-curly": ("I\u2019m sorry, but I can\u2019t assist with that.", "refused"),
    "wont": ("I won't write that.", "refused"),
    "unable": ("Unfortunately, I am unable to identify this.", "refused"),
    "not-able": ("I'm not able to provide descriptions of people.", "refused"),
    "decline": ("I must decline.", "refused"),
    "as-an-ai": ("As an AI language model, images are nothing I see.", "refused"),
    "sorry": ("Sorry, not possible, I fear", "refused"),
    "apologies": ("I apologize, but no.", "refused"),
    "refusal-and-alternatives": ("I cannot describe this. Instead:\n- a dog\n- a cat", "refused"),
    "refusal-in-json": ('{"descriptors": ["I cannot help with that."]}', "refused"),
    "refusal-as-bullet": ("- I'm unable to help.", "refused"),
    "refusal-after-a-thought": ("<think>Hm.</think>I won\u2019t do that.", "refused"),
    "null": ("null", "prose"),
    "true": ("true", "prose"),
    "a-text": ('"a red comb"', "prose"),
    "a-sentence": ("A hen is a bird with a red comb and brown feathers.", "prose"),
    "one-short-line": ("a red comb", "prose"),
    "two-parts": ("a red comb, a short beak", "prose"),
    "sentence-with-commas": ("It has a comb, a beak, two wings.", "prose"),
    "paragraphs": (
        "Hens are birds that are kept on farms. " * 5 + "\n\n" + "They have a red comb and a beak. " * 5,
        "prose",
    ),
    "chinese-refusal": ("抱歉\uff0c我无法回答这个问题。", "prose"),
    "truncated": ('{"descriptors": ["a red comb", "a sho', "malformed"),
    "truncated-after-an-item": ('{"descriptors": ["a red comb"', "malformed"),
    "truncated-after-the-list": ('{"descriptors": ["a red comb", "a short beak"]', "malformed"),
    "truncated-list": ('["a red comb", "a sho', "malformed"),
    "truncated-in-a-fence": (f"```json\n{INDENTED[:-8]}", "malformed"),
    "truncated-in-prose": (f"Here you are:\n{INDENTED[:-8]}", "malformed"),
    "truncated-list-in-prose": ('Here you are:\n[\n  "a red comb",\n  "a sho', "malformed"),
    "no-list": ('{"descriptors": "a red comb"}', "malformed"),
    "empty-object": ("{}", "malformed"),
    "numbers": ("[1, 2, 3]", "malformed"),
    "nothing-of-ours": ('{"a": ["x y"], "b": ["z"]}', "malformed"),
    "key-twice": ('{"descriptors": ["a"], "descriptors": ["b"]}', "malformed"),
    "key-twice-deep-inside": ('{"descriptors": [{"text": "a", "text": "b"}]}', "malformed"),
    "class-twice": ('{"hen": ["a"], "hen": ["b"],}', "malformed"),
    "error": ('{"error": "model overloaded"}', "malformed"),
    "error-object": ('{"error": {"message": "rate limit", "code": 429}}', "malformed"),
    "unlike-json": ("{descriptors -> a red comb}", "malformed"),
    "keys-without-quotes": ('{dog: ["a wet nose"]}', "malformed"),
    "other-class": ('{"dog": ["a wet nose"]}', "other-class"),
    "other-class-and-a-trailing-comma": ('{"dog": ["a wet nose"],}', "other-class"),
    "other-class-nested": ('{"dog": {"descriptors": ["a wet nose"]}}', "other-class"),
    "other-class-named": ('{"class": "dog", "descriptors": ["a wet nose"]}', "other-class"),
    "other-class-named-and-a-trailing-comma": ("{'class': 'dog', \"descriptors\": [\"a wet nose\"],}", "other-class"),
    "other-class-named-inside": ('{"answer": {"category": "dog", "features": ["a wet nose"]}}', "other-class"),
    "other-class-in-a-fence": ('```json\n{"dog": ["a wet nose"]}\n```', "other-class"),
    "objects-of-another-class": ('[{"class": "dog", "text": "a wet nose"}]', "malformed"),
    "objects-that-hold-lists": ('[{"name": "dog", "descriptors": ["a wet nose"]}]', "malformed"),
    "loop": ("- a red comb\n" * 4, "loop"),
    "loop-of-two": (json.dumps(TWO * 4), "loop"),
    "loop-up-to-case": (json.dumps(["a red comb", "A red comb", "a  red comb", "a red comb."]), "loop"),
}


def table(cases):
    return pytest.mark.parametrize(("text", "wanted"), cases.values(), ids=[ascii(name) for name in cases])


@table({name: case if isinstance(case, tuple) else (case, TWO) for name, case in READ.items()})
def test_an_answer_is_read(text, wanted):
    assert read(text, "hen", 6) == tuple(wanted)


@table(REFUSED)
def test_an_answer_that_is_no_list_is_refused_with_a_code(text, wanted):
    with pytest.raises(AnswerError) as caught:
        read(text, "hen", 6)
    assert caught.value.code == wanted
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_a_loop_is_four_times_the_same_on_average():
    assert read("- a red comb\n" * 3, "hen", 6) == ("a red comb",)
    assert read(json.dumps([*TWO, *TWO, *TWO, TWO[0]]), "hen", 6) == tuple(TWO)


def test_sentences_keep_their_full_stops():
    text = '["A hen has a red comb.", "- Hens are brown."]'
    assert read(text, "hen", 6, "sentences") == ("A hen has a red comb.", "Hens are brown.")


@pytest.mark.parametrize("answer", [{"class": "polar bear", "descriptors": TWO}, {"polar bear": TWO, "dog": ["fur"]}])
@pytest.mark.parametrize("name", ["polar_bear", "Polar Bear", "polar bear"])
def test_underscores_in_a_class_name_are_blanks_to_the_model(answer, name):
    assert read(json.dumps(answer), name, 6) == tuple(TWO)
    assert read(json.dumps(answer).replace("r b", "r_b"), name, 6) == tuple(TWO)


def test_the_message_names_what_was_found():
    with pytest.raises(AnswerError, match="the answer is about 'dog'"):
        read('{"dog": ["a wet nose"]}', "hen", 6)
    with pytest.raises(AnswerError, match=r"refused: 'I cannot do that\.'"):
        read("I cannot\n do that.", "hen", 6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_first_come_first_and_repeats_move_nothing(n):
    assert read('["a", "b", "c", "A", "b."]', "hen", n) == ("a", "b", "c")[:n]


def seconds(text):
    start = time.process_time()
    with pytest.raises(AnswerError):
        read(text, "hen", 6)
    return time.process_time() - start


@pytest.mark.parametrize("piece", ["[", '{"a":', "```\n", "- x\n"])
def test_a_mebibyte_of_one_piece_is_read_in_time(piece):
    assert seconds(piece * (2**20 // len(piece))) < 5


@pytest.mark.parametrize(
    "text",
    [
        *('{"list":[', "[{", "{'", r"\'", "'", '"', "“", "<think>", "</think>", "<b", "**", "[ ]", "['a',"),
        *("```" + "\n" * 2**17 + "x", "{" + " " * 2**17, '"a"' + " " * 2**17 + "x", "," + " " * 2**17 + "x"),
    ],
    ids=lambda text: ascii(text[:9]),
)
def test_no_text_takes_time_that_grows_faster_than_it(text):
    assert seconds(text * max(1, 2**17 // len(text))) < 2


@pytest.mark.parametrize("depth", [300, 450, 900, 2000, 100_000])
def test_nesting_is_no_recursion_error(depth):
    for text in ('{"list":' * depth + '["a"]' + "}" * depth, "[" * depth + "]" * depth):
        try:
            assert read(text, "hen", 6) == ("a",)
        except AnswerError as error:
            assert error.code == "malformed"


PIECES = [
    *"[]{}:,\"'“”\u2018\u2019`*-•#.1a",
    *("\n", "\r\n", " ", "\\", '\\"', "\\u0000", "\\ud800", "\x00", "\ud800", "\u2028", "\u202e", "\ufeff"),
    *(
        '"descriptors"',
        '"hen"',
        '"dog"',
        '"class"',
        '{"text": ',
        '["a red comb"',
        "```json\n",
        "```",
        "- ",
        "1. ",
        "[ ] ",
    ),
    *("<think>", "</think>", "<b>", "null", "a red comb", "hen", "I cannot", "鸡冠", "🐔", "x" * 501, "İ", "\u0130i"),
]
ANY = st.text(max_size=60) | st.text(st.characters(), max_size=60)  # the second with half surrogates
MESSY = st.lists(st.sampled_from(PIECES) | ANY, max_size=12).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | ANY,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.sampled_from(["hen", "dog", "text", "a"]) | ANY, part),
    max_leaves=12,
)
FORM = st.sampled_from(["phrases", "sentences"])


@given(MESSY | VALUES.map(json.dumps), st.sampled_from(["hen", "polar_bear", "[", "İ", '"']), st.integers(1, 8), FORM)
@example('["\\ud800a", "a"]', "hen", 2, "phrases")
@example('["Ab", "AB", "c", "ab"]', "hen", 1, "phrases")
def test_whatever_is_answered_gives_clean_distinct_items_or_an_answer_error(text, class_name, n, form):
    try:
        found = read(text, class_name, n, form)
    except AnswerError as error:
        assert error.code in {"empty", "refused", "prose", "malformed", "other-class", "loop"} and str(error)
        return
    assert 1 <= len(found) <= n and len({reads_as(item) for item in found}) == len(found)
    for item in found:
        check_text(item, "descriptor", MAX_TEXT)
        assert item == " ".join(item.split()) and any(c.isalpha() for c in item)


WORD = st.text(st.characters(categories=("Lu", "Ll", "Lo")), min_size=2, max_size=12)
CLEAN = st.lists(WORD, min_size=1, max_size=6).flatmap(
    lambda words: st.sampled_from([" ", ", ", "-", "'", "; ", " (", " & ", " 1.5 ", ": "]).map(
        lambda by: by.join(words)
    )
)


@given(st.lists(CLEAN, min_size=1, max_size=8, unique_by=reads_as), FORM, st.booleans())
def test_a_list_of_clean_texts_is_read_back_unchanged(texts, form, escaped):
    texts = [text for text in texts if len(text) <= MAX_TEXT]
    for value in (texts, {"descriptors": texts}, {"hen": texts, "dog": ["a wet nose"]}):
        for indent in (None, 2):
            written = json.dumps(value, ensure_ascii=escaped, indent=indent)
            for text in (written, f"```json\n{written}\n```", f"Here: {written}"):
                assert read(text, "hen", len(texts), form) == tuple(texts)


@given(st.lists(WORD, min_size=2, max_size=8, unique_by=reads_as), st.sampled_from(["- ", "* ", "• ", "{}. ", "({}) "]))
def test_bullets_say_the_same_as_json(words, mark):
    text = "\n".join(mark.format(i) + word for i, word in enumerate(words, 1))
    assert read(text, "hen", len(words)) == tuple(words)


@pytest.mark.parametrize(
    ("item", "phrase", "sentence"),
    [
        (' - "**A red comb**", ', "A red comb", "A red comb"),
        ("A red comb...", "A red comb", "A red comb..."),
        ("<li><b>red</b> comb</li>", "red comb", "red comb"),
        ("5*3 holes", "5*3 holes", "5*3 holes"),
        ("less than <3 cm", "less than <3 cm", "less than <3 cm"),
        ("- [ ] 2. a comb", "2. a comb", "2. a comb"),
        ("red\u2028comb", "red comb", "red comb"),
        ("red\x00comb", "", ""),
        ("...", "", ""),
        ("", "", ""),
    ],
)
def test_an_item_is_cleaned(item, phrase, sentence):
    assert (clean(item), clean(item, "sentences")) == (phrase, sentence)
