"""Values for options that records of earlier versions lack.

An option that was added later gets the value that keeps the earlier behaviour. So an earlier run is described, and
resumed, as it was made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.run.labels import Label
from ssig.registry import METHODS, METRICS

# For methods and metrics: option -> the value that keeps the behaviour from before the option existed. It holds for
# every method or metric with an option of this name.
BEFORE: Mapping[str, Mapping[str, Any]] = {
    "methods": {"map_tolerance": 0.0},
    "metrics": {"ties": "raster"},
}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A label's configuration, or an evaluation's, in which every option has a value."""
    complete = dict(config)
    if "metrics" in config:
        complete["metrics"] = {name: _all("metrics", name, options) for name, options in config["metrics"].items()}
    method = config.get("method")
    if method is not None and "options" in method:
        complete["method"] = {**method, "options": _all("methods", method.get("name"), method["options"])}
    return complete


def with_all_options(label: Label) -> Label:
    """The label with a value for each option, also for those that were added after it was recorded."""
    return dataclasses.replace(label, config=completed(label.config))


def _all(kind: str, name: str | None, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded options of a method or metric, and those that were added after its record."""
    added = option_names(kind, name) - recorded.keys()
    return {**recorded, **{option: value for option, value in BEFORE[kind].items() if option in added}}


def option_names(kind: str, name: str | None) -> frozenset[str]:
    """The options that a method or metric has now and that are always recorded; none of an unknown one."""
    registry: Any = METHODS if kind == "methods" else METRICS
    if name not in registry:
        return frozenset()
    fields = dataclasses.fields(registry[name].options)
    return frozenset(field.name for field in fields if not field.metadata.get("quiet"))
