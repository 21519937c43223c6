"""Runs methods: merges the requests of several groups into full micro-batches and sends the answers back.

Each group's coroutine waits for one request at a time. A micro-batch takes points of one kind (score, layer, wanted
outputs) from all running groups, so small groups cost nothing. The next group starts when the running groups cannot
fill the next micro-batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ssig.engine.accelerators import Mark, forget, mark, release_memory
from ssig.engine.replica import Check, Replica, join
from ssig.engine.timing import Spent
from ssig.types import Attribution, Request, Response

# Groups that run at once; each holds its images and a few running sums of their size.
MOST_GROUPS = 4

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
    """How a job ended: the result of its coroutine or an error, and what was computed for it."""

    job: Job[Tag]
    result: Any
    error: Exception | None
    spent: Spent

    @property
    def seconds(self) -> float:
        """Seconds of computing; waits until the device has done it all."""
        return self.spent.seconds


@dataclass
class _Running(Generic[Tag]):
    """A job whose request is being answered: `sent` of its points are evaluated, their answers in `parts`."""

    job: Job[Tag]
    request: Request
    spent: Spent
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

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """The next `count` points and their targets."""
        span = slice(self.sent, self.sent + count)
        self.sent += count
        if self.request.targets is not None:
            return self.request.points[span], self.request.targets[span]
        return self.request.points[span], self.job.targets[self.request.owners[span]]


_Share = tuple[_Running[Tag], Tensor, Tensor]
_Unchecked = tuple[Check, list[_Share[Tag]]]


class Engine(Generic[Tag]):
    """The running jobs of one replica. Not for two threads at once.

    An error of the network or of a method ends only the job that caused it: if points of several jobs were evaluated
    together, each job's points are tried alone.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._running: list[_Running[Tag]] = []
        # The micro-batch before this one, if its gradients are still to be checked.
        self._unchecked: _Unchecked[Tag] | None = None

    @property
    def idle(self) -> bool:
        return not self._running

    @property
    def hungry(self) -> bool:
        """Whether another job would make the next micro-batch fuller."""
        return len(self._running) < MOST_GROUPS and self._full_kind() is None

    def add(self, job: Job[Tag]) -> list[Finished[Tag]]:
        """Starts a job; it may finish without a request."""
        return self._advance(job, [], Spent())

    def step(self) -> list[Finished[Tag]]:
        """Evaluates one micro-batch; returns the jobs that this finished.

        An answer that is to be checked is sent a step later: the device has the next micro-batch meanwhile.
        """
        earlier, self._unchecked = self._unchecked, None
        states = self._full_kind() or self._largest_kind()
        if states:
            self._evaluate(states)
        if earlier is not None:
            self._check(*earlier)
        unchecked = self._unchecked_jobs()
        finished: list[Finished[Tag]] = []
        running, self._running = self._running, []
        for state in running:
            if state.error is not None:
                finished.append(Finished(state.job, None, state.error, state.spent))
            elif state.pending or id(state) in unchecked:
                self._running.append(state)
            else:
                finished += self._advance(state.job, state.parts, state.spent)
        return finished

    def end(self, error: Exception) -> list[Finished[Tag]]:
        """Ends all running jobs with an error."""
        running, self._running = self._running, []
        self._unchecked = None
        return [Finished(state.job, None, error, state.spent) for state in running]

    def _advance(self, job: Job[Tag], parts: list[Response], spent: Spent) -> list[Finished[Tag]]:
        """Sends an answer, if there is one, to a job's coroutine, which makes a new request or finishes."""
        try:
            with spent.charged(self.replica.device):
                # Joining takes memory too: without memory, the job fails and not the thread.
                request = job.steps.send(join(parts)) if parts else next(job.steps)
            if len(request.points) == 0:
                raise ValueError("a method made a request without points")
        except StopIteration as stop:
            return [Finished(job, stop.value, None, spent)]
        except Exception as error:
            return [Finished(job, None, error, spent)]
        self._running.append(_Running(job, request, spent))
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
        return next((states for states in self._by_kind() if _pending(states) >= self._size(states)), None)

    def _largest_kind(self) -> list[_Running[Tag]] | None:
        return max(self._by_kind(), key=_pending, default=None)

    def _size(self, states: list[_Running[Tag]]) -> int:
        """Points of a kind that are evaluated at once."""
        request = states[0].request
        return self.replica.size(request.want, request.layer)

    def _evaluate(self, states: list[_Running[Tag]]) -> None:
        """Evaluates one micro-batch of the pending points of jobs of one kind, oldest first."""
        shares: list[_Share[Tag]] = []
        room = self._size(states)
        for state in states:
            count = min(room, state.pending)
            if count:
                shares.append((state, *state.take(count)))
                room -= count
        error = self._tried(partial(self._answer, shares))
        if error is None or len(shares) == 1:
            shares[0][0].error = error
            return
        for share in shares:
            share[0].error = self._tried(partial(self._answer, [share]))
            self._check_now()

    def _unchecked_jobs(self) -> set[int]:
        return set() if self._unchecked is None else {id(state) for state, _, _ in self._unchecked[1]}

    def _check_now(self) -> None:
        unchecked, self._unchecked = self._unchecked, None
        if unchecked is not None:
            self._check(*unchecked)

    def _check(self, check: Check, shares: list[_Share[Tag]]) -> None:
        """Completes a micro-batch; an error ends its jobs."""

        def complete() -> None:
            start = mark(self.replica.device)
            check()
            self._charge(shares, start)

        error = self._tried(complete)
        for state, _, _ in shares:
            state.error = state.error or error

    def _tried(self, work: Callable[[], None]) -> Exception | None:
        """The error of some work for the device, if there is one."""
        try:
            work()
        except torch.OutOfMemoryError as error:
            forget(error)
            release_memory(self.replica.device)
            return error
        except Exception as error:
            return error
        return None

    def _answer(self, shares: list[_Share[Tag]]) -> None:
        """Evaluates points of jobs of one kind together, and charges each job for its share of the time."""
        start = mark(self.replica.device)
        first = shares[0][0]
        response, check = self.replica.begin(
            torch.cat([points for _, points, _ in shares]) if len(shares) > 1 else shares[0][1],
            torch.cat([targets for _, _, targets in shares]),
            first.job.score,
            first.request.want,
            first.request.layer,
        )
        self._charge(shares, start)
        first_row = 0
        for state, points, _ in shares:
            state.parts.append(_part(response, slice(first_row, first_row + len(points))))
            first_row += len(points)
        if check is not None:
            self._unchecked = check, shares

    def _charge(self, shares: list[_Share[Tag]], start: Mark) -> None:
        """Charges jobs, by their points, with what the device was given since a mark."""
        stop = mark(self.replica.device)
        total = sum(len(points) for _, points, _ in shares)
        for state, points, _ in shares:
            state.spent.add(start, stop, len(points) / total)


