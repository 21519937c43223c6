"""The units of a run examined by Ray tasks, over all nodes of a cluster that is named."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.checks.examination import Examine, UnitFiles, UnitResult, examine_tables
from pipeline.driver.executor import RunError
from pipeline.driver.ray_cluster import cluster, nodes_for_work
from pipeline.run.compaction_reading import StoredTables
from pipeline.run.labels import Label
from pipeline.storage import open_storage
from pipeline.storage.base import Storage
from ssig.errors import one_line

UNITS_A_TASK = 32
# Tasks that are begun or done for each core of the cluster.
TASKS_A_CORE = 2


@contextmanager
def examine_on_cluster() -> Iterator[Examine]:
    """Examines units on the cluster that `RAY_ADDRESS` names, each task some of them, with a core to itself.

    Raises:
        UsageError: no cluster answers.
        RunError: a task fails, while results are taken.
    """
    with cluster():

        def examine(storage: Storage, labels: Sequence[Label], units: Iterable[UnitFiles]) -> Iterator[UnitResult]:
            remote: Any = ray.remote(_examine_some)
            task = remote.options(num_cpus=1, max_retries=3, scheduling_strategy="SPREAD")
            shared = ray.put(list(labels))
            waiting = iter(units)
            ahead: deque[Any] = deque()
            while True:
                most = TASKS_A_CORE * _cores()
                while len(ahead) < most:
                    some = list(itertools.islice(waiting, UNITS_A_TASK))
                    if not some:
                        break
                    ahead.append(task.remote(storage.root, shared, some))
                if not ahead:
                    return
                yield from _answer(ahead.popleft())

        yield examine


def _cores() -> int:
    """The cores of the cluster as it is now: tasks that wait make an autoscaler add nodes."""
    return max(1, sum(int(node.get("CPU", 0)) for node in nodes_for_work()))


def _examine_some(root: str, labels: Sequence[Label], units: Sequence[UnitFiles]) -> list[UnitResult]:
    """The task."""
    stored = _tables(root)
    stored.refresh()
    return list(examine_tables(stored, labels, units))


@functools.cache
def _tables(root: str) -> StoredTables:
    """The tables of a run; the tasks that one process does share what is known of compacted ones."""
    return StoredTables(open_storage(root))


def _answer(reference: Any) -> list[UnitResult]:
    try:
        results: list[UnitResult] = ray.get(reference)
    except RayTaskError as error:
        raise RunError(f"a task that examines units failed: {one_line(error.cause or error)}") from None
    except RayError as error:
        raise RunError(f"a task that examines units was lost: {one_line(error)}") from None
    return results
