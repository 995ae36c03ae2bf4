"""How a class name and a descriptor become the text an encoder reads.

A phrase is a pure function (class name, descriptor) -> text. An empty descriptor stands for the name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from vlmdesc.descriptors.words import ADVERBS, BREAKS, DETERMINERS, KINDS, PARTICIPLES, PARTS, QUALITIES, VERBS
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptor, Descriptors
from vlmdesc.records.names import MAX_TEXT, check_text
from vlmdesc.text import counted, did_you_mean, few

NOUNS = KINDS | PARTS
Say = Callable[[str, str], str]


@dataclass(frozen=True)
class Phrase:
    """A named way of wording. `reads_name` and `reads_descriptor` say which of the two the text depends on."""

    name: str
    say: Say
    reads_name: bool = True
    reads_descriptor: bool = True


def spoken(class_name: str) -> str:
    """A class name as words: "polar_bear" -> "polar bear"."""
    return class_name.replace("_", " ")


def plain(class_name: str, descriptor: str) -> str:
    """Our wording: a relative clause that fits the descriptor's grammar.

    >>> plain("hen", "a red comb"), plain("hen", "a small farm bird"), plain("hen", "often found in coops")
    ('hen, which has a red comb', 'hen, which is a small farm bird', 'hen, which is often found in coops')
    """
    if not descriptor.strip(" ."):
        return spoken(class_name)
    return f"{spoken(class_name)}, {clause(descriptor)}"


def clause(descriptor: str) -> str:
    """The relative clause of a descriptor: "which has ...", "which is ...", "which ..." or "with ..."."""
    text = descriptor.strip().removesuffix(".")
    words = re.findall(r"[\w'-]+", text.lower())
    if not words:  # another script, or signs
        return f"which has {text}"
    first, second = words[0], words[1] if len(words) > 1 else ""
    if first in ADVERBS:
        return f"which {text}" if second in VERBS else f"which is {text}"
    if first in VERBS and second != "of" and not _is_participle(second):  # "covers made of wood" are no verb
        return f"which {text}"
    if first == "with" or first in ("is", "are"):
        return {"with": text, "is": f"which {text}", "are": f"which {text}"}[first]
    if first in BREAKS or ((first in QUALITIES or _is_participle(first)) and (second in BREAKS or not second)):
        return f"which is {text}"
    head = _head(words)
    if _is_quality(head):
        return f"which is {text}"
    if head in KINDS:
        return f"which is {_with_article(text, first)}"
    return f"which has {_with_article(text, first) if head in PARTS else text}"


def _head(words: list[str]) -> str:
    """The head of an English noun phrase: its last word before a preposition, a relative pronoun or a participle.

    >>> [_head(s.split()) for s in ("a red comb on the head", "a rustic vehicle drawn by cattle", "a box holding tea")]
    ['comb', 'vehicle', 'box']
    """
    for i in range(1, len(words)):
        before, next_ = words[i - 1], words[i + 1] if i + 1 < len(words) else ""
        after_noun = before in NOUNS or (
            next_ in BREAKS and before not in QUALITIES | ADVERBS | DETERMINERS | {"and", "or"}
        )
        if words[i] in BREAKS or (after_noun and _is_participle(words[i])):
            return before
    return words[-1]


def _is_participle(word: str) -> bool:
    ending = len(word) > 4 and word.endswith(("ed", "ing"))
    return word in PARTICIPLES or (ending and word not in NOUNS)  # a building, a covering, a seed


def _is_quality(word: str) -> bool:
    return word in QUALITIES or (
        word.endswith(("-shaped", "-like", "-colored", "-coloured", "ish")) and word not in KINDS
    )


def _with_article(text: str, first: str) -> str:
    return text if first in DETERMINERS or first.isdigit() else f"{article(text)} {text}"


def dclip(class_name: str, descriptor: str) -> str:
    """The published wording of classify_by_description, misfires included ("which is antennae"). Menon & Vondrick 2023.

    >>> dclip("hen", "a red comb"), dclip("ant", "antennae"), dclip("donuts", "")
    ('hen, which is a red comb', 'ant, which is antennae', 'donuts, which has ')
    """
    if descriptor.startswith("a"):
        clause_ = f"which is {descriptor}"
    elif descriptor.startswith(("has", "often", "typically", "may", "can")):
        clause_ = f"which {descriptor}"
    elif descriptor.startswith("used"):
        clause_ = f"which is {descriptor}"
    else:
        clause_ = f"which has {descriptor}"
    return f"{spoken(class_name)}, {clause_}"


def dclip_imagenet(class_name: str, descriptor: str) -> str:
    """The same with the full stop that the published ImageNet setting appends."""
    return dclip(class_name, descriptor) + "."


def disclip(class_name: str, descriptor: str) -> str:
    """The sentence of Ma et al. 2025: "A photo of a {c}, {d}."; the article is always "a", as published."""
    return f"A photo of a {spoken(class_name)}, {descriptor}." if descriptor else f"A photo of a {spoken(class_name)}."


def waffleclip(class_name: str, descriptor: str) -> str:
    """The sentence of Roth et al. 2023: "A photo of a {c}, which has {d}.", with the published clause rule.

    >>> waffleclip("hen", "brown feathers")
    'A photo of a hen, which has brown feathers.'
    """
    return f"A photo of a {dclip(class_name, descriptor)}."


def free(class_name: str, descriptor: str) -> str:
    """The descriptor alone: class-name-free evaluation (Ma et al. 2025)."""
    return descriptor


def name_phrase(template: str) -> Say:
    """A phrase that ignores descriptors and puts the name at "{c}" in `template`, minding a/an.

    Raises: InputError when the template does not hold "{c}" once.

    >>> say = name_phrase("a photo of a {c}.")
    >>> say("owl", ""), say("cup of tea", ""), say("a cup of tea", ""), say("unicycle", "")
    ('a photo of an owl.', 'a photo of a cup of tea.', 'a photo of a cup of tea.', 'a photo of a unicycle.')
    """
    check_text(template, "name template", MAX_TEXT)
    if template.count("{c}") != 1:
        fix = 'for example "name:a photo of a {c}."'
        raise InputError('a name template needs one "{c}"', where=f'"{template}"', fix=fix)
    before, after = template.split("{c}", 1)
    wants_article = re.search(r"\b([Aa])n? $", before)

    def say(class_name: str, descriptor: str) -> str:
        name = spoken(class_name)
        if not wants_article:
            return before + name + after
        stem = before[: wants_article.start()]
        if name.lower().startswith(("a ", "an ", "the ")):
            return stem + name + after
        return f"{stem}{wants_article[1]}{article(name)[1:]} {name}{after}"

    return say


def article(phrase: str) -> str:
    """ "a" or "an", by the sound the phrase begins with.

    >>> [article(w) for w in ("owl", "unicorn", "hourglass", "one-eyed cat", "X-ray fish", "UFO", "MRI scan")]
    ['an', 'a', 'an', 'a', 'an', 'a', 'an']
    """
    word = re.split(r"[\s-]", phrase.strip(), maxsplit=1)[0]
    if len(word) == 1 or (word.isupper() and len(word) <= 3):  # spoken letter by letter
        return "an" if word[:1].upper() in "AEFHILMNORSX8" else "a"
    lower = word.lower()
    if re.match(r"(hour|honest|honou?r|heir|8|11\b|18\b)", lower):
        return "an"
    if re.match(r"(uni(?!n|mp|de|nv)|u[bks][aeiuy]|eu|ewe|one\b|once|ut[aei]|uf|ur[aei]n|ural)", lower):
        return "a"
    return "an" if lower[:1] in tuple("aeiouáéíóúäöåæø") else "a"


PHOTO = "name:a photo of a {c}."
PHRASES: dict[str, Phrase] = {
    "plain": Phrase("plain", plain),
    "dclip": Phrase("dclip", dclip),
    "dclip-imagenet": Phrase("dclip-imagenet", dclip_imagenet),
    "disclip": Phrase("disclip", disclip),
    "waffleclip": Phrase("waffleclip", waffleclip),
    "free": Phrase("free", free, reads_name=False),
    "name": Phrase("name", name_phrase("{c}"), reads_descriptor=False),
}


def get_phrase(spec: str) -> Phrase:
    """The phrase of that name; "name:TEMPLATE" makes one, for example "name:a photo of a {c}.".

    Raises: InputError with the closest known name.
    """
    if spec.startswith("name:"):
        return Phrase(spec, name_phrase(spec.removeprefix("name:")), reads_descriptor=False)
    if spec not in PHRASES:
        raise InputError(
            f"unknown phrase '{spec}'", fix=f"{did_you_mean(spec, PHRASES)}known: {', '.join(PHRASES)}, name:TEMPLATE"
        )
    return PHRASES[spec]


def fill_in(descriptors: Descriptors, phrase: Phrase) -> tuple[Descriptors, tuple[ClassName, ...]]:
    """Each class with something to be scored by: its descriptors, or its name if it has none or the phrase wants none.

    Rows keep their numbers; name rows come after them. Also the classes that had no descriptor to be scored by.
    Raises: InputError where these must not be scored by name, since the phrase leaves it out.
    """
    if not phrase.reads_descriptor:
        rows = tuple(Descriptor(c.id, "", origin="name") for c in descriptors.classes)
        return replace(descriptors, rows=rows), descriptors.classes
    if not phrase.reads_name:  # a row without text says nothing then
        rows = tuple(replace(row, enabled=row.enabled and bool(row.text)) for row in descriptors.rows)
        descriptors = replace(descriptors, rows=rows)
    described = set(descriptors.owner[descriptors.weights > 0].tolist())
    bare = tuple(c for i, c in enumerate(descriptors.classes) if i not in described)
    if bare and not phrase.reads_name:
        what = f"{counted(len(bare), 'class')} without a descriptor, and phrase '{phrase.name}' leaves the name out"
        raise InputError(what, where=few(c.name for c in bare), fix="describe them")
    names = tuple(Descriptor(c.id, "", origin="name") for c in bare)
    return replace(descriptors, rows=descriptors.rows + names), bare


def texts(descriptors: Descriptors, phrase: Phrase) -> list[str]:
    """The text of each row, in row order: M strings."""
    names = {c.id: c.name for c in descriptors.classes}
    return [phrase.say(names[row.class_id], row.text) for row in descriptors.rows]
