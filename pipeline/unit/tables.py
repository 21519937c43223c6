"""Arrow tables of a unit: one row for each sample, failed ones with null numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.run.described import known_metric
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS, METRICS
from pipeline.run.maps import quantised
from pipeline.run.schema import SHARED, attributions_schema, metrics_schema
from pipeline.shards.samples import Status
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.unit.inputs import Prepared
from ssig.types import Attribution

NOT_ASKED = "not asked for under this label"


@dataclass
class Measured:
    """Metrics of the samples of a unit whose maps are finite, in order.

    Attributes:
        columns: scalar column -> (n,); NaN is null.
        lists: curve or vector column -> (n, numbers).
        excluded: for each sample, column -> why there is no number.
        seconds: metric -> (n,) seconds spent on each sample.
    """

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, np.ndarray] = field(default_factory=dict)
    excluded: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, np.ndarray] = field(default_factory=dict)


def merged(parts: Sequence[Measured]) -> Measured:
    """The metrics of all samples from those of consecutive ones."""

    def joined(name: str) -> dict[str, np.ndarray]:
        columns = [getattr(part, name) for part in parts]
        return {key: _stacked([column[key] for column in columns]) for key in (columns[0] if columns else {})}

    excluded = [reasons for part in parts for reasons in part.excluded]
    return Measured(joined("columns"), joined("lists"), excluded, joined("seconds"))


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One array of them all; a part in which no sample has a list takes the width of the others."""
    if arrays[0].ndim > 1:
        width = max(array.shape[1:] for array in arrays)
        arrays = [np.full((len(a), *width), np.nan, a.dtype) if np.isnan(a).all() else a for a in arrays]
    return np.concatenate(arrays)


def attributions_table(label: Label, prepared: Prepared, attributed: Attribution | None) -> pa.Table:
    """The attributions of a unit; samples whose map is not finite become rows of status `nonfinite`.

    Args:
        label: the model and method.
        prepared: the unit; `attributed` holds its ok samples in order.
        attributed: None where no sample is ok.
    """
    settings = label.settings
    height, width = settings.model.input_size
    shape = (3, height, width)
    schema = attributions_schema(shape, settings.maps, settings.channels)
    positions, nonfinite = _finite(prepared, attributed)
    columns = _common(prepared, positions, nonfinite)
    columns["excluded"] = [None] * len(prepared.outcomes)
    rows = len(prepared.outcomes)
    finite = [k for k, position in enumerate(prepared.ok) if position in set(positions)]
    fill = _Filler(rows, positions)
    if attributed is None:
        attributed_columns: dict[str, Any] = dict.fromkeys(_SCALARS, np.zeros(0))
        maps, values = np.zeros((0, *shape[1:])), np.zeros((0, *shape))
    else:
        attributed_columns = {
            "score": attributed.score,
            "baseline_score": attributed.baseline_score,
            "standard_error_mean": attributed.standard_error_mean,
            "reliability": attributed.reliability,
            "readout_bias": attributed.readout_bias,
            "completeness_residual": attributed.completeness_residual,
            "gradient_evaluations": attributed.gradient_evaluations,
        }
        attributed_columns = {
            name: None if value is None else value.cpu().numpy()[finite] for name, value in attributed_columns.items()
        }
        maps = attributed.map.float().cpu().numpy()[finite]
        values = attributed.values.float().cpu().numpy()[finite] if settings.channels else np.zeros((0, *shape))
    for name, value in attributed_columns.items():
        columns[name] = fill.scalars(value)
    for name, array in (("map", maps), ("values", values)):
        if name in schema.names:
            stored, scale = quantised(array, settings.maps)
            columns[name] = fill.tensors(stored, schema.field(name).type)
            columns[f"{name}_scale"] = fill.scalars(scale)
    return _table(columns, schema)


_SCALARS = tuple(SHARED.values())
_OF_THE_NETWORK = ("predicted", "target", "probability")


def metrics_table(label: Label, prepared: Prepared, attributions: pa.Table, measured: Measured) -> pa.Table:
    """The metrics of a unit, for the samples that its published attributions call ok.

    Args:
        label: the model and method.
        prepared: the unit.
        attributions: the published attributions.
        measured: one entry for each ok row of `attributions`, in order.
    """
    settings = label.settings
    metrics = [known_metric(label.config, name) for name in settings.columns]
    schema = metrics_schema(metrics)
    statuses = attributions["status"].to_pylist()
    positions = [position for position, status in enumerate(statuses) if status == Status.OK]
    columns: dict[str, Any] = {
        name: attributions[name].combine_chunks() for name in schema.names if name in attributions.schema.names
    }
    # A sample that was ok when it was attributed may have failed since, where it is evaluated later.
    ok = pc.equal(attributions["status"].combine_chunks(), Status.OK.value)
    for name, source in {**{name: name for name in _OF_THE_NETWORK}, **SHARED}.items():
        columns[name] = pc.if_else(ok, attributions[source].combine_chunks(), None)
    categories = settings.categories
    targets = columns["target"].to_pylist()
    columns["class_name"] = [
        str(categories[target]) if target is not None and 0 <= target < len(categories) else None for target in targets
    ]
    fill = _Filler(len(statuses), positions)
    absent = {
        column: NOT_ASKED for metric in metrics if metric.name not in settings.metrics for column in metric.columns
    }
    columns["excluded"] = fill.objects([list({**absent, **reasons}.items()) for reasons in measured.excluded])
    for metric in metrics:
        for column in metric.columns:
            columns[column] = fill.scalars(measured.columns.get(column))
        for name in (*metric.curves, *metric.vectors):
            numbers = measured.lists.get(name)
            columns[name] = fill.objects(_lists(numbers) if numbers is not None else [None] * len(positions))
        columns[f"seconds_{metric.name}"] = fill.scalars(measured.seconds.get(metric.name))
    return _table(columns, schema)


