"""What a language model wrote, read as a list of descriptors: JSON, bare, fenced or in prose; bullets, numbers, lines.

Nothing is guessed: an answer that is no list is refused with a code, and asked for again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NoReturn

from vlmdesc.descriptors.phrase import spoken
from vlmdesc.descriptors.prompts import KEY
from vlmdesc.errors import AnswerError, InputError
from vlmdesc.records.names import MAX_TEXT, check_text, reads_as

LOOP = 4  # an answer whose texts stand in it this often, on average, goes round in circles
LINE_WORDS, PART_WORDS = 12, 5  # longest item in a list without marks: one a line, or between commas
ITEMS = 10_000  # that are looked at; a hostile answer has a million
TRIES = 64  # fences, and places in a text where JSON may begin; a hostile one has a million too
# Where models put the list, or the text of one item, when they do not use our key.
_LISTS = re.compile(r"descri|feature|attribute|characteristic|visual|trait|propert|item|list|answer|result|sentence")
_ITEM_KEYS = ("descriptor", "description", "text", "feature", "sentence", "value", "name")
_CLASS_KEYS = ("class", "class_name", "category", "object", "name")
_FENCE = re.compile(r"```[\w-]*[^\S\n]*\n(.*?)```", re.DOTALL)
_RULES = re.compile(r"^[ \t]*```.*$", re.MULTILINE)
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(r"\A.*</(think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)  # templates open it themselves
_BULLET = re.compile(
    r"^\s*(?:(?:[-+•‣◦▪–—·●○■□◆▶►➤→✓✔✅☐☑∙⁃]\ufe0f?|\*(?!\*)|\d\ufe0f?\u20e3)\s*"
    r"|\(?\d{1,3}(?:[.):](?!\d)|[、．）])\s*|\(?(?:[a-z]\.|[A-Za-z]\))\s+)(?:\[[ xX]\]\s*)?(?=\S)"
)
_HEADINGS = ("# ", "## ", "### ", "#### ")
_FORMATTING = re.compile(r"</?(?:b|i|u|em|strong|code|span|li|ul|ol|p|br)\b[^>]{0,200}>|\*\*|__|`", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\bi (can ?not|can['’]?t|won['’]?t|am (unable|not able)|must decline)\b|\bi['’]m (unable|not able)\b|\bas an ai\b"
    r"|\b(cannot|can['’]t|unable to) (help|assist|comply|provide)\b"
    r"|^\W*(i['’]?m |i am )?(so |very )?sorry\b|\bi apologi[sz]e\b",
    re.IGNORECASE,
)
_STRAIGHT = str.maketrans("“”„«»‘’", '"""""' + "''")
_STRING = re.compile(r"""\\.|"(?:[^"\\\n]|\\.)*"|'((?:[^'\\\n]|\\.)*)'(?=\s*[,\]}:])""")
_ESCAPE = re.compile(r'\\.|"')
_OBJECT = re.compile(r"\{[^{}\[\]]{1,250}?:")
_BROKEN = re.compile(r'^[ \t]*[\[{][ \t]*(?:["\[{]|$)|"\w+"\s*:\s*[\[{]', re.MULTILINE)


def read(text: str, class_name: str, n: int, form: str = "phrases") -> tuple[str, ...]:
    r"""The descriptors in an answer about a class: cleaned, each once, `n` at most.

    Raises: AnswerError with the code "empty", "refused", "prose", "malformed", "other-class" or "loop".

    >>> read('Sure! ```json\n["a red comb", "Brown feathers."]\n```', "hen", 6)
    ('a red comb', 'Brown feathers')
    >>> read("1. **a red comb**\n2. a short beak", "hen", 6)
    ('a red comb', 'a short beak')
    """
    text = _UNOPENED.sub("", _THOUGHT.sub("", text.replace("\ufeff", ""))).strip()
    found = _from_json(text, _plain(class_name))
    raw = _from_lines(text) if found is None else found
    kept = [cleaned for item in raw[:ITEMS] if (cleaned := clean(item, form))]
    if not kept:
        raise AnswerError("empty", "the answer has no descriptor in it")
    if any(_REFUSAL.search(item) for item in kept[:1]):
        _refuse(kept[0])
    once: dict[str, str] = {}
    for item in kept:
        once.setdefault(reads_as(item), item)
    if len(once) * LOOP <= len(kept):
        raise AnswerError("loop", f"the answer repeats itself: '{kept[0]}'")
    return tuple(once.values())[:n]


def clean(item: str, form: str = "phrases") -> str:
    """One item without list marks, formatting, quotes and, for phrases, final stops; "" when no text is left.

    >>> clean(' - "**A red comb**", '), clean("...")
    ('A red comb', '')
    """
    text = _BULLET.sub("", _FORMATTING.sub("", " ".join(item.split())))
    text = text.strip(" ,;\"“”'")
    text = text.rstrip(" .,;:") if form == "phrases" else text
    try:
        check_text(text, "descriptor", MAX_TEXT)
    except InputError:
        return ""
    return text if any(c.isalpha() for c in text) else ""


