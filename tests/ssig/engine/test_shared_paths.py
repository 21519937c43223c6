"""Methods that run together give what each gives alone, and share what they have in common."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ssig.api import attribute
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job, run
from ssig.engine.replica import Replica
from ssig.engine.shared_paths import together
from ssig.randomness import stream
from ssig.registry import METHODS


class Counter(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.gradients = network, 0

    def forward(self, points: Tensor) -> Tensor:
        self.gradients += len(points) if points.requires_grad else 0
        return self.network(points)


CASES = {
    "ig": {"rule": "left", "steps": 8},
    "ssig": {"samples": 4},
    "gradient": {},
}


def test_each_gives_what_it_gives_alone(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    keys = [("s", str(k)) for k in range(len(images))]
    counter = Counter(cnn).eval()
    names = ["ig", "ssig", "ig", "gradient"]  # the straight path twice
    jobs = []
    for name in names:
        options = METHODS[name].parse({**CASES[name], "baseline": "black"})
        streams = tuple(stream(0, shard, key, name) for shard, key in keys)
        group = replace(group_of(options, images, targets, streams, mean=torch.zeros(3)), budget=3)
        jobs.append(method_job(None, METHODS[name], options, group))
    ((_, results),) = run(Replica(counter), [Job(None, together([job.steps for job in jobs]), targets)])
    for name, result in zip(names, results, strict=True):  # type: ignore[call-overload]
        alone = attribute(cnn, images, targets, name, keys=keys, baseline="black", **CASES[name])
        assert torch.allclose(result.map, alone.map, rtol=1e-10, atol=1e-13)
    assert counter.gradients == len(images) * (8 + 4 + 1)
