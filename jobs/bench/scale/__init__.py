"""What the steps of a large run take: requests, bytes, seconds and memory, on storage that answers late.

A run of a share of the images is made and measured, and a quarter of it; a line through the two gives the whole. Each
step runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from jobs.bench.scale.first_version import NOTES, SIZES, before
from jobs.bench.scale.model import SETTLED, at, cost
from jobs.bench.scale.steps import AFTER, COMPACT, STEPS, measured
from ssig.errors import UsageError

SMALLER = 4  # times, the smaller run
FEWEST = 12_000  # images of the larger run: both must have more than the 2,000 up to which reports draw samples
BYTES_PER_ROW = 1500  # of an image under a label, at most, in all files
MOST_BYTES = 10e9


def measure(
    images: int = 1_281_167,
    labels: int = 5,
    delay_ms: float = 20.0,
    share: float = 0.01,
    folder: Path | None = None,
    only: str | None = None,
) -> dict[str, Any]:
    """Measures each step on a share of the images.

    Args:
        images: of the whole run.
        labels: methods of the run.
        delay_ms: milliseconds of each request.
        share: of the images that are measured, in (0, 1].
        folder: where the data are written, in a folder of their own that is removed; None for the system's.
        only: steps, with commas; None for all.

    Returns:
        `steps`: by step what was measured (`measured`, of the larger run), the peak of memory in each run
        (`peaks_bytes`), what it takes at all images on the line (`now`), and what it took in version 0.1.0, on the
        line of its own two sizes (`before`; None for a step that it had not).

    Raises:
        UsageError: a share that is none, an unknown step, a folder that cannot be made, or too little room.
    """
    steps_asked = chosen(only)
    if not 0 < share <= 1:
        raise UsageError("--share", share, "a share of the images, more than 0 and at most 1")
    larger = images if share == 1 else min(images, max(FEWEST, round(images * share)))
    sizes = (larger,) if larger == images else (larger // SMALLER, larger)
    delay = delay_ms / 1000
    _check_room(folder, sum(sizes) * labels * BYTES_PER_ROW)
    runs = [_measured(size, labels, delay, folder, steps_asked) for size in sizes]
    earlier = before(images, labels, delay)
    steps = []
    for step in runs[-1]:
        costs = [cost(run[step]) for run in runs]
        done = [run[step].get("images", size) for run, size in zip(runs, sizes, strict=True)]
        now = costs[0] if len(sizes) == 1 else at(images, (done[0], done[-1]), costs[0], costs[-1])
        old = earlier.get(step)
        steps.append(
            {
                "step": step,
                "before": None if old is None else old.record(delay),
                "now": now.record(delay),
                "measured": runs[-1][step],
                "peaks_bytes": [run[step]["peak_bytes"] for run in runs],
            }
        )
    return {
        "images": images,
        "labels": labels,
        "delay_ms": delay_ms,
        "measured_images": list(sizes),
        "cores": os.cpu_count(),
        "steps": steps,
    }


def chosen(only: str | None) -> tuple[str, ...]:
    """The steps that are measured, in their order. What is measured after compaction needs it.

    Args:
        only: steps, with commas; None for all.

    Raises:
        UsageError: field ``--only``; an unknown step.
    """
    if only is None:
        return STEPS
    asked = [name.strip() for name in only.split(",")]
    for name in asked:
        if name not in STEPS:
            raise UsageError("--only", name, list(STEPS))
    compacted = any(name.endswith(AFTER) for name in asked)
    return tuple(step for step in STEPS if step in asked or (compacted and step == COMPACT))


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record in lines of at most 80 columns."""
    sizes = " and ".join(f"{size:,}" for size in record["measured_images"])
    return [
        f"{record['images']:,} images x {record['labels']} labels, {record['delay_ms']:g} ms a request",
        f"measured with {sizes} images on {record['cores']} cores",
        "",
        f"{'step':<13}{'before':>10}{'now':>10}{'requests':>11}{'in flight':>11}{'read':>10}{'memory':>10}",
        *(_line(row) for row in record["steps"]),
        "",
        "now: seconds of waiting (requests / in flight x delay) + seconds of computing,",
        "each on a line through both sizes. `measured` is of the larger size, memory of",
        f"the smaller and the larger; at all images it is known from {SETTLED:,} images on.",
        "Other work on the machine adds to all seconds, those of its processor aside.",
        f"{'step':<13}{'waiting':>10}{'computing':>11}{'processor':>11}{'measured':>11}{'memory of both':>20}",
        *(_line_of_model(row) for row in record["steps"] if row["step"] != "commits"),
        "",
        f"before: version 0.1.0, measured once with {SIZES[0]:,} and {SIZES[1]:,} images, on its line.",
        f"{'step':<13}{'waiting':>10}{'computing':>11}{'requests':>11}{'in flight':>11}{'read':>10}",
        *(_line_before(row) for row in record["steps"] if row["before"] and row["step"] != "commits"),
        *(line for row in record["steps"] if row["step"] in NOTES for line in _wrapped(row["step"])),
    ]


