"""Infidelity: how far the change that a map predicts for a random perturbation is from the change of the score.

    d = f(x) - f(x - I),  s = sum_{c, p} J_cp a_p / C
    infidelity = E_I[ (s - d)^2 ],  infidelity_normalised = E_I[ (beta s - d)^2 ],  beta = E[s d] / E[s^2]

Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019; captum's `infidelity`, and with
`normalize=True`, of the attribution `A_cp = a_p / C`: a map is a sum over channels and prefers none of them.
`reading: gradient` takes J = I: a_p is the change of the score by one unit of pixel space. `reading: attribution`
takes J = I / (x - x'), the fill x', and 1 for a divisor of 0 (captum's `multiply_by_inputs`): a_p is a share of the
score, as of IG; for a square the sum of the map inside it. I is in pixel space:

    gaussian  I ~ N(0, sigma^2), each element
    square    I = x - x' in a square, wherever it fits with equal probability, else 0 (preset `square`: as attribution)

Without normalisation the number depends on the scale of the map: where a map's predictions are far from what happens,
a smaller multiple of it scores better, down to E[d^2] for a map of zeros. So the normalised number is the headline,
and methods are not ranked by the other. E[d^2] is the worst that the normalised one can be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.perturbation import SCORES, image_scores, reference, sweep
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class InfidelityOptions:
    """The law of the perturbations and how a map is read."""

    perturbation: str = option("gaussian", "law of I", choices=("gaussian", "square"))
    reading: str = option(
        "gradient", "what a map's value means: gradient or attribution", choices=("gradient", "attribution")
    )
    sigma: float = option(0.2, "standard deviation of `gaussian`, in pixel space", above=0)
    side: float = option(0.25, "side of the `square`, as a share of the image's shorter side", above=0, at_most=1)
    fill: str = option("mean", "x': content of a square, baseline of attributions", choices=("mean", "black", "white"))
    samples: int = option(100, "random perturbations", at_least=1)
    score: str = option("logit", "score whose change is predicted", choices=SCORES)


def infidelity(evaluation: Evaluation, options: InfidelityOptions) -> MetricResult:
    """Infidelity of the map as it is, and of its best multiple for each image."""
    images, maps = evaluation.images, evaluation.device_maps().double()
    streams, fill = evaluation.streams("infidelity"), reference(evaluation, options.fill, 1.0, 1)
    predicted = torch.empty(len(evaluation), options.samples, dtype=torch.float64)

    def change(image: int, step: int) -> Tensor:
        return perturbation(streams[image].generator(step), images[image] - fill[image], options)

    def build(image: int, steps: range) -> Tensor:
        return images[image] - torch.stack([change(image, step) for step in steps])

    # Other maps of these images get the same perturbations.
    changed = evaluation.of_images(
        ("infidelity", options),
        lambda: sweep(evaluation, torch.arange(len(evaluation)), options.samples, build, options.score),
    )
    for image in range(len(evaluation)):
        away = images[image] - fill[image]
        unit = torch.where(away == 0, 1.0, away) if options.reading == "attribution" else 1.0
        # One by one: a sum over a batch may round differently with its size. They leave the device together.
        sums = [
            ((change(image, step) / unit).double().mean(dim=0) * maps[image]).sum() for step in range(options.samples)
        ]
        predicted[image] = torch.stack(sums).cpu()
    plain, normalised = squared_errors(predicted.numpy(), image_scores(evaluation, options.score)[:, None] - changed)
    columns = {"infidelity_normalised": normalised, "infidelity": plain}
    return assemble(columns, [{}] * len(evaluation))


def perturbation(generator: np.random.Generator, away: Tensor, options: InfidelityOptions) -> Tensor:
    """(C, H, W), one I for an image that is `away` (C, H, W) from its fill."""
    if options.perturbation == "gaussian":
        return torch.from_numpy(options.sigma * generator.standard_normal(tuple(away.shape))).to(away)
    height, width = away.shape[-2:]
    side = max(1, round(options.side * min(height, width)))
    top, left = generator.integers(0, (height - side + 1, width - side + 1))
    square = torch.zeros_like(away)
    square[:, top : top + side, left : left + side] = away[:, top : top + side, left : left + side]
    return square


def squared_errors(predicted: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) mean squares of `predicted - change` (B, m), and of the best multiple of `predicted`."""
    power = (predicted**2).mean(axis=1)
    beta = (predicted * change).mean(axis=1) / np.where(power > 0, power, 1.0)
    plain: np.ndarray = ((predicted - change) ** 2).mean(axis=1)
    normalised: np.ndarray = ((beta[:, None] * predicted - change) ** 2).mean(axis=1)
    return plain, normalised


METRICS.add(
    MetricSpec(
        name="infidelity",
        compute=infidelity,
        options=InfidelityOptions,
        columns={"infidelity_normalised": "lower", "infidelity": "lower"},
        definition="mean square of what the map, at its best scale for the image, predicts a random perturbation does "
        "to the score minus what it does",
        descriptions={
            "infidelity": "mean square of what the map, as it is, predicts a random perturbation does to the score "
            "minus what it does",
        },
        incomparable={
            "infidelity": "it depends on the scale of the map, which differs between methods and can be chosen freely",
        },
        range="[0, inf)",
        reference="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019",
        forwards=lambda options: options.samples,
        needs=frozenset({"map", "model"}),
        presets={"square": {"perturbation": "square", "reading": "attribution"}},
    )
)
