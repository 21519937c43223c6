"""How the tables of units are laid out in Parquet."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.run.publishing import ROW_GROUP_BYTES, write_table


def table_of(rows: int, side: int) -> pa.Table:
    """A table with a float16 map, a curve and a key in each row."""
    maps = np.random.default_rng(0).normal(size=(rows, side, side)).astype(np.float16)
    return pa.table(
        {
            "key": pa.array([f"image-{row % 3}" for row in range(rows)]),
            "index": pa.array(range(rows), pa.int64()),
            "map": pa.FixedShapeTensorArray.from_numpy_ndarray(maps),
            "curve": pa.array([[row / rows, 0.5] for row in range(rows)], pa.list_(pa.float32())),
        }
    )


def written(table: pa.Table) -> pq.ParquetFile:
    stream = io.BytesIO()
    write_table(table, stream)
    return pq.ParquetFile(stream)


def test_one_map_is_read_without_the_other_maps_of_its_unit() -> None:
    table = table_of(64, 224)
    file = written(table)
    group = file.metadata.row_group(0)
    assert group.total_byte_size == pytest.approx(ROW_GROUP_BYTES, rel=0.2)
    assert file.num_row_groups == -(-64 // group.num_rows)
    assert file.read().equals(table)


def test_small_tables_are_one_row_group() -> None:
    assert written(table_of(64, 8)).num_row_groups == 1


@pytest.mark.parametrize("rows", [0, 1])
def test_a_row_wider_than_a_row_group_is_written(rows: int) -> None:
    file = written(table_of(1, 1024).slice(0, rows))
    assert file.read().num_rows == rows


def test_only_columns_whose_values_repeat_have_a_dictionary() -> None:
    group = written(table_of(64, 32)).metadata.row_group(0)
    columns = {
        group.column(number).path_in_schema.split(".")[0]: group.column(number).has_dictionary_page
        for number in range(group.num_columns)
    }
    assert columns == {"key": True, "index": True, "map": False, "curve": False}
