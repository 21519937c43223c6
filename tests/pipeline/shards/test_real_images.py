"""Real photographs through a real network: the same maps and metrics whatever the units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checks.audit import audit
from pipeline.run.reader import open_run

pytestmark = [pytest.mark.data, pytest.mark.slow]

METHODS = [
    "gradient",
    {"name": "ssig", "samples": 4},
    {"name": "ssig-signed", "samples": 4},
    {"name": "ig", "steps": 4},
]
METRICS = [{"name": "insertion", "steps": 7}, {"name": "deletion", "steps": 7}, "diffid", "roc_auc", "energy"]


def test_units_change_no_map(
    dev_shards: list[Path], make_job: Callable[..., Any], work_off: Callable[..., Path], tmp_path: Path
) -> None:
    runs = [
        open_run(
            work_off(
                make_job(
                    dev_shards[0],
                    dataset__limit=7,
                    model__name="efficientnet-lite0",
                    methods=METHODS,
                    metrics=METRICS,
                    unit_size=size,
                    output__maps="float32",
                    output__path=str(tmp_path / f"units-of-{size}"),
                )
            )
        )
        for size in (3, 7)
    ]
    assert all(audit(run.root).ok for run in runs)
    for model, method in runs[0].config:
        for (_, key, first), (_, other, second) in zip(*(run.maps(model, method) for run in runs), strict=True):
            assert key == other
            assert np.linalg.norm(first - second) <= 1e-4 * np.linalg.norm(second)
    columns = ["insertion", "deletion", "diffid", "roc_auc", "energy", "probability"]
    tables = [run.relation().order("method, shard, index").to_arrow_table() for run in runs]
    assert tables[0]["key"].to_pylist() == tables[1]["key"].to_pylist()
    for column in columns:
        first, second = (table[column].to_numpy() for table in tables)
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-3)
