"""Where the units of a command are done: on a Ray cluster, or in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import NamedTuple

from pipeline.driver.executor import Executor
from pipeline.driver.listing import Surveys, by_threads
from pipeline.driver.needs_ray import require_ray
from pipeline.driver.resources import Shape, local_shape, places, shape
from pipeline.job.sections import Actors
from pipeline.plan.device import Probed, probe_here
from pipeline.plan.probe import ProbeData
from pipeline.unit.setup import WorkerSetup
from pipeline.unit.worker import Worker

PROBE_SECONDS = 10.0  # of a job's start, at the most, where its `unit_size` is measured


class Place(NamedTuple):
    """The workers of a place: size, how many have room now, what starts and measures them; and surveys of shards."""

    size: Shape
    workers: int
    executor: Callable[[WorkerSetup], Executor]
    probe: Callable[[WorkerSetup, ProbeData], Probed]
    surveys: Surveys = by_threads


def place_of(actors: Actors, phase: Callable[[str], None]) -> AbstractContextManager[Place]:
    """The place that a job asks for, for the body.

    Args:
        actors: the job's wishes.
        phase: called with what is being done.

    Raises:
        UsageError: the place does not have what the job asks for.
    """
    return _this_process(actors) if actors.executor == "local" else _ray(actors, phase)


@contextmanager
def _ray(actors: Actors, phase: Callable[[str], None]) -> Iterator[Place]:
    require_ray("actors.executor", actors.executor, "local (type --in-process, or --set actors.executor=local)")
    # Imported here, so that a command that needs no Ray never loads it.
    from pipeline.driver.pool import pool_of
    from pipeline.driver.ray_cluster import cluster
    from pipeline.driver.remote_probe import probe_there
    from pipeline.driver.survey_tasks import by_tasks
    from pipeline.unit.placement import device_for

    phase("starting Ray")
    with cluster() as joined:
        size = shape(actors, joined.nodes, joined.grows, joined.coming)
        if not joined.grows:  # all actors are on this machine
            device_for(actors.device, has_gpu=size.num_gpus > 0)
        fit = places(size.beside(joined.nodes), size.num_gpus, size.num_cpus)
        workers = fit if math.isinf(size.most) else int(size.most) if joined.grows else min(fit, int(size.most))
        probe = partial(probe_there, size=size, seconds=PROBE_SECONDS)
        yield Place(size, workers, partial(pool_of, size=size), probe, by_tasks)


@contextmanager
def _this_process(actors: Actors) -> Iterator[Place]:
    import torch

    from pipeline.driver.local import LocalExecutor
    from pipeline.unit.placement import device_for
    from pipeline.unit.setup import set_up

    threads = torch.get_num_threads()
    asked = actors.num_gpus != "auto" and actors.num_gpus > 0
    device = device_for(actors.device, has_gpu=asked or (actors.num_gpus == "auto" and torch.cuda.is_available()))
    size = local_shape(actors, on_gpu=device != "cpu", threads=threads)
    torch.set_num_threads(size.threads)
    try:

        def executor(setup: WorkerSetup) -> Executor:
            def create() -> Worker:
                setup.activate()
                return set_up(setup, on_gpu=device != "cpu")

            return LocalExecutor(create, setup.known)

        yield Place(size, 1, executor, partial(probe_here, on_gpu=device != "cpu", seconds=PROBE_SECONDS))
    finally:
        torch.set_num_threads(threads)
