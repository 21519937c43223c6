"""The records of a run as they are stored: `run.json`, the configuration of each label, and commits.

Their fields are checked here and nowhere else, with messages that name file and field. Fields that this version does
not know are kept: checksums and fingerprints cover the whole object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import pydantic.dataclasses
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.run.canonical import checksum
from pipeline.run.layout import (
    batch_of_commit,
    is_table,
    label_key,
    labels_of_commit,
    labels_of_key,
    labels_of_table,
)
from pipeline.storage.jsontext import to_json
from ssig.errors import SsigError


class RefusedError(SsigError):
    """A run directory that belongs to something else; the message lists each field that differs."""


class Record(BaseModel):
    """A JSON object of a run. Nothing is converted, so that it can be written as it was read."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class ShardRecord(Record):
    """A shard of a run: where it was read from."""

    url: str


class DatasetRecord(Record):
    """The data of a run.

    Attributes:
        shards: in order.
        limit: of the samples; None for all.
        manifest_hash: of the manifest's content; a run may leave it out.
        identity: of names, sizes and versions of the shards and of the limit; only of runs without `manifest_hash`.
    """

    shards: list[ShardRecord]
    limit: int | None
    manifest_hash: str | None
    identity: str | None = None

    @property
    def known_by(self) -> dict[str, Any]:
        """What identifies the data, as the labels of the run record it."""
        identity = {} if self.identity is None else {"identity": self.identity}
        return {"manifest_hash": self.manifest_hash, **identity}


class RunRecord(Record):
    """`run.json`: what is frozen for all labels of a run."""

    schema_version: int
    dataset: DatasetRecord
    seed: int
    unit_size: int


class SealedDataset(Record):
    """What the seal of a manifest adds to the data of a run."""

    shards: list[ShardRecord]
    samples: int
    manifest_file: str


class SealRecord(Record):
    """`manifest.json`: that the manifest of a run is whole."""

    dataset: SealedDataset


class NetworkConfig(Record):
    """The network of a label; `target` is ``label``, ``predicted`` or a class."""

    name: str
    input_size: list[int]
    target: str | int


class MethodConfig(Record):
    """The method of a label with all its options."""

    name: str
    options: dict[str, Any]


class RevisionsConfig(Record):
    """The revisions that the results of a label depend on."""

    method: int
    metrics: dict[str, Any]
    preparation: int


def _options(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError("has no options")
    return value


Metrics = dict[str, Annotated[dict[str, Any], BeforeValidator(_options)]]


class LabelConfig(Record):
    """The configuration of a label.

    Attributes:
        schema_version: of its run.
        model_label, method_label: its names.
        fingerprint: of all that changes its results.
        model, method, metrics: with all options.
        maps, channels: how maps are stored, and whether those of channels are.
        categories: names of the network's classes.
        columns: the metrics that its tables have columns for, in order.
        position: of the label among those of the run.
    """

    schema_version: int
    model_label: str
    method_label: str
    fingerprint: str
    maps: str
    model: NetworkConfig
    method: MethodConfig
    metrics: Metrics
    channels: bool
    categories: list[Any]
    columns: list[str] = Field(default_factory=list)
    position: int = 0


class FirstLabelConfig(LabelConfig):
    """A configuration file of a label, as runs of schema 1 have it."""

    dataset: dict[str, Any]
    seed: int


class WholeLabelConfig(FirstLabelConfig):
    """A configuration file of a label, as it is written now."""

    columns: list[str]
    position: int
    batch: str
    warnings: list[Any]
    revisions: RevisionsConfig


class EvaluationConfig(Record):
    """A configuration file of an evaluation of a label; `base` is the label's fingerprint when it was measured."""

    schema_version: int
    evaluation: str
    model_label: str
    method_label: str
    base: str
    metrics: Metrics
    fingerprint: str


class WholeEvaluationConfig(EvaluationConfig):
    """The same as it is written now."""

    columns: list[str]


def _table_of_the_run(name: str) -> str:
    if not is_table(name):
        raise ValueError(f"{name!r} is no table of the run")
    return name


Count = Annotated[int, Field(ge=0)]
Interned = Annotated[str, AfterValidator(sys.intern)]  # the same in thousands of records


_SMALL = ConfigDict(strict=True, extra="ignore")


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=_SMALL)
class CommitRecord:
    """What one unit holds under one label. A large run has hundreds of thousands of them, so they are kept small.

    Attributes:
        unit: the unit's id.
        attempt: id of the attempt that committed.
        fingerprint: of the label.
        rows: number of rows in each table.
        statuses: rows of each status that occurs.
        files: name -> `{"sha256", "bytes"}` of each published file.
        seconds: phase (``decode``, ``attribute``, …) -> seconds spent on the unit; empty where an attempt that did
            not get to its commit had done it.
        gradient_evaluations: of all rows together.
        finished: when, ISO 8601 in UTC.
        model, method: the labels under which it is stored; not part of the record.
        source: the file that holds it, alone or with others; not part of the record.
        is_whole: whether the checksum of that file fits; not part of the record.
    """

    unit: Interned
    attempt: Interned = ""
    fingerprint: Interned
    rows: Count
    statuses: dict[Interned, Count]
    files: dict[Annotated[str, AfterValidator(_table_of_the_run)], dict[str, Any]]
    seconds: dict[Interned, int | float] = Field(default_factory=dict)
    gradient_evaluations: int = 0
    finished: str = ""
    model: str = ""
    method: str = ""
    source: str = ""
    is_whole: bool = True

    @property
    def record(self) -> dict[str, Any]:
        """What is stored of it in a file of its own, with its checksum."""
        record = {name: getattr(self, name) for name in self.__slots__ if name not in _NOT_STORED}
        return {**record, "checksum": checksum(record)}

    def file(self, kind: str) -> str | None:
        """The name of the unit's ``attributions``, ``metrics`` or ``evaluations`` file, None if it has none."""
        return next((name for name in self.files if name.startswith(f"{kind}/")), None)


