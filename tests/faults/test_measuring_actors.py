"""Actors that only measure, on a real cluster: killed in the midst, alone, with the driver, and without it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disturbed import Disturbed, drive, small_job, start, work_off
from tests_shards import members, write_tar

pytestmark = [pytest.mark.ray, pytest.mark.slow]

UNITS = 12
# So that the actors for metrics are ready while there are units left.
SLOW = f"after-attribute:sleep:seconds=1:times={4 * UNITS}"
BESIDE = {"actors__metrics": 1, "actors__metrics_cpus": 1}


@pytest.fixture
def beside(tmp_path: Path, ray_cluster: None) -> Iterator[Disturbed]:
    """Twelve units, one actor that makes maps and one that measures, on the tests' cluster."""
    import ray

    folder = tmp_path / "beside"
    folder.mkdir()
    shard = write_tar(folder / "a.tar", members(0, 2 * UNITS))
    process = start(work_off, small_job(shard, folder / "expected"))
    process.join()
    assert process.exitcode == 0
    case = Disturbed(folder, shard, folder / "expected")
    case.environment = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    yield case
    case.close()


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in run.glob("logs/*.jsonl") for line in path.read_text().splitlines()]


def by_actor(run: Path, event: str) -> Counter[str]:
    """How many units each kind of actor has mapped or done."""
    return Counter(line["actor"].partition("-")[0] for line in logged(run) if line["event"] == event)


def assert_shared(run: Path) -> None:
    """Actors that make maps have done some units by halves, and those that measure only what they were given."""
    mapped, done = by_actor(run, "unit mapped"), by_actor(run, "unit done")
    assert set(mapped) == {"actor"}
    assert 0 < done["metrics"] <= mapped["actor"]
    assert done.total() >= UNITS


def test_a_run_with_actors_for_metrics_has_the_rows_of_one_without(beside: Disturbed) -> None:
    assert beside.do(drive, SLOW, **BESIDE) == 0, beside.messages()
    assert_shared(beside.run)
    beside.check("actors for metrics", "none", by_hand=1)


def test_an_actor_that_measures_is_killed_in_the_midst(beside: Disturbed) -> None:
    assert beside.do(drive, f"{SLOW};before-measuring:kill:skip=1", **BESIDE) == 0, beside.messages()
    (lost,) = [line["actor"] for line in logged(beside.run) if line["event"] == "actor lost"]
    assert lost.startswith("metrics")
    assert by_actor(beside.run, "unit failed")["metrics"] > 0
    assert by_actor(beside.run, "unit mapped")["actor"] > 1
    beside.check("SIGKILL of an actor for metrics", "before-measuring")


@pytest.mark.parametrize(("step", "action"), [("after-maps", "kill-driver"), ("before-measuring", "kill-both")])
def test_a_driver_that_is_killed_leaves_maps_that_the_next_command_measures(
    beside: Disturbed, step: str, action: str
) -> None:
    assert beside.do(drive, f"{SLOW};{step}:{action}:skip=1", **BESIDE) == -9, beside.messages()
    maps = {path: path.read_bytes() for path in beside.run.glob("attributions/*/*/*.parquet")}
    assert maps
    assert beside.do(drive, **BESIDE) == 0, beside.messages()
    assert maps.items() <= {path: path.read_bytes() for path in beside.run.glob("attributions/*/*/*.parquet")}.items()
    beside.check({"kill-driver": "SIGKILL of the driver", "kill-both": "SIGKILL of both"}[action], step)


def test_a_run_goes_on_without_the_key(beside: Disturbed) -> None:
    assert beside.do(drive, f"{SLOW};before-measuring:interrupt-driver:skip=1", **BESIDE) == 130, beside.messages()
    assert beside.do(drive) == 0, beside.messages()
    beside.check("SIGINT", "before-measuring")
