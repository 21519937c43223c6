"""Metrics that call the method again, in a run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import duckdb
import pytest
from torch import nn

from pipeline.checks.audit import audit
from pipeline.run.labels import Label
from pipeline.unit import attributor
from pipeline.unit.worker import Worker, may_change_network
from ssig.acceleration.ready_replica import prepared_copy
from ssig.models import load_model, restore
from ssig.models.loading import export

METRICS = [{"name": "mprt", "blocks": 2}, "stability", "roc_auc"]


def numbers(run: Path) -> list[dict[str, Any]]:
    columns = "method, mprt, mprt_curve, stability, excluded, seconds_mprt"
    query = f"select {columns} from read_parquet('{run}/metrics/**/*.parquet') order by method, index"
    return duckdb.sql(query).to_arrow_table().to_pylist()


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_run_explains_again(
    make_shard: Callable[..., Path],
    make_job: Callable[..., Any],
    work_off: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    at_hand: bool,
) -> None:
    fresh = partial(restore, export(load_model("networks:tiny"))) if at_hand else None
    monkeypatch.setattr(Worker, "__init__", partialmethod(Worker.__init__, fresh=fresh))
    run = work_off(make_job(make_shard(count=3), metrics=METRICS))
    rows = numbers(run)
    assert [row["method"] for row in rows] == ["ig"] * 3 + ["ssig"] * 3
    for row in rows:
        excluded = dict(row["excluded"])
        assert (row["mprt"] is not None) == at_hand
        if at_hand:
            assert -1 <= row["mprt"] < 0.99
            assert len(row["mprt_curve"]) == 2
            assert row["seconds_mprt"] > 0
        else:
            assert excluded["mprt"] == "the network as it was loaded is not at hand"
        # Integrated gradients draw nothing.
        assert (row["stability"] is None) == ("stability" in excluded) == (row["method"] == "ig")
    assert audit(str(run)).ok


def test_randomised_networks_are_explained_by_faster_copies(
    make_shard: Callable[..., Path],
    make_job: Callable[..., Any],
    work_off: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fresh = partial(restore, export(load_model("networks:tiny")))
    monkeypatch.setattr(Worker, "__init__", partialmethod(Worker.__init__, fresh=fresh))
    shard, made = make_shard(count=3), list[nn.Module | None]()

    def run(name: str) -> list[float]:
        job = make_job(shard, metrics=METRICS, output__path=str(tmp_path / name))
        return [row["mprt"] for row in numbers(work_off(job))]

    def prepared(network: nn.Module, *, keep: Collection[str]) -> nn.Module | None:
        made.append(prepared_copy(network, keep=keep))
        return made[-1]

    monkeypatch.setattr(attributor, "prepared_copy", prepared)
    faster = run("faster")
    assert len(made) == 2  # one a stage, for all methods and units
    assert all(isinstance(network, nn.Module) for network in made)
    monkeypatch.setattr(attributor, "prepared_copy", lambda network, *, keep: None)
    assert run("plain") == pytest.approx(faster, abs=1e-3)


def test_an_actor_holds_the_weights_only_for_metrics_that_may_ask() -> None:
    def label(*metrics: str) -> Label:
        config = {
            "schema_version": 2,
            "model_label": "m",
            "method_label": "ssig",
            "fingerprint": "f",
            "model": {"name": "m", "input_size": [8, 8], "score": "logit", "target": "label"},
            "method": {"name": "ssig", "options": {}},
            "metrics": {name: {} for name in metrics},
            "maps": "none",
            "channels": False,
            "categories": [],
        }
        return Label("m", "ssig", config)

    assert may_change_network(label("roc_auc", "mprt"))
    assert not may_change_network(label("roc_auc", "completeness", "insertion"))
