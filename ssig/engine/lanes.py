"""The points of a micro-batch on the cores of a CPU: a few for each core, instead of all cores for each operation.

    one lane     n points, every operation cut among all threads, which wait for each other after each
    k lanes      n / k points in each, the whole network on threads of its own; they wait once, at the end

A network of many small operations spends much of its time in waiting for the slowest thread, and what a core has
just computed lies in the cache of another. Lanes have neither problem. They share the network's tensors, but each has
modules of its own, so that what is hooked to one during a call is not called by another.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import chain
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor, nn

from ssig.engine.copying import copy_of

Result = TypeVar("Result")

# Python runs one thread at a time, so that many lanes would wait for each other after all.
MOST_LANES = 8
# A thread that has started waits so long for the others, which a system short of memory may refuse.
START_SECONDS = 60.0


def lanes_for(threads: int) -> int:
    """How many lanes suit so many threads."""
    return max(1, min(threads, MOST_LANES))


class Lanes:
    """Lanes of one network on the CPU. One call at a time.

    Args:
        network: in evaluation mode; neither it nor its tensors may change any more.
        count: how many lanes.
        threads: of all lanes together, one for each at least.

    Attributes:
        networks: of each lane; the first is `network` itself.

    Raises:
        ModelError: the network cannot be copied.
    """

    def __init__(self, network: nn.Module, count: int, threads: int) -> None:
        self.networks = [network, *(_sharing(network) for _ in range(count - 1))]
        self._pool = ThreadPoolExecutor(count, "lane")
        self._start(max(1, threads // count))

    def __len__(self) -> int:
        return len(self.networks)

    def map(
        self, function: Callable[[nn.Module, Tensor, Tensor], Result], points: Tensor, targets: Tensor
    ) -> list[Result]:
        """`function` of a lane's network and each lane's share of points and targets, in their order.

        Raises:
            Exception: what the first share raised that raised anything, once all are done.
        """
        count = len(self.networks)
        shares = zip(self.networks, points.tensor_split(count), targets.tensor_split(count), strict=True)
        futures = [self._pool.submit(function, *share) for share in shares if len(share[1])]
        wait(futures)
        return [future.result() for future in futures]

    def _start(self, threads: int) -> None:
        """Starts all threads of the pool, and gives each so many threads for its operations."""
        before = torch.get_num_threads()
        together = Barrier(len(self.networks))

        def begin() -> None:
            torch.set_num_threads(threads)
            # A thread takes the number of the process when it is first asked: now, before that is another again.
            torch.get_num_threads()
            together.wait(START_SECONDS)

        for started in [self._pool.submit(begin) for _ in self.networks]:
            started.result()
        torch.set_num_threads(before)  # which is also what threads that start later take


def _sharing(network: nn.Module) -> nn.Module:
    """A copy of a network's modules that holds the same tensors."""
    return copy_of(network, chain(network.parameters(), network.buffers()))
