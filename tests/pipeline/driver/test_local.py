"""Units done in one process: the executor alone, with workers that compute nothing, and whole runs without Ray."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests_shards import members

from pipeline.checks.audit import audit
from pipeline.driver.added_metrics import add_metrics
from pipeline.driver.attribute import attribute
from pipeline.driver.executor import Event, RunError
from pipeline.driver.local import LocalExecutor
from pipeline.driver.resources import local_shape
from pipeline.driver.schedule import Failure, Order, Work
from pipeline.job.configuration import EvaluationJob
from pipeline.job.sections import Actors
from pipeline.unit.messages import Done, Task
from ssig.errors import UsageError

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]


class Computing:
    """A worker whose units do what their names say."""

    device = SimpleNamespace(replica=SimpleNamespace(device="cpu", micro_batch=4))
    under_way = 1.5

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun: list[str] = []
        self.is_closed = self.is_stopped = False

    def process(self, task: Task) -> Done:
        self.begun.append(task.unit)
        if task.unit == "waits":
            self.go_on.wait(60)
        if task.unit == "disk":
            raise OSError("no space")
        if task.unit == "network":
            raise ValueError("no such layer")
        return Done(task.unit, task.attempt, {"ig": {"ok": 1}}, 0.1)

    def probe(self, task: Task) -> None:
        self.begun.append(f"probe of {task.unit}")

    def stop(self) -> None:
        self.is_stopped = True
        self.go_on.set()

    def close(self) -> None:
        self.is_closed = True


def order_of(unit: str, probe: range | None = None) -> Order:
    return Order(Work(unit, ("ig",), 1), probe=probe)


def task_of(unit: str) -> Task:
    return Task(unit, "", (), ("ig",), "a")


def heard(executor: LocalExecutor, count: int) -> list[Event]:
    """The next events."""
    events: list[Event] = []
    deadline = time.monotonic() + 60
    while len(events) < count:
        assert time.monotonic() < deadline
        events += executor.wait(0.2)
    return events


@pytest.fixture
def ready() -> Iterator[tuple[LocalExecutor, Computing]]:
    worker = Computing()
    executor = LocalExecutor(lambda: worker)  # type: ignore[arg-type,return-value]
    executor.start()
    assert [event.kind for event in heard(executor, 1)] == ["ready"]
    yield executor, worker
    executor.stop()


def test_orders_come_back_with_what_became_of_them(ready: tuple[LocalExecutor, Computing]) -> None:
    executor, worker = ready
    (member,) = executor.members
    assert member.room == 2
    for unit in ("fine", "disk", "network"):
        executor.send(member, order_of(unit), task_of(unit))
    executor.send(member, order_of("fine", probe=range(1)), task_of("fine"))
    found = {(event.order.work.unit, event.order.probe): event for event in heard(executor, 4) if event.order}
    assert found["fine", None].done == Done("fine", "a", {"ig": {"ok": 1}}, 0.1)
    assert (found["disk", None].failure, found["disk", None].reason) == (Failure.STORAGE, "OSError: no space")
    assert found["network", None].failure is Failure.RAISED
    assert found["fine", range(1)].done is None
    assert "probe of fine" in worker.begun
    assert member.in_flight == {}
    assert executor.under_way() == 1.5


def test_two_units_are_in_hand_at_once(ready: tuple[LocalExecutor, Computing]) -> None:
    executor, worker = ready
    (member,) = executor.members
    executor.send(member, order_of("waits"), task_of("waits"))
    executor.send(member, order_of("fine"), task_of("fine"))
    assert member.room == 0
    (event,) = heard(executor, 1)
    assert event.done is not None
    assert event.done.unit == "fine"
    worker.go_on.set()
    assert [event.kind for event in heard(executor, 1)] == ["done"]


def test_a_worker_that_takes_too_long_is_given_up_and_its_late_answer_is_nobodys(
    ready: tuple[LocalExecutor, Computing],
) -> None:
    executor, worker = ready
    (member,) = executor.members
    executor.send(member, order_of("waits"), task_of("waits"))
    assert executor.end_overdue(60) == []
    time.sleep(0.01)
    lost, failed = executor.end_overdue(0.001)
    assert (lost.kind, failed.failure) == ("lost", Failure.TIMEOUT)
    assert "actors.unit_timeout" in failed.reason
    assert worker.is_stopped
    assert executor.wait(0.5) == []
    assert list(executor.members) == []


def test_a_worker_that_cannot_be_made_is_lost() -> None:
    def fail() -> Any:
        raise ModuleNotFoundError("no module named mine")

    executor = LocalExecutor(fail)
    executor.start()
    (event,) = heard(executor, 1)
    assert (event.kind, event.reason) == ("lost", "ModuleNotFoundError: no module named mine")
    assert list(executor.members) == []


def test_the_end_takes_the_threads_along() -> None:
    worker = Computing()
    executor = LocalExecutor(lambda: worker)  # type: ignore[arg-type,return-value]
    member = executor.start()
    heard(executor, 1)
    executor.send(member, order_of("waits"), task_of("waits"))
    executor.stop()
    assert worker.is_closed
    assert not any(thread.is_alive() for thread in member.threads)


def actors(**given: Any) -> Actors:
    return Actors.model_validate({"executor": "local", **given})


def test_one_process_has_one_worker() -> None:
    alone = local_shape(actors(max=8), on_gpu=False, threads=3)
    assert (alone.num_gpus, alone.num_cpus, alone.most, alone.wait) == (0, 3, 1, None)
    assert local_shape(actors(num_cpus=2), on_gpu=True, threads=3).num_gpus == 1
    assert local_shape(actors(num_gpus=0, num_cpus=2), on_gpu=True, threads=3).num_gpus == 0
    with pytest.raises(UsageError, match=r"actors\.min.*actors\.executor=ray for more"):
        local_shape(actors(min=2), on_gpu=True, threads=3)
    assert local_shape(actors(num_gpus=1), on_gpu=False, threads=3).num_gpus == 1  # asked for, and not used


def test_a_run_without_ray_resumes_and_takes_metrics(make_shard: Make, make_job: Make) -> None:
    shard = make_shard(count=6)
    threads = torch.get_num_threads()
    first = attribute(make_job(shard, actors__executor="local"))
    assert (first.exit_code, first.units_done) == (0, 2)
    assert first.statuses == {"ssig": {"ok": 6}, "ig": {"ok": 6}}
    methods = [{"name": "ssig", "samples": 4}, {"name": "ig", "steps": 4}, "gradient"]
    added = attribute(make_job(shard, methods=methods, actors__executor="local"))
    assert added.statuses == {"ssig": {"ok": 6}, "ig": {"ok": 6}, "gradient": {"ok": 6}}
    given = {"metrics": ["gini"], "name": "later", "actors": {"executor": "local", "micro_batch": 4}}
    assert add_metrics(first.run, EvaluationJob.model_validate(given)).exit_code == 0
    assert audit(first.run).problems == []
    assert torch.get_num_threads() == threads


def test_faults_in_data_are_rows(make_shard: Make, make_job: Make) -> None:
    shard = make_shard(files=members(0, 4, white=1))
    network = "networks:gives_nan_on_white"
    found = attribute(make_job(shard, model__name=network, methods=["gradient"], actors__executor="local"))
    assert (found.exit_code, found.statuses) == (3, {"gradient": {"ok": 3, "nonfinite": 1}})


def test_an_error_of_the_device_ends_the_run_which_can_be_resumed_elsewhere(make_shard: Make, make_job: Make) -> None:
    """Nothing can be computed on it in the same process, and no image is to blame for that."""
    given = {"model__name": "networks:breaks_the_device_on_white", "methods": ["gradient"], "metrics": []}
    job = make_job(make_shard(files=members(0, 8, white=5)), actors__executor="local", **given)
    with pytest.raises(RunError, match=r"failed: AcceleratorError: CUDA error: device-side assert.*--in-process"):
        attribute(job)
    found = audit(job.output.path)
    assert found.statuses["networks:breaks_the_device_on_white / gradient"].keys() <= {"ok"}
    assert not list(Path(job.output.path).glob("quarantine/*"))


def test_a_network_that_fails_everywhere_ends_the_run(make_shard: Make, make_job: Make) -> None:
    network = "networks:raises_on_photographs"
    with pytest.raises(RunError, match="this network is broken"):
        attribute(make_job(make_shard(count=8), model__name=network, actors__executor="local"))


@pytest.mark.slow
def test_ray_is_not_even_imported(make_shard: Make, tmp_path: Path) -> None:
    shard = make_shard(count=2)
    program = f"""
import sys
from pipeline.driver.attribute import attribute
from pipeline.job.configuration import load_job
fields = {{"dataset.shards": [{str(shard)!r}], "model.name": "networks:tiny", "methods": ["gradient"]}}
fields |= {{"output.path": {str(tmp_path / "alone")!r}, "actors.executor": "local", "actors.micro_batch": 2}}
assert attribute(load_job(None, fields)).exit_code == 0
print("ray" in sys.modules)
"""
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "False", done.stderr
