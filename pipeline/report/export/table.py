"""A run as one tidy table, Parquet or CSV, with a list of its columns and of its methods.

In Parquet each row has the options of its network, method and metric, which cost nothing there. In CSV they would be
most of the file, so that they stand in the two lists alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.report.columns import metric_of, sources
from pipeline.report.export.columns import (
    OPTIONS,
    UNIT,
    Number,
    long_schema,
    method_options,
    model_options,
    numbers_of,
    wide_schema,
)
from pipeline.report.export.samples import Units, labels_of, long, wide
from pipeline.run.reader import Run
from pipeline.storage.fields import DESCRIPTION

TABLE, COLUMNS, METHODS = "metrics", "columns.csv", "methods.csv"
_GROUP_ROWS = 2**16
_LISTED = ("model", "column", "type", "description", "unit", "direction", "metric", "evaluation", "options")


def write_table(run: Run, folder: Path, kind: str, *, in_rows: bool = False) -> int:
    """Writes `metrics.KIND`, `columns.csv` and `methods.csv`.

    Args:
        kind: ``parquet`` or ``csv``.
        in_rows: a row per sample, with a column for each number; else a row for each number.

    Returns:
        how many rows the table has.

    Raises:
        UsageError: a file of the run is not there or cannot be read.
    """
    numbers = {model: numbers_of(run, model) for model in dict.fromkeys(model for model, _ in run.config)}
    schema = wide_schema(numbers.values()) if in_rows else long_schema()
    tables = (
        wide(unit, schema) if in_rows else long(unit)
        for model, method in labels_of(run)
        for unit in Units(run, model, method, numbers[model])
    )
    write = {"parquet": _write_parquet, "csv": _write_csv}[kind]
    rows = write(folder / f"{TABLE}.{kind}", schema, _groups(tables))
    _list(folder / COLUMNS, _LISTED, _columns(run, schema, numbers, in_rows))
    _list(folder / METHODS, ("model", "method", *OPTIONS[:2]), _methods(run))
    return rows


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in larger tables: a row group each."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(each.num_rows for each in waiting) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting).unify_dictionaries()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).unify_dictionaries()


def _write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        return _write(tables, writer.write_table)


def _write_csv(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    plain = pa.schema([pa.field(field.name, _plain(field.type)) for field in schema if field.name not in OPTIONS])
    with pa_csv.CSVWriter(path, plain) as writer:
        return _write((table.select(plain.names).cast(plain) for table in tables), writer.write_table)


def _write(tables: Iterable[pa.Table], write: Callable[[pa.Table], Any]) -> int:
    rows = 0
    for table in tables:
        write(table)
        rows += table.num_rows
    return rows


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _list(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _methods(run: Run) -> Iterator[Sequence[object]]:
    """A row for each model and method."""
    for model, method in labels_of(run):
        config = run.config[model, method]
        yield model, method, model_options(config), method_options(config)


def _columns(
    run: Run, schema: pa.Schema, numbers: dict[str, list[Number]], in_rows: bool
) -> Iterator[Sequence[object]]:
    """A row for each column of the table, for each number of each model, and for each list that is left out."""
    of_models = {number.name for each in numbers.values() for number in each}
    for field in schema:
        if field.name not in of_models:
            about = field.metadata or {}
            texts = (about.get(DESCRIPTION, b"").decode(), about.get(UNIT, b"").decode())
            yield "", field.name, str(_plain(field.type)), *texts, "", "", "", ""
    for model, each in numbers.items():
        for number in each:
            kind = str(number.field.type) if in_rows else "value of the column value"
            source = number.source
            about = (number.description, number.unit, number.direction)
            yield model, number.name, kind, *about, source.metric, source.evaluation or "", number.options
        yield from _left_out(run, model)


def _left_out(run: Run, model: str) -> Iterator[Sequence[object]]:
    """The curves and vectors of a model, and where they are."""
    for source in sources(run, model):
        spec = metric_of(run, model, source)
        folder = "metrics" if source.evaluation is None else f"evaluations/{source.evaluation}"
        for name in () if spec is None else (*spec.curves, *spec.vectors):
            where = f"not in this table: a list in RUN/{folder}/model=M/method=X/UNIT.parquet"
            about = f"{spec.description(name)}; {where}" if spec else where
            yield model, name, "list", about, "", "", source.metric, source.evaluation or "", ""
    stored = {config.get("maps", "none") for (owner, _), config in run.config.items() if owner == model}
    if stored - {"none"}:
        where = "not in this table: RUN/attributions/model=M/method=X/UNIT.parquet; multiply by map_scale"
        yield model, "map", "matrix", f"attribution of each pixel; {where}", "", "", "", "", ""
