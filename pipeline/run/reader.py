"""What a finished or half-finished run holds, read from its files alone.

A unit counts once its commit record carries the fingerprint of its label's configuration; every other file in the
run's folders is as if it were not there. Nothing here needs Ray, and of the maps at most a unit or two are in memory.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.run.earlier import completed
from pipeline.run.labels import config_fault
from pipeline.run.layout import EVALUATION_RECORDS, EVALUATIONS, folder, is_evaluation_config
from pipeline.run.maps import MAPS_WANTED, decode_maps
from pipeline.run.schema import KEYS, LABELLED, metrics_schema, unreadable
from pipeline.shards.samples import Status
from pipeline.storage import open_storage
from pipeline.storage.base import Storage
from pipeline.storage.fields import SCHEMA_VERSION
from ssig.errors import UsageError

_READERS = 16
_REQUIRED = {
    "config": ("model_label", "method_label", "fingerprint"),
    "commits": ("rows", "statuses", "files", "fingerprint"),
}
_REQUIRED_LATER = ("evaluation", "base", "metrics")  # of the configuration of an evaluation
# A commit names tables of its run: elsewhere on the disk there is nothing to be read for it.
_FILE = re.compile(rf"(?:attributions|metrics|{EVALUATIONS}/[^/]+)/model=[^/]+/method=[^/]+/[^/]+\.parquet")
_NOT_SCALAR = frozenset({"map", "map_scale", "values", "values_scale"})


@dataclass(frozen=True)
class Commit:
    """The record of a unit that is done: what was published, and what it cost.

    Attributes:
        model, method: labels.
        unit: id of the slice.
        rows: how many samples it holds, of whatever status.
        statuses: status -> how many samples have it.
        files: names of the published files.
        seconds: phase (``decode``, ``attribute``, …) -> seconds spent on the unit.
    """

    model: str
    method: str
    unit: str
    rows: int
    statuses: Mapping[str, int]
    files: tuple[str, ...]
    seconds: Mapping[str, float]

    def file(self, kind: str) -> str | None:
        """The name of the unit's ``attributions``, ``metrics`` or ``evaluations`` file, None if it has none."""
        return next((name for name in self.files if name.startswith(f"{kind}/")), None)


@dataclass(frozen=True)
class Evaluation:
    """Metrics that were added to one model and method of a run.

    Attributes:
        name: of the evaluation.
        model, method: labels.
        metrics: metric -> its options.
        commits: the commit records that count, in order of unit.
        config: its whole record.
    """

    name: str
    model: str
    method: str
    metrics: Mapping[str, Mapping[str, Any]]
    commits: tuple[Commit, ...]
    config: Mapping[str, Any] = field(default_factory=dict)


