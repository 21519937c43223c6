"""Agreement of device and CPU: maps of every method, numbers of every metric, and draws.

float64    the same network and draws: relative differences of at most 1e-8
float32    the rule of docs/reliability.md: maps to 1e-4 of their norm
draws      the sampled points, bit for bit
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from jobs.bench.gpu.compare import differences, explained, few, relative
from jobs.bench.gpu.networks import TOY_SIDE, classes, keys, network, pictures, toy
from jobs.bench.gpu.session import Case, Session
from ssig import testing
from ssig.acceleration.ready_replica import ready_replica
from ssig.engine.device import Device
from ssig.engine.replica import Replica
from ssig.estimators.samplers import sampler
from ssig.models import Model
from ssig.randomness import stream
from ssig.registry import METHODS, METRICS
from ssig.types import Evaluation, Group

SAMPLERS = (
    *("uniform", "uniform-channel", "bernoulli", "patch-7", "smooth-7", "noise", "line"),
    *("frequency bins", "frequency gains", "frequency rings"),
)
# On the photograph-sized network: one of each kind of computation.
REAL = (
    *("ssig", "ssig-signed", "ssig-path", "ig", "idgi-ig", "blur-ig", "smoothgrad", "grad-cam", "gradient"),
    *("ssig-frequency", "guided-ig"),
)


def cases(session: Session) -> Iterator[Case]:
    """Every method in float64, draws, every metric, every method in float32, and some on a real network."""
    for name in METHODS.names():
        yield f"float64 {name}", partial(method, session, name, torch.float64)
    for law in SAMPLERS:
        yield f"draws {law}", partial(drawn, session, law)
    for name in METRICS.names():
        yield f"metric {name}", partial(metric, session, name)
    for name in session.pick(METHODS.names(), METHODS.names()[:3]):
        yield f"float32 {name}", partial(method, session, name, torch.float32)
    for precision in ("fp32", "tf32"):
        here, there = _real(session, precision)
        for name in session.pick(REAL, REAL[:3]):
            yield f"{precision} lite0 {name}", partial(_on_real, here, there, name)


def method(session: Session, name: str, dtype: torch.dtype) -> dict[str, Any]:
    """The differences of a method's results on a small network, device against CPU."""
    images, targets = pictures(3, (TOY_SIDE, TOY_SIDE)).to(dtype), torch.tensor([1, 5, 7])
    plain = toy(attention=METHODS[name].attention).to(dtype)
    here = Replica(plain, micro_batch=7)
    there = Replica(copy.deepcopy(plain).to(session.device), micro_batch=5)
    options = few(name, session.pick(8, 4))
    expected = explained(here, images, targets, name, **options)
    return differences(explained(there, images.to(session.device), targets, name, **options), expected)


def drawn(session: Session, law: str) -> str | float:
    """``equal``, or the greatest difference of the points of three samples of two images."""
    images = pictures(2, (TOY_SIDE, TOY_SIDE))
    streams = tuple(stream(0, *key, "ssig") for key in keys(2))
    name, _, spectrum = law.partition(" ")
    samples: Any = sampler(name, spectrum=spectrum or "bins")
    points = []
    for device in (torch.device("cpu"), session.device):
        group = Group(images.to(device), torch.full_like(images, 0.45).to(device), streams)
        points.append(torch.stack([samples.point(group, k, 8).cpu() for k in range(3)]))
    here, there = points
    return "equal" if torch.equal(here, there) else float((here - there).abs().max())


def metric(session: Session, name: str) -> dict[str, Any]:
    """The greatest difference of a metric's columns, relative to each column's greatest value."""
    spec = METRICS[name]
    options = spec.parse({})
    numbers = []
    for device in (torch.device("cpu"), session.device):
        owner = Device(Replica(testing.small_network().float().to(device), micro_batch=16))
        try:
            example = testing.example_evaluation()
            evaluation: Evaluation = example.changed(
                images=example.images.to(device), forward=owner.forward, activations=owner.activations
            )
            numbers.append(spec.compute(evaluation, options).columns)
        finally:
            owner.close()
    here, there = numbers
    found = {}
    for column, values in here.items():
        both = np.isfinite(values) & np.isfinite(there[column])
        scale = float(np.abs(values[both]).max(initial=0.0)) or 1.0
        found[column] = float(np.abs(values[both] - there[column][both]).max(initial=0.0)) / scale
    return {"difference": max(found.values(), default=0.0), "same images": _same_images(here, there)}


def _same_images(here: Any, there: Any) -> bool:
    return all(np.array_equal(np.isnan(here[column]), np.isnan(there[column])) for column in here)


def _real(session: Session, precision: str) -> tuple[Replica, Replica]:
    """Ready replicas of EfficientNet-Lite0 on the CPU, in fp32, and on the device."""
    model = network(session, "lite0", precision)
    plain = Model(
        copy.deepcopy(model.network).cpu(),
        name=model.name,
        mean=model.mean.cpu(),
        std=model.std.cpu(),
        geometry=model.geometry,
        categories=model.categories,
        weights_hash=model.weights_hash,
    )
    here = session.cached(("agreement", "lite0"), lambda: ready_replica(plain, micro_batch=8))
    return here, ready_replica(model, micro_batch=8)


def _on_real(here: Replica, there: Replica, name: str) -> dict[str, Any]:
    model: Any = here.model
    images, targets = pictures(1, tuple(model.input_size)), classes(1) + 3
    options = few(name)
    expected = explained(here, images, targets, name, **options)
    found = explained(there, images.to(there.device), targets, name, **options)
    return {"map": relative(found.map, expected.map), "score": relative(found.score, expected.score)}
