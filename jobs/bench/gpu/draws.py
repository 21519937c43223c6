"""Samples a second that the host draws, by the number of threads, and that the device makes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from jobs.bench.gpu.networks import keys, pictures
from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import rate
from ssig.estimators.samplers import sampler
from ssig.randomness import stream
from ssig.types import Group

LAWS = ("uniform", "uniform-channel", "bernoulli", "patch-7", "noise", "frequency")
# What is drawn for a sample -> shape and function of NumPy's generator.
DRAWN: dict[str, tuple[tuple[int, ...], str]] = {
    "uniform, 1 x 224 x 224": ((1, 224, 224), "random"),
    "normal, 3 x 224 x 224": ((3, 224, 224), "standard_normal"),
}
ROWS = 32


def cases(session: Session) -> Iterator[Case]:
    """Points a second of each sampler as methods call it, then the host's generators by threads."""
    for law in LAWS:
        yield f"{law}, points/s", partial(_points, session, law)
    cores = os.cpu_count() or 1
    for name in DRAWN:
        for threads in sorted({1, min(4, cores), max(1, cores - 1)}):
            yield (
                f"{name}, {threads} threads, samples/s",
                partial(_filled, session, name, threads),
            )


def _points(session: Session, law: str) -> float:
    count = session.pick(ROWS, 2)
    images = pictures(count, session.pick((224, 224), (32, 32)), session.device)
    group = Group(images, torch.full_like(images, 0.45), tuple(stream(0, *key, "ssig") for key in keys(count)))
    samples = sampler(law)
    if samples is None:
        raise ValueError(f"no sampler {law}")
    return rate(session, lambda: samples.point(group, 3, 8), count, 0.4)


def _filled(session: Session, name: str, threads: int) -> float:
    """Drawn into memory that the device can copy from while it computes."""
    shape, draw = DRAWN[name]
    streams = [stream(0, *key, "ssig") for key in keys(session.pick(ROWS, 4))]
    memory = torch.empty((len(streams), *shape), pin_memory=session.on_gpu).numpy()

    def fill(row: int) -> None:
        function: Callable[..., Any] = getattr(streams[row].generator(3), draw)
        function(out=memory[row], dtype=np.float32)

    with ThreadPoolExecutor(threads) as pool:
        return rate(session, lambda: list(pool.map(fill, range(len(streams)))), len(streams), 0.3)
