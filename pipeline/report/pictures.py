"""The figures of the page, drawn for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report.contents import ModelReport
from pipeline.report.curves import Curve, score_label
from pipeline.report.descriptions import BETTER, curves_text, distribution_text, forest_text, tradeoff_text
from pipeline.report.drawing import styled
from pipeline.report.effects import Effect
from pipeline.report.figures import curve_figure, distribution_figure, forest_figure, tradeoff_figure
from pipeline.report.styles import LineStyle, line_styles
from pipeline.report.svg import element
from pipeline.run.reader import Run

Styles = Mapping[str, LineStyle]


@dataclass(frozen=True)
class Pictures:
    """The figures of one model, as SVG elements.

    Attributes:
        styles: how each method is drawn, in figures and tables.
        forest: the methods ahead and their nearest rivals; empty where none is known.
        curves: one figure per metric with curves.
        distributions: one figure per metric.
        tradeoffs: one figure per metric.
        number: of the model on the page, from 1.
    """

    styles: dict[str, LineStyle]
    forest: Markup
    curves: list[Markup]
    distributions: list[Markup]
    tradeoffs: list[Markup]
    number: int

    @property
    def prefix(self) -> str:
        """What every id of the model's pictures begins with."""
        return _prefix(self.number)


def pictures(run: Run, model: ModelReport, number: int) -> Pictures:
    """Draws every figure of a model, the `number`-th of the page."""
    styles = line_styles(model.methods, model.controls)
    prefix = _prefix(number)
    with styled():
        return Pictures(
            styles=styles,
            forest=_forest(model, styles, prefix),
            curves=_curves(run, model, styles, prefix),
            distributions=_distributions(model, styles, prefix),
            tradeoffs=_tradeoffs(model, styles, prefix),
            number=number,
        )


def _prefix(number: int) -> str:
    return f"figure-{number}"


def _forest(model: ModelReport, styles: Styles, prefix: str) -> Markup:
    if all(effect.mean is None for effect in model.effects):
        return Markup("")
    title = "The method ahead compared with its nearest rival, by metric"
    return element(forest_figure(model.effects, styles), f"{prefix}-forest", title, forest_text(model.effects))


def _curves(run: Run, model: ModelReport, styles: Styles, prefix: str) -> list[Markup]:
    by_metric: dict[str, list[Curve]] = {}
    for curve in model.curves:
        by_metric.setdefault(curve.metric, []).append(curve)
    options = run.config[model.model, model.reference].get("metrics", {})
    labels = {metric: score_label(options.get(metric, {})) for metric in by_metric}
    return [
        element(
            curve_figure(curves, styles, foremost(curves, model.effects), (metric.capitalize(), labels[metric])),
            f"{prefix}-curve-{position}",
            f"{metric} curves",
            curves_text(curves),
        )
        for position, (metric, curves) in enumerate(by_metric.items())
    ]


def foremost(curves: Sequence[Curve], effects: Sequence[Effect]) -> tuple[str, ...]:
    """The method ahead in the metric of these curves and its nearest rival; the first two methods where none is."""
    for effect in effects:
        if effect.column.metric == curves[0].metric and effect.ahead is not None and effect.rival is not None:
            return effect.ahead, effect.rival
    return tuple(curve.method for curve in curves[:2])


def _distributions(model: ModelReport, styles: Styles, prefix: str) -> list[Markup]:
    return [
        element(
            distribution_figure(distribution, model.methods, styles),
            f"{prefix}-distribution-{position}",
            f"{distribution.column.shown} of single images{BETTER[distribution.column.direction]}",
            distribution_text(distribution),
        )
        for position, distribution in enumerate(model.distributions)
    ]


def _tradeoffs(model: ModelReport, styles: Styles, prefix: str) -> list[Markup]:
    return [
        element(
            tradeoff_figure(tradeoff, styles),
            f"{prefix}-tradeoff-{position}",
            f"Cost against {tradeoff.column.shown}{BETTER[tradeoff.column.direction]}",
            tradeoff_text(tradeoff),
        )
        for position, tradeoff in enumerate(model.tradeoffs)
    ]
