"""From comparisons to a sentence: who is judged, what each is set against, and what it says. The rules, all of them:

A difference is "better" or "worse" when its Holm-adjusted McNemar p is below 0.05 and its 95 % interval leaves out 0;
"the same" when the interval lies within one point of 0 on both sides, and there are 300 images or more: where no answer
differs among n, up to 3 / n may (the rule of three). Else it is "unclear", which is not "the same".

    code         descriptors against the name    against random words
    harm         worse                           any
    no-gain      the same                        any
    unclear      unclear                         any
    no-control   better                          not measured
    meaning      better                          better
    ensembling   better                          the same, or worse
    unexplained  better                          unclear
    no-baseline  not measured                    any

"no-descriptors" where no method that judges descriptors was measured. The name is the bare name, or else "photo"; the
random words must be worded and pooled as the descriptors are.

Descriptors selected in the neighbourhood are judged by the same table, against the name in the wording of their
captions and against random words selected on the same images. "ensembling" is "any-words" there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmdesc.evaluation.methods import METHODS, Method
from vlmdesc.records.report import Difference, Interval, Verdict
from vlmdesc.text import counted, p_value

ALPHA = 0.05
MARGIN = 0.01  # of accuracy: differences below one point are the same for all that matters
ENSEMBLING = ("ensembling", "the gain is ensembling, not meaning")
ANY_WORDS = ("any-words", "the gain does not come from what they say")

# What is said of a difference to a method besides the baseline and the control: better, worse, the same, unclear.
SENTENCES = {
    "templates": (
        "They beat an ensemble of name templates too",
        "An ensemble of name templates does better",
        "An ensemble of name templates does as well",
        "Whether they beat an ensemble of name templates is unclear",
    ),
    "swapped": (
        "Given to other classes than their own they lose their worth",
        "Given to other classes than their own they do better",
        "Given to other classes than their own they do as well",
        "Whether it matters which class they are given to is unclear",
    ),
    "neighborhood-own": (
        "The selected beat each class's own",
        "Each class's own do better",
        "Each class's own do as well",
        "Whether the selected beat each class's own is unclear",
    ),
    "neighborhood-random": (
        "They beat descriptors drawn at random",
        "Random draws do better",
        "Random draws do as well",
        "Whether they beat descriptors drawn at random is unclear",
    ),
    "few-shot": (
        "They beat prototypes of the same images",
        "Prototypes of the same images, without descriptors, do better",
        "Prototypes of the same images do as well",
        "Whether they beat prototypes of the same images is unclear",
    ),
    "neighborhood-free": (
        "Selected without labels they beat the caption too",
        "Selected without labels they do worse than the caption",
        "Selected without labels they do as the caption does",
        "Whether selected without labels they beat the caption too is unclear",
    ),
}


def state(ci95: Interval, p_holm: float, n: int) -> str:
    """ "better", "worse", "same" or "unclear": of a difference with this interval and p on n images.

    >>> state((0.03, 0.05), 0.001, 500), state((-0.005, 0.005), 1.0, 500), state((-0.005, 0.005), 1.0, 200)
    ('better', 'same', 'unclear')
    """
    low, high = ci95
    if p_holm < ALPHA and (low > 0 or high < 0):
        return "better" if low > 0 else "worse"
    return "same" if low > -MARGIN and high < MARGIN and 3 / n <= MARGIN else "unclear"


@dataclass(frozen=True)
class Family:
    """A method that is judged, and what it is set against, by the names that its entry gives them."""

    main: Method
    others: Mapping[str, Method]

    @property
    def selects(self) -> bool:
        """Whether it is fitted to images: each such method is judged by itself, else the first of a descriptor set."""
        return self.main.entry.kind == "fitted"


def families(methods: Sequence[Method]) -> list[Family]:
    """Who is judged, and by what: of each descriptor set the first method that judges it, then what is selected."""
    judged = [m for m in methods if m.entry.called and m.entry.against and m.per_class is None]
    order, described = [*METHODS], [m for m in judged if m.entry.kind != "fitted"]
    mains = [
        min((m for m in described if m.of == of), key=lambda m: order.index(m.base))
        for of in dict.fromkeys(m.of for m in described)
    ]
    mains += [m for m in judged if m.entry.kind == "fitted"]
    return [Family(main, _others(main, methods)) for main in mains]


def _others(main: Method, methods: Sequence[Method]) -> dict[str, Method]:
    """What a method is set against, as far as it was measured.

    Names count however they are worded, but for what selects, which is set against its own captions. All else must be
    worded and pooled as the main method is: else the wording would be judged.
    """

    def alike(other: Method) -> bool:
        same = (other.phrase, other.pool, other.per_class) == (main.phrase, main.pool, main.per_class)
        return same or (other.entry.kind == "name" and main.entry.kind != "fitted")

    fit = [m for m in methods if m.of in ("", main.of) and alike(m)]
    found = {}
    for wanted in main.entry.against:
        bases = [base for base, entry in METHODS.items() if wanted in (base, entry.stands_for)]
        other = next((m for base in bases for m in fit if m.base == base), None)
        if other is not None:
            found[wanted] = other
    return found


def base_and_main(methods: Sequence[Method]) -> tuple[str, str]:
    """The pair that tables and images are about: the baseline and the first set's main method, where there are any,
    else the first methods that are not controls.
    """
    plain = sorted(methods, key=lambda method: (method.entry.kind == "control", len(method.seeds) > 1))
    first = next(iter(families(methods)), Family(plain[0], {}))
    main = first.main
    base = None if first.selects else first.others.get(next(iter(main.entry.against), ""))
    return (base or next((method for method in plain if method is not main), main)).name, main.name


def pairs(methods: Sequence[Method]) -> list[tuple[str, str]]:
    """The comparisons that are made, each once: the main method with all others, what is judged with what it is set
    against, and this with what it is set against itself there. Neither a control nor what has several seeds is the
    first.
    """
    by_name = {method.name: method for method in methods}
    _, main = base_and_main(methods)
    found = [(main, other) for other in by_name if other != main]
    for family in families(methods):
        found += [(family.main.name, other.name) for other in family.others.values()]
        for other in family.others.values():
            found += [(other.name, family.others[name].name) for name in other.entry.against if name in family.others]
    for method in methods:
        found += [(method.name, other.name) for other in methods if other.base == method.entry.beside][:1]
    first = {name for name, method in by_name.items() if method.entry.kind != "control" and len(method.seeds) == 1}
    return [(a, b) for a, b in dict.fromkeys(found) if a != b and a in first]


def judge(
    methods: Sequence[Method],
    comparisons: Sequence[Difference],
    accuracy: Mapping[str, float],
    n: int,
    n_classes: int,
) -> Verdict:
    """The verdict on each descriptor set and selection, by differences on n images; `accuracy` is each method's."""
    by_pair = {(row.a, row.b): row for row in comparisons}
    several = len({method.of for method in methods if method.of}) > 1
    sets, selection = dict[str, Verdict](), list[Verdict]()
    for family in families(methods):
        subject = family.main.entry.called.format(of=f" of {family.main.of}" if several else "")
        found = judge_family(family, by_pair, subject, n)
        if family.selects:
            selection.append(found)
        else:
            free = next((m.name for m in methods if m.base == "free" and m.of == family.main.of), family.main.name)
            if free != family.main.name:
                reach = f"Without the names they reach {100 * accuracy[free]:.1f} % (chance: {100 / n_classes:.1f} %)."
                found = Verdict(found.code, f"{found.text} {reach}")
            sets[family.main.of] = found
    first = next(iter([*sets.values(), *selection]), None)
    if first is None:
        known = ", ".join(name for name, entry in METHODS.items() if entry.called and entry.against)
        first = Verdict("no-descriptors", f"No method that judges descriptors was measured ({known}).")
    return Verdict(first.code, first.text, sets if len(sets) > 1 else {}, tuple(selection))


