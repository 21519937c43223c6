"""Shards surveyed by Ray tasks, over all nodes of the cluster."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray._private import worker
from ray.exceptions import RayError, RayTaskError

from pipeline.driver.executor import RunError
from pipeline.driver.listing import by_threads
from pipeline.driver.ray_cluster import nodes
from pipeline.shards.survey import ShardRecord, Survey
from ssig.errors import one_line

SHARDS_A_TASK = 64
# With fewer shards, threads of the driver are done before a process of Ray has started.
LEAST_SHARDS = 32
TASKS_A_NODE = 3


def by_tasks(shards: Sequence[ShardRecord]) -> Generator[Survey, None, None]:
    """Surveys shards by tasks of Ray, in order; few ones, or those of a driver at a ``ray://`` address, by threads.

    A task surveys `SHARDS_A_TASK` shards by threads and gives each as soon as it can. It takes no core, since it waits
    for storage most of the time, and since actors may have all cores.

    Raises:
        RunError: the tasks of the cluster fail.
        OSError: the storage does not answer, or a shard is another now.
    """
    is_by_client = not worker.global_worker.connected  # whose tasks cannot give one result after the other
    if len(shards) < LEAST_SHARDS or is_by_client:
        yield from by_threads(shards)
        return
    remote: Any = ray.remote(_survey_some)
    task = remote.options(num_cpus=0, num_returns="streaming", scheduling_strategy="SPREAD", max_retries=3)
    parts = (shards[start : start + SHARDS_A_TASK] for start in range(0, len(shards), SHARDS_A_TASK))
    ahead: deque[Any] = deque()
    try:
        while True:
            room = TASKS_A_NODE * max(1, len(nodes())) - len(ahead)
            ahead.extend(task.remote(list(part)) for part in itertools.islice(parts, max(0, room)))
            if not ahead:
                return
            for reference in ahead[0]:
                yield _answer(reference)
            ahead.popleft()
    finally:
        for generator in ahead:
            with suppress(RayError, TypeError, ValueError):
                ray.cancel(generator)


def _survey_some(shards: Sequence[ShardRecord]) -> Iterator[Survey]:
    """The task."""
    yield from by_threads(shards)


def _answer(reference: Any) -> Survey:
    try:
        survey: Survey = ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, OSError):
            raise error.cause from None
        raise RunError(f"a task that lists shards failed: {one_line(error.cause or error)}") from None
    except RayError as error:
        raise RunError(f"a task that lists shards was lost: {one_line(error)}") from None
    return survey