def _line(row: Mapping[str, Any]) -> str:
    old, now = row["before"], row["now"]
    if row["step"] == "commits":
        return f"{'commits':<13}{old['requests']:>10,.0f}{now['requests']:>10,.0f}"
    first = "-" if old is None else _time(old["seconds"])
    counts = f"{now['requests']:>11,.0f}{now['in_flight']:>11.1f}{_size(now['bytes_read']):>10}"
    return f"{row['step']:<13}{first:>10}{_time(now['seconds']):>10}{counts}{_size(now['peak_bytes']):>10}"


def _line_of_model(row: Mapping[str, Any]) -> str:
    now, found = row["now"], row["measured"]
    times = f"{_time(now['waiting']):>10}{_time(now['computing']):>11}{_time(now['processor']):>11}"
    return f"{row['step']:<13}{times}{_time(found['seconds']):>11}{', '.join(map(_size, row['peaks_bytes'])):>20}"


def _line_before(row: Mapping[str, Any]) -> str:
    old = row["before"]
    counts = f"{old['requests']:>11,.0f}{old['in_flight']:>11.1f}{_size(old['bytes_read']):>10}"
    return f"{row['step']:<13}{_time(old['waiting']):>10}{_time(old['computing']):>11}{counts}"


def _wrapped(step: str) -> list[str]:
    return textwrap.wrap(f"{step}: {NOTES[step]}", 78, initial_indent="  ", subsequent_indent="    ")


def _time(seconds: float) -> str:
    """In the largest unit of which there is one or more."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _size(count: float | None) -> str:
    if count is None:
        return "-"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _measured(
    images: int, labels: int, delay: float, folder: Path | None, steps: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Step -> what it took on a run of so many images, which is written before and removed after."""
    with (
        tempfile.TemporaryDirectory(prefix="ssig-bench-scale-", dir=folder) as name,
        # What a step prints goes to standard error: standard output is for the record.
        ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=os.dup2, initargs=(2, 1), max_tasks_per_child=1
        ) as processes,
    ):
        data = Path(name).resolve()
        processes.submit(_write, data, images, labels).result()
        found = {step: processes.submit(measured, step, data, delay).result() for step in steps}
        if "commits" in found:  # those that workers wrote, not those of the listing
            found["commits"] = {**found["commits"], "requests": found["commits"]["commits"], "bytes_read": 0}
    return found


def _write(data: Path, images: int, labels: int) -> None:
    from jobs.bench.scale.data import write_data  # imports torch, which would count as memory of each step

    write_data(data, images, labels)


def _check_room(folder: Path | None, size: float) -> None:
    place = Path(tempfile.gettempdir()) if folder is None else folder
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("--folder", str(place), f"a folder to write into ({error.strerror})") from None
    free = shutil.disk_usage(place).free
    if size > min(free, MOST_BYTES):
        raise UsageError(
            "--share",
            None,
            f"a share whose data fit in {min(free, MOST_BYTES) / 1e9:.1f} GB ({place}); these take "
            f"{size / 1e9:.1f} GB at most",
        )
