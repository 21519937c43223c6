"""`ssig plan`: from a job to what it will cost. Nothing is written into the output path."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.driver.admission import check_labels, check_output, check_report, check_target, job_labels
from pipeline.driver.jemalloc import preloaded
from pipeline.driver.networks import load_network, try_methods
from pipeline.driver.own_data import Unpacked, find_shards
from pipeline.driver.progress import Listener, Progress
from pipeline.driver.this_machine import Device, device_here
from pipeline.driver.worker_setup import worker_setup
from pipeline.job.configuration import Job
from pipeline.plan.device import Probed, ProbeError, Processes, probe_here, probe_with
from pipeline.plan.estimate import Estimate, Terms, estimate
from pipeline.plan.files import joined, output_of, schemas, tensor_bytes
from pipeline.plan.probe import SECONDS, probe_data
from pipeline.plan.samples import Samples, limited, of_manifest, samples_of
from pipeline.plan.unit_size import chosen_size, image_bytes, is_measured
from pipeline.plan.work import job_work
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.shards.classes import check_classes
from pipeline.shards.own_data import numbered
from pipeline.shards.pack import SHARD_SIZE, Packing
from pipeline.shards.surveying import Surveyor, survey_and_keep
from pipeline.storage import open_storage
from ssig.errors import UsageError, one_line
from ssig.models import Model

# Of a run that is still to begin.
UNKNOWN_DATA: Mapping[str, Any] = {"manifest_hash": None}
_FEW = 64  # images that are packed for a probe


@dataclass(frozen=True)
class Wishes:
    """What a plan should assume.

    Attributes:
        probe: whether the device of this machine is measured.
        rate: gradients a second of a device, in place of a probe.
        devices: that share the work.
        price: of a device for an hour.
        seconds: that the timed images of the probe should take.
        trust_shards: whether shards of equal size are taken for those of a run that has begun, where no hash can tell.
    """

    probe: bool = True
    rate: float | None = None
    devices: int = 1
    price: float | None = None
    seconds: float = SECONDS
    trust_shards: bool = False


@dataclass(frozen=True)
class _Case:
    """A job, with what was found of it.

    Attributes:
        job: the job.
        wishes: what to assume.
        directory: the output path.
        begun: whether there is a run.
        shards: of the job.
        unpacked: images that are still to be packed into them.
        model: the network.
        labels: of the job's methods, as recorded where they are.
        by: surveys a shard.
    """

    job: Job
    wishes: Wishes
    directory: RunDirectory
    begun: bool
    shards: Sequence[str]
    unpacked: Unpacked | None
    model: Model
    labels: Sequence[Label]
    by: Surveyor = field(default_factory=survey_and_keep)


def plan_job(job: Job, wishes: Wishes, listener: Listener) -> Estimate:
    """What a job will cost, or what is left of one that has begun.

    Args:
        job: the validated job.
        wishes: what to assume.
        listener: receives progress.

    Raises:
        UsageError, ModelError, RefusedError: what `attribute` would refuse.
        OSError: a shard cannot be read.
    """
    progress = Progress()

    def tell(phase: str) -> None:
        progress.phase = phase
        listener(progress, None)

    case = _case(job, wishes, listener, progress)
    tell("counting the samples")
    samples = _samples(case)
    tell("trying the methods")
    try_methods(job, case.directory.storage, case.model)
    probed, device, notes = _probed(case, tell)
    tables = schemas(
        [metric.spec for metric in job.metrics], case.model.input_size, job.output.maps, job.output.channels
    )
    size = _unit_size(case, samples, probed, tensor_bytes(tables[ATTRIBUTIONS]))
    left, units = _left(case, samples, size)
    terms = Terms(
        run=job.output.path,
        samples=samples.total,
        exact=samples.exact,
        unit_size=size,
        units=samples.units(size),
        left=left,
        devices=wishes.devices,
        price=wishes.price,
        rate=wishes.rate,
    )
    measured = {} if probed is None else {name: cost.table_bytes for name, cost in probed.labels.items()}
    outputs = [output_of(tables, units[name], left[name], measured.get(name)) for name in left]
    output = joined(outputs, commits=max(units.values()))
    works = job_work(job.methods, job.metrics, job.model.score)
    counted = [work.label for work in works if work.counted or work.counts_forwards]
    if counted:
        notes.append(f"work: {', '.join(counted)} is counted during a run; what is unknown of it is not in the sums")
    return estimate(terms, works, output, probed, [*notes, *_limits(case, samples, probed, device, size)])


def _case(job: Job, wishes: Wishes, listener: Listener, progress: Progress) -> _Case:
    """Checks the job as `attribute` does, without writing."""
    directory = RunDirectory(open_storage(job.output.path))
    shards, unpacked = find_shards(job, listener, progress)
    data = check_output(job, directory, shards, trusted=wishes.trust_shards)
    check_report(job, directory)
    chosen = job.model
    model = load_network(chosen.name, chosen.weights, chosen.precision, listener, progress, **chosen.input_options)
    check_target(job, model)
    if unpacked is None:
        for note in check_classes(shards, model.categories, by_label=chosen.target == "label"):
            listener(progress, note)
    labels = job_labels(job, UNKNOWN_DATA if data is None else data.known_by, model)
    if data is not None:
        asked = {label.method for label in labels}
        labels = [label for label in check_labels(directory, labels) if label.method in asked]
    return _Case(job, wishes, directory, data is not None, shards, unpacked, model, labels)


def _samples(case: _Case) -> Samples:
    if case.begun and case.directory.is_sealed:
        return of_manifest(case.directory.manifest)
    limit = case.job.dataset.limit
    if case.unpacked is None:
        return samples_of(case.shards, limit, case.directory.manifest if case.begun else None, case.by)
    count = len(case.unpacked.gathered.items)
    whole = [min(SHARD_SIZE, count - start) for start in range(0, count, SHARD_SIZE)]
    return limited(whole, limit, exact=True)


def _probed(case: _Case, tell: Callable[[str], None]) -> tuple[Probed | None, Device | None, list[str]]:
    """What the device of this machine does, the device, and why there is no probe where there is none."""
    job, seconds = case.job, case.wishes.seconds
    if not case.wishes.probe or case.wishes.rate is not None or _is_done(case):
        return None, None, []
    try:
        device = device_here(job.actors)
    except UsageError as error:
        return None, None, [f"time: this machine cannot be probed for the job ({error})"]
    tell(f"probing {device.name}")
    setup = worker_setup(case.model, case.labels, job.output.path, job.seed, job.actors, device.size)
    with tempfile.TemporaryDirectory(prefix="ssig-plan-") as folder:
        shards = case.shards if case.unpacked is None else _few(case.unpacked, case.model, folder)
        data = probe_data(shards, job.dataset.limit, case.by)
        if device.alone:
            return probe_here(setup, data, on_gpu=device.on_gpu, seconds=seconds), device, []
        processes = Processes(device.workers, device.on_gpu, {} if device.on_gpu else preloaded())
        try:
            return probe_with(setup, data, processes, seconds=seconds), device, []
        except ProbeError as error:
            return None, device, [f"time: the probe failed ({one_line(error)})"]


def _is_done(case: _Case) -> bool:
    """Whether nothing of the job is left to do."""
    directory = case.directory
    return case.begun and directory.is_sealed and not directory.remaining(case.labels)


def _few(unpacked: Unpacked, model: Model, folder: str) -> list[str]:
    """A shard with the first images of a folder."""
    classes, items = numbered(unpacked.gathered, model.categories, strict=unpacked.labelled)
    return Packing(open_storage(folder), unpacked.name, items[:_FEW], classes, most=1).write()


def _unit_size(case: _Case, samples: Samples, probed: Probed | None, tensors: int) -> int:
    """The size of units: the run's, the job's, or the measured one."""
    if case.begun:
        return case.directory.required_record().unit_size
    if case.job.unit_size != "auto":
        return case.job.unit_size
    workers = (1 if probed is None else probed.workers) * case.wishes.devices
    seconds = None if probed is None else probed.worker_seconds
    return chosen_size(samples.total, workers, seconds, image_bytes(case.model.input_size, len(case.labels), tensors))


def _left(case: _Case, samples: Samples, size: int) -> tuple[dict[str, int], dict[str, int]]:
    """Images and units that are not done, by method label."""
    images = {label.method: samples.total for label in case.labels}
    units = {label.method: samples.units(size) for label in case.labels}
    if not case.begun:
        return images, units
    listed = of_manifest(case.directory.manifest)  # all, or the first so many where a driver was stopped early
    for method in images:
        images[method] -= listed.total
        units[method] -= listed.units(size)
    for unit, methods in case.directory.remaining(case.labels):
        for method in methods:
            images[method] += unit.stop - unit.start
            units[method] += 1
    return images, units


def _limits(case: _Case, samples: Samples, probed: Probed | None, device: Device | None, size: int) -> Iterator[str]:
    """What the estimate cannot know."""
    if case.begun and not case.directory.is_sealed:
        listed, of = len(case.directory.manifest.shards), len(case.directory.shards)
        yield f"samples: the run has listed {listed} of {of} shards; the others were looked at just now"
    if not samples.exact:
        yield "samples: estimated from the sizes of the shards and from the first, middle and last of them"
    if case.wishes.rate is not None:
        yield "time: reading and decoding images, what metrics compute beside the network, and writing are left out"
    elif probed is not None and device is not None:
        yield f"time: measured on {device.name}; another device takes another time"
        yield "time: the probe took the first images; larger ones take longer to decode"
    elif not case.wishes.probe:
        yield "time: nothing was measured; leave out --no-probe, or give --gradients-per-second"
    if case.job.actors.metrics and case.job.metrics and probed is not None:
        yield "time: metrics are in the time of the device; actors.metrics takes them off it"
    if probed is None and case.job.unit_size == "auto" and not case.begun and is_measured(samples.total):
        yield f"units: unit_size is auto, which a probe decides; {size} is assumed here"
    if probed is None and case.job.output.maps != "none":
        yield "bytes: at most; a probe tells how well maps compress"
    yield "time: how fast the storage is when many devices use it, nodes that start late or are lost, and the report"
