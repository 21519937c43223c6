"""Grad-CAM++: the activations A (c, h, w) of a layer, each channel weighed by a mean of its positive gradients.

    z = ReLU( sum_c w_c A_c ),   w_c = sum over pixels of a_c ReLU(g_c),   g_c = d f_y / d A_c
    a_c = g_c^2 / (2 g_c^2 + (sum over pixels of A_c) g_c^3)

Source: Chattopadhyay, Sarkar, Howlader, Balasubramanian, *Grad-CAM++: Improved Visual Explanations for Deep
Convolutional Networks* (2018). The paper differentiates `exp(f_y)` of a network that is piecewise linear behind the
layer, so that the n-th derivative is `exp(f_y) g^n`; the factor `exp(f_y)`, one positive number for the whole map, is
left out here. Where a denominator is 0, so is `a_c`. In the authors' code the `a_c` of the pixels with a positive
gradient are divided by their sum (`normalised`, and `preset: code`). The layer is by default the network's last
feature map (`ssig.engine.layers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ssig.methods.grad_cam import CamOptions, weighed
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


@dataclass(frozen=True)
class PlusPlusOptions(CamOptions):
    normalised: bool = option(False, "whether the coefficients of each channel sum to 1, as in the authors' code")


def grad_cam_plus_plus(group: Group, options: PlusPlusOptions) -> Steps:
    return weighed(group, options, partial(positive_by_channel, normalised=options.normalised))


def positive_by_channel(gradients: Tensor, activations: Tensor, *, normalised: bool) -> Tensor:
    """`sum_c w_c A_c`, (n, 1, h, w), of gradients and activations (n, c, h, w)."""
    # `g^2 / (2 g^2 + s g^3)`, shortened by `g^2`, which may underflow.
    denominators = 2 + activations.sum(dim=(2, 3), keepdim=True) * gradients
    counted = (gradients != 0) & (denominators != 0)
    coefficients = torch.where(counted, denominators.where(counted, 1).reciprocal(), 0)
    if normalised:
        coefficients = torch.where(gradients > 0, coefficients, 0)
        total = coefficients.sum(dim=(2, 3), keepdim=True)
        coefficients = coefficients / total.where(total != 0, 1)
    weights = (coefficients * gradients.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(dim=1, keepdim=True)


METHODS.add(
    MethodSpec(
        name="grad-cam++",
        run=grad_cam_plus_plus,
        options=PlusPlusOptions,
        paper="Chattopadhyay, Sarkar, Howlader, Balasubramanian 2018",
        equation="ReLU(sum_c w_c A_c), w_c = sum of a_c ReLU(df/dA_c), a_c = 1 / (2 + df/dA_c sum A_c), at a layer",
        evaluations=lambda options: 1,
        complete=False,
        baseline=lambda options: False,
        presets={"code": {"normalised": True}},
    )
)
