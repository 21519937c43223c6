"""How many actors there are: as many as the work, the job and the cluster allow."""

from __future__ import annotations

import math
import time
from collections import Counter

from pipeline.driver.executor import Executor, Member, RunError
from pipeline.driver.progress import Progress
from pipeline.driver.resources import Shape, wording

# Actors that fail to start one after the other before the run is given up.
MOST_FAILED_STARTS = 3
RESIZE_SECONDS = 10.0
# After so many failed starts in a row the time between two tries grows no further.
MOST_DOUBLINGS = 6


class Scaling:
    """Starts actors, and counts failed starts.

    Args:
        executor: starts them.
        size: how many actors there should be, and their resources.
        progress: shows what the run waits for.
        measures: whether they are the actors that only measure. A run goes on without these.
    """

    def __init__(self, executor: Executor, size: Shape, progress: Progress, measures: bool = False) -> None:
        self._executor = executor
        self._size = size
        self._measures = measures
        self._progress = progress
        self._failed_starts = 0
        self._resized = 0.0
        self._placeless_since: float | None = None
        self._losses: Counter[str | None] = Counter()

    def resize(self, undone: float) -> None:
        """Starts the actors that are lacking; now and then, and less often after failed starts.

        Args:
            undone: units that are not done; infinite while that is not known.
        """
        now = time.monotonic()
        setbacks = max([self._failed_starts, *(losses - 1 for losses in self._losses.values())])
        pause = RESIZE_SECONDS * 2 ** min(setbacks, MOST_DOUBLINGS)
        staying = [member for member in self._members if not member.is_leaving]
        if staying and now - self._resized < pause:
            return
        self._resized = now
        # A given number may exceed the cluster: actors that wait for a place are what makes an autoscaler add nodes.
        most = self._size.metrics if self._measures else self._size.most
        if math.isinf(most):
            most = max(1, self._executor.places(self._size))
        for _ in range(int(min(most, undone)) - len(staying)):
            self._executor.start(self._measures)

    def await_place(self) -> None:
        """Shows what the run waits for while no node has a place for an actor.

        Raises:
            RunError: no place came within `actors.wait` seconds.
        """
        size = self._size
        if size.wait is None or self._has_ready or self._executor.places(size):
            if self._placeless_since is not None:
                self._placeless_since = None
                self._progress.phase = "starting actors"
            return
        now = time.monotonic()
        self._placeless_since = self._placeless_since or now
        needed = f"a node with {wording(size.num_cpus, 'CPU')}"
        if size.num_gpus:
            needed += f" and {wording(size.num_gpus, 'GPU')}"
        if now - self._placeless_since > size.wait:
            raise RunError(
                f"waited {size.wait:g} s (actors.wait) for {needed}, and none came; see that the cluster's "
                "autoscaler adds such nodes, or keep one alive (min_workers: 1)"
            )
        self._progress.phase = (
            f"waiting for {needed}: actors that wait for a place are what makes an autoscaler add nodes; "
            f"at most {size.wait:g} s (actors.wait)"
        )

    def started(self) -> None:
        """Notes that an actor is ready."""
        self._failed_starts = 0

    def lost(self, gpu: str | None) -> None:
        """Notes that an actor on a GPU was lost: one that is lost over and over is tried less and less often.

        So are all that only measure: an image that kills these is done by others.
        """
        if gpu is not None or self._measures:
            self._losses[gpu] += 1

    def proved(self, gpu: str | None) -> None:
        """Notes that an order was done on a GPU, or measured."""
        self._losses.pop(gpu, None)

    def failed_to_start(self, reason: str) -> None:
        """Notes that an actor ended before it was ready.

        Raises:
            RunError: the last ones did too, no actor is ready, and the run cannot go on without one. While others
                work, failed starts do not end the run; they are repeated less and less often.
        """
        self._failed_starts += 1
        if self._failed_starts >= MOST_FAILED_STARTS and not self._has_ready and not self._measures:
            raise RunError(f"{self._failed_starts} actors in a row failed to start: {reason}")

    @property
    def _members(self) -> list[Member]:
        """The actors of this kind."""
        return [member for member in self._executor.members if member.measures is self._measures]

    @property
    def _has_ready(self) -> bool:
        return any(member.info is not None for member in self._members)


def most_actors(size: Shape) -> int | str:
    """The most actors, for the log; `auto` where the cluster alone sets the bound."""
    return "auto" if math.isinf(size.most) else int(size.most)
