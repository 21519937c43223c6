"""Parity: what the engine gives and what the reference gives, from the same network, image, target and random draws.

    difference = ||ours - reference||_2 / ||reference||_2

in float64, on a small smooth network and on EfficientNet-Lite0 with one photograph. A method is one line at the end;
a metric adds a `Check` of its own to `CHECKS`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from jobs.bench.networks import Case, network_case, photographs, small_case
from jobs.bench.peers import (
    BLUR,
    MODULES,
    NOISE,
    captum_gradient,
    captum_ig,
    captum_smoothgrad,
    package,
    pair_blur_ig,
    pair_guided_ig,
    pair_ig,
    pair_smoothgrad,
    release,
)
from jobs.bench.timing import machine
from ssig.api import attribute
from ssig.classes import CAPTUM_RULES
from ssig.randomness import stream

STEPS = 8
NOISY: dict[str, Any] = {"samples": STEPS, "sigma": NOISE}
KEY = "parity"  # of the image for its random draws

Reference = Callable[[Case], Tensor]

CASES: dict[str, Callable[[], Case]] = {
    "small": functools.cache(small_case),
    "lite0": functools.cache(lambda: network_case("lite0", photographs(1), torch.float64)),
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


CHECKS: list[Check] = []


def relative_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """`||ours - theirs|| / ||theirs||` of each image, (B,)."""
    difference: Tensor = (ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)
    return difference


def rank_correlation(ours: Tensor, theirs: Tensor) -> Tensor:
    """Spearman's correlation of the pixels of each map, (B,)."""
    pairs = zip(ours.flatten(1).numpy(), theirs.flatten(1).numpy(), strict=True)
    return torch.tensor([float(spearmanr(a, b).statistic) for a, b in pairs])


def measure() -> dict[str, Any]:
    """Runs every check.

    Raises:
        UsageError: a reference is not installed.
    """
    for peer in MODULES:
        package(peer)
    rows = [_row(check) for check in CHECKS]
    return {
        "checks": rows,
        "ok": all(row["ok"] for row in rows),
        "references": [release(peer) for peer in MODULES],
        "machine": machine(),
    }


def _row(check: Check) -> dict[str, Any]:
    found = check.measure()
    return {
        "check": check.name,
        "reference": check.reference,
        "tolerance": check.tolerance,
        "difference": found,
        "ok": found <= check.tolerance,
    }


def _compare(method: str, reference: str, tolerance: float, theirs: Reference, **options: Any) -> None:
    """Adds a method with the given options, on each case, against the attributions (1, C, H, W) of a reference."""
    for name, case in CASES.items():
        measure = functools.partial(_difference, case, method, options, theirs)
        CHECKS.append(Check(f"{method} on {name}", reference, tolerance, measure))


def _difference(make: Callable[[], Case], method: str, options: Mapping[str, Any], theirs: Reference) -> float:
    case = make()
    ours = attribute(
        case.model, case.images, case.targets, method, baseline=case.baselines, keys=[KEY], **options
    ).values
    return float(relative_difference(ours, theirs(case).to(ours)).max())


def _captum_ig(rule: str) -> Reference:
    # Captum's trapezoid weights sum to (n - 1) / n.
    scale = STEPS / (STEPS - 1) if rule == "riemann_trapezoid" else 1.0
    return lambda case: captum_ig(case, STEPS, rule=rule) * scale


def _noise(case: Case) -> Tensor:
    """The standard normal draws of our SmoothGrad, (STEPS, C, H, W)."""
    source, shape = stream(0, "", KEY, "smoothgrad"), tuple(case.images.shape[1:])
    draws = [source.generator(k).standard_normal(shape, dtype=np.float32) for k in range(STEPS)]
    return torch.from_numpy(np.stack(draws)).to(case.images)


def _captum_tunnel(kind: str) -> Reference:
    return lambda case: captum_smoothgrad(case, _noise(case), kind)


def _pair_smoothgrad(case: Case) -> Tensor:
    return pair_smoothgrad(case, STEPS, noise=_noise(case))


for captum_rule, rule in CAPTUM_RULES.items():
    _compare("ig", f"captum {captum_rule}", 1e-6, _captum_ig(captum_rule), rule=rule, steps=STEPS)
_compare("ig", "PAIR IntegratedGradients", 1e-5, lambda case: pair_ig(case, STEPS), rule="endpoints", steps=STEPS)
_compare("gradient", "captum Saliency", 1e-8, captum_gradient)
_compare("smoothgrad", "captum smoothgrad", 1e-5, _captum_tunnel("smoothgrad"), **NOISY)
_compare("smoothgrad", "captum smoothgrad_sq", 1e-5, _captum_tunnel("smoothgrad_sq"), integrand="squared", **NOISY)
_compare("smoothgrad", "PAIR GetSmoothedMask", 1e-5, _pair_smoothgrad, **NOISY)
_compare("guided-ig", "PAIR GuidedIG", 1e-10, lambda case: pair_guided_ig(case, STEPS), steps=STEPS)
_compare("blur-ig", "PAIR BlurIG", 1e-5, lambda case: pair_blur_ig(case, STEPS), steps=STEPS, **BLUR)
