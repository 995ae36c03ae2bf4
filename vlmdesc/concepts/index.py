"""Images that can be searched: their vectors, and beside them which image each one is of.

IDX/index.json                   the card: what is here, whose vectors they are, and its files; see `bundle`
IDX/vectors-SHA256.safetensors   the vectors, or lists of them
IDX/rows-SHA256.arrow            row i says which image vector i is of
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import replace as _with
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from vlmdesc.bundle import Bundle, Put
from vlmdesc.concepts import nearest, search
from vlmdesc.concepts.collect import Changes, Data, EncoderSource, Loading, collect, merge_rows
from vlmdesc.concepts.duplicates import NEAR, Duplicates, duplicates
from vlmdesc.concepts.nearest import RECALL, Nearest, Some, Tick, no_tick
from vlmdesc.concepts.rows import Rows
from vlmdesc.concepts.search import Match, Query, SearchResult, as_list
from vlmdesc.concepts.vocabulary import shipped_words
from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.load import encoder_of, lasting_name, load_named
from vlmdesc.embeddings.pipeline import BATCH_SIZE, encode_images
from vlmdesc.embeddings.protocol import Encoder
from vlmdesc.embeddings.store import Store, store_of
from vlmdesc.errors import ImageError, InputError, ModelError, StoreError
from vlmdesc.records.progress import Progress, collect_notes, counter, silent
from vlmdesc.text import counted, did_you_mean

FORMAT = Bundle(
    "index",
    "index.json",
    schema=2,  # 1 had files of FAISS's own
    suffixes={"vectors": ".safetensors", "rows": ".arrow"},
    make="make one: vlmdesc index build DATASET --out IDX",
    again="make it again, which is quick since embeddings are kept: vlmdesc index build DATASET --out IDX --replace",
)
TRIAL_TEXTS = 200  # that the lists of a large index are tuned with
# Which rows to keep, and vectors and rows to put behind them, and what to say of it.
Plan = tuple[Bool[np.ndarray, " n"], Some, Rows, Changes]


@dataclass(frozen=True)
class Model:
    """The encoder that an index's vectors are of: how it is named on the command line, and its fingerprint."""

    name: str
    precision: str
    fingerprint: str


