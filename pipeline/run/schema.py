"""The explicit, versioned Arrow schemas of everything a run writes as Parquet; every column says what it holds.

The labels of model and method are the folders' keys and stand in the path alone, by hive's convention: some readers
refuse a file with a column that a folder names too. Files of schema 1 have both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from pipeline.storage.fields import DESCRIPTION, SCHEMA_VERSION, field
from ssig.registry import MetricSpec

KEYS = ("model", "method")
# Numbers of the attribution that stand in the metrics too: name in the metrics -> name in the attributions. So methods
# can be compared without opening the maps.
SHARED = {
    "score": "score",
    "baseline_score": "baseline_score",
    "standard_error": "standard_error_mean",
    "reliability": "reliability",
    "readout_bias": "readout_bias",
    "completeness_residual": "completeness_residual",
    "gradient_evaluations": "gradient_evaluations",
}
LABELLED = pa.dictionary(pa.int32(), pa.string())  # type of a label, which is the same in all rows of a file


_COMMON = [
    field("unit", pa.string(), "samples that were committed together: shard-start-stop", nullable=False),
    field("shard", pa.string(), "file name of the shard", nullable=False),
    field("index", pa.int32(), "number of the sample in its shard, from 0", nullable=False),
    field("key", pa.string(), "key of the sample in its shard", nullable=False),
    field("label", pa.int32(), "class that the shard gives; null without one"),
    field("predicted", pa.int32(), "class of the highest logit for the whole image"),
    field("target", pa.int32(), "class that is explained"),
    field("probability", pa.float32(), "softmax probability of the target for the whole image, in [0, 1]"),
    field("status", pa.string(), "ok, or what went wrong with the sample; its numbers are then null", nullable=False),
    field("error", pa.string(), "why the status is not ok"),
    field("schema_version", pa.int32(), "schema version of this table", nullable=False),
    field("excluded", pa.map_(pa.string(), pa.string()), "column that is null in this row -> the reason"),
    field("width", pa.int32(), "width of the original image in pixels"),
    field("height", pa.int32(), "height of the original image in pixels"),
    field("crop", pa.list_(pa.float64(), 4), "part that the network sees: x0, y0, x1, y1 in original pixels"),
]
_SCORES = [
    field("score", pa.float32(), "target score of the image, f(x)"),
    field("baseline_score", pa.float32(), "target score of the baseline, f(x')"),
]
_RELATIVE_ERROR = (
    "mean pixel standard error of the map over its mean |value|; null for deterministic methods. Noise enlarges "
    "|value| too, so that this cannot much exceed 1.25 however noisy the map is; see reliability"
)
_NOISE = [
    field(
        "reliability",
        pa.float32(),
        "correlation over pixels to expect with a map of as many other samples, in [0, 1]; null for deterministic "
        "methods. It says nothing of a bias that both maps share; see readout_bias",
    ),
    field(
        "readout_bias",
        pa.float32(),
        "by about which share of its mean |value| noise makes the map too large, rather over- than underestimated; "
        "null where the readout takes no magnitudes of noisy values",
    ),
]
_SPENT = [
    field(
        "completeness_residual",
        pa.float32(),
        "sum of the attributions minus (f(x) - f(x')); null unless the method promises 0",
    ),
    field("gradient_evaluations", pa.int32(), "gradients of the network that were spent on the map"),
]
_OF_THE_MAP = [
    field("class_name", pa.string(), "name of the target among the network's categories"),
    *_SCORES,
    field("standard_error", pa.float32(), _RELATIVE_ERROR),
    *_NOISE,
    *_SPENT,
]


def attributions_schema(
    shape: tuple[int, int, int], maps: str, channels: bool, version: int = SCHEMA_VERSION
) -> pa.Schema:
    """Schema of an attributions file.

    Args:
        shape: (C, H, W) of the network's input.
        maps: ``none``, ``float16`` or ``float32``: how maps are stored.
        channels: whether the values of each channel are stored too.
        version: of the run.
    """
    fields = list(_COMMON)
    if maps != "none":
        kind = {"float16": pa.float16(), "float32": pa.float32()}[maps]
        tensors: list[tuple[str, tuple[int, ...], str]] = []
        tensors.append(("map", shape[1:], "attribution of each pixel (height, width)"))
        if channels:
            tensors.append(("values", shape, "attribution of each channel's pixels (channel, height, width)"))
        for name, size, description in tensors:
            fields += [
                field(name, pa.fixed_shape_tensor(kind, size), f"{description}; multiply by {name}_scale"),
                field(f"{name}_scale", pa.float32(), f"factor that gives {name} its size back"),
            ]
    noise = _NOISE if version > 1 else []
    fields += [*_SCORES, field("standard_error_mean", pa.float32(), _RELATIVE_ERROR), *noise, *_SPENT]
    return _versioned(fields, "attributions", version)


def metrics_schema(metrics: Iterable[MetricSpec], version: int = SCHEMA_VERSION) -> pa.Schema:
    """Schema of a metrics file: what the attribution says of each map, then the columns of each metric, in order."""
    fields = [*_COMMON, *(_OF_THE_MAP if version > 1 else ())]
    for metric in metrics:
        fields += _metric_fields(metric)
    return _versioned(fields, "metrics", version)


def _metric_fields(metric: MetricSpec) -> list[pa.Field]:
    """The scalar columns, curves, vectors and seconds of a metric."""
    better = {"higher": "higher is better", "lower": "lower is better", "none": "neither way is better"}
    scalars = [
        field(name, pa.float32(), f"{metric.description(name)}; {better[direction]}; {_range(metric, name)}")
        for name, direction in metric.columns.items()
    ]
    lists = [
        field(name, pa.list_(pa.float32()), metric.description(name)) for name in (*metric.curves, *metric.vectors)
    ]
    spent = f"seconds of computing that {metric.name} took for this image"
    return [*scalars, *lists, field(f"seconds_{metric.name}", pa.float32(), spent)]


def _range(metric: MetricSpec, column: str) -> str:
    """The range of a metric's first column; for the others, a reference to it."""
    first = next(iter(metric.columns))
    return f"range {metric.range}" if column == first else f"see {first}, whose range is {metric.range}"


def descriptions(schema: pa.Schema) -> Mapping[str, str]:
    """Column -> what it holds, of those that say so."""
    return {
        field.name: field.metadata[DESCRIPTION].decode() for field in schema if DESCRIPTION in (field.metadata or {})
    }


def _versioned(fields: list[pa.Field], table: str, version: int) -> pa.Schema:
    if version == 1:
        fields = [field.remove_metadata() for field in fields]
        after = [field.name for field in fields].index("status")
        fields[after:after] = [pa.field(name, LABELLED, nullable=False) for name in KEYS]
    return pa.schema(fields, metadata={"ssig.table": table, "ssig.schema_version": str(version)})
