"""Commit records: written last, they alone say that a unit is done under a model and method label."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.names import commit_name, folder
from pipeline.plan import Label, RefusedError, read_json
from pipeline.storage import Storage


@dataclass(frozen=True)
class Commit:
    """What one unit holds under one label.

    Attributes:
        unit: the unit's id.
        attempt: id of the attempt that committed.
        fingerprint: of the label.
        rows: number of rows in each table.
        statuses: rows of each status that occurs.
        files: name -> `{"sha256", "bytes"}` of each published file.
        seconds: time by step.
        gradient_evaluations: of all rows together.
        finished: when, ISO 8601 in UTC.
    """

    unit: str
    attempt: str
    fingerprint: str
    rows: int
    statuses: Mapping[str, int]
    files: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]
    gradient_evaluations: int
    finished: str


def write_commit(storage: Storage, label: Label, commit: Commit) -> bool:
    """Records a unit as done; False if another attempt was first."""
    return storage.create(commit_name(label.model, label.method, commit.unit), json.dumps(asdict(commit)).encode())


def read_commit(storage: Storage, name: str) -> Commit:
    """A commit record.

    Raises:
        RefusedError: it is not one.
    """
    record = read_json(storage, name)
    try:
        return Commit(**{field: record[field] for field in Commit.__dataclass_fields__})
    except KeyError as missing:
        raise RefusedError(f"{storage.root}/{name}: no field {missing}; this is no commit record of ours") from None


def committed_units(storage: Storage, label: Label) -> set[str]:
    """Ids of the units with a commit record under a label, from a listing alone."""
    prefix = f"commits/{folder(label.model, label.method)}"
    return {PurePosixPath(entry.name).stem for entry in storage.list(prefix) if entry.name.endswith(".json")}


def commits(storage: Storage, label: Label) -> Iterable[tuple[str, Commit]]:
    """Every commit record under a label, with its name."""
    for entry in storage.list(f"commits/{folder(label.model, label.method)}"):
        yield entry.name, read_commit(storage, entry.name)
