"""Parity: what the engine gives and what the reference gives, from the same network, image, target and random draws.

    difference = ||ours - reference||_2 / ||reference||_2

in float64, on a small smooth network and on EfficientNet-Lite0 with one photograph. A method is one line of `CHECKS`;
a metric is a `Check` of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from jobs.bench.networks import Case, network_case, small_case
from jobs.bench.peers import (
    NOISE,
    captum_gradient,
    captum_ig,
    captum_smoothgrad,
    package,
    pair_blur_ig,
    pair_guided_ig,
    pair_ig,
    pair_smoothgrad,
)
from jobs.bench.timing import machine
from ssig.api import attribute
from ssig.classes import CAPTUM_RULES
from ssig.randomness import stream

STEPS = 8
KEY = "parity"
CASES: dict[str, Callable[[], Case]] = {
    "small": functools.cache(small_case),
    "lite0": functools.cache(functools.partial(network_case, "lite0", 1, dtype=torch.float64)),
}


@dataclass(frozen=True)
class Check:
    """A method or metric against its reference.

    Attributes:
        name: of the method or metric, with what sets this check apart.
        reference: the implementation compared with.
        tolerance: the greatest difference that is agreement.
        measure: gives the difference.
    """

    name: str
    reference: str
    tolerance: float
    measure: Callable[[], float]


def on_each_case(
    method: str, reference: str, tolerance: float, theirs: Callable[[Case], Tensor], **options: Any
) -> Iterator[Check]:
    """A method with the given options, on every case, against attributions (1, C, H, W) of a reference."""
    for name, case in CASES.items():
        yield Check(
            f"{method} on {name}",
            reference,
            tolerance,
            functools.partial(_difference, method, case, theirs, options),
        )


def relative_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """`||ours - theirs|| / ||theirs||` of each image, (B,)."""
    return (ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)


def rank_correlation(ours: Tensor, theirs: Tensor) -> Tensor:
    """Spearman's correlation of the pixels of each map, (B,)."""
    pairs = zip(ours.flatten(1).numpy(), theirs.flatten(1).numpy(), strict=True)
    return torch.tensor([float(spearmanr(a, b).statistic) for a, b in pairs])


def measure() -> dict[str, Any]:
    """Runs every check.

    Raises:
        UsageError: a reference is not installed.
    """
    for peer in ("captum", "pair"):
        package(peer)
    rows = [_row(check) for check in CHECKS]
    return {"ok": all(row["ok"] for row in rows), "checks": rows, "machine": machine()}


def _row(check: Check) -> dict[str, Any]:
    found = check.measure()
    return {
        "check": check.name,
        "reference": check.reference,
        "tolerance": check.tolerance,
        "difference": found,
        "ok": found <= check.tolerance,
    }


def _difference(
    method: str, make: Callable[[], Case], theirs: Callable[[Case], Tensor], options: dict[str, Any]
) -> float:
    case = make()
    ours = attribute(
        case.model, case.images, case.targets, method, baseline=case.baselines, keys=[KEY], **options
    ).values
    return float(relative_difference(ours, theirs(case).to(ours.dtype)).max())


def _captum(rule: str) -> Callable[[Case], Tensor]:
    # Captum's trapezoid weights sum to (n - 1) / n.
    scale = STEPS / (STEPS - 1) if rule == "riemann_trapezoid" else 1.0
    return lambda case: captum_ig(case, STEPS, rule=rule) * scale


def _noise(case: Case) -> Tensor:
    """The standard normal draws of our SmoothGrad, (STEPS, C, H, W)."""
    source, shape = stream(0, "", KEY, "smoothgrad"), tuple(case.images.shape[1:])
    draws = [source.generator(k).standard_normal(shape, dtype=np.float32) for k in range(STEPS)]
    return torch.from_numpy(np.stack(draws)).to(case.images)


# fmt: off
CHECKS: list[Check] = [
    *(check for theirs, rule in CAPTUM_RULES.items() for check in on_each_case("ig", f"captum, {theirs}", 1e-6, _captum(theirs), rule=rule, steps=STEPS)),
    *on_each_case("gradient", "captum Saliency", 1e-8, captum_gradient),
    *on_each_case("smoothgrad", "captum NoiseTunnel", 1e-5, lambda case: captum_smoothgrad(case, _noise(case)), samples=STEPS, sigma=NOISE),
    *on_each_case("smoothgrad", "captum NoiseTunnel, squares", 1e-5, lambda case: captum_smoothgrad(case, _noise(case), "smoothgrad_sq"), samples=STEPS, sigma=NOISE, integrand="squared"),
    *on_each_case("smoothgrad", "PAIR GetSmoothedMask", 1e-5, lambda case: pair_smoothgrad(case, STEPS, noise=_noise(case)), samples=STEPS, sigma=NOISE),
    *on_each_case("ig", "PAIR IntegratedGradients", 1e-5, lambda case: pair_ig(case, STEPS), rule="endpoints", steps=STEPS),
    *on_each_case("guided-ig", "PAIR GuidedIG", 1e-10, lambda case: pair_guided_ig(case, STEPS), steps=STEPS),
    *on_each_case("blur-ig", "PAIR BlurIG", 1e-5, lambda case: pair_blur_ig(case, STEPS), steps=STEPS),
]
# fmt: on
