"""Other libraries as their users would run them: the plain network in eager mode, at its best batch size.

    captum  Captum: images (B, C, H, W), several points of one or more images at once (`internal_batch_size`)
    pair    PAIR `saliency`: one image (H, W, C) a call, the network behind a `call_model_function` on NumPy arrays

The project does not need them, so each is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.bench.networks import Case
from ssig.errors import UsageError

PEERS = ("captum", "pair")
MODULES = {"captum": "captum.attr", "pair": "saliency.core", "pair metrics": "saliency.metrics.pic"}
GRADIENTS = "INPUT_OUTPUT_GRADIENTS"
NOISE = 0.15  # noise as a fraction of the image's range, in both implementations of SmoothGrad
BLUR = {"spacing": "linear", "rule": "left"}  # options of ssig's Blur IG that match PAIR's

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
    """The module of a peer.

    Args:
        peer: a key of `MODULES`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        module: Any = import_module(MODULES[peer])
    except ModuleNotFoundError as error:
        allowed = f"an installed package ({error.name} is missing): pip install '.[test]' in the source folder"
        raise UsageError("peer", peer, allowed) from error
    if peer == "pair":
        _speak_old_numpy(module.guided_ig)
    if peer == "pair metrics":
        _speak_old_numpy(module)
    return module


def release(peer: str) -> str:
    """Name and version of a peer's distribution."""
    distribution = MODULES[peer].partition(".")[0]
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


def pair_smoothgrad(case: Case, steps: int, setting: Setting = Setting()) -> Tensor:
    """PAIR's SmoothGrad without squares, (B, C, H, W); the library evaluates one point at a time.

    Args:
        case: the network and its images.
        steps: how many points.
        setting: not used.
    """
    method = package("pair").GradientSaliency()

    def mask(image: Array, baseline: Array, call: CallModel) -> Array:
        smoothed: Array = method.GetSmoothedMask(image, call, stdev_spread=NOISE, nsamples=steps, magnitude=False)
        return smoothed

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
    """The function that PAIR calls for the gradients of a logit: arrays (n, H, W, C) to a dictionary of arrays."""
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
