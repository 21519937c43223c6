"""How many images the number of each column rests on, and why the others are left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from pipeline.report.measurements import Measurements


@dataclass(frozen=True)
class Account:
    """How many images a column's number rests on, for methods that share the same account."""

    metric: str
    column: str
    methods: tuple[str, ...]
    kept: int
    excluded: int
    reasons: tuple[tuple[str, int], ...]


def accounts(measurements: Measurements) -> list[Account]:
    """For each column that holds a number, and for each metric that holds none: images kept, images excluded, and
    every reason with its count."""
    rows: list[Account] = []
    shown = {*measurements.further, *(index for index, column in enumerate(measurements.columns) if column.headline)}
    for index in sorted(shown):
        column = measurements.columns[index]
        shared: dict[tuple[int, tuple[tuple[str, int], ...]], list[str]] = {}
        for number, method in enumerate(measurements.methods):
            with_number = int(np.isfinite(measurements.values.of_method(number, index)).sum())
            reasons = tuple(_reasons(measurements, method, column.name, with_number))
            shared.setdefault((with_number, reasons), []).append(method)
        rows += [
            Account(
                column.source.title,
                column.name,
                tuple(methods),
                with_number,
                measurements.expected - with_number,
                reasons,
            )
            for (with_number, reasons), methods in shared.items()
        ]
    return rows


def _reasons(measurements: Measurements, method: str, column: str, with_number: int) -> list[tuple[str, int]]:
    statuses = measurements.statuses[method]
    reasons = Counter({f"sample {status}": count for status, count in statuses.items() if status != "ok"})
    reasons.update(measurements.excluded.get((method, column), {}))
    reasons["unit not done"] = measurements.expected - statuses.total()
    reasons["no reason recorded"] = measurements.expected - with_number - reasons.total()
    return sorted((reason, count) for reason, count in reasons.items() if count)
