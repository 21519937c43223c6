"""The report's numbers as CSV, in long form: one number a row, all digits."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from pipeline.report.comparison import Estimate
from pipeline.report.contents import ModelReport, Report
from pipeline.report.effort import PHASES

_ESTIMATE = ("mean", "low", "high", "n")
_PAIRED = ("difference", "difference_low", "difference_high")
_NO_ESTIMATE = Estimate(None, None, None, 0)
_QUARANTINE = ("shard", "kind", "key", "offset", "reason", "attempts")
_EFFORT = (
    "standard_error",
    "reliability",
    "readout_bias",
    "median_residual",
    "median_relative_residual",
    "gradient_evaluations",
)


def tables(report: Report) -> dict[str, str]:
    """CSV text by file name."""
    models = report.models
    return {
        "coverage.csv": _csv(
            ("model", "method", "expected", *report.statuses, "not_done"),
            (
                (row.model, row.method, row.expected, *(row.statuses.get(s, 0) for s in report.statuses), row.not_done)
                for row in report.coverage
            ),
        ),
        "failed_samples.csv": _csv(
            ("model", "method", "shard", "index", "key", "status", "error"),
            (
                (item.model, method, item.shard, item.index, item.key, item.status, item.error)
                for item in report.failures
                for method in item.methods
            ),
        ),
        "quarantine.csv": _csv(_QUARANTINE, ([record[name] for name in _QUARANTINE] for record in report.quarantine)),
        "metrics.csv": _csv(
            ("model", "method", "column", "direction", *_ESTIMATE, "coverage"),
            (row for model in models for row in _means(model)),
        ),
        "differences.csv": _csv(
            ("model", "method", "column", "direction", *_ESTIMATE, "p", "verdict", "reference"),
            (row for model in models for row in _differences(model)),
        ),
        "leads.csv": _csv(
            ("model", "column", "direction", "leader", "ahead", "rival", *_PAIRED, "n", "p", "reason"),
            (row for model in models for row in _leads(model)),
        ),
        "ranks.csv": _csv(
            ("model", "column", "method", "low", "high"),
            (
                (model.model, lead.column.name, method, rank.low, rank.high)
                for model in models
                for lead in model.leads
                for method, rank in lead.ranks.items()
            ),
        ),
        "groups.csv": _csv(
            ("model", "family", "method", "average_rank", "groups", "critical_difference", "p", "n"),
            (row for model in models for row in _groups(model)),
        ),
        "exclusions.csv": _csv(
            ("model", "column", "method", "kept", "excluded", "reason", "count"),
            (row for model in models for row in _exclusions(model)),
        ),
        "curves.csv": _csv(
            ("model", "column", "method", "fraction", *_ESTIMATE),
            (row for model in models for row in _curves(model)),
        ),
        "data_set.csv": _csv(
            ("model", "method", "name", "direction", "value", *_ESTIMATE[1:], *_PAIRED),
            (row for model in models for row in _wholes(model)),
        ),
        "costs.csv": _csv(
            ("model", "metric", "forwards", "explanations", "method", "seconds"),
            (
                (model.model, cost.metric, cost.forwards, cost.explanations, method, seconds)
                for model in models
                for cost in model.costs
                for method, seconds in cost.seconds.items()
            ),
        ),
        "effort.csv": _csv(
            ("model", "method", *_EFFORT, *(f"seconds_{phase}" for phase in PHASES)),
            (row for model in models for row in _efforts(model)),
        ),
    }


def _means(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for method, row in model.comparison.means.items():
        for column in (*model.headlines, *model.further):
            item = row[column.name]
            yield model.model, method, column.name, column.direction, *_numbers(item), item.coverage


def _differences(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for method, row in model.comparison.differences.items():
        for column in (*model.headlines, *model.further):
            item = row[column.name]
            identity = (model.model, method, column.name, column.direction)
            yield (*identity, *_numbers(item), item.p, item.verdict, model.reference)


def _leads(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for lead in model.leads:
        item = lead.difference or _NO_ESTIMATE
        who = (lead.leader, lead.ahead, lead.rival)
        yield (model.model, lead.column.name, lead.column.direction, *who, *_numbers(item), lead.p, lead.reason)


def _groups(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for one in model.groupings:
        for method, rank in one.ranks.items():
            groups = " ".join(str(number) for number, group in enumerate(one.groups, 1) if method in group)
            yield (model.model, one.family, method, rank, groups, one.critical_difference, one.p, one.count)


def _numbers(item: Estimate) -> tuple[object, ...]:
    return item.mean, item.low, item.high, item.count


def _exclusions(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for row in model.accounts:
        for method in row.methods:
            for reason, count in row.reasons or (("", 0),):
                yield model.model, row.column, method, row.kept, row.excluded, reason, count


def _curves(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for curve in model.curves:
        for point in zip(curve.fraction, curve.mean, curve.low, curve.high, strict=True):
            yield (model.model, curve.column, curve.method, *point, curve.count)


def _wholes(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for one in model.wholes:
        for method, item in one.estimates.items():
            paired = one.differences.get(method, _NO_ESTIMATE)
            numbers = (item.mean, item.low, item.high, item.count, paired.mean, paired.low, paired.high)
            yield (model.model, method, one.name, one.direction, *numbers)


def _efforts(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for row in model.efforts:
        seconds = (row.seconds.get(phase) for phase in PHASES)
        noise = (row.standard_error.mean, row.reliability, row.readout_bias)
        numbers = (*noise, row.residual, row.relative_residual, row.gradient_evaluations)
        yield (model.model, row.method, *numbers, *seconds)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return target.getvalue()
