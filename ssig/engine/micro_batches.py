"""Runs methods: merges the requests of several groups into full micro-batches and sends the answers back.

Each group's coroutine waits for one request at a time. A micro-batch takes points of one kind (score, layer, wanted
outputs) from all running groups, so small groups cost nothing. The next group starts when the running groups cannot
fill the next micro-batch.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Generator, Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ssig.engine.replica import Replica, join
from ssig.types import Attribution, Request, Response

# Groups that run at once; each holds its images and a few running sums of their size.
MOST_GROUPS = 4
# Seconds that the thread waits at most for jobs which all wait, until it looks for further ones.
PAUSE = 0.005

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class Job(Generic[Tag]):
    """One group's attribution: the coroutine, its images' targets (B,) and score, and the caller's tag."""

    tag: Tag
    steps: Generator[Request, Response, Any]
    targets: Tensor
    score: str = "logit"


@dataclass(frozen=True)
class Finished(Generic[Tag]):
    """How a job ended: the result of its coroutine or an error, and the seconds of computing."""

    job: Job[Tag]
    result: Any
    error: Exception | None
    seconds: float


@dataclass
class _Running(Generic[Tag]):
    """A job whose request is being answered: `sent` of its points are evaluated, their answers in `parts`."""

    job: Job[Tag]
    request: Request
    seconds: float = 0.0
    sent: int = 0
    parts: list[Response] = field(default_factory=list)
    error: Exception | None = None

    @property
    def kind(self) -> tuple[Hashable, ...]:
        weighted = self.request.targets is not None and self.request.targets.ndim == 2
        return weighted, self.job.score, self.request.want, self.request.layer, tuple(self.request.points.shape[1:])

    @property
    def pending(self) -> int:
        return len(self.request.points) - self.sent

    @property
    def ready(self) -> bool:
        """Whether the job waits for nothing but the network."""
        return self.request.until is None or self.request.until.done()

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """The next `count` points and their targets."""
        span = slice(self.sent, self.sent + count)
        self.sent += count
        if self.request.targets is not None:
            return self.request.points[span], self.request.targets[span]
        return self.request.points[span], self.job.targets[self.request.owners[span]]


