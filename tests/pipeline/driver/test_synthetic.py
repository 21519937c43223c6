"""Synthetic runs: sound, and read like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.checks.audit import audit
from pipeline.checks.status import status
from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.report import build_report
from pipeline.run.reader import open_run


@pytest.mark.parametrize("maps", ["none", "float16"])
def test_a_synthetic_run_is_sound_and_reported(tmp_path: Path, maps: str) -> None:
    wanted = SyntheticRun(images=70, methods=["ig", "gradient", "agi"], maps=maps, unit_size=16)
    directory = write_synthetic_run(tmp_path, wanted)
    assert audit(directory.root).problems == []
    assert status(directory.root).finished
    assert directory.remaining(directory.labels) == []
    run = open_run(directory.root)
    assert run.metrics().num_rows == 3 * 70
    assert len(run.manifest) == 70
    if maps != "none":
        assert len(list(run.maps("synthetic", "agi"))) == 70
    assert Path(build_report(directory.root)).is_file()


def test_a_large_run_has_many_shards_and_units_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.driver.synthetic.IMAGES_PER_SHARD", 20)
    directory = write_synthetic_run(tmp_path, SyntheticRun(images=50, methods=["ig"], metrics=[], unit_size=8))
    assert [len(shard.name) for shard in directory.manifest.shards] == [10, 10, 10]
    assert audit(directory.root).ok
    (label,) = directory.labels
    units = [unit.id for unit in directory.manifest.units()]
    assert all(directory.done(unit, label) for unit in units)
    (directory.storage.root / Path(label.commit_names(units[2])[0])).unlink()
    assert directory.done(units[2], label)  # as it was when it was looked at
    directory.refresh()
    assert [(unit.id, methods) for unit, methods in directory.remaining([label])] == [(units[2], ("ig",))]
