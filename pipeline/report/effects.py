"""How far the method ahead is from its nearest rival in each metric, on one scale: the forest plot's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.columns import Column
from pipeline.report.comparison import Lead
from pipeline.report.measurements import Measurements

_ROUNDING = 1e-6  # of float32


@dataclass(frozen=True)
class Effect:
    """A paired difference in standard deviations of that difference over images; positive is better.

    Attributes:
        column: a headline column by which methods can be compared.
        ahead, rival: as in `Lead`; None where no method is ahead.
        mean, low, high: `ahead` compared with `rival`, and the 95 % interval of the mean, divided by the standard
            deviation; None where there is none.
        count: images that both have.
        separated: whether `ahead` leads.
        controls: control -> `ahead` compared with it, in standard deviations of their own difference.
    """

    column: Column
    ahead: str | None
    rival: str | None
    mean: float | None
    low: float | None
    high: float | None
    count: int
    separated: bool
    controls: dict[str, float]


def effects(measurements: Measurements, leads: Mapping[str, Lead], controls: Sequence[str]) -> list[Effect]:
    """One effect for each column with a lead, in order."""
    return [_effect(measurements, lead, controls) for lead in leads.values()]


def _effect(measurements: Measurements, lead: Lead, controls: Sequence[str]) -> Effect:
    index = measurements.columns.index(lead.column)

    def numbers(method: str) -> np.ndarray:
        of_method = measurements.values.of_method(measurements.methods.index(method), index)
        return of_method.astype(np.float64) * lead.column.sign

    mean = low = high = None
    beaten: dict[str, float] = {}
    if lead.ahead is not None and lead.rival is not None and lead.difference is not None:
        ahead = numbers(lead.ahead)
        deviation = _deviation(ahead - numbers(lead.rival))
        ends = [lead.difference.mean, lead.difference.low, lead.difference.high]
        if deviation:
            mean, low, high = (None if end is None else end * lead.column.sign / deviation for end in ends)
        if low is not None and high is not None:
            low, high = min(low, high), max(low, high)
        for control in controls:
            difference = ahead - numbers(control)
            deviation = _deviation(difference)
            if deviation and control not in (lead.ahead, lead.rival):
                beaten[control] = float(np.nanmean(difference)) / deviation
    return Effect(
        column=lead.column,
        ahead=lead.ahead,
        rival=lead.rival,
        mean=mean,
        low=low,
        high=high,
        count=lead.difference.count if lead.difference else lead.most,
        separated=lead.leader is not None,
        controls=beaten,
    )


def _deviation(differences: np.ndarray) -> float:
    """The sample standard deviation of the finite numbers; 0 of fewer than two, or where rounding alone differs."""
    finite = differences[np.isfinite(differences)]
    if len(finite) < 2:
        return 0.0
    deviation = float(np.std(finite, ddof=1))
    return deviation if deviation > _ROUNDING * float(np.abs(finite).max()) else 0.0
