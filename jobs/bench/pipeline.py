"""Speed of a whole job against the bare gradient loop.

    efficiency = images per second of the job * gradients per image / gradients per second of the bare loop

No pipeline can be faster than the loop: it has as many processes as the job has actors, with as many threads, and each
only evaluates gradients of the same optimised replica, at the same micro-batch, with the same allocator. It is
measured before and after the job, to show whether the machine's speed drifts. The job is real: Ray actors, decoding,
attribution, Parquet files with maps, commits. Its time counts from when an actor is ready to the end of the last unit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs.bench.job_process import events_of, ssig, times
from jobs.bench.networks import needed_shards
from jobs.bench.timing import machine, summary
from pipeline.driver.jemalloc import preloaded

# Seconds that the bare loop runs for; longer than the caches and clocks of a processor take to settle.
LOOP_SECONDS = 20.0


def measure(
    shards: Sequence[str] | None = None,
    images: int = 100,
    samples: int = 32,
    actors: int | None = None,
    threads: int | None = None,
    model: str = "efficientnet-lite0",
) -> dict[str, Any]:
    """Efficiency of one job of `ssig`.

    Args:
        shards: WebDataset shards with at least so many images; by default the development shards.
        images: number of images to attribute.
        samples: gradients per image.
        actors: number of actors; by default as many as fit the machine.
        threads: cores of each actor; by default all cores are shared out.
        model: the network.
    """
    before: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        # The driver chooses the layout. A job of one gradient per image shows it, and warms the caches.
        requested = {"actors.max": actors or "auto", "actors.num_cpus": threads or "auto"}
        layout = _job(shards, requested, images, 1, model, Path(folder) / "first")
        size, threads = layout["micro_batch"], layout["threads"]
        before = _loops(layout["actors"], threads, size, model)
        same = {"actors.max": layout["actors"], "actors.num_cpus": threads, "actors.micro_batch": size}
        job = _job(shards, same, images, samples, model, Path(folder) / "run")
        after = _loops(layout["actors"], threads, size, model)
    rate = job["images_per_second"] * samples
    loops = [sum(before), sum(after)]
    return {
        "model": model,
        "images": images,
        "gradients per image": samples,
        "actors": layout["actors"],
        "threads": threads,
        "micro_batch": size,
        "bare loop, gradients/s": summary(loops),
        "job, gradients/s": rate,
        "job, images/s": job["images_per_second"],
        "efficiency": summary([rate / loop for loop in loops]),
        "seconds to the first ready actor": job["start_up_seconds"],
        "machine": machine(),
    }


def _job(
    shards: Sequence[str] | None, layout: Mapping[str, Any], images: int, samples: int, model: str, run: Path
) -> dict[str, Any]:
    """Runs a job in another process and reads its log."""
    # Units of two images: small enough that actors end together, as they do in a run of many units.
    options = {"metrics": "[]", "dataset.limit": images, "unit_size": 2, **layout}
    command = [argument for shard in needed_shards(shards) for argument in ("--shards", shard)]
    command += ["--model", model, "--method", f"ssig:samples={samples}", "--out", str(run)]
    for name, value in options.items():
        command += ["--set", f"{name}={value}"]
    began = datetime.now().astimezone()
    ssig("attribute", *command)
    events = events_of(run)
    ready = {event["actor"]: event for event in events if event["event"] == "actor ready"}
    starts = [datetime.fromisoformat(event["time"]) for event in ready.values()]
    end = max(times(events, "unit done"))
    busy = sum((end - start).total_seconds() for start in starts)
    first = next(iter(ready.values()))
    return {
        "actors": len(ready),
        "threads": first["threads"],
        "micro_batch": first["micro_batch"],
        "images_per_second": images * len(ready) / busy,
        "start_up_seconds": (min(starts) - began).total_seconds(),
    }


def _loops(processes: int, threads: int, micro_batch: int, model: str) -> list[float]:
    """Gradients per second of bare loops that run at the same time, one per process."""
    command = [sys.executable, "-m", "jobs.bench.loop", model, str(threads), str(micro_batch), str(LOOP_SECONDS)]
    options: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "env": {**os.environ, **preloaded()},  # the same allocator as in actors
        "text": True,
    }
    running = [subprocess.Popen(command, **options) for _ in range(processes)]
    for process in running:
        _line(process)  # loaded
    for process in running:
        print(file=process.stdin, flush=True)
    return [float(_line(process)) for process in running]


def _line(process: subprocess.Popen[str]) -> str:
    if process.stdout is None:
        raise RuntimeError("a process without output")
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the bare loop ended with {process.wait()}")
    return line
