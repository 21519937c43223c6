"""HiResCAM: the activations A (c, h, w) of a layer, each value weighed by its own gradient.

    z = ReLU( sum_c (d f_y / d A_c) A_c )

Source: Draelos, Carin, *Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks*
(2020). The layer is by default the network's last feature map (`ssig.engine.layers`). Without the ReLU (`relu: false`)
and before a linear head, the map at the layer sums to the score without the head's bias. The paper's map is that sum
(`preset: paper`); by default only its positive part is kept, as in Grad-CAM.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssig.methods.grad_cam import CamOptions, weighed
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


@dataclass(frozen=True)
class HiResOptions(CamOptions):
    relu: bool = option(True, "whether only positive relevance is kept; the paper keeps both signs")


def hires_cam(group: Group, options: HiResOptions) -> Steps:
    return weighed(group, options, by_place)


def by_place(gradients: Tensor, activations: Tensor) -> Tensor:
    """`sum_c g_c A_c`, (n, 1, h, w), of gradients and activations (n, c, h, w)."""
    return (gradients * activations).sum(dim=1, keepdim=True)


METHODS.add(
    MethodSpec(
        name="hires-cam",
        run=hires_cam,
        options=HiResOptions,
        paper="Draelos, Carin 2020",
        equation="ReLU(sum_c (df/dA_c) A_c), at a layer",
        evaluations=lambda options: 1,
        complete=False,
        baseline=lambda options: False,
        presets={"paper": {"relu": False}},
    )
)
