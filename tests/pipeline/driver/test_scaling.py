"""How many actors are started, and when a run is given up for want of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from simulated import SimulatedExecutor

from pipeline.driver import scaling
from pipeline.driver.executor import RunError
from pipeline.driver.progress import Progress
from pipeline.driver.resources import Shape
from pipeline.driver.scaling import Scaling


def scaled(executor: SimulatedExecutor, most: float = 4, wait: float | None = None) -> Scaling:
    return Scaling(executor, Shape(0, 1, 1, most, wait), Progress())


@pytest.mark.parametrize(("most", "room", "left", "started"), [(4, 9, 9, 4), (4, 1, 2, 2), (math.inf, 3, 9, 3)])
def test_as_many_as_the_work_the_job_and_the_cluster_allow(most: float, room: int, left: int, started: int) -> None:
    executor = SimulatedExecutor(room=room)
    scaled(executor, most).resize(left)
    assert len(executor.members) == started


def test_a_cluster_without_a_place_is_asked_for_one_all_the_same() -> None:
    executor = SimulatedExecutor(room=0)
    scaled(executor, math.inf).resize(9)
    assert len(executor.members) == 1  # an actor that waits for a place is what makes an autoscaler add a node


def test_a_lost_actor_is_replaced_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(scaling.time, "monotonic", lambda: now)
    executor = SimulatedExecutor()
    pool = scaled(executor, 2)
    pool.resize(9)
    executor.lose(executor.members[0])
    pool.resize(9)
    assert len(executor.members) == 1
    now += scaling.RESIZE_SECONDS
    pool.resize(9)
    assert len(executor.members) == 2


def test_after_failed_starts_it_is_tried_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(scaling.time, "monotonic", lambda: now)
    executor = SimulatedExecutor()
    pool = scaled(executor, 2)
    pool.resize(1)
    pool.failed_to_start("why")
    now += scaling.RESIZE_SECONDS
    pool.resize(9)
    assert len(executor.members) == 1
    pool.started()
    pool.resize(9)
    assert len(executor.members) == 2


def test_starts_that_fail_one_after_the_other_end_the_run_only_where_none_works() -> None:
    executor = SimulatedExecutor()
    pool = scaled(executor)
    pool.failed_to_start("why")
    pool.failed_to_start("why")
    with pytest.raises(RunError, match="3 actors in a row failed to start: why"):
        pool.failed_to_start("why")
    executor.start().info = {}
    pool.failed_to_start("why")
    pool.started()


def test_a_place_is_waited_for_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(scaling.time, "monotonic", lambda: now)
    executor: Any = SimulatedExecutor(room=0)
    progress = Progress()
    pool = Scaling(executor, Shape(1, 2, 1, 4, 60), progress)
    pool.await_place()
    assert progress.phase.startswith("waiting for a node with 2 CPUs and 1 GPU")
    now += 59
    pool.await_place()
    executor.room = 1
    pool.await_place()
    assert progress.phase == "starting actors"
    executor.room = 0
    pool.await_place()
    now += 61
    with pytest.raises(RunError, match=r"waited 60 s \(actors.wait\) for a node with 2 CPUs and 1 GPU"):
        pool.await_place()


def test_a_gpu_that_is_lost_over_and_over_is_tried_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(scaling.time, "monotonic", lambda: now)
    executor = SimulatedExecutor()
    pool = scaled(executor, 2)
    pool.resize(9)
    for _ in range(3):
        pool.lost("GPU 0")
    executor.lose(executor.members[0])
    now += 2 * scaling.RESIZE_SECONDS
    pool.resize(9)
    assert len(executor.members) == 1
    pool.proved("GPU 0")
    pool.resize(9)
    assert len(executor.members) == 2


def test_an_actor_whose_node_is_about_to_go_is_replaced_at_once_and_gets_nothing_more() -> None:
    executor = SimulatedExecutor()
    pool = scaled(executor, 1)
    pool.resize(9)
    (first,) = executor.members
    executor.wait(0)
    assert first.room > 0
    first.is_leaving = True
    assert first.room == 0
    pool.resize(9)
    assert len(executor.members) == 2
    assert [event.member for event in executor.release()] == [first]