def table_schemas(label: Label) -> dict[str, pa.Schema]:
    """The schemas of the tables that are committed together under a label, by their folders."""
    settings = label.settings
    metrics = metrics_schema([known_metric(label.config, name) for name in settings.columns])
    if label.evaluation is not None:
        return {label.tables[0]: metrics}
    height, width = settings.model.input_size
    return {ATTRIBUTIONS: attributions_schema((3, height, width), settings.maps, settings.channels), METRICS: metrics}


class _Filler:
    """Spreads values of some rows over all rows, null elsewhere."""

    def __init__(self, rows: int, positions: Sequence[int]) -> None:
        self.rows = rows
        self.positions = list(positions)

    def objects(self, values: Sequence[Any]) -> list[Any]:
        column: list[Any] = [None] * self.rows
        for position, value in zip(self.positions, values, strict=True):
            column[position] = value
        return column

    def scalars(self, values: np.ndarray | None) -> list[Any]:
        if values is None:
            return [None] * self.rows
        return self.objects([None if value != value else value for value in values.tolist()])

    def tensors(self, values: np.ndarray, kind: pa.FixedShapeTensorType) -> pa.ExtensionArray:
        spread = np.zeros((self.rows, *kind.shape), dtype=values.dtype)
        spread[self.positions] = values
        absent = np.ones(self.rows, dtype=bool)
        absent[self.positions] = False
        storage = pa.FixedSizeListArray.from_arrays(
            pa.array(spread.reshape(-1)), int(np.prod(kind.shape)), mask=pa.array(absent)
        )
        return pa.ExtensionArray.from_storage(kind, storage)


def _finite(prepared: Prepared, attributed: Attribution | None) -> tuple[list[int], dict[int, str]]:
    """Positions of the samples whose attribution is finite, and what is wrong with the others."""
    if attributed is None:
        return [], {}
    positions, nonfinite = [], {}
    for k, position in enumerate(prepared.ok):
        bad = int((~attributed.map[k].isfinite()).sum())
        if bad:
            nonfinite[position] = f"map: {bad} of {attributed.map[k].numel()} values are not finite"
        elif not bool(attributed.score[k].isfinite()):
            nonfinite[position] = f"score: {float(attributed.score[k])}"
        else:
            positions.append(position)
    return positions, nonfinite


def _common(prepared: Prepared, positions: list[int], nonfinite: Mapping[int, str]) -> dict[str, Any]:
    """The columns that both tables share."""
    outcomes = prepared.outcomes
    rows = len(outcomes)
    fill = _Filler(rows, positions)
    at = {position: k for k, position in enumerate(prepared.ok)}
    finite = [at[position] for position in positions]

    return {
        "unit": [outcome.row.unit for outcome in outcomes],
        "shard": [outcome.row.shard for outcome in outcomes],
        "index": [outcome.row.index for outcome in outcomes],
        "key": [outcome.row.key for outcome in outcomes],
        "label": [outcome.label for outcome in outcomes],
        "predicted": fill.objects(prepared.predicted[finite].tolist()),
        "target": fill.objects(prepared.targets[finite].tolist()),
        "probability": fill.objects(prepared.probability[finite].tolist()),
        "status": [str(Status.NONFINITE if i in nonfinite else o.status) for i, o in enumerate(outcomes)],
        "error": [nonfinite.get(i, outcome.error) for i, outcome in enumerate(outcomes)],
        "schema_version": [SCHEMA_VERSION] * rows,
        "width": [outcome.width for outcome in outcomes],
        "height": [outcome.height for outcome in outcomes],
        "crop": [outcome.crop for outcome in outcomes],
    }


def _lists(rows: np.ndarray) -> list[list[float] | None]:
    return [None if np.isnan(row).any() else row.tolist() for row in rows]


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = []
    for name in schema.names:
        value = columns[name]
        arrays.append(value if isinstance(value, pa.Array) else pa.array(value, schema.field(name).type))
    return pa.table(arrays, schema=schema)
