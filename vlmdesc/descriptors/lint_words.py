"""What the lint looks for in words: what no image shows, other languages than English, and words that announce more.

The lists were tuned on published descriptor sets and on those that ship. They favour being right over finding all.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from vlmdesc.records import ClassName
from vlmdesc.records.names import reads_as

MIN_ALIAS = 4  # letters; shorter ones, such as "ram" or "pot", are too often another word
_ITSELF = frozenset("arms glasses goods greens news pants shorts slacks tights".split())  # "tight" is another word
DANGLING = frozenset("a an and & because if including its nor or such than the their whose".split())
# These may rightly end a descriptor: "a perch to sit on", "what it is made of".
STRANDED = frozenset("as at for from in of to with".split())

_OFTEN = (
    r"(?:(?:is|are|was|were|can|may|might|be|being|also|often|usually|typically|commonly|generally|sometimes|mainly"
    r"|mostly|primarily|frequently|traditionally|originally|widely|that|which|it|they|has|have|been)\s+)*"
)
_SUBJECT = r"(?:(?:a|an|the|its|their|this|these)\s+\w+\s+(?=is|are|can|may|was|were))?"
_START = rf"^{_SUBJECT}{_OFTEN}"
_AUDIBLE = (
    r"(?:loud|noisy|shrill|melodious|melodic|musical|guttural|hoarse|raspy|rasping|harsh|nasal|resonant|booming"
    r"|croaking|honking|chirping|buzzing|humming|rattling|squeaky|whistling|crackling|roaring|howling|growling|hissing"
    r"|(?:high|higher|low|lower|deep)[- ]pitched)"
)
_VOICE = r"(?:sound|noise|call note|call|song|voice|cry|crie|crow|howl|roar|growl|hoot|siren|chirp|hum|buzz|squeal)"
# Where the noun that follows is what the descriptor is of, not what something else is "with", "for" or "to".
_HEAD = r"^(?:(?!\b(?:with|for|to|from|by|that|which)\b).)*\b"
_PLACES = (
    r"(?:Africa|Asia|Europe|Americas?|Australia|Australasia|Antarctica|Eurasia|Oceania|Arctic|Madagascar|China|India"
    r"|Japan|Mexico|Canada|Brazil|United States|(?-i:U\.?S\.?A?|UK)|Mediterranean|Middle East|Himalayas|Andes|Alaska"
    r"|Russia|Siberia|Atlantic|Pacific|Britain|United Kingdom|England|Scotland|Ireland|France|Spain|Italy|Germany"
    r"|Indonesia|Borneo|Sumatra|New Zealand|New Guinea|Caribbean|Amazon|Hawaii|worldwide)\b"
)
# Not about the senses after all: these are taken out before anything is looked for.
_VISIBLE = re.compile(
    r"""\b(?:
        sound[- ](?:holes?|box(?:es)?|boards?|systems?|receivers?|pickups?|equipment|waves?|bars?|desks?|mixers?)
        | noise[- ](?:barriers?|cancell?ing) | song(?:birds?|books?|sheets?)
        | scented[ ]candles? | scent[ ](?:glands?|hounds?|bottles?) | bottled?[ ](?:of[ ])?(?:fragrance|scent)
        | (?:fragrance|perfume|aroma)[ ](?:bottles?|sticks?|diffusers?) | taste[ ]?buds? | wine[- ]tasting
        | smell(?:ing)?[ ]salts? | sour[ ](?:cream|dough) | sweet[ ](?:peppers?|potato(?:es)?|corn|peas?)
        | hot[- ](?:dogs?|air|tubs?|sauce|chocolate|rods?|plates?|springs?|shoe|pink|water|drinks?)
        | price[ ](?:tags?|labels?|signs?|lists?|boards?)
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
_CUES: dict[str, str] = {
    "a sound": (
        rf"{_HEAD}{_AUDIBLE},?\s(?:\w+[\s,]+){{0,2}}?{_VOICE}s?$|\bloud\s(?:\w+,?\s)?{_VOICE}s?\b|\bnoises?$"
        rf"|{_HEAD}(?:distinct|distinctive|characteristic|unique) (?:songs?|calls?|voices?|noises?|sounds?)$"
        rf"|^(?:a |an |the )?(?:sounds?|noises?)\b(?:$| (?:of|like|when)\b)|{_START}(?:makes?|produces?|emits?) "
        r"(?:a |an |the )?(?:[\w-]+,? ){0,3}(?:sounds?|noises?|calls?)\b|^(?:\w+ )?quiet(?:ly)? operation"
    ),
    "a smell": (
        rf"{_HEAD}(?:smells?|odou?rs?|scents?|aromas?|fragrances?|stench)$|\b(?:smells?|odou?r|scent|aroma"
        r"|fragrance) (?:of|like|when|that)\b|\b\w+-smelling\b|^(?:smells|stinks)\b"
    ),
    "a taste": (
        rf"{_HEAD}(?:tastes?|flavou?rs?|aftertaste)$|\b(?:taste|flavou?r)s? (?:of|like|that|when)\b|\w+-tasting\b"
        rf"|-flavou?red$|{_START}flavou?red with\b|^{_OFTEN}tastes?\b"
        r"|\b(?:delicious|tasty|flavou?rful|mouth-?watering)\b"
    ),
    "touch, weight or temperature": (
        r"\b(?:to the touch|to touch)$|^(?:it )?feels (?:soft|warm|cool|cold|hot|heavy|light)\b"
        r"|\bweighs\b[^.]*\d|\bweighing (?:\d|about|around|between|over|up to)|\bweight of\b[^.]*\d"
        r"|^(?:is |are )?(?:light|heavy) in weight"
    ),
    "a habit": (
        rf"^{_OFTEN}(?:nocturnal|diurnal|crepuscular)$|{_START}(?:more )?active (?:at|during|in|by)\b"
        rf"|^{_OFTEN}(?:eats?|feeds?|preys?|hunts?|migrates?|hibernates?|breeds?|mates?|communicates?) "
        r"(?:in|on|at|for|to|by|during|with|upon|mainly|small|insects|fish|fruit|plants|seeds)\b"
        rf"|^{_OFTEN}lives? (?:alone|together|in (?:\w+ )?(?:groups|pairs|herds|packs|flocks|colonies))\b"
        r"|^(?:is |are )?(?:also )?(?:able to|capable of) \w+"
        r"|^(?:a |an )?(?:very )?(?:good|great|excellent|strong|fast|skilled|agile)"
        r" (?:swimmers?|runners?|climbers?|fliers?|flyers?|jumpers?|hunters?|divers?|singers?)$"
        r"|^can (?:also )?(?:fly|swim|run|jump|climb|dive|mimic|survive|sing|talk)\b"
    ),
    "a use": (
        rf"{_START}used (?:for|to|as|by|during|when|in the (?:game|sport))\b|^{_OFTEN}designed (?:for|to)\b"
        rf"|{_START}(?:ideal|suitable|intended|perfect|useful|suited) for\b|^{_OFTEN}worn for\b"
        r"|^(?:is |are )?(?:easy|easily) to "
        r"(?:clean|use|store|carry|maintain|grow|assemble|transport|make|cook|prepare|handle|install)\b"
    ),
    "an origin": (
        rf"^{_OFTEN}(?:native|indigenous|endemic) to\b|^{_OFTEN}(?:originat(?:es|ed|ing)|hail(?:s|ing)) (?:in|from)\b"
        rf"|^{_OFTEN}(?:found|grown|produced|common|distributed|bred)(?: \w+)? (?:in|throughout|across|around)\b"
        rf"[^,;]*?{_PLACES}|^{_OFTEN}(?:first )?(?:invented|introduced|discovered|manufactured) (?:in|by)\b"
        rf"|^{_OFTEN}first (?:built|made|produced|sold|used|flown|flew)\b|^dates? back to\b"
    ),
    "a reputation": (
        rf"\bpopular(?:$| (?:in|with|among|as|for|tourist|choice|destination|dish|drink|snack|breed|pet)\b)"
        rf"|^{_OFTEN}(?:considered|regarded|believed|thought|said) (?:as|to be|a|an|one|the|by)\b"
        rf"|^{_OFTEN}associated with\b|^{_OFTEN}(?:a |the )?symbol of\b|\btourist attraction\b"
    ),
}
_BOUND = {kind: re.compile(cue, re.IGNORECASE) for kind, cue in _CUES.items()}
# A descriptor of nothing but such words, and of words that say nothing, shows nothing.
_ALONE: dict[str, str] = {
    "a sound": "loud noisy noise noises sound sounds silent audible melodious music quiet",
    "a smell": "fragrant scented aromatic pungent smelly odorous odorless odourless perfumed smell scent",
    "a taste": """
        sweet sour bitter salty spicy savory savoury tangy tart bland taste tasty flavor flavour flavorful flavourful
        """,
    "touch, weight or temperature": """
        hot cold warm cool chilled lukewarm lightweight heavy weight temperature warm-blooded cold-blooded
        """,
    "a habit": """
        nocturnal diurnal crepuscular migratory friendly loyal intelligent playful affectionate shy
        aggressive docile territorial energetic curious temperament personality gentle obedient protective
        carnivorous herbivorous omnivorous
        """,
    "a use": "useful versatile multipurpose multi-purpose practical convenient",
    "a price": "expensive inexpensive costly affordable cheap price cost priced valuable",
    "a reputation": "popular famous rare common endangered iconic well-known prestigious important popularity",
    "an abstract quality": """
        durable reliable safe dangerous toxic poisonous venomous harmful edible nutritious healthy comfortable
        high-quality quality safety durability comfort meaning significance symbolic symbolism cultural historical
        atmosphere hygienic efficient
        """,
}
_SAYS_NOTHING = frozenset(
    """
    a an the and or but of in is are be can may might has have very quite rather extremely relatively usually often
    typically commonly generally sometimes always somewhat slightly strong mild rich pleasant special overall to
    it its their they with for high low good great nature animal animals creature thing item object product food dish
    treat filling climate weather served appearance flowers flower blooms bloom
    environment ingredients more most highly not non filled eaten
    """.split()
)
_WORDS = {word: kind for kind, words in _ALONE.items() for word in words.split()}

_ENGLISH = frozenset(
    """
    a an the of with and or on in at for to from is are has have it its that which by as like than their this into over
    under between around may can be often no not two three used
    """.split()
)
_FOREIGN: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "German": "der das und mit ein eine einen einem einer eines auf im ist sind von vom zu zum aus oder dem des "
        "nicht sehr wie für über hat haben kann wird ohne bei",
        "French": "le les un une des du de et avec sur dans est sont au aux à ou par qui très sans leur ses plus",
        "Spanish": "el los las un una unos unas del de y con en es muy su sus que se por para sobre tiene más",
        "Italian": "il lo gli le un una di del della dei delle degli e con su nel nella sono è che molto ha più",
        "Portuguese": "os uma um da dos das de e com em na nos é muito sua seu que tem mais são",
        "Dutch": "het een en met zijn aan uit bij voor naar ook niet wordt heeft zeer de of op",
        "Polish": "się jest są oraz lub dla przy jak nie ze z na ma bardzo od który które",
        "Swedish": "och ett med av är som till på den det för har inte mycket en",
        "Danish": "og et med af er som til på den det for har ikke meget en",
        "Finnish": "ja ovat joka sekä hyvin joissa kuin ei se",
        "Czech": "je jsou se na ve který které má s nebo velmi jako",
        "Romanian": "și cu din este sunt pe care foarte sau la un o",
        "Hungarian": "és az egy van nagyon vagy hogy nem",
        "Turkish": "ve bir ile için çok olan gibi veya",
        "Indonesian": "dan yang dengan di dari pada atau untuk berwarna memiliki",
    }.items()
}
_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")


