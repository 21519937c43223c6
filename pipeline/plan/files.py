"""Files and bytes that a job writes: from the tables' schemas, and from what a probe found of their rows."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from pipeline.run.layout import ATTRIBUTIONS, METRICS
from pipeline.run.publishing import write_table
from pipeline.run.schema import attributions_schema, metrics_schema
from ssig.registry import MetricSpec

# Bytes of a label in a commit record: hashes and sizes of two tables, counts and seconds.
COMMIT_BYTES = 900
# Compressed bytes of a column's number or text in a row, where no probe measured them.
_CELL_BYTES = 4
_CURVE_POINTS = 65  # of a curve, whose length is known only when it is measured


@dataclass(frozen=True)
class Output:
    """What a job writes.

    Attributes:
        files: tables and commit records.
        bytes: of all of these.
        map_bytes: of the tables with maps.
        measured: whether the bytes follow from a probe; otherwise maps are counted as if they did not shrink.
    """

    files: int
    bytes: float
    map_bytes: float
    measured: bool


def schemas(
    metrics: Sequence[MetricSpec], input_size: tuple[int, int], maps: str, channels: bool
) -> dict[str, pa.Schema]:
    """Table -> its schema."""
    return {ATTRIBUTIONS: attributions_schema((3, *input_size), maps, channels), METRICS: metrics_schema(metrics)}


def output_of(
    tables: Mapping[str, pa.Schema], units: int, rows: int, measured: Mapping[str, float] | None = None
) -> Output:
    """The tables that one label writes.

    Args:
        tables: table -> its schema.
        units, rows: of the label.
        measured: table -> compressed bytes of a row, where a probe measured them.
    """
    each = {
        name: units * empty_bytes(schema) + rows * (row_bytes(schema) if measured is None else measured[name])
        for name, schema in tables.items()
    }
    return Output(units * len(tables), sum(each.values()), each[ATTRIBUTIONS], measured is not None)


def joined(outputs: Sequence[Output], commits: int) -> Output:
    """What several labels write.

    Args:
        outputs: the tables of each label.
        commits: units; each has one commit record for all labels.
    """
    return Output(
        sum(output.files for output in outputs) + commits,
        sum(output.bytes for output in outputs) + commits * len(outputs) * COMMIT_BYTES,
        sum(output.map_bytes for output in outputs),
        all(output.measured for output in outputs),
    )


@lru_cache
def empty_bytes(schema: pa.Schema) -> int:
    """Bytes of a file of a schema without rows: its columns, with their descriptions."""
    file = io.BytesIO()
    write_table(schema.empty_table(), file)
    return len(file.getvalue())


def row_bytes(schema: pa.Schema) -> float:
    """Bytes of a row, with maps as they are before they are compressed."""
    return sum(_cell_bytes(field.type) for field in schema)


def tensor_bytes(schema: pa.Schema) -> int:
    """Bytes of a row's maps in memory."""
    return sum(int(_cell_bytes(field.type)) for field in schema if isinstance(field.type, pa.FixedShapeTensorType))


def _cell_bytes(kind: pa.DataType) -> float:
    if isinstance(kind, pa.FixedShapeTensorType):
        return float(math.prod(kind.shape) * kind.value_type.bit_width // 8)
    return _CELL_BYTES * (_CURVE_POINTS if pa.types.is_list(kind) else 1)
