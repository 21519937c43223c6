"""The micro-batch with the most points a second, found by trying sizes n, 2n, 4n, ...

    rate(n) = n / seconds of a call with n points;   the smallest n whose rate is within 3 % of the best

The sizes that come near the best one are timed again in turn. The smallest of equally fast sizes is used, because a
larger one takes more memory and is less often full. Some sizes are many times slower than their neighbours, so the
time of tuning is bounded, and a slow call is not repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from ssig.errors import UsageError

LOG = logging.getLogger(__name__)

# Rates from this share of the best one count as equally good.
AS_GOOD = 0.97
# Rates from this share of the best one are measured again.
MAY_BE_BEST = 0.8
# Sizes up to so many times the best one are tried.
REACH = 4
CALLS, ROUNDS = 4, 15
# The share of the remaining seconds for the calls of one size.
SHARE = 0.25


@dataclass(frozen=True)
class Setting:
    """How a replica evaluates points: `micro_batch` at once, in `lanes` lanes (`ssig.engine.lanes`)."""

    micro_batch: int
    lanes: int = 1


@dataclass(frozen=True)
class Tuned:
    """The result of `tune`.

    Attributes:
        micro_batch: the size to use.
        rates: points a second of each size that was tried.
        out_of_memory: the size that did not fit, or None.
    """

    micro_batch: int
    rates: Mapping[int, float]
    out_of_memory: int | None = None

    @property
    def rate(self) -> float:
        """Points a second at the size to use."""
        return self.rates[self.micro_batch]


def tune(
    evaluate: Callable[[int], None],
    *,
    timer: Callable[[], float] = time.perf_counter,
    seconds: float = 10.0,
    points: int = 0,
    largest: int = 256,
    first: int = 1,
    fits: Callable[[int], bool] = lambda size: True,
) -> Tuned:
    """Doubles the size until two doublings gain nothing, or the memory or the time is used up.

    The first call, which includes one-time work, is not timed. No call is interrupted, so the last call may exceed the
    time.

    Args:
        evaluate: evaluates so many points, and waits until the device has finished.
        timer: a clock, in seconds.
        seconds: time to spend.
        points: spend at least the time of so many points at the first size, for slow networks.
        largest: the largest size to try.
        first: the first size to try.
        fits: whether a size fits, for devices that do not raise `torch.OutOfMemoryError`.

    Raises:
        UsageError: `first` is below 1 or above `largest`.
        torch.OutOfMemoryError: the first size does not fit.
    """
    if not 1 <= first <= largest:
        raise UsageError("first", first, f"1 to {largest}")
    evaluate(first)
    start = timer()
    rates = {first: _rate(evaluate, first, timer, seconds * SHARE)}
    end = start + max(seconds, points / rates[first])
    size = 2 * first
    out_of_memory = None
    while size <= min(largest, REACH * _best(rates)) and fits(size):
        left = end - timer()
        if size / rates[size // 2] > left:
            break
        try:
            rates[size] = _rate(evaluate, size, timer, left * SHARE)
        except torch.OutOfMemoryError:
            out_of_memory = size
            break
        except Exception as error:  # a network may limit its batch
            LOG.warning("no more than %d points at once: %s", size // 2, error)
            break
        size *= 2
    _compare(evaluate, rates, timer, end)
    return Tuned(_best(rates), rates, out_of_memory)


def _rate(evaluate: Callable[[int], None], size: int, timer: Callable[[], float], seconds: float) -> float:
    """Points a second in the fastest of a few calls: as many calls as probably fit `seconds`, at least one."""
    start = before = timer()
    fastest = float("inf")
    for _ in range(CALLS):
        evaluate(size)
        now = timer()
        fastest = min(fastest, now - before)
        before = now
        if now - start + fastest > seconds:
            break
    return size / fastest


def _compare(evaluate: Callable[[int], None], rates: dict[int, float], timer: Callable[[], float], end: float) -> None:
    """Times the sizes that may be the best again, in turn, so that drifts of the device's speed affect all alike.

    Their rates become medians, because the best of a few calls is random on a machine with other work.
    """
    contenders = [size for size, rate in rates.items() if rate >= MAY_BE_BEST * max(rates.values())]
    if len(contenders) < 2:
        return
    measured: dict[int, list[float]] = {size: [] for size in contenders}
    for _ in range(ROUNDS):
        if timer() + sum(size / rates[size] for size in contenders) > end:
            break
        for size in contenders:
            start = timer()
            evaluate(size)
            measured[size].append(size / max(timer() - start, 1e-9))
    rates.update({size: median(size_rates) for size, size_rates in measured.items() if size_rates})


def _best(rates: Mapping[int, float]) -> int:
    """The smallest size whose rate counts as the best."""
    return min(size for size, rate in rates.items() if rate >= AS_GOOD * max(rates.values()))


@dataclass(frozen=True)
class TuningKey:
    """The facts that the best micro-batch depends on.

    Attributes:
        network: name of the network, and how it was optimised.
        device: kind of the device, with its memory and share or its number of threads.
        precision: one of `ssig.models.model.PRECISIONS`.
        input_size: (H, W).
    """

    network: str
    device: str
    precision: str
    input_size: tuple[int, int]


class TuningCache:
    """Settings that were found before, in memory; `dump` and `load` convert them for storage."""

    def __init__(self) -> None:
        self._settings: dict[TuningKey, Setting] = {}

    def get(self, key: TuningKey) -> Setting | None:
        return self._settings.get(key)

    def put(self, key: TuningKey, setting: Setting) -> None:
        self._settings[key] = setting

    def add(self, others: TuningCache) -> None:
        """Takes over all settings of another cache."""
        self._settings.update(others._settings)

    def find(self, key: TuningKey, device: str | None, measure: Callable[[], Setting]) -> Setting:
        """The setting of a key; measured if it is not known.

        Args:
            key: its circumstances.
            device: name of the physical device that no two processes measure on at once; None if they may.
            measure: finds the setting.
        """
        setting = self.get(key)
        if setting is not None:
            return setting
        with self.alone(device):
            setting = self.get(key)  # the process that had the device may have found it
            if setting is None:
                setting = measure()
                self.put(key, setting)
        return setting

    def alone(self, device: str | None) -> AbstractContextManager[None]:
        """The right to measure on a device, for the body; a cache in memory has no other processes."""
        return nullcontext()

    def dump(self) -> list[dict[str, Any]]:
        """A JSON-compatible record for each setting."""
        return [
            {**asdict(key), "input_size": list(key.input_size), **asdict(setting)}
            for key, setting in self._settings.items()
        ]

    @classmethod
    def load(cls, records: Iterable[Mapping[str, Any]]) -> TuningCache:
        """The cache from the records of `dump`."""
        cache = cls()
        for record in records:
            height, width = record["input_size"]
            key = TuningKey(record["network"], record["device"], record["precision"], (height, width))
            cache.put(key, Setting(record["micro_batch"], record["lanes"]))
        return cache
