"""A replica shared by several threads: one thread owns the device and merges the jobs of all other threads.

    attribution of unit 2 ──┐
    metrics of unit 1 ──────┼──> one queue ──> engine: full micro-batches across units ──> results
    predictions of unit 3 ──┘

The callers read, decode, rank, encode and write while the device computes. The next unit's points fill up the
micro-batches of a unit's last, small groups. The same thread always computes, so OpenMP keeps one pool of threads.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any

import torch
from torch import Tensor

from ssig.engine.micro_batches import Engine, Finished, Job
from ssig.engine.replica import Replica
from ssig.errors import SsigError
from ssig.estimators.integration import activations_of
from ssig.types import Request, Response

LOGITS = frozenset({"logits"})

Done = Callable[[Any], None]
# A result or an error, and seconds. Not the job: its tag is the future, and the two would keep each other alive.
Answer = Future[tuple[Any, Exception | None, float]]


class DeviceStoppedError(SsigError):
    """A job was given to a device that is stopped."""

    def __init__(self) -> None:
        super().__init__("the device is stopped")


class Device:
    """The thread that owns a replica. Its methods may be called from any other thread.

    Args:
        replica: no other code may use it from now on.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._queue: queue.SimpleQueue[Job[Answer] | None] = queue.SimpleQueue()
        self._spent = threading.local()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread once it has done all jobs."""
        self._queue.put(None)
        self._thread.join()

    def stop(self) -> None:
        """Fails the current and all further jobs, each with a `DeviceStoppedError`."""
        self._stopped = True

    def run(self, jobs: Iterable[Job[Any]], done: Done = lambda result: None) -> list[Any]:
        """The results of the jobs' coroutines, in order; waits for all of them.

        Args:
            jobs: of any size.
            done: called with each result as it is collected.

        Raises:
            Exception: the error of the network or the method in the first job that failed.
        """
        futures = []
        for job in jobs:
            future: Answer = Future()
            futures.append(future)
            self._queue.put(Job(future, job.steps, job.targets, job.score))
        results = []
        for future in futures:
            result, error, seconds = future.result()
            self._spent.seconds = self._seconds + seconds
            if error is not None:
                raise error
            done(result)
            results.append(result)
        return results

    def forward(self, points: Tensor) -> Tensor:
        """Logits (n, classes) of any number of points, without gradients, on the device."""
        (logits,) = self.run([Job(None, _logits(points), torch.zeros(len(points), dtype=torch.int64))])
        result: Tensor = logits
        return result

    def activations(self, points: Tensor, layer: str) -> Tensor:
        """The activations of a layer (`ssig.engine.layers`) at any number of points (n, C, H, W), without gradients.

        Raises:
            ModelError: the network has no such layer.
        """
        (activations,) = self.run(
            [Job(None, _activations(points, layer), torch.zeros(len(points), dtype=torch.int64))]
        )
        result: Tensor = activations
        return result

    def clock(self) -> float:
        """Seconds computed for the calling thread so far: by itself and by the device, without waiting."""
        return time.thread_time() + self._seconds

    @property
    def _seconds(self) -> float:
        return float(getattr(self._spent, "seconds", 0.0))

    def _work(self) -> None:
        engine: Engine[Answer] = Engine(self.replica)
        open_ = True
        while open_ or not engine.idle:
            finished: list[Finished[Answer]] = []
            job = None
            if engine.hungry and open_:
                try:
                    job = self._queue.get(block=engine.idle)
                    open_ = job is not None
                except queue.Empty:
                    pass
            if self._stopped:
                finished = engine.end(DeviceStoppedError())
                if job is not None:
                    finished.append(Finished(job, None, DeviceStoppedError(), 0.0))
            elif job is not None:
                finished = engine.add(job)
            elif not engine.idle:
                finished = engine.step()
            for ended in finished:
                ended.job.tag.set_result((ended.result, ended.error, ended.seconds))


def _logits(points: Tensor) -> Generator[Request, Response, Tensor | None]:
    response = yield Request(points, torch.arange(len(points)), want=LOGITS)
    return response.logits


def _activations(points: Tensor, layer: str) -> Generator[Request, Response, Tensor]:
    response = yield Request(points, torch.arange(len(points)), want=frozenset(), layer=layer)
    return activations_of(response)