def not_visual(text: str) -> str:
    """What `text` tells of that no image shows, such as "a sound"; "" when nothing is sure.

    >>> not_visual("a loud chirping call"), not_visual("a sound hole"), not_visual("may be expensive")
    ('a sound', '', 'a price')
    """
    text = _VISIBLE.sub("thing-seen", text.strip().rstrip(".;,"))
    found = next((kind for kind, cue in _BOUND.items() if cue.search(text)), "")
    return found or _only(_WORD.findall(text.lower()))


def _only(words: list[str]) -> str:
    kinds = [_WORDS[word] for word in words if word in _WORDS]
    return kinds[0] if kinds and all(word in _WORDS or word in _SAYS_NOTHING for word in words) else ""


def script(text: str) -> str:
    """The script of the first letter that is not Latin, such as "Cyrillic". A lone Greek letter is a sign: "Ω-shaped".

    >>> script("красный гребень"), script("crème, Ω-shaped")
    ('Cyrillic', '')
    """
    if text.isascii():
        return ""
    text = unicodedata.normalize("NFKC", text)
    for letter in re.finditer(r"[^\W\d_]", text):
        name = unicodedata.name(letter[0], "LATIN").split(" ")[0]
        if name in ("LATIN", "MODIFIER") or unicodedata.category(letter[0]) in ("Lm", "Nl"):
            continue
        beside = text[max(letter.start() - 1, 0) : letter.start()] + text[letter.end() : letter.end() + 1]
        if name != "GREEK" or any(c.isalpha() for c in beside):
            return name.capitalize()
    return ""


