"""What is wrong with a descriptor set, in itself and as an encoder reads it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlmdesc.descriptors import lint as texts
from vlmdesc.descriptors.lint import Finding, finding, in_order, left_out, same, says
from vlmdesc.descriptors.phrase import Phrase, get_phrase
from vlmdesc.embeddings.embed import text_vectors
from vlmdesc.embeddings.load import encoder_of
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.records import Descriptors
from vlmdesc.records.descriptors import DescriptorSource
from vlmdesc.records.progress import Progress, collect_notes, silent

# With the starter, pairs reworded by hand ("large ears", "big ears") have 0.94 to 0.99, and pairs that differ ("two
# wheels", "four wheels") 0.93 at most; of the 14,591 pairs within a class of published ImageNet 2 are above.
NEAR = 0.95


@dataclass(frozen=True)
class Findings:
    """What lint found in a set: first about classes, in their order, then by row."""

    descriptors: Descriptors
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Findings by code, most first."""
        return dict(Counter(finding.code for finding in self.findings).most_common())

    def to_dict(self) -> dict[str, Any]:
        return {
            "classes": len(self.descriptors.classes),
            "rows": len(self.descriptors.rows),
            "findings": [asdict(finding) for finding in self.findings],
            "counts": self.counts,
        }

    def __repr__(self) -> str:
        return f"Findings({', '.join(f'{n} {code}' for code, n in self.counts.items()) or 'none'})"


def lint(
    descriptors: DescriptorSource,
    encoder: Encoder | str | None = None,
    *,
    phrase: str = "plain",
    ignore: Iterable[str] = (),
    store: Store | bool = True,
    progress: Progress = silent,
) -> Findings:
    """What keeps the enabled descriptors from telling their class apart in an image: copies, names, sounds, marks, ...

    With an encoder also the texts that it cuts off, as `phrase` words them, and those it hardly tells apart. `ignore`
    are codes to leave out; `fix` mends what can be mended.
    Raises: InputError for descriptors, a phrase or a code that cannot be used; as `load_encoder`.
    """
    descriptors, wording, ignore = Descriptors.load(descriptors), get_phrase(phrase), frozenset(ignore)
    found, leave = [*texts.lint(descriptors, ignore)], left_out(descriptors, ignore)
    if encoder is None:
        return Findings(descriptors, tuple(found))
    with collect_notes() as notes:
        encoder = encoder_of(encoder)
        places = dict[str, Iterator[tuple[int, str]]]()
        places["too-long"] = _too_long(descriptors, encoder, wording)
        places["near-duplicate"] = _near_duplicates(descriptors, encoder, store_of(store), progress)
        for code in places.keys() - leave:
            found += [finding(descriptors, code, m, what) for m, what in places[code]]
    return Findings(descriptors, in_order(descriptors, found), tuple(notes))


def _too_long(descriptors: Descriptors, encoder: Encoder, phrase: Phrase) -> Iterator[tuple[int, str]]:
    names, seen = {c.id: c.name for c in descriptors.classes}, set[str]()
    for m, row in enumerate(descriptors.rows):
        text = phrase.say(names[row.class_id], row.text)
        if row.enabled and text not in seen and _cuts(encoder, text):
            words = text.split()
            whole = next((i for i in range(len(words)) if _cuts(encoder, " ".join(words[: i + 1]))), 0)
            lost = f"the end is lost from about '{words[whole][:40]}' on"
            worded = f"has {encoder.n_tokens(text)} tokens as phrase {phrase.name} words it"
            yield m, f"{worded}, and {encoder.name} reads {encoder.context_length}: {lost}"
        seen.add(text)


def _near_duplicates(
    descriptors: Descriptors, encoder: Encoder, store: Store | None, progress: Progress
) -> Iterator[tuple[int, str]]:
    firsts: dict[str, dict[str, int]] = defaultdict(dict)  # of texts that say the same only the first is compared
    for m, row in enumerate(descriptors.rows):
        if row.enabled and says(row.text) and not _cuts(encoder, row.text):  # such are found by another code
            firsts[row.class_id].setdefault(same(row.text), m)
    rows = [m for own in firsts.values() for m in own.values()]
    vectors = text_vectors([descriptors.rows[m].text for m in rows], encoder, store, progress)
    at = 0
    for own in firsts.values():
        near = np.tril(vectors[at : at + len(own)] @ vectors[at : at + len(own)].T, -1)
        for later, earlier in enumerate(near.argmax(1)):
            if near[later, earlier] >= NEAR:
                other = f"row {rows[at + earlier]}, '{descriptors.rows[rows[at + earlier]].text}'"
                yield rows[at + later], f"says nearly the same as {other} (cosine {near[later, earlier]:.2f})"
        at += len(own)


def _cuts(encoder: Encoder, text: str) -> bool:
    """Whether the end of a text is not read. A token has one byte at the least, and begin and end are two."""
    return len(text.encode()) + 2 > encoder.context_length and encoder.n_tokens(text) > encoder.context_length
