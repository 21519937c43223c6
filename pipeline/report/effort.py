"""What each method's maps cost and how far they can be trusted: sampling noise, completeness, evaluations, seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.columns import parsed, sources
from pipeline.report.comparison import Estimate, mean_estimates
from pipeline.report.measurements import EFFORT, Measurements
from pipeline.run.reader import Run
from ssig.registry import MetricSpec

# A method of fewer evaluations says little of what one of them takes, beside what every image takes.
FEWEST = 8
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
FORWARD_DEFINITION = (
    "Forwards per image: evaluations without a gradient, by the method's own account, besides those that score the "
    "image and its baseline. Cost in gradients: gradients and forwards, a forward counted as the share of a "
    "gradient's time that it takes in this run; a dash where the run does not tell that share, because it has no "
    f"method of {FEWEST} gradients or more without forwards, or none of as many forwards without gradients."
)


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
        forwards: forward evaluations without gradients per image, by the method's own account, besides those that
            score the image and its baseline; None where it gave none.
        cost: gradients and forwards per image in units of gradients, by the ratio of their seconds in this run; None
            where the run does not tell the ratio.
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
    forwards: int | None
    cost: float | None
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
    seconds = {method: _seconds(run, measurements.model, method) for method in measurements.methods}
    gradients = {
        method: _mean(measurements.effort_of(number, "gradient_evaluations"))
        for number, method in enumerate(measurements.methods)
    }
    forwards = {method: _forwards(run, measurements.model, method) for method in measurements.methods}
    ratio = forward_share(gradients, forwards, {name: spent.get("attribute") for name, spent in seconds.items()})
    pieces = measurements.effort.pieces_of_columns([EFFORT.index("standard_error_mean")])
    errors = [estimate for piece in pieces for estimate in mean_estimates(piece)]
    result = []
    for number, method in enumerate(measurements.methods):
        residuals = np.abs(measurements.effort_of(number, "completeness_residual"))
        change = np.abs(measurements.effort_of(number, "score") - measurements.effort_of(number, "baseline_score"))
        relative = np.divide(residuals, change, out=np.full(residuals.shape, np.nan), where=change > 0)
        result.append(
            Effort(
                method=method,
                standard_error=errors[number],
                reliability=_median(measurements.effort_of(number, "reliability")),
                readout_bias=_median(measurements.effort_of(number, "readout_bias")),
                residual=_median(residuals),
                relative_residual=_median(relative),
                residual_count=int(np.isfinite(residuals).sum()),
                gradient_evaluations=gradients[method],
                forwards=forwards[method],
                cost=in_gradients(gradients[method], forwards[method], ratio),
                seconds=seconds[method],
            )
        )
    return result


def forward_share(
    gradients: Mapping[str, float | None], forwards: Mapping[str, int | None], seconds: Mapping[str, float | None]
) -> float | None:
    """The time of a forward evaluation as a share of that of a gradient, from methods that take only one of them.

    Args:
        gradients, forwards: method -> evaluations per image.
        seconds: method -> seconds of attribution per image.

    Returns:
        None where no such method takes `FEWEST` forwards or more, or none as many gradients.
    """
    known = [
        (gradients[method] or 0.0, count, spent)
        for method, spent in seconds.items()
        if spent and (count := forwards[method]) is not None
    ]
    by_gradient = [(count, spent) for count, others, spent in known if count >= FEWEST and not others]
    by_forward = [(count, spent) for others, count, spent in known if count >= FEWEST and not others]
    if not by_gradient or not by_forward:
        return None
    forward, gradient = (
        sum(spent for _, spent in pairs) / sum(count for count, _ in pairs) for pairs in (by_forward, by_gradient)
    )
    return forward / gradient


def in_gradients(gradients: float | None, forwards: int | None, ratio: float | None) -> float | None:
    """Evaluations per image in units of gradients; None where the forwards or what they take are not known.

    Args:
        gradients, forwards: of a method.
        ratio: of `forward_share`.
    """
    if gradients is None or forwards is None:
        return None
    if forwards == 0:
        return gradients
    return None if ratio is None else gradients + ratio * forwards


def _forwards(run: Run, model: str, method: str) -> int | None:
    """What a label's record says of its method; a record without forwards is that of a method that has none.

    None where they are known only after a run.
    """
    recorded = run.config[model, method].get("method", {})
    forwards = None if recorded.get("evaluations") is None else recorded.get("forwards", 0)
    return None if forwards is None else int(forwards)


def _seconds(run: Run, model: str, method: str) -> dict[str, float]:
    rows, spent = 0, dict.fromkeys(PHASES, 0.0)
    for commit in run.committed(model, method):
        # Of a unit whose tables are those of an attempt that did not get to its commit, no seconds are known.
        if commit.seconds:
            rows += commit.rows
            spent = {phase: total + commit.seconds[phase] for phase, total in spent.items() if phase in commit.seconds}
    return {phase: total / rows for phase, total in spent.items()} if rows else {}


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if len(finite) else None
