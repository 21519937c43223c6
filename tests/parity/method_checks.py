"""Parity: what the engine gives and what the reference gives, from the same network, image, target and random draws.

    difference = ||ours - reference||_2 / ||reference||_2

in float64, on a small smooth network and on EfficientNet-Lite0 with one photograph. A method is one line at the end;
the metrics follow from `metric_checks`, which says what their differences are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from check import Check
from method_references import (
    captum_expected_gradients,
    captum_grad_cam,
    captum_gradient,
    captum_gradient_x_input,
    captum_hires_cam,
    captum_occlusion,
    captum_smoothgrad,
    pair_smoothgrad_of,
    pair_xrai,
)
from metric_checks import METRIC_CHECKS
from small_case import small_case
from torch import Tensor

from jobs.bench.engine import relative_difference
from jobs.bench.networks import Case, network_case, photographs
from jobs.bench.peers import BLUR, NOISE, captum_ig, pair_blur_ig, pair_guided_ig, pair_ig
from ssig.api import attribute
from ssig.captum import CAPTUM_RULES
from ssig.engine.layers import last_convolution
from ssig.randomness import stream

STEPS = 8
NOISY: dict[str, Any] = {"samples": STEPS, "sigma": NOISE}
KEY = "parity"  # of the image for its random draws
# Squares of occlusion: window and stride, on each case.
SQUARES = {"small": (5, 4), "lite0": (64, 48)}
POOL = 5  # references of expected gradients

Reference = Callable[[Case], Tensor]

CASES: dict[str, Callable[[], Case]] = {
    "small": functools.cache(small_case),
    "lite0": functools.cache(lambda: network_case("lite0", photographs(1), torch.float64)),
}


CHECKS: list[Check] = []


def _compare(
    method: str, reference: str, tolerance: float, theirs: Reference, *, cases: Iterable[str] = (), **options: Any
) -> None:
    """Adds a method with the given options against the attributions (1, C, H, W) of a reference, by default on each
    case."""
    for name in cases or CASES:
        measure = functools.partial(_difference, CASES[name], method, options, theirs)
        CHECKS.append(Check(f"{method} on {name}", reference, tolerance, measure))


def _difference(make: Callable[[], Case], method: str, options: Mapping[str, Any], theirs: Reference) -> float:
    case = make()
    found = attribute(
        case.model,
        case.images,
        case.targets,
        method,
        baseline=case.baselines,
        keys=[KEY],
        references=_pool(case),
        **options,
    )
    expected = theirs(case)
    # What a reference gives as one channel is a map.
    ours = found.values if expected.shape == found.values.shape else found.map.unsqueeze(1)
    return float(relative_difference(ours, expected.to(ours)).max())


def _captum_ig(rule: str) -> Reference:
    # Captum's trapezoid weights sum to (n - 1) / n.
    scale = STEPS / (STEPS - 1) if rule == "riemann_trapezoid" else 1.0
    return lambda case: captum_ig(case, STEPS, rule=rule) * scale


def _pool(case: Case) -> Tensor:
    """(POOL, C, H, W), the images that expected gradients starts from."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(POOL, *case.images.shape[1:], generator=generator, dtype=torch.float64)


def _captum_shap(case: Case) -> Tensor:
    source = stream(0, "", KEY, "expected-gradients")
    draws = [(float(g.random()), int(g.integers(POOL))) for g in map(source.generator, range(STEPS))]
    return captum_expected_gradients(case, _pool(case), [time for time, _ in draws], [one for _, one in draws])


def _captum_cam(case: Case) -> Tensor:
    return captum_grad_cam(case, last_convolution(case.model, case.images))


def _captum_hires_cam(case: Case) -> Tensor:
    return captum_hires_cam(case, last_convolution(case.model, case.images))


def _captum_occlusion(window: int, stride: int) -> Reference:
    return lambda case: captum_occlusion(case, window, stride)


def _pair_xrai(case: Case) -> Tensor:
    base = attribute(case.model, case.images, case.targets, "ig", baseline=case.baselines, steps=STEPS)
    return pair_xrai(case, base.values)


def _noise(case: Case, method: str) -> Tensor:
    """The standard normal draws of a method on the noise sampler, (STEPS, C, H, W)."""
    source, shape = stream(0, "", KEY, method), tuple(case.images.shape[1:])
    draws = [source.generator(k).standard_normal(shape, dtype=np.float32) for k in range(STEPS)]
    return torch.from_numpy(np.stack(draws)).to(case.images)


def _captum_tunnel(kind: str, method: str = "smoothgrad") -> Reference:
    return lambda case: captum_smoothgrad(case, _noise(case, method), kind)


def _pair_smoothgrad(case: Case) -> Tensor:
    return pair_smoothgrad_of(case, _noise(case, "smoothgrad"))


for captum_rule, rule in CAPTUM_RULES.items():
    _compare("ig", f"captum {captum_rule}", 1e-6, _captum_ig(captum_rule), rule=rule, steps=STEPS)
_compare("ig", "PAIR IntegratedGradients", 1e-5, lambda case: pair_ig(case, STEPS), rule="endpoints", steps=STEPS)
_compare("gradient", "captum Saliency", 1e-8, captum_gradient)
_compare("smoothgrad", "captum smoothgrad", 1e-5, _captum_tunnel("smoothgrad"), **NOISY)
_compare("smoothgrad", "captum smoothgrad_sq", 1e-5, _captum_tunnel("smoothgrad_sq"), integrand="squared", **NOISY)
_compare("smoothgrad", "PAIR GetSmoothedMask", 1e-5, _pair_smoothgrad, **NOISY)
_compare(
    "smoothgrad-squared", "captum smoothgrad_sq", 1e-5, _captum_tunnel("smoothgrad_sq", "smoothgrad-squared"), **NOISY
)
_compare("vargrad", "captum vargrad", 1e-5, _captum_tunnel("vargrad", "vargrad"), ddof=0, **NOISY)
_compare("gradient-x-input", "captum InputXGradient", 1e-8, captum_gradient_x_input)
_compare("expected-gradients", "captum GradientShap", 1e-5, _captum_shap, samples=STEPS)
_compare("grad-cam", "captum LayerGradCam", 1e-5, _captum_cam)
_compare("hires-cam", "captum LayerGradientXActivation", 1e-5, _captum_hires_cam, relu=False)
for case_name, (side, step) in SQUARES.items():
    _compare(
        "occlusion",
        "captum Occlusion",
        1e-5,
        _captum_occlusion(side, step),
        cases=(case_name,),
        window=side,
        stride=step,
    )
_compare("xrai", "PAIR XRAI", 1e-4, _pair_xrai, baselines="one", samples=STEPS)
_compare("guided-ig", "PAIR GuidedIG", 1e-10, lambda case: pair_guided_ig(case, STEPS), steps=STEPS)
_compare("blur-ig", "PAIR BlurIG", 1e-5, lambda case: pair_blur_ig(case, STEPS), steps=STEPS, **BLUR)
CHECKS += METRIC_CHECKS