@dataclass(frozen=True, repr=False, eq=False)
class Index:
    """Images that can be searched: vector i is of the image that row i says. Made by `build` or `open`.

    >>> index = Index.build(data, "starter", "photos.idx")      # doctest: +SKIP
    >>> index.search("a red car", minus="people")               # doctest: +SKIP

    Nothing changes it: `add` and `remove` write to its folder (None for one in memory) and return what it is then, with
    what was done in `changes`. `built_for` is how many vectors its lists were tuned on, `files` what its card lists.
    """

    nearest: Nearest
    rows: Rows
    model: Model
    built_for: int
    folder: Path | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    notes: tuple[str, ...] = ()
    given: EncoderSource = ""  # what to use for `encoder`
    device: str = "auto"

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Index({counted(len(self), 'image')}, {self.model.name}, {self.folder or 'in memory'})"

    @classmethod
    def build(
        cls,
        data: Data,
        encoder: EncoderSource,
        folder: str | Path | None = None,
        *,
        recall: float = RECALL,
        replace: bool = False,
        store: Store | bool = True,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        strict: bool = False,
        progress: Progress = silent,
    ) -> Index:
        """An index of a data set's images, in a folder or, without one, in memory.

        `data` is a data set, or what `load_data` takes for one. Embeddings in the store are read, missing ones made.
        Up to 100,000 images every search is exact; beyond, lists are tuned to find the share `recall` of the 10
        nearest. With `replace` an index that is in the folder is used until the new one is whole. Images that cannot be
        used are left out, and among `changes`; with `strict` the first is raised.
        Raises: InputError when something else is in the folder, or no image can be used; StoreError; ImageError.
        """
        place = None if folder is None else Path(folder)
        if place:
            FORMAT.check_place(place, replace)
        with collect_notes() as notes:
            data, encoder = _open_data(data), encoder_of(encoder)
            collected = collect(data, encoder, Loading(store_of(store), batch_size, workers, strict, progress))
            rows, texts = collected.rows, encoder.texts([])
            if len(rows) > nearest.EXACT_ROWS and recall < 1:
                texts = encoder.texts(shipped_words()[:: len(shipped_words()) // TRIAL_TEXTS])
            tick = counter(progress, "indexing", len(rows))
            vectors = nearest.build(collected.vectors(rows), texts, recall, tick)
            model = Model(lasting_name(encoder.name), encoder.precision, encoder.fingerprint)
            made = cls(vectors, rows, model, len(rows), given=encoder, changes=collected.changes)
            if place:
                made = made.save(place, replace=replace)
        return _with(made, notes=tuple(notes))

    def save(self, folder: str | Path, *, replace: bool = False) -> Index:
        """Write it to a folder: the index there. Raises: as `build` with a folder."""
        place = Path(folder)
        return _with(self, folder=place, files=FORMAT.create(place, *self._content(), replace))

    @classmethod
    def open(cls, folder: str | Path, model: EncoderSource = "", *, device: str = "auto") -> Index:
        """Open an index, of whoever it is; its files are read once, to check them.

        The model is loaded when first needed, by default the one that the index names; `model` is where it is now, or
        an encoder. One on the hub is fetched only when `model` names it.
        Raises: InputError when there is none; StoreError naming the file that is damaged, missing, or of another
        version.
        """
        place = Path(folder)
        return _with(FORMAT.read(place, _load), folder=place, given=model, device=device)

    @staticmethod
    def is_in(folder: str | Path) -> bool:
        """Whether a folder is an index, whole or not."""
        return FORMAT.is_in(Path(folder))

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that its vectors are of, loaded when first asked for.

        Raises: InputError where it is on the hub and was not given; ModelError when another was given.
        """
        of, given = self.model, self.given
        if isinstance(given, str):
            given = load_named(of.name, given, device=self.device, precision=of.precision, where=self.folder or "")
        encoder = encoder_of(given)
        if encoder.fingerprint != of.fingerprint:
            what = "the index holds the embeddings of another model, or of other weights"
            fix = f"use its model, '{of.name}' in {of.precision}, or build it again"
            raise ModelError(what, where=self.folder or "", fix=fix)
        return encoder

    def search(
        self,
        query: object,
        *,
        minus: object = (),
        top: int = 20,
        filters: str | Iterable[str] = (),
    ) -> SearchResult:
        """The `top` images nearest to the sum of what is wanted less what is not, best first.

        Each part is a text, an image (a path, also as a string; bytes; a PIL image) or a `Match` of this index; images
        that are asked with are left out. `filters` such as "label=tabby*" or "id=*/2026/*" narrow it: of several for
        one column one is enough.
        Raises: InputError for a query that says nothing, or a filter that no row fits; ImageError for an image that
        cannot be used.
        """
        wanted, unwanted = ([search.parse(part) for part in as_list(parts)] for parts in (query, minus))
        if not wanted:
            raise InputError("nothing to look for", fix="give a text or an image")
        chosen = as_list(filters)
        self.rows.where(chosen)  # told before a model is loaded
        vectors, own = self._embed([*wanted, *unwanted])
        direction = search.compose(vectors[: len(wanted)], vectors[len(wanted) :])
        found = search.find(self.nearest, self.rows, direction, top, chosen, own)
        return SearchResult(
            index=str(self.folder or ""),
            model=self.model.name,
            wanted=tuple(map(search.wording, wanted)),
            unwanted=tuple(map(search.wording, unwanted)),
            hits=search.matches(self.rows, *found),
            rows=self.rows,
        )

    def _embed(self, parts: Sequence[Query]) -> tuple[Float32[np.ndarray, "p d"], list[bytes]]:
        """The vectors (P, D) of the parts of a query, and the contents of the images among them."""
        vectors, own = [], list[bytes]()
        for part in parts:
            if isinstance(part, str):
                vectors.append(self.encoder.texts([part])[0])
            elif isinstance(part, Match):
                own += self.rows.column("content", [part.row])
                vectors.append(self.nearest.vectors(np.array([part.row]))[0])
            else:
                [found] = encode_images(self.encoder, [part], collection=Store().images(self.encoder))
                if isinstance(found, ImageError):
                    raise found
                own.append(found.content)
                vectors.append(found.vector)
        return np.stack(vectors), own

    def duplicates(self, threshold: float = NEAR, progress: Progress = silent) -> Duplicates:
        """Groups of images whose embeddings have a cosine of `threshold` or more: copies, resaved, cropped a little."""
        return duplicates(self.nearest, self.rows, threshold, counter(progress, "comparing", len(self)))

    def add(
        self,
        data: Data,
        *,
        store: Store | bool = True,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        strict: bool = False,
        progress: Progress = silent,
    ) -> Index:
        """With a data set's images: one that is there already stays, one that has changed is replaced; see `build`.

        Raises: as `build`, `open` and `encoder`.
        """
        with collect_notes() as notes:
            data, encoder = _open_data(data), self.encoder
            collected = collect(data, encoder, Loading(store_of(store), batch_size, workers, strict, progress))

            def plan(old: Index) -> Plan:
                keep, fresh = merge_rows(old.rows, collected.rows)
                came, gone = int(fresh.sum()), int((~keep).sum())
                more, same = collected.rows.keep(fresh), len(fresh) - came
                changes = _with(collected.changes, new=came - gone, changed=gone, same=same)
                return keep, collected.vectors(more), more, changes

            after = self.change(plan, counter(progress, "indexing", len(collected.rows)))
        return _with(after, notes=tuple(notes))

    def remove(
        self, ids: str | Iterable[str] = (), *, filters: str | Iterable[str] = (), missing: bool = False
    ) -> Index:
        """Without the images of some ids (paths; * stands for anything), those that fit filters, or whose file is gone.

        No image is deleted. Raises: InputError when nothing fits, or nothing would be left; as `open`.
        """
        named, chosen = as_list(ids), as_list(filters)
        if not (named or chosen or missing):
            raise InputError("nothing to take out", fix="name ids, or use --filter or --missing")

        def plan(old: Index) -> Plan:
            out = old.rows.where(chosen) if chosen else np.zeros(len(old), bool)
            for id_ in named:
                fits = old.rows.fits("id", id_) | old.rows.fits("id", os.path.abspath(id_))  # files have whole paths
                if not fits.any():
                    hint = did_you_mean(id_, old.rows.column("id"))
                    raise InputError(f"no image '{id_}'", where=self.folder or "", fix=f"{hint}* stands for anything")
                out |= fits
            if missing:
                out[old.rows.gone()] = True
            nothing = np.zeros(len(old), bool)
            vectors = old.nearest.vectors(np.flatnonzero(nothing))
            return ~out, vectors, old.rows.keep(nothing), Changes(removed=int(out.sum()))

        return self.change(plan)

    def verify(self) -> tuple[str, ...]:
        """Check every vector; the ids of the files that are gone. Raises: StoreError for a vector not of norm 1."""
        if bad := self.nearest.bad():
            what, fix = f"{counted(bad, 'vector')} not of norm 1", "build it again with --replace"
            raise StoreError(what, where=self.folder or "", fix=fix)
        return tuple(self.rows.column("id", self.rows.gone()))

    @property
    def outgrown(self) -> bool:
        """Whether it holds so much more than its lists were tuned on that it should be built again."""
        return len(self) > 2 * max(self.built_for, nearest.EXACT_ROWS)

    def to_dict(self) -> dict[str, Any]:
        """What it holds, as `vlmdesc index info --json` prints it."""
        return {
            "index": str(self.folder or ""),
            "pictures": len(self),
            "labels": self.rows.labels(),
            "dimensions": self.nearest.dim,
            "model": self.model.name,
            "precision": self.model.precision,
            "fingerprint": self.model.fingerprint,
            "search": self.nearest.factory,
            "probes": self.nearest.probes,
            "recall": self.nearest.recall,
            "data": [" ".join(origin.data) for origin in self.rows.origins],
            "bytes": sum(file["bytes"] for file in self.files.values()),
        }

    def change(self, plan: Callable[[Index], Plan], tick: Tick = no_tick) -> Index:
        """With what `plan` makes of it, or of what its folder holds now. Nobody else writes meanwhile."""
        if not self.folder:
            return self._carry_out(plan(self), tick)
        FORMAT.read_card(self.folder)  # else a lock would be left where there is no index
        with FORMAT.turn(self.folder):
            old = Index.open(self.folder, vars(self).get("encoder", self.given), device=self.device)
            if old.model != self.model:
                raise ModelError("the index is of another model by now", where=self.folder, fix="open it again")
            new = old._carry_out(plan(old), tick)
            if new.nearest is old.nearest:
                FORMAT.tidy(self.folder, old.files)
                return new
            return _with(new, files=FORMAT.write(self.folder, *new._content()))

    def _carry_out(self, plan: Plan, tick: Tick) -> Index:
        keep, vectors, rows, changes = plan
        if keep.all() and not len(rows):
            return _with(self, changes=changes)
        if not keep.any() and not len(rows):
            raise InputError("nothing would be left", where=self.folder or "", fix="delete the folder instead")
        changed = nearest.revise(self.nearest, keep, vectors, tick)
        return _with(self, nearest=changed, rows=self.rows.keep(keep).plus(rows), changes=changes)

    def _content(self) -> tuple[dict[str, Any], dict[str, Callable[[Put], None]]]:
        """What its card says besides its files, and the files."""
        about = {
            "model": asdict(self.model),
            "n": len(self),
            "dim": self.nearest.dim,
            "factory": self.nearest.factory,
            "probes": self.nearest.probes,
            "recall": self.nearest.recall,
            "built_for": self.built_for,
            "origins": [asdict(origin) for origin in self.rows.origins],
        }
        rows = self.rows.to_bytes()
        return about, {"vectors": lambda put: nearest.write(self.nearest, put), "rows": lambda put: put(rows)}


def _load(values: dict[str, Any], paths: dict[str, Path]) -> Index:
    _check_types(values)
    n, about = values["n"], [values[name] for name in ("dim", "factory", "probes", "recall")]
    with FORMAT.guard(paths["vectors"]):
        vectors = nearest.read(paths["vectors"], n, *about)
    with FORMAT.guard(paths["rows"]):
        rows = Rows.read(paths["rows"], values["origins"])
        if len(rows) != n:
            raise ValueError(f"{len(rows)} rows beside {n} vectors")
    return Index(vectors, rows, Model(**values["model"]), values["built_for"], files=values["files"])


def _check_types(values: Mapping[str, Any]) -> None:
    """Raises: TypeError for a value that is not what its field holds; ValueError for no size of an index."""
    texts = [values["factory"], *values["model"].values(), *values["recall"]]
    for origin in values["origins"]:
        texts += [*origin["data"], *(text for name, text in origin.items() if name != "data")]
    numbers = [values[name] for name in ("n", "dim", "probes", "built_for")]
    if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError("a value of another type")
    if not all(type(share) in (int, float) and 0 <= share <= 1 for share in values["recall"].values()):
        raise TypeError("a recall that is not a share")
    if min(values["n"], values["dim"]) < 1 or values["probes"] < 0:
        raise ValueError("not the size of an index")


def _open_data(data: Data) -> DataSet:
    return data if isinstance(data, DataSet) else load_data(data)
