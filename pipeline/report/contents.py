"""The whole report as data: what the templates show and what `report.json` holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.records import Status
from pipeline.report.comparison import Comparison, Estimate, Kept, Lead, accounts, compare, estimate_columns
from pipeline.report.curves import Curve, mean_curves
from pipeline.report.effort import Cost, Effort, costs, efforts
from pipeline.report.findings import summary
from pipeline.report.gallery import Gallery, gallery
from pipeline.report.measurements import Column, Failure, Measurements, gather, quarantine_rows
from pipeline.report.provenance import Provenance, data, provenance, versions
from pipeline.report.whole import Whole, whole_numbers
from pipeline.results import Run
from pipeline.statistics import CONFIDENCE, RESAMPLES, bootstrap
from ssig.registry import FAMILIES

REPORT_VERSION = 4


@dataclass(frozen=True)
class Coverage:
    """What became of every expected sample under one model and method: expected = sum of statuses + not done."""

    model: str
    method: str
    expected: int
    statuses: dict[str, int]
    not_done: int


@dataclass(frozen=True)
class Quality:
    """How well the model does on the images that were attributed."""

    accuracy: Estimate
    probability: Estimate


@dataclass(frozen=True)
class ModelReport:
    """Everything about one model."""

    model: str
    methods: tuple[str, ...]
    images: int
    quality: Quality
    comparison: Comparison
    headlines: list[Column]
    further: list[Column]
    summary: str
    leads: list[Lead]
    accounts: list[Kept]
    curves: list[Curve]
    efforts: list[Effort]
    wholes: list[Whole]
    costs: list[Cost]
    gallery: Gallery | None
    provenance: Provenance

    @property
    def reference(self) -> str:
        return self.methods[0]

    @property
    def families(self) -> dict[str, list[Column]]:
        """The headline columns by what they judge."""
        columns = {family: [one for one in self.headlines if one.family == family] for family in FAMILIES}
        return {family: members for family, members in columns.items() if members}


@dataclass(frozen=True)
class Report:
    """The report of a run."""

    digest: str
    root: str
    expected: int
    statuses: tuple[str, ...]
    coverage: list[Coverage]
    failures: list[Failure]
    quarantine: list[dict[str, Any]]
    models: list[ModelReport]
    data: dict[str, str]
    shards: list[dict[str, Any]]
    versions: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether every expected sample has its numbers, under every model and method."""
        return all(row.statuses.get(Status.OK, 0) == row.expected for row in self.coverage)


def contents(run: Run) -> Report:
    """Everything that the report of `run` says."""
    coverage: list[Coverage] = []
    failures: list[Failure] = []
    models: list[ModelReport] = []
    for model in dict.fromkeys(model for model, _ in run.config):
        found = gather(run, model)
        coverage += [_coverage(found, method) for method in found.methods]
        failures += found.failures
        models.append(_model(run, found))
    seen = {status for row in coverage for status in row.statuses}
    return Report(
        digest=run.digest,
        root=run.root,
        expected=run.manifest.num_rows,
        statuses=tuple(status for status in (*Status, *sorted(seen - set(Status))) if status in seen | {Status.OK}),
        coverage=coverage,
        failures=failures,
        quarantine=quarantine_rows(run),
        models=models,
        data=data(run),
        shards=run.document.get("dataset", {}).get("shards", []),
        versions=versions(run),
    )


def as_json(report: Report) -> dict[str, Any]:
    """The report's numbers; pictures are left to the page."""
    return {
        "schema_version": REPORT_VERSION,
        "digest": report.digest,
        "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE, "interval": "paired percentile"},
        **{
            name: _plain(getattr(report, name))
            for name in ("root", "expected", "complete", "coverage", "failures", "quarantine")
        },
        "models": [_model_json(model) for model in report.models],
        **{name: _plain(getattr(report, name)) for name in ("data", "shards", "versions")},
    }


def _coverage(found: Measurements, method: str) -> Coverage:
    statuses = found.statuses[method]
    return Coverage(found.model, method, found.expected, dict(statuses), found.expected - statuses.total())


def _model(run: Run, found: Measurements) -> ModelReport:
    comparison = compare(found)
    headlines = [found.columns[index] for index in found.headlines]
    leads = [comparison.leads[column.name] for column in headlines if column.name in comparison.leads]
    return ModelReport(
        model=found.model,
        methods=found.methods,
        images=max(statuses.get(Status.OK, 0) for statuses in found.statuses.values()),
        quality=_quality(found),
        comparison=comparison,
        headlines=headlines,
        further=[found.columns[index] for index in found.further],
        summary=summary(comparison, leads),
        leads=leads,
        accounts=accounts(found),
        curves=mean_curves(run, found),
        efforts=efforts(run, found),
        wholes=whole_numbers(run, found),
        costs=costs(run, found),
        gallery=gallery(run, found),
        provenance=provenance(run, found.model),
    )


def _quality(found: Measurements) -> Quality:
    labelled = (found.label >= 0) & (found.predicted >= 0)
    correct = np.where(labelled, found.label == found.predicted, np.nan)
    accuracy, probability = estimate_columns(bootstrap(np.stack([correct, found.probability], axis=1)))
    return Quality(accuracy, probability)


def _model_json(model: ModelReport) -> dict[str, Any]:
    fields = (
        *("model", "methods", "reference", "images", "quality", "summary", "leads", "accounts", "efforts"),
        *("wholes", "costs"),
    )
    shown = model.gallery
    return {
        **{name: _plain(getattr(model, name)) for name in fields},
        "columns": _plain([*model.headlines, *model.further]),
        "means": _plain(model.comparison.means),
        "differences": _plain(model.comparison.differences),
        "curves": _plain(model.curves),
        "gallery": None
        if shown is None
        else {
            "column": shown.column,
            "images": [
                {"rank": item.rank, "shard": item.shard, "index": item.index, "key": item.key}
                for item in shown.exhibits
            ],
        },
        "provenance": _plain(model.provenance),
    }


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, all the way down."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
