"""What the host does beside a device: changed images, imputations, decoding, and a thread that computes in Python.

    points/s of a small network on one thread, beside a thread that is busy in Python, for several switch intervals

A thread that asks for the interpreter's lock gets it after the switch interval; the thread that feeds a device asks
for it after every operation of the network.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from jobs.bench.timing import machine, summary
from pipeline.shards.images import rgb
from ssig.metrics.faithfulness.device_imputation import impute_all
from ssig.metrics.faithfulness.imputation import impute
from ssig.models.geometry import Geometry
from ssig.registry import METRICS
from ssig.types import Evaluation

SIDE, CLASSES = 224, 1000
# Seconds: Python's default and less.
INTERVALS = (5e-3, 1e-3, 5e-4, 1e-4)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SWEEPS = ("insertion", "deletion", "diffid")


def measure(rounds: int = 3, seconds: float = 1.0, side: int = SIDE) -> dict[str, Any]:
    """The record of this machine.

    Args:
        rounds: timings of each.
        seconds: of each timing beside a busy thread.
        side: of the images, in pixels.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "machine": machine(),
            "changed images": [_building(name, side, rounds) for name in SWEEPS],
            "imputations": [_imputing(name, solve, side) for name, solve in _SOLVERS.items()],
            "decoding": [_decoding(threads, rounds) for threads in (1, 2)],
            "beside a busy thread": [
                {"thread": work, **row} for work in BUSY for row in _beside(BUSY[work], rounds, seconds)
            ],
        }
    finally:
        torch.set_num_threads(before)


def smooth_maps(count: int, side: int) -> np.ndarray:
    """(count, side, side) float32 noise, smooth to different degrees."""
    generator = np.random.default_rng(0)
    return np.stack(
        [gaussian_filter(generator.standard_normal((side, side)), 1 + 3 * k) for k in range(count)]
    ).astype(np.float32)


def _building(metric: str, side: int, rounds: int) -> dict[str, Any]:
    """Thread milliseconds to build an image of a metric's sweeps, with a network that costs nothing."""
    spec, points = METRICS[metric], [0]
    generator = torch.Generator().manual_seed(0)
    answer = torch.randn(1, CLASSES, generator=generator)

    def forward(images: Tensor) -> Tensor:
        points[0] += len(images)
        return answer.expand(len(images), -1)

    def evaluation() -> Evaluation:
        images = torch.rand(4, 3, side, side, generator=generator)
        return Evaluation(
            images=images,
            maps=torch.from_numpy(smooth_maps(4, side)),
            targets=torch.zeros(4, dtype=torch.int64),
            forward=forward,
            mean=torch.full((3,), 0.5),
            std=torch.full((3,), 0.25),
            masks=("no object",) * 4,
            keys=tuple(("", str(row)) for row in range(4)),
        )

    spent = []
    for _ in range(rounds):
        batch, points[0] = evaluation(), 0
        started = time.thread_time()
        spec.compute(batch, spec.parse({}))
        spent.append((time.thread_time() - started) / points[0])
    return {"metric": metric, "thread ms an image": 1000 * summary(spent)["median"]}


def _direct(image: Tensor, masks: Tensor) -> None:
    for mask in masks.numpy():
        impute(image.numpy(), mask)


def _iterative(image: Tensor, masks: Tensor) -> None:
    impute_all(image.expand(len(masks), -1, -1, -1), masks)


_SOLVERS: dict[str, Callable[[Tensor, Tensor], None]] = {"direct (host)": _direct, "multigrid (device)": _iterative}


def _imputing(name: str, solve: Callable[[Tensor, Tensor], None], side: int) -> dict[str, Any]:
    """Thread seconds of the imputations of ROAD for a map in one order: nine shares, highest and lowest."""
    image = torch.from_numpy(np.random.default_rng(1).random((3, side, side)))
    spent = []
    for values in torch.from_numpy(smooth_maps(2, side)).flatten(1):
        order = values.argsort().argsort().view(side, side)
        rising = [order < int(share * side * side) for share in SHARES]
        falling = [order >= side * side - int(share * side * side) for share in SHARES]
        started = time.thread_time()
        solve(image, torch.stack(rising + falling))
        spent.append(time.thread_time() - started)
    return {"solver": name, "thread seconds a map and order": sum(spent) / len(spent)}


def _decoding(threads: int, rounds: int) -> dict[str, Any]:
    """Milliseconds to decode and resize a photograph of 500 x 375 pixels, as a JPEG."""
    pixels = np.random.default_rng(2).random((375, 500, 3))
    smooth = gaussian_filter(pixels, (3, 3, 0))
    scaled = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(scaled).save(buffer, "jpeg", quality=90)
    geometry, count, spent = Geometry((256, 256), (224, 224)), 64, []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            started = time.perf_counter()
            list(pool.map(lambda data: geometry.apply(rgb(data)), [buffer.getvalue()] * count))
            spent.append((time.perf_counter() - started) / count)
    return {"decoding threads": threads, "ms an image": 1000 * summary(spent)["median"]}


def in_python(stop: Callable[[], bool]) -> int:
    """Computes in Python until told to stop; how many rounds."""
    rounds = 0
    while not stop():
        sum(number * number for number in range(1000))
        rounds += 1
    return rounds


def in_numpy(stop: Callable[[], bool]) -> int:
    """Calls NumPy, which keeps the lock in small operations and lets it go in large ones."""
    values, rounds = np.random.default_rng(0).random(SIDE * SIDE), 0
    while not stop():
        for _ in range(10):
            np.abs(values).sum()
        values.argsort()
        rounds += 1
    return rounds


BUSY = {"Python": in_python, "NumPy": in_numpy}


def _beside(work: Callable[[Callable[[], bool]], int], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Points/s of a small network for each switch interval, beside the busy thread; the intervals take turns."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()
    points = torch.rand(4, 3, 16, 16)
    alone: list[float] = []
    speeds: dict[float, list[float]] = {interval: [] for interval in INTERVALS}
    works: dict[float, list[float]] = {interval: [] for interval in INTERVALS}
    for _ in range(rounds):
        alone.append(_gradients(network, points, seconds))
        for interval in INTERVALS:
            with switching(interval), _thread(work) as busy:
                speeds[interval].append(_gradients(network, points, seconds))
            works[interval].append(busy[0] / busy[1])
    rows: list[dict[str, Any]] = [
        {"switch interval, ms": "alone", "points/s": summary(alone)["median"], "its rounds/s": None}
    ]
    return rows + [
        {
            "switch interval, ms": f"{1000 * interval:g}",
            "points/s": summary(speeds[interval])["median"],
            "its rounds/s": summary(works[interval])["median"],
        }
        for interval in INTERVALS
    ]


def _gradients(network: nn.Module, points: Tensor, seconds: float) -> float:
    """Points/s of gradients on this thread."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        variable = points.detach().requires_grad_()
        torch.autograd.grad(network(variable)[:, 0].sum(), variable)
        done += len(points)
    return done / (time.perf_counter() - started)


@contextmanager
def switching(interval: float) -> Iterator[None]:
    """Sets Python's switch interval for a while."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _thread(work: Callable[[Callable[[], bool]], int]) -> Iterator[list[float]]:
    """A busy thread; afterwards its rounds and its seconds."""
    stop, outcome = threading.Event(), [0.0, 1.0]

    def body() -> None:
        started = time.perf_counter()
        outcome[0] = work(stop.is_set)
        outcome[1] = time.perf_counter() - started

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield outcome
    finally:
        stop.set()
        thread.join()
