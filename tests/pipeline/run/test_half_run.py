"""A run that an earlier commit began, in the format of schema 2, is finished, audited and reported by this one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.checks.audit import audit
from pipeline.report import build_report
from pipeline.run.canonical import checksum
from pipeline.run.reader import open_run

DATA = Path(__file__).resolve().parents[2] / "data" / "half-run-2"


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, Path]:
    """A shard of four images, and a copy of a run that has done the first two of them under `ssig` and `ig`."""
    shard = Path(shutil.copy(DATA / "a.tar", tmp_path / "a.tar"))
    run = Path(shutil.copytree(DATA / "run", tmp_path / "run"))
    move(run, shard)
    return shard, run


def move(run: Path, shard: Path) -> None:
    """Makes it a run that was started where its shard lies now."""
    record = json.loads((run / "run.json").read_text())
    (old,) = record["dataset"]["shards"]
    new = {**old, "url": str(shard), "version": str(shard.stat().st_mtime_ns)}
    manifest = pq.read_table(run / "manifest.parquet")
    about = {"shards": [list(new.values())], "quarantine": []}
    meta = {**manifest.schema.metadata, b"ssig.manifest": json.dumps(about).encode()}
    pq.write_table(manifest.replace_schema_metadata(meta), run / "manifest.parquet")
    file_hash = hashlib.sha256((run / "manifest.parquet").read_bytes()).hexdigest()
    record["dataset"] |= {"shards": [new], "manifest_file": file_hash}
    (run / "run.json").write_text(json.dumps({**record, "checksum": checksum(record)}))


def test_it_is_finished_audited_and_reported(
    begun: tuple[Path, Path], make_job: Callable[..., Any], work_off: Callable[..., Path]
) -> None:
    shard, run = begun
    first = {path: path.read_bytes() for path in run.rglob("*.parquet")}
    metrics = [{"name": "insertion", "steps": 4}, "roc_auc"]
    work_off(make_job(shard, metrics=metrics, output__path=str(run), unit_size=2))
    result = audit(str(run))
    assert result.problems == []
    assert set(map(str, result.statuses.values())) == {"{'ok': 4}"}
    assert {path: path.read_bytes() for path in first} == first
    assert open_run(run).metrics().num_rows == 8
    build_report(str(run))
    (model,) = json.loads((run / "report" / "report.json").read_text())["models"]
    assert model["means"]["ig"]["insertion"]["count"] == 4
