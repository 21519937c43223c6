"""Commit records: written last, they alone say that a unit is done, under one label or under all labels of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from pipeline.run.layout import COMMITS, EVALUATION_RECORDS, EVALUATIONS, folder, home_of_commit
from pipeline.run.records import CommitRecord, RefusedError, batch_record, parsed, stored_commits
from pipeline.storage import fault_points
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json


def write_commit(storage: Storage, name: str, commit: CommitRecord) -> bool:
    """Records a unit as done under one label; False if another attempt was first."""
    return _write(storage, name, commit.record)


def write_batch_commit(storage: Storage, name: str, batch: str, commits: Sequence[CommitRecord]) -> bool:
    """Records a unit as done under all labels of a batch; False if another attempt was first.

    Args:
        storage: the run.
        name: of the file.
        batch: id of the batch.
        commits: one of each label, with `model` and `method`.
    """
    return _write(storage, name, batch_record(batch, commits))


def _write(storage: Storage, name: str, record: object) -> bool:
    fault_points.point("before-commit", name)
    first = storage.create(name, to_json(record).encode())
    fault_points.point("after-commit", name)
    return first


def parse_commits(root: str, name: str, data: bytes) -> tuple[CommitRecord, ...]:
    """The commit records of a run that a file holds: one, or one of each label of a batch.

    Raises:
        RefusedError: it holds none.
    """
    record = parsed(data)
    if isinstance(record, str):
        raise RefusedError(f"{root}/{name}: {record}")
    try:
        return stored_commits(name, record)
    except RefusedError as error:
        raise RefusedError(f"{root}/{name}: {error}") from None


def read_commit(storage: Storage, names: Iterable[str], model: str, method: str) -> CommitRecord:
    """The commit under a label in the first of some files that holds one.

    Raises:
        FileNotFoundError: none does.
        RefusedError: a file is damaged.
    """
    for name in names:
        with suppress(FileNotFoundError):
            for commit in parse_commits(storage.root, name, storage.read(name)):
                if (commit.model, commit.method) == (model, method):
                    return commit
    raise FileNotFoundError(f"{storage.root}: no commit of {model} / {method} in {', '.join(names)}")


def own_commit_name(commit: CommitRecord) -> str:
    """The file that says the same of one label alone, in the folder of commits that holds the commit."""
    suffix = commit.source.rpartition("/")[2]
    return f"{home_of_commit(commit.source)}/{folder(commit.model, commit.method)}/{suffix}"


def is_commit(name: str) -> bool:
    """Whether a record lies where commits of the run or of an evaluation do."""
    top, *parts = name.split("/")
    return top == COMMITS or (top in _EVALUATED and len(parts) > 2 and parts[1] == COMMITS)


_EVALUATED = (EVALUATIONS, EVALUATION_RECORDS)
