"""The records of a run: `run.json`, frozen with the manifest, and what all its JSON files have in common.

The fingerprint of a label is the SHA-256 of all that changes its results: data, seed, model with its weights, method
with its options, metrics with theirs, and how maps are stored. Actors, paths and log levels stay out.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.run.described import origin_of
from pipeline.run.layout import MANIFEST, RUN
from pipeline.run.schema import unreadable
from pipeline.shards import manifest as manifests
from pipeline.shards.manifest import Manifest
from pipeline.storage.base import Storage
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.jsontext import to_json
from ssig.errors import SsigError, UsageError
from ssig.models import PREPARATION_REVISION
from ssig.registry import METHODS, METRICS

VERSIONED = ("ssig", "torch", "torchvision", "timm", "numpy", "pyarrow", "ray", "webdataset", "Pillow")


class RefusedError(SsigError):
    """A run directory that belongs to something else; the message lists each field that differs."""


def revisions(method: str | None, metrics: Iterable[str]) -> dict[str, Any]:
    """The revisions of what measures: of the network's preparation, of metrics, and of a method unless it is None."""
    found: dict[str, Any] = {
        "preparation": PREPARATION_REVISION,
        "metrics": {name: METRICS[name].revision for name in metrics},
    }
    return found if method is None else {"method": METHODS[method].revision, **found}


def is_current(config: Mapping[str, Any]) -> bool:
    """Whether this version would go on with a label as it began: it has the same revisions of all that it needs."""
    method, metrics = config["method"], config["metrics"]
    known = METHODS.agrees(method["name"], method.get("origin")) and all(
        METRICS.agrees(name, origin_of(config, name)) for name in metrics
    )
    return known and revisions_of(config) == revisions(method["name"], metrics)


def revisions_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The revisions that a configuration records; what it does not record is 0."""
    found = config.get("revisions", {})
    metrics = {name: found.get("metrics", {}).get(name, 0) for name in config["metrics"]}
    whole = {"preparation": found.get("preparation", 0), "metrics": metrics}
    return {"method": found.get("method", 0), **whole} if "method" in config else whole


def measured_by(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each metric of a configuration with its options, revision and origin: equal ones may be compared."""
    found = revisions_of(config)["metrics"]
    return {
        name: {**options, "revision": found[name], "origin": origin_of(config, name)}
        for name, options in config["metrics"].items()
    }


def read_run(storage: Storage) -> dict[str, Any] | None:
    """`run.json`, or None where there is none.

    Raises:
        RefusedError: a newer schema, or not ours.
    """
    if storage.entry(RUN) is None:
        return None
    record = read_json(storage, RUN)
    if "schema_version" not in record:
        raise RefusedError(f"{storage.root}/{RUN}: no field 'schema_version'; this is no run of ours")
    if (fault := unreadable(record)) is not None:
        raise RefusedError(f"{storage.root}/{RUN}: {fault}")
    return record


def refuse_earlier(storage: Storage, record: Mapping[str, Any]) -> None:
    """Refuses to work on a run of an earlier schema, which is read and not added to.

    Raises:
        RefusedError: it is one.
    """
    if record["schema_version"] != SCHEMA_VERSION:
        raise RefusedError(
            f"{storage.root} is a run of ssig 0.1.0 (schema_version {record['schema_version']}), which this version "
            "reads and does not add to: finish it with ssig 0.1.0, or choose a new output path"
        )


def open_run_record(storage: Storage) -> dict[str, Any]:
    """`run.json` of a directory that must be a run.

    Raises:
        UsageError: there is no run.
    """
    record = read_run(storage)
    if record is None:
        raise UsageError("run", storage.root, "a run directory, one that holds run.json")
    return record


def read_json(storage: Storage, name: str) -> dict[str, Any]:
    """A JSON object of the run.

    Raises:
        RefusedError: it does not parse.
    """
    try:
        value = json.loads(storage.read(name))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RefusedError(f"{storage.root}/{name}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise RefusedError(f"{storage.root}/{name}: not a JSON object")
    return value


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value."""
    return to_json(value, compact=True).encode()


def checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of all that a record says but for its own `checksum`: what an accident to the file would change."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k != "checksum"})).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what results may depend on."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def run_manifest(storage: Storage) -> Manifest:
    """The manifest of a directory that must be a run.

    Raises:
        RefusedError: there is none.
        UsageError: it is damaged.
    """
    try:
        return manifests.load(storage)
    except FileNotFoundError:
        raise RefusedError(f"{storage.root}: no {MANIFEST}, so nobody knows what belongs to the run") from None


def machine() -> Mapping[str, Any]:
    """Where the driver runs, for the record."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}
