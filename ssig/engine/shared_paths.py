"""Runs several methods on one group at once, so that points they share are evaluated once.

Integrated gradients at the nodes k / K, IDGI, Left-IG and the forward pass of IDG use the same straight path. Their
coroutines take turns, and requests of equal `key` are sent as one.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from ssig.types import Attribution, Request, Response, Steps


def together(methods: Sequence[Steps]) -> Generator[Request, Response, list[Attribution]]:
    """Runs the coroutines of methods on the same images, targets and score; their results, in order."""
    results: dict[int, Attribution] = {}
    waiting: dict[int, Request] = {}
    answered = [0] * len(methods)

    def advance(number: int, response: Response | None) -> None:
        try:
            waiting[number] = next(methods[number]) if response is None else methods[number].send(response)
        except StopIteration as stop:
            waiting.pop(number, None)
            results[number] = stop.value

    for number in range(len(methods)):
        advance(number, None)
    while waiting:
        first = min(waiting, key=lambda number: (waiting[number].key is not None, answered[number]))
        # Requests without a key go first: after its answer, a method may make the request that the others wait for.
        numbers = [number for number in waiting if number == first or _same(waiting[number], waiting[first])]
        want = frozenset[str]().union(*(waiting[number].want for number in numbers))
        response = yield replace(waiting[first], want=want)
        for number in numbers:
            answered[number] += 1
            advance(number, response)
    return [results[number] for number in range(len(methods))]


def _same(first: Request, second: Request) -> bool:
    """Whether both requests have the same points and the images' own targets, without a layer."""
    unshared = first.key is None or any(
        request.targets is not None or request.layer is not None for request in (first, second)
    )
    return not unshared and first.key == second.key
