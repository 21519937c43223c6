"""GPUs that fail: simulated runs in which nothing but poison is quarantined, and what a schedule makes of failures."""

from __future__ import annotations

import pytest
from sick_devices import Card, Fleet, some_poison, units

from pipeline.driver.schedule import MOST_SUSPICIONS, MOST_UNFIT, Failure, Order, Schedule, Work

GPUS = frozenset({"A", "B"})
SICK = {
    "none is sick": {},
    "one process is sick": {3: Card(200, only_this_process=True)},
    "one card is sick and passes its checks": {3: Card(200)},
    "one card is sick and passes every second check": {3: Card(200, passes=0.5)},
    "one card is sick and passes no check": {3: Card(200, passes=0)},
    "two cards are sick": {3: Card(200), 5: Card(400)},
}


def worked_off(
    cards: dict[int, Card], *, count: int, seed: int, share: float = 2e-4, actors: int = 8, told_apart: bool = True
) -> tuple[Schedule, set[tuple[str, int]], set[tuple[str, int]]]:
    """The schedule of a simulated run, the samples that are poison, and those that it holds for poison."""
    works = units(count, 64)
    poison = some_poison(works, share, seed)
    schedule = Schedule(works)
    Fleet(schedule, poison, cards, actors=actors, told_apart=told_apart, seed=seed).work_off()
    deadly = {(unit, position) for unit, positions in poison.items() for position in positions}
    return schedule, deadly, {(work.unit, position) for work in works for position in work.poison}


@pytest.mark.parametrize("cards", SICK.values(), ids=SICK.keys())
@pytest.mark.parametrize("seed", range(3))
def test_nothing_but_poison_is_quarantined(cards: dict[int, Card], seed: int) -> None:
    schedule, deadly, found = worked_off(cards, count=400, seed=seed)
    assert len(deadly) > 0
    assert found == deadly
    assert (schedule.done, schedule.given_up, schedule.hopeless) == (400, {}, None)


@pytest.mark.slow
@pytest.mark.parametrize("cards", SICK.values(), ids=SICK.keys())
def test_nothing_but_poison_is_quarantined_in_thousands_of_units(cards: dict[int, Card]) -> None:
    for seed in range(20):
        schedule, deadly, found = worked_off(cards, count=5000, seed=seed, share=1e-4)
        assert found == deadly
        assert (schedule.done, schedule.given_up) == (5000, {})


def test_the_simulation_loses_samples_where_errors_of_a_device_are_not_told_apart() -> None:
    _, deadly, found = worked_off(SICK["one process is sick"], count=400, seed=0, told_apart=False)
    assert len(found - deadly) > 100


@pytest.mark.parametrize("actors", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_where_every_card_is_sick_the_run_ends_and_quarantines_nothing(actors: int, seed: int) -> None:
    cards = {number: Card(500) for number in range(actors)}
    schedule, deadly, found = worked_off(cards, count=400, seed=seed, actors=actors)
    assert found <= deadly
    assert schedule.hopeless is not None
    assert "nvidia-smi" in schedule.hopeless
    assert len(schedule.given_up) == MOST_SUSPICIONS


def handed_out(schedule: Schedule, device: str, devices: frozenset[str] = GPUS) -> Order:
    order = schedule.next(True, device, devices)
    assert order is not None
    return order


def test_a_unit_that_failed_goes_alone_to_another_device() -> None:
    schedule = Schedule(units(1, 4))
    schedule.failed(handed_out(schedule, "A"), Failure.DEVICE, "illegal access", "A")
    assert schedule.next(True, "A", GPUS) is None
    again = handed_out(schedule, "B")
    assert again.alone
    schedule.succeeded(again, "B")
    assert (schedule.done, schedule.finished, again.work.poison) == (1, True, {})


def test_where_there_is_no_other_device_it_goes_to_the_same() -> None:
    schedule = Schedule(units(1, 4))
    schedule.failed(handed_out(schedule, "A"), Failure.DIED, "gone", "A")
    assert handed_out(schedule, "A", frozenset({"A"})).alone


def test_an_order_whose_self_check_fails_counts_against_nobody() -> None:
    schedule = Schedule(units(1, 4))
    schedule.failed(handed_out(schedule, "A"), Failure.DEVICE, "illegal access", "A")
    again = handed_out(schedule, "B")
    failures = again.work.failures
    schedule.failed(again, Failure.UNFIT, "computes wrongly", "B")
    assert handed_out(schedule, "A") is again
    assert (again.work.failures, again.work.suspects) == (failures, None)


def test_a_unit_that_no_device_is_fit_for_is_given_up() -> None:
    schedule = Schedule([*units(1, 4), Work("later", ("ssig",), 4)])
    order = handed_out(schedule, "A")
    schedule.failed(order, Failure.DEVICE, "illegal access", "A")
    for number in range(MOST_UNFIT + 1):
        device = "BA"[number % 2]
        schedule.failed(handed_out(schedule, device), Failure.UNFIT, "computes wrongly", device)
    assert schedule.given_up == {"u0": f"no device was fit for it {MOST_UNFIT + 1} times, last: computes wrongly"}
    assert handed_out(schedule, "A").work.unit == "later"


def deadly_order(schedule: Schedule, poison: set[int], kind: Failure, devices: str) -> Work:
    """Works the only unit of a schedule off on healthy devices, in turn; some of its samples fail."""
    work = None
    turn = 0
    while not schedule.finished and not schedule.hopeless:
        turn += 1
        device = devices[turn % len(devices)]
        order = schedule.next(True, device, frozenset(devices))
        if order is None:
            continue
        work = order.work
        touched = set(order.probe) if order.probe is not None else set(range(work.size)) - set(work.poison)
        if touched & poison:
            schedule.failed(order, kind, "boom", device)
        else:
            schedule.succeeded(order, device)
    assert work is not None
    return work


@pytest.mark.parametrize("devices", ["A", "AB", "ABC"])
@pytest.mark.parametrize("poison", [{0}, {63}, {61, 62, 63}, {0, 31, 32}, set(range(40, 64))])
@pytest.mark.parametrize("kind", [Failure.DEVICE, Failure.DIED, Failure.TIMEOUT, Failure.RAISED])
def test_samples_that_break_healthy_devices_are_found(devices: str, poison: set[int], kind: Failure) -> None:
    schedule = Schedule(units(1, 64))
    work = deadly_order(schedule, poison, kind, devices)
    assert set(work.poison) == poison
    assert (schedule.done, schedule.given_up) == (1, {})


@pytest.mark.parametrize("size", [1, 2, 64])
def test_a_unit_of_which_a_device_does_nothing_is_given_up(size: int) -> None:
    schedule = Schedule(units(1, size), {"ssig"})
    work = deadly_order(schedule, set(range(size)), Failure.DEVICE, "A")
    assert work.poison == {}
    assert "none of them could be done" in schedule.given_up["u0"]
