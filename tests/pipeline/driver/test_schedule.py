"""The state machine of units: retries alone, bisection to the poison, nothing handed out twice, nothing forgotten."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.driver.schedule import MOST_FAILURES, Failure, Order, Schedule, Work, time_limit
from pipeline.shards.samples import Status


def work(size: int = 8, unit: str = "u") -> Work:
    return Work(unit, ("ssig",), size)


def play(schedule: Schedule, poison: dict[str, set[int]], kind: Failure = Failure.DIED) -> list[Order]:
    """Runs a schedule on one actor whose calls fail exactly when they touch a poison position."""
    seen = []
    while not schedule.finished:
        order = schedule.next(idle=True)
        if order is None or schedule.hopeless:
            break
        seen.append(order)
        touched = set(order.probe) if order.probe is not None else set(range(order.work.size)) - set(order.work.poison)
        if touched & poison.get(order.work.unit, set()):
            schedule.failed(order, kind, "boom")
        else:
            schedule.succeeded(order)
    return seen


def test_sound_units_are_handed_out_once() -> None:
    schedule = Schedule(work(unit=str(i)) for i in range(5))
    seen = play(schedule, {})
    assert [order.work.unit for order in seen] == list("01234")
    assert schedule.done == 5
    assert schedule.finished


@given(size=st.integers(1, 40), data=st.data())
def test_bisection_finds_exactly_the_poison(size: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, size - 1), max_size=4))
    schedule = Schedule([work(3, "sound"), work(size, "ill")])
    seen = play(schedule, {"ill": bad})
    ill = next(order.work for order in seen if order.work.unit == "ill")
    assert set(ill.poison) == bad
    assert schedule.done == 2
    assert schedule.finished
    assert len(seen) <= 3 + 2 * len(bad) * (size.bit_length() + 1) + len(bad)


def test_the_second_try_and_every_probe_go_alone() -> None:
    schedule = Schedule([work(4)])
    first = schedule.next(idle=False)
    assert first is not None
    assert not first.alone
    schedule.failed(first, Failure.RAISED, "boom")
    assert schedule.next(idle=False) is None
    second = schedule.next(idle=True)
    assert second is not None
    assert second.alone
    schedule.failed(second, Failure.RAISED, "boom")
    probe = schedule.next(idle=True)
    assert probe is not None
    assert probe.alone
    assert probe.probe is not None


def test_a_unit_that_fails_now_and_then_is_not_bisected_for_ever() -> None:
    schedule = Schedule([work(4)])
    while order := schedule.next(idle=True):
        if order.probe is None:
            schedule.failed(order, Failure.DIED, "flaky")
        else:
            schedule.succeeded(order)
    assert schedule.given_up == {"u": f"failed {MOST_FAILURES + 1} times, last: flaky"}


def test_a_machine_that_is_lost_during_each_probe_quarantines_nobody() -> None:
    """Every probe fails once and succeeds when it is repeated."""
    schedule = Schedule([work(1, "sound"), work(4, "unlucky")])
    seen: set[range] = set()
    while order := schedule.next(idle=True):
        whole = order.probe is None and order.work.unit == "unlucky" and not order.work.was_bisected
        if whole or (order.probe is not None and order.probe not in seen):
            seen.add(order.probe or range(0))
            schedule.failed(order, Failure.DIED, "the node is gone")
        else:
            schedule.succeeded(order)
    assert (schedule.done, schedule.given_up) == (2, {})
    assert {range(0, 1), range(1, 2), range(2, 3), range(3, 4)} < seen


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Failure.TIMEOUT, Status.TIMEOUT),
        (Failure.DIED, Status.QUARANTINED),
        (Failure.RAISED, Status.QUARANTINED),
    ],
)
def test_poison_has_the_status_of_what_it_does(kind: Failure, status: Status) -> None:
    schedule = Schedule([work(2, "sound"), work(4, "ill")])
    seen = play(schedule, {"ill": {1}}, kind)
    (poison,) = seen[-1].work.poison.values()
    assert (poison.status, poison.reason) == (status, "boom")


@pytest.mark.parametrize(
    ("setting", "taken", "limit"),
    [
        ("auto", [], math.inf),
        ("auto", [1.0, 2.0, 300.0], 600),
        ("auto", [60.0, 50.0, 900.0], 1200),
        (None, [1.0], math.inf),
        (7.5, [], 7.5),
    ],
)
def test_an_order_may_take_as_long_as_units_are_known_to_take(setting: Any, taken: list[float], limit: float) -> None:
    assert time_limit(setting, taken) == limit


def test_storage_failures_quarantine_nobody() -> None:
    schedule = Schedule([work(4)])
    tries = 0
    while order := schedule.next(idle=True):
        assert order.probe is None
        schedule.failed(order, Failure.STORAGE, "disk full")
        tries += 1
    assert tries == MOST_FAILURES + 1
    assert "disk full" in schedule.given_up["u"]


def test_a_network_that_always_fails_stops_the_run() -> None:
    schedule = Schedule(work(4, str(i)) for i in range(50))
    seen = play(schedule, {str(i): set(range(4)) for i in range(50)})
    assert schedule.hopeless is not None
    assert "boom" in schedule.hopeless
    assert len(seen) < 20


def test_all_poison_in_one_unit_is_quarantined_once_others_were_done() -> None:
    schedule = Schedule([work(2, "sound"), work(2, "ill")])
    play(schedule, {"ill": {0, 1}})
    assert schedule.hopeless is None
    assert schedule.done == 2


def test_all_poison_in_the_only_unit_left_is_quarantined_if_its_labels_were_done_before() -> None:
    proven, new = (Schedule([Work("last", ("ssig", "ig"), 2)], labels) for labels in ({"ssig", "ig"}, {"ssig"}))
    for schedule in (proven, new):
        play(schedule, {"last": {0, 1}})
    assert (proven.hopeless, proven.done, proven.finished) == (None, 1, True)
    assert new.hopeless is not None


def test_nothing_is_left_once_the_last_unit_is_given_up() -> None:
    schedule = Schedule([work(unit="0"), work(unit="1")])
    first, last = schedule.next(idle=True), schedule.next(idle=True)
    assert first is not None
    assert not schedule.finished
    schedule.succeeded(first)
    while last is not None and "1" not in schedule.given_up:
        assert not schedule.finished
        schedule.failed(last, Failure.STORAGE, "disk full")
        last = last if schedule.given_up else schedule.next(idle=True)
    assert schedule.finished  # though nobody has asked for more


@pytest.mark.parametrize("size", [1, 2, 7])
def test_every_probe_is_a_proper_part(size: int) -> None:
    seen = play(Schedule([work(1, "sound"), work(size)]), {"u": {0}})
    probes = [order.probe for order in seen if order.probe is not None]
    assert all(len(probe) < size or size == 1 for probe in probes)
