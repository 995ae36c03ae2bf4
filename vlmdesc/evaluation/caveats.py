"""What makes the figures of an evaluation mean less than they seem to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vlmdesc.descriptors.phrase import fill_in, get_phrase
from vlmdesc.embeddings.labelled import Labelled, without
from vlmdesc.errors import InputError
from vlmdesc.evaluation.methods import Method
from vlmdesc.records import Descriptors
from vlmdesc.text import counted, few

MOST_GROUPS = 1_000


def caveats(images: Labelled, sets: Mapping[str, Descriptors]) -> Iterator[str]:
    """One sentence for each thing to know.

    Raises: InputError where there are more groups than can be told apart.
    """
    if len(set(images.groups)) > MOST_GROUPS:
        what = f"{len(set(images.groups)):,} groups, more than {MOST_GROUPS:,}"
        raise InputError(what, where="the group column", fix="use --group-column with a column of few values")
    if copies := len(images.contents) - len(set(images.contents)):
        yield f"{counted(copies, 'image')} seen before, byte for byte: intervals are narrower than they should be"
    if torn := _torn(images):
        yield f"{counted(torn, 'image')} under a second label, where one of two answers must be wrong"
    if images.unlabelled:
        yield f"{counted(images.unlabelled, 'row')} without a class left out"
    for name, descriptors in sets.items():
        if len(descriptors.classes) == 1:
            yield "one class only: every image will be it"
        _, bare = fill_in(descriptors, get_phrase("plain"))
        if bare:
            names = few(class_.name for class_ in bare)
            yield f"{counted(len(bare), 'class')} of {name} without a descriptor, scored by name: {names}"


def reference_caveats(reference: Labelled, images: Labelled, labels: Sequence[str | None]) -> Iterator[str]:
    """The same of a reference; `labels` are those of all its rows."""
    if failed := reference.failed:
        yield f"{counted(len(failed), 'image')} of the reference could not be used; the first: {failed[0]}"
    used = {labels[row] for row in reference.rows} | {*reference.failed_labels}
    strange = [label for label in labels if label is not None and label not in used]
    if strange:
        of = few(dict.fromkeys(strange))
        yield f"{counted(len(strange), 'image')} of the reference passed over, whose labels are no class: {of}"
    if shared := len(reference.labels) - len(without(reference, images).labels):
        yield f"{counted(shared, 'image')} of the reference left out: evaluated on"
    if torn := _torn(reference):
        yield f"{counted(torn, 'image')} of the reference under a second label, one of them wrong"


def curve_caveats(methods: Sequence[Method], reference: Labelled | None) -> Iterator[str]:
    """Where a learning curve asks for more images than there are; the reference is what is learned from."""
    most = int(np.bincount(reference.labels).max()) if reference else 0
    for method in methods:
        if method.per_class and method.per_class > most:
            yield f"{method.name} learns from all of the reference: no class has more than {counted(most, 'image')}"


def _torn(images: Labelled) -> int:
    """How many images have a second label."""
    return len(set(zip(images.contents, images.labels.tolist(), strict=True))) - len(set(images.contents))
