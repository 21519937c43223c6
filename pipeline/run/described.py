"""Records of metrics from files and plug-ins, so that audit, report and readers need not run their code.

A label's configuration, or an evaluation's, has

    foreign           metric -> its origin and all that `MetricSpec` says of its columns; part of the fingerprint
    foreign_columns   the same for metrics that it does not measure, but whose columns its tables have

only where there are such metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssig.errors import UsageError
from ssig.registry import METRICS, MetricSpec

FOREIGN, FOREIGN_COLUMNS = "foreign", "foreign_columns"


def described(spec: MetricSpec, options: Any, origin: Mapping[str, str]) -> dict[str, Any]:
    """The record of a metric.

    Args:
        spec, options: the metric and its parsed options.
        origin: of its source.
    """
    return {
        "origin": dict(origin),
        "columns": dict(spec.columns),
        "curves": list(spec.curves),
        "vectors": list(spec.vectors),
        "definition": spec.definition,
        "range": spec.range,
        "reference": spec.reference,
        "family": spec.family,
        "needs": sorted(spec.needs),
        "forwards": spec.forwards(options),
        "explanations": spec.explanations(options),
        "shares": sorted(spec.shares),
        "incomparable": dict(spec.incomparable),
        "descriptions": {name: spec.description(name) for name in spec.stored},
    }


def known_metric(config: Mapping[str, Any], name: str) -> MetricSpec:
    """A metric as a configuration describes it, or else ssig's own; it measures nothing.

    Raises:
        UsageError: neither has it.
    """
    record = foreign(config).get(name)
    if record is not None:
        return _spec(name, record)
    if METRICS.source(name) is not None:  # adopted in this process, and not by this run
        raise UsageError("metric", name, METRICS.names())
    return METRICS[name]


def foreign(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Metric -> record, of all that a configuration describes."""
    return {**config.get(FOREIGN_COLUMNS, {}), **config.get(FOREIGN, {})}


def origin_of(config: Mapping[str, Any], metric: str) -> Mapping[str, str] | None:
    """Where a metric came from; None for ssig's own."""
    origin: Mapping[str, str] | None = foreign(config).get(metric, {}).get("origin")
    return origin


def _spec(name: str, record: Mapping[str, Any]) -> MetricSpec:
    forwards, explanations = record["forwards"], record["explanations"]

    def measured_elsewhere(evaluation: object, options: object) -> Any:
        raise RuntimeError(f"{name} is known from its record alone, which measures nothing")

    return MetricSpec(
        name=name,
        compute=measured_elsewhere,
        options=type(None),
        columns=record["columns"],
        definition=record["definition"],
        range=record["range"],
        reference=record["reference"],
        forwards=lambda options: int(forwards),
        explanations=lambda options: int(explanations),
        needs=frozenset(record["needs"]),
        curves=tuple(record["curves"]),
        vectors=tuple(record["vectors"]),
        family=record["family"],
        shares=frozenset(record["shares"]),
        incomparable=record["incomparable"],
        descriptions=record["descriptions"],
    )
