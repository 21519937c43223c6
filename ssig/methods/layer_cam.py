"""LayerCAM: the activations A (c, h, w) of a layer, each value weighed by its own positive gradient.

    z = ReLU( sum_c ReLU(d f_y / d A_c) A_c )

Source: Jiang, Zhang, Hou, Cheng, Wei, *LayerCAM: Exploring Hierarchical Class Activation Maps for Localization*
(2021). The authors' code lacks the last ReLU, which changes nothing where activations are not negative. The layer is
by default the network's last feature map (`ssig.engine.layers`). The paper fuses maps of several layers; here each
layer has a map of its own.
"""

from __future__ import annotations

from torch import Tensor

from ssig.methods.grad_cam import CamOptions, weighed
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


def layer_cam(group: Group, options: CamOptions) -> Steps:
    return weighed(group, options, positive_by_place)


def positive_by_place(gradients: Tensor, activations: Tensor) -> Tensor:
    """`sum_c ReLU(g_c) A_c`, (n, 1, h, w), of gradients and activations (n, c, h, w)."""
    return (gradients.relu() * activations).sum(dim=1, keepdim=True)


METHODS.add(
    MethodSpec(
        name="layer-cam",
        run=layer_cam,
        options=CamOptions,
        paper="Jiang, Zhang, Hou, Cheng, Wei 2021",
        equation="ReLU(sum_c ReLU(df/dA_c) A_c), at a layer",
        evaluations=lambda options: 1,
        complete=False,
        baseline=lambda options: False,
    )
)
