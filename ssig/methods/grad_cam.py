"""Grad-CAM: the activations A (c, h, w) of a layer, each channel weighed by its mean gradient.

    z = ReLU( sum_c w_c A_c ),   w_c = mean over pixels of d f_y / d A_c

Source: Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, *Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization* (2017). The layer is by default the network's last feature map (`ssig.engine.layers`). The
map is enlarged bilinearly to the image, and each pixel's value divided evenly among the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ssig.engine.layers import LAST_CONV, enlarged, feature_maps
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import activations_of, attribution, endpoints, gradients_of
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Steps


@dataclass(frozen=True)
class CamOptions(CommonOptions):
    """Options of the methods that weigh the activations of a layer."""

    readout: str = option("sum", "channels to map", choices=READOUTS)
    layer: str = option(LAST_CONV, "submodule whose output is weighed, by its name")
    relu: bool = option(True, "whether only positive relevance is kept")


def grad_cam(group: Group, options: CamOptions) -> Steps:
    return weighed(group, options, by_channel)


def weighed(group: Group, options: CamOptions, weigh: Callable[[Tensor, Tensor], Tensor]) -> Steps:
    """The coroutine of a method that weighs a layer's activations by their gradients at the image.

    Args:
        group: the images.
        options: of the method.
        weigh: gradients, activations (B, c, h, w) at the layer -> map (B, 1, h, w), as `by_channel`.
    """
    scores = yield from endpoints(group)
    response = yield Request(group.images, group.owners(), layer=options.layer)
    maps = weigh(*channels_first(gradients_of(response), activations_of(response), group.images))
    return attribution(
        enlarged(maps.relu() if options.relu else maps, group.images),
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=1,
    )


def class_activation(gradients: Tensor, activations: Tensor, images: Tensor) -> Tensor:
    """`sum_c w_c A_c`, (n, 1, h, w).

    Args:
        gradients, activations: at a layer, (n, c, h, w) or (n, h, w, c).
        images: (..., H, W), for their proportions.
    """
    return by_channel(*channels_first(gradients, activations, images))


def by_channel(gradients: Tensor, activations: Tensor) -> Tensor:
    """`sum_c w_c A_c`, (n, 1, h, w), of gradients and activations (n, c, h, w)."""
    return (gradients.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1, keepdim=True)


def channels_first(gradients: Tensor, activations: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (n, c, h, w); for the arguments see `class_activation`."""
    size = (images.shape[-2], images.shape[-1])
    return feature_maps(gradients, size), feature_maps(activations, size)


METHODS.add(
    MethodSpec(
        name="grad-cam",
        run=grad_cam,
        options=CamOptions,
        paper="Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra 2017",
        equation="ReLU(sum_c w_c A_c), w_c = mean of df/dA_c, at a layer",
        evaluations=lambda options: 1,
        complete=False,
        baseline=lambda options: False,
        revision=1,
    )
)
