"""The records of a run as they are stored: `run.json`, the configuration of each label, and commits.

Their fields are checked here and nowhere else, with messages that name file and field. Fields that this version does
not know are kept: checksums and fingerprints cover the whole object.

The fingerprint of a label is the SHA-256 of all that changes its results: data, seed, model with its weights, method
with its options, metrics with theirs, and how maps are stored. Actors, paths and log levels stay out.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import pydantic.dataclasses
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.run.described import origin_of
from pipeline.run.layout import is_table, labels_of_commit
from pipeline.storage.jsontext import to_json
from ssig.errors import SsigError
from ssig.models import PREPARATION_REVISION
from ssig.registry import METHODS, METRICS

VERSIONED = ("ssig", "torch", "torchvision", "timm", "numpy", "pyarrow", "ray", "webdataset", "Pillow")


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
    """

    shards: list[ShardRecord]
    limit: int | None
    manifest_hash: str | None


class RunRecord(Record):
    """`run.json`: what is frozen for all labels of a run."""

    schema_version: int
    dataset: DatasetRecord
    seed: int
    unit_size: int


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


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(strict=True, extra="ignore"))
class CommitRecord:
    """What one unit holds under one label. A large run has hundreds of thousands of them, so they are kept small.

    Attributes:
        unit: the unit's id.
        attempt: id of the attempt that committed.
        fingerprint: of the label.
        rows: number of rows in each table.
        statuses: rows of each status that occurs.
        files: name -> `{"sha256", "bytes"}` of each published file.
        seconds: phase (``decode``, ``attribute``, …) -> seconds spent on the unit.
        gradient_evaluations: of all rows together.
        finished: when, ISO 8601 in UTC.
        model, method: the labels under which it is stored; not part of the record.
        is_whole: whether its checksum fits; not part of the record.
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
    is_whole: bool = True

    @classmethod
    def stored(cls, name: str, record: Mapping[str, Any]) -> CommitRecord:
        """The commit that is stored under a name.

        Raises:
            RefusedError: it is no commit record; the message does not name the file.
        """
        labels = labels_of_commit(name)
        if labels is None:
            raise RefusedError("no place for a commit")
        # Runs of earlier versions have no checksum.
        is_whole = record.get("checksum", "") in ("", checksum(record))
        derived = {"model": labels[0], "method": labels[1], "is_whole": is_whole}
        try:
            return cls(**{**record, **derived})
        except ValidationError as error:
            raise RefusedError(f"{_in_words(error, record)}; not an ssig commit record") from None

    @property
    def record(self) -> dict[str, Any]:
        """What is stored of it, with its checksum."""
        record = {name: getattr(self, name) for name in self.__slots__ if name not in _NOT_STORED}
        return {**record, "checksum": checksum(record)}

    def file(self, kind: str) -> str | None:
        """The name of the unit's ``attributions``, ``metrics`` or ``evaluations`` file, None if it has none."""
        return next((name for name in self.files if name.startswith(f"{kind}/")), None)


_NOT_STORED = ("model", "method", "is_whole")


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


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value."""
    return to_json(value, compact=True).encode()


def fingerprint_of(frozen: Mapping[str, Any]) -> str:
    """SHA-256 of all that a configuration freezes."""
    return hashlib.sha256(canonical(frozen)).hexdigest()


def checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its `checksum`: it changes if the file is damaged."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k != "checksum"})).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that results may depend on."""
    installed = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed as a package"
    return installed


def machine() -> Mapping[str, Any]:
    """Where the driver runs, for the record."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}


def revisions(method: str | None, metrics: Iterable[str]) -> dict[str, Any]:
    """The revisions of the network's preparation, of metrics, and of a method unless it is None."""
    shared: dict[str, Any] = {
        "preparation": PREPARATION_REVISION,
        "metrics": {name: METRICS[name].revision for name in metrics},
    }
    return shared if method is None else {"method": METHODS[method].revision, **shared}


def is_current(config: Mapping[str, Any]) -> bool:
    """Whether this version gives a label equal results: it has the recorded revisions of all that the label needs."""
    method, metrics = config["method"], config["metrics"]
    of_methods = {method["name"]: method.get("origin"), **method.get("base_origins", {})}
    same_sources = all(METHODS.agrees(name, origin) for name, origin in of_methods.items()) and all(
        METRICS.agrees(name, origin_of(config, name)) for name in metrics
    )
    return same_sources and revisions_of(config) == revisions(method["name"], metrics)


def revisions_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The revisions that a configuration records; what it does not record is 0."""
    recorded = config.get("revisions", {})
    metrics = {name: recorded.get("metrics", {}).get(name, 0) for name in config["metrics"]}
    whole = {"preparation": recorded.get("preparation", 0), "metrics": metrics}
    return {"method": recorded.get("method", 0), **whole} if "method" in config else whole


def measured_by(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each metric of a configuration with its options, revision and origin: equal ones may be compared."""
    metric_revisions = revisions_of(config)["metrics"]
    return {
        name: {**options, "revision": metric_revisions[name], "origin": origin_of(config, name)}
        for name, options in config["metrics"].items()
    }
