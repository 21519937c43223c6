"""Integrated Grad-CAM: Grad-CAM along the straight path from baseline to image, of the activations gained so far.

    z = integral_0^1 ReLU( sum_c w_c(a) (A_c(x_a) - A_c(x')) ) da,   x_a = x' + a (x - x')
    w_c(a) = mean over pixels of d f_y(x_a) / d A_c

Source: Sattarzadeh, Sudhakar, Plataniotis, Jang, Jeong, Kim, *Integrated Grad-CAM: Sensitivity-Aware Visual
Explanation of Deep Convolutional Networks via Integrated Gradient-Based Scoring* (2021). Where the paper sums over
pixels, `w_c` is their mean, as in the authors' code: a constant factor. `preset: paper` gives that code's rule, steps
and baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.engine.layers import averaged, enlarged
from ssig.estimators.common_options import check_rule
from ssig.estimators.integration import activations_of, attribution, endpoints
from ssig.estimators.quadrature import RULES
from ssig.estimators.samplers import Line
from ssig.methods.grad_cam import CamOptions, class_activation
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Steps


@dataclass(frozen=True)
class IntegratedCamOptions(CamOptions):
    steps: int = option(32, "points on the path, one gradient evaluation each", at_least=1)
    rule: str = option("midpoint", "quadrature", choices=RULES)

    def __post_init__(self) -> None:
        check_rule(self.rule, self.steps)


def integrated_grad_cam(group: Group, options: IntegratedCamOptions) -> Steps:
    scores = yield from endpoints(group)
    response = yield Request(group.baselines, group.owners(), want=SCORE, layer=options.layer)
    baseline_activations = activations_of(response)
    # At an image that equals its baseline nothing is gained, whatever rounding makes of it in another batch.
    moved = group.moved.view(-1, *[1] * (baseline_activations.ndim - 1))

    def gained(gradients: Tensor, activations: Tensor) -> Tensor:
        change = torch.where(moved, activations - baseline_activations, 0)
        maps = class_activation(gradients, change, group.images)
        return maps.relu() if options.relu else maps

    maps, _ = yield from averaged(group, Line(options.rule), options.steps, options.layer, gained)
    return attribution(
        enlarged(maps, group.images),
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=options.steps,
    )


METHODS.add(
    MethodSpec(
        name="integrated-grad-cam",
        run=integrated_grad_cam,
        options=IntegratedCamOptions,
        paper="Sattarzadeh, Sudhakar, Plataniotis, Jang, Jeong, Kim 2021",
        equation="integral of ReLU(sum_c w_c (A_c(x_a) - A_c(x'))) da, x_a = x' + a (x - x')",
        evaluations=lambda options: int(options.steps),
        complete=False,
        revision=1,  # zeros where the image equals its baseline; channels-last layers
        presets={"paper": {"steps": 50, "rule": "left", "baseline": "black"}},
    )
)
