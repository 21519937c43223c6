"""The loop of a driver: who gets what, what is recorded, and when it ends. Nothing is computed; there is no Ray."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulated import Recorded, SimulatedExecutor

from pipeline.driver.dispatch import Agenda, Dispatch
from pipeline.driver.executor import Event, Member, RunError
from pipeline.driver.progress import Progress
from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Failure, Order, Work
from pipeline.run.lease import Lease
from pipeline.shards import manifest as manifests
from pipeline.storage import open_storage
from pipeline.unit.messages import Task


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, progress: Progress, message: str | None) -> None:
        if message is not None:
            self.messages.append(message)


class Driver:
    """A driver of a run of units of two samples."""

    def __init__(self, folder: Path, shard: Path, executor: SimulatedExecutor, actors: int) -> None:
        self.storage = open_storage(str(folder))
        manifests.build([str(shard)], 2).save(self.storage)
        self.manifest = manifests.load(self.storage)
        self.works = [Work(unit.id, ("ig", "ssig"), unit.stop - unit.start) for unit in self.manifest.units()]
        self.folder, self.executor, self.told, self.progress = folder, executor, Told(), Progress()
        self.size = Shape(0, 1, 1, actors)
        self.batches: dict[str, tuple[str, ...]] = {}
        self.has_lost_its_lease = False

    def run(self) -> Dispatch:
        agenda = Agenda(self.storage, self.manifest, self.works, batches=self.batches)
        with Lease(self.storage) as lease:
            lease.lost = self.has_lost_its_lease
            loop = Dispatch(agenda, self.executor, self.size, lease, self.told, self.progress)
            loop.run()
        return loop

    @property
    def log(self) -> list[dict[str, Any]]:
        (file,) = self.folder.glob("logs/*.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()]

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        return {path.name: json.loads(path.read_text()) for path in self.folder.glob("quarantine/*.json")}


MakeDriver = Callable[..., Driver]


@pytest.fixture
def driver(make_shard: Callable[..., Path], tmp_path: Path) -> MakeDriver:
    def make(executor: SimulatedExecutor, count: int = 8, actors: int = 2) -> Driver:
        return Driver(tmp_path / "run", make_shard(count=count), executor, actors)

    return make


def failing(units: dict[str, list[Failure]]) -> Callable[[Member, Order, Task], list[Event] | None]:
    """Answers of workers: whole units fail so often and in such ways, and then are done."""

    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        kinds = units.get(task.unit, [])
        return [Event("failed", member, order, None, kinds.pop(0), "why")] if kinds and order.probe is None else None

    return answer


def test_every_unit_is_handed_out_once_and_counted(driver: MakeDriver) -> None:
    executor = SimulatedExecutor()
    one = driver(executor)
    loop = one.run()
    units = [work.unit for work in one.works]
    assert sorted(task.unit for _, task, _ in executor.sent) == units
    assert len({task.attempt for _, task, _ in executor.sent}) == len(units) == loop.orders == loop.schedule.done
    assert loop.ending.to_do == loop.ending.done == 4
    assert {name for name, _, _ in executor.sent} == {"actor-1", "actor-2"}
    assert (one.progress.units_done, one.progress.rows_done, one.progress.failed) == (4, 16, 0)
    assert isinstance(executor.counters, Recorded)
    assert executor.counters.rows == {("ig", "ok"): 8, ("ssig", "ok"): 8}
    assert executor.stopped
    assert [line["event"] for line in one.log].count("unit done") == 4


def test_labels_of_a_batch_are_committed_together_but_in_a_last_attempt(driver: MakeDriver) -> None:
    first, second = "000000-000000-000002", "000000-000002-000004"
    executor = SimulatedExecutor(failing({first: [Failure.STORAGE] * 4}))
    one = driver(executor)
    one.batches = {"together": ("ig", "ssig"), "others": ("ig", "gradient")}
    one.works[1] = Work(second, ("ig",), 2)
    loop = one.run()
    tasks: dict[str, list[tuple[list[tuple[str | None, tuple[str, ...]]], bool]]] = {}
    for _, task, _ in executor.sent:
        tasks.setdefault(task.unit, []).append((task.commits, task.apart))
    together, alone = [("together", ("ig", "ssig"))], [(None, ("ig",)), (None, ("ssig",))]
    assert tasks[first] == [(together, False)] * 3 + [(alone, True)]
    assert tasks[second] == [([(None, ("ig",))], False)]
    assert list(loop.schedule.given_up) == [first]


def test_a_worker_has_at_most_two_units_in_hand_and_none_beside_one_that_is_alone(driver: MakeDriver) -> None:
    first = "000000-000000-000002"
    seen: list[tuple[int, bool]] = []
    inner = failing({first: [Failure.RAISED]})

    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        seen.append((len(member.in_flight), order.alone))
        return inner(member, order, task)

    driver(SimulatedExecutor(answer), count=16, actors=1).run()
    assert max(count for count, _ in seen) == 2
    assert [count for count, alone in seen if alone] == [1]


def test_workers_take_units_by_turns_so_that_all_have_as_many_at_the_end(driver: MakeDriver) -> None:
    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        return None

    executor = SimulatedExecutor(answer)
    start = executor.start

    def on_gpu(measures: bool = False) -> Member:
        member = start(measures)
        member.info = {"gpu": "GPU-1"}
        return member

    executor.start = on_gpu  # type: ignore[method-assign]
    driver(executor, count=24, actors=2).run()
    names = [name for name, _, _ in executor.sent]
    assert names[:6] == ["actor-1", "actor-2"] * 3


def test_a_sample_that_is_found_to_kill_is_recorded(driver: MakeDriver) -> None:
    unit = "000000-000002-000004"

    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        deadly = any(row.index == 3 for row in task.rows) and 3 not in task.poison
        return [Event("failed", member, order, None, Failure.RAISED, "it raised")] if deadly else None

    one = driver(SimulatedExecutor(answer))
    loop = one.run()
    assert loop.ending.done == 4
    (last,) = [task for _, task, order in one.executor.sent if task.poison and order.probe is None]
    assert {index: why.reason for index, why in last.poison.items()} == {3: "it raised"}
    record = one.records[f"poison-{unit}-000003.json"]
    assert (record["kind"], record["key"], record["reason"]) == ("poison", "image0003", "it raised")
    assert any(f"unit {unit} failed: it raised" in message for message in one.told.messages)


def test_a_unit_that_cannot_be_stored_is_given_up_and_the_others_are_done(driver: MakeDriver) -> None:
    unit = "000000-000004-000006"
    one = driver(SimulatedExecutor(failing({unit: [Failure.STORAGE] * 4})))
    loop = one.run()
    assert loop.ending.done == 3
    assert list(loop.ending.given_up) == [unit]
    record = one.records[f"unit-{unit}.json"]
    assert (record["kind"], record["attempts"]) == ("exhausted", 4)
    assert record["reason"].startswith(f"unit {unit}: failed 4 times, last: why")


def test_a_worker_that_is_lost_is_charged_with_what_it_had(
    driver: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.driver.scaling.RESIZE_SECONDS", 0.0)
    lost: list[str] = []

    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        if lost:
            return None
        lost.append(task.unit)
        executor.lose(member)
        return [Event("lost", member, reason="killed"), Event("failed", member, order, None, Failure.DIED, "killed")]

    executor = SimulatedExecutor(answer)
    one = driver(executor, actors=1)
    assert one.run().ending.done == 4
    assert [task.unit for _, task, _ in executor.sent].count(lost[0]) == 2
    assert executor.started == 2
    assert any("actor-1 is lost: killed" in message for message in one.told.messages)


def test_what_a_gpu_failed_is_tried_alone_on_another_after_a_self_check(
    driver: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.driver.scaling.RESIZE_SECONDS", 0.0)
    failed: list[tuple[str | None, str]] = []

    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        if failed:
            return None
        failed.append((member.gpu, task.unit))
        executor.lose(member)
        return [
            Event("lost", member, reason="it failed"),
            Event("failed", member, order, None, Failure.DEVICE, "it failed"),
        ]

    executor = SimulatedExecutor(answer, gpus=2)
    one = driver(executor)
    loop = one.run()
    assert (loop.ending.done, loop.ending.given_up, one.records) == (4, {}, {})
    ((gpu, unit),) = failed
    (again,) = [(name, task, order) for name, task, order in executor.sent if order.alone]
    assert (again[1].unit, again[1].checked) == (unit, True)
    assert f"GPU {int(again[0].removeprefix('actor-')) % 2}" != gpu
    assert sum(task.checked for _, task, _ in executor.sent) == 1


def test_samples_that_break_gpus_are_recorded_once_they_are_sure(driver: MakeDriver) -> None:
    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        deadly = any(row.index == 3 for row in task.rows) and 3 not in task.poison
        return [Event("failed", member, order, None, Failure.DIED, "it died")] if deadly else None

    one = driver(SimulatedExecutor(answer, gpus=2))
    assert one.run().ending.done == 4
    assert [(name, record["key"], record["reason"]) for name, record in one.records.items()] == [
        ("poison-000000-000002-000004-000003.json", "image0003", "it died")
    ]


def test_a_network_that_fails_for_every_sample_ends_the_run(driver: MakeDriver) -> None:
    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        return [Event("failed", member, order, None, Failure.RAISED, "broken")]

    one = driver(SimulatedExecutor(answer))
    with pytest.raises(RunError, match="broken"):
        one.run()
    assert one.executor.stopped
    assert one.log[-1]["event"] == "ended"


def test_workers_that_never_start_end_the_run(driver: MakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.driver.scaling.RESIZE_SECONDS", 0.0)
    with pytest.raises(RunError, match="3 actors in a row failed to start: it does not start"):
        driver(SimulatedExecutor(starts=lambda number: False)).run()


def test_a_path_that_a_worker_does_not_share_is_refused(driver: MakeDriver) -> None:
    executor = SimulatedExecutor()
    executor.shares_files = False
    with pytest.raises(RunError, match=r"output\.path: .* is a local path that elsewhere does not see"):
        driver(executor).run()
    assert executor.sent == []


def test_a_lease_that_is_lost_ends_the_run(driver: MakeDriver) -> None:
    one = driver(SimulatedExecutor())
    one.has_lost_its_lease = True
    with pytest.raises(RunError, match="another driver has taken this run over"):
        one.run()
    assert one.executor.sent == []


def test_a_worker_on_a_node_that_is_about_to_go_finishes_what_it_has_and_costs_nothing(driver: MakeDriver) -> None:
    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        if member.name == "actor-1":
            member.is_leaving = True
        return None

    case = driver(executor := SimulatedExecutor(answer), 8, 1)
    assert case.run().schedule.done == 4
    units = [task.unit for _, task, _ in executor.sent]
    assert len(units) == len(set(units)) == 4
    assert {name for name, _, _ in executor.sent} == {"actor-1", "actor-2"}
    assert [line["actor"] for line in case.log if line["event"] == "actor left"] == ["actor-1"]
    assert not [line for line in case.log if line["event"] == "unit failed"]


def test_a_signal_drains(driver: MakeDriver) -> None:
    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        if len(executor.sent) <= 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return None

    before = signal.getsignal(signal.SIGTERM)
    executor = SimulatedExecutor(answer)
    one = driver(executor, count=16, actors=1)
    loop = one.run()
    assert loop.ending.interrupted
    assert loop.ending.done == len(executor.sent) < 8
    assert any("SIGTERM: finishing the units in flight" in message for message in one.told.messages)
    assert signal.getsignal(signal.SIGTERM) is before
