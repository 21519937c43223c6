"""Several methods on one group at once, so that points they share are evaluated once.

Integrated gradients at the nodes k / K, IDGI, Left-IG and the forward pass of IDG walk the same straight path. Each
is a coroutine of its own; here they take turns, and requests of equal `key` are sent as one.
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
        # A method that asks for something of its own goes first: the others may wait for the same as it will then.
        numbers = [number for number in waiting if number == first or _same(waiting[number], waiting[first])]
        want = frozenset[str]().union(*(waiting[number].want for number in numbers))
        response = yield replace(waiting[first], want=want)
        for number in numbers:
            answered[number] += 1
            advance(number, response)
    return [results[number] for number in range(len(methods))]


def _same(one: Request, other: Request) -> bool:
    """Whether both ask about the same points, by their scores of the images' own targets."""
    own = one.key is None or any(request.targets is not None or request.layer is not None for request in (one, other))
    return not own and one.key == other.key
