"""Whether a descriptor is English, which most encoders learned.

Tuned on the published descriptors (one in a thousand is taken for foreign) and on tests/descriptors/foreign.json.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from vlmdesc.descriptors import words
from vlmdesc.descriptors.controls import random_words

# Function words of a language, none of them English, and what its other words look like.
_SIGNS = {
    "German": (
        "am auf aus bei dem den der des durch ein eine einem einen einer eines für im ist mit oder ohne sehr sind und "
        "vom von vor wie zu zum zur zwei drei vier fünf sechs",
        r"[äöüß]|^(?:blau|braun|breit|dick|dunkl|gelb|grau|hell|hoh|klein|kurz|lang|rot|rund|schwarz|spitz|weich)e[mnrs]?$"
        r"|..(?:cht|ig|isch|lich|nd|rz|tt|un)e[mnrs]?$|..(?:ung|heit|keit|eln|ern|ück)(?:en)?$",
    ),
    "French": (
        "au aux avec dans de deux du en est et la le les ou par pour qui sans sont sur trois quatre très un une",
        r"[àâçèéêîœ]|^[dl]['\u2019]|^(?:blanc|bleu|brun|gris|jaune|long|noir|petit|rouge|rond|vert)(?:h?es?|ues|s)?$"
        r"|..(?:[ae]u|antes?|bres?|ces|eaux|entes?|ettes|eu[rx]|euses?|gues?|ieds?|illes?|oil|oires?|ques)$",
    ),
    "Spanish": (
        "al con de del dos el en es las los muy para por que sin sobre tres cuatro seis un una unas unos y",
        r"[áéíñóú]|..[ao]s?$|..(?:des?|entes?|eres|iel|[ie]les|ones|ores)$",
    ),
    "Italian": ("con dal degli dei del della delle di due è gli il lo nel più rosso sul sulla tre un una", r"[àèìòù]"),
    "Portuguese": ("ao com da das de dos duas em na nos os ou para por que sem um uma vermelho", r"[ãçõ]"),
    "Dutch": ("aan bij een en het naar op uit van voor zeer zijn zonder rode witte zwarte", r"ij[a-z]*$"),
}
_FOREIGN = {name: (frozenset(known.split()), re.compile(looks)) for name, (known, looks) in _SIGNS.items()}
_BOTH = frozenset("a an die hat i in no of on".split())  # of English and others, so they tell nothing
_GRAMMAR = frozenset("and are as is or".split())
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


def foreign(text: str) -> str:
    """Why `text` seems not to be English, or "". A lone Greek letter is a sign: "an Ω-shaped mark".

    >>> foreign("ein roter Kamm"), foreign("赤いとさか"), foreign("a naïve façade in a row")
    ('reads like German', 'has Chinese letters', '')
    """
    script = _script(text)
    language = "" if script else _language(text)
    return f"has {script} letters" if script else f"reads like {language}" if language else ""


def _script(text: str) -> str:
    """The script of the first letter that is not Latin."""
    text = unicodedata.normalize("NFKC", text)
    for letter in () if text.isascii() else re.finditer(r"[^\W\d_]", text):
        name = unicodedata.name(letter[0], "LATIN").split()[0]
        sign = name == "GREEK" and not re.search(r"[^\W\d_]{2}", text[max(letter.start() - 1, 0) : letter.end() + 1])
        if not (sign or name in ("LATIN", "MODIFIER") or unicodedata.category(letter[0]) in ("Lm", "Nl")):
            return "Chinese" if name == "CJK" else name.capitalize()
    return ""


def _language(text: str) -> str:
    found = [word for word in _WORD.findall(text.lower()) if word not in _BOTH]
    english = sum(_is_english(word) for word in found)
    signs = {language: sum(_sign(language, word) for word in found) for language in _FOREIGN}
    likely = max(signs, key=signs.__getitem__)
    nothing_else = english == 0 and len(found) > 1 and signs[likely]
    return likely if nothing_else or signs[likely] > max(english, 1) else ""


def _sign(language: str, word: str) -> int:
    """How much a word speaks for a language: 2 for a function word, 1 for what looks like one of its words."""
    function_words, looks = _FOREIGN[language]
    if word in function_words:
        return 2
    return int(not _is_english(word) and looks.search(word) is not None)


def _is_english(word: str) -> bool:
    known = any(word.removesuffix(ending) in _english() for ending in ("", "s", "es"))
    return known or re.search(r"(?:ed|ing|ish|ly|ness|y)$", word) is not None


@cache
def _english() -> frozenset[str]:
    """Common words, and those of descriptors."""
    parts = words.ADVERBS | words.BREAKS | words.DETERMINERS | words.KINDS | words.PARTICIPLES | words.PARTS
    return _GRAMMAR | parts | words.QUALITIES | words.VERBS | {*random_words()}
