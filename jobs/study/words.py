"""Numbers, lists and counts as words of a sentence or a cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from jobs.study.inference import Estimate
from pipeline.report.numbers import NONE, number, signed


def shown(estimate: Estimate | None, sign: bool = False) -> str:
    """A number with its interval."""
    if estimate is None or not np.isfinite(estimate.mean):
        return NONE
    text = signed(estimate.mean) if sign else number(estimate.mean)
    if not np.isfinite(estimate.low):
        return text
    return f"{text} [{number(estimate.low)}, {number(estimate.high)}]"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def are(count: int) -> str:
    """The verb of so many things."""
    return "is" if count == 1 else "are"


def span(counts: Iterable[int]) -> str:
    """How many images, or networks, some numbers are of."""
    least, most = min(found := list(counts)), max(found)
    return str(most) if least == most else f"{least} to {most}"
