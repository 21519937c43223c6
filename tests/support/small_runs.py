"""Jobs worked off in this process, without Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.driver.admission import check_labels, check_output, job_labels, record_labels, record_run
from pipeline.driver.listing import list_all
from pipeline.driver.remaining import units_to_do, whole_batches
from pipeline.job.configuration import Job
from pipeline.run.directory import RunDirectory
from pipeline.shards.patterns import expand
from pipeline.shards.samples import Poison
from pipeline.storage import open_storage
from pipeline.unit.messages import Task
from pipeline.unit.worker import Worker
from ssig.acceleration.ready_replica import ready_replica
from ssig.models import load_model


def do_units(
    job: Job,
    limit: int | None = None,
    device: str = "cpu",
    poison: Mapping[str, Mapping[int, Poison]] | None = None,
) -> Path:
    """Plans a job as the driver does, works its first `limit` units off on a device and returns the run's folder.

    `poison`: unit -> its samples that are kept from the network.
    """
    directory = RunDirectory(open_storage(job.output.path))
    shards = expand(job.dataset.shards, Path.cwd())
    data = check_output(job, directory, shards) or record_run(job, directory, shards)
    manifest = directory.manifest if directory.is_sealed else list_all(directory)
    model = load_model(job.model.name, job.model.weights, device=device, **job.model.input_options)
    labels = check_labels(directory, job_labels(job, data.known_by, model))
    record_labels(directory, labels)
    replica = ready_replica(model, micro_batch=4)
    worker = Worker(replica, {label.method: label for label in labels}, directory.root, job.seed)
    urls = {shard.name: shard.url for shard in manifest.shards}
    for number, work in enumerate(units_to_do(directory, labels)[:limit]):
        rows = tuple(manifest.rows(work.unit))
        attempt = f"test-{os.getpid()}-{number}"
        batches = whole_batches(directory.batches(labels), work.labels)
        kept_away = (poison or {}).get(work.unit, {})
        worker.process(Task(work.unit, urls[rows[0].shard], rows, work.labels, attempt, kept_away, batches=batches))
    worker.close()
    return Path(directory.root)
