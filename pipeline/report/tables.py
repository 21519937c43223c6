"""The report's numbers as CSV, in long form: one number a row, all digits."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

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
    "forward_evaluations",
    "cost_in_gradients",
)


def tables(report: Report) -> dict[str, str]:
    """CSV text by file name."""
    files = {
        "coverage.csv": _csv(("model", "method", "expected", *report.statuses, "not_done"), _coverage(report)),
        "failed_samples.csv": _csv(
            ("model", "method", "shard", "index", "key", "status", "error"),
            (
                (item.model, method, item.shard, item.index, item.key, item.status, item.error)
                for item in report.failures
                for method in item.methods
            ),
        ),
        "quarantine.csv": _csv(_QUARANTINE, ([record[name] for name in _QUARANTINE] for record in report.quarantine)),
    }
    for name, (header, rows) in _OF_MODELS.items():
        files[name] = _csv(header, (row for model in report.models for row in rows(model)))
    return files


def _coverage(report: Report) -> Iterator[tuple[object, ...]]:
    for row in report.coverage:
        counts = (row.statuses.get(status, 0) for status in report.statuses)
        yield row.model, row.method, row.expected, *counts, row.not_done


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


def _ranks(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for lead in model.leads:
        for method, rank in lead.ranks.items():
            yield model.model, lead.column.name, method, rank.low, rank.high


def _groups(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for grouping in model.groupings:
        test = (grouping.critical_difference, grouping.p, grouping.count)
        for method, rank in grouping.ranks.items():
            groups = " ".join(str(number) for number, group in enumerate(grouping.groups, 1) if method in group)
            yield (model.model, grouping.family, method, rank, groups, *test)


def _numbers(item: Estimate) -> tuple[object, ...]:
    return item.mean, item.low, item.high, item.count


def _exclusions(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for row in model.accounts:
        for method in row.methods:
            for reason, count in row.reasons or (("", 0),):
                yield model.model, row.column, method, row.kept, row.excluded, reason, count


def _classes(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for row in () if model.classes is None else model.classes.rows:
        for method, means in row.means.items():
            for column, item in means.items():
                yield (model.model, row.number, row.name, method, column, *_numbers(item))


def _curves(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for curve in model.curves:
        for point in zip(curve.fraction, curve.mean, curve.low, curve.high, strict=True):
            yield (model.model, curve.column, curve.method, *point, curve.count)


def _wholes(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for whole in model.wholes:
        for method, item in whole.estimates.items():
            paired = whole.differences.get(method, _NO_ESTIMATE)
            numbers = (item.mean, item.low, item.high, item.count, paired.mean, paired.low, paired.high)
            yield (model.model, method, whole.name, whole.direction, *numbers)


def _costs(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for cost in model.costs:
        for method, seconds in cost.seconds.items():
            yield model.model, cost.metric, cost.forwards, cost.explanations, method, seconds


def _efforts(model: ModelReport) -> Iterator[tuple[object, ...]]:
    for row in model.efforts:
        seconds = (row.seconds.get(phase) for phase in PHASES)
        noise = (row.standard_error.mean, row.reliability, row.readout_bias)
        numbers = (*noise, row.residual, row.relative_residual, row.gradient_evaluations, row.forwards, row.cost)
        yield (model.model, row.method, *numbers, *seconds)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return target.getvalue()


# Of the files with rows for each model: name, header and rows.
_OF_MODELS: dict[str, tuple[Sequence[str], Callable[[ModelReport], Iterator[tuple[object, ...]]]]] = {
    "metrics.csv": (("model", "method", "column", "direction", *_ESTIMATE, "coverage"), _means),
    "differences.csv": (
        ("model", "method", "column", "direction", *_ESTIMATE, "p", "verdict", "reference"),
        _differences,
    ),
    "leads.csv": (
        ("model", "column", "direction", "leader", "ahead", "rival", *_PAIRED, "n", "p", "reason"),
        _leads,
    ),
    "ranks.csv": (("model", "column", "method", "low", "high"), _ranks),
    "groups.csv": (
        ("model", "family", "method", "average_rank", "groups", "critical_difference", "p", "n"),
        _groups,
    ),
    "exclusions.csv": (("model", "column", "method", "kept", "excluded", "reason", "count"), _exclusions),
    "classes.csv": (("model", "class", "class_name", "method", "column", *_ESTIMATE), _classes),
    "curves.csv": (("model", "column", "method", "fraction", *_ESTIMATE), _curves),
    "data_set.csv": (("model", "method", "name", "direction", "value", *_ESTIMATE[1:], *_PAIRED), _wholes),
    "costs.csv": (("model", "metric", "forwards", "explanations", "method", "seconds"), _costs),
    "effort.csv": (("model", "method", *_EFFORT, *(f"seconds_{phase}" for phase in PHASES)), _efforts),
}
