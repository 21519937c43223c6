"""What the workers of a job are made from."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline.driver.resources import Shape
from pipeline.job.sections import Actors
from pipeline.run.labels import Label
from pipeline.unit.health import known_point
from pipeline.unit.setup import WorkerSetup, sources_of
from ssig.models import Model, export


def worker_setup(
    model: Model, labels: Sequence[Label], run: str, seed: int, actors: Actors, size: Shape
) -> WorkerSetup:
    """The settings of a job's workers.

    Args:
        model: the network, on the CPU.
        labels: of the run.
        run, seed: of the run.
        actors: the job's wishes.
        size: of each worker.
    """
    return WorkerSetup(
        state=export(model),
        labels={label.method: label for label in labels},
        run=run,
        seed=seed,
        micro_batch=None if actors.micro_batch == "auto" else actors.micro_batch,
        compile=actors.compile,
        gpu_share=size.num_gpus,
        threads=size.threads,
        fills=size.fills,
        path=tuple(sys.path),
        sources=sources_of(labels),
        device=actors.device,
        known=known_point(model) if size.num_gpus else None,
    )
