"""Paired differences of two runs, second minus first, method by method and number by number.

Each difference is made on the common samples that have the number in both runs. Verdicts (`better`, `worse`) are of
headline columns with a better direction that both runs measured in the same way, on 10 images or more, and are
corrected over all of them (Holm).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.report.columns import Column, metric_columns, sources
from pipeline.report.compare.matching import Common, Pair
from pipeline.report.comparison import Difference, Estimate, mean_estimates, number_or_none
from pipeline.report.measurements import Measurements, gather
from pipeline.report.pairs import paired
from pipeline.report.statistics import ALPHA, holm
from pipeline.run.differences import differences, frozen_part
from pipeline.run.reader import Run
from pipeline.run.revisions import measured_by

# Of a configuration: what is compared elsewhere, or says nothing of the results.
_ELSEWHERE = ("dataset", "model_label", "method_label", "fingerprint", "foreign")


@dataclass(frozen=True)
class Row:
    """A number of a method in both runs.

    Attributes:
        first, second: the means over the images that both runs have.
        difference: second minus first on these images.
        not_tested: why there is no verdict to be had; empty where there is one.
    """

    pair: Pair
    column: Column
    first: Estimate
    second: Estimate
    difference: Difference
    not_tested: str = ""


@dataclass(frozen=True)
class Option:
    """An option in which the configurations of one label differ: dotted name, value in either run, and the methods."""

    name: str
    first: Any
    second: Any
    methods: tuple[str, ...]


def rows_of(first: Run, second: Run, pairs: Sequence[Pair], common: Common) -> tuple[list[Row], list[str]]:
    """A row for each method and number that both runs have, and the numbers that only one of them has.

    Raises:
        UsageError: a file of a run is not there or cannot be read.
    """
    rows: list[tuple[Row, float]] = []
    lacking: list[str] = []
    for models in dict.fromkeys((pair.first_model, pair.second_model) for pair in pairs):
        measurements = gather(first, models[0], curves=False), gather(second, models[1], curves=False)
        chosen = [pair for pair in pairs if (pair.first_model, pair.second_model) == models]
        rows += _rows(measurements, chosen, common, _measured_otherwise(first, second, models))
        names = [{column.name for column in _present(each)} for each in measurements]
        shown = models[0] if models[0] == models[1] else " and ".join(models)
        for name, other, run in ((names[0], names[1], "A"), (names[1], names[0], "B")):
            lacking += [f"{shown}: {column} only in {run}" for column in sorted(name - other)]
    adjusted = holm(np.array([p for _, p in rows]))
    return [_judged(row, p) for (row, _), p in zip(rows, adjusted, strict=True)], lacking


def _rows(
    measurements: tuple[Measurements, Measurements], pairs: Sequence[Pair], common: Common, other: Mapping[str, str]
) -> list[tuple[Row, float]]:
    """The rows of a model, each with its own p-value; NaN where nothing is tested."""
    first, second = measurements
    by_name = {column.name: position for position, column in enumerate(second.columns)}
    result = []
    for pair in pairs:
        a, b = first.methods.index(pair.method), second.methods.index(pair.method)
        for position, column in enumerate(first.columns):
            if column.name not in by_name:
                continue
            values = np.stack(
                [
                    first.values.of_method(a, position)[common.first],
                    second.values.of_method(b, by_name[column.name])[common.second],
                ],
                axis=1,
            ).astype(np.float64)
            both = np.isfinite(values).all(axis=1)
            if both.any():
                result.append(_row(pair, column, values[both], other.get(column.name, "")))
    return result


def _row(pair: Pair, column: Column, values: np.ndarray, other: str) -> tuple[Row, float]:
    """A number on the images (N, 2) that both runs have."""
    share = column.share and bool(((values == 0) | (values == 1)).all())
    test = paired(values[:, [1]], values[:, [0]], np.array([share]))
    before, after = mean_estimates(values, np.array([column.share, column.share]))
    mean, low, high = (number_or_none(float(array[0])) for array in (test.mean, test.low, test.high))
    difference = Difference(mean, low, high, len(values))
    reason = other or _untested(column)
    return Row(pair, column, before, after, difference, reason), np.nan if reason else float(test.p[0])


def _untested(column: Column) -> str:
    if column.incomparable:
        return column.incomparable
    if not column.headline:
        return "a further number of its metric"
    return "" if column.sign else "neither way is better"


def _judged(row: Row, p: float) -> Row:
    """The row with its corrected p-value and the verdict that follows."""
    mean, verdict = row.difference.mean, ""
    if p <= ALPHA and mean:
        verdict = "better" if mean * row.column.sign > 0 else "worse"
    return replace(row, difference=replace(row.difference, p=number_or_none(p), verdict=verdict))


def _present(measurements: Measurements) -> list[Column]:
    holding = measurements.values.holding
    return [column for column, there in zip(measurements.columns, holding, strict=True) if there]


def _measured_otherwise(first: Run, second: Run, models: tuple[str, str]) -> dict[str, str]:
    """Column -> in which options of its metric the two runs differ."""
    settings = [_settings(run, model) for run, model in zip((first, second), models, strict=True)]
    titles = [
        {column.name: column.source.title for column in metric_columns(run, model)}
        for run, model in zip((first, second), models, strict=True)
    ]
    reasons = {}
    for name in titles[0].keys() & titles[1].keys():
        changed = differences(settings[0][titles[0][name]], settings[1][titles[1][name]])
        if changed:
            reasons[name] = f"measured with other options: {', '.join(field for field, _, _ in changed)}"
    return reasons


def _settings(run: Run, model: str) -> dict[str, Any]:
    """Title of each source of numbers -> the options and revision of its metric."""
    configs = [config for (owner, _), config in run.config.items() if owner == model]
    recorded: dict[str, Any] = {}
    for config in configs:
        recorded = {**measured_by(config), **recorded}
    for evaluation in run.evaluations:
        if evaluation.model == model:
            added = measured_by(evaluation.config)
            recorded |= {f"{name}@{evaluation.name}": settings for name, settings in added.items()}
    return {source.title: recorded.get(source.title, options) for source, options in sources(run, model).items()}


def options_of(first: Run, second: Run, pairs: Sequence[Pair]) -> list[Option]:
    """In which options the configurations of equal labels differ, in order of name."""
    options: dict[tuple[str, str, str], tuple[Any, Any, list[str]]] = {}
    for pair in pairs:
        configs = first.config[pair.first_model, pair.method], second.config[pair.second_model, pair.method]
        shared = configs[0].get("metrics", {}).keys() & configs[1].get("metrics", {}).keys()
        old, new = (_of_shared_metrics(config, shared) for config in configs)
        for name, before, after in differences(old, new):
            methods_of = options.setdefault((name, repr(before), repr(after)), (before, after, []))
            methods_of[2].append(pair.method)
    return [Option(name, a, b, tuple(methods)) for (name, _, _), (a, b, methods) in sorted(options.items())]


def _of_shared_metrics(config: Mapping[str, Any], shared: Collection[str]) -> dict[str, Any]:
    """What a configuration freezes, of metrics those that both runs have: others are listed by their numbers."""
    frozen = {name: value for name, value in frozen_part(config).items() if name not in _ELSEWHERE}
    revisions = dict(frozen.get("revisions", {}))
    for owner in (frozen, revisions):
        if "metrics" in owner:
            owner["metrics"] = {name: value for name, value in owner["metrics"].items() if name in shared}
    return {**frozen, "revisions": revisions}
