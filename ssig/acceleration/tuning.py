"""The micro-batch of most points a second, found by trying sizes n, 2n, 4n, ... in each way of evaluating it.

    rate(n) = n / seconds of a call with n points;   the smallest n whose rate is within 3 % of the best

The sizes that come near the best one are timed again in turn. A larger size that gains nothing costs memory and leaves
more micro-batches that are not full. Some sizes are many times slower than their neighbours, so the time to spend is
bounded, and a slow call is not repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from ssig.errors import UsageError

LOG = logging.getLogger(__name__)

# Rates this close to the best one are as good.
AS_GOOD = 0.97
# The first look at a rate may be this far off.
MAY_BE_BEST = 0.8
# The best size is tried against sizes up to this many times as large.
REACH = 4
CALLS, ROUNDS = 4, 15
# Of the seconds that are left, what the calls of one size may take.
SHARE = 0.25


@dataclass(frozen=True)
class Setting:
    """How a replica evaluates points: `micro_batch` of them at once, in so many lanes (`ssig.engine.lanes`)."""

    micro_batch: int
    lanes: int = 1


@dataclass(frozen=True)
class Tuned:
    """What `tune` found.

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

    The very first call, which also pays for what is done once, is not timed. No call is cut short, so the last one
    may take longer than there was time for.

    Args:
        evaluate: evaluates that many points, and waits until the device is done.
        timer: a clock, in seconds.
        seconds: to spend.
        points: to spend at least the time of so many points of the first size: a slow network is tuned for longer.
        largest: no size beyond it is tried.
        first: the size to begin with.
        fits: whether a size may be tried, where the device would not raise `torch.OutOfMemoryError`.

    Raises:
        UsageError: `first` is below 1 or above `largest`.
        torch.OutOfMemoryError: not even the first size fits.
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
        except Exception as error:  # a network may have a largest batch
            LOG.warning("no more than %d points at once: %s", size // 2, error)
            break
        size *= 2
    _compare(evaluate, rates, timer, end)
    if out_of_memory is not None:  # once the error, and with it what it kept alive, is gone
        torch.cuda.empty_cache()
    return Tuned(_best(rates), rates, out_of_memory)


def _rate(evaluate: Callable[[int], None], size: int, timer: Callable[[], float], seconds: float) -> float:
    """Points a second in the fastest of a few calls, as many as probably fit `seconds`, but one at least."""
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
    """Times the sizes that may be the best again, in turn, so that a device whose speed drifts is fair to all.

    Their rates become medians: the best of a few calls is a matter of luck on a machine with other work.
    """
    contenders = [size for size, rate in rates.items() if rate >= MAY_BE_BEST * max(rates.values())]
    if len(contenders) < 2:
        return
    found: dict[int, list[float]] = {size: [] for size in contenders}
    for _ in range(ROUNDS):
        if timer() + sum(size / rates[size] for size in contenders) > end:
            break
        for size in contenders:
            start = timer()
            evaluate(size)
            found[size].append(size / max(timer() - start, 1e-9))
    rates.update({size: median(several) for size, several in found.items() if several})


def _best(rates: Mapping[int, float]) -> int:
    """The smallest size that is as good as the best."""
    return min(size for size, rate in rates.items() if rate >= AS_GOOD * max(rates.values()))


@dataclass(frozen=True)
class TuningKey:
    """All that the best micro-batch depends on.

    Attributes:
        network: its name, and how it was optimised.
        device: its kind, and for a CPU the number of threads.
        precision: one of `ssig.models.model.PRECISIONS`.
        input_size: (H, W).
    """

    network: str
    device: str
    precision: str
    input_size: tuple[int, int]


class TuningCache:
    """Settings that were found before, in memory; `dump` and `load` are for who stores them."""

    def __init__(self) -> None:
        self._settings: dict[TuningKey, Setting] = {}

    def get(self, key: TuningKey) -> Setting | None:
        return self._settings.get(key)

    def put(self, key: TuningKey, setting: Setting) -> None:
        self._settings[key] = setting

    def dump(self) -> list[dict[str, Any]]:
        """A record for each size, of what JSON can hold."""
        return [
            {**asdict(key), "input_size": list(key.input_size), **asdict(setting)}
            for key, setting in self._settings.items()
        ]

    @classmethod
    def load(cls, records: Iterable[Mapping[str, Any]]) -> TuningCache:
        """The cache of which `dump` made the records."""
        cache = cls()
        for record in records:
            height, width = record["input_size"]
            key = TuningKey(record["network"], record["device"], record["precision"], (height, width))
            cache.put(key, Setting(record["micro_batch"], record["lanes"]))
        return cache
