"""`unit_size: auto`: a probe where the units will be done, before the run is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.driver.place import Place
from pipeline.driver.worker_setup import worker_setup
from pipeline.job.configuration import Job
from pipeline.plan.files import schemas, tensor_bytes
from pipeline.plan.probe import probe_data
from pipeline.plan.samples import samples_of
from pipeline.plan.unit_size import FEW, image_bytes, unit_size, unmeasured_size
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS
from ssig.errors import UsageError, one_line
from ssig.models import Model


def measured_unit_size(
    job: Job, model: Model, labels: Sequence[Label], shards: Sequence[str], place: Place, tell: Callable[[str], None]
) -> int:
    """The size of a job's units, as its `unit_size` says. A job of at most `FEW` images is not measured.

    Args:
        job: the job.
        model: its network.
        labels: of its methods.
        shards: of its images.
        place: where the units will be done.
        tell: is told what was measured, or why nothing could be.

    Raises:
        UsageError: a worker cannot start, nor could any other.
    """
    if job.unit_size != "auto":
        return job.unit_size
    samples = samples_of(shards, job.dataset.limit).total
    if samples <= FEW:
        return unmeasured_size(samples, place.workers)
    setup = worker_setup(model, labels, job.output.path, job.seed, job.actors, place.size)
    data = probe_data(shards, job.dataset.limit)
    try:
        probed = place.probe(setup, data)
    except UsageError:
        raise
    except Exception as error:  # whatever a network, an image or Ray raises: the run itself tells what is to blame
        size = unmeasured_size(samples, place.workers)
        tell(f"unit_size: {size}, since nothing could be measured ({one_line(error)})")
        return size
    tables = schemas([metric.spec for metric in job.metrics], model.input_size, job.output.maps, job.output.channels)
    memory = image_bytes(model.input_size, len(labels), tensor_bytes(tables[ATTRIBUTIONS]))
    size = unit_size(probed.worker_seconds, memory, samples, place.workers)
    tell(f"unit_size: {size}, at {probed.worker_seconds:.3g} s an image")
    return size
