"""Completeness: how far the attributions are from summing to the change of the score.

    delta = sum A - (f(x) - f(x')),  completeness = |delta|,  completeness_relative = |delta| / |f(x) - f(x')|

Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017. The method computes delta with the score that
it attributes; a method for which the sum means nothing has none. Delta and both scores are stored with the maps, so a
run's own can be measured later. Relative gaps have heavy tails: use medians.
Methods are not ranked by either number: f and x' are each method's own.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ssig.metrics.shared.assemble import NoOptions, assemble
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

_INCOMPARABLE = "each method has a baseline and a score of its own, so that f(x) - f(x') is not the same for all"


def completeness(evaluation: Evaluation, options: NoOptions) -> MetricResult:
    """The completeness gap, and its ratio to the change of the score."""
    has_residual = evaluation.completeness_residual is not None
    residual = np.abs(_numbers(evaluation.completeness_residual, len(evaluation)))
    change = np.abs(_numbers(evaluation.score, len(evaluation)) - _numbers(evaluation.baseline_score, len(evaluation)))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = residual / change
    return assemble(
        columns={"completeness": residual, "completeness_relative": relative},
        excluded=[_excluded(gap, difference, has_residual) for gap, difference in zip(residual, change, strict=True)],
    )


def _numbers(values: Tensor | None, length: int) -> np.ndarray:
    return np.full(length, np.nan) if values is None else values.detach().cpu().double().numpy()


def _excluded(residual: float, change: float, has_residual: bool) -> dict[str, str]:
    if np.isnan(residual):
        reason = "completeness residual is not finite" if has_residual else "method has no completeness residual"
        return dict.fromkeys(("completeness", "completeness_relative"), reason)
    if np.isnan(change):
        return {"completeness_relative": "scores of image and baseline are not at hand"}
    if change == 0:
        return {"completeness_relative": "image and baseline have the same score"}
    return {}


METRICS.add(
    MetricSpec(
        name="completeness",
        compute=completeness,
        options=NoOptions,
        columns={"completeness": "lower", "completeness_relative": "lower"},
        definition="distance of the sum of the attributions from f(x) - f(x')",
        range="[0, inf)",
        reference="Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017",
        forwards=lambda options: 0,
        incomparable=dict.fromkeys(("completeness", "completeness_relative"), _INCOMPARABLE),
        descriptions={
            "completeness_relative": "distance of the sum of the attributions from f(x) - f(x'), over |f(x) - f(x')|",
        },
        needs=frozenset(),
    )
)
