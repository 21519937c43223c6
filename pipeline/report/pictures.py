"""The figures of the page, drawn for each model."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report.contents import ModelReport
from pipeline.report.curves import Curve, score_label
from pipeline.report.figures import figure
from pipeline.run.reader import Run


@dataclass(frozen=True)
class Pictures:
    """The figures of one model, as SVG elements.

    Attributes:
        curves: one figure per metric with curves.
    """

    curves: list[Markup]


def pictures(run: Run, model: ModelReport) -> Pictures:
    """Draws every figure of a model."""
    return Pictures(curves=_curves(run, model))


def _curves(run: Run, model: ModelReport) -> list[Markup]:
    drawn: dict[str, list[Curve]] = {}
    for curve in model.curves:
        drawn.setdefault(curve.metric, []).append(curve)
    options = run.config[model.model, model.reference].get("metrics", {})
    return [
        Markup(figure(group, model.methods, score_label(options.get(metric, {})), metric.capitalize()))
        for metric, group in drawn.items()
    ]
