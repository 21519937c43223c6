"""The bundled photographs: a shard that a run can read, with boxes inside the pictures."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.shards import manifest
from pipeline.shards.photographs import PHOTOGRAPHS, write_photographs
from pipeline.shards.reading import read_unit
from pipeline.shards.samples import Status


def test_every_photograph_is_a_readable_sample_without_label(tmp_path: Path) -> None:
    path = write_photographs(tmp_path)
    assert path == tmp_path / "photographs.tar"
    found = manifest.build([str(path)], 64)
    assert found.quarantine == ()
    (unit,) = found.units()
    samples = list(read_unit(str(path), found.rows(unit.id)))
    assert [sample.row.key for sample in samples] == [photograph.key for photograph in PHOTOGRAPHS]
    assert len(samples) == 8
    for sample, photograph in zip(samples, PHOTOGRAPHS, strict=True):
        assert (sample.status, sample.error, sample.row.label) == (Status.OK, None, None)
        assert sample.image is not None
        assert sample.boxes == tuple(tuple(map(float, box)) for box in photograph.boxes)
        width, height = sample.image.size
        for x0, y0, x1, y1 in sample.boxes:
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
        assert photograph.licence
        assert photograph.source


def test_the_bytes_are_the_same_each_time_and_written_once(tmp_path: Path) -> None:
    first = write_photographs(tmp_path / "one")
    before = os.stat(first)
    assert write_photographs(tmp_path / "one") == first
    assert os.stat(first).st_mtime_ns == before.st_mtime_ns
    assert write_photographs(tmp_path / "two").read_bytes() == first.read_bytes()
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["photographs.tar"]
    first.write_bytes(b"damaged")
    assert write_photographs(tmp_path / "one").stat().st_size == before.st_size
