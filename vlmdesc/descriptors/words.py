"""Word lists of the "plain" phrase: what a descriptor's head noun or first word tells about its grammar."""

from __future__ import annotations

# A thing of this kind *is* the class ("a small wading bird"); anything else is something the class *has*.
KINDS = frozenset(
    """
    being bloom covering form kind landscape piece sort species type
    accessory aircraft airplane alga amphibian animal antelope ape apparatus appliance arachnid arthropod
    artifact athlete automobile bag barrier bear beast bed beetle beverage bicycle bird boat book bovine box
    bread breed bud buggy building bus butterfly canine canister car carnivore carriage carrier cart cat cattle
    cephalopod cetacean cloak closure clothing cocktail coelenterate colony computer condiment container
    controller cooker cookware costume crab craft creature crop crustacean cuckoo cupboard cycle delicacy
    dessert device dinosaur dish dispenser dog doll dress dressing drink drum dwelling echinoderm electronics
    elephant equipment facility factory fastener fastening feline ferry firearm fish fixture flatworm flower
    flute footwear fossil fowl fruit fungus furniture gadget  game garment gastropod  gateway gazelle
    geyser goat gourd grazer guardian guitar gun gundog handgun hat headdress headgear headpiece heater
    herb herbivore herder hog hominid horse hound house implement insect instrument invertebrate item jacket
    jellyfish jet jewelry jug kennel kit kitten knife lamp landform landmark lizard loaf lobster
    lotion machine machinery mammal marsupial meal mechanism mineral missile mite mixture mollusc mollusk monkey
    monument motorbike motorcycle mountain mushroom newt novelty object omnivore orb-weaver orbiter orchid
    organism ornament outfit owl pan parasite parrot pastry peak pet piano pickup pig place plant pot predator
    primate produce product projectile pudding pullover puppy rabbit racket raptor ray receiver receptacle
    reflector relative reptile residence restaurant retriever robe rocket rodent rug sack salamander sandwich
    savanna scarf scavenger seabird seed serpent setter settlement shark sheep sheepdog shellfish ship shoe shop
    shorebird shrine sled slug snack snake sneaker songbird soother soup spaniel sphere spider splint spoon
    statue stove structure  swimmer swimsuit swimwear swine system tarantula telephone terminal terrier
    thing thrush timepiece timer toadstool tool topping tortoise toy tractor trailer trap treat trolley trooper
    trousers truck turtle two-wheeler undergarment ungulate utensil van vegetable vehicle vessel viper wader
    wagon warbler warship waterbird waterfowl weapon web-spinner weed weevil whale wildcat wolf woodpecker
    woodwind worm wrap
    """.split()
)

# Countable parts: "long tail" reads better as "a long tail".
PARTS = frozenset(
    """
    antenna back band bar base beak beard belly bill blade body bonnet bottom breast bumper button cap chest chimney
    chin coat collar comb cord crest crown dial dome dorsal drawer ear edge eye face fin flap forehead frame fringe
    frill front grille handle head hood horn hull hump jaw keel knob label leg lens lid lip log mane mast mask
    mouth muzzle neck nose nozzle patch petal pocket pole pouch rim ring roof ruff saddle screen seat shaft shape shell
    silhouette snout spine spire spot spout stalk stem sting stomach strap stripe surface switch tail throat tip
    tongue top trigger trunk tuft visor waist wheel windshield wing wingspan
    """.split()
)

# A descriptor beginning with one of these is already a clause: "which has ...", "which can ...".
VERBS = frozenset(
    """
    appears bears blends can comes consists contains covers curls displays ends extends features fits floats folds
    forms glows grows hangs has holds includes lacks leans lies lives looks may might must opens points resembles
    rests rises runs seems shines shows sits slopes stands tapers turns varies wears
    """.split()
)

ADVERBS = frozenset("commonly frequently generally mostly often rarely sometimes typically usually".split())

# A descriptor ending in, or beginning with, one of these states a quality: "which is red", "which is made of wood".
QUALITIES = frozenset(
    """
    able adapted alert amber arranged available beige big black blue bright bronze brown bushy circular clear
    colored coloured colorful colourful covered cream crisp crunchy curly curved cylindrical dark decorated designed
    dense dry elegant elongated fierce filled flat flexible fluffy found furry glossy golden gray green grey hairless
    hairy heavy hollow juicy known large lean light located long made moist muscular narrow native
    nocturnal opaque orange oval pale patterned pink pointed portable powerful purple rectangular red reddish
    related round rounded rough sharp shaggy shallow shaped shiny short silver similar simple sleek slender slim
    small smooth soft solid spherical spotted square stocky strong striped stout sturdy surrounded tall tan thick
    thin tiny topped transparent triangular turquoise used violet visible white wide wild wooden worn wrinkled
    yellow yellowish
    """.split()
)

# Participles that do not end in -ed or -ing.
PARTICIPLES = frozenset(
    """
    bent born borne built cut drawn driven found grown held hung kept laid made set shown slung spun strung woven worn
    """.split()
)

# Where a noun phrase's head ends: what follows only qualifies it.
BREAKS = frozenset(
    """
    about above across against along among around at atop behind below beneath beside between beyond by down during
    for from full in inside into like near of off on onto out over per than that through to toward towards under
    underneath up upon when where which while who with within without
    """.split()
)

DETERMINERS = frozenset(
    """
    a an the its their this that these those one two three four five six seven eight nine ten several many some few
    multiple numerous various no another each every both
    """.split()
)
