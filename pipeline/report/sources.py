"""Which metrics a report has, where their numbers are, and what the run or ssig says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.run.described import known_metric
from pipeline.run.reader import Run
from ssig.errors import UsageError
from ssig.registry import METRICS, MetricSpec


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


def sources(run: Run, model: str) -> dict[Source, dict[str, Any]]:
    """Where a model's metrics are, with their options, in order of the registry; those it does not know go last."""
    own = [
        (Source(name), options)
        for (owner, _), config in run.config.items()
        if owner == model
        for name, options in config.get("metrics", {}).items()
    ]
    added = [
        (Source(name, one.name), options)
        for one in run.evaluations
        if one.model == model
        for name, options in one.metrics.items()
    ]
    found = dict(own + added)
    order = [*METRICS.names(), *sorted({source.metric for source in found} - set(METRICS.names()))]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0].metric)))


def metric_of(run: Run, model: str, source: Source) -> MetricSpec | None:
    """A metric as the run describes it, else ssig's own; None where neither knows it. No code of others is run."""
    configs: list[Mapping[str, Any]] = [
        one.config for one in run.evaluations if (one.model, one.name) == (model, source.evaluation)
    ]
    if source.evaluation is None:
        configs = [config for (owner, _), config in run.config.items() if owner == model]
    for config in configs:
        if source.metric in config.get("metrics", {}):
            try:
                return known_metric(config, source.metric)
            except UsageError:
                return None
    return None


def parsed(run: Run, model: str, source: Source, options: Mapping[str, Any]) -> tuple[MetricSpec, Any] | None:
    """A metric and its options; None where this version does not know them.

    What is known of a metric from the run alone does not depend on its options, which are None then.
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
