"""`unit_size: auto`: a probe where the units will be done, before the run is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.driver.place import Place
from pipeline.driver.worker_setup import worker_setup
from pipeline.job.configuration import Job
from pipeline.plan.files import schemas, tensor_bytes
from pipeline.plan.probe import probe_data
from pipeline.plan.samples import samples_of
from pipeline.plan.unit_size import chosen_size, image_bytes, is_measured
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.shards.surveying import Surveyor, survey
from ssig.errors import UsageError, one_line
from ssig.models import Model

MANY = 1_000_000  # samples that a job of unknown size is taken to have


def measured_unit_size(
    job: Job,
    model: Model,
    labels: Sequence[Label],
    shards: Sequence[str],
    place: Place,
    tell: Callable[[str], None],
    by: Surveyor = survey,
) -> int:
    """The size of a job's units, as its `unit_size` says. A job of few images is not measured.

    Args:
        job: the job.
        model: its network.
        labels: of its methods.
        shards: of its images.
        place: where the units will be done.
        tell: is told what was measured, or why nothing could be.
        by: how a shard is surveyed; `pipeline.shards.surveying.survey` by default.

    Raises:
        UsageError: a worker cannot start, nor could any other.
    """
    if job.unit_size != "auto":
        return job.unit_size
    tables = schemas([metric.spec for metric in job.metrics], model.input_size, job.output.maps, job.output.channels)
    memory = image_bytes(model.input_size, len(labels), tensor_bytes(tables[ATTRIBUTIONS]))
    try:
        samples = samples_of(shards, job.dataset.limit, by=by).total
    except UsageError as error:  # no sample where it was looked; a run goes on to the first shard that has one
        return _unmeasured(MANY, place, memory, error, tell)
    if not is_measured(samples):
        return chosen_size(samples, place.workers, None, memory)
    setup = worker_setup(model, labels, job.output.path, job.seed, job.actors, place.size)
    data = probe_data(shards, job.dataset.limit, by)
    try:
        probed = place.probe(setup, data)
    except UsageError:
        raise
    except Exception as error:  # whatever a network, an image or Ray raises: the run itself tells what is to blame
        return _unmeasured(samples, place, memory, error, tell)
    size = chosen_size(samples, place.workers, probed.worker_seconds, memory)
    tell(f"unit_size: {size}, at {probed.worker_seconds:.3g} s an image")
    return size


def _unmeasured(samples: int, place: Place, memory: float, error: Exception, tell: Callable[[str], None]) -> int:
    """The size of units where nothing could be measured; says so, and why."""
    size = chosen_size(samples, place.workers, None, memory)
    tell(f"unit_size: {size}, since nothing could be measured ({one_line(error)})")
    return size
