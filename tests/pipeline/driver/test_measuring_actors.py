"""Actors that only measure, beside those that make maps: who gets what, what fails, and how many fit."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import SimulatedExecutor

from pipeline.checks.audit import audit
from pipeline.driver import dispatch
from pipeline.driver.dispatch import Agenda, Dispatch
from pipeline.driver.executor import Event, Member
from pipeline.driver.local import LocalExecutor
from pipeline.driver.progress import Progress, silent
from pipeline.driver.remaining import units_to_do
from pipeline.driver.reporting import Reporter
from pipeline.driver.resources import Shape, places, shape, spared
from pipeline.driver.scaling import Scaling
from pipeline.driver.schedule import MOST_FAILURES, Failure, Order, Schedule, Work
from pipeline.job.configuration import load_evaluation
from pipeline.job.sections import Actors
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease
from pipeline.shards import manifest as manifests
from pipeline.storage import open_storage
from pipeline.unit.messages import Done, Portion, Task
from pipeline.unit.worker import Worker
from ssig.acceleration.ready_replica import ready_replica
from ssig.errors import UsageError
from ssig.models import load_model

Make = Callable[..., Any]


def work(unit: str = "u", size: int = 4) -> Work:
    return Work(unit, ("ssig",), size)


def given_out(order: Order | None) -> Order:
    assert order is not None
    return order


def test_a_unit_is_done_when_its_maps_are_measured() -> None:
    schedule = Schedule([work()])
    maps = given_out(schedule.next(idle=True, portion=Portion.MAPS))
    assert (maps.portion, schedule.next_mapped()) == (Portion.MAPS, None)
    schedule.succeeded(maps)
    assert (schedule.done, schedule.mapped, schedule.in_flight, schedule.finished) == (0, 1, 0, False)
    metrics = given_out(schedule.next_mapped())
    assert (metrics.portion, metrics.work, schedule.mapped) == (Portion.METRICS, maps.work, 0)
    assert not schedule.finished
    schedule.succeeded(metrics)
    assert (schedule.done, schedule.finished) == (1, True)


def test_an_actor_that_makes_maps_measures_what_is_left_when_no_unit_is_fresh() -> None:
    schedule = Schedule([work("0"), work("1")])
    schedule.succeeded(given_out(schedule.next(idle=True, portion=Portion.MAPS)))
    assert given_out(schedule.next(idle=False)).work.unit == "1"
    last = given_out(schedule.next(idle=False))
    assert (last.work.unit, last.portion) == ("0", Portion.METRICS)


@pytest.mark.parametrize("kind", [Failure.DIED, Failure.RAISED, Failure.TIMEOUT, Failure.STORAGE])
@pytest.mark.parametrize("portion", [Portion.MAPS, Portion.METRICS])
def test_a_unit_whose_portion_fails_is_tried_as_a_whole_and_alone(kind: Failure, portion: Portion) -> None:
    schedule = Schedule([work("ill"), work("sound")])
    order = given_out(schedule.next(idle=True, portion=Portion.MAPS))
    if portion is Portion.METRICS:
        schedule.succeeded(order)
        order = given_out(schedule.next_mapped())
    schedule.failed(order, kind, "why")
    assert schedule.next_mapped() is None
    again = given_out(schedule.next(idle=True, portion=Portion.MAPS))
    assert (again.work.unit, again.portion, again.alone) == ("ill", Portion.ALL, True)
    schedule.succeeded(again)
    schedule.succeeded(given_out(schedule.next(idle=True)))
    assert (schedule.done, schedule.finished, schedule.given_up) == (2, True, {})


def test_a_unit_that_storage_fails_is_given_up_after_as_many_tries_as_without() -> None:
    schedule = Schedule([work("ill")])
    schedule.succeeded(given_out(schedule.next(idle=True, portion=Portion.MAPS)))
    order = schedule.next_mapped()
    tries = 0
    while order is not None:
        tries += 1
        schedule.failed(order, Failure.STORAGE, "full")
        order = schedule.next(idle=True)
    assert (tries, list(schedule.given_up), schedule.finished) == (MOST_FAILURES + 1, ["ill"], True)


def test_what_is_measured_says_nothing_of_a_device_that_makes_maps() -> None:
    schedule = Schedule([work("mapped"), *(work(str(number)) for number in range(3))])
    schedule.succeeded(given_out(schedule.next(True, "GPU 0", portion=Portion.MAPS)), "GPU 0")
    for _ in range(3):
        while schedule.hopeless is None:
            order = given_out(schedule.next(True, "GPU 0", {"GPU 0"}))
            schedule.failed(order, Failure.UNFIT, "sick", "GPU 0")
            if order.work.unit in schedule.given_up:
                break
        if (measured := schedule.next_mapped()) is not None:
            schedule.succeeded(measured)
    assert schedule.hopeless is not None


@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_whatever_fails_no_unit_is_lost_or_in_two_places(seed: int, count: int) -> None:
    chance = random.Random(seed)
    schedule = Schedule(work(str(number), 2) for number in range(count))
    in_flight: list[Order] = []
    done: Counter[str] = Counter()
    for _ in range(10_000):
        if schedule.finished:
            break
        if chance.random() < 0.5 or not in_flight:
            portion = chance.choice((Portion.ALL, Portion.MAPS))
            is_idle = not in_flight
            order = schedule.next_mapped() if chance.random() < 0.5 else schedule.next(is_idle, portion=portion)
            in_flight += [] if order is None else [order]
        else:
            order = in_flight.pop(chance.randrange(len(in_flight)))
            if chance.random() < 0.2:
                schedule.failed(order, chance.choice((Failure.DIED, Failure.RAISED, Failure.STORAGE)), "why")
            else:
                schedule.succeeded(order)
                done[order.work.unit] += order.probe is None and order.portion is not Portion.MAPS
        units = [order.work.unit for order in in_flight]
        assert len(units) == len(set(units)) == schedule.in_flight
    assert schedule.finished
    assert set(done.elements()) | set(schedule.given_up) == {str(number) for number in range(count)}
    assert max(done.values(), default=0) <= 1
    assert not set(done.elements()) & set(schedule.given_up)


class Loop:
    """A driver of a run of units of two samples, with one actor that makes maps and one that measures."""

    def __init__(self, folder: Path, shard: Path, executor: SimulatedExecutor) -> None:
        self.executor = executor
        storage = open_storage(str(folder))
        manifests.build([str(shard)], 2).save(storage)
        manifest = manifests.load(storage)
        works = [Work(unit.id, ("ig", "ssig"), unit.stop - unit.start) for unit in manifest.units()]
        self.progress = Progress()
        with Lease(storage) as lease:
            size = Shape(0, 1, 1, 1, metrics=1)
            self.dispatch = Dispatch(Agenda(storage, manifest, works), executor, size, lease, silent, self.progress)
            self.dispatch.run()

    @property
    def portions(self) -> Counter[tuple[str, Portion]]:
        """How many orders of each portion each actor got."""
        return Counter((name, order.portion) for name, _, order in self.executor.sent)


@pytest.fixture
def loop(make_shard: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loop]:
    monkeypatch.setattr("pipeline.driver.scaling.RESIZE_SECONDS", 0.0)
    return lambda executor: Loop(tmp_path / "run", make_shard(count=16), executor)


def test_one_actor_makes_the_maps_and_the_other_measures(loop: Callable[..., Loop]) -> None:
    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        if task.portion is not Portion.MAPS:
            return None
        done = Done(task.unit, task.attempt, {}, 0.1, spent={"ig": {"attribute": 2.0}})
        return [Event("done", member, order, done)]

    one = loop(SimulatedExecutor(answer))
    assert one.portions == {("actor-1", Portion.MAPS): 8, ("actor-2", Portion.METRICS): 8}
    assert (one.dispatch.ending.done, one.progress.units_done, one.progress.rows_done) == (8, 8, 32)
    assert all(task.spent == {"ig": {"attribute": 2.0}} for name, task, _ in one.executor.sent if name == "actor-2")
    assert one.executor.counters.rows == {("ig", "ok"): 16, ("ssig", "ok"): 16}  # type: ignore[attr-defined]


def test_while_too_many_wait_to_be_measured_units_are_done_as_a_whole(
    loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "MAPPED_AHEAD", 0)
    one = loop(SimulatedExecutor())
    assert one.portions == {("actor-1", Portion.ALL): 8}
    assert one.dispatch.ending.done == 8


def test_a_run_whose_actors_for_metrics_never_start_is_done_by_the_others(loop: Callable[..., Loop]) -> None:
    one = loop(SimulatedExecutor(starts=lambda number: number == 1))
    assert one.portions == {("actor-1", Portion.ALL): 8}
    assert one.dispatch.ending.done == 8
    assert one.executor.started > 4


def test_what_an_actor_for_metrics_took_with_it_is_done_by_the_others(loop: Callable[..., Loop]) -> None:
    def answer(member: Member, order: Order, task: Task) -> list[Event] | None:
        if not member.measures:
            return None
        failed = Event("failed", member, order, None, Failure.DIED, "killed")
        if member not in executor.members:  # it had two orders
            return [failed]
        executor.lose(member)
        return [Event("lost", member, reason="killed"), failed]

    executor = SimulatedExecutor(answer)
    one = loop(executor)
    assert (one.dispatch.ending.done, one.dispatch.ending.given_up) == (8, {})
    alone = [(name, order.portion) for name, _, order in executor.sent if order.alone]
    assert alone
    assert set(alone) == {("actor-1", Portion.ALL)}


def test_actors_for_metrics_are_started_beside_and_do_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = SimulatedExecutor(room=9)
    size = Shape(1, 4, 1, math.inf, metrics=3)
    makers, measuring = (Scaling(executor, size, Progress(), measures) for measures in (False, True))
    makers.resize(5)
    measuring.resize(5)
    assert Counter(member.measures for member in executor.members) == {False: 5, True: 3}
    for _ in range(5):
        measuring.failed_to_start("why")


def test_rows_whose_maps_wait_count_half() -> None:
    progress = Progress()
    reporter = Reporter(lambda progress, message: None, progress, SimulatedExecutor().counters)
    unit = Work("a", ("ig", "ssig"), 3)
    reporter.begin([unit])
    unit.spent = {}
    reporter.mapped(Order(unit, portion=Portion.MAPS), Done("a", "1", {}, 0.1))
    reporter.show(SimulatedExecutor(), 0)
    assert progress.rows_computed == 3
    reporter.done(Order(unit), Done("a", "2", {"ig": {"ok": 3}, "ssig": {"ok": 3}}, 0.1))
    reporter.show(SimulatedExecutor(), 0)
    assert (progress.rows_computed, progress.rows_under_way) == (6, 0)


def test_cores_are_kept_for_actors_for_metrics() -> None:
    gpus, plain = {"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}
    assert spared([gpus, plain], 2, 1) == [gpus, {"CPU": 1.0}]
    assert spared([gpus, plain], 2, 2) == [{"CPU": 6.0, "GPU": 2.0}, {"CPU": 1.0}]
    assert spared([plain], 9, 2) == [{"CPU": 1.0}]
    assert plain == {"CPU": 3.0}
    found = shape(Actors.model_validate({"metrics": 2, "metrics_cpus": 2}), [{"CPU": 16.0, "GPU": 2.0}])
    assert (found.num_gpus, found.num_cpus, found.metrics, found.metrics_cpus) == (1, 6, 2, 2)
    on_cpus = shape(Actors.model_validate({"metrics": 1}), [{"CPU": 4.0}])
    assert places(on_cpus.beside([{"CPU": 4.0}]), 0, on_cpus.num_cpus) == 3


@pytest.mark.parametrize(
    ("wishes", "nodes", "allowed"),
    [
        ({"metrics": 3}, [{"CPU": 2.0}], "at most 2: more do not fit with 1 cores each"),
        ({"metrics": 2}, [{"CPU": 2.0}], "fewer: with 1 cores each"),
        ({"metrics": 1, "metrics_cpus": 4}, [{"CPU": 2.0}], "at most 0"),
    ],
)
def test_actors_for_metrics_that_do_not_fit_are_refused(
    wishes: dict[str, Any], nodes: list[dict[str, float]], allowed: str
) -> None:
    with pytest.raises(UsageError) as caught:
        shape(Actors.model_validate(wishes), nodes)
    assert caught.value.field == "actors.metrics"
    assert allowed in caught.value.allowed
    assert shape(Actors.model_validate({**wishes, "max": 1, "num_gpus": 0}), nodes, grows=True).metrics > 0


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"actors.executor": "local"}, "0 with actors.executor=local (--in-process)"),
        ({"output.maps": "none"}, "0 with output.maps=none"),
        ({"metrics": []}, "0 without metrics"),
        ({"metrics": ["insertion", "mprt"]}, "0 with the metric mprt: it explains images again"),
    ],
)
def test_jobs_in_which_they_have_nothing_to_do_are_refused(
    make_shard: Make, make_job: Make, fields: dict[str, Any], allowed: str
) -> None:
    fields = {name.replace(".", "__"): value for name, value in fields.items()}
    with pytest.raises(UsageError) as caught:
        make_job(make_shard(), actors__metrics=2, **fields)
    assert caught.value.field == "actors.metrics"
    assert allowed in caught.value.allowed
    make_job(make_shard(), **fields)


def test_an_evaluation_has_no_actors_that_make_maps() -> None:
    with pytest.raises(UsageError, match=r"actors\.metrics: .*`ssig evaluate` makes no maps"):
        load_evaluation({"metrics": ["gini"], "actors.metrics": 1})


def test_a_run_of_two_workers_has_the_rows_of_a_run_of_one(
    make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path
) -> None:
    """Real workers, in this process: one makes maps, the other measures."""
    shard = make_shard(count=12)
    expected = work_off(make_job(shard, output__path=str(tmp_path / "whole"), unit_size=2))
    run = work_off(make_job(shard, unit_size=2), limit=0)
    directory = RunDirectory(open_storage(str(run)))
    labels = {label.method: label for label in directory.labels}

    # Made here, one after the other: two threads that draw the weights of `tiny` at once draw other ones.
    replicas = [ready_replica(load_model("networks:tiny"), micro_batch=4) for _ in range(2)]
    works, manifest = units_to_do(directory, directory.labels), directory.manifest
    agenda = Agenda(directory.storage, manifest, works, batches=directory.batches(directory.labels))
    with Lease(directory.storage) as lease:
        executor = LocalExecutor(lambda: Worker(replicas.pop(), labels, str(run), 0))
        loop = Dispatch(agenda, executor, Shape(0, 1, 1, 1, metrics=1), lease, silent, progress := Progress())
        loop.run()
    assert (loop.ending.done, progress.failed) == (6, 0)
    assert audit(str(run)).problems == []
    columns = "method, shard, index, key, status, target, insertion, deletion, roc_auc"
    found, rows = (
        duckdb.sql(f"select {columns} from '{one}/metrics/**/*.parquet' order by method, index").fetchall()
        for one in (run, expected)
    )
    assert [row[:6] for row in found] == [row[:6] for row in rows]
    for one, other in zip(found, rows, strict=True):
        assert one[6:] == pytest.approx(other[6:], abs=1e-3)
