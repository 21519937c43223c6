"""A method over many images, span by span; a span that does not fit the memory is halved until it does.

The network's micro-batches are halved by the replica. Here it is the method's own sums, draws and baselines that do
not fit: its coroutine cannot be resumed after an error, so the span is attributed again from its start, as two halves
that also request fewer points at a time. Results do not depend on it except for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from ssig.engine.accelerators import forget, release_memory
from ssig.engine.micro_batches import Job, groups

Span = tuple[slice, int]
# Makes the job of a span of images, with a budget of points for each image.
Make = Callable[[slice, int], Job[Any]]
# The results of jobs in order, each an error of memory where it met one: `Device.outcomes`, `micro_batches.outcomes`.
Run = Callable[[Iterable[Job[Any]]], Iterable[Any]]


def in_spans(images: int, micro_batch: int, device: torch.device, make: Make, run: Run) -> Iterator[Any]:
    """The results of a method for consecutive spans of images, in order.

    Args:
        images: their number.
        micro_batch: of the network.
        device: whose memory is given back before a second try.
        make, run: see `Make` and `Run`.

    Raises:
        torch.OutOfMemoryError: one image does not fit, with one point requested at a time.
    """
    return _results(groups(images, micro_batch), device, make, run)


def halves(span: slice, budget: int) -> list[Span]:
    """The halves of a span, or one image with half the budget; none if there is nothing to halve."""
    if span.stop - span.start > 1:
        middle = (span.start + span.stop) // 2
        return [(part, max(1, budget // 2)) for part in (slice(span.start, middle), slice(middle, span.stop))]
    return [(span, budget // 2)] if budget > 1 else []


def _results(spans: Sequence[Span], device: torch.device, make: Make, run: Run) -> Iterator[Any]:
    # Errors of jobs that could not even be made, such as for want of memory for the images.
    unmade: dict[int, torch.OutOfMemoryError] = {}

    def jobs() -> Iterator[Job[Any]]:
        for position, (span, budget) in enumerate(spans):
            try:
                job = make(span, budget)
            except torch.OutOfMemoryError as error:
                unmade[position] = error
                continue
            yield job

    answers = iter(run(jobs()))
    for position, (span, budget) in enumerate(spans):
        answer = unmade.pop(position) if position in unmade else next(answers)
        if not isinstance(answer, torch.OutOfMemoryError):
            yield answer
            continue
        smaller = halves(span, budget)
        if not smaller:
            raise answer
        forget(answer)
        del answer
        release_memory(device)
        yield from _results(smaller, device, make, run)
