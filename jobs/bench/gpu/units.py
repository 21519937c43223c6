"""Attribution through a device's thread, as the units of a run are attributed."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from jobs.bench.gpu.networks import keys
from ssig.engine.device import Device
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job, groups
from ssig.randomness import stream
from ssig.registry import METHODS
from ssig.types import Request, Response


def attributed(device: Device, images: Tensor, targets: Tensor, method: str, samples: int, mean: Tensor) -> Tensor:
    """The maps (B, H, W) of a unit's images, on the CPU.

    Args:
        device: the thread that owns the network.
        images: (B, C, H, W), on the CPU.
        targets: (B,) int64, on the CPU.
        method: with an option `samples` or `steps`.
        samples: how many.
        mean: (C,) of the network, the baseline.
    """
    spec = METHODS[method]
    options = spec.parse({"steps" if method == "ig" else "samples": samples})
    streams = tuple(stream(0, *key, method) for key in keys(len(images)))

    def jobs() -> Iterator[Job[Any]]:
        for span, budget in groups(len(images), device.replica.micro_batch):
            on_device = images[span].to(device.replica.device)
            group = group_of(options, on_device, targets[span], streams[span], mean=mean)
            job = method_job(None, spec, options, replace(group, budget=budget))
            yield Job(None, _copied(job.steps), job.targets, job.score)

    return torch.cat(device.run(jobs()))


def _copied(steps: Generator[Request, Response, Any]) -> Generator[Request, Response, Tensor]:
    """The map alone, copied to the CPU, as a run stores it."""
    result = yield from steps
    return result.map.float().cpu()  # type: ignore[no-any-return]