def language(texts: list[str]) -> tuple[str, int]:
    """The language of `texts` when it seems not to be English, else "", and the first text that says so.

    >>> language(["a red comb", "ein roter Kamm und ein Schnabel"]), language(["a fleur de lis"])
    (('German', 1), ('', 0))
    """
    words = [Counter(_WORD.findall(text.lower())) for text in texts]
    joined = sum(words, Counter())
    counts = {name: _count(joined, list_) for name, list_ in _FOREIGN.items()}
    likely = max(counts, key=counts.__getitem__)
    if counts[likely] < 2 or counts[likely] <= _count(joined, _ENGLISH):
        return "", 0
    return likely, next(i for i, w in enumerate(words) if _count(w, _FOREIGN[likely]) > _count(w, _ENGLISH))


def _count(words: Counter[str], list_: frozenset[str]) -> int:
    return sum(n for word, n in words.items() if word in list_)


def names_of(class_: ClassName) -> list[str]:
    """What a class is called: its name and its aliases, without "(...)" and "_"; no list of synonyms, nothing short.

    >>> names_of(ClassName("1", "kite (bird of prey)", ("glede", "kit", "kite, glede")))
    ['kite', 'glede']
    """
    names = [part for part in class_.name.split(" / ") if len(part.strip()) > 1]  # "a" is a word of any descriptor
    names += [alias for alias in class_.aliases if len(alias.strip()) >= MIN_ALIAS and "," not in alias]
    plain = [re.sub(r"\s*\([^)]*\)", "", name).replace("_", " ").strip() or name for name in names]
    return [*dict.fromkeys(name for name in plain if in_words(name).strip())]


def in_words(text: str) -> str:
    """The words of a text in the singular, a blank around each: a name stands in a text when its words do in these.

    >>> in_words("a Hen's red_combs")
    ' a hen s red comb '
    """
    return "".join(f" {_singular(word)}" for word in re.findall(r"[^\W_]+", reads_as(text))) + " "


def _singular(word: str) -> str:
    if word in _ITSELF:
        return word
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
