"""Timing side by side: all functions in turn, in rounds, so that a slow machine slows all of them.

    ratio of a round = seconds of the peer / seconds of ssig, in that round

The ratio of two times taken minutes apart would depend on the state of the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import torch

from pipeline.run import revisions

Name = TypeVar("Name", bound=Hashable)
Timer = Callable[[], float]


def alternate(
    functions: Mapping[Name, Callable[[], object]], rounds: int, timer: Timer = time.perf_counter
) -> dict[Name, list[float]]:
    """Seconds of each function in each round; every second round is reversed, so that none is always first.

    Args:
        functions: what is timed, by name.
        rounds: how often each is called.
        timer: gives seconds from any fixed moment.
    """
    samples: dict[Name, list[float]] = {name: [] for name in functions}
    for number in range(rounds):
        for name in list(functions)[:: -1 if number % 2 else 1]:
            started = timer()
            functions[name]()
            samples[name].append(timer() - started)
    return samples


def ratios(numerator: Iterable[float], denominator: Iterable[float]) -> list[float]:
    """The ratio of each round."""
    return [above / below for above, below in zip(numerator, denominator, strict=True)]


def summary(values: Iterable[float]) -> dict[str, float]:
    """Least, median and greatest of the rounds."""
    values = list(values)
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def machine() -> dict[str, Any]:
    """The machine of a measurement: processor, cores, system, threads and version of torch."""
    return {**revisions.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
