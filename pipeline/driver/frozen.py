"""What is frozen when a run starts: `run.json`, and the configuration of each label."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline.job.choices import MethodChoice, descriptions, method_config, metrics_config
from pipeline.job.configuration import Job
from pipeline.run.described import FOREIGN
from pipeline.run.labels import Label
from pipeline.run.records import checksum, fingerprint_of, revisions, versions
from pipeline.shards.manifest import Manifest
from pipeline.storage.fields import SCHEMA_VERSION


def run_record(job: Job, manifest: Manifest) -> dict[str, Any]:
    """The content of `run.json`."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "layout": [],
        "dataset": {
            "shards": [
                {"name": s.name, "url": s.url, "size": s.size, "version": s.version, "sha256": s.sha256}
                for s in manifest.shards
            ],
            "samples": len(manifest),
            "limit": job.dataset.limit,
            "manifest_hash": manifest.hash,
            "manifest_file": manifest.file_hash,
        },
        "seed": job.seed,
        "unit_size": job.known_unit_size,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    return {**record, "checksum": checksum(record)}


def label_config(
    job: Job,
    choice: MethodChoice,
    manifest_hash: str,
    model: Mapping[str, Any],
    recorded: Mapping[str, Any],
) -> Label:
    """The configuration of one label.

    Args:
        job: the job.
        choice: the method.
        manifest_hash: identity of the data.
        model: name, weights hash, geometry, … of the loaded network: what changes results.
        recorded: what changes none: `categories`, `machine`, `position`, `batch`, ….
    """
    frozen: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model_label": job.model_label,
        "method_label": choice.title,
        "dataset": {"manifest_hash": manifest_hash},
        "seed": job.seed,
        "model": {**model, "score": job.model.score, "target": job.model.target},
        "method": method_config(choice),
        "metrics": metrics_config(job.metrics),
        "revisions": revisions(choice.name, [metric.name for metric in job.metrics]),
        "maps": job.output.maps,
        "channels": job.output.channels,
    }
    if foreign := descriptions(job.metrics):
        frozen[FOREIGN] = foreign
    fingerprint = fingerprint_of(frozen)
    columns = [metric.name for metric in job.metrics]
    config = {**frozen, "fingerprint": fingerprint, "columns": columns, **recorded}
    return Label(job.model_label, choice.title, config)
