"""Labelled images, embedded, for what looks at the answers to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vlmdesc.classification.heads import HeadCard
from vlmdesc.classification.heads.head import check_classes, check_encoder
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.labelled import Joining, Labelled, class_numbers, only
from vlmdesc.embeddings.load import encoder_of
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import InputError
from vlmdesc.evaluation.caveats import caveats
from vlmdesc.records import Descriptors
from vlmdesc.records.progress import Progress, note
from vlmdesc.text import did_you_mean

Loader = Encoder | str | Callable[[], Encoder]
STRICT = Joining()
Source = DataSet | Labelled | str | Path


def open_labelled(data: Source, group: str) -> DataSet | Labelled:
    """A data set with its groups in that column, "" for the one that it was loaded with; or labelled embeddings.

    Raises: InputError for a column that is not there, and as `load_data`.
    """
    if isinstance(data, Labelled):
        return data
    if not isinstance(data, DataSet):
        return load_data(data, group_column=group)
    if group in ("", data.roles.group):
        return data
    known = data.table.list_columns(group)
    if group not in known:
        fix = f"{did_you_mean(group, known)}use one of {', '.join(known)}"
        raise InputError(f"no column '{group}'", where=data.name, fix=fix)
    return replace(data, roles=replace(data.roles, group=group))


def embed_labelled(
    data: DataSet | Labelled,
    given: Descriptors,
    encoder: Loader,
    joining: Joining,
    store: Store | bool,
    progress: Progress,
) -> tuple[Labelled, Encoder, Descriptors]:
    """The images, what encodes texts, and the descriptors of the classes that are scored among; notes what to know.

    What is wrong with labels and classes is told before an encoder is loaded. Raises: as `Labelled.of`.
    """
    if isinstance(data, DataSet) and not isinstance(encoder, Encoder):
        given, _ = class_numbers(data, given, joining)
    encoder = encoder_of(encoder)
    images = data
    if isinstance(images, DataSet):
        images = Labelled.of(images, given, encoder, joining=joining, store=store, progress=progress)
        given = only(given, [class_.id for class_ in images.classes])
    for sentence in caveats(images, {"the set": given} if given.rows else {}):
        note(sentence)
    return images, encoder, given


def check_images(card: HeadCard, images: Labelled) -> None:
    """Raises: ModelError where a head is for embeddings of another encoder; InputError where it has other classes."""
    check_encoder(card, images.encoder or card.encoder)
    check_classes(card, images.classes or card.classes)
