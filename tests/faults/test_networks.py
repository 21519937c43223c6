"""Networks that fail on one image, or for ever: that image alone is a row that says so, and the rest is done."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from disturbed import Disturbed, drive, keys_of, small_job, start, work_off
from tests_shards import members, write_tar

from pipeline.checks.audit import audit

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

WHITE = 5
WHITE_KEY = f"image{WHITE:04d}"


@pytest.fixture
def poisoned(disturbed: Disturbed, tmp_path: Path) -> Disturbed:
    """Eight samples, of which one is white."""
    import ray

    disturbed.environment = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    disturbed.shard = write_tar(tmp_path / "a.tar", members(0, 8, white=WHITE))
    return disturbed


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the same network makes of the same samples where none of them troubles it."""
    folder = tmp_path_factory.mktemp("healthy")
    shard = write_tar(folder / "a.tar", members(0, 8, white=WHITE))
    process = start(work_off, small_job(shard, folder / "run", methods=["gradient"]))
    process.join()
    assert process.exitcode == 0
    return folder / "run"


def outcomes(run: Path) -> dict[str, tuple[str, str | None]]:
    """Status and error of each sample."""
    rows = duckdb.sql(f"select key, status, error from '{run}/metrics/**/*.parquet'").fetchall()
    return {key: (status, error) for key, status, error in rows}


def numbers(run: Path, but: str) -> list[tuple[Any, ...]]:
    """The metrics of all samples but one."""
    rows = duckdb.sql(f"select key, probability, insertion, roc_auc from '{run}/metrics/**/*.parquet' order by key")
    return [row for row in rows.fetchall() if row[0] != but]


@pytest.mark.parametrize(
    ("network", "status", "says"),
    [
        ("raises_on_white", "quarantined", "too bright"),
        ("exhausts_memory_on_white", "quarantined", "memory"),
        ("dies_on_white", "quarantined", "died"),
        ("segfaults_on_white", "quarantined", "died"),
        ("gives_nan_on_white", "nonfinite", "not finite"),
        ("hangs_on_white", "timeout", "unit_timeout"),
    ],
)
def test_one_image_fails_and_no_other(
    poisoned: Disturbed, healthy: Path, network: str, status: str, says: str
) -> None:
    code = poisoned.do(drive, model__name=f"networks:{network}", methods=["gradient"], actors__unit_timeout=6)
    assert code == 3, poisoned.messages()
    found = outcomes(poisoned.run)
    assert Counter(state for state, _ in found.values()) == {"ok": 7, status: 1}
    state, error = found[WHITE_KEY]
    assert state == status
    assert says in (error or "")
    assert audit(str(poisoned.run)).problems == []
    poisoned.count(f"a network: {network}", "computing", keys_of(healthy), times=1)
    for mine, theirs in zip(numbers(poisoned.run, WHITE_KEY), numbers(healthy, WHITE_KEY), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-3)


ON_GPUS = {"actors__num_gpus": 1, "actors__device": "cpu"}


@pytest.mark.parametrize("network", ["dies_on_white", "breaks_the_device_on_white"])
def test_on_gpus_one_image_fails_and_no_other(poisoned: Disturbed, healthy: Path, network: str) -> None:
    job = {"model__name": f"networks:{network}", "methods": ["gradient"], **ON_GPUS}
    assert poisoned.do(drive, **job) == 3, poisoned.messages()
    found = outcomes(poisoned.run)
    assert [key for key, (status, _) in found.items() if status != "ok"] == [WHITE_KEY]
    assert found[WHITE_KEY][0] == "quarantined"
    assert audit(str(poisoned.run)).problems == []


@pytest.mark.parametrize("actors", [1, 2])
def test_a_gpu_that_fails_for_good_in_one_process_costs_no_image(disturbed: Disturbed, actors: int) -> None:
    import ray

    disturbed.environment = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    job = {"model__name": "networks:fails_once_sick", "model__label": "networks:tiny", **ON_GPUS}
    given = "after-read:sicken:about=000000-000002-000004"
    code = disturbed.do(drive, given, **{**job, "actors__max": actors})
    assert code == 0, disturbed.messages()
    assert "GPU " in disturbed.messages()
    assert "failed: AcceleratorError: CUDA error: an illegal memory access" in disturbed.messages()
    assert not list(disturbed.run.glob("quarantine/*"))
    disturbed.check("a GPU fails for good in one process", "after-read", injected=1)


def test_a_gpu_that_computes_wrongly_is_refused(disturbed: Disturbed) -> None:
    import ray

    disturbed.environment = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    with_gpu = disturbed.do(drive, model__name="networks:computes_wrongly_in_actors", **ON_GPUS)
    assert with_gpu == 1, disturbed.messages()
    assert "3 actors in a row failed to start: " in disturbed.messages()
    assert "computes wrongly: 50% of difference from the CPU in the logits" in disturbed.messages()
    assert not list(disturbed.run.glob("attributions"))


def test_an_actor_that_stands_still_is_killed(disturbed: Disturbed) -> None:
    import ray

    disturbed.environment = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    code = disturbed.do(drive, "after-read:stop:seconds=0:skip=1", actors__unit_timeout=6)
    assert code == 0, disturbed.messages()
    disturbed.check("SIGSTOP of an actor, for good", "after-read", injected=1)


@pytest.mark.parametrize("network", ["raises_on_white", "gives_nan_on_white"])
def test_a_poison_image_among_the_references_fails_no_unit(poisoned: Disturbed, network: str) -> None:
    methods = [{"name": "expected-gradients", "samples": 2, "pool": 8, "label": "gradient"}]
    code = poisoned.do(drive, model__name=f"networks:{network}", methods=methods)
    assert code == 3, poisoned.messages()
    found = outcomes(poisoned.run)
    assert [key for key, (status, _) in found.items() if status != "ok"] == [WHITE_KEY]
    kinds = {json.loads(path.read_text())["kind"] for path in poisoned.run.glob("quarantine/*.json")}
    assert "reference" in kinds
    assert audit(str(poisoned.run)).problems == []


def test_a_deadly_image_among_the_references_stops_the_run_and_says_why(poisoned: Disturbed) -> None:
    """What is not promised: no worker can draw it and live."""
    methods = [{"name": "expected-gradients", "samples": 2, "pool": 8}]
    assert poisoned.do(drive, model__name="networks:dies_on_white", methods=methods) == 1
    assert "every sample of unit" in poisoned.messages()
    assert not audit(str(poisoned.run)).ok
