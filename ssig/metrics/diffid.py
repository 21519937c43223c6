"""DiffID, pixel variant on the clipped ratio of softmax probabilities.

    Ins(r) = clip( p(k lowest pixels hidden) / p(x), 0, 1 ),  k = floor(r N),  r = .1, .2, .. , .9
    Del(r) = clip( p(k highest pixels hidden) / p(x), 0, 1 )
    diffid = mean_r [ Ins(r) - Del(r) ]

Hidden pixels take one value per image and game: the mean of the surviving pixels over all channels, in normalised
space. Yang et al., Local Path Integration for Attribution, AAAI 2023, which reports accuracy and logit ratio at each
r; the softmax ratio and the mean over r are this project's. A random map scores about 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.evaluation import Evaluation, MetricResult
from ssig.metrics.perturbation import image_scores, per_channel, sweep
from ssig.metrics.ranking import OrderOptions, in_orders
from ssig.metrics.results import assemble
from ssig.registry import METRICS, MetricSpec

_RATIOS = 9  # tenths of the pixels, from one to nine


@dataclass(frozen=True)
class DiffidOptions(OrderOptions):
    """DiffID's protocol is fixed but for the order."""


def diffid(evaluation: Evaluation, options: DiffidOptions) -> MetricResult:
    """DiffID in the order of the map and of its magnitude; the two games apart in the order of the map."""

    def games(rows: Tensor, ranks: Tensor) -> np.ndarray:
        return _games(evaluation, rows, ranks)

    signed, absolute = in_orders(evaluation, options, ("diffid",), games)
    curve, absolute_curve = signed[:, 0] - signed[:, 1], absolute[:, 0] - absolute[:, 1]
    columns = {
        "diffid": curve.mean(axis=1),
        "diffid_abs": absolute_curve.mean(axis=1),
        "diffid_insertion": signed[:, 0].mean(axis=1),
        "diffid_deletion": signed[:, 1].mean(axis=1),
    }
    missing = options.missing(signed=("diffid", "diffid_insertion", "diffid_deletion"), absolute=("diffid_abs",))
    curves = {"diffid_curve": curve, "diffid_abs_curve": absolute_curve}
    return assemble(columns, [missing] * len(evaluation), curves)


def _games(evaluation: Evaluation, rows: Tensor, ranks: Tensor) -> np.ndarray:
    """(n, 2, 9), Ins(r) and Del(r) of the images `rows`; NaN where the image itself has probability 0."""
    images = evaluation.images
    pixels = ranks.shape[-2:].numel()
    hidden = torch.arange(1, _RATIOS + 1, dtype=ranks.dtype, device=ranks.device) * pixels // 10
    # The ranks low <= rank < high survive: the top of the map in insertion, its bottom in deletion.
    low = torch.cat([torch.zeros_like(hidden), hidden])
    high = torch.cat([pixels - hidden, torch.full_like(hidden, pixels)])
    fill = _survivor_means(evaluation, ranks, low, high)
    mean, std = per_channel(evaluation.mean, images), per_channel(evaluation.std, images)

    def build(image: int, steps: Tensor) -> Tensor:
        lowest, highest = low[steps].view(-1, 1, 1, 1), high[steps].view(-1, 1, 1, 1)
        survives = (ranks[image] >= lowest) & (ranks[image] < highest)
        return torch.where(survives, images[image], fill[image, steps].view(-1, 1, 1, 1) * std + mean)

    changed = sweep(evaluation, rows, 2 * _RATIOS, build, "probability").reshape(-1, 2, _RATIOS)
    clean = image_scores(evaluation, "probability")[rows.numpy()]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.clip(changed / clean[:, None, None], 0.0, 1.0)
    return np.where(clean[:, None, None] > 0, ratio, np.nan)


def _survivor_means(evaluation: Evaluation, ranks: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(B, steps), mean over channels and over the pixels low <= rank < high, in normalised space."""
    images = evaluation.images
    normalised = (images - per_channel(evaluation.mean, images)) / per_channel(evaluation.std, images)
    totals = normalised.double().sum(dim=1).flatten(1)
    by_rank = torch.empty_like(totals).scatter_(1, ranks.flatten(1).long(), totals)
    sums = torch.nn.functional.pad(by_rank.cumsum(dim=1), (1, 0))
    return ((sums[:, high] - sums[:, low]) / ((high - low) * images.shape[1])).to(images)


METRICS.add(
    MetricSpec(
        name="diffid",
        compute=diffid,
        options=DiffidOptions,
        columns={
            "diffid": "higher",
            "diffid_abs": "higher",
            "diffid_insertion": "higher",
            "diffid_deletion": "lower",
        },
        curves=("diffid_curve", "diffid_abs_curve"),
        definition="mean over r of the probability kept when the r lowest pixels are hidden minus the r highest",
        range="[-1, 1]",
        reference="Yang et al., Local Path Integration for Attribution, AAAI 2023",
        forwards=lambda options: 2 * _RATIOS * options.order_count,
        needs=frozenset({"map", "model"}),
    )
)
