"""The device's thread beside other threads: two callers, and threads that compute in Python or NumPy."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np

from jobs.bench.gpu.networks import classes, network, pictures, replica
from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import duration
from jobs.bench.gpu.units import attributed
from ssig.engine.device import Device

SHORT_INTERVAL = 1e-4


def cases(session: Session) -> Iterator[Case]:
    """Gradients a second of ssig on ResNet-50 in fp16."""
    device = Device(replica(session, "resnet50", "fp16"))
    try:
        yield "one caller, gradients/s", partial(_rate, session, device, 1)
        yield "two callers, gradients/s", partial(_rate, session, device, 2)
        for name, work in (("Python", _in_python), ("NumPy", _in_numpy)):
            yield f"beside a thread of {name}, gradients/s", partial(_beside, session, device, work)
        yield (
            f"beside Python, switch interval {SHORT_INTERVAL * 1e3} ms, gradients/s",
            lambda: _switching(session, device),
        )
    finally:
        device.close()


def _rate(session: Session, device: Device, callers: int) -> float:
    count, samples = session.pick(32, 2), session.pick(32, 4)
    model = network(session, "resnet50", "fp16")
    images, targets = pictures(count, model.input_size), classes(count)

    def unit(_: int = 0) -> None:
        attributed(device, images, targets, "ssig", samples, model.mean)

    unit()
    with ThreadPoolExecutor(callers) as pool:
        return callers * count * samples / duration(session, lambda: list(pool.map(unit, range(callers))))


def _beside(session: Session, device: Device, work: Callable[[], object]) -> float:
    with _working(work):
        return _rate(session, device, 2)


def _switching(session: Session, device: Device) -> float:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SHORT_INTERVAL)
    try:
        return _beside(session, device, _in_python)
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _working(work: Callable[[], object]) -> Iterator[None]:
    """A thread that works all the time, in the body."""
    over = threading.Event()

    def forever() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _in_python() -> object:
    return sum(number * number for number in range(200))


def _in_numpy() -> object:
    return np.sort(np.arange(300)[::-1])
