"""Numbers of a whole data set, which no mean over images gives: each from the columns that the workers stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.measurements import Measurements, Source, lists, parsed, sources
from pipeline.results import Run
from ssig.registry import MetricSpec


@dataclass(frozen=True)
class Whole:
    """One number of the data set.

    Attributes:
        name: of the number.
        source: the metric.
        direction: what is better: ``higher``, ``lower`` or ``none``.
        family: of the metric.
        values: method -> the number, None where it cannot be told.
        counts: method -> how many images it is made of.
    """

    name: str
    source: Source
    direction: str
    family: str
    values: dict[str, float | None]
    counts: dict[str, int]


def whole_numbers(run: Run, found: Measurements) -> list[Whole]:
    """Every number of the data set that the metrics of a model define."""
    result: list[Whole] = []
    for source, options in sources(run, found.model).items():
        known = parsed(source, options)
        if known is None or known[0].dataset is None:
            continue
        spec = known[0]
        by_method = {method: _numbers(run, found, method, source, *known) for method in found.methods}
        again = any(one.source.metric == source.metric for one in result)
        result += (
            Whole(
                name=f"{name}@{source.evaluation}" if again else name,
                source=source,
                direction=direction,
                family=spec.family,
                values={method: numbers.get(name) for method, (numbers, _) in by_method.items()},
                counts={method: count for method, (_, count) in by_method.items()},
            )
            for name, direction in spec.dataset_columns.items()
        )
    return result


def _numbers(
    run: Run, found: Measurements, method: str, source: Source, spec: MetricSpec, options: Any
) -> tuple[dict[str, float | None], int]:
    """The numbers of one method, and of how many images: those that have every list, else every scalar."""
    number = found.methods.index(method)
    scalars = {
        column.stored: found.values[:, number, position]
        for position, column in enumerate(found.columns)
        if column.source == source
    }
    listed = {name: lists(run, found.model, method, name, source.evaluation) for name in (*spec.curves, *spec.vectors)}
    judged = [values for values in listed.values() if values.shape[1]] or list(scalars.values())
    kept = np.all([np.isfinite(values).reshape(len(values), -1).all(axis=1) for values in judged], axis=0)
    count = int(kept.sum())
    if spec.dataset is None or not count:
        return {}, count
    columns = {name: values[kept] for name, values in {**scalars, **listed}.items()}
    numbers = spec.dataset(columns, options)
    return {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}, count
