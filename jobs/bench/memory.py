"""Memory of a run: of its driver and its actors, for datasets of several sizes.

    growth of an actor = its peak - its memory when its replica was ready, before its first unit

Each size is a whole run through `pipeline.driver.attribute.attribute` in a process of its own. Peaks are the kernel's
(``VmHWM`` in ``/proc``), so short ones count too. An actor's peak includes the loading of its replica.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.bench.networks import needed_shards
from pipeline.driver.attribute import attribute
from pipeline.driver.executor import RunError
from pipeline.job.configuration import load_job
from pipeline.unit.memory import memory
from ssig.errors import DONE, FAILED_SAMPLES, UsageError

MOST_GROWTH_BYTES = 1_200_000_000
MOST_RATIO = 1.05
POLL_SECONDS = 0.05


def measure(
    images: Sequence[int] = (100, 500),
    methods: Sequence[str] = ("ssig",),
    samples: int = 4,
    shards: Sequence[str] = (),
    actors: int = 1,
    model: str = "efficientnet-lite0",
) -> dict[str, Any]:
    """Runs the pipeline on datasets of several sizes and watches its processes.

    Args:
        images: how many images each dataset has.
        methods: methods that take `samples`.
        samples: samples of each method.
        shards: patterns of shards; by default those in the folder that SSIG_DEV_SHARDS names.
        actors: the most actors.
        model: the network.

    Returns:
        `runs`: the memory of each process for each size, in bytes; `growth_bytes`: the most that an actor grew by;
        `peak_ratio`: the highest peak of an actor with the most images over that with the fewest; `ok`: whether the
        former is at most 1.2 GB and the latter at most 1.05.

    Raises:
        UsageError: no shards, or a system without ``/proc``.
        RunError: a run failed.
    """
    if memory() is None:
        raise UsageError("bench memory", sys.platform, "a system with /proc, where the sizes of processes are read")
    found = needed_shards(shards)
    runs: list[dict[str, Any]] = []
    for count in images:
        overrides = {
            "dataset.shards": found,
            "dataset.limit": count,
            "model.name": model,
            "methods": [{"name": name, "samples": samples} for name in methods],
            "output.maps": "float16",
            "actors.max": actors,
        }
        runs += ({"images": count, **sizes} for sizes in _watched(overrides))
    peaks = {count: max(run["peak_bytes"] for run in _actors(runs) if run["images"] == count) for count in images}
    growth = max(run["growth_bytes"] for run in _actors(runs))
    ratio = peaks[max(images)] / peaks[min(images)]
    return {
        "model": model,
        "methods": list(methods),
        "samples": samples,
        "runs": runs,
        "growth_bytes": growth,
        "peak_ratio": ratio,
        "ok": growth <= MOST_GROWTH_BYTES and ratio <= MOST_RATIO,
    }


def _actors(runs: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (run for run in runs if run["process"] != "driver")


def _watched(overrides: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs a job and yields the memory of its driver and its actors."""
    with tempfile.TemporaryDirectory(prefix="ssig-bench-") as folder:
        run = Path(folder) / "run"
        driver = multiprocessing.get_context("spawn").Process(
            target=_attribute, args=({**overrides, "output.path": str(run)},)
        )
        driver.start()
        peaks: defaultdict[int | None, int] = defaultdict(int)
        while driver.is_alive():
            for pid in (driver.pid, *(actor["pid"] for actor in _ready(run))):
                usage = memory(pid)
                peaks[pid] = max(peaks[pid], usage.peak if usage else 0)
            driver.join(POLL_SECONDS)
        if driver.exitcode not in (DONE, FAILED_SAMPLES):
            raise RunError(f"the run ended with exit code {driver.exitcode}")
        yield {"process": "driver", "ready_bytes": None, "peak_bytes": peaks[driver.pid], "growth_bytes": None}
        for actor in _ready(run):
            ready, peak = actor["resident_bytes"], peaks[actor["pid"]]
            yield {
                "process": actor["actor"],
                "ready_bytes": ready,
                "peak_bytes": peak,
                "growth_bytes": peak - ready,
            }


def _attribute(overrides: Mapping[str, Any]) -> None:
    os.dup2(2, 1)  # Ray prints warnings to standard output, which is for the record
    sys.exit(attribute(load_job(None, overrides)).exit_code)


def _ready(run: Path) -> list[dict[str, Any]]:
    """The events of the run's log about actors that became ready."""
    lines = [line for log in run.glob("logs/*.jsonl") for line in log.read_text().splitlines(keepends=True)]
    # The last line may be incomplete.
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event for event in events if event["event"] == "actor ready"]
