"""What a device does in a second: a probe with as many workers as a run has on it, all at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from pipeline.plan.probe import SECONDS, LabelCost, Probe, ProbeData, Timed, images_within
from pipeline.unit.setup import WorkerSetup
from ssig.errors import SsigError, one_line

END_SECONDS = 20.0  # that a worker may take to end


class ProbeError(SsigError):
    """A probe could not be made."""


@dataclass(frozen=True)
class Probed:
    """What a device did.

    Attributes:
        workers: that used it at once.
        images: that all of them timed.
        seconds: of the device for one image under all labels.
        ready: seconds until a worker is ready.
        labels: method label -> seconds of the device, and bytes, for one image; all their steps add up to `seconds`.
        worker: where a worker is and how it computes.
    """

    workers: int
    images: int
    seconds: float
    ready: float
    labels: Mapping[str, LabelCost]
    worker: Mapping[str, Any]

    @property
    def worker_seconds(self) -> float:
        """Seconds of one of the workers for one image under all labels."""
        return self.seconds * self.workers


class Processes(NamedTuple):
    """Worker processes that share a device.

    Attributes:
        number: how many.
        on_gpu: whether the device is the first GPU of this machine.
        environment: variables of these processes, beside those of this one.
    """

    number: int
    on_gpu: bool
    environment: Mapping[str, str]


def probe_here(setup: WorkerSetup, data: ProbeData, *, on_gpu: bool, seconds: float = SECONDS) -> Probed:
    """Probes the device of this process with one worker.

    Args:
        setup: what the worker is made from.
        data: the images.
        on_gpu: whether it computes on the first GPU that this process sees.
        seconds: that the timed images should take.
    """
    setup.activate()
    threads = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        with Probe(setup, data, on_gpu=on_gpu) as probe:
            return probed([probe.timed(images_within(seconds, probe.first(seconds), len(data.rows)))])
    finally:
        torch.set_num_threads(threads)


def probe_with(setup: WorkerSetup, data: ProbeData, processes: Processes, *, seconds: float = SECONDS) -> Probed:
    """Probes a device of this machine with several processes, each with a worker.

    Args:
        setup, data, seconds: as for `probe_here`.
        processes: how many, and of which kind.

    Raises:
        ProbeError: a process failed.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in range(processes.number)]
    started = [spawn.Process(target=_serve, args=(far, setup, data, processes.on_gpu, seconds)) for _, far in pipes]
    try:
        with _variables(processes.environment):
            for process in started:
                process.start()
        for _, far in pipes:
            far.close()
        ends = [near for near, _ in pipes]
        of_one = max(_received(end) for end in ends)
        images = images_within(seconds, of_one, len(data.rows))
        for end in ends:
            end.send(images)
        return probed([_received(end) for end in ends])
    finally:
        for near, _ in pipes:
            near.close()
        for process in started:
            if process.pid is not None:
                process.join(END_SECONDS)
                process.kill()


def probed(timed: Sequence[Timed]) -> Probed:
    """What a device did, from what its workers measured at the same time."""
    rate = sum(each.images / each.seconds for each in timed)
    seconds = 1 / rate
    spent = sum(sum(cost.steps.values()) for each in timed for cost in each.labels.values())
    # Steps of units that are in hand at once overlap; they share the device's time as they share their own.
    scale = seconds / spent if spent else 0.0
    labels = {name: _mean([each.labels[name] for each in timed], scale) for name in timed[0].labels}
    ready = max(each.ready for each in timed)
    return Probed(len(timed), sum(each.images for each in timed), seconds, ready, labels, timed[0].worker)


def _mean(costs: Sequence[LabelCost], scale: float) -> LabelCost:
    """The cost of a label with several workers: seconds add up and are scaled, the rest is the mean."""
    count = len(costs)
    # The measured seconds of metrics are a part of their step.
    steps = {name: scale * sum(cost.steps.get(name, 0.0) for cost in costs) for name in costs[0].steps}
    measured = sum(sum(cost.metrics.values()) for cost in costs)
    share = steps.get("metrics", 0.0) / measured if measured else 0.0
    metrics = {name: share * sum(cost.metrics[name] for cost in costs) for name in costs[0].metrics}
    tables = {name: sum(cost.table_bytes[name] for cost in costs) / count for name in costs[0].table_bytes}
    return LabelCost(steps, metrics, sum(cost.gradients for cost in costs) / count, tables)


def _serve(pipe: Connection, setup: WorkerSetup, data: ProbeData, on_gpu: bool, seconds: float) -> None:
    """A worker's process: sends the seconds of an image, receives how many to time, and sends what it measured."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        setup.activate()
        torch.set_num_threads(setup.threads)
        with Probe(setup, data, on_gpu=on_gpu) as probe:
            pipe.send(probe.first(seconds))
            pipe.send(probe.timed(pipe.recv()))
    except (EOFError, BrokenPipeError):  # the command has ended
        pass
    except Exception as error:
        pipe.send(ProbeError(one_line(error)))


def _received(end: Connection) -> Any:
    try:
        answer = end.recv()
    except EOFError:
        raise ProbeError("a process of the probe died; `ssig attribute` finds the image that kills it") from None
    if isinstance(answer, ProbeError):
        raise answer
    return answer


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for the processes that the body starts."""
    saved = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
