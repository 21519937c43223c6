"""The share of the time in which the device computes: attribution alone, and beside insertion, deletion and DiffID.

A run has two units in flight: while one is attributed, the maps of the other are measured. Here two threads do that
with the same device thread, engine and metrics. Reading, encoding and writing are left out.

    share = seconds in which at least one kernel runs, from the profiler / seconds of the same work without it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from jobs.bench.gpu.networks import classes, keys, network, pictures, replica
from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import duration
from jobs.bench.gpu.units import attributed
from ssig.engine.device import Device
from ssig.models import Model
from ssig.registry import METRICS
from ssig.types import evaluation_of

MEASURED = ("insertion", "deletion", "diffid")
AT_ONCE = 2
KERNELS = 10


@dataclass(frozen=True)
class Work:
    """Units of images, to be attributed by a method and measured by metrics.

    Attributes:
        model: the network, for its normalisation.
        device: the thread that owns the replica.
        images: (B, C, H, W) of each unit, on the CPU as they are read.
        logits: (B, classes) of each unit.
        method, samples: the attribution.
        metrics: names.
        units: how many.
    """

    model: Model
    device: Device
    images: Tensor
    logits: Tensor
    method: str
    samples: int
    metrics: tuple[str, ...]
    units: int

    def run(self) -> None:
        """All units, two at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._unit, range(self.units)))

    def _unit(self, number: int) -> None:
        targets = classes(len(self.images))
        maps = attributed(self.device, self.images, targets, self.method, self.samples, self.model.mean)
        if not self.metrics:
            return
        evaluation = evaluation_of(
            self.images.to(self.device.replica.device),
            maps,
            targets,
            self.device.forward,
            self.model,
            logits=self.logits,
            batch=max(64, self.device.replica.micro_batch),
            keys=tuple(keys(len(maps))),
        )
        for name in self.metrics:
            METRICS[name].compute(evaluation, METRICS[name].parse({}))


def cases(session: Session) -> Iterator[Case]:
    """The share with the three metrics first, then of attribution alone."""
    yield "resnet50 fp16, ssig and metrics", partial(share, session, "resnet50", "ssig", MEASURED)
    for method in session.pick(("ssig", "smoothgrad", "ig"), ("ssig",)):
        yield f"resnet50 fp16, {method}", partial(share, session, "resnet50", method, ())
    if not session.tiny:
        yield "lite0 fp16, ssig and metrics", partial(share, session, "lite0", "ssig", MEASURED)


def share(session: Session, name: str, method: str, metrics: tuple[str, ...]) -> dict[str, Any]:
    """Seconds of the work, and the share of them in which the device computes; None on the CPU."""
    model = network(session, name, "fp16")
    device = Device(replica(session, name, "fp16"))
    try:
        images = pictures(session.pick(16, 2), model.input_size)
        logits = device.forward(images).cpu()
        samples, units = session.pick(32, 4), session.pick(4, 2)
        work = Work(model, device, images, logits, method, samples, metrics, units)
        Work(model, device, images, logits, method, samples, metrics, 1).run()
        seconds = duration(session, work.run)
        found: dict[str, Any] = {
            "seconds": seconds,
            "images/s": units * len(images) / seconds,
            "gradients/s": units * len(images) * samples / seconds,
            "share": None,
        }
        if session.on_gpu:
            found |= _profiled(session, work, seconds)
        return found
    finally:
        device.close()


def _profiled(session: Session, work: Work, seconds: float) -> dict[str, Any]:
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        wall = duration(session, work.run)
    kernels = [
        event
        for event in profiled.events() or ()
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]
    if not kernels:
        return {"why no share": "the profiler saw no kernel"}
    busy = covered((event.time_range.start, event.time_range.end) for event in kernels) / 1e6
    longest: dict[str, float] = {}
    for event in kernels:
        longest[event.name[:60]] = longest.get(event.name[:60], 0.0) + event.time_range.elapsed_us() / 1e3
    top = sorted(longest.items(), key=lambda pair: -pair[1])[:KERNELS]
    return {
        "share": busy / seconds,
        "busy, s": busy,
        "seconds under the profiler": wall,
        "kernels": len(kernels),
        "longest kernels, ms": {name: round(milliseconds, 1) for name, milliseconds in top},
    }


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of spans (start, end): kernels of several streams overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
