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
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssig.engine.accelerators import Mark, mark
from ssig.engine.micro_batches import Engine, Finished, Job
from ssig.engine.replica import Replica
from ssig.engine.timing import Spent
from ssig.errors import SsigError
from ssig.estimators.integration import activations_of
from ssig.estimators.transfer import page_locked
from ssig.types import Request, Response

LOGITS = frozenset({"logits"})

Done = Callable[[Any], None]


class Answer(NamedTuple):
    """A result, whole when the device has come to `arrived`, or an error; and what was computed.

    Not the job: its tag is the future, and the two would keep each other alive.
    """

    result: Any
    error: Exception | None
    spent: Spent
    arrived: Mark | None


_Future = Future[Answer]


class DeviceStoppedError(SsigError):
    """A job was given to a device that is stopped."""

    def __init__(self) -> None:
        super().__init__("the device is stopped")


class Device:
    """The thread that owns a replica. Its methods may be called from any other thread.

    Args:
        replica: no other code may use it from now on.

    Attributes:
        busy_seconds: computed so far for the jobs whose results were taken.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._queue: queue.SimpleQueue[Job[_Future] | None] = queue.SimpleQueue()
        self._spent = threading.local()
        self.busy_seconds = 0.0
        self._adding = threading.Lock()
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
        results = []
        for result in self.outcomes(jobs):
            if isinstance(result, torch.OutOfMemoryError):
                raise result
            done(result)
            results.append(result)
        return results

    def outcomes(self, jobs: Iterable[Job[Any]]) -> Iterator[Any]:
        """Starts all jobs, then yields their results in order, as `run` returns them.

        A job that ran out of memory yields its `torch.OutOfMemoryError` in place of a result.

        Raises:
            Exception: any other error of the network or the method in the first job that failed.
        """
        futures: deque[_Future] = deque()
        for job in jobs:
            futures.append(Future())
            self._queue.put(Job(futures[-1], job.steps, job.targets, job.score))
        return self._collected(futures)

    def _collected(self, futures: deque[_Future]) -> Iterator[Any]:
        while futures:
            result, error, spent, arrived = futures.popleft().result()
            try:
                # This thread waits for the device, so that the device's thread need not.
                if arrived is not None:
                    arrived.wait()
                self._spent.seconds = self._seconds + spent.seconds
                with self._adding:
                    self.busy_seconds += spent.seconds
            except Exception as late:  # an error of the device's work shows where that is waited for
                error = error or late
            if error is not None and not isinstance(error, torch.OutOfMemoryError):
                raise error
            yield result if error is None else error

    def forward(self, points: Tensor) -> Tensor:
        """Logits (n, classes) of any number of points, without gradients, on the device."""
        points = page_locked(points, self.replica.device)
        (logits,) = self.run([Job(None, _logits(points), torch.zeros(len(points), dtype=torch.int64))])
        result: Tensor = logits
        return result

    def activations(self, points: Tensor, layer: str) -> Tensor:
        """The activations of a layer (`ssig.engine.layers`) at any number of points (n, C, H, W), without gradients.

        Raises:
            ModelError: the network has no such layer.
        """
        points = page_locked(points, self.replica.device)
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
        engine: Engine[_Future] = Engine(self.replica)
        open_ = True
        while open_ or not engine.idle:
            finished: list[Finished[_Future]] = []
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
                    finished.append(Finished(job, None, DeviceStoppedError(), Spent()))
            elif job is not None:
                finished = engine.add(job)
            elif not engine.idle:
                finished = engine.step()
            for ended in finished:
                ended.job.tag.set_result(self._answer(ended))

    def _answer(self, ended: Finished[_Future]) -> Answer:
        try:
            return Answer(ended.result, ended.error, ended.spent, mark(self.replica.device))
        except Exception as error:  # the device fails for good: so does the job, and this thread goes on to say so
            return Answer(None, ended.error or error, ended.spent, None)


def _logits(points: Tensor) -> Generator[Request, Response, Tensor | None]:
    response = yield Request(points, torch.arange(len(points)), want=LOGITS)
    return response.logits


def _activations(points: Tensor, layer: str) -> Generator[Request, Response, Tensor]:
    response = yield Request(points, torch.arange(len(points)), want=frozenset(), layer=layer)
    return activations_of(response)
