"""How far the method ahead is from its nearest rival in each metric, on one scale: the forest plot's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.columns import Column
from pipeline.report.comparison import Lead
from pipeline.report.measurements import Measurements
from pipeline.report.pairs import PairedSums


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
    mean = low = high = None
    beaten: dict[str, float] = {}
    if lead.ahead is not None and lead.rival is not None and lead.difference is not None:
        further = [control for control in controls if control not in (lead.ahead, lead.rival)]
        means, deviations = _compared(measurements, lead.column, lead.ahead, [lead.rival, *further])
        ends = [lead.difference.mean, lead.difference.low, lead.difference.high]
        if deviations[0]:
            mean, low, high = (None if end is None else end * lead.column.sign / deviations[0] for end in ends)
        if low is not None and high is not None:
            low, high = min(low, high), max(low, high)
        numbers = zip(further, means[1:], deviations[1:], strict=True)
        beaten = {control: lead.column.sign * mean / deviation for control, mean, deviation in numbers if deviation}
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


def _compared(
    measurements: Measurements, column: Column, ahead: str, others: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of a method minus each of some others, over the images that both have."""
    index = measurements.columns.index(column)
    first, *second = (measurements.methods.index(method) for method in (ahead, *others))
    sums = PairedSums(np.zeros(len(second), bool))
    for piece in measurements.values.pieces(index, [first, *second]):
        sums.add(piece[:, :1], piece[:, 1:])
    return sums.paired().mean.tolist(), sums.deviations().tolist()
