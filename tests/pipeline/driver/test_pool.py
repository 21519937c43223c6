"""Actors that end or never begin, seen by a real pool and its driver's loop; what computes is simulated."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.bench.simulated import SimulatedActor
from pipeline.driver.actor import AttributionActor, remote_class
from pipeline.driver.dispatch import Agenda, Dispatch
from pipeline.driver.executor import Event
from pipeline.driver.pool import Pool
from pipeline.driver.progress import Progress, silent
from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Failure, Order, Work
from pipeline.run.lease import Lease
from pipeline.shards import manifest as manifests
from pipeline.storage import open_storage
from pipeline.unit.messages import DeviceFailedError, Done, NoCudaError, Task
from pipeline.unit.setup import WorkerSetup

Make = Callable[..., Any]
# What no worker can be made from.
NOTHING = WorkerSetup(None, {}, "run", 0)  # type: ignore[arg-type]

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def heard(pool: Pool, seconds: float = 60) -> list[Event]:
    """The next events of a pool."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if events := pool.wait(0.5):
            return events
        pool.under_way()
    raise AssertionError("nothing was heard")


def test_an_idle_actor_that_dies_is_lost_at_once() -> None:
    remote = remote_class(SimulatedActor, num_cpus=0, num_gpus=0)
    pool = Pool(lambda: remote.remote(0.001))
    first, second = pool.start(), pool.start()
    while first.info is None or second.info is None:
        assert {event.kind for event in heard(pool)} == {"ready"}
    os.kill(first.info["pid"], signal.SIGKILL)
    (event,) = heard(pool)
    assert (event.kind, event.member) == ("lost", first)
    assert pool.members == [second]
    pool.stop()


class Sick(SimulatedActor):
    """Its device fails with the first unit."""

    def process(self, task: Task) -> Done:
        raise DeviceFailedError(f"GPU 0 of here failed: {task.unit}")

    def probe(self, task: Task) -> None:
        raise DeviceFailedError("GPU 0 of here computes wrongly", begun=False)


def given(unit: str, probe: range | None = None) -> tuple[Order, Task]:
    return Order(Work(unit, ("ig",), 1), probe=probe), Task(unit, "", (), ("ig",), "a")


def test_an_actor_whose_device_failed_is_lost_with_all_that_it_had() -> None:
    remote = remote_class(Sick, num_cpus=0, num_gpus=0)
    pool = Pool(lambda: remote.remote(0.001))
    first, second = pool.start(), pool.start()
    while first.info is None or second.info is None:
        heard(pool)
    pool.send(first, *given("one"))
    pool.send(first, *given("other"))
    pool.send(second, *given("alone", probe=range(1)))
    found = []
    while pool.members:
        found += heard(pool)
    assert {event.member.name for event in found if event.kind == "lost"} == {first.name, second.name}
    failures = {event.order.work.unit: event.failure for event in found if event.order is not None}
    assert failures == {"one": Failure.DEVICE, "other": Failure.DEVICE, "alone": Failure.UNFIT}
    assert all("GPU 0 of here" in event.reason for event in found)


class WithoutCuda(SimulatedActor):
    def ready(self) -> dict[str, Any]:
        raise NoCudaError("actors.device", "auto", "cpu")


@pytest.mark.slow
def test_a_node_without_cuda_ends_the_command_only_where_no_other_is_ready() -> None:
    able, unable = (remote_class(kind, num_cpus=0, num_gpus=0) for kind in (SimulatedActor, WithoutCuda))
    kinds = [unable, able, unable]
    pool = Pool(lambda: kinds.pop(0).remote(0.001))
    pool.start()
    with pytest.raises(NoCudaError):
        heard(pool)
    pool.stop()
    ready = pool.start()
    assert [event.kind for event in heard(pool)] == ["ready"]
    pool.start()
    (event,) = heard(pool)
    assert (event.kind, pool.members) == ("lost", [ready])
    assert "actors.device" in event.reason
    pool.stop()


@pytest.mark.slow
def test_actors_that_cannot_start_end_nothing_while_others_work(
    make_shard: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.driver.scaling.RESIZE_SECONDS", 0.05)
    storage = open_storage(str(tmp_path / "run"))
    manifests.build([str(make_shard(count=50))], 1).save(storage)
    manifest = manifests.load(storage)
    works = [Work(unit.id, ("sleep",), 1) for unit in manifest.units()]
    able, unable = (remote_class(kind, num_cpus=0, num_gpus=0) for kind in (SimulatedActor, AttributionActor))
    starts: list[int] = []

    def create() -> Any:
        starts.append(1)
        return able.remote(0.5) if len(starts) == 1 else unable.remote(NOTHING)

    with Lease(storage) as lease:
        loop = Dispatch(Agenda(storage, manifest, works), Pool(create), Shape(0, 0, 2, 2), lease, silent, Progress())
        loop.run()
    assert loop.schedule.done == 50
    assert len(starts) > 4
