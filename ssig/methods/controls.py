"""Controls: maps that do not depend on the network. Compare every metric with their values.

    random  i.i.d. U(0, 1) per pixel
    sobel   sqrt((G_x^2 + G_y^2) / 2), the Sobel filters on the luma .2125 R + .7154 G + .0721 B (Rec. 709; the mean of
            the channels where there are not three) with repeated border pixels, as scikit-image has it
    centre  exp(- r^2 / (2 s^2)), r the distance to the centre of the image, s a quarter of its shorter side

Sources: random maps and Sobel edges are the controls of Hooker et al., *A Benchmark for Interpretability Methods in
Deep Neural Networks* (2019); the centre is that of Judd, Durand, Torralba, *A Benchmark of Computational Models of
Saliency to Predict Human Fixations* (2012). They take no gradients. Each channel has an equal share of the map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.draws import uniforms
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps

LUMA = (0.2125, 0.7154, 0.0721)


@dataclass(frozen=True)
class ControlOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)


@dataclass(frozen=True)
class CentreOptions(ControlOptions):
    sigma: float = option(0.25, "width of the Gaussian, as a fraction of the image's shorter side", above=0)


def random(group: Group, options: ControlOptions) -> Tensor:
    """(B, 1, H, W) uniform draws from each image's own stream."""
    size = (1, *group.images.shape[-2:])
    return uniforms(group.streams, [0], size, group.images)[0].to(group.images.dtype)


def sobel(group: Group, options: ControlOptions) -> Tensor:
    """(B, 1, H, W) edges, as by `skimage.filters.sobel`."""
    images = group.images
    channels = images.shape[1]
    weights = images.new_tensor(LUMA if channels == len(LUMA) else [1 / channels] * channels)
    luma = (images * weights.view(1, -1, 1, 1)).sum(dim=1, keepdim=True)
    across = torch.outer(luma.new_tensor([1, 2, 1]) / 4, luma.new_tensor([-1, 0, 1]))
    filters = torch.stack([across, across.T]).unsqueeze(1)
    slopes = conv2d(pad(luma, (1, 1, 1, 1), mode="replicate"), filters)
    return slopes.square().mean(dim=1, keepdim=True).sqrt()


def centre(group: Group, options: CentreOptions) -> Tensor:
    """(B, 1, H, W) Gaussian, 1 at the centre."""
    height, width = group.images.shape[-2:]
    sigma = options.sigma * min(height, width)
    rows, columns = (
        torch.exp(-0.5 * ((torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / sigma) ** 2)
        for size in (height, width)
    )
    return torch.outer(rows, columns).to(group.images).expand(len(group), 1, -1, -1)


def control(make: Callable[[Group, Any], Tensor]) -> Callable[[Group, Any], Steps]:
    """The coroutine of a map (B, 1, H, W) that is made without the network."""

    def steps(group: Group, options: ControlOptions) -> Steps:
        scores = yield from endpoints(group)
        return attribution(
            make(group, options).expand_as(group.images) / group.images.shape[1],
            options.readout,
            scores,
            has_residual=False,
            error=None,
            evaluations=0,
        )

    return steps


def _register(name: str, make: Callable[[Group, Any], Tensor], options: type[Any], paper: str, equation: str) -> None:
    METHODS.add(
        MethodSpec(
            name=name,
            run=control(make),
            options=options,
            paper=paper,
            equation=equation,
            evaluations=lambda options: 0,
            complete=False,
            baseline=lambda options: False,
            control=True,
        )
    )


_register("random", random, ControlOptions, "control; Hooker et al. 2019", "i.i.d. U(0, 1) per pixel")
_register("sobel", sobel, ControlOptions, "control; Hooker et al. 2019", "|Sobel gradient| of the luma")
_register("centre", centre, CentreOptions, "control; Judd, Durand, Torralba 2012", "exp(-r^2 / (2 s^2))")
