"""Descriptors without what lists, Markdown, HTML and cut-off answers leave around them.

Each rule is (what it finds, text -> text without it). A rule never lengthens a text, and leaves a clean one as it is.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from functools import partial

Rule = tuple[str, Callable[[str], str]]

_LIST = r"(?:[*+•‣◦▪●\u2013\u2014-]|#{1,6}|\(?\d{1,3}[.)]|\(?[a-z]\))\s+|[•‣◦▪●]"
_MARKS = r"\s.,;:!?…\u2013\u2014\u3002\u3001\uff0c\uff1b\uff1a\uff01\uff1f\-"  # Chinese ones are full-width


def strip_markup(text: str) -> str:
    """`text` without list marks, Markdown, HTML and quotes around the whole.

    >>> strip_markup("- **Shape:** a <i>round</i> body &amp; no neck"), strip_markup("5*3 holes <2 cm")
    ('Shape: a round body & no neck', '5*3 holes <2 cm')
    """
    return _by(MARKUP, text)


def trim(text: str) -> str:
    """`text` without punctuation, half brackets and dangling words at its ends.

    >>> trim("a red comb (small, and"), trim("a perch to sit on"), trim("soap, towels, etc.")
    ('a red comb small', 'a perch to sit on', 'soap, towels, etc.')
    """
    return _by(RAGGED, text)


def what_is_wrong(rules: tuple[Rule, ...], text: str) -> str:
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


def _without(pattern: str, by: str = "") -> Callable[[str], str]:
    return partial(re.compile(pattern).sub, by)


def _character(entity: re.Match[str]) -> str:
    """The character that an HTML entity stands for; one that no descriptor may hold is a blank."""
    found = html.unescape(entity[0])
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in found)


def _balance(text: str) -> str:
    """`text` without brackets and quotes that lack their other half. Inches have only one: 12"."""
    for left, right in ("()", "[]", "{}"):
        if text.count(left) != text.count(right):
            text = text.replace(left, "").replace(right, "")
    quote = r'(?<!\d)"'
    return re.sub(quote, "", text) if len(re.findall(quote, text)) % 2 else text


MARKUP: tuple[Rule, ...] = (
    ("begins with a list mark", _without(f"^(?:{_LIST})")),
    ("holds Markdown", _without(r"(\*\*|__|`+)(?=\S)(.+?)(?<=\S)\1", r"\2")),
    ("holds Markdown", _without(r"(?<![\w*])([*_])(?=[^\s*_])([^*_]+?)(?<=\S)\1(?![\w*])", r"\2")),
    ("holds Markdown", _without(r"^(?:\*\*|__|`)|(?:\*\*|__|`)$")),
    ("holds a Markdown link", _without(r"!?\[([^\[\]]*)\]\([^()\s]*\)", r"\1")),
    ("holds HTML", _without(r"</?[A-Za-z][^<>]*>|<!--.*?-->")),
    ("holds HTML", partial(re.compile(r"&#?\w{1,31};").sub, _character)),
    ("stands in quotes", _without(r"^(?:\"([^\"]*)\"|“([^“”]*)”|«([^«»]*)»)$", r"\1\2\3")),
)
RAGGED: tuple[Rule, ...] = (
    ("begins with punctuation", _without(rf"^(?!{_LIST})[{_MARKS})\]}}]+(?!\d)")),
    ("ends in punctuation", _without(rf"(?<!\betc)(?<!\.\w)[{_MARKS}]+$")),
    ("has half a pair of brackets or quotes", _balance),
    (
        "ends in a word that announces more",
        _without(r"(?:^|\s+)(?:an?|and|because|if|including|its|nor|or|such|than|the|their|whose)$"),
    ),
)
