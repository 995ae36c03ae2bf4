"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlmdesc.errors import InputError
from vlmdesc.files import json_lines, read_json, write_atomic

SCHEMA = 1
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """An evaluation as JSON-ready records; accuracies are fractions. Tables and the HTML page are views of it.

    Everything but `times` is the same in two runs of the same task. `main` and `base` are the methods that the
    verdict, `classes`, `confusions`, `changes` and `credit` are about: "describe" against "name", where both ran.
    """

    task: Record
    encoder: Record
    methods: Mapping[str, Record]
    comparisons: Sequence[Record]
    verdict: Record
    base: str
    main: str
    classes: Sequence[Record]
    confusions: Sequence[Record]
    changes: Record
    credit: Sequence[Record]
    left_out: Mapping[str, str]
    environment: Record
    times: Record

    def to_json(self) -> str:
        """The JSON of results.json; ASCII, so that names of files that are no UTF-8 come through.

        Records of a list stand one on a line.
        """
        fields = {"schema": SCHEMA} | asdict(self)
        return json_lines(fields)

    def save(self, path: str | Path) -> None:
        """Write results.json, atomically. Raises: StoreError."""
        write_atomic(Path(path), self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read results.json. Raises: InputError when it is none, or of another version."""
        path = Path(path)
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise InputError("no results of this version", where=path, fix="evaluate again")
        fields = {key: value for key, value in data.items() if key != "schema"}
        if set(fields) != set(cls.__dataclass_fields__):
            odd = set(fields) ^ set(cls.__dataclass_fields__)
            raise InputError(f"no whole results: {', '.join(sorted(odd))}", where=path, fix="evaluate again")
        return cls(**fields)
