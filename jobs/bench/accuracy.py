"""How many gradients integrated gradients needs for equal completeness: the adaptive rule and Captum's default.

    residual = |sum(values) - (f(x) - f(x'))| / |f(x) - f(x')|,   the median over the images

Captum's default rule is Gauss-Legendre. It is measured at its default number of steps and at twice as many gradients
as the adaptive rule took on average: if its residual is still larger there, the adaptive rule needs less than half.
Completeness is not accuracy, so for some images the maps of each rule are compared with the map of many midpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from jobs.bench.networks import ready_case
from jobs.bench.timing import machine
from ssig.api import attribute
from ssig.types import Attribution

CAPTUM_STEPS = 50
MAX_STEPS = 256


def measure(
    network: str = "lite0",
    images: int = 50,
    tolerance: float = 0.02,
    map_tolerance: float = 0.1,
    compared: int = 8,
    midpoints: int = 500,
    shards: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Residuals, evaluations and map errors of both rules.

    Args:
        network: one of `jobs.bench.networks.NETWORKS`.
        images: how many.
        tolerance: tolerance of the adaptive rule.
        map_tolerance: map tolerance of a second adaptive rule, for the images whose maps are compared.
        compared: how many of the images have their maps compared.
        midpoints: number of midpoints of the maps to compare with.
        shards: where the images come from.
    """
    case = ready_case(network, images, shards or ())

    def explain(count: int, **options: Any) -> Attribution:
        return attribute(case.replica, case.images[:count], case.targets[:count], "ig", **options)

    true = explain(compared, rule="midpoint", steps=midpoints).map if compared else None
    adaptive = explain(images, rule="adaptive", steps=MAX_STEPS, tolerance=tolerance)
    spent = round(float(adaptive.gradient_evaluations.double().mean()))
    rules = {
        f"adaptive, tolerance {tolerance:g}": adaptive,
        **{f"Gauss-Legendre, {steps}": explain(images, steps=steps) for steps in (CAPTUM_STEPS, spent, 2 * spent)},
    }
    rows = [_row(name, result, true) for name, result in rules.items()]
    if compared:
        watched = explain(compared, rule="adaptive", steps=MAX_STEPS, tolerance=tolerance, map_tolerance=map_tolerance)
        rows.insert(1, _row(f"{rows[0]['rule']}, map tolerance {map_tolerance:g}", watched, true))
    return {
        "network": network,
        "images": f"{images}, {case.source}",
        "rules": rows,
        "maps compared": f"{compared}, with {midpoints} midpoints",
        "at most half the gradients": rows[0]["median residual"] < rows[-1]["median residual"],
        "under 1 %": rows[0]["median residual"] < 0.01,
        "machine": machine(),
        "ok": rows[0]["median residual"] < min(0.01, rows[-1]["median residual"]),
    }


def _row(name: str, result: Attribution, true: Tensor | None) -> dict[str, Any]:
    if result.completeness_residual is None:
        raise ValueError("integrated gradients has a residual")
    gain = (result.score - result.baseline_score).abs()
    spent = result.gradient_evaluations.double()
    error = None
    if true is not None:
        error = float(((result.map[: len(true)] - true).flatten(1).norm(dim=1) / true.flatten(1).norm(dim=1)).median())
    return {
        "rule": name,
        "mean gradients": float(spent.mean()),
        "median gradients": float(spent.median()),
        "median residual": float((result.completeness_residual.abs() / gain).median()),
        "median map error": error,
    }