def judge_family(family: Family, by_pair: Mapping[tuple[str, str], Difference], subject: str, n: int) -> Verdict:
    """The judgement on one method, called `subject`, by its differences to what it is set against on n images."""
    main, others = family.main, family.others
    baseline, control = main.entry.against[:2]
    wanted = {name: (main.name, m.name) for name, m in others.items()}
    for name in (name for name, m in others.items() if m.entry.against):  # it is set against the baseline itself
        wanted[name] = (others[name].name, others[baseline].name if baseline in others else "")
    against = {name: by_pair[pair] for name, pair in wanted.items() if pair in by_pair}
    name = METHODS[others[baseline].base].called if baseline in others else ""
    said = ("their caption alone", ANY_WORDS) if family.selects else (name, ENSEMBLING)
    code, text = _first(subject, *said, (against.get(baseline), against.get(control)), n)
    more = [_sentence(key, against[key]) for key in main.entry.against[2:] if key in against and key in SENTENCES]
    return Verdict(code, " ".join((text, *more)))


def _first(
    subject: str,
    baseline: str,
    otherwise: tuple[str, str],
    against: tuple[Difference | None, Difference | None],
    n: int,
) -> tuple[str, str]:
    """Code and sentence by the differences to the baseline and to random words."""
    name, control = against
    if name is None:
        return "no-baseline", f"{subject} were not set against the name alone, so what they add to it is not known."
    if name.state == "worse":
        return "harm", f"{subject} do harm: {baseline} is better ({_tell(name)}, n={n})."
    if name.state == "same":
        return "no-gain", f"{subject} change nothing that matters against {baseline} ({_tell(name)}, n={n})."
    if name.state == "unclear":
        who = subject[0].lower() + subject[1:]
        return "unclear", f"{counted(n, 'image')} cannot tell whether {who} beat {baseline} ({_tell(name)})."
    beat = f"{subject} beat {baseline} by {points(name.delta)} points ({_evidence(name)}, n={n})"
    if control is None:
        why = "but random words in the same wording were not tried: whether it is what they say, is not known."
        return "no-control", f"{beat}, {why}"
    if control.state == "better":
        gain = f"and random words by {points(control.delta)} ({_evidence(control)}): what they say helps."
        return "meaning", f"{beat}, {gain}"
    if control.state == "unclear":
        return "unexplained", f"{beat}; {counted(n, 'image')} cannot tell them from random words ({_tell(control)})."
    code, why = otherwise
    but = "but random words do better still" if control.state == "worse" else "but not random words"
    return code, f"{beat}, {but} ({_tell(control)}): {why}."


def _sentence(name: str, found: Difference) -> str:
    words = dict(zip(("better", "worse", "same", "unclear"), SENTENCES[name], strict=True))
    return f"{words[found.state]} ({_tell(found)}{' for the right ones' if name == 'swapped' else ''})."


def _tell(found: Difference) -> str:
    return f"{points(found.delta, sign=True)}, {_evidence(found)}"


def _evidence(found: Difference) -> str:
    """The interval and p, as a sentence has them."""
    low, high = map(points, found.ci95)
    p = p_value(found.p_holm)
    return f"95 % CI {low} to {high}, p{'' if p.startswith('<') else '='}{p}"


def points(fraction: float, sign: bool = False) -> str:
    """A fraction in points: one hundredth of the images is one.

    >>> points(0.0412), points(-0.006), points(0.002, sign=True)
    ('4.1', '-0.6', '+0.2')
    """
    return f"{100 * fraction:{'+' if sign else ''}.1f}"
