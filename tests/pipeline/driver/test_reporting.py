"""How far a run is, for a person and for machines."""

from __future__ import annotations

import pytest
from simulated import Recorded, SimulatedExecutor

from pipeline.driver import reporting
from pipeline.driver.progress import Progress
from pipeline.driver.reporting import Reporter
from pipeline.driver.schedule import Order, Work
from pipeline.unit.messages import Done


def test_rows_units_and_failures_are_counted() -> None:
    progress, counters = Progress(), Recorded()
    reporter = Reporter(lambda progress, message: None, progress, counters)
    works = [Work("a", ("ig", "ssig"), 3), Work("b", ("ig",), 2)]
    reporter.begin(works)
    assert (progress.units_total, progress.rows_total) == (2, 8)
    reporter.done(Order(works[0]), Done("a", "1", {"ig": {"ok": 2, "timeout": 1}, "ssig": {"ok": 3}}, 0.1))
    assert (progress.units_done, progress.rows_done, progress.failed) == (1, 6, 1)
    assert counters.rows == {("ig", "ok"): 2, ("ig", "timeout"): 1, ("ssig", "ok"): 3}
    reporter.failed("died")
    assert counters.failures == {"died": 1}


def test_what_each_actor_does_is_shown() -> None:
    progress, counters, told = Progress(), Recorded(), []
    reporter = Reporter(lambda progress, message: told.append(message), progress, counters)
    executor = SimulatedExecutor()
    executor.start()
    executor.start().info = {}
    reporter.show(executor, 3)
    assert progress.actors == {"actor-1": "starting", "actor-2": "0 in flight"}
    assert [(state.actors, state.in_flight) for state in counters.states] == [(1, 3)]
    reporter.tell("something")
    assert told == [None, "something"]


def test_maps_that_are_computed_do_not_vanish_before_their_unit_is_done() -> None:
    progress = Progress()
    reporter = Reporter(lambda progress, message: None, progress, Recorded())
    works = [Work("a", ("ig", "ssig"), 3), Work("b", ("ig",), 2)]
    reporter.begin(works)
    executor = SimulatedExecutor()
    executor.maps_under_way = 6.0
    reporter.show(executor, 1)
    executor.maps_under_way = 0.0  # the unit is committed, and the driver has not heard of it
    reporter.show(executor, 1)
    assert progress.rows_computed == 6
    reporter.done(Order(works[0]), Done("a", "1", {"ig": {"ok": 3}, "ssig": {"ok": 3}}, 0.1))
    reporter.show(executor, 0)
    assert progress.rows_computed == 6


def test_maps_of_a_unit_that_failed_are_counted_no_longer() -> None:
    progress = Progress()
    reporter = Reporter(lambda progress, message: None, progress, Recorded())
    reporter.begin([Work("a", ("ig", "ssig"), 3)])
    executor = SimulatedExecutor()
    executor.maps_under_way = 4.0
    reporter.show(executor, 1)
    executor.maps_under_way = 0.0
    reporter.failed("died")
    reporter.show(executor, 1)
    assert progress.rows_computed == 0


def test_actors_are_asked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now)
    counters = Recorded()
    reporter = Reporter(lambda progress, message: None, Progress(), counters)
    for _ in range(3):
        reporter.show_now_and_then(SimulatedExecutor(), 0)
    assert len(counters.states) == 1
    now += reporting.SHOW_SECONDS + 0.1
    reporter.show_now_and_then(SimulatedExecutor(), 0)
    assert len(counters.states) == 2


def test_time_runs_from_the_first_actor_that_is_ready() -> None:
    progress = Progress()
    reporter = Reporter(lambda progress, message: None, progress, Recorded())
    reporter.ready()
    started = progress.started
    assert (progress.phase, started is None) == ("attributing", False)
    reporter.ready()
    assert progress.started == started
