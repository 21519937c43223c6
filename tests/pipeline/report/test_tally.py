"""Rows of tables as arrays and counts, against what a loop over the rows gives."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.report.columns import Column, Source
from pipeline.report.positions import Positions
from pipeline.report.running import RunningMeans
from pipeline.report.tally import Tally, counted, floats, is_ok, together
from ssig.errors import UsageError

STORED = pa.schema(
    [
        ("status", pa.string()),
        ("excluded", pa.map_(pa.string(), pa.string())),
        ("a", pa.float32()),
        ("b", pa.float32()),
        ("seconds_m", pa.float32()),
        ("curve", pa.list_(pa.float32())),
    ]
)
LATER = Source("m", "later")
COLUMNS = [(number, Column(f"{name}@later", name, LATER, "higher", headline=True)) for number, name in enumerate("ab")]
ROWS: list[dict[str, Any]] = [
    {"status": "ok", "excluded": [], "a": 1, "b": 2, "seconds_m": 3, "curve": [0, 1]},
    {"status": "ok", "excluded": [("b", "no boxes")], "a": 2, "b": None, "seconds_m": None, "curve": [1, 1]},
    {"status": "no_label", "excluded": [("b", "of a sample that failed")], "a": None, "b": None, "seconds_m": None},
    {"status": "ok", "excluded": None, "a": None, "b": 5, "seconds_m": 5, "curve": None},
    {"status": "ok", "excluded": [("a", "flat"), ("b", "no boxes"), ("z", "unknown")], "a": None, "b": None},
]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, STORED)


@pytest.mark.parametrize("sizes", [[5], [1, 4], [2, 0, 2, 1]])
def test_numbers_reasons_seconds_and_curves_are_those_of_the_rows(sizes: list[int]) -> None:
    values = np.full((7, 2), np.nan, np.float32)
    means = RunningMeans()

    def write(images: np.ndarray, position: int, numbers: np.ndarray) -> None:
        values[images, position] = numbers

    tally = Tally(COLUMNS, write, {"curve": means})
    assert tally.column_names == ["a", "b", "seconds_m", "curve"]
    ok = np.array([True, True, True, True, False, True, True])
    where, start = np.array([6, 0, 1, 2, 4]), 0
    for size in sizes:
        tally.add(table(ROWS[start : start + size]), where[start : start + size], ok)
        start += size
    np.testing.assert_array_equal(values[where], [[1, 2], [2, np.nan], [np.nan] * 2, [np.nan, 5], [np.nan] * 2])
    assert np.isnan(values[[3, 5]]).all()
    assert tally.seconds == {LATER: 4.0}
    failed = {"sample no_label when evaluated": 1}  # image 1, which has a map
    assert tally.excluded == {"a@later": {"flat": 1, **failed}, "b@later": {"no boxes": 2, **failed}}
    tally.exclude_all("unit not evaluated", 3)
    assert tally.excluded["a@later"]["unit not evaluated"] == 3
    points = means.intervals()
    assert points is not None
    assert (points.mean.tolist(), points.count.tolist()) == ([0.5, 1], [2, 2])


def test_rows_are_counted_and_read_as_numbers() -> None:
    rows = table(ROWS)
    assert counted(rows["status"]) == Counter(ok=4, no_label=1)
    assert is_ok(rows).tolist() == [True, True, False, True, True]
    np.testing.assert_array_equal(floats(rows["b"]), [2, np.nan, np.nan, 5, np.nan])
    assert floats(pa.chunked_array([pa.array([1, None], pa.int32())])).dtype == np.float32


def test_many_small_tables_become_few_with_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.tally._TOGETHER", 4)
    parts = [table(ROWS[start : start + 2]).select(["status", "a"]) for start in (0, 2, 4)]
    found = list(together(iter(parts)))
    assert [len(part) for part in found] == [4, 1]
    assert pa.concat_tables(found).equals(pa.concat_tables(parts))
    assert list(together([])) == []


def test_a_row_lies_where_the_manifest_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = pa.table({"shard": ["a"] * 3 + ["b"] * 2, "index": pa.array([0, 1, 2, 0, 1], pa.int32())})
    rows = pa.table({"shard": ["b", "a", "a"], "index": pa.array([1, 2, 0], pa.int32())})
    for size in (1, 2, 5):
        positions = Positions(manifest.to_batches(size))
        assert len(positions) == 5
        assert positions.of(rows).tolist() == [4, 2, 0]
        assert positions.of(rows.slice(0, 0)).tolist() == []
    for shard, index in (("c", 0), ("b", 2), ("a", 3)):
        with pytest.raises(UsageError, match="rows that are not in its manifest"):
            positions.of(pa.table({"shard": [shard], "index": pa.array([index], pa.int32())}))
