"""The peers as their users would run them: the plain network in eager mode, at the batch size that suits them best.

    captum  Captum: images (B, C, H, W), several points of one or more images at once (`internal_batch_size`)
    pair    PAIR `saliency`: one image (H, W, C) a call, the network behind a `call_model_function` on NumPy arrays

Neither is needed to run this project, so each is imported when it is called for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.bench.networks import Case
from ssig.errors import UsageError

MODULES = {"captum": "captum.attr", "pair": "saliency.core"}
# What maps and metrics are compared with; of these only the peers are timed.
REFERENCES = {
    **MODULES,
    "captum metrics": "captum.metrics",
    "pair metrics": "saliency.metrics.pic",
    "quantus": "quantus",
    "opencv": "cv2",
}
DISTRIBUTIONS = {"cv2": "opencv-python"}  # that are not called as their module
GRADIENTS = "INPUT_OUTPUT_GRADIENTS"
NOISE = 0.15  # of the range of the image, in both PAIR's SmoothGrad and ours
BLUR = {"spacing": "linear", "rule": "left"}  # of our Blur IG, as PAIR has them

Array = NDArray[Any]
CallModel = Callable[..., dict[str, Array]]
Mask = Callable[[Array, Array, CallModel], Array]
Predict = Callable[[Array], Array]


@dataclass(frozen=True)
class Setting:
    """How a peer is run: images in one call, and points evaluated at once."""

    images: int = 1
    points: int = 1


def package(peer: str) -> Any:
    """The module of a peer or reference.

    Raises:
        UsageError: it is not installed.
    """
    try:
        module: Any = import_module(REFERENCES[peer])
    except ModuleNotFoundError as error:
        allowed = f"an installed package ({error.name} is missing): pip install '.[test]' in the source folder"
        raise UsageError("peer", peer, allowed) from error
    if peer == "pair":
        _speak_old_numpy(module.guided_ig)
    if peer == "pair metrics":
        _speak_old_numpy(module)
    return module


def release(peer: str) -> str:
    """Name and version of a peer or reference."""
    top = REFERENCES[peer].partition(".")[0]
    distribution = DISTRIBUTIONS.get(top, top)
    return f"{distribution} {version(distribution)}"


def captum_ig(case: Case, steps: int, setting: Setting = Setting(), rule: str = "gausslegendre") -> Tensor:
    """Captum's integrated gradients, (B, C, H, W)."""
    method = package("captum").IntegratedGradients(case.model)
    parts = [
        method.attribute(
            part.images,
            baselines=part.baselines,
            target=part.targets,
            n_steps=steps,
            method=rule,
            internal_batch_size=max(setting.points, len(part.images)),
        )
        for part in _groups(case, setting.images)
    ]
    return torch.cat(parts)


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


def pair_ig(case: Case, steps: int, setting: Setting = Setting()) -> Tensor:
    """PAIR's integrated gradients, (B, C, H, W)."""
    method = package("pair").IntegratedGradients()
    return _each(
        case,
        lambda image, baseline, call: method.GetMask(
            image, call, x_baseline=baseline, x_steps=steps, batch_size=setting.points
        ),
    )


def pair_guided_ig(case: Case, steps: int, setting: Setting = Setting()) -> Tensor:
    """PAIR's guided integrated gradients, (B, C, H, W); each step waits for the one before it."""
    method = package("pair").GuidedIG()
    return _each(
        case,
        lambda image, baseline, call: method.GetMask(image, call, x_baseline=baseline, x_steps=steps),
    )


def pair_blur_ig(case: Case, steps: int, setting: Setting = Setting()) -> Tensor:
    """PAIR's blur integrated gradients, (B, C, H, W), of the image less its baseline, to which borders then fade."""
    method = package("pair").BlurIG()

    def mask(image: Array, baseline: Array, call: CallModel) -> Array:
        def shifted(points: Array, **rest: object) -> dict[str, Array]:
            return call(points + baseline, **rest)

        blurred: Array = method.GetMask(image - baseline, shifted, steps=steps, batch_size=setting.points)
        return blurred

    return _each(case, mask)


