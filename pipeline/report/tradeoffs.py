"""What each method costs against how well it does, by metric, and which methods no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report.columns import Column
from pipeline.report.comparison import Estimate
from pipeline.report.effort import Effort

SECONDS, GRADIENTS = "seconds of attribution per image", "gradient evaluations per image"


@dataclass(frozen=True)
class Tradeoff:
    """Cost and quality of one headline column by which methods can be compared.

    Attributes:
        column: the quality.
        unit: of the costs, `SECONDS` or `GRADIENTS`.
        costs: method -> its cost, more than 0; methods without cost or mean are left out.
        means: of the same methods.
        front: the methods that no cheaper one equals, the cheapest first.
    """

    column: Column
    unit: str
    costs: dict[str, float]
    means: dict[str, Estimate]
    front: tuple[str, ...]


def tradeoffs(
    columns: Sequence[Column], means: Mapping[str, Mapping[str, Estimate]], efforts: Sequence[Effort]
) -> list[Tradeoff]:
    """One for each column of which two methods or more have a mean and a cost."""
    unit, costs = _costs(efforts)
    candidates = [_tradeoff(column, means, unit, costs) for column in columns if column.compared]
    return [tradeoff for tradeoff in candidates if len(tradeoff.costs) > 1]


def _costs(efforts: Sequence[Effort]) -> tuple[str, dict[str, float]]:
    """Seconds where every method has them, else gradients of the methods that take no other evaluations."""
    seconds = {effort.method: effort.seconds.get("attribute", 0.0) for effort in efforts}
    if all(spent > 0 for spent in seconds.values()):
        return SECONDS, seconds
    gradients = {effort.method: effort.gradient_evaluations or 0.0 for effort in efforts if not effort.forwards}
    return GRADIENTS, {method: count for method, count in gradients.items() if count > 0}


def _tradeoff(
    column: Column, means: Mapping[str, Mapping[str, Estimate]], unit: str, costs: Mapping[str, float]
) -> Tradeoff:
    estimates = {method: means[method][column.name] for method in costs}
    estimates = {method: estimate for method, estimate in estimates.items() if estimate.mean is not None}
    front: list[str] = []
    best = -float("inf")
    for method in sorted(estimates, key=lambda name: (costs[name], -_goodness(estimates[name], column))):
        if (goodness := _goodness(estimates[method], column)) > best:
            front.append(method)
            best = goodness
    return Tradeoff(column, unit, {method: costs[method] for method in estimates}, estimates, tuple(front))


def _goodness(estimate: Estimate, column: Column) -> float:
    return column.sign * (estimate.mean or 0.0)
