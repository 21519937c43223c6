"""Commit records: written last, they alone say that a unit is done under a model and method label."""

from __future__ import annotations

from pipeline.run.labels import Label
from pipeline.run.records import CommitRecord, RefusedError, parsed
from pipeline.storage import fault_points
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json


def write_commit(storage: Storage, label: Label, commit: CommitRecord) -> bool:
    """Records a unit as done; False if another attempt was first."""
    name = label.commit_name(commit.unit)
    fault_points.point("before-commit", name)
    first = storage.create(name, to_json(commit.record).encode())
    fault_points.point("after-commit", name)
    return first


def read_commit(storage: Storage, name: str) -> CommitRecord:
    """A commit record.

    Raises:
        RefusedError: it is not one.
    """
    return parse_commit(storage.root, name, storage.read(name))


def parse_commit(root: str, name: str, data: bytes) -> CommitRecord:
    """The commit record of a run that a file holds.

    Raises:
        RefusedError: it is not one.
    """
    record = parsed(data)
    if isinstance(record, str):
        raise RefusedError(f"{root}/{name}: {record}")
    try:
        return CommitRecord.stored(name, record)
    except RefusedError as error:
        raise RefusedError(f"{root}/{name}: {error}") from None
