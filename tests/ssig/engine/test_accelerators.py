"""Marks, seconds and copies: on a pretend timeline here, and on a GPU where there is one."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from ssig.engine import accelerators
from ssig.engine.accelerators import forget, mark, to_host, usable
from ssig.engine.device import Device
from ssig.engine.micro_batches import Engine, Job
from ssig.engine.replica import Replica
from ssig.engine.timing import Spent
from ssig.errors import UsageError
from ssig.estimators.transfer import page_locked, to_device
from ssig.types import SCORE, Attribution, Group, Request, Steps

CPU = torch.device("cpu")


@dataclass
class Timeline:
    """A device that computes later: work is queued at once, and done when somebody waits."""

    queued: float = 0.0
    done: float = 0.0
    waits: list[float] = field(default_factory=list)

    def work(self, seconds: float) -> None:
        self.queued += seconds


class PretendMark:
    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.time = timeline.queued

    def reached(self) -> bool:
        return self.time <= self.timeline.done

    def wait(self) -> None:
        if not self.reached():
            self.timeline.waits.append(self.time)
            self.timeline.done = self.time

    def until(self, later: PretendMark) -> float:
        later.wait()
        return later.time - self.time


@pytest.fixture
def timeline(monkeypatch: pytest.MonkeyPatch) -> Timeline:
    line = Timeline()
    monkeypatch.setitem(accelerators.MARKS, "cpu", lambda device: PretendMark(line))
    return line


class Working(nn.Module):
    """Each point takes a second of the timeline."""

    def __init__(self, network: nn.Module, timeline: Timeline) -> None:
        super().__init__()
        self.network, self.timeline = network, timeline

    def forward(self, points: Tensor) -> Tensor:
        self.timeline.work(float(len(points)))
        return self.network(points)


def asking(group: Group, times: int) -> Steps:
    for _ in range(times):
        yield Request(group.images, group.owners(), want=SCORE)
    zeros = torch.zeros(len(group))
    return Attribution(group.images, group.images.sum(dim=1), zeros, zeros, None, None, zeros.long())


def job(tag: str, images: Tensor, times: int) -> Job[str]:
    return Job(tag, asking(Group(images, torch.zeros_like(images), ()), times), torch.zeros(len(images)).long())


def test_jobs_are_charged_with_the_devices_seconds_and_nobody_waits_meanwhile(
    cnn: nn.Module, images: Tensor, timeline: Timeline
) -> None:
    engine: Engine[str] = Engine(Replica(Working(cnn, timeline).eval(), micro_batch=5))
    finished = engine.add(job("two", images[:2], 3)) + engine.add(job("three", images[:3], 2))
    while not engine.idle:
        finished += engine.step()
    assert timeline.waits == []
    assert {ended.job.tag: ended.seconds for ended in finished} == {"two": 6.0, "three": 6.0}
    assert timeline.waits


def test_the_caller_of_a_device_waits_for_its_result_and_is_charged(
    cnn: nn.Module, images: Tensor, timeline: Timeline
) -> None:
    device = Device(Replica(Working(cnn, timeline).eval(), micro_batch=4))
    try:
        before = device.clock()
        device.forward(images)
        assert timeline.done == timeline.queued == 5.0
        assert device.clock() - before >= 5.0
    finally:
        device.close()


def test_marks_of_a_long_job_are_read_as_the_device_comes_to_them(timeline: Timeline) -> None:
    spent = Spent()
    for _ in range(100):
        start = mark(CPU)
        timeline.work(2.0)
        spent.add(start, mark(CPU), 0.5)
        timeline.done = timeline.queued - 4.0
    assert len(spent._open) <= 4
    assert timeline.waits == []
    assert spent.seconds == 100.0


def test_work_that_fails_is_charged_too(timeline: Timeline) -> None:
    spent = Spent()

    def fail() -> None:
        with spent.charged(CPU):
            timeline.work(3.0)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert spent.seconds == 3.0


def test_an_error_that_shows_late_is_raised_to_the_caller_and_the_device_goes_on(
    cnn: nn.Module, images: Tensor, timeline: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(Replica(cnn, micro_batch=4))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(PretendMark, "wait", lambda self: (_ for _ in ()).throw(RuntimeError("illegal access")))
            with pytest.raises(RuntimeError, match="illegal access"):
                device.forward(images)
        with monkeypatch.context() as patch:
            patch.setitem(accelerators.MARKS, "cpu", lambda device: (_ for _ in ()).throw(RuntimeError("no context")))
            with pytest.raises(RuntimeError, match="no context"):
                device.forward(images)
        assert len(device.forward(images)) == 5
    finally:
        device.close()


def test_on_the_cpu_nothing_is_copied(images: Tensor) -> None:
    for same in (to_host(images), to_device(images, CPU), page_locked(images, CPU)):
        assert same is images


def test_an_error_lets_go_of_the_tensors_it_came_through() -> None:
    class Large:
        pass

    kept: list[weakref.ref[Large]] = []

    def inner() -> None:
        held = Large()
        kept.append(weakref.ref(held))
        raise torch.OutOfMemoryError("full")

    def outer() -> None:
        held = Large()
        kept.append(weakref.ref(held))
        try:
            inner()
        except torch.OutOfMemoryError as error:
            raise RuntimeError("again") from error

    gc.disable()
    try:
        try:
            outer()
        except RuntimeError as error:
            forget(error)
            assert [one() for one in kept] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "nowhere:1"])
def test_what_is_no_device_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UsageError, match="a device that torch finds here, such as cpu, cuda or cuda:1") as refused:
        usable(name)
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


def test_a_device_gets_its_number() -> None:
    assert usable("cpu") == usable(CPU) == CPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnAGpu:
    def test_events_time_the_work_and_not_its_launch(self) -> None:
        device = torch.device("cuda", torch.cuda.device_count() - 1)
        matrix = torch.rand(4096, 4096, device=device)
        matrix @ matrix
        torch.cuda.synchronize(device)
        start = mark(device)
        for _ in range(50):
            matrix @ matrix
        stop = mark(device)
        assert not stop.reached()
        seconds = start.until(stop)
        assert stop.reached()
        assert seconds > 50 * 2 * 4096**3 / 2e15  # no device does 2 PFLOP/s in float32

    def test_copies_arrive_with_the_next_mark_and_only_their_device_is_touched(self) -> None:
        device = torch.device("cuda", torch.cuda.device_count() - 1)
        values = torch.rand(64, 3, 224, 224)
        moved = to_device(values, device)
        back = to_host(moved * 2)
        mark(device).wait()
        assert back.is_pinned()
        assert torch.equal(back, values * 2)
        with torch.cuda.device(device):
            assert torch.cuda.current_device() == device.index

    def test_a_class_outside_the_logits_never_reaches_the_device(self, cnn: nn.Module, images: Tensor) -> None:
        replica = Replica(cnn.cuda())
        for wrong in (5, -1):
            with pytest.raises(Exception, match=f"target class {wrong} of a network with 5 classes"):
                replica.evaluate(images, torch.full((5,), wrong), "logit", SCORE)
        assert replica.evaluate(images, torch.full((5,), 4), "logit", SCORE).scores is not None
        torch.cuda.synchronize()

    def test_results_of_a_device_are_whole_and_its_seconds_are_there(self, cnn: nn.Module, images: Tensor) -> None:
        device = Device(Replica(cnn.cuda(), micro_batch=2))
        try:
            before = device.clock()
            assert torch.allclose(device.forward(images).cpu(), cnn(images.cuda()).cpu(), rtol=1e-9)
            assert device.clock() > before
        finally:
            device.close()
