"""The samples of a run with all their scalar numbers, unit by unit, so that memory is that of a unit or two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.report.export.columns import (
    EXCLUDED,
    IDENTITY,
    NUMBERS,
    TEXT,
    Number,
    evaluations_of,
    long_schema,
    measured,
    method_options,
    model_options,
)
from pipeline.report.reference import ordered_methods
from pipeline.run.layout import ATTRIBUTIONS, EVALUATIONS, METRICS
from pipeline.run.reader import Run
from pipeline.run.records import CommitRecord
from pipeline.shards.samples import Status
from pipeline.storage.jsontext import to_json

_STORED = (
    *("shard", "index", "key", "unit", "label", "predicted", "target", "probability", "status", "error"),
    *("width", "height"),
)
_CLASSES = ("label", "predicted", "target")


@dataclass(frozen=True)
class Unit:
    """The samples of a unit under one model and method.

    Attributes:
        numbers: those that the method has, in order.
        identity: n rows with the columns of `IDENTITY`.
        values: name -> (n,) float64, NaN where there is none.
        reasons: for each sample, column -> why it is null.
    """

    numbers: Sequence[Number]
    identity: pa.Table
    values: Mapping[str, np.ndarray]
    reasons: Sequence[Mapping[str, str]]


def labels_of(run: Run) -> list[tuple[str, str]]:
    """(model, method) of a run, the methods in the user's order."""
    models = dict.fromkeys(model for model, _ in run.config)
    return [(model, method) for model in models for method in ordered_methods(run, model)]


class Units:
    """The units of a model and method that are done.

    Args:
        numbers: of the model; those that the method lacks are left out.

    Attributes:
        numbers: those that the method has, in order.
        commits: theirs, in order of unit.
    """

    def __init__(self, run: Run, model: str, method: str, numbers: Sequence[Number]) -> None:
        self._run, self._labels = run, (model, method)
        self.numbers = measured(run, model, method, numbers)
        self.commits = run.committed(model, method)
        self._added = {evaluation.name: evaluation.commits for evaluation in evaluations_of(run, model, method)}

    def __iter__(self) -> Iterator[Unit]:
        return (unit for name in self.commits.units if (unit := self.read(name)) is not None)

    def read(self, name: str) -> Unit | None:
        """A unit; None where it is not done.

        Raises:
            UsageError: a file is not there or cannot be read.
        """
        commit = self.commits.of_unit(name)
        if commit is None:
            return None
        file = commit.file(METRICS) or commit.file(ATTRIBUTIONS)
        if file is None:
            return None
        of_run = [number.stored for number in self.numbers if number.evaluation is None]
        table = self._run.read(file, [*_STORED, "excluded", *of_run])
        places = {place: row for row, place in enumerate(_places(table))}
        values = {number.name: np.full(len(table), np.nan) for number in self.numbers}
        reasons: list[dict[str, str]] = [{} for _ in range(len(table))]
        _add(table, self.numbers, None, places, values, reasons)
        for evaluation, commits in self._added.items():
            evaluated = _evaluated(self._run, commits.of_unit(name), self.numbers, evaluation)
            if evaluated is not None:
                _add(evaluated, self.numbers, evaluation, places, values, reasons)
        return Unit(self.numbers, _identity(self._run, *self._labels, table), values, reasons)


def wide(unit: Unit, schema: pa.Schema) -> pa.Table:
    """A row per sample, with the columns of a wide schema."""
    count = unit.identity.num_rows
    columns: dict[str, pa.Array] = {name: unit.identity[name] for name in unit.identity.column_names}
    columns[EXCLUDED.name] = pa.array(
        [to_json(reasons, readable=True) if reasons else None for reasons in unit.reasons], pa.string()
    )
    for number in unit.numbers:
        columns[number.name] = _numbers(unit.values[number.name], schema.field(number.name).type)
    return pa.table(
        [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in schema],
        schema=schema,
    )


