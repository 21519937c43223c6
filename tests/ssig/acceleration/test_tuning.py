"""On devices whose costs are known, `tune` finds the cheapest size of the best rate, in bounded time and memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssig.acceleration.tuning import CALLS, Setting, TuningCache, TuningKey, tune
from ssig.errors import UsageError


class Device:
    """A device with its own clock, on which `size` points take `cost(size)` seconds."""

    def __init__(self, cost: Callable[[int], float], memory: int = 10**9, start: float = 0.0) -> None:
        self.cost = cost
        self.memory = memory
        self.start = start
        self.now = 0.0
        self.calls: Counter[int] = Counter()

    def evaluate(self, size: int) -> None:
        if size > self.memory:
            raise torch.OutOfMemoryError("more points than fit")
        self.now += self.cost(size) + (0 if self.calls else self.start)
        self.calls[size] += 1

    def timer(self) -> float:
        return self.now


def launch_bound(size: int) -> float:
    """As on a GPU: a call costs the same up to 32 points, and then so much a point."""
    return 0.01 * max(1, size / 32)


def peaked(size: int) -> float:
    """As on a CPU: points share costs up to 4, and then spill out of the caches."""
    return 0.1 + 0.02 * size + 0.02 * max(0, size - 4) ** 1.5


def cliff(size: int) -> float:
    """As a transformer in bfloat16 on some CPUs."""
    return 0.2 if size == 1 else 5.0 * size


def linear(size: int) -> float:
    return 0.03 * size


@pytest.mark.parametrize(
    ("cost", "best"),
    [
        (lambda size: 0.01 + 1e-6 * size, 256),
        (launch_bound, 32),
        (peaked, 4),
        (cliff, 1),
        (linear, 1),
        # Slower once, and then faster than before.
        (lambda size: {1: 0.1, 2: 0.4}.get(size, 0.05 * size), 4),
        # A gain of 2 % is none, and one of 4 % is.
        (lambda size: 0.1 * size if size < 4 else 0.1 * size / 1.02, 1),
        (lambda size: 0.1 * size if size < 4 else 0.1 * size / 1.04, 4),
    ],
)
def test_the_cheapest_of_the_best_sizes_is_found(cost: Callable[[int], float], best: int) -> None:
    device = Device(cost)
    tuned = tune(device.evaluate, timer=device.timer, seconds=60.0)
    assert tuned.micro_batch == best
    assert tuned.out_of_memory is None
    for size, rate in tuned.rates.items():
        assert rate == pytest.approx(size / cost(size))


def test_it_stops_two_doublings_past_the_best() -> None:
    device = Device(linear)
    assert list(tune(device.evaluate, timer=device.timer).rates) == [1, 2, 4]


def test_what_is_done_once_is_not_counted() -> None:
    device = Device(peaked, start=100.0)
    tuned = tune(device.evaluate, timer=device.timer, seconds=10.0)
    assert tuned.micro_batch == 4
    assert tuned.rates[1] == pytest.approx(1 / peaked(1))


def test_a_slow_first_call_of_each_size_does_not_count() -> None:
    device = Device(peaked)
    device.cost = lambda size: peaked(size) * (1 if device.calls[size] else 3)
    assert tune(device.evaluate, timer=device.timer, seconds=100.0).micro_batch == 4


@pytest.mark.parametrize("memory", [1, 2, 3, 4, 16, 17])
def test_the_largest_size_that_fits_is_kept_to(memory: int) -> None:
    device = Device(launch_bound, memory=memory)
    tuned = tune(device.evaluate, timer=device.timer)
    assert tuned.micro_batch == 1 << (memory.bit_length() - 1)
    assert tuned.out_of_memory == 2 * tuned.micro_batch


def test_sizes_that_would_not_fit_are_not_tried() -> None:
    device = Device(launch_bound)
    tuned = tune(device.evaluate, timer=device.timer, fits=lambda size: size <= 8)
    assert tuned.micro_batch == max(device.calls) == 8
    assert tuned.out_of_memory is None


def test_one_point_that_does_not_fit_is_an_error() -> None:
    device = Device(launch_bound, memory=0)
    with pytest.raises(torch.OutOfMemoryError):
        tune(device.evaluate, timer=device.timer)


def test_slow_calls_are_not_repeated() -> None:
    device = Device(cliff)
    tune(device.evaluate, timer=device.timer, seconds=10.0)
    assert device.calls == {1: 1 + CALLS, 2: 1}


def test_a_slow_network_is_tuned_for_as_long_as_it_takes() -> None:
    """The time is that of `points` points, where that is more than `seconds`."""
    slow = Device(lambda size: 10.0 * peaked(size) / peaked(1))
    assert tune(slow.evaluate, timer=slow.timer, seconds=6.0).micro_batch == 1
    slow = Device(lambda size: 10.0 * peaked(size) / peaked(1))
    assert tune(slow.evaluate, timer=slow.timer, seconds=6.0, points=100).micro_batch == 4


@pytest.mark.parametrize(("first", "largest", "tried"), [(1, 1, [1]), (4, 20, [4, 8, 16]), (3, 12, [3, 6, 12])])
def test_first_and_largest_bound_the_sizes(first: int, largest: int, tried: list[int]) -> None:
    device = Device(lambda size: 0.1)
    assert list(tune(device.evaluate, timer=device.timer, first=first, largest=largest).rates) == tried


@pytest.mark.parametrize(("first", "largest"), [(0, 8), (16, 8)])
def test_sizes_that_make_no_sense_are_refused(first: int, largest: int) -> None:
    with pytest.raises(UsageError, match="first"):
        tune(lambda size: None, first=first, largest=largest)


COSTS = st.lists(st.floats(1e-3, 1e2), min_size=9, max_size=9)


@given(COSTS, st.floats(0.1, 100.0), st.integers(1, 256))
def test_time_is_bounded(costs: list[float], seconds: float, memory: int) -> None:
    """What is spent beyond `seconds` is one call more than there was time for, and two that come in any case."""
    device = Device(lambda size: costs[size.bit_length() - 1], memory=memory)
    tuned = tune(device.evaluate, timer=device.timer, seconds=seconds)
    assert device.now <= 2 * costs[0] + seconds + max(costs[size.bit_length() - 1] for size in tuned.rates)
    assert tuned.micro_batch in tuned.rates
    assert max(tuned.rates) <= memory
    assert tuned.rates[tuned.micro_batch] >= 0.97 * max(tuned.rates.values())


def test_the_cache_survives_json() -> None:
    cache = TuningCache()
    key = TuningKey("timm:resnet50", "cpu, 2 threads", "fp32", (224, 256))
    other = TuningKey("timm:resnet50", "cpu, 1 thread", "fp32", (224, 256))
    assert cache.get(key) is None
    cache.put(key, Setting(4, lanes=2))
    cache.put(other, Setting(2))
    loaded = TuningCache.load(json.loads(json.dumps(cache.dump())))
    assert (loaded.get(key), loaded.get(other)) == (Setting(4, lanes=2), Setting(2))
    assert loaded.dump() == cache.dump()
