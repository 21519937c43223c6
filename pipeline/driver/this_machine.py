"""The device of this machine that a job would use here, and how many workers would share it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pipeline.driver.resources import Shape, local_shape, places, shape
from pipeline.job.sections import Actors
from pipeline.unit.placement import cuda_fault
from ssig.errors import UsageError

# Ray keeps about three tenths of the free memory for its object store.
_FOR_ACTORS = 0.7


@dataclass(frozen=True)
class Device:
    """A device of this machine: one GPU, or all of its cores.

    Attributes:
        name: for a person.
        size: of each worker.
        workers: that share it.
        on_gpu: whether it is a GPU.
        alone: whether the one worker is in this process.
    """

    name: str
    size: Shape
    workers: int
    on_gpu: bool
    alone: bool


def device_here(actors: Actors) -> Device:
    """The device that a job would use on this machine.

    Raises:
        UsageError: the job asks for what this machine does not have.
    """
    fault = cuda_fault()
    if actors.device == "cuda" and fault is not None:
        raise UsageError("actors.device", "cuda", f"a machine with a GPU ({fault})")
    gpus = 0 if fault is not None else torch.cuda.device_count()
    on_gpu = gpus > 0 and actors.device != "cpu" and actors.num_gpus != 0
    if actors.executor == "local":
        size = local_shape(actors, on_gpu=on_gpu, threads=torch.get_num_threads())
        return Device(_name(on_gpu, size.threads, 1), size, 1, on_gpu, alone=True)
    node = {"CPU": float(os.cpu_count() or 1), "GPU": float(gpus), **_memory()}
    # As many actors as a node of this kind has, however many the job has on all nodes.
    size = shape(actors.model_copy(update={"min": 1}), [node])
    workers = max(1, math.floor(1 / size.num_gpus)) if on_gpu else places([node], 0, size.num_cpus)
    workers = int(min(workers, size.most))
    return Device(_name(on_gpu, size.threads, workers), size, workers, on_gpu, alone=False)


def _name(on_gpu: bool, threads: int, workers: int) -> str:
    if on_gpu:
        return torch.cuda.get_device_name(0)
    return f"this machine's CPU, {workers} x {threads} core{'s' if threads > 1 else ''}"


def _memory() -> Mapping[str, float]:
    """Memory that actors may use, as Ray would say it; nothing where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in file)}
        return {"memory": _FOR_ACTORS * 1024 * kilobytes["MemAvailable"]}
    except (OSError, KeyError, ValueError, IndexError):
        return {}