def long(unit: Unit) -> pa.Table:
    """A row per sample and number: sample by sample, the numbers in order."""
    count, width = unit.identity.num_rows, len(unit.numbers)
    rows = pa.array(np.repeat(np.arange(count), width))
    identity = unit.identity.take(rows)
    stacked = np.stack([unit.values[number.name] for number in unit.numbers], axis=1).ravel()
    repeated: dict[str, list[str | None]] = {
        "metric": [number.source.metric for number in unit.numbers],
        "column": [number.name for number in unit.numbers],
        "direction": [number.direction for number in unit.numbers],
        "range": [number.unit or None for number in unit.numbers],
        "evaluation": [number.evaluation for number in unit.numbers],
        "metric_options": [number.options or None for number in unit.numbers],
    }
    columns = {name: _texts(texts * count) for name, texts in repeated.items()}
    columns["value"] = _numbers(stacked, pa.float64())
    reasons = [each.get(number.name) for each in unit.reasons for number in unit.numbers]
    columns["excluded"] = _texts(reasons)
    values = [*(identity[field.name] for field in IDENTITY), *(columns[field.name] for field in NUMBERS)]
    return pa.table(values, schema=long_schema())


def _evaluated(run: Run, commit: CommitRecord | None, numbers: Sequence[Number], evaluation: str) -> pa.Table | None:
    """The rows that an evaluation added to a unit; None where it did not reach it."""
    name = None if commit is None else commit.file(EVALUATIONS)
    if name is None:
        return None
    stored = [number.stored for number in numbers if number.evaluation == evaluation]
    return run.read(name, ["shard", "index", "status", "excluded", *stored])


def _places(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["shard"].to_pylist(), table["index"].to_pylist(), strict=True))


def _add(
    table: pa.Table,
    numbers: Sequence[Number],
    evaluation: str | None,
    places: Mapping[tuple[str, int], int],
    values: Mapping[str, np.ndarray],
    reasons: Sequence[dict[str, str]],
) -> None:
    """Adds the numbers of a file of the unit, and the reasons of those that are null."""
    names = {number.stored: number.name for number in numbers if number.evaluation == evaluation}
    rows = np.array([places[place] for place in _places(table)], dtype=np.int64)
    for stored, name in names.items():
        if stored in table.column_names:
            values[name][rows] = table[stored].cast(pa.float64()).to_numpy()
    for row, status, pairs in zip(rows, table["status"].to_pylist(), table["excluded"].to_pylist(), strict=True):
        given = {names[stored]: reason for stored, reason in pairs or () if stored in names}
        reasons[row].update(given if status == Status.OK else {})


def _identity(run: Run, model: str, method: str, table: pa.Table) -> pa.Table:
    config = run.config[model, method]
    categories: Sequence[str] = config.get("categories") or ()
    count = table.num_rows
    columns: dict[str, Any] = {name: table[name] for name in _STORED if name in table.column_names}
    for name in _CLASSES:
        columns[f"{name}_name"] = [class_name(categories, number) for number in table[name].to_pylist()]
    fixed = {
        "model": model,
        "method": method,
        "model_options": model_options(config),
        "method_options": method_options(config),
    }
    columns |= {name: [text] * count for name, text in fixed.items()}
    return pa.table(
        [_column(columns.get(field.name), field, count) for field in IDENTITY], schema=pa.schema(list(IDENTITY))
    )


def _column(values: Any, field: pa.Field, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, field.type)
    if field.type == TEXT:
        return _texts(values if isinstance(values, list) else values.to_pylist())
    return values.cast(field.type)


def class_name(categories: Sequence[str], number: int | None) -> str | None:
    """What a class is called; None where nobody says."""
    return str(categories[number]) if number is not None and 0 <= number < len(categories) else None


def _texts(texts: Sequence[str | None]) -> pa.Array:
    return pa.array(texts, pa.string()).dictionary_encode().cast(TEXT)


def _numbers(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """The numbers; null where there is none that is finite."""
    finite = np.isfinite(values)
    return pa.array(np.where(finite, values, 0), pa.float64(), mask=~finite).cast(kind, safe=False)
