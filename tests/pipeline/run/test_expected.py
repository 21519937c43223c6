"""The manifest in pieces says what the whole manifest says."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.run.expected import Expected, image_sizes
from pipeline.shards.images import IMAGE_EXTENSIONS
from pipeline.shards.manifest_table import MANIFEST
from pipeline.storage import open_storage
from ssig.errors import UsageError


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    table = pa.table({"shard": ["a"] * 3 + ["b"] * 2, "index": pa.array([0, 1, 2, 0, 1], pa.int32())})
    pq.write_table(table, tmp_path / "manifest.parquet", row_group_size=2)
    return Expected(open_storage(tmp_path))


def test_pieces_rows_and_number_are_those_of_the_manifest(expected: Expected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.run.expected._PIECE_ROWS", 3)
    assert len(expected) == 5
    pieces = list(expected.pieces(["index"]))
    assert len(pieces) > 1
    assert [number for piece in pieces for number in piece.column(0).to_pylist()] == [0, 1, 2, 0, 1]
    rows = [expected.row(number) for number in range(5)]
    assert rows[3] == {"shard": "b", "index": 0}
    assert [row["index"] for row in rows] == [0, 1, 2, 0, 1]
    with pytest.raises(IndexError):
        expected.row(5)


def test_a_manifest_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest\.parquet"):
        len(Expected(open_storage(tmp_path)))
    (tmp_path / "manifest.parquet").write_bytes(b"no table")
    with pytest.raises(UsageError, match=r"manifest\.parquet"):
        Expected(open_storage(tmp_path)).row(0)


def test_the_size_of_an_image_is_that_of_its_first_kind() -> None:
    kinds = ["jpg", "png"]
    assert [kind for kind in IMAGE_EXTENSIONS if kind in kinds] == kinds
    samples = [[("png", 5), ("cls", 1), ("jpg", 7)], [], [("cls", 1)], None, [("png", 9)]]
    members = [
        None if each is None else [{"extension": e, "offset": 0, "size": s} for e, s in each] for each in samples
    ]
    array = pa.array(members, MANIFEST.field("members").type)
    assert image_sizes(array).to_pylist() == [7, None, None, None, 9]
    assert image_sizes(array[:0]).to_pylist() == []
    assert image_sizes(array.slice(1)).to_pylist() == [None, None, None, 9]