class Engine(Generic[Tag]):
    """The running jobs of one replica. Not for two threads at once.

    An error of the network or of a method ends only the job that caused it: if points of several jobs were evaluated
    together, each job's points are tried alone.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._running: list[_Running[Tag]] = []

    @property
    def idle(self) -> bool:
        return not self._running

    @property
    def hungry(self) -> bool:
        """Whether another job would make the next micro-batch fuller."""
        return sum(state.ready for state in self._running) < MOST_GROUPS and self._full_kind() is None

    def add(self, job: Job[Tag]) -> list[Finished[Tag]]:
        """Starts a job; it may finish without a request."""
        return self._advance(job, [], 0.0)

    def step(self) -> list[Finished[Tag]]:
        """Evaluates one micro-batch; returns the jobs that this finished. Waits a moment if all jobs do."""
        states = self._full_kind() or self._largest_kind()
        if states:
            self._evaluate(states)
        else:
            wait(
                [state.request.until for state in self._running if state.request.until is not None],
                PAUSE,
                FIRST_COMPLETED,
            )
        finished: list[Finished[Tag]] = []
        running, self._running = self._running, []
        for state in running:
            if state.error is not None:
                finished.append(Finished(state.job, None, state.error, state.seconds))
            elif state.pending or not state.ready:
                self._running.append(state)
            else:
                finished += self._advance(state.job, state.parts, state.seconds)
        return finished

    def end(self, error: Exception) -> list[Finished[Tag]]:
        """Ends all running jobs with an error."""
        running, self._running = self._running, []
        return [Finished(state.job, None, error, state.seconds) for state in running]

    def _advance(self, job: Job[Tag], parts: list[Response], seconds: float) -> list[Finished[Tag]]:
        """Sends an answer, if there is one, to a job's coroutine, which makes a new request or finishes."""
        started = time.perf_counter()
        try:
            # Joining takes memory too: without memory, the job fails and not the thread.
            request = job.steps.send(join(parts)) if parts else next(job.steps)
            if len(request.points) == 0 and request.until is None:
                raise ValueError("a method made a request without points")
        except StopIteration as stop:
            return [Finished(job, stop.value, None, seconds + time.perf_counter() - started)]
        except Exception as error:
            return [Finished(job, None, error, seconds + time.perf_counter() - started)]
        self._running.append(_Running(job, request, seconds + time.perf_counter() - started))
        return []

    def _by_kind(self) -> list[list[_Running[Tag]]]:
        """The jobs by kind of request, forward requests first: a caller waits for each of them."""
        kinds: dict[tuple[Hashable, ...], list[_Running[Tag]]] = defaultdict(list)
        for state in self._running:
            if state.pending:
                kinds[state.kind].append(state)
        return sorted(kinds.values(), key=lambda states: "gradient" in states[0].request.want)

    def _full_kind(self) -> list[_Running[Tag]] | None:
        """Jobs whose points of one kind fill a micro-batch, oldest first."""
        size = self.replica.micro_batch
        return next((states for states in self._by_kind() if _pending(states) >= size), None)

    def _largest_kind(self) -> list[_Running[Tag]] | None:
        return max(self._by_kind(), key=_pending, default=None)

    def _evaluate(self, states: list[_Running[Tag]]) -> None:
        """Evaluates one micro-batch of the pending points of jobs of one kind, oldest first."""
        shares: list[tuple[_Running[Tag], Tensor, Tensor]] = []
        room = self.replica.micro_batch
        for state in states:
            count = min(room, state.pending)
            if count:
                shares.append((state, *state.take(count)))
                room -= count
        try:
            self._answer(shares)
        except Exception as error:
            if len(shares) == 1:
                shares[0][0].error = error
                return
            for share in shares:
                try:
                    self._answer([share])
                except Exception as share_error:
                    share[0].error = share_error

    def _answer(self, shares: list[tuple[_Running[Tag], Tensor, Tensor]]) -> None:
        """Evaluates points of jobs of one kind together, and charges each job for its share of the time."""
        started = time.perf_counter()
        first = shares[0][0]
        response = self.replica.evaluate(
            torch.cat([points for _, points, _ in shares]) if len(shares) > 1 else shares[0][1],
            torch.cat([targets for _, _, targets in shares]),
            first.job.score,
            first.request.want,
            first.request.layer,
        )
        seconds = time.perf_counter() - started
        total = sum(len(points) for _, points, _ in shares)
        start = 0
        for state, points, _ in shares:
            state.parts.append(_part(response, slice(start, start + len(points))))
            state.seconds += seconds * len(points) / total
            start += len(points)


def run(replica: Replica, jobs: Iterable[Job[Tag]]) -> Iterator[tuple[Job[Tag], Attribution]]:
    """Yields each job with its attribution as it finishes; takes jobs from the iterable as it needs them."""
    engine: Engine[Tag] = Engine(replica)
    waiting = iter(jobs)
    exhausted = False
    while True:
        job = next(waiting, None) if engine.hungry and not exhausted else None
        exhausted = exhausted or (engine.hungry and job is None)
        if job is None and engine.idle:
            return
        for finished in engine.add(job) if job is not None else engine.step():
            if finished.error is not None:
                raise finished.error
            yield finished.job, finished.result


def groups(images: int, micro_batch: int) -> list[tuple[slice, int]]:
    """Splits so many images into groups: each group's span, and its budget of points per image.

    A group requests one micro-batch of points at a time. There are at least two groups if possible, so that one group
    fills up the micro-batch of the other.
    """
    size = max(1, min(micro_batch, math.ceil(images / 2)))
    spans = [slice(start, min(start + size, images)) for start in range(0, images, size)]
    return [(span, math.ceil(micro_batch / (span.stop - span.start))) for span in spans]


def _pending(states: list[_Running[Tag]]) -> int:
    return sum(state.pending for state in states)


def _part(response: Response, span: slice) -> Response:
    def cut(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[span]

    return Response(cut(response.scores), cut(response.gradients), cut(response.logits), cut(response.activations))
