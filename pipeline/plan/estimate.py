"""The cost of a job: its work, times what a probe or a stated rate says of a device, over devices and their price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.plan.device import Probed
from pipeline.plan.files import Output
from pipeline.plan.work import LabelWork, Work

# A forward pass without gradients takes about a third of a gradient.
FORWARDS_PER_GRADIENT = 3.0
_HOUR = 3600.0


@dataclass(frozen=True)
class Terms:
    """What is to be done, and where.

    Attributes:
        run: the run directory.
        samples, exact: how many, and whether they were counted.
        unit_size, units: samples of a unit, and how many units there are.
        left: method label -> images that are not done yet.
        devices: that share the work.
        price: of a device for an hour; None where it is not given.
        rate: gradients a second of a device, where it is stated in place of a probe.
    """

    run: str
    samples: int
    exact: bool
    unit_size: int
    units: int
    left: Mapping[str, int]
    devices: int = 1
    price: float | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Part:
    """A part of a job's time: reading the images, the maps of a method, a metric, or writing.

    Attributes:
        label: of the method; None for what is done once for all.
        what: `maps`, the name of a metric, `reading` or `writing`.
        gradients, forwards: evaluations of the network for all images; None where they are known only after a run.
        seconds: of a device; None where nothing tells.
    """

    label: str | None
    what: str
    gradients: float | None
    forwards: float | None
    seconds: float | None


@dataclass(frozen=True)
class Estimate:
    """What a job will cost.

    Attributes:
        terms: what is to be done, and where.
        parts: of the time.
        output: what it writes.
        probed: what the device did; None without a probe.
        unknown: what the estimate cannot know, a sentence each.
    """

    terms: Terms
    parts: tuple[Part, ...]
    output: Output
    probed: Probed | None
    unknown: tuple[str, ...]

    @property
    def gradients(self) -> float:
        """As far as they are known."""
        return sum(part.gradients or 0.0 for part in self.parts)

    @property
    def forwards(self) -> float:
        """As far as they are known."""
        return sum(part.forwards or 0.0 for part in self.parts)

    @property
    def device_hours(self) -> float | None:
        """Hours of one device; None without a probe and without a rate."""
        seconds = [part.seconds for part in self.parts if part.seconds is not None]
        return sum(seconds) / _HOUR if seconds else None

    @property
    def wall_hours(self) -> float | None:
        """Hours by the clock on all devices, with the time until they are ready."""
        hours = self.device_hours
        if hours is None:
            return None
        ready = self.probed.ready if self.probed is not None and hours else 0.0
        return hours / self.terms.devices + ready / _HOUR

    @property
    def cost(self) -> float | None:
        """Price of the device-hours, those until the devices are ready too."""
        hours, price = self.wall_hours, self.terms.price
        return None if hours is None or price is None else hours * self.terms.devices * price

    @property
    def slowest(self) -> Part | None:
        """The part that takes longest."""
        timed = [part for part in self.parts if part.seconds]
        return max(timed, key=lambda part: part.seconds or 0.0, default=None)

    @property
    def record(self) -> dict[str, Any]:
        """The estimate for a program."""
        terms = asdict(self.terms)
        return {
            **terms,
            "gradients": self.gradients,
            "forwards": self.forwards,
            "parts": [asdict(part) for part in self.parts],
            "output": asdict(self.output),
            "probe": None if self.probed is None else asdict(self.probed),
            "device_hours": self.device_hours,
            "wall_hours": self.wall_hours,
            "cost": self.cost,
            "slowest": None if self.slowest is None else asdict(self.slowest),
            "unknown": list(self.unknown),
        }


def estimate(
    terms: Terms, works: Sequence[LabelWork], output: Output, probed: Probed | None, unknown: Sequence[str]
) -> Estimate:
    """Puts an estimate together.

    Args:
        terms: what is to be done, and where.
        works: what each method and its metrics need for one image.
        output: what the job writes.
        probed: what the device did; it is not used where a rate is stated.
        unknown: what the estimate cannot know.
    """
    used = None if terms.rate is not None else probed
    most = max(terms.left.values(), default=0)
    reading = _once("decode", most, used)
    # Each image is scored once, for its prediction.
    parts = [Part(None, "reading", 0.0, float(most), _seconds(reading, Work(0, most), terms))]
    for work in works:
        parts += _parts(work, terms, used)
    writing = [_step(used, work.label, "write", terms.left[work.label]) for work in works]
    if used is not None:
        parts.append(Part(None, "writing", 0.0, 0.0, sum(seconds or 0.0 for seconds in writing)))
    return Estimate(terms, tuple(parts), output, used, tuple(unknown))


def _parts(work: LabelWork, terms: Terms, probed: Probed | None) -> list[Part]:
    """The maps of a method, and each metric."""
    images = terms.left[work.label]
    own = work.own * images
    gradients: float | None = own.gradients
    if work.counted:
        gradients = None if probed is None else probed.labels[work.label].gradients * images
    measured = _step(probed, work.label, "attribute", images)
    forwards = None if work.counts_forwards else own.forwards
    parts = [Part(work.label, "maps", gradients, forwards, _seconds(measured, own, terms))]
    for name, each in work.metrics.items():
        needed = each * images
        spent = None if probed is None else probed.labels[work.label].metrics.get(name, 0.0) * images
        parts.append(Part(work.label, name, needed.gradients, needed.forwards, _seconds(spent, needed, terms)))
    return parts


def _seconds(measured: float | None, work: Work, terms: Terms) -> float | None:
    """Measured seconds; else those that a stated rate gives."""
    if measured is not None or terms.rate is None:
        return measured
    return (work.gradients + work.forwards / FORWARDS_PER_GRADIENT) / terms.rate


def _step(probed: Probed | None, label: str, step: str, images: int) -> float | None:
    return None if probed is None else probed.labels[label].steps.get(step, 0.0) * images


def _once(step: str, images: int, probed: Probed | None) -> float | None:
    """Seconds of a step that is done once for all labels, whose share each of them has."""
    return None if probed is None else images * sum(cost.steps.get(step, 0.0) for cost in probed.labels.values())
