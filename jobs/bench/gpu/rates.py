"""Gradients a second: the bare loop, the engine's methods, an eager loop and Captum, by network and precision.

bare      the engine's replica evaluates gradients and nothing else: no method can be faster
engine    ssig, ig and smoothgrad by `ssig.attribute` on the same replica
eager     integrated gradients as anybody would write it, on the network as loaded
captum    Captum's integrated gradients on the network as loaded, at its fastest batch size
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from jobs.bench.gpu.networks import classes, forget, keys, network, pictures, repeated, replica
from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import duration, rate
from ssig.api import attribute
from ssig.engine.arithmetic import arithmetic
from ssig.engine.replica import Replica
from ssig.models import Model
from ssig.types import SCORE_AND_GRADIENT

# In order of importance: the targets are about ResNet-50 in fp16, and Captum's users run fp32.
PLAN = (
    *(("resnet50", "fp16"), ("resnet50", "fp32"), ("resnet50", "bf16"), ("resnet50", "tf32")),
    *(("vit-b16", "fp16"), ("vit-b16", "fp32"), ("vit-b16", "bf16"), ("vit-b16", "tf32")),
    *(("lite0", "fp16"), ("lite0", "fp32"), ("lite0", "bf16"), ("lite0", "tf32")),
)
TINY_PLAN = (("resnet50", "fp32"), ("resnet50", "bf16"))
METHODS = ("ssig", "ig", "smoothgrad")
SAMPLES = 32
MOST_IMAGES, PEER_IMAGES = 256, 16
CAPTUM = "captum.attr"
PEER_SIZES = (64, 128, 256, 512)


def cases(session: Session) -> Iterator[Case]:
    """A row for each network and precision."""
    plan = session.pick(PLAN, TINY_PLAN)
    for number, (name, precision) in enumerate(plan):
        yield f"{name} {precision}", partial(_row, session, name, precision)
        if name not in [later for later, _ in plan[number + 1 :]] and name != "resnet50":
            forget(session, name)


def _row(session: Session, name: str, precision: str) -> dict[str, Any]:
    """Rates of one network in one precision; `best batch` is Captum's."""
    if session.on_gpu:
        torch.cuda.reset_peak_memory_stats(session.device)
    row: dict[str, Any] = {}
    row["ready, s"] = round(duration(session, lambda: replica(session, name, precision)), 1)
    ready = replica(session, name, precision)
    row["micro-batch"] = ready.micro_batch
    size = network(session, name, precision).input_size
    images = pictures(session.pick(64, 4), size)
    points = repeated(images, ready.micro_batch).to(session.device)
    targets = classes(len(points)).to(session.device)
    # Without the check that waits for the device: the loop that launches all work ahead is the fastest.
    bare = partial(ready.begin, points, targets, "logit", SCORE_AND_GRADIENT)
    row["bare"] = rate(session, bare, len(points), session.pick(0.6, 0.05))
    row["forward"] = rate(session, lambda: ready.forward(points), len(points), 0.3)
    row |= engine(session, ready, images, row["bare"])
    row["engine over bare"] = {method: row[method] / row["bare"] for method in METHODS}
    row |= _peers(session, network(session, name, precision), images[:PEER_IMAGES])
    if session.on_gpu:
        row["peak, GiB"] = round(torch.cuda.max_memory_allocated(session.device) / 2**30, 1)
    return row


def engine(session: Session, ready: Replica, images: Tensor, bare: float) -> dict[str, float]:
    """Gradients a second of each method of `METHODS`, over about a second and at least several micro-batches.

    Args:
        session: the call.
        ready: the replica.
        images: (B, C, H, W), repeated as needed.
        bare: gradients a second of the bare loop.
    """
    samples = session.pick(SAMPLES, 4)
    wanted = max(1.0 * bare, 8.0 * ready.micro_batch) / samples
    count = session.pick(min(MOST_IMAGES, max(8, round(wanted))), 4)
    found = {}
    for method in METHODS:
        given: dict[str, Any] = {"steps": samples} if method == "ig" else {"samples": samples}

        def run(rows: int, method: str = method, given: dict[str, Any] = given) -> None:
            attribute(ready, repeated(images, rows), classes(rows), method, keys=keys(rows), **given)

        run(max(2, count // 8))
        found[method] = count * samples / duration(session, lambda: run(count))
    return found


def _peers(session: Session, model: Model, images: Tensor) -> dict[str, Any]:
    """The eager loop and Captum, each at its fastest batch size, in the network's own precision."""
    images, targets = images.to(session.device), classes(len(images)).to(session.device)
    steps = session.pick(SAMPLES, 4)
    baseline = model.mean.view(1, -1, 1, 1).expand_as(images)
    found: dict[str, Any] = {}
    with arithmetic(model.precision):
        loops: dict[str, Callable[[int], object]] = {
            "eager": lambda size: eager(model, images, baseline, targets, steps, size)
        }
        try:
            peer = import_module(CAPTUM).IntegratedGradients(model)
        except ModuleNotFoundError as error:
            found |= {"captum": None, "why no captum": f"{error.name} is not installed"}
        else:
            loops["captum"] = lambda size: peer.attribute(
                images, baselines=baseline, target=targets, n_steps=steps, internal_batch_size=size
            )
        for name, loop in loops.items():
            found[name], found[f"best batch of {name}"] = best(session, loop, len(images) * steps)
    return found


def best(session: Session, loop: Callable[[int], object], count: int) -> tuple[float | None, int | None]:
    """The most things a second over the batch sizes, and the size; None if no size fits the memory."""
    found: list[tuple[float, int]] = []
    for size in session.pick(PEER_SIZES, (16,)):
        try:
            found.append((rate(session, lambda: loop(size), count, 0.3), size))  # noqa: B023 called at once
        except torch.OutOfMemoryError:
            break
    return max(found, default=(None, None))


def eager(model: Model, images: Tensor, baseline: Tensor, targets: Tensor, steps: int, size: int) -> Tensor:
    """Integrated gradients at midpoints, `size` points at once; attributions (B, C, H, W)."""
    total = torch.zeros_like(images)
    alphas = (torch.arange(steps, device=images.device) + 0.5) / steps
    at_once = max(1, size // len(images))
    for start in range(0, steps, at_once):
        some = alphas[start : start + at_once].view(-1, 1, 1, 1, 1)
        points = (baseline + some * (images - baseline)).flatten(0, 1).requires_grad_()
        logits = model(points).gather(1, targets.repeat(len(some)).unsqueeze(1))
        (gradient,) = torch.autograd.grad(logits.sum(), points)
        total += gradient.view(len(some), *images.shape).sum(dim=0)
    return total * (images - baseline) / steps
