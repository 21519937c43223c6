"""The whole report as data: what the templates show and what `report.json` holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.accounts import Account, accounts
from pipeline.report.attributed import Coverage, coverage_of, coverage_sentence
from pipeline.report.classes import SHOWN_CLASSES, Classes, class_means
from pipeline.report.columns import Column
from pipeline.report.comparison import (
    Comparison,
    Estimate,
    Grouping,
    Lead,
    compare,
    mean_estimates,
)
from pipeline.report.curves import Curve, mean_curves
from pipeline.report.definitions import Definition, definitions
from pipeline.report.distributions import Distribution, distributions
from pipeline.report.effects import Effect, effects
from pipeline.report.effort import Cost, Effort, costs, efforts
from pipeline.report.findings import cautions, chance_alert, classes_of, correction, shortfalls, summary
from pipeline.report.gallery import Gallery, gallery
from pipeline.report.measurements import Failure, Measurements, gather, quarantine_rows
from pipeline.report.provenance import Provenance, data, network_input, network_warnings, provenance, versions
from pipeline.report.reference import is_control
from pipeline.report.statistics import ALPHA, CONFIDENCE, FEWEST
from pipeline.report.tradeoffs import Tradeoff, tradeoffs
from pipeline.report.verdict import verdict
from pipeline.report.whole import Whole, whole_numbers
from pipeline.run.reader import Run
from pipeline.shards.samples import Status
from ssig.registry import FAMILIES

REPORT_VERSION = 6
_STATISTICS = {
    "confidence": CONFIDENCE,
    "alpha": ALPHA,
    "fewest_images": FEWEST,
    "means": "studentised intervals; of shares Wilson's",
    "differences": "paired t intervals on the images that both methods have; of shares Newcombe's",
    "whole": "paired percentile bootstrap",
    "verdicts": "paired t, Holm over all methods and headline columns of a model",
    "leads": "better than each other method by paired t, Holm over the headline columns of a model",
    "ranks": "Holm over the pairs of a column, Bonferroni over the headline columns of a model",
    "groupings": "Friedman, Holm over the families of a model; Nemenyi's critical difference",
}


@dataclass(frozen=True)
class Quality:
    """How well the model does on the images that were attributed."""

    accuracy: Estimate
    probability: Estimate


@dataclass(frozen=True)
class ModelReport:
    """Everything about one model.

    Attributes:
        controls: the methods that explain nothing.
        alerts: what may be wrong with the network or the labels, one sentence each.
        network_input: what the network is given.
        verdict: who leads, in one sentence.
        cautions: what the few images behind some columns do not allow.
        shortfalls: of intervals of skewed columns.
        correction: what stands behind the verdicts.
        incomparable: column -> why methods are not ranked by it.
        classes: means by class; None where no image has a label.
        definitions: of every column that is shown.
    """

    model: str
    methods: tuple[str, ...]
    reference: str
    controls: tuple[str, ...]
    alerts: list[str]
    network_input: str
    images: int
    quality: Quality
    comparison: Comparison
    headlines: list[Column]
    further: list[Column]
    verdict: str
    summary: str
    cautions: list[str]
    shortfalls: str
    correction: str
    incomparable: dict[str, str]
    leads: list[Lead]
    effects: list[Effect]
    distributions: list[Distribution]
    groupings: tuple[Grouping, ...]
    accounts: list[Account]
    curves: list[Curve]
    efforts: list[Effort]
    tradeoffs: list[Tradeoff]
    wholes: list[Whole]
    costs: list[Cost]
    classes: Classes | None
    definitions: list[Definition]
    gallery: Gallery | None
    provenance: Provenance

    @property
    def others(self) -> tuple[str, ...]:
        """The methods that are compared with the reference."""
        return tuple(method for method in self.methods if method != self.reference)

    @property
    def families(self) -> dict[str, list[Column]]:
        """The headline columns by what they judge."""
        columns = {family: [column for column in self.headlines if column.family == family] for family in FAMILIES}
        return {family: members for family, members in columns.items() if members}


@dataclass(frozen=True)
class Report:
    """The report of a run; `reference`: the requested reference method, None for each model's first."""

    digest: str
    reference: str | None
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

    @property
    def coverage_sentence(self) -> str:
        """How many of the expected samples were attributed, and what became of the others."""
        return coverage_sentence(self.coverage)


