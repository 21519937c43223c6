"""The scalar columns of a run's metrics: where their numbers are, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.run.described import known_metric
from pipeline.run.reader import Run
from ssig.errors import UsageError
from ssig.registry import FAMILIES, METRICS, MetricSpec
from ssig.registry.titles import title


@dataclass(frozen=True)
class Source:
    """Where a metric's numbers are: in the run's own metrics, or in those that an evaluation added.

    Attributes:
        metric: its name.
        evaluation: None for the run's own.
    """

    metric: str
    evaluation: str | None = None

    @property
    def title(self) -> str:
        return self.metric if self.evaluation is None else f"{self.metric}@{self.evaluation}"


@dataclass(frozen=True)
class Column:
    """A scalar metric column.

    Attributes:
        name: as shown; ``COLUMN@EVALUATION`` where an evaluation measures again what is measured already.
        stored: as in the files.
        source: where it is.
        direction: what is better: ``higher``, ``lower`` or ``none``.
        headline: whether it is its metric's first that holds a number; the first where none does.
        family: one of `ssig.registry.FAMILIES`.
        share: whether the metric says that it is 0 or 1 for each image.
        incomparable: why methods cannot be ranked by it, although it has a direction; empty where they can.
        title: the name that people use; empty for `name`.
        definition: one line; empty where this version does not know the metric.
    """

    name: str
    stored: str
    source: Source
    direction: str
    headline: bool
    family: str = FAMILIES[0]
    share: bool = False
    incomparable: str = ""
    title: str = ""
    definition: str = ""

    @property
    def shown(self) -> str:
        """Its name for people."""
        return self.title or self.name

    @property
    def metric(self) -> str:
        return self.source.metric

    @property
    def sign(self) -> int:
        """1 if higher is better, -1 if lower is, 0 if neither."""
        return {"higher": 1, "lower": -1}.get(self.direction, 0)

    @property
    def compared(self) -> bool:
        """Whether one method can be better than another by it."""
        return self.sign != 0 and not self.incomparable


def sources(run: Run, model: str) -> dict[Source, dict[str, Any]]:
    """Where a model's metrics are, with their options, in order of the registry; unknown ones go last."""
    of_run = [
        (Source(name), options)
        for (owner, _), config in run.config.items()
        if owner == model
        for name, options in config.get("metrics", {}).items()
    ]
    added = [
        (Source(name, evaluation.name), options)
        for evaluation in run.evaluations
        if evaluation.model == model
        for name, options in evaluation.metrics.items()
    ]
    every = dict(of_run + added)
    order = [*METRICS.names(), *sorted({source.metric for source in every} - set(METRICS.names()))]
    return dict(sorted(every.items(), key=lambda item: order.index(item[0].metric)))


def metric_of(run: Run, model: str, source: Source) -> MetricSpec | None:
    """A metric as the run describes it, else ssig's own; None where neither has it. Runs no foreign code."""
    configs: list[Mapping[str, Any]] = [
        evaluation.config
        for evaluation in run.evaluations
        if (evaluation.model, evaluation.name) == (model, source.evaluation)
    ]
    if source.evaluation is None:
        configs = [config for (owner, _), config in run.config.items() if owner == model]
    recorded = next((config for config in configs if source.metric in config.get("metrics", {})), {})
    try:
        return known_metric(recorded, source.metric)
    except UsageError:
        return None


def parsed(run: Run, model: str, source: Source, options: Mapping[str, Any]) -> tuple[MetricSpec, Any] | None:
    """A metric and its options; None where this version does not know them.

    The options of a metric that is known from the run's record alone are None.
    """
    spec = metric_of(run, model, source)
    if spec is None:
        return None
    if spec.options is type(None):
        return spec, None
    try:
        return spec, spec.parse(options)
    except UsageError:
        return None


def metric_columns(run: Run, model: str) -> tuple[Column, ...]:
    """The scalar columns of a model's metrics, in order of the registry; unknown ones have no direction."""
    columns: list[Column] = []
    shown: set[str] = set()
    for source in sources(run, model):
        spec = metric_of(run, model, source)
        directions = {source.metric: "none"} if spec is None else spec.columns
        again = source.metric in shown
        shown.add(source.metric)
        columns += (
            Column(
                name=f"{column}@{source.evaluation}" if again else column,
                stored=column,
                source=source,
                direction=direction,
                headline=position == 0,
                family=FAMILIES[0] if spec is None else spec.family,
                share=spec is not None and column in spec.shares,
                incomparable="" if spec is None else spec.incomparable.get(column, ""),
                title=title(column) + (f" ({source.evaluation})" if again else ""),
                definition="" if spec is None else described(spec, column),
            )
            for position, (column, direction) in enumerate(directions.items())
        )
    return tuple(columns)


def described(spec: MetricSpec, name: str) -> str:
    """One line about a column or a number of the data set; empty where there is none."""
    try:
        return spec.description(name)
    except KeyError:
        return ""


def headed(columns: Sequence[Column], present: np.ndarray) -> tuple[Column, ...]:
    """The columns with the headline of each metric at the first that holds a number; `present`: (C,) bool, which do.

    A metric may leave out its first column, such as the order of the signed map under ``orders: absolute``.
    """
    first: dict[Source, int] = {}
    for index, column in enumerate(columns):
        head = first.setdefault(column.source, index)
        if present[index] and not present[head]:
            first[column.source] = index
    return tuple(replace(column, headline=first[column.source] == index) for index, column in enumerate(columns))
