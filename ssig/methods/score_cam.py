"""Score-CAM: the activations A (c, h, w) of a layer, each channel weighed by the score of what it shows of the image.

    z = ReLU( sum_c w_c A_c ),   s_c = f_y(x' + H_c (x - x')),   w = softmax over c of s_c

`H_c` is `A_c` enlarged to the image, minus its least value, over its range. Source: Wang, Wang, Du, Yang, Zhang, Ding,
Mardziel, Hu, *Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks* (2020), algorithm 1.
The paper's increase of confidence is `s_c - f_y(x')`, which has the same softmax, and is the weight itself in its
definition 4 (`weights: increase`). The authors' code takes the probability `s_c` as the weight (`preset: code`), and
enlarges the sum before the ReLU; here the ReLU is the layer's, as in the paper. A channel that is the same everywhere
has the weight 0. The softmax is never 0: of a network that is constant, the map is the mean of the channels.

The method takes no gradients, but one forward evaluation for each channel, and one for the channels. All channels
(`preset: paper`) cost many: by default, the 80 channels count that vary most over the map of the image, which take
about the time of 32 gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssig.engine.layers import enlarged, feature_maps
from ssig.estimators.integration import activations_of, attribution, endpoints, scores_of
from ssig.methods.grad_cam import CamOptions
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Steps

ALL = "all"
WEIGHTS = ("softmax", "increase", "score")
# The channels of the last feature map of VGG-16, the paper's network, for the listed cost.
LISTED_CHANNELS = 512


@dataclass(frozen=True)
class ScoreCamOptions(CamOptions):
    channels: int | str = option(
        80,
        "channels that are weighed, those that vary most; a forward evaluation each; or all, as in the paper",
        choices=(ALL,),
        at_least=1,
    )
    weights: str = option(
        "softmax", "what weighs a channel: the softmax of the scores, or a score itself", choices=WEIGHTS
    )


def score_cam(group: Group, options: ScoreCamOptions) -> Steps:
    scores = yield from endpoints(group)
    response = yield Request(group.images, group.owners(), want=SCORE, layer=options.layer)
    size = (group.images.shape[-2], group.images.shape[-1])
    activations = varied(feature_maps(activations_of(response), size), options.channels)
    channels = activations.shape[1]
    found: list[Tensor] = []
    for first in range(0, channels, group.budget):
        masks = unit_range(activations[:, first : first + group.budget], size).transpose(0, 1).unsqueeze(2)
        points = (group.baselines + masks * group.difference).flatten(0, 1)
        response = yield Request(points, group.owners(len(masks)), want=SCORE)
        found.append(scores_of(response).view(len(masks), len(group)))
    weights = weights_of(torch.cat(found).T, scores[1], activations, options.weights)
    if options.weights == "increase":
        # No channel changes an image that equals its baseline, whatever rounding makes of it in another batch.
        weights = torch.where(group.moved.unsqueeze(1), weights, 0)
    maps = (weights[:, :, None, None] * activations).sum(dim=1, keepdim=True)
    return attribution(
        enlarged(maps.relu() if options.relu else maps, group.images),
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=0,
    )


def varied(activations: Tensor, count: int | str) -> Tensor:
    """The channels of activations (B, c, h, w) with the greatest variance over the map, in their order."""
    if isinstance(count, str) or count >= activations.shape[1]:
        return activations
    chosen = activations.flatten(2).var(dim=2, correction=0).topk(count, dim=1).indices.sort(dim=1).values
    return activations.gather(1, chosen[:, :, None, None].expand(-1, -1, *activations.shape[2:]))


def unit_range(activations: Tensor, size: tuple[int, int]) -> Tensor:
    """Activations (B, c, h, w), enlarged to `size` and each brought to [0, 1]; 0 for one that is constant."""
    masks = interpolate(activations, size=size, mode="bilinear", align_corners=False)
    least = masks.amin(dim=(2, 3), keepdim=True)
    spread = masks.amax(dim=(2, 3), keepdim=True) - least
    return (masks - least) / spread.where(spread != 0, 1)


def weights_of(scores: Tensor, baseline_scores: Tensor, activations: Tensor, kind: str) -> Tensor:
    """The weight of each channel, (B, c).

    Args:
        scores: (B, c), of the image that each channel lets through.
        baseline_scores: (B,).
        activations: (B, c, h, w).
        kind: one of `WEIGHTS`.
    """
    varies = activations.amax(dim=(2, 3)) != activations.amin(dim=(2, 3))
    if kind == "softmax":
        scores = scores.where(varies, -torch.inf).softmax(dim=1)
    elif kind == "increase":
        scores = scores - baseline_scores.unsqueeze(1)
    return scores.where(varies, 0)


METHODS.add(
    MethodSpec(
        name="score-cam",
        run=score_cam,
        options=ScoreCamOptions,
        paper="Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu 2020",
        equation="ReLU(sum_c w_c A_c), w = softmax of f(x' + H_c (x - x')), H_c = A_c in [0, 1], at a layer",
        evaluations=lambda options: 0,
        forwards=lambda options: 1 + (LISTED_CHANNELS if options.channels == ALL else int(options.channels)),
        complete=False,
        presets={
            "paper": {"channels": ALL},
            "code": {"channels": ALL, "weights": "score", "score": "probability"},
        },
    )
)