class Run:
    """A run that can be read.

    Attributes:
        root: its path or URL.
        document: `run.json`.
        version: schema of its records and tables.
        config: (model label, method label) -> its configuration, in order of label, with every option.
        commits: the commit records that count, in order of model, method and unit.
        evaluations: what was measured later, in order of name.
        quarantine: the quarantine records.
        digest: hash of all these files; runs of equal digest hold equal results.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.root = storage.root
        texts = _texts(storage)
        records = {name: _parsed(self.root, name, text) for name, text in texts.items()}
        self.document = records["run.json"]
        self.version = int(self.document.get("schema_version", SCHEMA_VERSION))
        configs = [completed(record) for name, record in records.items() if name.startswith("config/")]
        self.config = {
            (config["model_label"], config["method_label"]): config
            for config in sorted(configs, key=lambda config: (config["model_label"], config["method_label"]))
        }
        commits = [_commit(name, record) for name, record in records.items() if name.startswith("commits/")]
        self.commits = tuple(
            commit
            for commit, fingerprint in sorted(commits, key=lambda pair: (pair[0].model, pair[0].method, pair[0].unit))
            if (commit.model, commit.method) in self.config
            and self.config[commit.model, commit.method]["fingerprint"] == fingerprint
        )
        self.quarantine = [record for name, record in records.items() if name.startswith("quarantine/")]
        self.evaluations = _evaluations(records, self.config)
        self.digest = _digest(texts)

    @cached_property
    def manifest(self) -> pa.Table:
        """Every expected sample, in order of shard and index, as it is stored."""
        return read_table(self.storage, "manifest.parquet")

    def committed(self, model: str, method: str) -> list[Commit]:
        """The commits of one model and method, in order of unit.

        Raises:
            UsageError: the run has no such model or method.
        """
        methods = [name for owner, name in self.config if owner == model]
        if not methods:
            raise UsageError("model", model, sorted({owner for owner, _ in self.config}))
        if method not in methods:
            raise UsageError("method", method, methods)
        return [commit for commit in self.commits if (commit.model, commit.method) == (model, method)]

    def tables(self, kind: str, model: str, method: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The committed ``metrics`` or ``attributions`` files of a model and method; of `columns`, those they have.

        The labels, which a file has in its path, come as the columns ``model`` and ``method``.
        """
        for commit in self.committed(model, method):
            name = commit.file(kind)
            if name is not None:
                yield _labelled(read_table(self.storage, name, columns), commit, columns)

    def evaluation(self, name: str) -> pa.Table:
        """All committed rows of the metrics that an evaluation added.

        Raises:
            UsageError: the run has no such evaluation.
        """
        names = sorted({one.name for one in self.evaluations})
        if name not in names:
            raise UsageError("evaluation", name, names or "a run with evaluations")
        tables = [self._no_metrics()]
        tables += [table for one in self.evaluations if one.name == name for table in self.evaluated(one)]
        return pa.concat_tables(tables, promote_options="default").unify_dictionaries()

    def evaluated(self, evaluation: Evaluation, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The committed files of an evaluation of one model and method; of `columns`, those they have."""
        for commit in evaluation.commits:
            name = commit.file(EVALUATIONS)  # it also names the attributions that were measured
            if name is not None:
                yield _labelled(read_table(self.storage, name, columns), commit, columns)

    def metrics(self) -> pa.Table:
        """All committed metrics rows; a column that only some methods have is null in the others."""
        tables = [self._no_metrics()]
        tables += [table for label in self.config for table in self.tables("metrics", *label)]
        return pa.concat_tables(tables, promote_options="default").unify_dictionaries()

    def relation(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """The same rows as a DuckDB relation, on `connection` or a new one; local files are read lazily."""
        connection = duckdb.connect() if connection is None else connection
        names = [name for commit in self.commits if (name := commit.file("metrics")) is not None]
        if not names or "://" in self.root:
            return connection.from_arrow(self.metrics())
        paths = [str(Path(self.root) / name) for name in names]
        # In runs of schema 1 the labels are columns; in others they stand in the path, where none reads as a number.
        return connection.read_parquet(paths, union_by_name=True, hive_partitioning=self.version > 1)

    def _no_metrics(self) -> pa.Table:
        """The columns that all metrics have, without a row."""
        return _with_keys(metrics_schema([], self.version).empty_table(), "", "")

    def maps(self, model: str, method: str) -> Iterator[tuple[str, str, np.ndarray]]:
        """(shard, key, (H, W) float32 map) of every sample that was attributed.

        Raises:
            UsageError: no such model or method, or a run that stored no maps.
        """
        columns = ["shard", "key", "status", "map", "map_scale"]
        for commit in self.committed(model, method):
            table = _attributed(read_table(self.storage, _maps_file(self.root, commit), columns))
            yield from zip(table["shard"].to_pylist(), table["key"].to_pylist(), decode_maps(table), strict=True)

    def dataset(self, model: str, method: str, cached_units: int = 2) -> MapDataset:
        """The same maps by position, for PyTorch; at most `cached_units` units are held in memory."""
        return MapDataset(self.root, self.committed(model, method), cached_units)


class MapDataset(Dataset[tuple[Tensor, dict[str, Any]]]):
    """(map, row) of each attributed sample: an (H, W) float32 tensor, and its names and numbers.

    The row joins the attributions row (without tensors) and the metrics row. A null is None, so batches of rows want
    a `collate_fn`. Neighbouring positions share a unit: reading in order, or shuffling by blocks, is fastest.
    """

    def __init__(self, root: str, commits: Sequence[Commit], cached_units: int = 2) -> None:
        self._root = root
        self._commits = [commit for commit in commits if commit.statuses.get(Status.OK, 0)]
        self._stops = list(itertools.accumulate(int(commit.statuses[Status.OK]) for commit in self._commits))
        self._cached_units = max(1, cached_units)
        self._storage: Storage | None = None
        self._cache: OrderedDict[int, tuple[np.ndarray, list[dict[str, Any]]]] = OrderedDict()

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __getitem__(self, position: int) -> tuple[Tensor, dict[str, Any]]:
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} maps")
        position %= len(self)
        unit = bisect.bisect_right(self._stops, position)
        maps, rows = self._unit(unit)
        inside = position - self._stops[unit]  # counted from the unit's end
        return torch.from_numpy(maps[inside].copy()), dict(rows[inside])

    def __getstate__(self) -> dict[str, Any]:
        # A loader's worker processes open the storage themselves: handles and caches do not travel.
        return {**self.__dict__, "_storage": None, "_cache": OrderedDict()}

    def _unit(self, unit: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        if unit not in self._cache:
            while len(self._cache) >= self._cached_units:
                self._cache.popitem(last=False)
            self._cache[unit] = self._read(self._commits[unit])
        self._cache.move_to_end(unit)
        return self._cache[unit]

    def _read(self, commit: Commit) -> tuple[np.ndarray, list[dict[str, Any]]]:
        if self._storage is None:
            self._storage = open_storage(self._root)
        table = _attributed(_labelled(read_table(self._storage, _maps_file(self._root, commit)), commit))
        rows = table.drop([name for name in table.column_names if name in _NOT_SCALAR]).to_pylist()
        metrics = commit.file("metrics")
        if metrics is not None:
            numbers = _attributed(read_table(self._storage, metrics)).to_pylist()
            rows = [{**row, **more} for row, more in zip(rows, numbers, strict=True)]
        return decode_maps(table), rows


def open_run(path: str | Path) -> Run:
    """The run at `path` (a folder or a URL).

    Raises:
        UsageError: there is no run, or one of its records cannot be read.
    """
    if "://" not in str(path) and not Path(path).is_dir():
        raise UsageError("run", str(path), "an existing run directory")
    storage = open_storage(str(path))
    if storage.entry("run.json") is None:
        raise UsageError("run", str(path), "a run directory, which holds run.json")
    return Run(storage)


def read_table(storage: Storage, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file; of `columns`, those that it has.

    Raises:
        UsageError: the file is not there or cannot be read.
    """
    try:
        with storage.open(name) as stream:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            known = set(file.schema_arrow.names)
            return file.read(None if columns is None else [column for column in columns if column in known])
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError("run", f"{storage.root}: {name}: {error}", "a run that passes `ssig audit`") from error


def _labelled(table: pa.Table, commit: Commit, columns: Sequence[str] | None = None) -> pa.Table:
    """A table of a unit with its labels, where `columns` asks for them; None asks for all."""
    return _with_keys(table, commit.model, commit.method, KEYS if columns is None else columns)


def _with_keys(table: pa.Table, model: str, method: str, wanted: Sequence[str] = KEYS) -> pa.Table:
    """A table with the labels as columns; one of schema 1 has them."""
    for name, value in zip(KEYS, (model, method), strict=True):
        if name in wanted and name not in table.column_names:
            indices = pa.array(np.zeros(len(table), dtype=np.int32))
            column = pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))
            table = table.append_column(pa.field(name, LABELLED, nullable=False), column)
    return table


