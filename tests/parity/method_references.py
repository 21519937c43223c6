"""The references of methods: Captum and PAIR on one image, with the random draws that they are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from jobs.bench.networks import Case
from jobs.bench.peers import NOISE, package, pair_smoothgrad


def captum_gradient(case: Case) -> Tensor:
    """Captum's saliency with its sign, (B, C, H, W)."""
    images = case.images.clone().requires_grad_()
    values: Tensor = package("captum").Saliency(case.model).attribute(images, case.targets, abs=False)
    return values


def captum_gradient_x_input(case: Case) -> Tensor:
    """Captum's input times gradient of the image less its baseline, (B, C, H, W)."""

    def shifted(points: Tensor) -> Tensor:
        logits: Tensor = case.model(points + case.baselines)
        return logits

    inputs = (case.images - case.baselines).requires_grad_()
    values: Tensor = package("captum").InputXGradient(shifted).attribute(inputs, case.targets)
    return values.detach()


def captum_expected_gradients(case: Case, pool: Tensor, times: Sequence[float], chosen: Sequence[int]) -> Tensor:
    """Captum's GradientShap of one image, (1, C, H, W).

    Args:
        case: with one image.
        pool: (R, C, H, W), the baselines to draw from.
        times, chosen: of each sample the place on its line and its baseline, in place of Captum's own draws.
    """
    with (
        patch.object(np.random, "choice", lambda count, size: np.array(chosen)),
        patch.object(np.random, "uniform", lambda low, high, size: np.array(times)),
    ):
        values: Tensor = (
            package("captum")
            .GradientShap(case.model)
            .attribute(case.images, pool, n_samples=len(times), stdevs=0.0, target=case.targets)
        )
    return values


def captum_grad_cam(case: Case, layer: str) -> Tensor:
    """Captum's Grad-CAM, enlarged to the image, (B, 1, H, W)."""
    attr = package("captum")
    maps = attr.LayerGradCam(case.model, case.model.get_submodule(layer)).attribute(
        case.images, case.targets, relu_attributions=True
    )
    size = tuple(case.images.shape[-2:])
    enlarged: Tensor = attr.LayerAttribution.interpolate(maps, size, "bilinear").detach()
    return enlarged


def captum_hires_cam(case: Case, layer: str) -> Tensor:
    """Captum's gradient times activation of a layer, its channels summed and enlarged to the image, (B, 1, H, W)."""
    attr = package("captum")
    parts = attr.LayerGradientXActivation(case.model, case.model.get_submodule(layer)).attribute(
        case.images, case.targets
    )
    size = tuple(case.images.shape[-2:])
    enlarged: Tensor = attr.LayerAttribution.interpolate(parts.sum(dim=1, keepdim=True), size, "bilinear").detach()
    return enlarged


def captum_occlusion(case: Case, window: int, stride: int) -> Tensor:
    """Captum's occlusion by squares of all channels, (B, 1, H, W)."""
    channels = int(case.images.shape[1])
    found: Tensor = (
        package("captum")
        .Occlusion(case.model)
        .attribute(
            case.images,
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            baselines=case.baselines,
            target=case.targets,
        )
    )
    return found[:, :1]


def pair_xrai(case: Case, values: Tensor) -> Tensor:
    """PAIR's XRAI over given attributions (B, C, H, W), as (B, 1, H, W); the images are segmented as they are."""
    method = package("pair").XRAI()
    masks = [
        method.GetMask(image.movedim(0, 2).numpy(), None, base_attribution=base.movedim(0, 2).numpy())
        for image, base in zip(case.images, values, strict=True)
    ]
    return torch.from_numpy(np.stack(masks)).unsqueeze(1)


def captum_smoothgrad(case: Case, noise: Tensor, kind: str = "smoothgrad") -> Tensor:
    """Captum's noise tunnel over the gradient of one image, (1, C, H, W).

    Args:
        case: with one image.
        noise: (n, C, H, W), standard normal draws that take the place of its own.
        kind: `smoothgrad`, `smoothgrad_sq` or `vargrad`.
    """
    attr = package("captum")
    tunnel = attr.NoiseTunnel(attr.Saliency(case.model))
    tunnel._add_noise_to_input = lambda image, deviation, samples: image + deviation * noise
    deviation = NOISE * float(case.images.max() - case.images.min())
    values: Tensor = tunnel.attribute(
        case.images, nt_type=kind, nt_samples=len(noise), stdevs=deviation, target=case.targets, abs=False
    )
    return values


def pair_smoothgrad_of(case: Case, noise: Tensor) -> Tensor:
    """PAIR's SmoothGrad of one image, (1, C, H, W), from standard normal draws (n, C, H, W) in place of its own."""
    with _drawing(noise.movedim(1, 3).numpy()):
        return pair_smoothgrad(case, len(noise))


@contextmanager
def _drawing(draws: Iterable[np.ndarray]) -> Iterator[None]:
    """PAIR's SmoothGrad takes its noise from `draws`, not from NumPy's global generator."""
    module, left = package("pair").base, iter(draws)

    def normal(mean: float, deviation: float, shape: tuple[int, ...]) -> np.ndarray:
        return mean + deviation * next(left).reshape(shape)

    with patch.object(module, "np", SimpleNamespace(**{**vars(np), "random": SimpleNamespace(normal=normal)})):
        yield
