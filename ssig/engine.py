"""Runs methods: merges the requests of several groups into full micro-batches and sends the answers back.

Each group's coroutine waits on one request at a time. Points of the same kind (score, layer, what is wanted) from as
many groups as are under way fill every micro-batch, so ragged groups cost nothing, and the next group starts when
the ones under way cannot fill the next micro-batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ssig.replica import Replica, join
from ssig.types import Attribution, Request, Response, Steps

# Groups under way at once; each holds its images and a few running sums of their size.
MOST_GROUPS = 4

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class Job(Generic[Tag]):
    """One group's attribution: the coroutine, its images' targets (B,) and score, and the caller's tag."""

    tag: Tag
    steps: Steps
    targets: Tensor
    score: str = "logit"


@dataclass
class _Running(Generic[Tag]):
    """A job whose request is being answered: `sent` of its points are evaluated, their answers in `parts`."""

    job: Job[Tag]
    request: Request
    sent: int = 0
    parts: list[Response] = field(default_factory=list)

    @property
    def kind(self) -> Hashable:
        return self.job.score, self.request.want, self.request.layer, tuple(self.request.points.shape[1:])

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


def run(replica: Replica, jobs: Iterable[Job[Tag]]) -> Iterator[tuple[Job[Tag], Attribution]]:
    """Yields each job with its attribution as it finishes; jobs are drawn from the iterable as they are needed."""
    waiting = iter(jobs)
    running: list[_Running[Tag]] = []
    exhausted = False
    while True:
        batch = _full_kind(running, replica.micro_batch)
        if batch is None and not exhausted and len(running) < MOST_GROUPS:
            job = next(waiting, None)
            if job is None:
                exhausted = True
                continue
            started = _advance(job, None)
            if isinstance(started, Attribution):
                yield job, started
            else:
                running.append(_Running(job, started))
            continue
        if not running:
            return
        _evaluate(replica, batch or _largest_kind(running))
        still: list[_Running[Tag]] = []
        for one in running:
            if one.pending:
                still.append(one)
                continue
            outcome = _advance(one.job, join(one.parts))
            if isinstance(outcome, Attribution):
                yield one.job, outcome
            else:
                still.append(_Running(one.job, outcome))
        running = still


def _advance(job: Job[Tag], response: Response | None) -> Request | Attribution:
    """Sends an answer to a job's coroutine: its next request, or its attribution."""
    try:
        request = next(job.steps) if response is None else job.steps.send(response)
    except StopIteration as stop:
        finished: Attribution = stop.value
        return finished
    if len(request.points) == 0:
        raise ValueError("a method asked for no points")
    return request


def _by_kind(running: list[_Running[Tag]]) -> dict[Hashable, list[_Running[Tag]]]:
    kinds: dict[Hashable, list[_Running[Tag]]] = defaultdict(list)
    for one in running:
        kinds[one.kind].append(one)
    return kinds


def _full_kind(running: list[_Running[Tag]], size: int) -> list[_Running[Tag]] | None:
    """The oldest jobs whose points of one kind fill a micro-batch."""
    return next((ones for ones in _by_kind(running).values() if sum(one.pending for one in ones) >= size), None)


def _largest_kind(running: list[_Running[Tag]]) -> list[_Running[Tag]]:
    return max(_by_kind(running).values(), key=lambda ones: sum(one.pending for one in ones))


def _evaluate(replica: Replica, ones: list[_Running[Tag]]) -> None:
    """Evaluates one micro-batch of the pending points of jobs of one kind, oldest first."""
    shares: list[tuple[_Running[Tag], int]] = []
    room = replica.micro_batch
    for one in ones:
        count = min(room, one.pending)
        if count:
            shares.append((one, count))
            room -= count
    taken = [one.take(count) for one, count in shares]
    request = ones[0].request
    response = replica.evaluate(
        torch.cat([points for points, _ in taken]),
        torch.cat([targets for _, targets in taken]),
        ones[0].job.score,
        request.want,
        request.layer,
    )
    start = 0
    for one, count in shares:
        one.parts.append(_part(response, slice(start, start + count)))
        start += count


def _part(response: Response, span: slice) -> Response:
    def cut(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[span]

    return Response(cut(response.scores), cut(response.gradients), cut(response.logits), cut(response.activations))