def pair_smoothgrad(case: Case, steps: int, setting: Setting = Setting(), noise: Tensor | None = None) -> Tensor:
    """PAIR's SmoothGrad without squares, (B, C, H, W); the library evaluates one point at a time.

    Args:
        case: with one image, where `noise` is given.
        steps: how many points.
        setting: nothing to choose.
        noise: (steps, C, H, W), standard normal draws that take the place of its own.
    """
    method = package("pair").GradientSaliency()

    def mask(image: Array, baseline: Array, call: CallModel) -> Array:
        smoothed: Array = method.GetSmoothedMask(image, call, stdev_spread=NOISE, nsamples=steps, magnitude=False)
        return smoothed

    if noise is None:
        return _each(case, mask)
    with _drawing(noise.movedim(1, 3).numpy()):
        return _each(case, mask)


def pair_pic(
    image: Array,
    saliency: Array,
    shown: Array,
    predict: Predict,
    thresholds: Sequence[float],
    min_probability: float = 0.8,
) -> Any:
    """PAIR's performance information curve of one map, its `PicMetricResult`; None where it refuses the image.

    Args:
        image: (H, W, C) uint8.
        saliency: (H, W).
        shown: (H, W) bool, the random pixels.
        predict: scores (n,) of images (n, H, W, C) uint8.
        thresholds: fractions of the pixels.
        min_probability: score of an image that is not refused.
    """
    module = package("pair metrics")
    try:
        return module.compute_pic_metric(image, saliency, shown, predict, thresholds, min_probability)
    except module.ComputePicMetricError:
        return None


def call_model(model: nn.Module, target: int) -> CallModel:
    """PAIR's way to the gradient of a target's logit: arrays (n, H, W, C) in, by name out."""
    dtype = next(model.parameters()).dtype

    def call(x_value_batch: Array, call_model_args: object = None, expected_keys: object = None) -> dict[str, Array]:
        points = torch.from_numpy(np.asarray(x_value_batch)).to(dtype).movedim(3, 1).contiguous().requires_grad_()
        (gradients,) = torch.autograd.grad(model(points)[:, target].sum(), points)
        return {GRADIENTS: gradients.movedim(1, 3).numpy()}

    return call


def _groups(case: Case, size: int) -> Iterator[Case]:
    return (case.part(start, start + size) for start in range(0, len(case.images), size))


def _each(case: Case, mask: Mask) -> Tensor:
    """The masks of all images as (B, C, H, W)."""
    masks = []
    for part in _groups(case, 1):
        image, baseline = (values[0].movedim(0, 2).contiguous().numpy() for values in (part.images, part.baselines))
        masks.append(torch.from_numpy(np.asarray(mask(image, baseline, call_model(case.model, int(part.targets))))))
    return torch.stack(masks).movedim(3, 1).contiguous()


class _Numpy:
    """NumPy with some names replaced, for a module that has it under the name `np`."""

    def __init__(self, **replaced: object) -> None:
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _speak_old_numpy(module: Any) -> None:
    """PAIR calls `np.trapz`, and `np.quantile` with a keyword, which NumPy 2.4 no longer has."""

    def quantile(values: Array, fraction: float, interpolation: Any = "linear") -> Any:
        return np.quantile(values, fraction, method=interpolation)

    module.np = _Numpy(quantile=quantile, trapz=np.trapezoid)


@contextmanager
def _drawing(draws: Iterable[Array]) -> Iterator[None]:
    """PAIR's SmoothGrad takes its noise from `draws`, not from NumPy's global generator."""
    module, left = package("pair").base, iter(draws)

    def normal(mean: float, deviation: float, shape: tuple[int, ...]) -> Array:
        return mean + deviation * next(left).reshape(shape)

    module.np = _Numpy(random=SimpleNamespace(normal=normal))
    try:
        yield
    finally:
        module.np = np
