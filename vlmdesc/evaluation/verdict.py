"""From comparisons to a sentence. The rules, all of them:

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

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vlmdesc.evaluation.statistics import p_value
from vlmdesc.text import counted

ALPHA = 0.05
MARGIN = 0.01  # of accuracy: differences below one point are the same for all that matters


@dataclass(frozen=True)
class Difference:
    """Top-1 accuracy of method a less that of b on the same n images: interval, McNemar p, and that p after Holm."""

    a: str
    b: str
    delta: float
    ci95: tuple[float, float]
    p: float
    p_holm: float
    n: int

    @property
    def state(self) -> str:
        """ "better", "worse", "same" or "unclear".

        >>> Difference("describe", "name", 0.04, (0.03, 0.05), 0.001, 0.001, 500).state
        'better'
        """
        low, high = self.ci95
        if self.p_holm < ALPHA and (low > 0 or high < 0):
            return "better" if low > 0 else "worse"
        within = low > -MARGIN and high < MARGIN
        return "same" if within and 3 / self.n <= MARGIN else "unclear"

    @property
    def evidence(self) -> str:
        """The interval and p, as a sentence has them."""
        low, high = map(points, self.ci95)
        p = p_value(self.p_holm)
        return f"95 % CI {low} to {high}, p{'' if p.startswith('<') else '='}{p}"

    def __str__(self) -> str:
        return f"{points(self.delta, sign=True)}, {self.evidence}"

    def record(self) -> dict[str, Any]:
        """As it stands in results.json."""
        return {key: value for key, value in asdict(self).items() if key != "n"} | {"state": self.state}


@dataclass(frozen=True)
class Verdict:
    """What was found: a stable code, and the same in words."""

    code: str
    text: str


def judge(
    against: Mapping[str, Difference],
    subject: str = "Descriptors",
    baseline: str = "the name alone",
    free: float | None = None,
    chance: float = 0.0,
) -> Verdict:
    """The verdict on descriptors by their differences to "name", "templates", "waffle" and "swapped", where measured.

    `subject` and `baseline` are what the sentence calls them and the name; the controls must be worded and pooled as
    the descriptors are. `free` is the accuracy of the descriptors without the names.
    """
    code, text = _main(subject, baseline, against.get("name"), against.get("waffle"), ENSEMBLING)
    more = (
        _templates(against.get("templates")),
        _swapped(against.get("swapped")),
        "" if free is None else f"Without the names they reach {100 * free:.1f} % (chance: {100 * chance:.1f} %).",
    )
    return Verdict(code, " ".join(filter(None, (text, *more))))


def judge_selection(against: Mapping[str, Difference], of: str = "") -> Verdict:
    """The verdict on descriptors selected on labelled images, by their differences to "name", "waffle" (random words,
    selected), "own" (each class's own, none selected), "random" (drawn at random) and "shots" (the same images as
    prototypes), and that of "unlabelled" selection to the name.
    """
    subject = f"Descriptors{of} selected in the neighbourhood"
    code, text = _main(subject, "their caption alone", against.get("name"), against.get("waffle"), ANY_WORDS)
    more = [_sentence(words, against[part]) for part, words in _SELECTION.items() if part in against]
    return Verdict(code, " ".join((text, *more)))


NO_DESCRIPTORS = "no-descriptors"


ENSEMBLING = ("ensembling", "the gain is ensembling, not meaning")
ANY_WORDS = ("any-words", "the gain does not come from what they say")


def _main(
    subject: str, baseline: str, name: Difference | None, waffle: Difference | None, otherwise: tuple[str, str]
) -> tuple[str, str]:
    if name is None:
        return "no-baseline", f"{subject} were not set against the name alone, so what they add to it is not known."
    n = name.n
    if name.state == "worse":
        return "harm", f"{subject} do harm: {baseline} is better ({name}, n={n})."
    if name.state == "same":
        return "no-gain", f"{subject} change nothing that matters against {baseline} ({name}, n={n})."
    if name.state == "unclear":
        return "unclear", f"{counted(n, 'image')} cannot tell whether {_lower(subject)} beat {baseline} ({name})."
    beat = f"{subject} beat {baseline} by {points(name.delta)} points ({name.evidence}, n={n})"
    if waffle is None:
        why = "but random words in the same wording were not tried: whether it is what they say, is not known."
        return "no-control", f"{beat}, {why}"
    if waffle.state == "better":
        return (
            "meaning",
            f"{beat}, and random words by {points(waffle.delta)} ({waffle.evidence}): what they say helps.",
        )
    code, why = otherwise
    if waffle.state == "unclear":
        return "unexplained", f"{beat}; {counted(n, 'image')} cannot tell them from random words ({waffle})."
    if waffle.state == "worse":
        return code, f"{beat}, but random words do better still ({waffle}): {why}."
    return code, f"{beat}, but not random words ({waffle}): {why}."


def _lower(subject: str) -> str:
    return subject[0].lower() + subject[1:]


_TEMPLATES = {
    "better": "They beat an ensemble of name templates too",
    "worse": "An ensemble of name templates does better",
    "same": "An ensemble of name templates does as well",
    "unclear": "Whether they beat an ensemble of name templates is unclear",
}
_SWAPPED = {
    "better": "Given to other classes than their own they lose their worth",
    "worse": "Given to other classes than their own they do better",
    "same": "Given to other classes than their own they do as well",
    "unclear": "Whether it matters which class they are given to is unclear",
}


_SELECTION = {
    "own": ("The selected beat each class's own", "Each class's own do better", "Each class's own do as well"),
    "random": ("They beat descriptors drawn at random", "Random draws do better", "Random draws do as well"),
    "shots": (
        "They beat prototypes of the same images",
        "Prototypes of the same images, without descriptors, do better",
        "Prototypes of the same images do as well",
    ),
    "unlabelled": (
        "Selected without labels they beat the caption too",
        "Selected without labels they do worse than the caption",
        "Selected without labels they do as the caption does",
    ),
}


def _sentence(words: tuple[str, str, str], found: Difference) -> str:
    """A difference in the words for better, worse, the same."""
    better, worse, same = words
    text = {"better": better, "worse": worse, "same": same}.get(found.state, f"Whether {_lower(better)} is unclear")
    return f"{text} ({found})."


def _templates(templates: Difference | None) -> str:
    return f"{_TEMPLATES[templates.state]} ({templates})." if templates else ""


def _swapped(swapped: Difference | None) -> str:
    return f"{_SWAPPED[swapped.state]} ({swapped} for the right ones)." if swapped else ""


def points(fraction: float, sign: bool = False) -> str:
    """A fraction in points: one hundredth of the images is one.

    >>> points(0.0412), points(-0.006), points(0.002, sign=True)
    ('4.1', '-0.6', '+0.2')
    """
    return f"{100 * fraction:{'+' if sign else ''}.1f}"
