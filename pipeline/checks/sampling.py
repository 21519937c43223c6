"""A random sample of a run's units, and what it says of all of them.

The bound is the one-sided one of Clopper and Pearson: with k damaged units among n, the largest share p for which so
few would be found with probability 5 %. For k = 0 it is 1 - 0.05^(1/n), about 3/n.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.checks.findings import SampleBound

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """How many units are to be examined, and the seed of their choice."""

    size: int
    seed: int = 0

    def chosen(self, units: Sequence[str]) -> list[str]:
        """Some of the units, in their order; all of them if they are no more than `size`."""
        positions = random.Random(self.seed).sample(range(len(units)), min(self.size, len(units)))
        return [units[position] for position in sorted(positions)]

    def bound(self, damaged: int, examined: int, of: int) -> SampleBound:
        """What follows from `damaged` of `examined` units; `of`: how many are committed."""
        bound = damaged / max(1, examined) if examined == of else upper_bound(damaged, examined)
        return SampleBound(examined, of, damaged, self.seed, bound)


def upper_bound(count: int, units: int) -> float:
    """The largest share that is compatible with `count` of `units`, at a confidence of 95 %."""
    if count >= units:
        return 1.0
    from scipy.stats import beta  # takes a second

    return float(beta.ppf(CONFIDENCE, count + 1, units - count))
