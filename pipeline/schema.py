"""The explicit, versioned Arrow schemas of everything a run writes as Parquet."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from ssig.registry import MetricSpec

SCHEMA_VERSION = 1

_LABELLED = pa.dictionary(pa.int32(), pa.string())  # plain strings clash with the hive folder names on reading

MANIFEST = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field(
            "members",
            pa.list_(pa.struct([("extension", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])),
            nullable=False,
        ),
    ],
    metadata={"ssig.table": "manifest", "ssig.schema_version": str(SCHEMA_VERSION)},
)

_COMMON = [
    pa.field("unit", pa.string(), nullable=False),
    pa.field("shard", pa.string(), nullable=False),
    pa.field("index", pa.int32(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("label", pa.int32()),
    pa.field("predicted", pa.int32()),
    pa.field("target", pa.int32()),
    pa.field("probability", pa.float32()),
    pa.field("model", _LABELLED, nullable=False),
    pa.field("method", _LABELLED, nullable=False),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("schema_version", pa.int32(), nullable=False),
    pa.field("excluded", pa.map_(pa.string(), pa.string())),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("crop", pa.list_(pa.float64(), 4)),
]


def attributions_schema(shape: tuple[int, int, int], maps: str, channels: bool) -> pa.Schema:
    """Schema of an attributions file.

    Args:
        shape: (C, H, W) of the network's input.
        maps: ``none``, ``float16`` or ``float32``: how maps are stored.
        channels: whether the values of each channel are stored too.
    """
    fields = list(_COMMON)
    if maps != "none":
        kind = {"float16": pa.float16(), "float32": pa.float32()}[maps]
        fields.append(pa.field("map", pa.fixed_shape_tensor(kind, shape[1:])))
        fields.append(pa.field("map_scale", pa.float32()))
        if channels:
            fields.append(pa.field("values", pa.fixed_shape_tensor(kind, shape)))
            fields.append(pa.field("values_scale", pa.float32()))
    fields += [
        pa.field("score", pa.float32()),
        pa.field("baseline_score", pa.float32()),
        pa.field("standard_error_mean", pa.float32()),
        pa.field("completeness_residual", pa.float32()),
        pa.field("gradient_evaluations", pa.int32()),
    ]
    return _versioned(fields, "attributions")


def metrics_schema(metrics: Iterable[MetricSpec]) -> pa.Schema:
    """Schema of a metrics file: the scalar columns, curves, vectors and seconds of each metric, in order."""
    fields = list(_COMMON)
    for metric in metrics:
        fields += [pa.field(column, pa.float32()) for column in metric.columns]
        fields += [pa.field(name, pa.list_(pa.float32())) for name in (*metric.curves, *metric.vectors)]
        fields.append(pa.field(f"seconds_{metric.name}", pa.float32()))
    return _versioned(fields, "metrics")


def _versioned(fields: list[pa.Field], table: str) -> pa.Schema:
    return pa.schema(fields, metadata={"ssig.table": table, "ssig.schema_version": str(SCHEMA_VERSION)})
