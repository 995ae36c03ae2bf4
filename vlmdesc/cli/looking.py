"""Labelled images, embedded, for commands that look at what a descriptor set does to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmdesc.cli.border import say
from vlmdesc.cli.fitting import name_failures
from vlmdesc.cli.options import open_data
from vlmdesc.errors import InputError
from vlmdesc.text import counted, shown

if TYPE_CHECKING:
    from vlmdesc.classification.heads.pooled import Pooled
    from vlmdesc.embeddings.data import DataSet
    from vlmdesc.embeddings.labelled import Joining, Labelled
    from vlmdesc.embeddings.protocol import Encoder
    from vlmdesc.embeddings.store import Store
    from vlmdesc.records import Descriptors


@dataclass(frozen=True)
class Looked:
    """A data set's labelled images, the descriptors of the classes they are told apart by, and what encodes texts."""

    data: DataSet
    photos: Labelled
    given: Descriptors
    encoder: Encoder
    store: Store

    def fit(self, descriptors: Descriptors, phrase: str, pool: str) -> Pooled:
        """The head of a descriptor set."""
        from vlmdesc.classification.heads.pooled import fit_pooled

        return fit_pooled(self.encoder, descriptors, phrase, pool, self.store)


def look(
    dataset: list[str],
    columns: Mapping[str, str],
    given: Descriptors,
    joining: Joining,
    open_model: Callable[[], Encoder],
) -> Looked:
    """Read, joined and embedded. `columns` are options of `load_data`.

    Images that cannot be used are named, and copies count once. What is wrong with labels and classes is told before
    the model is loaded. Raises: InputError, StoreError.
    """
    from vlmdesc.cli.progress import stages
    from vlmdesc.embeddings.labelled import class_numbers, distinct, gather
    from vlmdesc.embeddings.store import Store
    from vlmdesc.evaluation.caveats import caveats

    data = open_data(dataset, **columns)
    if data.roles.label == "":
        raise InputError("no labels", where=data.name, fix="use --label-column with the column of classes")
    given, numbers = class_numbers(data, given, joining)
    encoder, store = open_model(), Store()
    with stages() as stage:
        tick = stage("images", int((numbers >= 0).sum()))
        photos = gather(data, numbers, encoder, store, lambda: tick(1))
    name_failures(photos.failed)
    once = distinct(photos)
    if len(once.labels) < len(photos.labels):
        say(f"{counted(len(photos.labels) - len(once.labels), 'copy')} of other images left out")
    for sentence in caveats(once, {"the set": given}):
        say(f"warning: {shown(sentence)}")
    return Looked(data, once, given, encoder, store)
