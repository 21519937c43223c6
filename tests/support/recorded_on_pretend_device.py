"""Passes that would be recorded, on the pretend device; prints JSON: pass -> what a recording could not contain.

A CUDA graph cannot contain a wait for the device, nor a copy from the host's usual memory.

    python tests/support/recorded_on_pretend_device.py
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pretend_device
import torch
from pretend_device import ATEN, NAME, Pretended, register, waits
from torch import Tensor, nn

from ssig.engine.graphs import Compute, Graphs, Seconds
from ssig.engine.replica import Replica
from ssig.models.geometry import Geometry
from ssig.models.model import Model
from ssig.testing import small_network
from ssig.types import SCORE_AND_GRADIENT

WANTED = {"gradient": SCORE_AND_GRADIENT, "logits": frozenset({"logits"}), "all": SCORE_AND_GRADIENT | {"logits"}}
SCORES = ("logit", "log-probability", "probability")
HEIGHT, WIDTH, CLASSES = 10, 12, 5

copies: Counter[str] = Counter()


class Watch:
    """A recorder that notes what the recorded pass asks of the host; each replay computes again."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.recorded = 0
        self.measured = 0

    def record(self, compute: Compute, points: Tensor, targets: Tensor) -> Compute:
        waits.clear()
        copies.clear()
        compute(points, targets)
        self.found.update({f"waits for {operation}": count for (_, operation), count in waits.items()})
        self.found.update(copies)
        self.recorded += 1
        return compute

    def elapsed(self, call: Callable[[], object]) -> Seconds:
        call()
        self.measured += 1
        return Seconds(1.0, 1.0) if self.measured % 2 == 0 else Seconds(2.0, 2.0)

    def release(self) -> None:
        pass


def count_copies() -> None:
    """Notes copies from the host to the device from now on."""
    run = pretend_device._run

    def counted(function: Any, args: Any, kwargs: Any) -> Any:
        to_device = function in (ATEN._to_copy.default, ATEN.copy_.default)
        source = args[-1] if function is ATEN.copy_.default else args[0] if args else None
        if to_device and isinstance(source, Tensor) and not isinstance(source, Pretended):
            copies["copies from the host"] += 1
        return run(function, args, kwargs)

    pretend_device._run = counted


class Waits(nn.Sequential):
    """Waits for the device in its pass."""

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = super().forward(points)
        return logits * max(1.0, float(logits.detach().abs().max()) * 0)


class Copies(nn.Sequential):
    """Copies from the host in its pass."""

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = super().forward(points)
        return logits * torch.ones(CLASSES).to(logits.device)


def model_of(network: nn.Module) -> Model:
    return Model(
        network.float(),
        name="small",
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        geometry=Geometry(resize=(HEIGHT, WIDTH), crop=(HEIGHT, WIDTH)),
        categories=tuple("abcde"),
    )


def fault(
    network: nn.Module, want: frozenset[str], score: str, weighted: bool = False, precision: str = "fp32"
) -> str:
    """What a recording of a pass could not contain, or how its answers differ from the CPU's; empty if nothing.

    The precision decides about scales alone: this device has no autocast.
    """
    points = torch.rand(6, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    targets = torch.eye(CLASSES)[torch.arange(6) % CLASSES] if weighted else torch.arange(6) % CLASSES
    network = model_of(network)
    replica, watch = Replica(network, micro_batch=4), Watch()
    replica.precision = precision
    expected = replica.evaluate(points, targets, score, want)
    replica = Replica(network.to(NAME), micro_batch=4)
    replica.precision, replica.graphs = precision, Graphs(watch, 1e-4)
    for _ in range(2):  # four points, two points, and both again
        found = replica.evaluate(points, targets, score, want)
    if watch.recorded != 1:
        return f"{watch.recorded} recordings"
    for name in ("scores", "gradients", "logits"):
        one, other = getattr(found, name), getattr(expected, name)
        if other is not None and not torch.allclose(one.cpu(), other, rtol=1e-4, atol=1e-5):
            return f"other {name}"
    return ", ".join(f"{what}: {count}" for what, count in sorted(watch.found.items()))


def main() -> None:
    register()
    count_copies()
    found = {}
    for score in SCORES:
        for wanted, want in WANTED.items():
            for weighted in (False, True):
                found[f"{wanted}, {score}, {weighted}"] = fault(small_network(), want, score, weighted)
        found[f"fp16, {score}"] = fault(small_network(), SCORE_AND_GRADIENT, score, precision="fp16")
    for network in (Waits, Copies):
        found[network.__name__] = fault(network(*small_network()).eval(), SCORE_AND_GRADIENT, "logit")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