def contents(run: Run, reference: str | None = None) -> Report:
    """Everything that the report of `run` says, with methods compared with `reference` where a model has it."""
    coverage: list[Coverage] = []
    failures: list[Failure] = []
    models: list[ModelReport] = []
    for model in dict.fromkeys(model for model, _ in run.config):
        measurements = gather(run, model, reference)
        coverage += [coverage_of(measurements, method) for method in measurements.methods]
        failures += measurements.failures
        models.append(_model(run, measurements, reference))
        del measurements  # its file, before the next model has one
    statuses = {status for row in coverage for status in row.statuses}
    return Report(
        digest=run.digest,
        reference=reference,
        root=run.root,
        expected=len(run.expected),
        statuses=tuple(
            status for status in (*Status, *sorted(statuses - set(Status))) if status in statuses | {Status.OK}
        ),
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
        "reference": report.reference,
        "statistics": _STATISTICS,
        **{
            name: _plain(getattr(report, name))
            for name in ("root", "expected", "complete", "coverage_sentence", "coverage", "failures", "quarantine")
        },
        "models": [_model_json(model) for model in report.models],
        **{name: _plain(getattr(report, name)) for name in ("data", "shards", "versions")},
    }


def _model(run: Run, measurements: Measurements, requested: str | None) -> ModelReport:
    comparison = compare(measurements)
    headlines = [measurements.columns[index] for index in measurements.headlines]
    further = [measurements.columns[index] for index in measurements.further]
    quality = _quality(measurements)
    config = run.config[measurements.model, measurements.reference]
    wholes = whole_numbers(run, measurements)
    alert = chance_alert(quality.accuracy, classes_of(config))
    spent = efforts(run, measurements)
    controls = tuple(method for method in measurements.methods if is_control(run, measurements.model, method))
    return ModelReport(
        model=measurements.model,
        methods=measurements.methods,
        reference=measurements.reference,
        controls=controls,
        alerts=[*([alert] if alert else []), *network_warnings(config)],
        network_input=network_input(config),
        images=max(statuses.get(Status.OK, 0) for statuses in measurements.statuses.values()),
        quality=quality,
        comparison=comparison,
        headlines=headlines,
        further=further,
        verdict=verdict(comparison),
        summary=summary(comparison),
        cautions=cautions(headlines, comparison.means),
        shortfalls=shortfalls([*headlines, *further], comparison.means),
        correction=correction(comparison),
        incomparable={column.name: column.incomparable for column in (*headlines, *further) if column.incomparable},
        leads=list(comparison.leads.values()),
        effects=effects(measurements, comparison.leads, controls),
        distributions=distributions(measurements),
        groupings=comparison.groupings,
        accounts=accounts(measurements),
        curves=mean_curves(run, measurements),
        efforts=spent,
        tradeoffs=tradeoffs(headlines, comparison.means, spent),
        wholes=wholes,
        costs=costs(run, measurements),
        classes=class_means(measurements, config.get("categories", [])),
        definitions=definitions(run, measurements.model, [*headlines, *further], wholes),
        gallery=gallery(run, measurements),
        provenance=provenance(run, measurements.model, requested),
    )


def _quality(measurements: Measurements) -> Quality:
    labelled = (measurements.label >= 0) & (measurements.predicted >= 0)
    correct = np.full(labelled.shape, np.nan, np.float32)
    correct[labelled] = (measurements.label == measurements.predicted)[labelled]
    (accuracy,) = mean_estimates(correct[:, None], shares=np.array([True]))
    (probability,) = mean_estimates(measurements.probability[:, None])
    return Quality(accuracy, probability)


def _model_json(model: ModelReport) -> dict[str, Any]:
    fields = (
        *("model", "methods", "reference", "controls", "alerts", "network_input", "images", "quality", "verdict"),
        *("summary", "cautions", "shortfalls", "correction", "incomparable", "leads", "effects", "groupings"),
        *("accounts", "efforts", "wholes", "costs", "definitions"),
    )
    shown = model.gallery
    return {
        **{name: _plain(getattr(model, name)) for name in fields},
        "columns": _plain([*model.headlines, *model.further]),
        "means": _plain(model.comparison.means),
        "differences": _plain(model.comparison.differences),
        "classes": None if model.classes is None else _classes_json(model.classes),
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


def _classes_json(classes: Classes) -> dict[str, Any]:
    """The classes that the page shows; `tables/classes.csv` has all."""
    return {"count": classes.count, "largest": classes.largest, "rows": _plain(classes.rows[:SHOWN_CLASSES])}


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, all the way down."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
