"""The index: every number of the runs in one DuckDB file, built once and kept until a run changes.

    samples(id, shard, index, key, label)                 every expected sample of all runs
    manifest_R(id, unit, status, error, members)          those of run R
    series_S(id, status, …, crop, COLUMN …)               the committed rows of series S

It is outside the runs, and its name holds the digests of their records.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.browse.series import Collection, Series
from pipeline.run.layout import ATTRIBUTIONS, EVALUATIONS, METRICS
from pipeline.run.records import CommitRecord
from pipeline.run.schema import SHARED

VERSION = 1  # counts the changes of its tables
_MEMORY = "512MB"  # of DuckDB while it builds; what does not fit goes to a file beside the index
_SUFFIX = ".duckdb"
_PATTERN = frozenset("*?[")  # which DuckDB expands in a path
_ABOUT = ("status", "error", "predicted", "target", "probability", "width", "height", "crop")


@dataclass(frozen=True)
class Index:
    """An index that is ready.

    Attributes:
        path: its file.
        seconds: that building it took; None where it was there.
    """

    path: Path
    seconds: float | None


def cache_folder() -> Path:
    """Where indexes are kept: ``ssig/browse`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "ssig" / "browse"


def ready_index(collection: Collection, folder: Path) -> Index:
    """The index of the runs as they are now; one of an earlier state of the same runs is removed.

    Raises:
        OSError: `folder` cannot be written.
        duckdb.Error: a committed table cannot be read.
    """
    runs = _hash([run.root for run in collection.runs])
    path = folder / f"{runs}-{_hash([str(VERSION), *(run.digest for run in collection.runs)])}{_SUFFIX}"
    if path.is_file():
        return Index(path, None)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as building:
        made = Path(building) / "index"
        with duckdb.connect(str(made), config={"memory_limit": _MEMORY}) as connection:
            _fill(connection, collection)
        made.replace(path)
    for other in folder.glob(f"{runs}-*{_SUFFIX}"):
        if other != path:
            with suppress(FileNotFoundError):
                other.unlink()
    return Index(path, time.monotonic() - start)


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _fill(connection: duckdb.DuckDBPyConnection, collection: Collection) -> None:
    for number, run in enumerate(collection.runs):
        connection.register("manifest", run.manifest)
        connection.execute(f"CREATE TEMP TABLE expected_{number} AS SELECT * FROM manifest")
        connection.unregister("manifest")
    every = " UNION ALL ".join(
        f'SELECT {number} AS run, shard, "index", key, label FROM expected_{number}'
        for number in range(len(collection.runs))
    )
    connection.execute(
        'CREATE TABLE samples AS SELECT CAST(row_number() OVER (ORDER BY shard, "index", key) - 1 AS INTEGER) AS id, '
        f'shard, "index", key, first(label ORDER BY run) AS label FROM ({every}) GROUP BY shard, "index", key '
        "ORDER BY id"
    )
    for number in range(len(collection.runs)):
        connection.execute(
            f"CREATE TABLE manifest_{number} AS SELECT id, unit, status, error, members FROM expected_{number} "
            'JOIN samples USING (shard, "index", key) ORDER BY id'
        )
    for series in collection.series:
        _add_series(connection, series)
    connection.execute("CHECKPOINT")


def _add_series(connection: duckdb.DuckDBPyConnection, series: Series) -> None:
    """One table with a row for each committed row; what an evaluation measured later stands beside it."""
    kind = METRICS if any(commit.file(METRICS) for commit in series.commits) else ATTRIBUTIONS
    stored_columns = _rows(connection, series, series.commits, kind)
    measured = {column.name: column.stored for column in series.columns if column.source.evaluation is None}
    shared = {name: name if kind == METRICS else stored for name, stored in SHARED.items()}
    # Typed by name, so that a series without a row has the same columns.
    about = ", ".join(f"rows.{name}" if name in stored_columns else f"NULL AS {name}" for name in _ABOUT)
    numbers = {name: stored for name, stored in {**shared, **measured}.items() if stored in stored_columns}
    joined = 'rows JOIN samples USING (shard, "index", key)' if stored_columns else "samples WHERE false"
    chosen = [f"CAST(rows.{quoted(stored)} AS FLOAT) AS {quoted(name)}" for name, stored in numbers.items()]
    about = about if stored_columns else _EMPTY
    for evaluation in series.run.evaluations:
        if (evaluation.model, evaluation.method) != (series.model, series.method):
            continue
        alias = quoted(f"evaluation {evaluation.name}")
        added = _rows(connection, series, evaluation.commits, EVALUATIONS, evaluation.name)
        if not added or not stored_columns:
            continue
        joined += f' LEFT JOIN {alias} ON {alias}.shard = samples.shard AND {alias}."index" = samples."index"'
        chosen += [
            f"CAST({alias}.{quoted(column.stored)} AS FLOAT) AS {quoted(column.name)}"
            for column in series.columns
            if column.source.evaluation == evaluation.name and column.stored in added
        ]
    columns = ", ".join(["samples.id", about, *chosen])
    connection.execute(f"CREATE TABLE {series.table} AS SELECT {columns} FROM {joined} ORDER BY samples.id")


_EMPTY = (
    "NULL::VARCHAR AS status, NULL::VARCHAR AS error, NULL::INTEGER AS predicted, NULL::INTEGER AS target, "
    "NULL::FLOAT AS probability, NULL::INTEGER AS width, NULL::INTEGER AS height, NULL::DOUBLE[] AS crop"
)


def _rows(
    connection: duckdb.DuckDBPyConnection,
    series: Series,
    commits: Sequence[CommitRecord],
    kind: str,
    evaluation: str | None = None,
) -> set[str]:
    """Makes the view of committed rows, `rows` or that of an evaluation; the columns that it has."""
    view = "rows" if evaluation is None else quoted(f"evaluation {evaluation}")
    names = [name for commit in commits if (name := commit.file(kind)) is not None]
    if not names:
        return set()
    files = None if "://" in series.run.root or _PATTERN & set(series.run.root) else series.run.stored.files(names)
    if files is None:
        wanted = {*_ABOUT, "shard", "index", "key", *SHARED, *SHARED.values(), *(one.stored for one in series.columns)}
        tables = series.run.read_many(names, sorted(wanted))
        connection.register("remote", pa.concat_tables(tables, promote_options="default"))
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {quoted('remote ' + view)} AS SELECT * FROM remote")
        connection.unregister("remote")
        source = quoted("remote " + view)
    else:
        paths = ", ".join("'" + str(Path(series.run.root) / name).replace("'", "''") + "'" for name in files)
        source = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT * FROM {source}")
    return {row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()}
