"""Overhead of the driver: its real dispatch loop and pool, with actors that only sleep.

    overhead = makespan / (ceil(units / actors) · unit_size · seconds) - 1

The makespan begins when every actor is ready and ends when the driver receives the result of the last unit. Each
size of the dataset is measured in another process, so that the peaks of the driver's memory can be compared.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from jobs.bench.simulated import SimulatedActor
from pipeline.driver.actor import remote_class
from pipeline.driver.dispatch import Agenda, Dispatch
from pipeline.driver.executor import RunError
from pipeline.driver.pool import Pool
from pipeline.driver.progress import Progress
from pipeline.driver.ray_cluster import cluster
from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Work
from pipeline.run.lease import Lease
from pipeline.shards import manifest as manifests
from pipeline.shards.manifest import Manifest
from pipeline.shards.pack import write_tar
from pipeline.storage import open_storage
from pipeline.unit.memory import memory

MOST_OVERHEAD = 0.03
MOST_GROWTH = 1.05
SMALLER = 10  # times, the smaller dataset
UNITS_PER_SHARD = 16


def measure(actors: int = 32, samples: int = 20_000, seconds: float = 0.02, unit_size: int = 64) -> dict[str, Any]:
    """Dispatches datasets of two sizes.

    Args:
        actors: number of actors.
        samples: number of samples of the larger dataset.
        seconds: sleep for each sample.
        unit_size: samples in a unit.

    Returns:
        `runs`: what `dispatch` gives for each size; `overhead`: of the larger one; `growth`: the driver's peak memory
        with the larger one over that with the smaller; `ok`: whether the former is at most 3 % and the latter 1.05.
    """
    sizes = (max(1, samples // SMALLER), samples)
    # Ray prints warnings to standard output, which is for the record: they go to standard error.
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=os.dup2, initargs=(2, 1), max_tasks_per_child=1
    ) as processes:
        runs = [processes.submit(dispatch, actors, size, seconds, unit_size).result() for size in sizes]
    smaller, larger = runs
    peaks = smaller["driver_peak_bytes"], larger["driver_peak_bytes"]
    growth = peaks[1] / peaks[0] if all(peaks) else None
    return {
        "actors": actors,
        "seconds_per_sample": seconds,
        "unit_size": unit_size,
        "runs": runs,
        "overhead": larger["overhead"],
        "growth": growth,
        "ok": larger["overhead"] <= MOST_OVERHEAD and (growth is None or growth <= MOST_GROWTH),
    }


def dispatch(actors: int, samples: int, seconds: float, unit_size: int) -> dict[str, Any]:
    """Dispatches one dataset from this process; memory is None where the system has no ``/proc``.

    Raises:
        RunError: an actor did not start.
    """
    with tempfile.TemporaryDirectory(prefix="ssig-bench-") as folder, cluster():
        storage = open_storage(Path(folder) / "run")
        _manifest(Path(folder), samples, unit_size).save(storage)
        manifest = manifests.load(storage)
        works = [Work(unit.id, ("sleep",), unit.stop - unit.start) for unit in manifest.units()]
        pool = _ready_pool(actors, seconds)
        with_torch = sum(member.info["has_torch"] for member in pool.members if member.info is not None)
        idle = memory()
        finished = _Clock(len(works))
        with Lease(storage) as lease:
            agenda, size = Agenda(storage, manifest, works), Shape(0, 0, actors, actors)
            loop = Dispatch(agenda, pool, size, lease, finished, Progress())
            started, computed = time.perf_counter(), time.process_time()
            loop.run()
            computed = time.process_time() - computed
    usage = memory()
    best = math.ceil(len(works) / actors) * min(unit_size, samples) * seconds
    makespan = finished.at - started
    return {
        "samples": samples,
        "units": len(works),
        "units_done": loop.schedule.done,
        "orders": loop.orders,
        "actors_with_torch": with_torch,
        "best_seconds": best,
        "makespan_seconds": makespan,
        "overhead": makespan / best - 1,
        "driver_cpu_seconds": computed,
        "driver_idle_bytes": idle.resident if idle else None,
        "driver_peak_bytes": usage.peak if usage else None,
    }


class _Clock:
    """Notes the time at which all units are done."""

    def __init__(self, units: int) -> None:
        self._units = units
        self.at = math.nan

    def __call__(self, progress: Progress, message: str | None) -> None:
        if progress.units_done == self._units and math.isnan(self.at):
            self.at = time.perf_counter()


def _ready_pool(actors: int, seconds: float) -> Pool:
    """Starts the actors. They reserve no cores, since they compute nothing."""
    remote = remote_class(SimulatedActor, num_cpus=0, num_gpus=0)
    pool = Pool(lambda: remote.remote(seconds))
    for _ in range(actors):
        pool.start()
    while any(member.info is None for member in pool.members):
        for event in pool.wait(1.0):
            if event.kind == "lost":
                raise RunError(f"a simulated actor did not start: {event.reason}")
    return pool


def _manifest(folder: Path, samples: int, unit_size: int) -> Manifest:
    """The manifest of tiny shards: one shard under many names."""
    first = folder / "000000.tar"
    with first.open("wb") as file:
        write_tar(file, ((f"{number:08d}.cls", b"0") for number in range(UNITS_PER_SHARD * unit_size)))
    shards = [first]
    for number in range(1, math.ceil(samples / (UNITS_PER_SHARD * unit_size))):
        shards.append(folder / f"{number:06d}.tar")
        shards[-1].hardlink_to(first)
    return manifests.build([str(shard) for shard in shards], unit_size, limit=samples)
