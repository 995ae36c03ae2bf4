"""Descriptors without what lists, Markdown, HTML and cut-off answers leave around them.

Each rule is (what it finds, text -> text without it). A rule never lengthens a text, and leaves a clean one as it is.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

from vlmdesc.descriptors.lint_words import DANGLING, STRANDED

Rule = tuple[str, Callable[[str], str]]

_DASHES, _CJK = r"\-\u2010-\u2015", r"\u3002\u3001\uff0c\uff1b\uff1a\uff01\uff1f"  # those stops are full-width
_LIST = re.compile(rf"^(?:[*+•‣◦▪●{_DASHES}]|#{{1,6}}|\(?\d{{1,3}}[.)]|\(?[a-z]\))\s+|^[•‣◦▪●]")
_LABEL = re.compile(r"^(\*\*|__)([^*_:]{1,40}?)(:\s*\1|\1\s*:)\s*")
_EMPHASIS = (
    re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1"),
    re.compile(r"(?<![\w*])(\*)(?=[^\s*])([^*]+?)(?<=[^\s*])\*(?![\w*])"),
    re.compile(r"(?<![\w_])(_)(?=[^\s_])([^_]+?)(?<=[^\s_])_(?![\w_])"),
)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_CODE = re.compile(r"(`+)([^`]+)\1")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_QUOTES = {'"': '"', "'": "'", "“": "”", "\u2018": "\u2019", "«": "»", "„": "“"}
_BRACKETS = {"(": ")", "[": "]", "{": "}", "“": "”", "«": "»"}
_ENDS = re.compile(rf"[\s.,;:!?…{_DASHES}{_CJK}]+$")
_STARTS = re.compile(rf"^[\s.,;:!?…)\]}}{_DASHES}{_CJK}]+(?!\d)")
_ABBREVIATION = re.compile(r"(?:\betc|(?:\b\w\.)+\w)\.$")
# What such a label says is said again by what follows; any other is kept, as words.
_LABELS = frozenset(
    """
    appearance background behavior behaviour body color coloration colors colour colouration colours context
    description environment feature features form habitat location look markings material materials overall pattern
    patterns posture setting shape silhouette size structure surface surroundings texture
    """.split()
)


def unmarked(text: str) -> str:
    """`text` without list marks, Markdown, HTML and quotes around the whole.

    >>> unmarked("- **Shape:** a <i>round</i> body &amp; no neck"), unmarked("5*3 holes <2 cm")
    ('a round body & no neck', '5*3 holes <2 cm')
    """
    return _by(MARKUP, text)


def trimmed(text: str, sentence: bool = False) -> str:
    """`text` without punctuation, single brackets and dangling words at its ends; a `sentence` keeps its full stop.

    >>> trimmed("a red comb (small, and"), trimmed("a perch to sit on"), trimmed("A hen.", sentence=True)
    ('a red comb small', 'a perch to sit on', 'A hen.')
    """
    body = text.rstrip()
    if not (sentence and re.search(r"[\w)\]\"”]\.$", body)):
        return _by(RAGGED, text)
    rest = _by(RAGGED, body[:-1])
    return text if rest == body[:-1] else rest if rest.endswith(".") or not rest else f"{rest}."


def wrong(rules: tuple[Rule, ...], text: str) -> str:
    """The first of `rules` that finds something, in words; "" when none does."""
    return next((what for what, rule in rules if rule(text.strip()).strip() != text.strip()), "")


def _by(rules: tuple[Rule, ...], text: str) -> str:
    """What is left of `text` when no rule changes it any more."""
    old, new = "", text.strip()
    while old != new:
        old = new
        for _, rule in rules:
            new = rule(new).strip()
    return text if new == text.strip() else new


def _without_list_mark(text: str) -> str:
    return _LIST.sub("", text)


def _without_label(text: str) -> str:
    found = _LABEL.match(text)
    if not found:
        return text
    rest = text[found.end() :]
    return rest if found[2].strip().lower() in _LABELS and rest else f"{found[2].strip()}: {rest}".strip()


def _without_emphasis(text: str) -> str:
    for mark in _EMPHASIS:
        text = mark.sub(r"\2", text)
    return text.removeprefix("**").removesuffix("**") if text.count("**") == 1 else text


def _without_html(text: str) -> str:
    plain = _ENTITY.sub(lambda entity: _character(entity[0]), _TAG.sub("", text))
    return text if plain == text else " ".join(plain.split())


def _character(entity: str) -> str:
    """The character that an HTML entity stands for; one that no descriptor may hold is a blank."""
    found = html.unescape(entity)
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in found)


def _without_quotes(text: str) -> str:
    close, inside = _QUOTES.get(text[:1]), text[1:-1]
    if len(text) < 2 or close is None or text[-1] != close:
        return text
    apostrophes = re.sub(r"(?<=\w)['\u2019](?=\w)", "", inside)
    return text if {text[0], close} & {*apostrophes} else inside


def _without_start(text: str) -> str:
    return text if _LIST.match(text) else _STARTS.sub("", text)


def _without_end(text: str) -> str:
    return text if _ABBREVIATION.search(text) else _ENDS.sub("", text)


def _balanced(text: str) -> str:
    """`text` without brackets and quotes that lack their other half. Inches have only one: 12"."""
    open_: list[int] = []
    lone: list[int] = []
    for i, c in enumerate(text):
        if c in _BRACKETS:
            open_.append(i)
        elif open_ and _BRACKETS[text[open_[-1]]] == c:
            open_.pop()
        elif c in _BRACKETS.values() and not (c == "”" and text[:i][-1:].isdigit()):
            lone.append(i)
    quotes = [i for i, c in enumerate(text) if c == '"' and not text[:i][-1:].isdigit()]
    lone += open_ + (quotes[-1:] if len(quotes) % 2 else [])
    return "".join(c for i, c in enumerate(text) if i not in lone)


def _undangled(text: str) -> str:
    """`text` without last words that announce more. "A perch to sit in" and "meat mixed in" announce nothing."""
    *words, last = text.split() or [""]
    if last.lower() in DANGLING:
        while words and words[-1].lower() in STRANDED:
            words.pop()
        return " ".join(words)
    low = [word.lower() for word in words]
    opened = {"to", "that", "which", "it", "they", "you", "what"} & {*low}
    finished = opened or "".join(low[-1:]).endswith(("ed", "ing", "en"))
    return text if last.lower() not in STRANDED or finished else " ".join(words)


MARKUP: tuple[Rule, ...] = (
    ("begins with a list mark", _without_list_mark),
    ("has a label in bold", _without_label),
    ("holds Markdown", _without_emphasis),
    ("holds a Markdown link", lambda text: _LINK.sub(r"\1", text)),
    ("holds Markdown", lambda text: _CODE.sub(r"\2", text)),
    ("holds HTML", _without_html),
    ("stands in quotes", _without_quotes),
)
RAGGED: tuple[Rule, ...] = (
    ("begins with punctuation", _without_start),
    ("ends in punctuation", _without_end),
    ("has half a pair of brackets or quotes", _balanced),
    ("ends in a word that announces more", _undangled),
)
