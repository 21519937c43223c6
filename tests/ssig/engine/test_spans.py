"""A method whose own sums do not fit the memory is run again on halves, and gives the same maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssig.api import attribute
from ssig.engine.device import Device
from ssig.engine.explainer import MethodExplainer
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job, outcomes
from ssig.engine.replica import Replica
from ssig.engine.spans import halves, in_spans
from ssig.randomness import stream
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps

Runner = Callable[[Any], Any]


class Full:
    """The method ``ssig-signed`` on a device that holds so many points of its own at once."""

    def __init__(self, holds: int) -> None:
        self.holds = holds
        self.tried: list[tuple[int, int]] = []

    @property
    def spec(self) -> MethodSpec:
        spec = METHODS["ssig-signed"]

        def run(group: Group, options: Any) -> Steps:
            self.tried.append((len(group), group.budget))
            steps = spec.run(group, options)
            request = next(steps)
            while True:
                response = yield request
                if len(request.points) > self.holds and "gradient" in request.want:
                    raise torch.OutOfMemoryError("the method's sums do not fit")
                try:
                    request = steps.send(response)
                except StopIteration as stop:
                    return stop.value

        return replace(spec, run=run)


@pytest.fixture
def device(cnn: nn.Module) -> Iterator[Device]:
    opened = Device(Replica(cnn, micro_batch=4))
    yield opened
    opened.close()


KEYS = tuple(("s", str(k)) for k in range(5))


def test_spans_are_halved_down_to_one_image_and_one_point() -> None:
    assert halves(slice(2, 7), 3) == [(slice(2, 4), 1), (slice(4, 7), 1)]
    assert halves(slice(2, 3), 3) == [(slice(2, 3), 1)]
    assert halves(slice(2, 3), 1) == []


@pytest.mark.parametrize("holds", [1, 2, 3])
def test_the_library_halves_and_gives_the_same_map(
    cnn: nn.Module, images: Tensor, targets: Tensor, holds: int
) -> None:
    full = Full(holds)
    expected = attribute(cnn, images, targets, "ssig-signed", keys=KEYS, samples=6)
    found = attribute(cnn, images, targets, full.spec, keys=KEYS, samples=6)
    assert torch.allclose(found.map, expected.map, rtol=1e-10, atol=1e-14)
    assert found.gradient_evaluations.tolist() == [6] * 5
    assert len(full.tried) > 2


def test_one_point_that_does_not_fit_is_an_error(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    full = Full(0)
    with pytest.raises(torch.OutOfMemoryError, match="sums do not fit"):
        attribute(cnn, images, targets, full.spec, keys=KEYS, samples=6)
    assert (1, 1) in full.tried


@pytest.mark.parametrize("other", [False, True])
def test_explaining_again_halves_too(
    cnn: nn.Module, device: Device, images: Tensor, targets: Tensor, other: bool
) -> None:
    full = Full(2)
    explainer = MethodExplainer(
        device, full.spec, full.spec.parse({"samples": 6}), images, targets, KEYS, mean=torch.full((3,), 0.5)
    )
    found = explainer.maps(images, targets, torch.arange(5), network=cnn if other else None)
    expected = replace(explainer, spec=METHODS["ssig-signed"]).maps(images, targets, torch.arange(5))
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14)
    assert len(full.tried) > 2


@pytest.mark.parametrize("on_device", [False, True])
def test_jobs_that_cannot_be_made_are_made_smaller(
    device: Device, images: Tensor, targets: Tensor, on_device: bool
) -> None:
    spec = METHODS["gradient"]
    options = spec.parse({})
    streams = tuple(stream(0, *key, spec.name) for key in KEYS)

    def make(span: slice, budget: int) -> Job[None]:
        if span.stop - span.start > 1:
            raise torch.OutOfMemoryError("no room for the images")
        group = group_of(options, images[span], targets[span], streams[span], mean=torch.zeros(3))
        return method_job(None, spec, options, replace(group, budget=budget))

    def of_replica(jobs: Any) -> Any:
        return outcomes(device.replica, jobs)

    run: Runner = device.outcomes if on_device else of_replica
    parts = list(in_spans(5, 4, torch.device("cpu"), make, run))
    assert [len(part) for part in parts] == [1] * 5
    expected = attribute(device.replica.model, images, targets, "gradient", keys=KEYS)
    assert torch.allclose(torch.cat([part.map for part in parts]), expected.map)


def test_other_errors_are_raised_at_once(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    calls = []

    def run(group: Group, options: Any) -> Steps:
        calls.append(len(group))
        raise ValueError("not about memory")
        yield

    with pytest.raises(ValueError, match="not about memory"):
        attribute(cnn, images, targets, replace(METHODS["gradient"], run=run), keys=KEYS)
    assert len(calls) == 1
