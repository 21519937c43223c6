"""What each method's maps cost and how far they can be trusted: sampling noise, completeness, evaluations, seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.columns import parsed, sources
from pipeline.report.comparison import Estimate, mean_estimates
from pipeline.report.measurements import Measurements
from pipeline.run.reader import Run
from ssig.registry import MetricSpec

PHASES = ("decode", "attribute", "metrics", "write", "total")
# Column of the table -> what it is, and what it can and cannot show.
DEFINITIONS = {
    "Monte-Carlo standard error": "mean pixel standard error over mean |map|, from the spread of the samples. Noise "
    "enlarges mean |map| too, so that the ratio cannot much exceed 1.25 however noisy a map is. A dash marks a method "
    "that draws no samples.",
    "Reliability": "the correlation over pixels to expect with a map of as many other samples, from 0 (noise alone) "
    "to 1. Two maps share their bias, of which it says nothing.",
    "Too large by": "by about which share of mean |map| noise enlarges a map of magnitudes, rather over- than "
    "underestimated. More samples make such a map smaller; a dash marks a map that noise does not enlarge.",
    "Residual": "sum of the attributions minus f(x) − f(x′), in units of the score, and over |f(x) − f(x′)|. Methods "
    "have baselines and scores of their own, so it checks each method and ranks none. A dash marks a method without "
    "that axiom.",
}


@dataclass(frozen=True)
class Effort:
    """One method. Medians and means are over the images that have the number.

    Attributes:
        standard_error: mean pixel standard error over mean |map|; no images for a deterministic method.
        reliability: median correlation to expect with a map of other samples; None for a deterministic method.
        readout_bias: median share by which noise makes the map too large; None where it does not.
        residual: median |completeness residual|, in units of the score.
        relative_residual: median of |residual| / |f(x) - f(x')|.
        residual_count: images with a residual; 0 where completeness is no axiom of the method.
        gradient_evaluations: mean per image.
        seconds: phase -> seconds of computing per image of the committed units.
    """

    method: str
    standard_error: Estimate
    reliability: float | None
    readout_bias: float | None
    residual: float | None
    relative_residual: float | None
    residual_count: int
    gradient_evaluations: float | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Cost:
    """One metric: by its own account its forward evaluations and explanations per map, None where it is not known, and
    mean seconds per image and method."""

    metric: str
    forwards: int | None
    explanations: int | None
    seconds: dict[str, float]


def costs(run: Run, measurements: Measurements) -> list[Cost]:
    """What each metric cost, in order."""
    result = []
    for source, options in sources(run, measurements.model).items():
        seconds = {method: spent for (method, timed), spent in measurements.seconds.items() if timed == source}
        metric = parsed(run, measurements.model, source, options)
        forwards, explanations = (None, None) if metric is None else _account(*metric)
        result.append(Cost(source.title, forwards, explanations, seconds))
    return result


def _account(spec: MetricSpec, options: Any) -> tuple[int, int]:
    """Forward evaluations and explanations per map."""
    return spec.forwards(options), spec.explanations(options)


def efforts(run: Run, measurements: Measurements) -> list[Effort]:
    """One account per method, in order."""
    errors = mean_estimates(measurements.effort["standard_error_mean"])
    residuals = np.abs(measurements.effort["completeness_residual"])
    change = np.abs(measurements.effort["score"] - measurements.effort["baseline_score"])
    relative = np.divide(residuals, change, out=np.full(residuals.shape, np.nan), where=change > 0)
    return [
        Effort(
            method=method,
            standard_error=errors[number],
            reliability=_median(measurements.effort["reliability"][:, number]),
            readout_bias=_median(measurements.effort["readout_bias"][:, number]),
            residual=_median(residuals[:, number]),
            relative_residual=_median(relative[:, number]),
            residual_count=int(np.isfinite(residuals[:, number]).sum()),
            gradient_evaluations=_mean(measurements.effort["gradient_evaluations"][:, number]),
            seconds=_seconds(run, measurements.model, method),
        )
        for number, method in enumerate(measurements.methods)
    ]


def _seconds(run: Run, model: str, method: str) -> dict[str, float]:
    commits = run.committed(model, method)
    rows = sum(commit.rows for commit in commits)
    if not rows:
        return {}
    return {
        phase: sum(float(commit.seconds[phase]) for commit in commits) / rows
        for phase in PHASES
        if all(phase in commit.seconds for commit in commits)
    }


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
