"""A shared device: right answers to every thread, full micro-batches across callers, errors for the one to blame."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssig.api import attribute
from ssig.engine.device import Device
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job, groups
from ssig.engine.replica import Replica
from ssig.randomness import stream
from ssig.registry import METHODS


class Gate(nn.Module):
    """Records the sizes of its batches, and raises at points that are all one colour above `limit`."""

    def __init__(self, network: nn.Module, limit: float = torch.inf) -> None:
        super().__init__()
        self.network, self.limit = network, limit
        self.gradient_batches: list[int] = []

    def forward(self, points: Tensor) -> Tensor:
        if bool((points.flatten(1).amin(dim=1) > self.limit).any()):
            raise ValueError("too bright")
        if points.requires_grad:
            self.gradient_batches.append(len(points))
        return self.network(points)


@pytest.fixture
def device(cnn: nn.Module) -> Iterator[Callable[..., Device]]:
    opened: list[Device] = []

    def make(network: nn.Module = cnn, micro_batch: int = 4) -> Device:
        opened.append(Device(Replica(network.eval(), micro_batch=micro_batch)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def jobs(images: Tensor, targets: Tensor, micro_batch: int, method: str = "ssig") -> Iterator[Job[None]]:
    spec = METHODS[method]
    options = spec.parse({"baseline": "black"})
    streams = tuple(stream(0, "s", str(k), method) for k in range(len(images)))
    for span, budget in groups(len(images), micro_batch):
        group = group_of(options, images[span], targets[span], streams[span], mean=torch.zeros(3))
        yield method_job(None, spec, options, replace(group, budget=budget))


def test_callers_in_many_threads_get_their_own_answers(
    device: Callable[..., Device], cnn: nn.Module, images: Tensor, targets: Tensor
) -> None:
    shared = device()
    keys = [("s", str(k)) for k in range(len(images))]
    methods = ["ssig", "ig", "smoothgrad", "ssig-signed"] * 3
    expected = {name: attribute(cnn, images, targets, name, baseline="black", keys=keys).map for name in set(methods)}

    def caller(name: str) -> Tensor:
        assert torch.allclose(shared.forward(images), cnn(images), rtol=1e-12)
        return torch.cat([part.map for part in shared.run(jobs(images, targets, 4, name))])

    with ThreadPoolExecutor(len(methods)) as pool:
        for name, found in zip(methods, pool.map(caller, methods), strict=True):
            assert torch.allclose(found, expected[name], rtol=1e-9, atol=1e-13)


def test_units_fill_each_others_micro_batches(device: Callable[..., Device], cnn: nn.Module, images: Tensor) -> None:
    gate = Gate(cnn)
    shared = device(gate, micro_batch=8)
    with ThreadPoolExecutor(2) as pool:
        units = [pool.submit(shared.run, jobs(images[:3], torch.zeros(3).long(), 8)) for _ in range(2)]
        assert all(unit.result() for unit in units)
    evaluations = 2 * 3 * 32
    assert sum(gate.gradient_batches) == evaluations
    assert len(gate.gradient_batches) <= evaluations / 8 + 4


def test_an_error_ends_only_the_job_that_caused_it(device: Callable[..., Device], cnn: nn.Module) -> None:
    shared = device(Gate(cnn, limit=0.9), micro_batch=16)
    dark, bright = torch.full((4, 3, 8, 8), 0.1).double(), torch.full((2, 3, 8, 8), 0.99).double()
    with ThreadPoolExecutor(4) as pool:
        poisoned = pool.submit(shared.run, jobs(bright, torch.zeros(2).long(), 16, "gradient"))
        healthy = [pool.submit(shared.run, jobs(dark, torch.zeros(4).long(), 16)) for _ in range(3)]
        with pytest.raises(ValueError, match="too bright"):
            poisoned.result()
        for unit in healthy:
            assert all(torch.isfinite(part.map).all() for part in unit.result())
    assert torch.isfinite(shared.forward(dark)).all()  # the device goes on


def test_the_clock_counts_the_callers_computing_and_not_its_waiting(
    device: Callable[..., Device], images: Tensor, targets: Tensor
) -> None:
    shared = device()
    before = shared.clock()
    shared.run(jobs(images, targets, 4))
    assert shared.clock() > before
    with ThreadPoolExecutor(1) as pool:
        idle_before, idle_after = pool.submit(lambda: (shared.clock(), shared.clock())).result()
    assert idle_after - idle_before < shared.clock() - before


def test_nothing_of_a_result_stays_when_its_caller_lets_go(
    device: Callable[..., Device], images: Tensor, targets: Tensor
) -> None:
    """Without the garbage collector, which comes when it likes: units would pile up until then."""
    shared = device()
    gc.collect()
    gc.disable()
    try:
        kept = [weakref.ref(result.map) for result in shared.run(jobs(images, targets, 4))]
        shared.forward(images[:1])  # the device has turned to something else
        assert [one() for one in kept] == [None] * len(kept)
    finally:
        gc.enable()


@pytest.mark.parametrize("images", [1, 2, 3, 5, 50, 64, 65])
@pytest.mark.parametrize("micro_batch", [1, 4, 64])
def test_groups_cover_the_images_and_ask_for_a_micro_batch_each(images: int, micro_batch: int) -> None:
    parts = groups(images, micro_batch)
    assert [k for span, _ in parts for k in range(span.start, span.stop)] == list(range(images))
    for span, budget in parts:
        assert micro_batch <= (span.stop - span.start) * budget < 2 * micro_batch + 1
    assert len(parts) > 1 or images == 1


def test_the_devices_thread_waits_for_nothing_but_results() -> None:
    """Of this device every copy to the host is waited for; of a GPU none is (`ssig.engine.accelerators.to_host`)."""
    root = Path(__file__).resolve().parents[3]
    script = root / "tests" / "support" / "waits_on_pretend_device.py"
    path = os.pathsep.join((str(root), str(script.parent)))
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    # One copy for each of the two groups.
    assert len(found) == 5
    assert all(waits == {"aten._to_copy.default": 2} for waits in found.values()), found
