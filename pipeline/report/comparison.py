"""Methods against each other: means, paired differences to the reference method, and who leads.

All intervals of a model come from one joint bootstrap, so that every difference is taken on the same resampled images.
A leader is *separated* from the runner-up where the interval of their paired difference excludes 0 on the leader's
side. Methods that keep different images can have means in one order and a paired difference of the other sign; then
the means compare images and not methods, and nobody leads.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from pipeline.report.measurements import Column, Measurements
from pipeline.statistics import Intervals, bootstrap, means


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval and the number of images behind it; None where there is no number."""

    mean: float | None
    low: float | None
    high: float | None
    count: int

    @property
    def separated(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Lead:
    """Who has the best mean of a column. `difference` is leader minus runner-up on the images that both have; `behind`
    is reference minus leader, likewise, None where the reference has the best mean."""

    column: Column
    leader: str
    runner_up: str
    difference: Estimate
    behind: Estimate | None
    rank: int | None

    @property
    def tied(self) -> bool:
        return self.difference.mean == 0

    @property
    def contradicted(self) -> bool:
        """Whether the paired difference does not favour the leader: it has the other sign, or no images."""
        return not self.tied and not self._favours(self.difference, 1)

    @property
    def separated(self) -> bool:
        """Whether the interval of the paired difference excludes 0 on the leader's side."""
        return self.difference.separated and self._favours(self.difference, 1)

    @property
    def reference_behind(self) -> bool:
        """Whether the reference is worse than the leader on the images that both have."""
        return self.behind is not None and self._favours(self.behind, -1)

    @property
    def reference_clearly_behind(self) -> bool:
        """Whether the interval of that difference excludes 0 as well."""
        return self.behind is not None and self.reference_behind and self.behind.separated

    @property
    def verdict(self) -> str:
        """``yes``, ``no`` or ``tie``; ``contradicted`` where means and paired difference disagree."""
        return "tie" if self.tied else "contradicted" if self.contradicted else "yes" if self.separated else "no"

    def _favours(self, difference: Estimate, side: int) -> bool:
        return difference.mean is not None and difference.mean * self.column.sign * side > 0


@dataclass(frozen=True)
class Kept:
    """How many images a column's number rests on, for methods that share the same account."""

    metric: str
    column: str
    methods: tuple[str, ...]
    kept: int
    excluded: int
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Comparison:
    """The numbers of one model.

    Attributes:
        methods: labels, the reference first.
        columns: as in `Measurements`.
        means: method -> column name -> estimate.
        differences: method (the reference left out) -> column name -> estimate of method minus reference.
        leads: column name -> who leads, for columns with a direction and two methods or more.
    """

    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    means: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]
    leads: dict[str, Lead]

    def verdict(self, method: str, column: Column) -> str:
        """``better`` or ``worse`` than the reference where the interval says so, else an empty string."""
        estimate = self.differences[method][column.name]
        if not estimate.separated or column.sign == 0 or estimate.mean is None:
            return ""
        return "better" if estimate.mean * column.sign > 0 else "worse"


def compare(found: Measurements, seed: int = 0) -> Comparison:
    """Means, paired differences and leaders of a model, with 95 % intervals."""
    values, columns = found.values, found.columns
    count, size = len(found.methods), len(columns)
    orders = {index: order for index, column in enumerate(columns) if len(order := _order(values, index, column)) > 1}
    against_reference = values[:, 1:] - values[:, :1]
    against_second = [
        values[:, first, index] - values[:, second, index] for index, (first, second, *_) in orders.items()
    ]
    stacked = np.concatenate(
        [
            values.reshape(len(values), count * size),
            against_reference.reshape(len(values), (count - 1) * size),
            np.stack(against_second, axis=1) if against_second else np.empty((len(values), 0), np.float32),
        ],
        axis=1,
    )
    estimates = estimate_columns(bootstrap(stacked, seed=seed))
    names = [column.name for column in columns]
    table = [dict(zip(names, estimates[row * size : (row + 1) * size], strict=True)) for row in range(2 * count - 1)]
    differences = dict(zip(found.methods[1:], table[count:], strict=True))
    seconds = dict(zip(orders, estimates[(2 * count - 1) * size :], strict=True))
    return Comparison(
        methods=found.methods,
        columns=columns,
        means=dict(zip(found.methods, table[:count], strict=True)),
        differences=differences,
        leads={
            columns[index].name: _lead(found.methods, columns[index], order, seconds[index], differences)
            for index, order in orders.items()
        },
    )


def estimate_columns(intervals: Intervals) -> list[Estimate]:
    """One estimate per column."""
    numbers = zip(intervals.mean, intervals.low, intervals.high, intervals.count, strict=True)
    return [Estimate(_number(mean), _number(low), _number(high), int(count)) for mean, low, high, count in numbers]


def accounts(found: Measurements) -> list[Kept]:
    """For each column that holds a number, and for each metric that holds none: images kept, images excluded, and
    every reason with its count."""
    rows: list[Kept] = []
    shown = {*found.further, *(index for index, column in enumerate(found.columns) if column.headline)}
    for index in sorted(shown):
        column = found.columns[index]
        shared: dict[tuple[int, tuple[tuple[str, int], ...]], list[str]] = {}
        for number, method in enumerate(found.methods):
            kept = int(np.isfinite(found.values[:, number, index]).sum())
            reasons = tuple(_reasons(found, method, column.name, kept))
            shared.setdefault((kept, reasons), []).append(method)
        rows += [
            Kept(column.source.title, column.name, tuple(methods), kept, found.expected - kept, reasons)
            for (kept, reasons), methods in shared.items()
        ]
    return rows


def _reasons(found: Measurements, method: str, column: str, kept: int) -> list[tuple[str, int]]:
    statuses = found.statuses[method]
    reasons = Counter({f"sample {status}": count for status, count in statuses.items() if status != "ok"})
    reasons.update(found.excluded.get((method, column), {}))
    reasons["unit not done"] = found.expected - statuses.total()
    reasons["no reason recorded"] = found.expected - kept - reasons.total()
    return sorted((reason, count) for reason, count in reasons.items() if count)


def _order(values: np.ndarray, index: int, column: Column) -> list[int]:
    """Methods that have the column, best mean first; ties in order of the methods. Empty without a direction."""
    if column.sign == 0:
        return []
    mean = means(values[:, :, index])
    known = [method for method in range(values.shape[1]) if np.isfinite(mean[method])]
    return sorted(known, key=lambda method: -column.sign * mean[method])


def _lead(
    methods: tuple[str, ...],
    column: Column,
    order: list[int],
    difference: Estimate,
    differences: dict[str, dict[str, Estimate]],
) -> Lead:
    leader = methods[order[0]]
    behind = None
    if order[0] != 0 and 0 in order:
        ahead = differences[leader][column.name]
        behind = Estimate(_negative(ahead.mean), _negative(ahead.high), _negative(ahead.low), ahead.count)
    rank = order.index(0) + 1 if 0 in order else None
    return Lead(column, leader, methods[order[1]], difference, behind, rank)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
