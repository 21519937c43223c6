"""`attribute`: a whole job, from its checks to its report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pipeline.driver.admission import (
    check_labels,
    check_output,
    check_report,
    check_target,
    job_labels,
    record_labels,
    record_run,
)
from pipeline.driver.campaign import Campaign, Plan
from pipeline.driver.compacting import compact_finished
from pipeline.driver.ending import Summary, finish
from pipeline.driver.listing import what_is_left
from pipeline.driver.networks import load_network, try_methods
from pipeline.driver.own_data import find_shards
from pipeline.driver.place import Place
from pipeline.driver.progress import Listener, Progress, silent
from pipeline.driver.remaining import units_to_do
from pipeline.driver.unit_size import measured_unit_size
from pipeline.job.configuration import Job
from pipeline.run.compaction import settle_all
from pipeline.run.deletion import forget_failed
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease
from pipeline.run.records import DatasetRecord
from pipeline.shards.classes import check_classes
from pipeline.shards.surveying import check_readable, survey_and_keep
from pipeline.storage import fault_points, open_storage
from ssig.models import Model


def attribute(
    job: Job, listener: Listener = silent, *, retry_failed: bool = False, trust_shards: bool = False
) -> Summary:
    """Runs or resumes a job and writes its report.

    Args:
        job: the validated job.
        listener: receives progress.
        retry_failed: do units that hold failed rows again.
        trust_shards: take shards of equal size for those that were recorded, where no hash can tell.

    Raises:
        UsageError, ModelError, RefusedError, LeaseHeldError: before any work; nothing of the run has changed.
        RunError: the run could not go on.
    """
    fault_points.point("driver-started", job.output.path)
    progress = Progress()
    directory = RunDirectory(open_storage(job.output.path))
    shards, unpacked = find_shards(job, listener, progress)
    data = check_output(job, directory, shards, trusted=trust_shards)
    check_report(job, directory)
    if data is None and unpacked is None:
        check_readable(shards)
    chosen = job.model
    model = load_network(chosen.name, chosen.weights, chosen.precision, listener, progress, **chosen.input_options)
    check_target(job, model)
    if unpacked is not None:
        try_methods(job, directory.storage, model)
        unpacked.pack(model, listener, progress)
    for note in check_classes(shards, model.categories, by_label=job.model.target == "label"):
        listener(progress, note)
    if data is not None:
        labels = check_labels(directory, job_labels(job, data.known_by, model))
        if directory.is_sealed and not retry_failed and not units_to_do(directory, labels):
            record_labels(directory, labels)
            compact_finished(directory, job.output.compact, listener, progress)
            return finish(directory, labels, listener, progress, reference=job.report.reference)
    if unpacked is None:
        progress.phase = "trying the methods"
        listener(progress, None)
        try_methods(job, directory.storage, model)

    def plan(lease: Lease, place: Place) -> Plan:
        directory.refresh()  # another driver may have begun since it was looked at
        settle_all(directory, lease)
        data = check_output(job, directory, shards, trusted=trust_shards)
        if data is None:
            data = _begun(job, model, directory, shards, place, listener, progress)
            progress.phase = "listing the shards"
            listener(progress, None)
        labels = check_labels(directory, job_labels(job, data.known_by, model))
        record_labels(directory, labels)
        if retry_failed:
            forget_failed(directory, labels, lease)
        works = units_to_do(directory, labels)
        listing = what_is_left(directory, labels, lease, partial(listener, progress), trusted=trust_shards)
        return Plan(labels, works, listing)

    reference, choice = job.report.reference, job.output.compact
    return Campaign(directory, model, job.seed, job.actors, listener, progress, reference, choice).run(plan)


def _begun(
    job: Job,
    model: Model,
    directory: RunDirectory,
    shards: Sequence[str],
    place: Place,
    listener: Listener,
    progress: Progress,
) -> DatasetRecord:
    """Records a new run; the size of its units is measured where the job leaves it open."""
    by = survey_and_keep()
    if job.unit_size == "auto":
        progress.phase = "measuring the size of units"
        listener(progress, None)
        labels = job_labels(job, {"manifest_hash": None}, model)
        size = measured_unit_size(job, model, labels, shards, place, partial(listener, progress), by)
        job = job.model_copy(update={"unit_size": size})
    return record_run(job, directory, shards, by)