def run(replica: Replica, jobs: Iterable[Job[Tag]]) -> Iterator[tuple[Job[Tag], Attribution]]:
    """Yields each job with its attribution as it finishes; takes jobs from the iterable as it needs them."""
    for finished in _finished(replica, jobs):
        if finished.error is not None:
            raise finished.error
        yield finished.job, finished.result


def outcomes(replica: Replica, jobs: Iterable[Job[Any]]) -> list[Any]:
    """The results of jobs, in their order; a `torch.OutOfMemoryError` in place of the result of a job that met it.

    Raises:
        Exception: any other error of the first job that ended with one.
    """
    numbered = (replace(job, tag=number) for number, job in enumerate(jobs))
    results: dict[int, Any] = {}
    for finished in _finished(replica, numbered):
        if finished.error is not None and not isinstance(finished.error, torch.OutOfMemoryError):
            raise finished.error
        results[finished.job.tag] = finished.result if finished.error is None else finished.error
    return [results[number] for number in range(len(results))]


def _finished(replica: Replica, jobs: Iterable[Job[Tag]]) -> Iterator[Finished[Tag]]:
    engine: Engine[Tag] = Engine(replica)
    waiting = iter(jobs)
    exhausted = False
    while True:
        job = next(waiting, None) if engine.hungry and not exhausted else None
        exhausted = exhausted or (engine.hungry and job is None)
        if job is None and engine.idle:
            return
        yield from engine.add(job) if job is not None else engine.step()


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
