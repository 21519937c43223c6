"""The scheduler's benchmark: every unit is done once by the real dispatch loop, and the simulated actors are light."""

from __future__ import annotations

import pytest

from jobs.bench.scheduler import dispatch, measure
from jobs.bench.simulated import SimulatedActor
from pipeline.shards.samples import ManifestRow, Status
from pipeline.unit.messages import Done, Task


def test_a_simulated_actor_answers_as_a_real_one() -> None:
    rows = tuple(ManifestRow("u", "a.tar", index, str(index), None, Status.OK, None, ()) for index in range(3))
    actor = SimulatedActor(seconds=1e-4)
    done = actor.process(Task("u", "a.tar", rows, ("ig", "ssig"), "first"))
    assert done == Done("u", "first", {"ig": {"ok": 3}, "ssig": {"ok": 3}}, pytest.approx(3e-4))
    assert actor.under_way() == 0.0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("samples", "units"), [(5, 1), (200, 13)])
def test_every_unit_is_handed_out_once(samples: int, units: int) -> None:
    found = dispatch(actors=2, samples=samples, seconds=1e-4, unit_size=16)
    assert (found["units"], found["units_done"], found["orders"]) == (units, units, units)
    assert found["actors_with_torch"] == 0
    assert found["best_seconds"] == pytest.approx(-(-units // 2) * min(16, samples) * 1e-4)
    assert found["overhead"] == found["makespan_seconds"] / found["best_seconds"] - 1


@pytest.mark.ray
@pytest.mark.slow
def test_both_sizes_are_measured_in_processes_of_their_own() -> None:
    found = measure(actors=1, samples=40, seconds=1e-4, unit_size=4)
    assert [run["samples"] for run in found["runs"]] == [4, 40]
    assert [run["units_done"] for run in found["runs"]] == [1, 10]
    assert found["overhead"] == found["runs"][1]["overhead"]
