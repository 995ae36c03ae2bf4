"""Which methods play which part: what is judged, what it is set against, what is drawn beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vlmdesc.evaluation.methods import METHODS, Method, playing
from vlmdesc.evaluation.verdict import NO_DESCRIPTORS, Difference, Verdict, judge, judge_selection


def roles(methods: Sequence[Method], of: str) -> dict[str, Method]:
    """Parts in the verdict on one descriptor set: "main", and where measured "name", "templates", "waffle", "swapped".

    Controls count only where they are worded and pooled as the main method is: else the wording would be judged.
    """
    mine = [method for method in methods if method.of in ("", of)]
    main = _first(mine, playing("main"))
    if main is None:
        return {}
    alike = [m for m in mine if (m.phrase, m.pool) == (main.phrase, main.pool)]
    found = {
        "main": main,
        "name": _first(mine, playing("name")),
        "templates": _first(mine, playing("templates")),
        "waffle": _first(alike, playing("waffle")),
        "swapped": _first(alike, playing("swapped")),
        "free": _first(mine, ("free",)) if main.base != "free" else None,
    }
    return {role: method for role, method in found.items() if method}


def drawn(methods: Sequence[Method]) -> tuple[str, str]:
    """The pair that tables and images are about, (base, main): the name and the first set's main method, where there
    are any, else the first methods that are no controls.
    """
    parts = roles(methods, next((m.of for m in methods if m.of), ""))
    plain = sorted(methods, key=lambda method: (method.kind == "control", len(method.seeds) > 1))
    selected = next((found["main"] for found in selections(methods)), plain[0])
    main = parts.get("main", selected)
    base = parts.get("name") or next((method for method in plain if method is not main), main)
    return base.name, main.name


def pairs(methods: Sequence[Method]) -> list[tuple[str, str]]:
    """The comparisons that are made, each once: the main method with all others, each set's own with the parts of its
    verdict, what is mixed with the name alone, and the selected with the parts of theirs. Neither a control nor what
    has several seeds is ever the first.
    """
    by_name = {method.name: method for method in methods}
    _, main = drawn(methods)
    found = [(main, other) for other in by_name if other != main]
    for of in sets(methods):
        parts = roles(methods, of)
        found += [(parts["main"].name, m.name) for role, m in parts.items() if role not in ("main", "free")]
    for parts in selections(methods):
        found += [(parts["main"].name, m.name) for role, m in parts.items() if role != "main"]
        if "unlabelled" in parts and "name" in parts:
            found.append((parts["unlabelled"].name, parts["name"].name))
    photo = _first(methods, ("photo",))
    found += [(m.name, photo.name) for m in methods if m.kind == "mix" and photo]
    single = {name for name, method in by_name.items() if len(method.seeds) == 1}
    return [(a, b) for a, b in dict.fromkeys(found) if a != b and by_name[a].kind != "control" and a in single]


def verdicts(
    methods: Sequence[Method], comparisons: Iterable[Difference], free: Mapping[str, float], chance: float
) -> dict[str, Verdict]:
    """The verdict on each descriptor set; `free` has the accuracy of methods without the names."""
    by_pair = {(row.a, row.b): row for row in comparisons}
    found = {}
    for of in sets(methods):
        parts = roles(methods, of)
        main = parts["main"]
        against = {r: by_pair[main.name, m.name] for r, m in parts.items() if (main.name, m.name) in by_pair}
        name = parts.get("name")
        subject = METHODS[main.base].called + (f" of {of}" if len(sets(methods)) > 1 else "")
        baseline = METHODS[name.base].called if name else ""
        reached = free.get(parts["free"].name) if "free" in parts else None
        found[of] = judge(against, subject, baseline, reached, chance)
    judged = ", ".join([*playing("main"), "neighborhood"])
    text = f"No method that judges descriptors was measured ({judged})."
    return found or {"": Verdict(NO_DESCRIPTORS, text)}


def selections(methods: Sequence[Method]) -> list[dict[str, Method]]:
    """Parts in the verdict on selection, for each descriptor set: "main", and where measured "name" in the wording of
    its captions, "own", "waffle" and "random" as its controls, "shots" and "unlabelled".
    """
    found = []
    for main in (m for m in methods if m.base == "neighborhood" and m.per_class is None):
        alike = [m for m in methods if m.phrase == main.phrase and m.per_class is None and m.of in ("", main.of)]
        parts = {
            "main": main,
            "name": _first(alike, playing("name")),
            "waffle": _first(alike, ("neighborhood-waffle",)),
            "own": _first(alike, ("neighborhood-own",)),
            "random": _first(alike, ("neighborhood-random",)),
            "shots": _first(alike, ("few-shot",)),
            "unlabelled": _first(alike, ("neighborhood-free",)),
        }
        found.append({role: method for role, method in parts.items() if method})
    return found


def selection_verdicts(methods: Sequence[Method], comparisons: Iterable[Difference]) -> list[Verdict]:
    """The verdict on each selection in a neighbourhood."""
    by_pair = {(row.a, row.b): row for row in comparisons}
    found, several = [], len({m.of for m in methods if m.of}) > 1
    for parts in selections(methods):
        main = parts["main"]
        against = {r: by_pair[main.name, m.name] for r, m in parts.items() if (main.name, m.name) in by_pair}
        if "unlabelled" in parts and "name" in parts:
            against["unlabelled"] = by_pair[parts["unlabelled"].name, parts["name"].name]
        found.append(judge_selection(against, f" of {main.of}" if several else ""))
    return found


def sets(methods: Sequence[Method]) -> list[str]:
    """The descriptor sets that some method judges, in order."""
    return [*dict.fromkeys(m.of for m in methods if METHODS[m.base].part == "main")]


def _first(methods: Sequence[Method], bases: Iterable[str]) -> Method | None:
    """The first method of the first of these bases that has one."""
    return next((method for base in bases for method in methods if method.base == base), None)