def _attributed(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["status"], Status.OK.value))


def _maps_file(root: str, commit: Commit) -> str:
    name = commit.file("attributions")
    if name is None:
        raise UsageError("output.maps", f"no attributions of unit {commit.unit} in {root}", MAPS_WANTED)
    return name


def _texts(storage: Storage) -> dict[str, bytes]:
    """Every JSON record of the run by name."""
    names = ["run.json"]
    for top in ("config", "commits", "quarantine", EVALUATIONS, EVALUATION_RECORDS):
        names += [entry.name for entry in storage.list(top) if entry.name.endswith(".json")]
    # Object stores answer in tens of milliseconds and a large run has thousands of commits.
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(names, pool.map(storage.read, names), strict=True))


def _parsed(root: str, name: str, text: bytes) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise UsageError("run", f"{root}: {name}: {error}", "a run whose records are whole JSON files") from error
    top, *parts = name.split("/")
    is_later = top in (EVALUATIONS, EVALUATION_RECORDS)
    kind = parts[1] if is_later and len(parts) > 2 else top
    required = _REQUIRED.get(kind, ()) + (_REQUIRED_LATER if kind == "config" and is_later else ())
    missing = [key for key in required if not isinstance(record, dict) or key not in record]
    if missing or not isinstance(record, dict):
        raise UsageError("run", f"{root}: {name}", f"a JSON object with {', '.join(missing) or 'the fields of a run'}")
    if name == "run.json" and (fault := unreadable(record)) is not None:
        raise UsageError("run", f"{root}: {name}: {fault}", "a run that this version of ssig reads")
    if kind == "config" and (wrong := config_fault(record, whole=False)):
        raise UsageError("run", f"{root}: {name}: {wrong}", "a run whose records nobody has edited")
    if kind == "commits" and (wrong := _wrong_in_commit(name, record)):
        raise UsageError("run", f"{root}: {name}: {wrong}", "a run that passes `ssig audit`")
    return record


