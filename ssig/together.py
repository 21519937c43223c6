"""Several methods on one group at once, so that points they share are evaluated once.

Integrated gradients at the nodes k / K, IDGI, Left-IG and the forward pass of IDG walk the same straight path. Each
is a coroutine of its own; here they take turns, and requests of equal `key` are sent as one.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from dataclasses import replace

from ssig.types import Attribution, Request, Response, Steps


def together(methods: Sequence[Steps]) -> Generator[Request, Response, list[Attribution]]:
    """Runs the coroutines of methods on the same images, targets and score; their results, in order."""
    results: dict[int, Attribution] = {}
    waiting: dict[int, Request] = {}

    def advance(number: int, response: Response | None) -> None:
        try:
            waiting[number] = next(methods[number]) if response is None else methods[number].send(response)
        except StopIteration as stop:
            waiting.pop(number, None)
            results[number] = stop.value

    for number in range(len(methods)):
        advance(number, None)
    while waiting:
        # Those that ask for something of their own go first: the others may catch up with them.
        numbers = min(_alike(waiting).values(), key=len)
        request = waiting[numbers[0]]
        response = yield replace(request, want=frozenset().union(*(waiting[number].want for number in numbers)))
        for number in numbers:
            advance(number, response)
    return [results[number] for number in range(len(methods))]


def _alike(waiting: dict[int, Request]) -> dict[Hashable, list[int]]:
    """The methods by what they wait for."""
    groups: dict[Hashable, list[int]] = {}
    for number, request in waiting.items():
        own = request.key is None or request.targets is not None or request.layer is not None
        groups.setdefault(("own", number) if own else ("shared", request.key), []).append(number)
    return groups
