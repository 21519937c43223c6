"""Commit records: written last, they alone say that a unit is done under a model and method label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline import fault_points
from pipeline.run.labels import Label
from pipeline.run.layout import (
    commit_folder,
    commit_name,
)
from pipeline.run.records import (
    RefusedError,
    checksum,
    read_json,
)
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json


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
        checksum: of all the above, as it is stored; empty in a run of an earlier version.
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
    checksum: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it is what was stored, as far as its checksum tells."""
        return not self.checksum or self.checksum == checksum(asdict(self))


def _counts(value: object) -> bool:
    return isinstance(value, dict) and all(type(count) is int and count >= 0 for count in value.values())


def _identities(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(identity, dict) for identity in value.values())


# What the fields that others count on must be; a hand may have edited them.
_KINDS: Mapping[str, Callable[[object], bool]] = {
    "rows": lambda value: type(value) is int and value >= 0,
    "statuses": _counts,
    "files": _identities,
    "fingerprint": lambda value: isinstance(value, str),
    "checksum": lambda value: isinstance(value, str),
}


def write_commit(storage: Storage, label: Label, commit: Commit) -> bool:
    """Records a unit as done; False if another attempt was first."""
    name = commit_name(label.model, label.method, commit.unit, label.evaluation)
    fault_points.point("before-commit", name)
    record = asdict(commit)
    first = storage.create(name, to_json({**record, "checksum": checksum(record)}).encode())
    fault_points.point("after-commit", name)
    return first


def read_commit(storage: Storage, name: str) -> Commit:
    """A commit record.

    Raises:
        RefusedError: it is not one.
    """
    record = read_json(storage, name)
    for field, kind in _KINDS.items():
        if field in record and not kind(record[field]):
            found = to_json(record[field])[:60]
            raise RefusedError(f"{storage.root}/{name}: {field} is {found}; this is no commit record of ours")
    try:
        known = {"checksum": "", **record}
        return Commit(**{field: known[field] for field in Commit.__dataclass_fields__})
    except KeyError as missing:
        raise RefusedError(f"{storage.root}/{name}: no field {missing}; this is no commit record of ours") from None


def commits(storage: Storage, label: Label) -> Iterable[tuple[str, Commit]]:
    """Every commit record under a label, with its name."""
    for entry in storage.list(commit_folder(label.model, label.method, label.evaluation, label.version)):
        yield entry.name, read_commit(storage, entry.name)


def proven_labels(storage: Storage, labels: Iterable[Label]) -> set[str]:
    """The method labels under which some unit is done."""
    folders = {label.method: commit_folder(label.model, label.method, label.evaluation) for label in labels}
    return {method for method, commits_of in folders.items() if any(True for _ in storage.list(commits_of))}


def _own_commits(storage: Storage, label: Label) -> Iterator[Commit]:
    for name, commit in commits(storage, label):
        if commit.fingerprint != label.fingerprint:
            raise RefusedError(
                f"{storage.root}/{name}: its fingerprint is {commit.fingerprint!r}, that of its label "
                f"{label.fingerprint!r}; `ssig audit --repair` removes it, and then this command does its unit again"
            )
        yield commit


def statuses(storage: Storage, labels: Iterable[Label]) -> dict[str, dict[str, int]]:
    """Committed rows by status under each method label."""
    found: dict[str, dict[str, int]] = {}
    for label in labels:
        counts: dict[str, int] = {}
        for _, commit in commits(storage, label):
            for status, count in commit.statuses.items():
                counts[status] = counts.get(status, 0) + count
        found[label.method] = counts
    return found
