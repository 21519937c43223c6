"""What is frozen when a run starts: `run.json`, and the configuration of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pipeline.job.choices import MethodChoice, descriptions, method_config, metrics_config
from pipeline.job.configuration import Job
from pipeline.run.canonical import checksum, fingerprint_of
from pipeline.run.described import FOREIGN
from pipeline.run.forms import BATCH_COMMITS, SEALED_LATER
from pipeline.run.labels import Label
from pipeline.run.manifest_parts import identity_of
from pipeline.run.revisions import revisions, versions
from pipeline.shards.survey import ShardRecord
from pipeline.storage.fields import SCHEMA_VERSION


def run_record(job: Job, shards: Sequence[ShardRecord]) -> dict[str, Any]:
    """The content of `run.json`; which samples the shards have is added when they are listed.

    Args:
        job: the job.
        shards: all that it names, as they are now.
    """
    record = {
        "schema_version": SCHEMA_VERSION,
        "layout": [BATCH_COMMITS, SEALED_LATER],
        "dataset": {
            "shards": [asdict(shard) for shard in shards],
            "samples": None,
            "limit": job.dataset.limit,
            "manifest_hash": None,
            "identity": identity_of(shards, job.dataset.limit),
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
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    recorded: Mapping[str, Any],
) -> Label:
    """The configuration of one label.

    Args:
        job: the job.
        choice: the method.
        data: identity of the data, as `DatasetRecord.known_by` gives it.
        model: name, weights hash, geometry, … of the loaded network: what changes results.
        recorded: what changes none: `categories`, `machine`, `position`, `batch`, ….
    """
    frozen: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model_label": job.model_label,
        "method_label": choice.title,
        "dataset": dict(data),
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
