"""What a finished or half-finished run holds, read from its files alone: the public face of a run directory.

A unit counts once its commit record carries the fingerprint of its label's configuration; all other files in the run's
folders are ignored. Nothing here needs Ray, and the maps of only a unit or two are in memory at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from pipeline.run.compaction_reading import StoredTables
from pipeline.run.directory import RunDirectory
from pipeline.run.earlier import completed, with_all_options
from pipeline.run.expected import Expected
from pipeline.run.forms import COMPACTED, has_form
from pipeline.run.labels import Label
from pipeline.run.layout import EVALUATIONS, MANIFEST, METRICS, RUN
from pipeline.run.maps import decode_maps
from pipeline.run.records import CommitRecord, RefusedError
from pipeline.run.rows import SOUND, attributed, maps_file, rows_of, unreadable, with_keys
from pipeline.run.schema import KEYS, metrics_schema
from pipeline.run.stored_commits import StoredCommits
from pipeline.storage import open_storage
from pipeline.storage.fields import SCHEMA_VERSION
from ssig.errors import UsageError

if TYPE_CHECKING:
    from pipeline.run.map_dataset import MapDataset


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
    commits: StoredCommits
    config: Mapping[str, Any] = field(default_factory=dict)


class Run:
    """A run that can be read.

    Attributes:
        root: its path or URL.
        document: `run.json`, with what was known once all shards were listed.
        unsealed: one line that says how far the listing of the shards is; None once it has ended.
        version: schema of its records and tables.
        config: (model label, method label) -> its configuration, in order of label, with every option.
        evaluations: what was measured later, in order of name.
        quarantine: the quarantine records.
        digest: hash of all these files; runs of equal digest hold equal results.

    Raises:
        UsageError: there is no run, or one of its records cannot be read.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.storage = directory.storage
        self.root = directory.root
        self.stored = StoredTables(self.storage, is_compacted=False)  # a file that is missing has it look further
        with _usage_errors():
            if directory.document is None:
                raise UsageError("run", self.root, "a run directory, one that holds run.json")
            self.document = directory.described()
            self.unsealed = directory.unsealed
            self.version = int(self.document.get("schema_version", SCHEMA_VERSION))
            if has_form(self.document, COMPACTED):
                self.stored.refresh()
            labels = sorted(map(with_all_options, directory.read_labels(whole=False)), key=_names)
            labels_by_name = {_names(label): label for label in labels}
            evaluations = list(_evaluations(directory, labels_by_name))
            commits = iter(directory.counted([*labels, *(label for label, _ in evaluations)]))
            self.config = {_names(label): label.config for label in labels}
            self._commits = {_names(label): next(commits) for label in labels}
            self.quarantine = directory.quarantine
            self.evaluations = tuple(
                Evaluation(label.evaluation or "", *_names(label), label.config["metrics"], next(commits), config)
                for label, config in evaluations
            )
            self.digest = directory.digest()

    @property
    def commits(self) -> tuple[CommitRecord, ...]:
        """The commit records that count, in order of model, method and unit: all in memory, 2 to 3 kB each."""
        return tuple(self._every_commit())

    @cached_property
    def manifest(self) -> pa.Table:
        """Every expected sample, in order of shard and index, as it is stored.

        Raises:
            UsageError: they are not known yet, since the shards are still being listed; or the file cannot be read.
        """
        self._require_sealed()
        return self.read(MANIFEST)

    @cached_property
    def expected(self) -> Expected:
        """The same in pieces, for what must not hold all of it.

        Raises:
            UsageError: they are not known yet.
        """
        self._require_sealed()
        return Expected(self.storage)

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A table of the run; of `columns`, those that it has.

        Raises:
            UsageError: the file is not there or cannot be read.
        """
        return rows_of(self.stored, name, columns)

    def read_many(self, names: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of many tables, in order: one table at a time, or more where they are compacted.

        Raises:
            UsageError: a file is not there or cannot be read.
        """
        with unreadable(self.root, names[0] if names else ""):
            yield from self.stored.read_many(names, columns)

    def committed(self, model: str, method: str) -> StoredCommits:
        """The commits of one model and method that count, in order of unit; each is read when it is asked for.

        Raises:
            UsageError: the run has no such model or method.
        """
        methods = [name for owner, name in self.config if owner == model]
        if not methods:
            raise UsageError("model", model, sorted({owner for owner, _ in self.config}))
        if method not in methods:
            raise UsageError("method", method, methods)
        return self._commits[model, method]

    def tables(self, kind: str, model: str, method: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The committed ``metrics`` or ``attributions`` rows of a model and method; of `columns`, those they have.

        A table holds the rows of one unit, or of several where they are compacted. The labels, which a file has in
        its path, come as the columns ``model`` and ``method``.
        """
        names = [name for commit in self.committed(model, method) if (name := commit.file(kind)) is not None]
        for table in self.read_many(names, columns):
            yield with_keys(table, model, method, KEYS if columns is None else columns)

    def evaluation(self, name: str) -> pa.Table:
        """All committed rows of the metrics that an evaluation added.

        Raises:
            UsageError: the run has no such evaluation.
        """
        names = sorted({evaluation.name for evaluation in self.evaluations})
        if name not in names:
            raise UsageError("evaluation", name, names or "a run with evaluations")
        tables = [self._no_metrics()]
        tables += [
            table for evaluation in self.evaluations if evaluation.name == name for table in self.evaluated(evaluation)
        ]
        return pa.concat_tables(tables, promote_options="default").unify_dictionaries()

    def evaluated(self, evaluation: Evaluation, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The committed rows of an evaluation of one model and method; of `columns`, those they have."""
        # A commit also names the attributions that were measured.
        names = [name for commit in evaluation.commits if (name := commit.file(EVALUATIONS)) is not None]
        for table in self.read_many(names, columns):
            yield with_keys(table, evaluation.model, evaluation.method, KEYS if columns is None else columns)

    def metrics(self) -> pa.Table:
        """All committed metrics rows; a column that only some methods have is null in the others."""
        tables = [self._no_metrics()]
        tables += [table for label in self.config for table in self.tables(METRICS, *label)]
        return pa.concat_tables(tables, promote_options="default").unify_dictionaries()

    def relation(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """The same rows as a DuckDB relation, on `connection` or a new one; local files are read lazily."""
        connection = duckdb.connect() if connection is None else connection
        names = [name for commit in self._every_commit() if (name := commit.file(METRICS)) is not None]
        files = None if "://" in self.root else self.stored.files(names)
        if not files:
            return connection.from_arrow(self.metrics())
        paths = [str(Path(self.root) / file) for file in files]
        # In runs of schema 1 the labels are columns; in others they stand in the path, where none reads as a number.
        return connection.read_parquet(paths, union_by_name=True, hive_partitioning=self.version > 1)

    def _every_commit(self) -> Iterator[CommitRecord]:
        return itertools.chain.from_iterable(self._commits.values())

    def _require_sealed(self) -> None:
        if self.unsealed is not None:
            raise UsageError("run", self.unsealed, "a run whose shards are all listed")

    def _no_metrics(self) -> pa.Table:
        """The columns that all metrics have, without a row."""
        return with_keys(metrics_schema([], self.version).empty_table(), "", "")

    def maps(self, model: str, method: str) -> Iterator[tuple[str, str, np.ndarray]]:
        """(shard, key, (H, W) float32 map) of every sample that was attributed.

        Raises:
            UsageError: no such model or method, or a run that stored no maps.
        """
        columns = ["shard", "key", "status", "map", "map_scale"]
        names = [maps_file(self.root, commit) for commit in self.committed(model, method)]
        for table in map(attributed, self.read_many(names, columns)):
            yield from zip(table["shard"].to_pylist(), table["key"].to_pylist(), decode_maps(table), strict=True)

    def dataset(self, model: str, method: str, cached_units: int = 2) -> MapDataset:
        """The same maps by position, for PyTorch; at most `cached_units` units are held in memory."""
        from pipeline.run.map_dataset import MapDataset  # imports torch, which takes seconds

        return MapDataset(self.root, self.committed(model, method), cached_units)


def open_run(path: str | Path) -> Run:
    """The run at `path` (a folder or a URL).

    Raises:
        UsageError: there is no run, or one of its records cannot be read.
    """
    if "://" not in str(path) and not Path(path).is_dir():
        raise UsageError("run", str(path), "an existing run directory")
    storage = open_storage(str(path))
    if storage.entry(RUN) is None:
        raise UsageError("run", str(path), "a run directory, which holds run.json")
    return Run(RunDirectory(storage))


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turns the refusal of a record into a `UsageError`: for a reader, the run is a wrong argument."""
    try:
        yield
    except RefusedError as error:
        raise UsageError("run", str(error), SOUND) from error


def _names(label: Label) -> tuple[str, str]:
    return label.model, label.method


def _evaluations(
    directory: RunDirectory, labels: Mapping[tuple[str, str], Label]
) -> Iterator[tuple[Label, Mapping[str, Any]]]:
    """The evaluations of the labels that the run has now, in order of name, each with its whole record."""
    for _, config in sorted(directory.read_evaluations(whole=False)):
        base = labels.get((config["model_label"], config["method_label"]))
        if base is not None and base.fingerprint == config["base"]:
            yield Label(base.model, base.method, completed(config), config["evaluation"]), config