def _from_json(text: str, class_name: str) -> list[str] | None:
    """The list in the first JSON value of the text that holds one; None where there is no JSON."""
    for part in (*(fence[1] for fence in islice(_FENCE.finditer(text), TRIES)), text):
        for candidate in (part, _mend(part)):
            for value in _values(candidate):
                found = _find_texts(value, class_name)
                if found is not None:
                    return found
    bare = text.removeprefix("```json").removeprefix("```").lstrip()
    if bare.startswith(("{", "[")) or _BROKEN.search(text):
        raise AnswerError("malformed", "the answer is broken JSON, or not of the asked form")
    return None


def _mend(text: str) -> str:
    """A text with the quotes and commas that JSON wants, where models write curly or single ones, and one too many."""
    text = re.sub(r",\s*(?=[\]}])", "", text.translate(_STRAIGHT))
    return _STRING.sub(_double_quote, text)


def _double_quote(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[0]
    return '"' + _ESCAPE.sub(lambda part: {"\\'": "'", '"': '\\"'}.get(part[0], part[0]), match[1]) + '"'


def _plain(name: str) -> str:
    """A class name as it is asked about: underscores are blanks."""
    return reads_as(spoken(name))


def _values(text: str) -> Iterator[Any]:
    """JSON objects and lists in a text, from left to right, up to an object that is broken: the lists in it may be
    another class's.
    """
    decoder, end = json.JSONDecoder(object_pairs_hook=_without_twins), 0
    for match in islice(re.finditer(r"\[(?! \])|\{", text), TRIES):  # "[ ]" is a box to tick
        if match.start() >= end:
            with suppress(ValueError, RecursionError):
                value, end = decoder.raw_decode(text, match.start())
                yield value
            if match.start() >= end and _OBJECT.match(text, match.start()):
                return


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise AnswerError("malformed", "the answer gives a key twice")
    return dict(pairs)


def _find_texts(value: Any, class_name: str) -> list[str] | None:
    while isinstance(value, dict):
        about = next((value[key] for key in _CLASS_KEYS if isinstance(value.get(key), str)), class_name)
        lists = {key: part for key, part in value.items() if isinstance(part, (list, dict))}
        if _plain(about) != class_name:
            _other(about)
        value = lists.get(_which(lists, class_name) or "")
    texts = [text for item in value or () if isinstance(text := _item(item, class_name), str)]
    return None if value is None or (value and not texts) else texts


def _which(lists: Mapping[str, Any], class_name: str) -> str | None:
    """The key whose value is the answer: ours, the class's name, one that reads like ours, or the only one."""
    named = [key for key in lists if key == KEY or _plain(key) == class_name]
    like = [key for key in lists if _LISTS.search(key.casefold())]
    if not named and not like and len(lists) == 1 and "error" not in lists:
        _other(next(iter(lists)))
    return next(iter((*named, *like)), None)


def _item(value: Any, class_name: str) -> Any:
    """The text of an item; None for one of another class."""
    if not isinstance(value, dict):
        return value
    about = [value[key] for key in _CLASS_KEYS[:2] if isinstance(value.get(key), str)]
    if any(_plain(name) != class_name for name in about):
        return None
    keys = _ITEM_KEYS[:-1] if any(isinstance(part, list) for part in value.values()) else _ITEM_KEYS
    return next((value[key] for key in keys if key in value), None)


def _from_lines(text: str) -> list[str]:
    """The items of a list with bullets or numbers; else short lines; else what stands between commas."""
    text = _FORMATTING.sub("", _RULES.sub("", text)).strip()
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.endswith(":") and not line.startswith(_HEADINGS)]
    marked = [line for line in lines if _BULLET.match(line)]
    before = text[: text.find(marked[0])] if marked else text
    if _REFUSAL.search(before):
        _refuse(before)
    if marked:
        return marked
    if len(lines) > 1 and all(len(line.split()) <= LINE_WORDS for line in lines):
        return lines
    parts = re.split(r"[,;]", text)
    if len(parts) > 2 and not text.endswith(".") and all(len(part.split()) <= PART_WORDS for part in parts):
        return parts
    raise AnswerError("prose" if text else "empty", f"the answer is no list: '{text[:60]}'")


def _other(name: str) -> NoReturn:
    raise AnswerError("other-class", f"the answer is about '{name[:60]}'")


def _refuse(text: str) -> NoReturn:
    raise AnswerError("refused", f"the model refused: '{' '.join(text.split())[:60]}'")