def _wrong_in_commit(name: str, record: Mapping[str, Any]) -> str | None:
    """What of a commit is not as a worker writes it."""
    statuses, files = record["statuses"], record["files"]
    if not re.fullmatch(r"(?:.+/)?commits/model=[^/]+/method=[^/]+/[^/]+\.json", name):
        return "no place for a commit"
    if type(record["rows"]) is not int:
        return f"rows {record['rows']!r} is no integer"
    if not isinstance(statuses, dict) or not all(type(count) is int for count in statuses.values()):
        return f"statuses {statuses!r} are no counts"
    if not isinstance(files, dict):
        return f"files {files!r} are no names with their hashes"
    foreign = [file for file in files if not _FILE.fullmatch(file)]
    return f"{foreign[0]!r} is no table of the run" if foreign else None


def _commit(name: str, record: Mapping[str, Any]) -> tuple[Commit, object]:
    """The commit stored under …commits/model=M/method=X/UNIT.json, and its fingerprint."""
    path = PurePosixPath(name)
    model, method = (unquote(part.split("=", 1)[1]) for part in path.parts[-3:-1])
    return (
        Commit(
            model=model,
            method=method,
            unit=path.stem,
            rows=int(record["rows"]),
            statuses=record["statuses"],
            files=tuple(record["files"]),
            seconds=record.get("seconds", {}),
        ),
        record["fingerprint"],
    )


def _evaluations(
    records: Mapping[str, Mapping[str, Any]], labels: Mapping[tuple[str, str], Mapping[str, Any]]
) -> tuple[Evaluation, ...]:
    """The evaluations of the labels that the run has now, each with its commits."""
    found = []
    for config_name, config in sorted(records.items()):
        if not is_evaluation_config(config_name):
            continue
        label = config["model_label"], config["method_label"]
        if labels.get(label, {}).get("fingerprint") != config.get("base"):
            continue
        commits_of = f"{config_name.rpartition('/config/')[0]}/commits/{folder(*label)}/"
        commits = [_commit(name, record) for name, record in records.items() if name.startswith(commits_of)]
        counted = sorted(
            (commit for commit, fingerprint in commits if fingerprint == config["fingerprint"]),
            key=lambda commit: commit.unit,
        )
        found.append(Evaluation(config["evaluation"], *label, completed(config)["metrics"], tuple(counted), config))
    return tuple(found)


def _digest(texts: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(texts):
        digest.update(name.encode() + b"\0" + hashlib.sha256(texts[name]).digest())
    return digest.hexdigest()
