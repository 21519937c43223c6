"""Builds the result of a metric: a number is NaN exactly where there is a reason, in its column and its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssig.types import MetricResult

NOT_FINITE = "not finite: the network's output is not, or a score to divide by is 0"


@dataclass(frozen=True)
class NoOptions:
    """For metrics without options."""


def assemble(
    columns: Mapping[str, np.ndarray],
    excluded: Sequence[Mapping[str, str]],
    curves: Mapping[str, np.ndarray] | None = None,
    vectors: Mapping[str, np.ndarray] | None = None,
) -> MetricResult:
    """A `MetricResult` that keeps the contract of NaN and reason.

    Args:
        columns: column -> (B,) numbers.
        excluded: for each image, column -> why there is no number; values that are not finite get a reason here.
        curves: ``<column>_curve`` -> (B, n) numbers; excluded together with their column.
        vectors: ``<column>_vector`` -> (B, n) numbers; likewise.
    """
    reasons = [dict(reason) for reason in excluded]
    for column, values in columns.items():
        for row in np.flatnonzero(~np.isfinite(values)):
            reasons[row].setdefault(column, NOT_FINITE)

    def without_excluded(column: str, values: np.ndarray) -> np.ndarray:
        masked = np.array(values, dtype=np.float64)
        masked[[row for row, reason in enumerate(reasons) if column in reason]] = np.nan
        return masked

    return MetricResult(
        columns={column: without_excluded(column, values) for column, values in columns.items()},
        curves={name: without_excluded(name.removesuffix("_curve"), curve) for name, curve in (curves or {}).items()},
        vectors={name: without_excluded(name.removesuffix("_vector"), rows) for name, rows in (vectors or {}).items()},
        excluded=tuple(reasons),
    )
