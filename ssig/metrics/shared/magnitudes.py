"""Metrics of a map's magnitude, image by image: a number for each column, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ssig.metrics.shared.assemble import NoOptions, assemble
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

ALL_ZERO = "map is all zero"
CONSTANT = "map is constant"

# A number, one number for each column, or why there is none.
Outcome = float | tuple[float, ...] | str


def magnitudes(evaluation: Evaluation) -> np.ndarray:
    """(B, H, W) float64, |map| of each image."""
    values: np.ndarray = evaluation.maps.abs().double().cpu().numpy()
    return values


def collect(columns: Iterable[str], outcomes: Iterable[Outcome]) -> MetricResult:
    """The outcomes of a batch, one for each image, column by column."""
    names = tuple(columns)
    rows = list(outcomes)
    values = np.full((len(rows), len(names)), np.nan)
    excluded: list[dict[str, str]] = [{} for _ in rows]
    for row, outcome in enumerate(rows):
        if isinstance(outcome, str):
            excluded[row] = dict.fromkeys(names, outcome)
        else:
            values[row] = outcome
    return assemble(dict(zip(names, values.T, strict=True)), excluded)


def add_magnitude_metric(
    name: str,
    measure: Callable[[np.ndarray], float],
    *,
    better: str,
    definition: str,
    range: str,
    reference: str,
) -> None:
    """Registers `measure` of |map| (H, W) float64, never all zero, as a metric of one column.

    Args:
        name: of the metric and of its column.
        measure: the number of one image.
        better: the better direction, as in `MetricSpec.columns`.
        definition, range, reference: as in `MetricSpec`.
    """

    def compute(evaluation: Evaluation, options: NoOptions) -> MetricResult:
        return collect((name,), (measure(each) if each.any() else ALL_ZERO for each in magnitudes(evaluation)))

    METRICS.add(
        MetricSpec(
            name=name,
            compute=compute,
            options=NoOptions,
            columns={name: better},
            definition=definition,
            range=range,
            reference=reference,
            forwards=lambda options: 0,
            family="complexity",
            needs=frozenset({"map"}),
        )
    )
