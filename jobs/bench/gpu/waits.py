"""Where the host's thread is while the device computes: its functions by their own time, and its calls of CUDA."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.profiler import ProfilerActivity, profile

from jobs.bench.gpu.networks import classes, keys, network, pictures, replica
from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import duration
from ssig.api import attribute

LINES = 12
METHODS = ("ssig", "smoothgrad", "ig")


def cases(session: Session) -> Iterator[Case]:
    """A row for each method, on ResNet-50 in fp16."""
    for method in session.pick(METHODS, METHODS[:1]):
        yield f"resnet50 fp16, {method}", partial(_host, session, method)


def _host(session: Session, method: str) -> dict[str, Any]:
    ready = replica(session, "resnet50", "fp16")
    count, samples = session.pick(32, 2), session.pick(32, 4)
    images, targets = pictures(count, network(session, "resnet50").input_size), classes(count)
    given: dict[str, Any] = {"steps" if method == "ig" else "samples": samples}

    def run() -> None:
        attribute(ready, images, targets, method, keys=keys(count), **given)
        session.sync()

    seconds = duration(session, run)
    found: dict[str, Any] = {"seconds": seconds, "python, s": functions(run)}
    if session.on_gpu:
        found["calls of CUDA, ms and number"] = _calls(run)
    return found


def functions(run: Callable[[], None]) -> dict[str, float]:
    """The functions with the most time of their own -> seconds."""
    profiled = cProfile.Profile()
    profiled.runcall(run)
    rows: Any = pstats.Stats(profiled)
    own = {f"{file.rpartition('/')[2]}:{line}:{name}"[:70]: row[2] for (file, line, name), row in rows.stats.items()}
    return dict(sorted(own.items(), key=lambda pair: -pair[1])[:LINES])


def _calls(run: Callable[[], None]) -> dict[str, tuple[float, int]]:
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run()
    rows = [row for row in profiled.key_averages() if row.key.startswith("cuda")]
    rows.sort(key=lambda row: -row.self_cpu_time_total)
    return {row.key: (round(row.self_cpu_time_total / 1e3, 1), row.count) for row in rows[:LINES]}
