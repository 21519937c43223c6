"""How well `ssig plan` tells the time of a job: plan and run take turns, for three jobs.

    ratio = seconds from the first ready actor to the last unit / device seconds that the plan says

The jobs differ in what takes their time: decoding, gradients, and metrics.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jobs.bench.job_process import events_of, ssig, times
from jobs.bench.networks import needed_shards
from jobs.bench.timing import machine


class Kind(NamedTuple):
    """A job: its methods and metrics, and how many images it does in the time of one of the slowest job."""

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    quick: int


JOBS = {
    "decoding": Kind(("gradient",), ("gini",), 15),
    "gradients": Kind(("ssig", "ig:steps=32"), ("roc_auc",), 1),
    "metrics": Kind(("gradient", "smoothgrad:samples=4"), ("insertion:steps=32", "deletion:steps=32"), 1),
}
NEAR = 0.2  # how far from 1 the median ratio may be
UNIT = 2  # images of the slowest job: few enough that actors end together, as they do in a run of many units


def measure(
    shards: Sequence[str] | None = None, images: int = 32, rounds: int = 3, model: str = "efficientnet-lite0"
) -> dict[str, Any]:
    """Plans and runs each job several times, one after the other.

    Args:
        shards: WebDataset shards with images for each job; by default the development shards.
        images: of each job; of one whose images are quick, so many times as many, in units as many times as large.
        rounds: of planning and running each job.
        model: the network.
    """
    given = [argument for shard in needed_shards(shards) for argument in ("--shards", shard)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (methods, metrics, quick) in JOBS.items():
            ratios = []
            for number in range(rounds):
                job = [*given, "--model", model, "--limit", str(quick * images), "--set", f"unit_size={quick * UNIT}"]
                job += [argument for method in methods for argument in ("--method", method)]
                job += [argument for metric in metrics for argument in ("--metric", metric)]
                run = Path(folder, f"{name}-{number}")
                planned = json.loads(ssig("plan", *job, "--out", str(run), "--json"))["device_hours"] * 3600
                ssig("attribute", *job, "--out", str(run), "--quiet")
                ratios.append(seconds_of_units(run) / planned)
            found.append({"job": name, "median ratio": statistics.median(ratios), "ratios": ratios})
    return {
        "model": model,
        "images": images,
        "jobs": found,
        "ok": all(abs(job["median ratio"] - 1) <= NEAR for job in found),
        "machine": machine(),
    }


def seconds_of_units(run: Path) -> float:
    """Seconds from the first ready worker of a run to its last unit, as its log says."""
    events = events_of(run)
    return (max(times(events, "unit done")) - min(times(events, "actor ready"))).total_seconds()
