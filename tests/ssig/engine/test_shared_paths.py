"""Methods that run together give what each gives alone, and share what they have in common."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ssig.api import attribute
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job, run
from ssig.engine.replica import Replica
from ssig.engine.shared_paths import together
from ssig.estimators.integrands import INTEGRANDS
from ssig.estimators.samplers import SPECTRA
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


LAWS = [
    *({"sampler": name} for name in ("identity", "line", "uniform", "uniform-channel", "bernoulli", "patch-4")),
    *({"sampler": name} for name in ("smooth-4", "noise")),
    *({"sampler": "frequency", "spectrum": name} for name in SPECTRA),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: "-".join(law.values()))
def test_readouts_of_one_law_share_its_gradients(
    cnn: nn.Module, images: Tensor, targets: Tensor, law: dict[str, str]
) -> None:
    counter, spec, samples = Counter(cnn).eval(), METHODS["ssig"], 4
    keys = [("s", str(k)) for k in range(len(images))]
    streams = tuple(stream(0, shard, key, spec.name) for shard, key in keys)
    settings = [{**law, "integrand": name, "samples": samples, "baseline": "black"} for name in INTEGRANDS]
    jobs = []
    for setting in settings:
        options = spec.parse(setting)
        group = replace(group_of(options, images, targets, streams, mean=torch.zeros(3)), budget=3)
        jobs.append(method_job(None, spec, options, group))
    ((_, results),) = run(Replica(counter), [Job(None, together([job.steps for job in jobs]), targets)])
    assert counter.gradients == len(images) * samples
    for setting, result in zip(settings, results, strict=True):  # type: ignore[call-overload]
        alone = attribute(cnn, images, targets, spec.name, keys=keys, **setting)
        assert torch.allclose(result.map, alone.map, rtol=1e-9, atol=1e-12)


def test_only_equal_points_have_one_name() -> None:
    def path(method: str, **options: object) -> object:
        spec = METHODS[method]
        return spec.path(spec.parse(options))

    assert path("ssig") == path("ssig", integrand="squared", readout="max-abs", smoothing=2.0)
    assert path("ssig", sampler="line") == path("ig", rule="midpoint")
    assert path("smoothgrad") == path("smoothgrad", integrand="squared")
    assert path("gradient") == path("gradient-x-input")
    others = [
        path("ssig", **options)
        for options in ({"samples": 31}, {"low": 0.5}, {"sampler": "uniform-channel"}, {"sampler": "noise"})
    ]
    # Every method has draws of its own, under its name.
    others += [path("ssig-signed"), path("ssig-frequency"), path("smoothgrad"), path("smoothgrad-squared")]
    assert len({*others, path("ssig")}) == len(others) + 1
    assert path("ssig", samples="auto") is None
    assert path("ssig", over="noise") is None
