"""The engine on CUDA: memory that runs out, the device's thread, times, and several devices."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest
import torch
from torch import Tensor, nn

from jobs.bench.gpu.busy import share
from jobs.bench.gpu.networks import TOY_SIDE, classes, pictures, toy
from jobs.bench.gpu.session import Session
from jobs.bench.gpu.units import attributed
from ssig.acceleration.ready_replica import ready_replica
from ssig.engine.device import Device
from ssig.engine.micro_batches import Engine, Job
from ssig.engine.replica import Replica
from ssig.models import Geometry, Model
from ssig.types import SCORE_AND_GRADIENT, Request, Response

pytestmark = pytest.mark.gpu

SIZE = (TOY_SIDE, TOY_SIDE)
POINTS = 16


class Hungry(nn.Module):
    """A network of which no more than three points fit the device at once."""

    def __init__(self) -> None:
        super().__init__()
        self.network = toy()

    def forward(self, points: Tensor) -> Tensor:
        free = torch.cuda.get_device_properties(points.device).total_memory
        held = torch.empty(len(points) * free // 4, dtype=torch.uint8, device=points.device)
        logits: Tensor = self.network(points)
        return logits + 0 * held[0]


def model(device: torch.device, precision: str = "fp32") -> Model:
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    names = tuple(map(str, range(10)))
    return Model(
        toy(), name="toy", mean=mean, std=std, geometry=Geometry(SIZE, SIZE), categories=names, precision=precision
    ).to(device)


def test_memory_that_runs_out_makes_smaller_micro_batches(cuda: torch.device) -> None:
    points, targets = pictures(POINTS, SIZE), classes(POINTS)
    expected = Replica(toy().to(cuda), micro_batch=2).evaluate(points, targets, "logit", SCORE_AND_GRADIENT)
    found = Replica(Hungry().eval().to(cuda), micro_batch=POINTS).evaluate(
        points, targets, "logit", SCORE_AND_GRADIENT
    )
    assert found.gradients is not None
    assert expected.gradients is not None
    torch.testing.assert_close(found.gradients, expected.gradients, rtol=1e-4, atol=1e-6)


def test_several_threads_get_their_own_answers(cuda: torch.device) -> None:
    images = pictures(8, SIZE)
    network = model(cuda)
    device = Device(Replica(network, micro_batch=5))
    alone = attributed(device, images, classes(8), "ssig", 8, network.mean)
    found: dict[int, Tensor] = {}

    def call(number: int) -> None:
        found[number] = attributed(device, images, classes(8), "ssig", 8, network.mean)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    device.close()
    for maps in found.values():
        torch.testing.assert_close(maps, alone, rtol=1e-4, atol=1e-5)
    assert len(found) == 4


def test_a_job_is_charged_for_what_the_device_computed(cuda: torch.device) -> None:
    """Times are those of the device: launching alone would be charged far less than it computes."""
    engine: Engine[None] = Engine(Replica(Slow().eval().to(cuda), micro_batch=4))
    points = pictures(4, SIZE).to(cuda)

    def steps() -> Generator[Request, Response, None]:
        yield Request(points, torch.arange(4), want=frozenset({"score"}))

    torch.cuda.synchronize()
    started = time.perf_counter()
    finished = engine.add(Job(None, steps(), classes(4)))
    while not finished:
        finished = engine.step()
    torch.cuda.synchronize()
    wall = time.perf_counter() - started
    (job,) = finished
    assert job.error is None
    assert 0.5 * wall < job.seconds <= 1.05 * wall


class Slow(nn.Module):
    """A network that computes for a long time and is launched at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4096, 4096) / 64, requires_grad=False)

    def forward(self, points: Tensor) -> Tensor:
        values = self.weight
        for _ in range(60):
            values = values @ self.weight
        logits: Tensor = points.flatten(1)[:, :10] + 0 * values[0, 0]
        return logits


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_a_ready_network_has_the_gradients_of_the_plain_one(cuda: torch.device, precision: str) -> None:
    points, targets = pictures(POINTS, SIZE), classes(POINTS)
    plain = Replica(model(cuda)).evaluate(points, targets, "logit", SCORE_AND_GRADIENT).gradients
    ready = ready_replica(model(cuda, precision), micro_batch=8)
    found = ready.evaluate(points, targets, "logit", SCORE_AND_GRADIENT).gradients
    assert plain is not None
    assert found is not None
    rule = {"fp32": 1e-4, "tf32": 0.05, "fp16": 0.1, "bf16": 0.3}[precision]
    assert float((found - plain).norm() / plain.norm()) < rule


def test_cuda_graphs_have_the_same_gradients_from_the_devices_thread(cuda: torch.device) -> None:
    images = pictures(9, SIZE)  # not a multiple of the micro-batch
    network = model(cuda)
    maps = []
    for kind in ("none", "cuda-graphs"):
        device = Device(ready_replica(network, micro_batch=4, compile=kind))  # type: ignore[arg-type]
        maps += [attributed(device, images, classes(9), "ssig", 8, network.mean) for _ in range(2)]
        device.close()
    for found in maps[1:]:
        torch.testing.assert_close(found, maps[0], rtol=1e-4, atol=1e-5)


def test_the_share_of_the_time_that_the_device_is_busy_is_a_share(session: Session) -> None:
    session.tiny = True
    found = share(session, "resnet50", "ssig", ("insertion",))
    assert 0 < found["share"] <= 1.05, found


def test_a_second_device_leaves_the_first_alone() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    second = torch.device("cuda", 1)
    before = torch.cuda.memory_reserved(0)
    network = model(second)
    device = Device(Replica(network, micro_batch=4))
    attributed(device, pictures(4, SIZE), classes(4), "smoothgrad", 4, network.mean)
    device.close()
    assert torch.cuda.memory_reserved(0) == before
    assert torch.cuda.current_device() == 0
