"""What the results of a label depend on besides its options: revisions of the code, versions, the machine.

The fingerprint of a label is the SHA-256 of all that changes its results: data, seed, model with its weights, method
with its options, metrics with theirs, and how maps are stored. Actors, paths and log levels stay out.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.run.described import origin_of
from ssig.models import PREPARATION_REVISION
from ssig.registry import METHODS, METRICS

VERSIONED = ("ssig", "torch", "torchvision", "timm", "numpy", "pyarrow", "ray", "webdataset", "Pillow")


def versions() -> dict[str, str]:
    """Versions of the packages that results may depend on."""
    installed = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed as a package"
    return installed


def machine() -> Mapping[str, Any]:
    """Where the driver runs, for the record."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}


def revisions(method: str | None, metrics: Iterable[str]) -> dict[str, Any]:
    """The revisions of the network's preparation, of metrics, and of a method unless it is None."""
    shared: dict[str, Any] = {
        "preparation": PREPARATION_REVISION,
        "metrics": {name: METRICS[name].revision for name in metrics},
    }
    return shared if method is None else {"method": METHODS[method].revision, **shared}


def is_current(config: Mapping[str, Any]) -> bool:
    """Whether this version gives a label equal results: it has the recorded revisions of all that the label needs."""
    method, metrics = config["method"], config["metrics"]
    of_methods = {method["name"]: method.get("origin"), **method.get("base_origins", {})}
    same_sources = all(METHODS.agrees(name, origin) for name, origin in of_methods.items()) and all(
        METRICS.agrees(name, origin_of(config, name)) for name in metrics
    )
    return same_sources and revisions_of(config) == revisions(method["name"], metrics)


def revisions_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The revisions that a configuration records; what it does not record is 0."""
    recorded = config.get("revisions", {})
    metrics = {name: recorded.get("metrics", {}).get(name, 0) for name in config["metrics"]}
    whole = {"preparation": recorded.get("preparation", 0), "metrics": metrics}
    return {"method": recorded.get("method", 0), **whole} if "method" in config else whole


def measured_by(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each metric of a configuration with its options, revision and origin: equal ones may be compared."""
    metric_revisions = revisions_of(config)["metrics"]
    return {
        name: {**options, "revision": metric_revisions[name], "origin": origin_of(config, name)}
        for name, options in config["metrics"].items()
    }
