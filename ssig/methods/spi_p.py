"""SPI-P: how probable it is that a pixel's attribution along a random path is among the largest.

    z_p = P(phi_p > theta) = Phi((mean_p - theta) / deviation_p),   phi_p the map of one random path (`spi`)

theta is the value that the top 5 % (`share`) of the pixels of the mean map reach. Mean and standard deviation are over
the paths, of which each is a draw of a normal law in this model: a pixel is relevant if its attribution is large along
nearly all paths. The map is in [0, 1] and says nothing of negative attributions.

Source: Jeon, Jeong, Choi, *Beyond Single Path Integrated Gradients for Reliable Input Attribution via Randomized Path
Sampling* (2023), where alpha, the share and the normal law are printed, and the number of paths is not. This project
takes the probability of a pixel, after the readout over the channels, with the unbiased variance. A pixel whose paths
all agree has the probability 1 or 0. Each channel has an equal share of the map. `ssig.methods.spi` says how paths
are drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.estimators.integrands import readout
from ssig.estimators.integration import attribution, endpoints
from ssig.estimators.moments import Welford
from ssig.methods.spi import StochasticOptions, path_integral
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


@dataclass(frozen=True)
class ProbabilityOptions(StochasticOptions):
    readout: str = option("sum", "channels to the map of each path", choices=("sum", "sum-abs", "max-abs"))
    paths: int = option(8, "independent paths; samples must be a multiple", at_least=2)
    share: float = option(0.05, "share of the pixels that are called large", above=0, at_most=1)


def spi_p(group: Group, options: ProbabilityOptions) -> Steps:
    scores = yield from endpoints(group)
    moments = Welford()
    for path in range(options.paths):
        values = yield from path_integral(group, path, options)
        moments.add(path, values, readout(options.readout, values))
    deviation = (moments.squares / (options.paths - 1)).sqrt()
    probability = exceedance(moments.mean, deviation, options.share).unsqueeze(1)
    return attribution(
        (probability / group.images.shape[1]).expand_as(group.images).contiguous(),
        "sum",
        scores,
        has_residual=False,
        error=None,
        evaluations=options.samples,
    )


def exceedance(mean: Tensor, deviation: Tensor, share: float) -> Tensor:
    """The probability that normal pixels exceed the value that the top `share` of the means reach, (B, H, W).

    Args:
        mean, deviation: (B, H, W); not a number in one pixel is not a number in all.
        share: in (0, 1].
    """
    flat = mean.flatten(1)
    # NaN is ordered after all numbers, so that it would not be the threshold of a small share.
    broken = flat.isnan().any(dim=1, keepdim=True)
    top = flat.topk(max(math.floor(share * flat.shape[1]), 1), dim=1).values[:, -1:]
    excess = mean - torch.where(broken, torch.nan, top).unsqueeze(2)
    certain = (excess > 0).to(mean)
    normal = torch.special.ndtr(excess / torch.where(deviation == 0, 1, deviation))
    return torch.where((deviation == 0) & ~excess.isnan(), certain, normal)


METHODS.add(
    MethodSpec(
        name="spi-p",
        run=spi_p,
        options=ProbabilityOptions,
        paper="Jeon, Jeong, Choi 2023",
        equation="P(attribution along a random path > theta), normal over paths, theta the top 5 % of their mean",
        evaluations=lambda options: int(options.samples),
        complete=False,
        presets={"paper": {"concentration": 10.0, "share": 0.05, "per_channel": True, "score": "probability"}},
    )
)