_NOT_STORED = ("model", "method", "source", "is_whole")


# Fields of `CommitRecord` that the commit of a batch holds for each label.
_OF_A_LABEL = ("fingerprint", "statuses", "seconds", "gradient_evaluations")


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=_SMALL)
class BatchRecord:
    """What one unit holds under all labels of a batch.

    Attributes:
        batch: the id of the labels' batch.
        labels: `pipeline.run.layout.label_key` of a label -> `_OF_A_LABEL`, which are checked with the label's commit.
        files: those of all labels.
        unit, attempt, rows, finished: as in `CommitRecord`; all labels have them in common.
    """

    unit: Interned
    batch: str
    attempt: Interned = ""
    rows: Count
    labels: dict[str, dict[str, Any]]
    files: dict[Annotated[str, AfterValidator(_table_of_the_run)], dict[str, Any]]
    finished: str = ""


def stored_commits(name: str, record: Mapping[str, Any]) -> tuple[CommitRecord, ...]:
    """The commits that are stored under a name: that of one label, or those of a batch in the order of their labels.

    Raises:
        RefusedError: it is no commit record; the message does not name the file.
    """
    labels, batch = labels_of_commit(name), batch_of_commit(name)
    # Runs of earlier versions have no checksum.
    derived = {"source": name, "is_whole": record.get("checksum", "") in ("", checksum(record))}
    try:
        if labels is not None:
            return (CommitRecord(**{**record, **derived, "model": labels[0], "method": labels[1]}),)
        if batch is None:
            raise RefusedError("no place for a commit")
        whole = BatchRecord(**record)
    except ValidationError as error:
        raise RefusedError(f"{_in_words(error, record)}; not an ssig commit record") from None
    if whole.batch != batch:
        raise RefusedError(
            f"batch is {to_json(whole.batch)[:60]}, its folder says {batch!r}; not an ssig commit record"
        )
    return tuple(_parts(whole, derived))


def _parts(whole: BatchRecord, derived: Mapping[str, Any]) -> Iterator[CommitRecord]:
    """The commit of each label of a batch.

    Raises:
        RefusedError: a table is of no label of the batch.
    """
    files: dict[tuple[str, str], dict[str, Any]] = {labels_of_key(key): {} for key in whole.labels}
    for name, identity in whole.files.items():
        labels = labels_of_table(name)
        if labels is None or labels not in files:
            raise RefusedError(f"files {name!r} is of none of its labels; not an ssig commit record")
        files[labels][name] = identity
    shared = {name: getattr(whole, name) for name in ("unit", "attempt", "rows", "finished")}
    for (model, method), (key, part) in zip(files, whole.labels.items(), strict=True):
        own = {name: part[name] for name in _OF_A_LABEL if name in part}
        try:
            yield CommitRecord(**shared, **own, files=files[model, method], model=model, method=method, **derived)
        except ValidationError as error:
            raise RefusedError(f"labels.{key}: {_in_words(error, own)}; not an ssig commit record") from None


def batch_record(batch: str, commits: Sequence[CommitRecord]) -> dict[str, Any]:
    """What is stored of the commits of one unit, one under each label of a batch, with its checksum."""
    first = commits[0]
    record = {
        "unit": first.unit,
        "batch": batch,
        "attempt": first.attempt,
        "rows": first.rows,
        "labels": {
            label_key(commit.model, commit.method): {name: getattr(commit, name) for name in _OF_A_LABEL}
            for commit in commits
        },
        "files": {name: identity for commit in commits for name, identity in commit.files.items()},
        "finished": max(commit.finished for commit in commits),
    }
    return {**record, "checksum": checksum(record)}


def fault(kind: type[Record], record: Mapping[str, Any], needed: Collection[str] | None = None) -> str | None:
    """What is wrong with a record, such as ``seed is "0"``; None if nothing is.

    Args:
        kind: what it should be.
        record: the JSON object.
        needed: dotted fields that must be there; None for all that `kind` has. Those that are there are checked.
    """
    try:
        kind.model_validate(record)
    except ValidationError as error:
        return _in_words(error, record, needed)
    return None


def _in_words(error: ValidationError, record: Mapping[str, Any], needed: Collection[str] | None = None) -> str | None:
    """The first fault that matters, in ssig's words instead of pydantic's; None if there is none."""
    for problem in error.errors(include_url=False):
        path = problem["loc"]
        if problem["type"] == "missing":
            field = ".".join(map(str, path))
            if needed is None or field in needed:
                return f"no field {field!r}"
            continue
        names, value = _place(record, path[:-2] if path[-1] == "[key]" else path)
        if problem["type"] == "value_error":
            return f"{names} {problem['ctx']['error']}"
        return f"{names} is {to_json(value)[:60]}"
    return None


def _place(record: Any, path: Iterable[int | str]) -> tuple[str, Any]:
    """The dotted field that an error is about, and its value; pydantic's path may end in names that are no fields."""
    names, value = [], record
    for part in path:
        has_part = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if not has_part:
            break
        value = value[part]
        names.append(str(part))
    return ".".join(names), value


def parsed(data: bytes) -> dict[str, Any] | str:
    """The JSON object that a file holds, or what is wrong with it."""
    try:
        value = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        return f"not JSON ({error})"
    return value if isinstance(value, dict) else "not a JSON object"
