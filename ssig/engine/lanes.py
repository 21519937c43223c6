"""Splits a micro-batch among the cores of a CPU: each core takes a few points, instead of a part of each operation.

    one lane     n points, every operation split among all threads, which wait for each other after each operation
    k lanes      n / k points in each lane, which runs the whole network on its own threads; they wait once, at the end

A network of many small operations spends much of its time waiting for the slowest thread, and a core's input often
lies in the cache of another core. Lanes have neither problem. They share the network's tensors, but each lane has its
own modules, so that a hook registered during a call runs in one lane only.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor, nn

from ssig.engine.copying import sharing

Result = TypeVar("Result")

# Python runs one thread at a time, so many lanes would wait for each other.
MOST_LANES = 8
# A started thread waits so long for the others; a system short of memory may fail to start them.
START_SECONDS = 60.0


def lanes_for(threads: int) -> int:
    """The number of lanes for a number of threads."""
    return max(1, min(threads, MOST_LANES))


class Lanes:
    """Lanes of one network on the CPU. One call at a time.

    Args:
        network: in evaluation mode; it and its tensors must not change any more.
        count: how many lanes.
        threads: of all lanes together; each lane has at least one.

    Attributes:
        networks: of each lane; the first is `network` itself.

    Raises:
        ModelError: the network cannot be copied.
    """

    def __init__(self, network: nn.Module, count: int, threads: int) -> None:
        self.networks = [network, *(sharing(network) for _ in range(count - 1))]
        self._pool = ThreadPoolExecutor(count, "lane")
        self._start(max(1, threads // count))

    def __len__(self) -> int:
        return len(self.networks)

    def map(
        self, function: Callable[[nn.Module, Tensor, Tensor], Result], points: Tensor, targets: Tensor
    ) -> list[Result]:
        """`function` of a lane's network and each lane's share of points and targets, in their order.

        Raises:
            Exception: the error of the first share that failed, after all shares ended.
        """
        count = len(self.networks)
        shares = zip(self.networks, points.tensor_split(count), targets.tensor_split(count), strict=True)
        futures = [self._pool.submit(function, *share) for share in shares if len(share[1])]
        wait(futures)
        return [future.result() for future in futures]

    def _start(self, threads: int) -> None:
        """Starts all threads of the pool, each with so many threads for its operations."""
        before = torch.get_num_threads()
        together = Barrier(len(self.networks))

        def begin() -> None:
            torch.set_num_threads(threads)
            # A thread reads the process's number at its first call: make that call before the number is reset below.
            torch.get_num_threads()
            together.wait(START_SECONDS)

        for started in [self._pool.submit(begin) for _ in self.networks]:
            started.result()
        torch.set_num_threads(before)  # threads that start later take this number too
