"""The method that all others are compared with: the requested one, else the first that is no control.

The report records the request, so that later reports keep it until another method is requested.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pipeline.run.layout import REPORT_RECORD
from pipeline.run.reader import Run
from pipeline.storage.base import Storage
from ssig.errors import UsageError
from ssig.registry import METHODS


def ordered_methods(run: Run, model: str) -> tuple[str, ...]:
    """The method labels of a model in the user's order; those that record no position follow, by name."""
    positions = {method: config.get("position") for (owner, method), config in run.config.items() if owner == model}
    recorded = {method: position for method, position in positions.items() if type(position) is int}
    return tuple(sorted(positions, key=lambda method: (method not in recorded, recorded.get(method, 0), method)))


def reference_method(run: Run, model: str, requested: str | None = None) -> str:
    """The label that a model's other methods are compared with: `requested`, where the model has it, else the first
    method that is no control, else the first."""
    labels = ordered_methods(run, model)
    if requested in labels:
        return str(requested)
    return next((label for label in labels if not is_control(run, model, label)), labels[0])


def requested_reference(run: Run, requested: str | None) -> str | None:
    """The requested label: `requested`, else the one that the run's report records, else None.

    Raises:
        UsageError: no method of the run has the label `requested`.
    """
    models = dict.fromkeys(model for model, _ in run.config)
    labels = [method for model in models for method in ordered_methods(run, model)]
    if requested is not None:
        check_reference("--reference", requested, labels)
        return requested
    recorded = report_record(run.storage).get("reference")
    return recorded if recorded in labels else None


def check_reference(field: str, reference: str, labels: Iterable[str]) -> None:
    """Raises a `UsageError` that names `field` unless `reference` is one of the `labels`."""
    methods: Sequence[str] = list(dict.fromkeys(labels))
    if reference not in methods:
        raise UsageError(field, reference, methods)


def report_record(storage: Storage) -> dict[str, object]:
    """What `report.json` holds; nothing where there is none that can be read."""
    if storage.entry(REPORT_RECORD) is None:
        return {}
    try:
        record = json.loads(storage.read(REPORT_RECORD))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def is_control(run: Run, model: str, label: str) -> bool:
    """Whether a method explains nothing: what a number means is read against it."""
    method = run.config[model, label].get("method", {})
    if "origin" in method:
        return bool(method.get("control"))
    name = method.get("name")
    return name in METHODS.names() and METHODS[name].control
