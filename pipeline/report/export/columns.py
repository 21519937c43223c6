"""The columns of the tidy table: who a row is about, and every scalar number of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.report.columns import Column, Source, metric_columns, metric_of, sources
from pipeline.run.reader import Evaluation, Run
from pipeline.run.schema import SHARED, descriptions, metrics_schema
from pipeline.storage.fields import DESCRIPTION
from pipeline.storage.jsontext import to_json

UNIT = b"unit"
TEXT = pa.dictionary(pa.int32(), pa.string())  # few different texts in many rows
ATTRIBUTION = "attribution"  # what stands for a metric beside the numbers of the map itself
_SHARED_UNITS = {
    "score": "target score",
    "baseline_score": "target score",
    "standard_error": "ratio",
    "reliability": "correlation, in [0, 1]",
    "readout_bias": "ratio",
    "completeness_residual": "target score",
    "gradient_evaluations": "gradients",
}


def field(name: str, kind: pa.DataType, description: str, unit: str = "") -> pa.Field:
    """A field of the table with its description and unit."""
    return pa.field(
        name, kind, metadata={DESCRIPTION: description.encode(), **({UNIT: unit.encode()} if unit else {})}
    )


IDENTITY = (
    field("model", TEXT, "label of the network"),
    field("method", TEXT, "label of the method"),
    field("shard", TEXT, "file name of the shard"),
    field("index", pa.int32(), "number of the sample in its shard, from 0"),
    field("key", pa.string(), "key of the sample in its shard"),
    field("unit", TEXT, "name of the run's files that hold the sample: metrics/model=M/method=X/UNIT.parquet"),
    field("label", pa.int32(), "class that the shard gives; null without one", "class number"),
    field("label_name", TEXT, "name of that class"),
    field("predicted", pa.int32(), "class of the highest logit for the whole image", "class number"),
    field("predicted_name", TEXT, "name of that class"),
    field("target", pa.int32(), "class that is explained", "class number"),
    field("target_name", TEXT, "name of that class"),
    field("probability", pa.float32(), "softmax probability of the target for the whole image", "share, in [0, 1]"),
    field("status", TEXT, "ok, or what went wrong with the sample; its numbers are then null"),
    field("error", pa.string(), "why the status is not ok"),
    field("width", pa.int32(), "width of the original image", "pixels"),
    field("height", pa.int32(), "height of the original image", "pixels"),
    field("model_options", TEXT, "what the run records of the network: weights, precision, score, target (JSON)"),
    field("method_options", TEXT, "every option of the method (JSON)"),
)
OPTIONS = ("model_options", "method_options", "metric_options")
NUMBERS = (
    field("metric", TEXT, f"name of the metric; {ATTRIBUTION} for numbers of the map itself"),
    field("column", TEXT, "name of the number, as in the report"),
    field("value", pa.float64(), "the number; null where there is none", "see the column range"),
    field("excluded", TEXT, "why the number is null"),
    field("direction", TEXT, "what is better: higher, lower or none"),
    field("range", TEXT, "range or unit of the number"),
    field("evaluation", TEXT, "evaluation that added the number later; null for the run's own"),
    field("metric_options", TEXT, "every option of the metric (JSON)"),
)
EXCLUDED = field("excluded", pa.string(), "column that is null in this row -> the reason (JSON)")


@dataclass(frozen=True)
class Number:
    """A scalar number of a sample under one model.

    Attributes:
        name: in the table: as the report calls it.
        stored: name of its column in the run's file.
        source: the metric and the evaluation that it is of.
        direction: what is better: ``higher``, ``lower`` or ``none``.
        unit: its range or unit.
        options: of the metric, as JSON.
        whole: whether it counts something.
    """

    name: str
    stored: str
    source: Source
    description: str
    direction: str
    unit: str
    options: str
    whole: bool = False

    @property
    def evaluation(self) -> str | None:
        return self.source.evaluation

    @property
    def field(self) -> pa.Field:
        """Its field in a wide table."""
        about = f"{self.description}; {_BETTER[self.direction]}" if self.direction in _BETTER else self.description
        described = field(self.name, pa.int32() if self.whole else pa.float32(), about, self.unit)
        return described.with_metadata({**described.metadata, b"options": self.options.encode()})


_BETTER = {"higher": "higher is better", "lower": "lower is better"}


def numbers_of(run: Run, model: str) -> list[Number]:
    """Every scalar number that the tables of a model have, in order: of the map, of each metric, seconds."""
    of_map = descriptions(metrics_schema([], run.version))
    numbers = [
        Number(
            name, name, Source(ATTRIBUTION), of_map.get(name, name), "none", _SHARED_UNITS[name], "", name == _COUNTED
        )
        for name in SHARED
    ]
    options = sources(run, model)
    by_source: dict[Source, list[Column]] = {}
    for column in metric_columns(run, model):
        by_source.setdefault(column.source, []).append(column)
    for source, columns in by_source.items():
        numbers += (_number(run, model, column, options[source]) for column in columns)
        stored = f"seconds_{source.metric}"
        again = any(number.name == stored for number in numbers)
        name = f"{stored}@{source.evaluation}" if again else stored
        about = f"seconds of computing that {source.metric} took for this image"
        numbers.append(Number(name, stored, source, about, "none", "seconds", _json(options[source])))
    return numbers


_COUNTED = "gradient_evaluations"


def _number(run: Run, model: str, column: Column, options: Mapping[str, Any]) -> Number:
    spec = metric_of(run, model, column.source)
    described = {} if spec is None else {column.stored: spec.description(column.stored)}
    return Number(
        column.name,
        column.stored,
        column.source,
        described.get(column.stored, column.stored),
        column.direction,
        "" if spec is None else spec.range,
        _json(options),
    )


def measured(run: Run, model: str, method: str, numbers: Iterable[Number]) -> list[Number]:
    """The numbers that a method has: those of its own metrics and evaluations."""
    its_sources = {Source(ATTRIBUTION), *(Source(name) for name in run.config[model, method].get("metrics", {}))}
    its_sources |= {Source(name, added.name) for added in evaluations_of(run, model, method) for name in added.metrics}
    return [number for number in numbers if number.source in its_sources]


def evaluations_of(run: Run, model: str, method: str) -> list[Evaluation]:
    """What was measured later of a method."""
    return [added for added in run.evaluations if (added.model, added.method) == (model, method)]


def wide_schema(every: Iterable[Sequence[Number]]) -> pa.Schema:
    """Schema of a wide table: a column for each number of any model.

    A field's metadata have the options of its metric, unless models differ in them.
    """
    fields: dict[str, pa.Field] = {}
    for numbers in every:
        for number in numbers:
            described = number.field
            shared_field = fields.setdefault(number.name, described)
            if shared_field.metadata != described.metadata:
                equal = dict(shared_field.metadata.items() & described.metadata.items())
                fields[number.name] = shared_field.with_metadata(equal)
    return pa.schema([*IDENTITY, EXCLUDED, *fields.values()])


def long_schema() -> pa.Schema:
    """Schema of a long table."""
    return pa.schema([*IDENTITY, *NUMBERS])


def model_options(config: Mapping[str, Any]) -> str:
    """What a configuration says of its network, as JSON."""
    return _json({name: value for name, value in config.get("model", {}).items() if value is not None})


def method_options(config: Mapping[str, Any]) -> str:
    """The method of a configuration with its options, as JSON."""
    method = config.get("method", {})
    return _json({"name": method.get("name"), **method.get("options", {})})


def _json(value: Any) -> str:
    return to_json(value, readable=True)
