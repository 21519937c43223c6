"""The same run by both executors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from tests_shards import members

from pipeline.checks.audit import audit
from pipeline.driver.attribute import attribute
from pipeline.run.directory import RunDirectory
from pipeline.run.maps import decode_maps
from pipeline.storage import open_storage

Make = Callable[..., Any]


def rows_of(run: Path, columns: str) -> list[tuple[Any, ...]]:
    query = f"select {columns} from '{run}/metrics/**/*.parquet' order by method, shard, index"
    return duckdb.sql(query).fetchall()


def ok_rows(path: Path) -> Any:
    return pq.read_table(path, filters=[("status", "=", "ok")])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_both_give_the_same_run(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    files = members(0, 6)
    names = [name for name, _ in files]
    files[names.index("image0001.jpg")] = ("image0001.jpg", files[0][1][:300])
    shard = make_shard(files=files)
    by_ray, here = (
        attribute(
            make_job(shard, output__path=str(tmp_path / name), output__maps="float32", actors__executor=name),
        )
        for name in ("ray", "local")
    )
    assert (here.exit_code, here.statuses, here.units_done) == (by_ray.exit_code, by_ray.statuses, by_ray.units_done)
    assert here.statuses["ssig"] == {"ok": 5, "undecodable": 1}
    exact, close = "method, shard, index, key, status, label, target", "probability, insertion, deletion, roc_auc"
    runs = [Path(here.run), Path(by_ray.run)]
    one, other = (rows_of(run, exact) for run in runs)
    assert one == other
    for left, right in zip(*(rows_of(run, close) for run in runs), strict=True):
        assert left == pytest.approx(right, abs=1e-3)
    mine, theirs = ([label.fingerprint for label in RunDirectory(open_storage(str(run))).labels] for run in runs)
    assert mine == theirs
    tables = sorted(path.relative_to(runs[0]) for path in runs[0].glob("attributions/*/*/*.parquet"))
    assert len(tables) == 4
    for name in tables:
        first, second = (decode_maps(ok_rows(run / name)) for run in runs)
        for map_here, map_there in zip(first, second, strict=True):
            assert np.linalg.norm(map_here - map_there) <= 1e-4 * np.linalg.norm(map_there)
    assert all(audit(str(run)).ok for run in runs)
