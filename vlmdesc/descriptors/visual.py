"""What a descriptor tells of that no image shows: sounds, smells, habits, uses.

The lists were tuned on published descriptor sets and on those that ship. They favour being right over finding all.
"""

from __future__ import annotations

import re

from vlmdesc.descriptors.words import BREAKS

# How such a text begins, after words that say nothing; what its last word is; and words that show nothing alone.
_BEGINS = {
    "a sound": "makes? .* (?:sound|noise|call)|sounds? (?:of|like)|noises?",
    "a smell": "smells? (?:of|like)|(?:scent|odou?r|aroma) of|smells|stinks",
    "a taste": "tastes|(?:taste|flavou?r) of|flavou?red with",
    "touch, weight or temperature": "feels|weighs|weighing|weight of|.* to the touch$",
    "a habit": "active (?:at|during)|eats|feeds on|hunts|migrates|preys on|able to|capable of|lives? alone",
    "a use": "used (?:as|by|during|for|to)|designed (?:for|to)|(?:ideal|intended|perfect|suitable|useful) for|easy to",
    "an origin": "(?:endemic|indigenous|native) to|originat(?:ed|es|ing) (?:from|in)|first (?:built|introduced|made)",
    "a reputation": "popular (?:among|as|for|in|with)|considered|regarded as|associated with|symbol of",
}
_ENDS = {
    "a sound": "calls? cry howls? noises? roars? songs? sounds? voices?",
    "a smell": "aromas? odou?rs? scents? smells? smelling",
    "a taste": "aftertaste flavou?rs? flavou?red tastes? tasting",
}
_ALONE = {
    "a sound": "loud melodious noisy quiet silent",
    "a smell": "aromatic fragrance fragrant odorless perfumed pungent scented smelly",
    "a taste": "bitter bland delicious flavorful salty savory sour spicy sweet tangy tart tasty",
    "touch, weight or temperature": "cold cool heavy hot lightweight temperature warm weight",
    "a habit": "affectionate aggressive crepuscular curious diurnal docile energetic friendly gentle intelligent loyal "
    "migratory nocturnal obedient playful protective shy temperament territorial",
    "a use": "convenient practical useful versatile",
    "a price": "affordable cheap cost costly expensive inexpensive price valuable",
    "a reputation": "common endangered famous iconic important popular popularity prestigious rare well-known",
    "an abstract quality": "comfortable dangerous durability durable edible healthy meaning nutritious poisonous "
    "quality reliable safe safety significance symbolic toxic venomous",
}
_FILLERS = frozenset(
    """
    a also always an and animal are be been but can commonly for generally good great has have high in is it its low may
    might mild of often or primarily quite rather served slightly sometimes strong that the to typically usually very
    which widely with
    """.split()
)
_NOTHING = rf"(?:(?:{'|'.join(sorted(_FILLERS))})\s+)*"
_OF_IT = rf"(?!.*(?<![\w-])(?:{'|'.join(sorted(BREAKS - {'of'}))})(?![\w-]))"  # what follows these is something else
_PATTERNS = [
    (kind, re.compile(rf"^{_NOTHING}(?:{begins})(?![\w-])", re.IGNORECASE)) for kind, begins in _BEGINS.items()
]
_PATTERNS += [
    (kind, re.compile(rf"^{_OF_IT}.*(?<!\w)(?:{'|'.join(ends.split())})$", re.IGNORECASE))
    for kind, ends in _ENDS.items()
]
_WORDS = {word: kind for kind, alone in _ALONE.items() for word in alone.split()}


def not_visual(text: str) -> str:
    """What `text` tells of that no image shows, such as "a sound"; "" when nothing is sure.

    >>> not_visual("a loud chirping call"), not_visual("a sound hole"), not_visual("may be expensive")
    ('a sound', '', 'a price')
    """
    text = text.strip().rstrip(".;,")
    if found := next((kind for kind, pattern in _PATTERNS if pattern.search(text)), ""):
        return found
    words = re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower())
    kinds = [_WORDS[word] for word in words if word in _WORDS]
    return kinds[0] if kinds and {*words} <= _WORDS.keys() | _FILLERS else ""
